"""A backup holds no raw data, and the commands that write and restore one say what they did (C6)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from hushmeter.cli.app import run
from hushmeter.clock import SystemClock
from hushmeter.model.time import MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from tests.service.deployment_by_hand import H, Hand, of_today
from tests.service.deployment_with_backup import CAPPED, DeploymentWithBackup


def test_a_backup_leads_to_no_raw_data(tmp_path: Path) -> None:
    """It has no segment, worker, time of service, kept window, key or trace of one, and one file; the service goes on."""
    machine = DeploymentWithBackup(tmp_path, CAPPED)
    machine.release(2)
    hand = Hand(machine.context)
    machine.clock.advance(30 * MINUTE_MS)
    assert len(hand.send("u", machine.clock.now_ms(), 7).admitted) == 1
    machine.back_up()
    database = sqlite3.connect(machine.backup)
    for table in ("segments", "workers", "servings", "serving", "erasures", "kept_windows", "known_keys"):
        assert database.execute(f"select count(*) from {table}").fetchone() == (0,)  # noqa: S608
    assert database.execute("select count(*) from releases").fetchone() > (0,)
    database.close()
    found = machine.backup.read_bytes()
    period = machine.context.plan.privacy.period.window_of(H + 1).start_ms
    kept = machine.context.store.kept_windows("starts", "1h", period)
    assert kept is not None
    assert kept[-16:] not in found
    files = [p for p in (*machine.keys.rglob("*"), *(tmp_path / "state" / "log").rglob("*")) if p.is_file()]
    assert len(files) > 5
    assert not any(p.read_bytes()[-16:] in found for p in files if p.stat().st_size >= 16)
    assert machine.backup.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "keys", "state"]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`hushmeter backup` and `restore` say what they did, and what to do next."""
    open_context(Config(state_dir=tmp_path / "state"), SystemClock(), OpenDPMechanisms(), of_today(CAPPED)).store.close()
    assert run(["backup", str(tmp_path / "b"), "--state-dir", str(tmp_path / "state")]) == 0
    assert "no raw rows, and no keys" in capsys.readouterr().out
    where = ["--state-dir", str(tmp_path / "new"), "--keys-dir", str(tmp_path / "state-keys")]
    assert run(["restore", str(tmp_path / "b"), *where]) == 0
    told = capsys.readouterr().out
    for part in ("windows have ended", "Not released before", "Every credential was revoked"):
        assert part in told
    assert run(["ledger", "verify", "--state-dir", str(tmp_path / "new")]) == 0
    capsys.readouterr()
    assert run(["retention", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["backup", str(tmp_path / "c"), "--state-dir", str(tmp_path / "nowhere")]) != 0
    assert "holds no state.db" in capsys.readouterr().err
