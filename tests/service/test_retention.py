"""What raw data is held is told, and after its time it is nowhere in the state directory, in whatever file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hushmeter.cli.app import run
from hushmeter.errors import KeyUnavailable
from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.key_names import period_key
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.state_lock import take_lock
from hushmeter.service.disclosure.retention import RowKind, held
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, Hand, capped, opened, sealer_of, sums
from tests.service.reported_hours import reported
from tests.service.state_files import everything

CAPPED = capped("1h: 24")
UNITS = ("device-4711-left", "device-4712-left", "device-4713-left")


def second_hour(state_dir: Path) -> tuple[Context, FakeClock, Hand]:
    """A deployment that holds one report of each unit, in its second hour."""
    return reported(state_dir, [(unit, 77) for unit in UNITS], first=1, hours=1, plan=CAPPED)


def test_what_is_held_and_when_it_is_destroyed(tmp_path: Path) -> None:
    """Rows are destroyed when the day over them has ended, what belongs to a period with the period; decisions stay."""
    context, clock, hand = second_hour(tmp_path)
    day_ends, week_ends = H + DAY_MS + HOUR_MS, context.plan.privacy.period.end_of(H) + HOUR_MS
    rows, key, decisions = held(context)
    assert (rows.kind, rows.count, rows.dies_ms) == (RowKind.ROWS, 1, day_ends)
    assert rows.size_bytes > 0
    assert (key.kind, key.dies_ms) == (RowKind.PSEUDONYM_KEY, week_ends)
    assert (decisions.kind, decisions.count, decisions.dies_ms) == (RowKind.DECISIONS, len(UNITS), None)
    hand.segments.retire()
    clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
    sealer_of(context).run_due()
    assert [h.kind for h in held(context)] == [
        RowKind.TOTALS,
        RowKind.KEPT_WINDOWS,
        RowKind.PSEUDONYM_KEY,
        RowKind.DECISIONS,
    ]
    clock.set(day_ends)
    sealer_of(context).run_due()
    assert [h.kind for h in held(context)] == [RowKind.KEPT_WINDOWS, RowKind.PSEUDONYM_KEY, RowKind.DECISIONS]
    clock.set(week_ends)
    sealer_of(context).run_due()
    assert [h.kind for h in held(context)] == [RowKind.DECISIONS]


def test_nothing_is_left_anywhere(tmp_path: Path) -> None:
    """No file holds a sealed row, a wrapped key, a pseudonym or a unit's id once the period has ended (P3)."""
    context, clock, hand = second_hour(tmp_path)
    subjects = [hand.subject(unit) for unit in UNITS]
    period = context.plan.privacy.period.window_of(clock.now_ms()).start_ms
    pseudonyms = [pseudonym_of(context.keys.get(period_key(period)), subject) for subject in subjects]
    hand.segments.retire()
    secrets = [unit.encode() for unit in UNITS] + pseudonyms
    # A sealed frame or run, and a wrapped key, each by its last bytes, which hold its tag.
    for due in (clock.now_ms(), H + 2 * HOUR_MS + 10 * MINUTE_MS):
        clock.set(due)
        sealer_of(context).run_due()
        found = everything(tmp_path)
        held_now = [data for name, data in found.items() if "/log/" in name or "/data/" in name or "/period/" in name]
        secrets += [data[-16:] for data in held_now if len(data) >= 16]
    assert len(secrets) >= 2 * len(UNITS) + 4
    clock.set(H + WEEK_MS + DAY_MS)
    sealer_of(context).run_due()
    for name, data in everything(tmp_path).items():
        assert not any(secret in data for secret in secrets), f"{name} still holds what should be gone"
    assert any(subjects[0] in data for data in everything(tmp_path).values()), "the search finds what is there"
    assert not any("/log/" in name for name in everything(tmp_path))


def test_the_command_line_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`hushmeter retention` prints a table, or JSON, and says what is wrong with a directory that is no state."""
    context, _, hand = second_hour(tmp_path)
    hand.segments.retire()
    context.store.close()
    assert run(["retention", "--state-dir", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [h["kind"] for h in told] == ["raw rows", "key of pseudonyms", "consent decisions"]
    assert told[2]["destroyed_at"] is None
    assert run(["retention", "--state-dir", str(tmp_path)]) == 0
    assert "raw rows" in capsys.readouterr().out
    assert run(["retention", "--state-dir", str(tmp_path / "none")]) == 2
    assert "holds no state.db" in capsys.readouterr().err


def test_the_master_key_is_rotated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`hushmeter keys rotate` replaces the key that hushmeter keeps, not beside a running service; rows stay readable."""
    context, clock, hand = second_hour(tmp_path)
    hand.segments.retire()
    context.store.close()
    keys = Config(state_dir=tmp_path).keys
    before = (keys / "master.key").read_bytes()
    with take_lock(tmp_path):
        assert run(["keys", "rotate", "--state-dir", str(tmp_path)]) == 2
    assert "stop it first" in capsys.readouterr().err
    assert run(["keys", "rotate", "--state-dir", str(tmp_path)]) == 0
    assert "4 keys were wrapped anew" in capsys.readouterr().out
    assert (keys / "master.key").read_bytes() != before
    assert not (keys / "master.key.new").exists()
    again = opened(tmp_path, clock, CAPPED)
    clock.set(H + 2 * HOUR_MS + 10 * MINUTE_MS)
    sealer_of(again).run_due()
    assert sums(again, "1h")[1] == 77 * len(UNITS)
    again.store.close()
    elsewhere = tmp_path / "elsewhere.key"
    assert run(["keys", "rotate", "--state-dir", str(tmp_path), "--new-master-key-file", str(elsewhere)]) == 0
    assert "Name it in master_key_file" in capsys.readouterr().out
    with pytest.raises(KeyUnavailable, match="the master key is not the one"):
        opened(tmp_path, clock, CAPPED)
