"""The light client that applications embed: fetches the plan, asks and tells consent, sends reports, tries again safely."""

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
from hushmeter.sdk.recorder import Recorder

T = TypeVar("T")
ATTEMPTS_MAX = 6
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
TIMEOUT_S = 30.0
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # What gRPC says of a call that reaches a server which is just stopping; this client cancels none itself.
        grpc.StatusCode.CANCELLED,
    }
)


class IngestClient:
    """A connection to a hushmeter service, for applications.

    Reports are safe to send again: they carry an id that makes them count once. Calls that fail for a passing reason are
    tried again with growing, jittered pauses.

    Args:
        target: `host:port`.
        credentials: of the channel; None for plain text, which belongs on a loopback address alone.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
        self._ingest = ingest_pb2_grpc.IngestServiceStub(self._channel)
        self._consent = consent_pb2_grpc.ConsentServiceStub(self._channel)
        self._plan: pb.PlanDescription | None = None
        self.clock_offset_ms = 0
        """What to add to the client's clock to have the server's, as of the last answer."""

    def __enter__(self) -> IngestClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def plan(self) -> pb.PlanDescription:
        """The telemetry plan in force."""
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
        """What a unit has decided, by purpose; what it has not been asked is not given."""
        request = consent_pb2.GetConsentRequest(unit_id=unit_id)
        answer = self._try(lambda: self._consent.GetConsent(request, timeout=TIMEOUT_S))
        return {state.purpose: state.given for state in answer.states}

    def to_ask(self, unit_id: str) -> list[str]:
        """The purposes to ask a unit about: it has never decided, or agreed to another text."""
        request = consent_pb2.GetConsentRequest(unit_id=unit_id)
        answer = self._try(lambda: self._consent.GetConsent(request, timeout=TIMEOUT_S))
        return [state.purpose for state in answer.states if state.ask_again]

    def set_consent(
        self,
        unit_id: str,
        decisions: Mapping[str, bool],
        *,
        shown: pb.PlanDescription | None = None,
        locale: str = "",
        source: str = "",
    ) -> dict[str, bool]:
        """Tells a unit's decisions and returns what binds now.

        Args:
            unit_id: the unit.
            decisions: by purpose; true gives consent, false withdraws it.
            shown: the plan whose texts were shown; None for the one that `plan` told last, which is asked for now if it
                never was. Consent to a text that is not in force any more is refused: show the new one.
            locale: BCP 47 tag of the language it was shown in.
            source: where the decision was made, such as `settings`.
        """
        hashes = {}
        if any(decisions.values()):
            hashes = {purpose.name: purpose.text_hash for purpose in (shown or self._plan or self.plan()).purposes}
        request = consent_pb2.SetConsentRequest(
            unit_id=unit_id,
            decisions=[
                consent_pb2.Decision(purpose=p, given=given, text_hash=hashes.get(p, b""), locale=locale, source=source)
                for p, given in decisions.items()
            ],
        )
        answer = self._try(lambda: self._consent.SetConsent(request, timeout=TIMEOUT_S))
        return {state.purpose: state.given for state in answer.states}

    def submit(self, reports: Iterable[Report]) -> pb.Acknowledgement:
        """Sends reports in one message; returns when those that were accepted are durable."""
        request = pb.SubmitReportsRequest(reports=reports, sent_at_ms=_now_ms())
        answer = self._try(lambda: self._ingest.SubmitReports(request, timeout=TIMEOUT_S))
        self._correct(answer.acknowledgement.server_time_ms)
        acknowledgement: pb.Acknowledgement = answer.acknowledgement
        return acknowledgement

    def validate(self, reports: Iterable[Report]) -> pb.Acknowledgement:
        """Asks what would become of reports; nothing is stored."""
        request = pb.ValidateReportsRequest(reports=reports, sent_at_ms=_now_ms())
        answer = self._try(lambda: self._ingest.ValidateReports(request, timeout=TIMEOUT_S))
        acknowledgement: pb.Acknowledgement = answer.acknowledgement
        return acknowledgement

    def stream(self, messages: Iterable[Iterable[Report]]) -> Iterator[pb.Acknowledgement]:
        """Sends messages of reports over one stream; yields their acknowledgements in order.

        A stream that breaks raises `grpc.RpcError`: send what was not acknowledged again, under the same report ids.
        """
        requests = (pb.StreamReportsRequest(reports=reports, sent_at_ms=_now_ms()) for reports in messages)
        for answer in self._ingest.StreamReports(requests):
            self._correct(answer.acknowledgement.server_time_ms)
            yield answer.acknowledgement

    def _correct(self, server_time_ms: int) -> None:
        self.clock_offset_ms = server_time_ms - _now_ms()

    def _try(self, call: Callable[[], T]) -> T:
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
