"""The light client that applications embed: fetches the plan, asks for consent and sends it, sends reports, tries again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

import grpc

from hushmeter.api.consent.v1 import consent_pb2, consent_pb2_grpc
from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.api.ingest.v1 import ingest_pb2_grpc
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.channels import ClientIdentity, open_channel
from hushmeter.sdk.recorder import Recorder

_T = TypeVar("_T")
ATTEMPTS_MAX = 6
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
TIMEOUT_S = 30.0
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # gRPC's status of a call that reaches a server while it stops. This client cancels no call itself.
        grpc.StatusCode.CANCELLED,
    }
)


class Allowed(dict[str, bool]):
    """What a unit allows once its decisions are recorded, by purpose.

    Args:
        answer: the service's answer to the decisions.
    """

    def __init__(self, answer: consent_pb2.SetConsentResponse) -> None:
        super().__init__({state.purpose: state.given for state in answer.states})
        self.received_at_ms: int = answer.received_at_ms
        """When the decisions begin to bind, milliseconds since the Unix epoch; a grant covers no earlier interval."""
        self.reaches: tuple[consent_pb2.ReachedWindow, ...] = tuple(answer.reaches)
        """For each resolution, the first window that the decisions reach; earlier windows stay as they are."""


class IngestClient:
    """A connection to a hushmeter service, for applications.

    Reports are safe to send again: each carries an id that makes it count once. Calls that fail for a passing reason are
    tried up to six times, with growing, jittered pauses. A call that fails for good raises `grpc.RpcError`.

    Args:
        target: `host:port`.
        credentials: of the channel; None for what `identity` says.
        identity: certificates, and the credential, of role `ingest`; the environment's HUSHMETER_CREDENTIAL by default.
        consent_identity: the same of role `consent`, for decisions and unit tokens; by default `identity`, which is enough
            where no credentials are asked for.
        unit_tokens: from a unit's id to its signed token, where the deployment asks for them.

    Raises:
        ConfigError: a file cannot be used, or a credential would be sent in plain text to another machine.

    Example:
        >>> with IngestClient("127.0.0.1:50551") as client:
        ...     allowed = client.set_consent("account-17", {"model_tuning": True}, source="settings")
        ...     recorder = client.recorder("account-17")
        ...     recorder.count("calls", platform="linux")
        ...     report = recorder.report(allowed.received_at_ms, allowed.received_at_ms + 60_000)
        ...     client.submit([report]).accepted
        1
    """

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        *,
        identity: ClientIdentity | None = None,
        consent_identity: ClientIdentity | None = None,
        unit_tokens: Callable[[str], bytes] | None = None,
    ) -> None:
        self._channel = open_channel(target, identity, credentials)
        self._consent_channel = open_channel(target, consent_identity, credentials) if consent_identity else self._channel
        self._ingest = ingest_pb2_grpc.IngestServiceStub(self._channel)
        self._consent = consent_pb2_grpc.ConsentServiceStub(self._consent_channel)
        self._token_of = unit_tokens
        self._plan: pb.PlanDescription | None = None
        self.clock_offset_ms = 0
        """Milliseconds to add to the client's clock for the server's time, as of the last answer."""

    def __enter__(self) -> IngestClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()
        self._consent_channel.close()

    def plan(self) -> pb.PlanDescription:
        """The telemetry plan in force.

        Example:
            >>> plan = client.plan()
            >>> [(metric.name, metric.unit) for metric in plan.metrics[:2]]
            [('calls', 'calls'), ('call_setup', 'ms')]
            >>> plan.purposes[0].text  # what to show where people are asked
            'Tune the models that pick codecs and bit rates.'
        """
        answer = self._try(lambda: self._ingest.GetPlan(pb.GetPlanRequest(), timeout=TIMEOUT_S))
        self._correct(answer.server_time_ms)
        plan: pb.PlanDescription = answer.plan
        self._plan = plan
        return plan

    def recorder(self, unit_id: str) -> Recorder:
        """A recorder for one unit, with the plan and the unit's consent as they are now."""
        allowed = [purpose for purpose, given in self.consent(unit_id).items() if given]
        return Recorder(self.plan(), unit_id, allowed)

    def consent(self, unit_id: str) -> dict[str, bool]:
        """What a unit has decided, by purpose; False where it has not decided."""
        return {state.purpose: state.given for state in self._states(unit_id)}

    def to_ask(self, unit_id: str) -> list[str]:
        """The purposes to ask a unit about: it has never decided, or agreed to another text.

        Example:
            >>> client.to_ask("account-18")
            ['model_tuning']
            >>> client.consent("account-18")
            {'model_tuning': False}
        """
        return [state.purpose for state in self._states(unit_id) if state.ask_again]

    def set_consent(
        self,
        unit_id: str,
        decisions: Mapping[str, bool],
        *,
        shown: pb.PlanDescription | None = None,
        locale: str = "",
        source: str = "",
    ) -> Allowed:
        """Sends a unit's decisions and returns what binds now, and the first windows that hold it.

        Args:
            unit_id: the unit.
            decisions: by purpose; true gives consent, false withdraws it.
            shown: the plan whose texts were shown; None for the one that `plan` returned last, or for a plan fetched now
                if none was. Consent to a text that is not in force any more is refused: show the new one.
            locale: the language that the texts were shown in, one of those that the plan lists.
            source: where the decision was made, such as `settings`; one of those that the plan lists.

        Example:
            >>> allowed = client.set_consent("account-17", {"model_tuning": True}, locale="en", source="settings")
            >>> allowed["model_tuning"]
            True
            >>> [window.resolution for window in allowed.reaches]
            ['1h', '1d']
        """
        hashes = {}
        if any(decisions.values()):
            hashes = {purpose.name: purpose.text_hash for purpose in (shown or self._plan or self.plan()).purposes}
        request = consent_pb2.SetConsentRequest(
            unit_id=unit_id,
            unit_token=self._token(unit_id),
            decisions=[
                consent_pb2.Decision(purpose=p, given=given, text_hash=hashes.get(p, b""), locale=locale, source=source)
                for p, given in decisions.items()
            ],
        )
        answer = self._try(lambda: self._consent.SetConsent(request, timeout=TIMEOUT_S))
        return Allowed(answer)

    def issue_unit_token(self, unit_id: str, lifetime_s: int = 0) -> consent_pb2.IssueUnitTokenResponse:
        """Asks for a signed token of a unit, as the application's own backend does.

        Args:
            unit_id: the unit.
            lifetime_s: how many seconds the token is valid; 0 for the service's default of 30 days.
        """
        request = consent_pb2.IssueUnitTokenRequest(unit_id=unit_id, lifetime_s=lifetime_s)
        answer: consent_pb2.IssueUnitTokenResponse = self._try(
            lambda: self._consent.IssueUnitToken(request, timeout=TIMEOUT_S)
        )
        return answer

    def erase(self, unit_id: str) -> consent_pb2.EraseUnitResponse:
        """Withdraws all that a unit allows, and has its rows removed; the answer holds the signed receipt.

        The application must itself delete what it keeps of the unit, such as reports that wait to be sent.
        """
        request = consent_pb2.EraseUnitRequest(unit_id=unit_id, unit_token=self._token(unit_id))
        answer: consent_pb2.EraseUnitResponse = self._try(lambda: self._consent.EraseUnit(request, timeout=TIMEOUT_S))
        return answer

    def held(self, unit_id: str) -> consent_pb2.GetUnitResponse:
        """What raw data is held on a unit now, and when it is destroyed; the service always asks for the unit's token."""
        request = consent_pb2.GetUnitRequest(unit_id=unit_id, unit_token=self._token(unit_id))
        answer: consent_pb2.GetUnitResponse = self._try(lambda: self._consent.GetUnit(request, timeout=TIMEOUT_S))
        return answer

    def submit(self, reports: Iterable[Report]) -> pb.Acknowledgement:
        """Sends reports in one message; returns when those that were accepted are durable."""
        request = pb.SubmitReportsRequest(reports=self._signed(reports), sent_at_ms=_now_ms())
        answer = self._try(lambda: self._ingest.SubmitReports(request, timeout=TIMEOUT_S))
        self._correct(answer.acknowledgement.server_time_ms)
        acknowledgement: pb.Acknowledgement = answer.acknowledgement
        return acknowledgement

    def validate(self, reports: Iterable[Report]) -> pb.Acknowledgement:
        """Asks what `submit` would answer; the service stores nothing.

        Example:
            >>> recorder = Recorder(client.plan(), "account-18", ["model_tuning"])  # account-18 was never asked
            >>> recorder.flag("call_dropped", False)
            >>> answer = client.validate([recorder.report(1_772_413_800_000, 1_772_413_860_000)])
            >>> answer.accepted, answer.rejections[0].message
            (0, 'the unit has not allowed every purpose of every metric in the report, ...')
        """
        request = pb.ValidateReportsRequest(reports=self._signed(reports), sent_at_ms=_now_ms())
        answer = self._try(lambda: self._ingest.ValidateReports(request, timeout=TIMEOUT_S))
        acknowledgement: pb.Acknowledgement = answer.acknowledgement
        return acknowledgement

    def stream(self, messages: Iterable[Iterable[Report]]) -> Iterator[pb.Acknowledgement]:
        """Sends messages of reports over one stream; yields their acknowledgements in order.

        A stream that breaks raises `grpc.RpcError`: send what was not acknowledged again, under the same report ids.

        Example:
            >>> recorder, messages = client.recorder("account-17"), []
            >>> for minute in range(2):
            ...     recorder.flag("call_dropped", minute == 1)
            ...     start_ms = 1_772_413_800_000 + 60_000 * minute
            ...     messages.append([recorder.report(start_ms, start_ms + 60_000)])
            >>> [answer.accepted for answer in client.stream(messages)]
            [1, 1]
        """
        requests = (pb.StreamReportsRequest(reports=self._signed(reports), sent_at_ms=_now_ms()) for reports in messages)
        for answer in self._ingest.StreamReports(requests):
            self._correct(answer.acknowledgement.server_time_ms)
            yield answer.acknowledgement

    def _states(self, unit_id: str) -> Iterable[consent_pb2.ConsentState]:
        request = consent_pb2.GetConsentRequest(unit_id=unit_id, unit_token=self._token(unit_id))
        answer: consent_pb2.GetConsentResponse = self._try(lambda: self._consent.GetConsent(request, timeout=TIMEOUT_S))
        return answer.states

    def _token(self, unit_id: str) -> bytes:
        return self._token_of(unit_id) if self._token_of is not None else b""

    def _signed(self, reports: Iterable[Report]) -> Iterable[Report]:
        """The reports, each with its unit's token where there are tokens, taken anew whenever it is sent again."""
        if self._token_of is None:
            return reports
        signed = list(reports)
        for report in signed:
            report.unit_token = self._token_of(report.unit_id)
        return signed

    def _correct(self, server_time_ms: int) -> None:
        self.clock_offset_ms = server_time_ms - _now_ms()

    def _try(self, call: Callable[[], _T]) -> _T:
        pause = FIRST_PAUSE_S
        for attempt in range(ATTEMPTS_MAX):
            try:
                return call()
            except grpc.RpcError as error:
                if error.code() not in _PASSING or attempt == ATTEMPTS_MAX - 1:
                    raise
            # Full jitter: many clients that failed together do not come back together.
            time.sleep(pause * secrets.randbelow(1_000) / 1_000)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise AssertionError


def _now_ms() -> int:
    return time.time_ns() // 1_000_000  # noqa: TID251
