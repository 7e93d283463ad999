"""A service with real noise that has released an hour of ten units, its public record, and salts that nobody drew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from hushmeter.access.roles import GET_RECORD, Role
from hushmeter.api.transparency.v1 import transparency_pb2
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import await_true
from tests.service.guarded_service import Guarded, guarded
from tests.service.running_service import FOUNDED_MS, PLAN

H = FOUNDED_MS
SHORT_SALTS = [b"", bytes(16), b"\xff" * 16, b"salt", *(n.to_bytes(16, "little") for n in range(1, 9))]
"""What a salt would be that nobody drew."""


@contextlib.contextmanager
def served(tmp_path: Path, plan: str = PLAN) -> Iterator[Guarded]:
    """A service with real noise, which has released an hour of ten units."""
    with guarded(tmp_path / "state", plan=plan, mechanisms=OpenDPMechanisms()) as service:
        ingest, consent = service.credential(Role.INGEST), service.credential(Role.CONSENT)
        for unit in range(10):
            service.decide(consent, str(unit))
        service.clock.advance_to(H + 30 * MINUTE_MS)
        service.submit(ingest, *(service.report(str(unit)) for unit in range(10)))
        service.clock.advance_to(H + HOUR_MS + 11 * MINUTE_MS)
        await_true(lambda: any(service.context.store.ledger()))
        yield service


def record_of(service: Guarded) -> str:
    """The public record, as anybody gets it."""
    request = transparency_pb2.GetRecordRequest().SerializeToString()
    parts = service.call(GET_RECORD, None, request)
    return b"".join(transparency_pb2.GetRecordResponse.FromString(part).part for part in parts).decode()
