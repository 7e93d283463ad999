"""How a call came in is known wherever it is asked, and never mistaken for how another one did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from hushmeter.access.credentials import AccessLine
from hushmeter.access.roles import GET_RECORD, Role
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.errors import Forbidden, Unauthenticated
from hushmeter.ingest.raw import SentReports
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.door import ingest_service, methods
from hushmeter.service.door.consent_service import ConsentService
from hushmeter.service.door.decoding import decode_reports
from hushmeter.service.door.passage import OPEN_PASSAGE, passage
from hushmeter.service.door.query_service import QueryService
from hushmeter.service.intake.intake import Intake
from hushmeter.storage.state.store import SqlStateStore
from tests.service.calls import GET_PLAN, LIST_METRICS, METHODS, STREAM
from tests.service.guarded_service import Guarded, guarded


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Guarded]:
    """A service that asks for credentials."""
    with guarded(tmp_path / "state") as running:
        yield running


def id_of(bearer: str) -> str:
    return bearer.split("_")[1]


def here() -> str:
    """The id of the credential by which the call in hand came in; empty where it passed no gate."""
    found = passage()
    assert (found.credential is None) == (found is OPEN_PASSAGE), "this service asks everybody who passes its gate"
    return found.credential.credential_id if found.credential else ""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Of each message that a method of the running service reads, by which credential its call came in."""
    found: list[tuple[str, bytes]] = []
    parsed, decoded = methods._parsed, decode_reports

    def parse(request: Any, message: bytes) -> Any:
        found.append((here(), message))
        return parsed(request, message)

    def decode(message: bytes, **how: bool) -> SentReports:
        found.append((here(), message))
        return decoded(message, **how)

    monkeypatch.setattr(methods, "_parsed", parse)
    monkeypatch.setattr(ingest_service, "decode_reports", decode)
    return found


def test_every_method_runs_in_the_passage_of_its_call(service: Guarded, seen: list[tuple[str, bytes]]) -> None:
    """No method that asks for a credential ever runs in the open passage, or in that of the call before it."""
    bearers = [service.credential(), service.credential()]
    for method in METHODS:
        for bearer in bearers:
            seen.clear()
            service.code(method, bearer)
            assert {name for name, _ in seen} == {id_of(bearer)}, method


def test_open_methods_run_in_the_open_passage(service: Guarded, seen: list[tuple[str, bytes]]) -> None:
    """What is open to everybody runs in the open passage, also on a connection whose other calls showed a credential."""
    bearer = service.credential()
    for method, name in ((GET_PLAN, id_of(bearer)), (GET_RECORD, ""), (GET_PLAN, id_of(bearer)), (GET_RECORD, "")):
        seen.clear()
        service.call(method, bearer)
        assert {found for found, _ in seen} == {name}


def test_streams_beside_each_other(service: Guarded, seen: list[tuple[str, bytes]]) -> None:
    """Each message of streams that are open at once comes in by its own stream's credential."""
    bearers = [service.credential(Role.INGEST) for _ in range(3)]
    queues = [SimpleQueue[bytes | None]() for _ in bearers]
    answers = [service.begin(STREAM, bearer, iter(queue.get, None)) for bearer, queue in zip(bearers, queues, strict=True)]
    sent = set()
    for turn in range(3):
        for bearer, queue, answer in zip(bearers, queues, answers, strict=True):
            report = service.report(f"{bearer} {turn}")
            message = ingest_pb2.StreamReportsRequest(reports=[report]).SerializeToString()
            queue.put(message)
            next(answer)
            sent.add((id_of(bearer), message))
    for queue, answer in zip(queues, answers, strict=True):
        queue.put(None)
        assert list(answer) == []
    assert set(seen) == sent


def test_threads_of_a_call(service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a method does on a thread is still done in the passage of its call."""
    lines, write = [], SqlStateStore.record_access

    def record(store: SqlStateStore, line: AccessLine) -> None:
        lines.append((here(), line.credential_id))
        write(store, line)

    monkeypatch.setattr(SqlStateStore, "record_access", record)
    bearers = [service.credential() for _ in range(3)]
    for bearer in bearers * 2:
        service.call(LIST_METRICS, bearer)
    assert lines == [(id_of(bearer),) * 2 for bearer in bearers * 2]


def test_the_open_passage(service: Guarded) -> None:
    """Without a gate nothing is asked and nothing is noted, and what only credentials may have is refused."""
    assert passage() is OPEN_PASSAGE
    metric = service.context.plan.metrics[0]

    async def ask() -> None:
        OPEN_PASSAGE.another_message()
        OPEN_PASSAGE.another_answer()
        await OPEN_PASSAGE.note("a method")
        await OPEN_PASSAGE.ask("a method", metric, [("a purpose of nobody",)])
        assert OPEN_PASSAGE.serves(())
        answered = await QueryService(service.context, Meters()).list_metrics(query_pb2.ListMetricsRequest())
        assert metric.name in {m.name for m in answered.metrics}
        consent = ConsentService(service.context, Intake(service.context, Meters()))
        with pytest.raises(Forbidden, match="credentials alone"):
            await consent.issue_unit_token(consent_pb2.IssueUnitTokenRequest(unit_id="u"))
        with pytest.raises(Unauthenticated, match="with its token alone"):
            await consent.get_unit(consent_pb2.GetUnitRequest(unit_id="u"))

    asyncio.run(ask())
    assert list(service.context.store.access_log()) == []
