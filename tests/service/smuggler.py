"""A client that sends what a well-behaved one never would, the plan it meets, and the marks that it plants."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc
from google.protobuf.message import Message

from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.report.v1.report_pb2 import RejectionReason, Report
from hushmeter.patience import PATIENCE_S
from hushmeter.sdk import IngestClient
from tests.plans import plan_text
from tests.service.calls import SUBMIT

PLAN = plan_text(
    r"""
  joins:
    kind: counter
    dimensions: {version: {open: true, max_length: 12, pattern: '\d+(\.\d+)?', expected_values: 4}}
    views: [[version]]
    per_unit: {range: [0, 255], max_partitions: 1}
    statistics: [units, sum]
  lax:
    <<: *common
    dimensions: {word: {open: true, max_length: 64, pattern: '(?s).*', expected_values: 4}}
    views: [[word]]
  bytes:
    <<: *common
    dimensions: {}
    views: [[]]
""",
    expires="EXPIRES",
    unit="account",
    resolutions="1h: {lateness: 10m}",
    period="1d",
    epsilon=8,
    delta="1e-6",
    expected_units=300,
    consent="languages: [de, pt-BR, zh-Hant-TW], sources: [settings, onboarding]",
)
"""A careful dimension beside the worst that a plan can have: any text of 64 characters."""

UNIT = "sender"
CROWD = [f"crowd-{i}" for i in range(300)]
CHORUS = "a-token-that-three-hundred-units-share"
"""What is to leave: without it the search would prove nothing."""


def mark(name: str, length: int = 16) -> str:
    """What one attempt plants: small letters and digits that stand nowhere else; at most 64."""
    return hashlib.sha256(name.encode()).hexdigest()[:length]


def needles(text: str) -> list[bytes]:
    """How a mark could stand in a file: as it is, as hexadecimal digits, as base64 from any byte on, in UTF-16."""
    raw = text.encode()
    # What stands before a mark takes part in the first few letters, what follows in the last.
    shifted = [base64.b64encode(bytes(i) + raw)[-(-4 * i // 3) : -4] for i in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), raw.upper(), text.encode("utf-16-le"), *shifted]


@dataclass
class Smuggler:
    """A client that sends what a well-behaved one never would.

    Attributes:
        target: of the service.
        now_ms: reads the service's clock.
    """

    target: str
    now_ms: Callable[[], int]

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.target)
        self.client = IngestClient(self.target)
        self.plan = self.client.plan()
        for unit in (UNIT, *CROWD):
            self.client.set_consent(unit, {"tuning": True})

    def close(self) -> None:
        """Ends its connections."""
        self.channel.close()
        self.client.close()

    def call(self, method: str, message: bytes, metadata: Iterable[tuple[str, str | bytes]] = ()) -> list[bytes]:
        """Calls any method with bytes."""
        return list(self.channel.stream_stream(method)(iter([message]), metadata=list(metadata), timeout=PATIENCE_S))

    def code(self, method: str, message: bytes | Message, metadata: Iterable[tuple[str, str | bytes]] = ()) -> str:
        """How a call ends; what it says is bounded."""
        try:
            self.call(method, message if isinstance(message, bytes) else message.SerializeToString(), metadata)
        except grpc.RpcError as error:
            return str(error.code().name) if len(error.details()) < 1_000 else "a long answer"
        return "taken"

    def series(self, metric: str) -> int:
        """Its first number."""
        return next(m.first_series for m in self.plan.metrics if m.name == metric)

    def report(self, metric: str = "bytes", word: str | None = None, **changes: object) -> Report:
        """A report of one, of the second before now."""
        now = self.now_ms()
        fields: dict[str, object] = {
            "report_id": os.urandom(16),
            "unit_id": UNIT,
            "interval_start_ms": now - 1_000,
            "interval_end_ms": now,
            "plan_version": 1,
            "series": [self.series(metric)],
            "value": [1],
        }
        if word is not None:
            fields |= {"token": [word], "point_token": [1]}
        return Report(**(fields | changes))  # type: ignore[arg-type]

    def send(self, *reports: Report) -> str:
        """What became of some reports that share one fate; none of the texts is longer than a few lines."""
        request = ingest_pb2.SubmitReportsRequest(reports=reports)
        try:
            (answer,) = self.call(SUBMIT, request.SerializeToString())
        except grpc.RpcError as error:
            return str(error.code().name)
        rejections = ingest_pb2.SubmitReportsResponse.FromString(answer).acknowledgement.rejections
        assert all(len(r.message) < 500 for r in rejections)
        fates = {RejectionReason.Name(r.reason).removeprefix("REJECTION_REASON_") for r in rejections}
        assert len(rejections) in {0, len(reports)}
        assert len(fates) <= 1
        return fates.pop() if fates else "taken"

    def grant(self, unit: str = UNIT, *, given: bool = True, **fields: object) -> consent_pb2.SetConsentRequest:
        """A decision with whatever beside it."""
        shown = {"purpose": "tuning", "given": given, "text_hash": self.plan.purposes[0].text_hash}
        return consent_pb2.SetConsentRequest(unit_id=unit, decisions=[consent_pb2.Decision(**(shown | fields))])  # type: ignore[arg-type]
