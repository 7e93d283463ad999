"""A `RehearsedService` that asks who comes in, and what tests send it.

Calls are raw, with any metadata: the clients of applications and analysts would not send what must be refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import grpc

from hushmeter import limits
from hushmeter.access.credentials import Credential, bearer_of, hash_of
from hushmeter.access.roles import Role
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.channels import CREDENTIAL_VARIABLE
from hushmeter.clock import ReplayClock
from hushmeter.patience import PATIENCE_S
from hushmeter.ports import Mechanisms
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.door.tls import Tls
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.calls import ISSUE_UNIT_TOKEN, SET_CONSENT, SUBMIT, unit_token_request
from tests.service.running_service import FOUNDED_MS, PLAN

REQUIRED = AccessRules(credentials_required=True)
UNIT_TOKENS_REQUIRED = AccessRules(unit_tokens=True)


@dataclass
class Guarded:
    """A running service and its credentials."""

    context: Context
    clock: ReplayClock
    channel: grpc.Channel
    target: str

    def credential(self, role: Role = Role.OPERATOR, *purposes: str, **changes: Any) -> str:
        """Makes a credential, as the command line does, and returns its bearer text."""
        if role is Role.ANALYST and not purposes:
            purposes = ("model_tuning",)
        name, secret = secrets.token_hex(8), os.urandom(32)
        made = Credential(name, "", role, purposes, hash_of(secret), self.clock.now_ms())
        self.context.store.add_credential(dataclasses.replace(made, **changes))
        return bearer_of(name, secret)

    def begin(self, method: str, bearer: str | None, messages: Iterator[bytes], **metadata: str) -> Any:
        """Begins a call of any method with bytes, and returns its answers, which come one by one."""
        sent = list(metadata.items())
        if bearer is not None:
            sent.append(("authorization", f"Bearer {bearer}"))
        # Every method can be called as a stream of messages that is answered by a stream.
        return self.channel.stream_stream(method)(messages, metadata=sent, timeout=PATIENCE_S)

    def call(self, method: str, bearer: str | None = None, message: bytes = b"", **metadata: str) -> list[bytes]:
        """Calls any method with bytes, and returns its answers' bytes; `grpc.RpcError` where it is refused."""
        return list(self.begin(method, bearer, iter([message]), **metadata))

    def code(self, method: str, bearer: str | None = None, message: bytes = b"") -> tuple[grpc.StatusCode, str]:
        """Status and text of a call."""
        try:
            self.call(method, bearer, message)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    def report(self, unit: str, **changes: object) -> Report:
        """A report of one start in the minute before now."""
        now = self.clock.now_ms()
        series = self.context.catalog.first_series(0)
        fields: dict[str, object] = {
            "report_id": os.urandom(16),
            "unit_id": unit,
            "interval_start_ms": now - 60_000,
            "interval_end_ms": now,
            "plan_version": 1,
            "series": [series],
            "value": [1],
        }
        return Report(**(fields | changes))  # type: ignore[arg-type]

    def submit(self, bearer: str | None, *reports: Report) -> ingest_pb2.Acknowledgement:
        """Sends reports in one message."""
        request = ingest_pb2.SubmitReportsRequest(reports=reports).SerializeToString()
        answer = self.call(SUBMIT, bearer, request)
        return ingest_pb2.SubmitReportsResponse.FromString(answer[0]).acknowledgement

    def grant(self) -> consent_pb2.Decision:
        """Consent to the purpose's text in force."""
        purpose = self.context.plan.purposes[0]
        return consent_pb2.Decision(purpose=purpose.name, given=True, text_hash=purpose.text_hash)

    def decide(self, bearer: str | None, unit: str, token: bytes = b"") -> None:
        """Lets a unit allow the purpose."""
        request = consent_pb2.SetConsentRequest(unit_id=unit, unit_token=token, decisions=[self.grant()])
        self.call(SET_CONSENT, bearer, request.SerializeToString())

    def token(self, bearer: str | None, unit: str, lifetime_s: int = 0) -> bytes:
        """Asks for a unit token."""
        answer = self.call(ISSUE_UNIT_TOKEN, bearer, unit_token_request(unit, lifetime_s))
        return consent_pb2.IssueUnitTokenResponse.FromString(answer[0]).unit_token


def standing() -> float:
    """A monotonic clock that stands still, so that no rate depends on how busy the machine is."""
    return 0.0


@contextlib.contextmanager
def guarded(
    state_dir: Path,
    rules: AccessRules = REQUIRED,
    tls: Tls | None = None,
    channel: grpc.ChannelCredentials | None = None,
    parts: Mapping[str, object] | None = None,
    elapsed_s: Callable[[], float] = time.monotonic,
    plan: str = PLAN,
    mechanisms: Mechanisms | None = None,
) -> Iterator[Guarded]:
    """Serves a new deployment for as long as the block lasts; rates and leases are of the time that `elapsed_s` tells.

    There is no noise, unless mechanisms are given.
    """
    clock = ReplayClock(FOUNDED_MS, elapsed_s)
    context = open_context(Config(state_dir=state_dir), clock, mechanisms or ExactMechanisms(), plan)
    context = dataclasses.replace(context, **(parts or {}))  # type: ignore[arg-type]
    # On a busy machine looks for credentials may be far apart.
    patient = mock.patch.object(limits, "CREDENTIALS_STALE_S", PATIENCE_S)
    with mock.patch.dict(os.environ), patient:
        os.environ.pop(CREDENTIAL_VARIABLE, None)
        with contextlib.ExitStack() as open_:
            service = open_.enter_context(RehearsedService(context, clock, rules, tls))
            target = service.target
            opened = grpc.secure_channel(target, channel) if channel else grpc.insecure_channel(target)
            yield Guarded(context, clock, open_.enter_context(opened), target)
