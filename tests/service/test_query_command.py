"""`hushmeter query` writes what the analyst's client is told, in every format, and ends with words where it is refused."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from hushmeter.cli.app import app, run
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.service.disclosure.public_record import RecordFormat, signed_record, written
from tests.plans import plan_text
from tests.ports import free_port
from tests.service.running_service import FOUNDED_MS, Running, running

H = FOUNDED_MS
HOURS = 3
BY_PLATFORM = ["starts", "--view", "platform", "--resolution", "1h"]
PLAN = plan_text(
    """
  starts:
    kind: counter
    unit: launches
    dimensions: {platform: {values: [ios, android], scope: unit}}
    views: [[], [platform]]
    per_unit: {range: [0, 100]}
    statistics: [units, sum]
  versions:
    <<: *common
    dimensions: {version: {open: true, max_length: 8, pattern: '[0-9]+', expected_values: 4}}
    views: [[version]]
    statistics: [sum]
""",
    resolutions="1h: {lateness: 10m}, 1d: {lateness: 1h}",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with real noise that has released three hours of ten units."""
    directory = tmp_path_factory.mktemp("query") / "state"
    with running(directory, plan=PLAN, mechanisms=OpenDPMechanisms()) as service:
        service.decide(map(str, range(10)), {"tuning": True})
        service.clock.advance_to(H + 30 * MINUTE_MS)
        service.send([service.starts(str(unit), H + 30 * MINUTE_MS) for unit in range(10)])
        service.advance(H + HOURS * HOUR_MS + 10 * MINUTE_MS)
        yield service


def asked(service: Running, *options: str) -> Result:
    """The command with the service's address, which must succeed."""
    done = CliRunner().invoke(app, ["query", *options, "--target", service.target])
    assert done.exit_code == 0, done.output
    return done


def refused(service: Running, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What a command says that must end with status 2."""
    capsys.readouterr()
    assert run(["query", *options, "--target", service.target]) == 2
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def told(service: Running, **asking: Any) -> pa.Table:
    """What the client is told of starts by platform."""
    return service.analyst.releases("starts", ["platform"], resolution="1h", **asking)


def test_without_a_metric_it_lists_what_can_be_asked(service: Running) -> None:
    """Every metric with its views, which of them hide small partitions, and what one unit's record costs."""
    said = asked(service).output
    for words in (
        "starts",
        "(total)",
        "platform",
        "launches",
        "versions",
        "version (private, ",
        "of units expected hidden",
    ):
        assert words in said
    assert "One device's whole record of 1w costs at most epsilon 4, delta 1e-08." in said


def test_the_table_shows_each_number_with_its_interval(service: Running) -> None:
    """A row for each number, as wide as it must be; columns that are empty throughout are left out."""
    lines = asked(service, *BY_PLATFORM, "--statistic", "sum").output.splitlines()
    heading = next(line for line in lines if "window" in line)
    assert heading.split() == ["window", "platform", "statistic", "value", "std", "low", "high", "unit", "epsilon"]
    rows = [line.split() for line in lines if line.split()[-2:-1] == ["launches"]]
    values = told(service, statistics=["sum"]).to_pylist()
    assert len(rows) == len(values) == 2 * HOURS
    for row, value in zip(rows, values, strict=True):
        assert row[:4] == ["2026-03-02", f"{value['window_start']:%H:%M}", value["platform"], "sum"]
        assert float(row[4].replace(",", "")) == pytest.approx(value["value"], rel=1e-3, abs=0.06)
        assert float(row[5].replace(",", "")) == pytest.approx(value["noise_std"], rel=1e-3)


def test_a_table_goes_to_a_file(service: Running, tmp_path: Path) -> None:
    """With `--out` nothing is printed, and the file has the same rows."""
    out = tmp_path / "table"
    assert asked(service, *BY_PLATFORM, "--out", str(out)).output == ""
    printed = [line.split() for line in asked(service, *BY_PLATFORM).output.splitlines()]
    assert [line.split() for line in out.read_text(encoding="utf-8").splitlines()] == printed


@pytest.mark.parametrize("to_file", [False, True])
def test_json_has_every_column(service: Running, tmp_path: Path, *, to_file: bool) -> None:
    """A list of rows with all that the client is told; times are ISO 8601."""
    out = tmp_path / "rows.json"
    said = asked(service, *BY_PLATFORM, "--format", "json", *(["--out", str(out)] if to_file else [])).output
    rows = json.loads(out.read_text(encoding="utf-8") if to_file else said)
    expected = told(service).to_pylist()
    plain = [{k: v.isoformat() if isinstance(v, dt.datetime) else v for k, v in row.items()} for row in expected]
    assert rows == plain


@pytest.mark.parametrize("to_file", [False, True])
def test_csv_has_every_column(service: Running, tmp_path: Path, *, to_file: bool) -> None:
    """A heading and a line for each row, with the values that the client is told."""
    out = tmp_path / "rows.csv"
    done = asked(service, *BY_PLATFORM, "--format", "csv", *(["--out", str(out)] if to_file else []))
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8") if to_file else done.output)))
    expected = told(service)
    assert list(rows[0]) == expected.column_names
    assert [row["platform"] for row in rows] == expected.column("platform").to_pylist()
    assert [float(row["value"]) for row in rows] == expected.column("value").to_pylist()


def test_parquet_is_the_table_itself(service: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds the client's table; without a file the command says that it needs one."""
    out = tmp_path / "rows.parquet"
    asked(service, *BY_PLATFORM, "--format", "parquet", "--out", str(out))
    assert parquet.read_table(out).to_pylist() == told(service).to_pylist()
    assert "parquet needs a file: add --out FILE" in refused(service, capsys, *BY_PLATFORM, "--format", "parquet")


def test_options_choose_windows_cells_and_sums(service: Running) -> None:
    """A time range, filters of which several are alternatives, and a roll-up do what they do in the client."""

    def rows(*options: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(asked(service, *BY_PLATFORM, "--format", "json", *options).output)
        return found

    assert {r["window_start"] for r in rows("--start", "2026-03-02T01:00", "--end", "2026-03-02T02:00:00+00:00")} == {
        "2026-03-02T01:00:00+00:00"
    }
    assert {r["platform"] for r in rows("--where", "platform=ios")} == {"ios"}
    assert {r["platform"] for r in rows("--where", "platform=ios", "--where", "platform=android")} == {"ios", "android"}
    rolled = rows("--statistic", "sum", "--roll-up-time")
    expected = told(service, statistics=["sum"], roll_up_time=True).to_pylist()
    assert [(r["platform"], r["value"], r["rolled_up_from"]) for r in rolled] == [
        (r["platform"], r["value"], HOURS) for r in expected
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["starts", "--where", "platform"], "--where takes dimension=value, got 'platform'"),
        (["starts", "--start", "yesterday"], "'yesterday' is not a time; write one such as 2026-03-01"),
        (["stars", "--resolution", "1h"], "answered INVALID_ARGUMENT: there is no metric 'stars'; did you mean starts"),
        (["starts", "--verify", "--roll-up-time"], "--verify is of whole views"),
        (["starts", "--verify", "--record", "no-such-file"], "cannot read no-such-file"),
        (["starts", "--verify", "--public-key", "abc"], "--public-key takes 64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_asked_is_said(
    service: Running, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    """A question that is wrong ends with status 2 and what to write instead."""
    assert words in refused(service, capsys, *options)


def test_a_service_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody serves, the command ends with status 2 and the address."""
    target = f"127.0.0.1:{free_port()}"
    assert run(["query", "starts", "--target", target]) == 2
    assert f"hushmeter: {target} answered UNAVAILABLE" in capsys.readouterr().err


def test_releases_that_do_not_hold_end_with_status_1(service: Running, tmp_path: Path) -> None:
    """Releases are verified with a record and its key; a record that another key must have signed proves nothing."""
    record = tmp_path / "record.json"
    record.write_text(written(signed_record(service.context), RecordFormat.JSON), encoding="utf-8")
    key = json.loads(record.read_text(encoding="utf-8"))["public_key"]
    verify = [*BY_PLATFORM, "--verify", "--record", str(record), "--public-key"]
    said = asked(service, *verify, key).output
    assert f"{HOURS} releases are what the ledger commits to, head " in said
    done = CliRunner().invoke(app, ["query", *verify, "00" * 32, "--target", service.target])
    assert done.exit_code == 1
    assert "the releases do not hold: " in done.output
