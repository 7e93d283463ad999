"""A release that was changed in the database is found by `ledger verify`, and is never served."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import sqlalchemy as sa

from hushmeter.api.query.v1 import query_pb2
from hushmeter.cli.app import run
from hushmeter.errors import ConfigError, ReleaseAltered
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import await_true
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.service.disclosure.public_record import signed_record
from hushmeter.service.disclosure.verified_releases import discrepancies, released
from hushmeter.service.door.statuses import _ALTERED
from hushmeter.storage.state.database import Database, url_of
from hushmeter.storage.state.release_payload import decode_vectors, encode_vectors
from hushmeter.storage.state.schema import ledger, plans, releases
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from tests.service.calls import OK, QUERY_RELEASES
from tests.service.deployment_by_hand import PLAN, H, Hand, WatchedStore, opened, sealer_of
from tests.service.guarded_service import guarded

HOURS = 3
CHANGED, FIRST = 3, 4
"""The numbers of the release that is changed, the second hour's, and of its first entry; participants come after each."""
_made: list[Path] = []


@pytest.fixture
def state_dir(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with three released hours of real noise; made once, copied for each test."""
    if not _made:
        made = tmp_path_factory.mktemp("released") / "state"
        clock = FakeClock(H)
        context = opened(made, clock)
        context = dataclasses.replace(context, mechanisms=OpenDPMechanisms())
        hand = Hand(context)
        hand.decide("u")
        clock.set(H + 40 * MINUTE_MS)
        hand.send("u", clock.now_ms())
        hand.segments.retire()
        clock.set(H + HOURS * HOUR_MS + 10 * MINUTE_MS)
        sealer_of(context).run_due()
        context.store.close()
        _made.append(made)
    for name in ("state", "state-keys"):
        shutil.copytree(_made[0].with_name(name), tmp_path / name)
    return tmp_path / "state"


def rewritten(change: Callable[[dict[MeasurementName, NoisyVector]], object]) -> Callable[[sa.Connection], object]:
    """A change of the vectors in one release's payload."""

    def rewrite(connection: sa.Connection) -> None:
        this = releases.c.number == CHANGED
        vectors, keys = decode_vectors(connection.scalar(sa.select(releases.c.payload).where(this)))
        change(vectors)
        connection.execute(sa.update(releases).where(this).values(payload=encode_vectors(vectors, keys)))

    return rewrite


def vector(name: MeasurementName, **changes: object) -> Callable[[sa.Connection], object]:
    """A change of one vector."""
    return rewritten(lambda vectors: vectors.update({name: dataclasses.replace(vectors[name], **changes)}))  # type: ignore[arg-type]


def column(**values: object) -> Callable[[sa.Connection], object]:
    """A change of some columns of one row."""
    return lambda c: c.execute(sa.update(releases).where(releases.c.number == CHANGED).values(**values))


def entry_column(where: str, to: str) -> Callable[[sa.Connection], object]:
    """The same change of a ledger entry's content and hash as of the release: the chain is not made again."""
    content = sa.func.replace(ledger.c.content, where, to)
    return lambda c: c.execute(sa.update(ledger).where(ledger.c.sequence == FIRST + 1).values(content=content))


UNITS, SUM = MeasurementName.UNITS, MeasurementName.SUM
CHANGES: dict[str, Callable[[sa.Connection], object]] = {
    "plan version": column(plan_version=2),
    "metric": column(metric="stops"),
    "view": column(view='["platform"]'),
    "view of no names": column(view="[1]"),
    "view of no list": column(view="["),
    "resolution": column(resolution="1d", window_start_ms=H),
    "window": column(window_start_ms=H + 9 * HOUR_MS, window_end_ms=H + 10 * HOUR_MS),
    "window start": column(window_start_ms=H + 9 * HOUR_MS),
    "window end": column(window_end_ms=H + 2 * HOUR_MS - 1),
    "window end of no time": column(window_end_ms=2**62),
    "window end of another type": column(window_end_ms="soon"),
    "time of publication": column(published_at_ms=H),
    "completeness": column(completeness=0.99),
    "completeness beyond all": column(completeness=7.0),
    "payload": column(payload=b"x" * 400),
    "value": vector(SUM, values=np.array([[5]], np.int64)),
    "one step of noise": rewritten(
        lambda v: v.update({UNITS: dataclasses.replace(v[UNITS], values=v[UNITS].values + 1)})  # type: ignore[func-returns-value]
    ),
    "shape": vector(SUM, values=np.zeros((1, 2), np.int64)),
    "salt": vector(SUM, salt=os.urandom(16)),
    "no salt": vector(SUM, salt=None),
    "scale": vector(SUM, scale=0.5),
    "mechanism": vector(SUM, mechanism=Mechanism.DISCRETE_LAPLACE),
    "threshold": vector(SUM, mechanism=Mechanism.GAUSSIAN_THRESHOLD, threshold=9),
    "loss": vector(SUM, loss=1e-9),
    "delta": vector(SUM, delta=1e-9),
    "measurement": rewritten(lambda vectors: vectors.update({MeasurementName.EVENTS: vectors.pop(SUM)})),  # type: ignore[func-returns-value]
    "measurement less": rewritten(lambda vectors: vectors.pop(SUM)),
    "measurement more": rewritten(lambda vectors: vectors.update({MeasurementName.EVENTS: vectors[SUM]})),  # type: ignore[func-returns-value]
    "measurements exchanged": rewritten(lambda v: v.update({SUM: v[UNITS], UNITS: v[SUM]})),  # type: ignore[func-returns-value]
    "no row": lambda c: c.execute(sa.delete(releases).where(releases.c.number == CHANGED)),
    "no entry": lambda c: c.execute(sa.delete(ledger).where(ledger.c.sequence >= FIRST)),
    "entry of another scale": entry_column('"scale":', '"scale":1'),
    "entry of no text": lambda c: c.execute(sa.update(ledger).where(ledger.c.sequence == FIRST + 1).values(content="")),
}


def change(state_dir: Path, changing: Callable[[sa.Connection], object]) -> None:
    """Changes the database as somebody does who writes to its file."""
    database = Database.open(url_of(state_dir / "state.db"))
    try:
        with database.read() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        engine = sa.create_engine(url_of(state_dir / "state.db"))
        with engine.begin() as connection:
            changing(connection)
        engine.dispose()
    finally:
        database.close()


def test_nothing_was_changed(state_dir: Path) -> None:
    """Releases as they were published are served, each by the number of its first entry, and are in order."""
    store = SqlStateStore.existing(state_dir)
    assert list(discrepancies(store)) == []
    assert [number for number, _ in released(store, "starts", (), "1h", 0, 2**61)] == [1, FIRST, 7]
    store.close()
    assert run(["ledger", "verify", "--state-dir", str(state_dir)]) == 0


@pytest.mark.parametrize("changing", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_is_found_and_not_served(
    state_dir: Path, changing: Callable[[sa.Connection], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Any field of a release, changed alone: the command names it and fails, and nobody reads that window again."""
    change(state_dir, changing)
    assert run(["ledger", "verify", "--state-dir", str(state_dir)]) == 1
    said = capsys.readouterr().err
    assert "hold" in said or "not what the ledger says" in said
    store = SqlStateStore.existing(state_dir)
    served: list[tuple[str, int]] = []
    for resolution in ("1h", "1d"):
        with contextlib.suppress(ReleaseAltered):
            served += [(resolution, r.key.window_start_ms) for _, r in released(store, "starts", (), resolution, 0, 2**62)]
    store.close()
    assert not {("1h", H + HOUR_MS), ("1h", H + 9 * HOUR_MS), ("1d", H)} & set(served)


def test_it_is_named(state_dir: Path) -> None:
    """What was changed is told by window, metric, measurement and field, and no value is."""
    change(state_dir, vector(SUM, values=np.array([[987_654]], np.int64)))
    store = SqlStateStore.existing(state_dir)
    (text,) = discrepancies(store)
    assert text == (
        "release 3 of starts by [], 1h from 2026-03-02T01:00:00Z, plan version 1: sum differs in values, salt, "
        "completeness or time of publication"
    )
    with pytest.raises(ReleaseAltered, match="release 3 of starts"):
        list(released(store, "starts", (), "1h", 0, 2**61))
    assert [n for n, _ in released(store, "starts", (), "1h", 0, H + HOUR_MS)] == [1]
    store.close()


def test_what_is_missing_is_named(state_dir: Path) -> None:
    """A release that was removed is missing by its entries; one of another history stands in none."""
    change(state_dir, CHANGES["no row"])
    store = SqlStateStore.existing(state_dir)
    assert list(discrepancies(store)) == [
        f"entry {n}: starts, {name}, 1h from 2026-03-02T01:00:00Z was released, and its release is missing"
        for n, name in ((FIRST, "units"), (FIRST + 1, "sum"))
    ]
    store.close()


def test_a_service_says_so(tmp_path: Path) -> None:
    """A question about an altered release is answered by one constant text, another one as ever; operators count it."""
    with guarded(tmp_path / "state") as service:
        service.clock.advance_to(H + 2 * HOUR_MS + 11 * MINUTE_MS)
        await_true(lambda: len(list(service.context.store.every_release())) >= 20)
        operator, method = service.credential(), QUERY_RELEASES
        asked = query_pb2.QueryReleasesRequest(metric="starts", resolution="1h").SerializeToString()
        assert service.code(method, operator, asked)[0] is OK
        engine = sa.create_engine(url_of(tmp_path / "state" / "state.db"))
        with engine.begin() as connection:
            mine = (releases.c.metric == "starts") & (releases.c.view == "[]")
            connection.execute(sa.update(releases).where(mine).values(completeness=0.5))
        engine.dispose()
        assert service.code(method, operator, asked) == (
            grpc.StatusCode.DATA_LOSS,
            _ALTERED,
        )
        other = query_pb2.QueryReleasesRequest(metric="latency", resolution="1h").SerializeToString()
        assert service.code(method, operator, other)[0] is OK


@pytest.mark.parametrize("metric", ["starts", "participants"])
def test_a_service_says_what_is_missing(tmp_path: Path, metric: str) -> None:
    """Where a release was removed that the ledger names, nobody is told that there was none, by no empty answer either."""
    with guarded(tmp_path / "state") as service:
        service.clock.advance_to(H + 2 * HOUR_MS + 11 * MINUTE_MS)
        await_true(lambda: len(list(service.context.store.every_release())) >= 20)
        operator, query = service.credential(), QUERY_RELEASES
        engine = sa.create_engine(url_of(tmp_path / "state" / "state.db"))
        with engine.begin() as connection:
            of_second_hour = (releases.c.metric == metric) & (releases.c.window_start_ms == H + HOUR_MS)
            connection.execute(sa.delete(releases).where(of_second_hour))
        engine.dispose()
        view = ["purpose"] if metric == "participants" else []

        def asked(from_ms: int, to_ms: int) -> tuple[grpc.StatusCode, str]:
            request = query_pb2.QueryReleasesRequest(
                metric=metric, view=view, resolution="1h", from_ms=from_ms, to_ms=to_ms
            ).SerializeToString()
            return service.code(query, operator, request)

        missing = grpc.StatusCode.DATA_LOSS, _ALTERED
        assert asked(0, 0) == asked(H + HOUR_MS, H + 2 * HOUR_MS) == asked(H + HOUR_MS, 0) == missing
        assert asked(H, H + HOUR_MS)[0] is OK
        assert asked(H + 2 * HOUR_MS, 0)[0] is OK


def test_the_record_says_what_is_missing(state_dir: Path) -> None:
    """The public record is not made without the numbers of who takes part that the ledger says were released."""
    context = opened(state_dir, FakeClock(H + 4 * HOUR_MS))
    context = dataclasses.replace(context, mechanisms=OpenDPMechanisms())
    # The record tells the coarsest resolution, the day's.
    context.clock.set(H + 25 * HOUR_MS)  # type: ignore[attr-defined]
    sealer_of(context).run_due()
    signed_record(context)
    change(state_dir, lambda c: c.execute(sa.delete(releases).where(releases.c.metric == "participants")))
    with pytest.raises(ReleaseAltered, match=r"participants by \[purpose\], 1d .* its release is missing"):
        signed_record(context)
    context.store.close()


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_release_that_is_published_meanwhile_is_not_missing(state_dir: Path, after: int) -> None:
    """Releases are read before their entries: whoever asks while an hour is published hears of it, or does not yet."""
    clock = FakeClock(H + 4 * HOUR_MS)
    context = opened(state_dir, clock)

    def published() -> None:
        clock.set(H + 4 * HOUR_MS + 10 * MINUTE_MS)
        sealer_of(context).run_due()

    watched = WatchedStore(context.store, after, published)
    read = [r.key.window_start_ms for _, r in released(watched, "starts", (), "1h", 0, 2**61)]  # type: ignore[arg-type]
    assert read in ([H + hour * HOUR_MS for hour in range(3)], [H + hour * HOUR_MS for hour in range(4)])
    context.store.close()


def test_each_page_is_compared(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing between two pages, and behind the last one, is noticed as well."""
    store = SqlStateStore.existing(state_dir)
    for size in (1, 2, 3):
        monkeypatch.setattr("hushmeter.service.disclosure.verified_releases._AT_ONCE", size)
        assert [n for n, _ in released(store, "starts", (), "1h", 0, 2**61)] == [1, FIRST, 7]
    for start in (H, H + HOUR_MS, H + 2 * HOUR_MS):
        removed = sa.delete(releases).where(releases.c.window_start_ms == start)
        change(state_dir, lambda c, removed=removed: c.execute(removed))
        for size in (1, 2, 3):
            monkeypatch.setattr("hushmeter.service.disclosure.verified_releases._AT_ONCE", size)
            with pytest.raises(ReleaseAltered, match="its release is missing"):
                list(released(store, "starts", (), "1h", 0, 2**61))
    store.close()


def test_an_altered_plan_is_not_followed(tmp_path: Path) -> None:
    """Also of a version whose windows are over: its releases are still read by what its text says."""
    clock = FakeClock(H)
    context = opened(tmp_path / "state", clock)
    later = PLAN.replace("version: 1", "version: 2")
    apply_plan(context.store, context.mechanisms, later, "next-period", clock.now_ms())
    clock.advance(3 * WEEK_MS)
    assert context.timeline.follow()
    assert [era.version.version for era in context.timeline.open_at(clock.now_ms())] == [2]
    context.store.close()
    opened(tmp_path / "state", clock, later, serves=False).store.close()
    database = Database.open(url_of(tmp_path / "state" / "state.db"))
    with database.write() as connection:
        altered = PLAN.replace("range: [0, 100]", "range: [0, 200]")
        connection.execute(sa.update(plans).where(plans.c.version == 1).values(text=altered))
    database.close()
    with pytest.raises(ConfigError, match="recorded text of version 1 is not what its hash says: the state was altered"):
        opened(tmp_path / "state", clock, later, serves=False)
