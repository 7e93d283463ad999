"""A state that an earlier hushmeter made is brought to today's schema when it is asked for, and goes on."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.operations import Operations

from hushmeter.cli import serve
from hushmeter.cli.app import run
from hushmeter.errors import ConfigError, Failure, KeyGone, LedgerBroken, NotServing, StateConflict
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.pipeline.claims import ring_record
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.deployment.restoring import restore
from hushmeter.service.deployment.state_lock import take_lock
from hushmeter.service.disclosure.verified_releases import discrepancies
from hushmeter.storage.state import schema
from hushmeter.storage.state.database import Database, url_of
from hushmeter.storage.state.store import SqlStateStore
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.kept_states import ARCHIVES, OF_SCHEMA_7, unpacked
from tests.service.deployment_by_hand import PLAN, H, sealer_of, sums, windows

TAKEN_UP_MS = {"state_of_schema_7": H + HOUR_MS + 12 * MINUTE_MS, "state_of_schema_8": H + 2 * HOUR_MS + 12 * MINUTE_MS}
"""When each is taken up again: soon after it was left."""


def named(archive: Path, directory: Path) -> Path:
    """An earlier state below a directory, whose name says which one it is."""
    return unpacked(archive, directory).rename(directory / archive.name.split(".")[0])


@pytest.fixture(params=ARCHIVES, ids=lambda archive: archive.name.split(".")[0])
def state_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An earlier state."""
    return named(request.param, tmp_path)


@pytest.fixture
def state_of_7(tmp_path: Path) -> Path:
    """A state of schema 7."""
    return named(OF_SCHEMA_7, tmp_path)


def reopened(state_dir: Path, clock: FakeClock) -> Context:
    """The state as it is migrated and taken up soon after it was left."""
    Database.migrate(url_of(state_dir / "state.db"))
    clock.set(TAKEN_UP_MS[state_dir.name])
    return open_context(Config(state_dir=state_dir), clock, ExactMechanisms())


def tables_of(url: str) -> dict[str, tuple[list[tuple[str, str, bool]], list[str], set[str]]]:
    """Columns, primary key and indexes of each table."""
    database = Database.open(url)
    try:
        with database.read() as connection:
            found = sa.inspect(connection)
            return {
                table: (
                    sorted((c["name"], str(c["type"]), bool(c["nullable"])) for c in found.get_columns(table)),
                    found.get_pk_constraint(table)["constrained_columns"],
                    {str(index["name"]) for index in found.get_indexes(table)},
                )
                for table in found.get_table_names()
            }
    finally:
        database.close()


def test_an_earlier_store_has_todays_tables(state_dir: Path, tmp_path: Path) -> None:
    """Once it is migrated, its tables are those of a new store, column for column."""
    Database.migrate(url_of(state_dir / "state.db"))
    assert tables_of(url_of(state_dir / "state.db")) == tables_of(url_of(tmp_path / "new.db"))
    reopened(state_dir, FakeClock(H)).store.close()
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as now:
        assert now.execute("SELECT version_num FROM alembic_version").fetchall() == [(str(schema.SCHEMA_VERSION),)]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_what_stood_beside_decisions_is_overwritten(state_of_7: Path, mode: str) -> None:
    """Text that a client could choose is in no file once the state is open; receipts go on from the newest of before."""
    with contextlib.closing(sqlite3.connect(state_of_7 / "state.db")) as before:
        before.execute(f"PRAGMA journal_mode={mode}").close()
    text = "a letter in pieces of 32 letters"
    with contextlib.closing(sqlite3.connect(state_of_7 / "state.db")) as before, before:
        before.execute("UPDATE decisions SET locale = ?, source = ? WHERE source != 'erasure'", (text, text[::-1]))
        newest, number = before.execute("SELECT max(received_at_ms), max(sequence) FROM decisions").fetchone()
        erased = before.execute("SELECT count(*) FROM decisions WHERE source = 'erasure'").fetchone()[0]
    assert any(text.encode() in file.read_bytes() for file in state_of_7.glob("state.db*"))
    context = reopened(state_of_7, FakeClock(H))
    decisions = context.store.decisions_after(0)[1]
    assert sorted(d.locale + d.source for d in decisions) == [""] * (number - erased) + ["erasure"] * erased
    assert erased
    for file in state_of_7.glob("state.db*"):
        assert not {text, text[::-1]} & {t for t in (text, text[::-1]) if t.encode() in file.read_bytes()}
    assert context.store.record_decisions([], lambda: 0) == newest
    begun = context.store.windows([*WindowState])
    assert {record.decisions_through for record in begun} == {number}


def test_an_earlier_states_keys_are_never_made_anew(state_dir: Path) -> None:
    """Its keys are known from its first opening on: one that is missing later is missed, and so is the first of all."""
    kept = (state_dir / "keys" / "deployment.key").read_bytes()
    (state_dir / "keys" / "deployment.key").unlink()
    with pytest.raises(KeyGone, match="no key deployment"):
        reopened(state_dir, FakeClock(H))
    (state_dir / "keys" / "deployment.key").write_bytes(kept)
    context = reopened(state_dir, FakeClock(H))
    names = [period_key(start) for start in context.keys.periods()]
    names += [data_key(start) for start in context.keys.storage_windows()]
    assert len(names) >= 2
    for name in names:
        (state_dir / "keys" / f"{name}.key").unlink()
        with pytest.raises(KeyGone, match="there is no key"):
            context.keys.get_or_create(name)
    context.store.close()


def test_an_earlier_state_goes_on(state_dir: Path) -> None:
    """Its ledger verifies, its release reads the same, and its waiting rows are in the next windows."""
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as before:
        stored = before.execute("SELECT number, published_at_ms, completeness, payload FROM releases").fetchall()
        charges = before.execute("SELECT sequence, content, entry_hash FROM ledger").fetchall()
    context = reopened(state_dir, clock := FakeClock(H))
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as after:
        assert after.execute("SELECT number, published_at_ms, completeness, payload FROM releases").fetchall() == stored
        now = after.execute("SELECT sequence, content, entry_hash FROM ledger").fetchall()
    # Of schema 7 a checkpoint was put after the charges.
    checkpoints = list(context.store.checkpoints())
    assert now[: len(charges)] == charges
    assert [sequence for sequence, *_ in now[len(charges) :]] == checkpoints
    verify_chain(context.store.ledger(), context.store.checkpoints())
    released = sums(context, "1h")
    clock.set(H + 26 * HOUR_MS)
    sealer_of(context).run_due()
    assert ("1d", 0) in windows(context, WindowState.RELEASED)
    # The first hour had its noise drawn before; the second holds 20 of a; the day a's 50, 7 and 20 and c's 50: b withdrew
    # and another unit was erased.
    assert sums(context, "1h") == {**released, 1: 20}
    assert sums(context, "1d") == {0: 77 + 50}
    verify_chain(context.store.ledger(), context.store.checkpoints())
    assert list(discrepancies(context.store)) == []
    context.store.close()


def test_a_window_whose_rows_are_final_stays_so(state_dir: Path) -> None:
    """What was SEALED is FIXED, and no other window changes its state."""
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as before:
        stood = dict(before.execute("SELECT start_ms, state FROM windows WHERE resolution = '1h'").fetchall())
    Database.migrate(url_of(state_dir / "state.db"))
    store = SqlStateStore.existing(state_dir)
    now = {r.window.start_ms: r.state for r in store.windows([*WindowState]) if r.window.resolution == "1h"}
    assert now == {start: "FIXED" if state == "SEALED" else state for start, state in stood.items()}
    store.close()


def test_a_backup_of_before_is_restored_beside_keys_that_went_on(state_of_7: Path, tmp_path: Path) -> None:
    """Its ledger ends with a checkpoint of its own, where the keys have seen another entry: that is no fork."""
    backup = tmp_path / "backup.db"
    shutil.copyfile(state_of_7 / "state.db", backup)
    context = reopened(state_of_7, clock := FakeClock(H))
    mark = ring_record(context.keys).head
    assert mark == context.store.ledger_head(context.deployment.deployment_id)
    context.store.close()
    config = Config(state_dir=tmp_path / "restored", keys_dir=state_of_7 / "keys")
    restore(backup, config, clock, ExactMechanisms())
    store = SqlStateStore.existing(config.state_dir)
    verify_chain(store.ledger(), store.checkpoints())
    assert list(discrepancies(store)) == []
    assert next(store.ledger(mark.sequence)).entry_hash != mark.entry_hash
    assert list(store.checkpoints()) == [mark.sequence]
    store.close()


@pytest.mark.parametrize(
    "changed", ["published_at_ms = published_at_ms + 1", "completeness = 0.25", "number = number + 900"]
)
def test_what_no_old_entry_says_of_a_release(state_of_7: Path, changed: str) -> None:
    """A checkpoint commits to number, time of publication and completeness of releases of before: a change is found."""
    context = reopened(state_of_7, FakeClock(H))
    assert list(discrepancies(context.store)) == []
    engine = sa.create_engine(url_of(state_of_7 / "state.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE releases SET {changed}")  # noqa: S608
    engine.dispose()
    (text,) = discrepancies(context.store)
    assert text.startswith("checkpoint 5: of a release before it")
    context.store.close()


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, but for locks: those that readers of the database share, and who may serve."""
    locks = {"state.db-shm", "serve.lock"}
    return {str(f): f.read_bytes() for f in directory.rglob("*") if f.is_file() and f.name not in locks}


OTHERS = (
    "serve",
    "retention",
    "transparency show",
    "transparency key",
    "window lose 1h 2026-03-02T00:00",
    "ledger show",
    "ledger verify",
    "credential list",
    "backup {file}",
    "plan check {plan} --against {state}",
    "plan apply {plan}",
)


@pytest.mark.parametrize("command", OTHERS)
def test_nobody_else_brings_a_state_to_today(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """On a copy of an earlier state beside its keys a command is refused with what to do; state and keys are as they were.

    The state itself is taken up afterwards: the record was not moved to a checkpoint of the copy (C7).
    """
    (plan := tmp_path / "plan.yaml").write_text(PLAN.replace("version: 1", "version: 2"))
    shutil.copytree(state_dir / "keys", tmp_path / "keys")
    copy = shutil.copytree(state_dir, tmp_path / "copy", ignore=shutil.ignore_patterns("keys"))
    before = contents(copy) | contents(tmp_path / "keys")
    words = command.format(file=tmp_path / "backup", plan=plan, state=copy).split()
    config = tmp_path / "config.yaml"
    config.write_text(f"state_dir: {copy}\nkeys_dir: {tmp_path / 'keys'}\n")
    # The log would go to what captures this test's output, for as long as this process lives.
    monkeypatch.setattr("hushmeter.service.deployment.logs.configure_logs", lambda *_: None)
    if "--against" not in words:
        takes_config = words[0] in {"serve", "retention", "transparency", "window", "backup", "plan"}
        words += ["--config", str(config)] if takes_config else ["--state-dir", str(copy)]
    assert run(words) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"schema version {state_dir.name[-1]}" in said
    assert "bring it there with hushmeter migrate; nothing was changed" in said
    assert contents(copy) | contents(tmp_path / "keys") == before
    reopened(state_dir, FakeClock(H)).store.close()


def test_a_start_that_is_refused_moves_no_record(state_dir: Path, tmp_path: Path) -> None:
    """A copy whose start its clock forbids leaves the keys' record as it was, and the state itself is taken up (C7)."""
    keys = state_dir / "keys"
    copy = shutil.copytree(state_dir, tmp_path / "copy", ignore=shutil.ignore_patterns("keys"))
    Database.migrate(url_of(copy / "state.db"))
    before = (keys / "ledger").read_bytes()
    with pytest.raises(StateConflict, match="the clock says"):
        serve._run(Config(state_dir=copy, keys_dir=keys, metrics=""), None, [], clock_is_right=False)
    assert (keys / "ledger").read_bytes() == before
    context = reopened(state_dir, FakeClock(H))
    context.ensure_serving()
    context.store.close()
    # The copy's epoch ended with that, and where a checkpoint was put after its ledger, it is another history.
    with pytest.raises((StateConflict, NotServing), match=r"has another history|serves"):
        open_context(Config(state_dir=copy, keys_dir=keys), FakeClock(H), ExactMechanisms(), serves=False).ensure_serving()


def test_an_altered_ledger_gets_no_checkpoint(state_of_7: Path) -> None:
    """A state whose ledger does not hold is refused as it is: nothing would say so any more afterwards."""
    engine = sa.create_engine(url_of(state_of_7 / "state.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger SET content = replace(content, 'starts', 'stops') WHERE sequence = 2")
    engine.dispose()
    for _ in range(2):
        with pytest.raises(LedgerBroken, match="entry 2 was altered"):
            Database.migrate(url_of(state_of_7 / "state.db"))


def test_the_command_brings_a_state_to_today(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says each step before and after, changes nothing when it is only asked, and then has nothing more to do."""
    before, version = contents(state_dir), int(state_dir.name[-1])
    assert run(["migrate", "--state-dir", str(state_dir), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"has schema version {version}" in said
    assert [line.split(":")[0] for line in said.splitlines()[1:]] == [
        f"would become {v}" for v in range(version + 1, schema.SCHEMA_VERSION + 1)
    ]
    assert contents(state_dir) == before
    assert run(["migrate", "--state-dir", str(state_dir)]) == 0
    assert "became 9: Windows whose rows are final are FIXED" in capsys.readouterr().out
    assert run(["migrate", "--state-dir", str(state_dir)]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_state_that_is_served_is_not_migrated(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who serves it has taken its lock, and is named."""
    before = (state_dir / "state.db").read_bytes()
    with take_lock(state_dir):
        assert run(["migrate", "--state-dir", str(state_dir)]) != 0
    assert "serves" in capsys.readouterr().err
    assert (state_dir / "state.db").read_bytes() == before


def test_what_was_removed_is_overwritten_before_it_is_done(state_of_7: Path) -> None:
    """Somebody who reads keeps the log of writes: that is an error, and once nobody reads the next call empties it."""
    url, text = url_of(state_of_7 / "state.db"), "a letter in pieces of 32 letters"
    with contextlib.closing(sqlite3.connect(state_of_7 / "state.db")) as reader:
        with reader:
            reader.execute("UPDATE decisions SET locale = ? WHERE source != 'erasure'", (text,))
        reader.execute("BEGIN").close()
        assert reader.execute("SELECT count(*) FROM decisions").fetchone()[0]
        with pytest.raises(Failure, match="stop that process, and run hushmeter migrate again"):
            Database.migrate(url)
    assert Database.migrate(url) == (schema.SCHEMA_VERSION, ())
    assert not any(text.encode() in file.read_bytes() for file in state_of_7.glob("state.db*"))


def test_who_was_left_over_seals_nothing_any_more(state_dir: Path) -> None:
    """A process of before that is still at work fails: no state of a window stands there that nobody ends (T3)."""
    Database.migrate(url_of(state_dir / "state.db"))
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as left_over:
        with pytest.raises(sqlite3.IntegrityError, match="not SEALED any more"):
            left_over.execute("UPDATE windows SET state = 'SEALED'")
        left_over.execute("UPDATE windows SET state = 'LOST'")


@pytest.mark.parametrize("rows", [["1975ea83b712"], [], ["8", "9"]])
def test_another_programs_revisions_are_not_ours(tmp_path: Path, rows: list[str]) -> None:
    """A database of another program that alembic keeps is refused as such, and stays as it was."""
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as theirs, theirs:
        theirs.execute("CREATE TABLE alembic_version (version_num TEXT)")
        theirs.executemany("INSERT INTO alembic_version VALUES (?)", [(row,) for row in rows])
    before = path.read_bytes()
    for opened in (SqlStateStore.existing, lambda directory: Database.migrate(url_of(directory / "state.db"))):
        with pytest.raises(ConfigError, match="is not hushmeter's"):
            opened(tmp_path)
    assert path.read_bytes() == before


def test_the_table_of_before_says_the_version(state_dir: Path) -> None:
    """Whatever alembic's table says beside it: every step is taken from where the state is."""
    with contextlib.closing(sqlite3.connect(state_dir / "state.db")) as by_hand, by_hand:
        by_hand.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        by_hand.execute("INSERT INTO alembic_version VALUES ('8')")
    before, steps = Database.migrate(url_of(state_dir / "state.db"))
    assert (before, len(steps)) == (int(state_dir.name[-1]), schema.SCHEMA_VERSION - before)
    reopened(state_dir, FakeClock(H)).store.close()


def test_where_there_is_no_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without one is named, and stays as it is."""
    assert run(["migrate", "--state-dir", str(tmp_path)]) != 0
    assert "there is no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_changes_nothing(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are one transaction: an error in the last one leaves the schema and every row as they were."""
    before = contents(state_dir)
    monkeypatch.setattr(Operations, "drop_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Database.migrate(url_of(state_dir / "state.db"))
    monkeypatch.undo()
    assert contents(state_dir) == before
    reopened(state_dir, FakeClock(H)).store.close()
