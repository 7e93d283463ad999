"""`hushmeter plan` through its command line: what it predicts of a plan, and what it says about a change."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from hushmeter.cli.app import run
from hushmeter.cli.plan.predictions import price
from hushmeter.clock import SystemClock
from hushmeter.model.plan import Plan, Statistic
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.budget_division import shares
from hushmeter.plan.measurements import derivation, measurements_of
from hushmeter.plan.reading import parse_recorded
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan file as `plan init` writes it, on a console as wide as a pipe's."""
    monkeypatch.delenv("COLUMNS", raising=False)
    file = tmp_path / "plan.yaml"
    assert run(["plan", "init", str(file)]) == 0
    return file


def changed(path: Path, name: str, **fields: Any) -> Path:
    """A copy of a plan file with other fields of one metric, as the next version; no fields remove the metric."""
    plan = yaml.safe_load(path.read_text())
    plan["version"] += 1
    if fields:
        plan["metrics"][name] = {k: v for k, v in (plan["metrics"].get(name, {}) | fields).items() if v is not ...}
    else:
        del plan["metrics"][name]
    other = path.with_name(f"version-{plan['version']}.yaml")
    other.write_text(yaml.safe_dump(plan, sort_keys=False))
    return other


def with_privacy(path: Path, **fields: Any) -> Path:
    """The plan file with other privacy, written in its place."""
    plan = yaml.safe_load(path.read_text())
    plan["privacy"] |= fields
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def read(path: Path) -> Plan:
    return parse_recorded(path.read_text())


def explained(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """The releases of `plan explain --json`."""
    capsys.readouterr()
    assert run(["plan", "explain", str(path), "--json", *options]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["releases"]
    return found


def explained_one(
    path: Path, key: tuple[str, tuple[str, ...], str, str], capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """One release of `plan explain --json`."""
    return next(row for row in explained(path, capsys) if key_of(row) == key)


def key_of(row: dict[str, Any]) -> tuple[str, tuple[str, ...], str, str]:
    return row["metric"], tuple(row["view"]), row["resolution"], row["statistic"]


def keys_of(plan: Plan) -> set[tuple[str, tuple[str, ...], str, str]]:
    """Every statistic of every release that a plan makes."""
    return {(m.name, view, at, s.value) for m in plan.measured for view in m.views for at in m.at for s in m.statistics}


def named(row: dict[str, Any]) -> str:
    """How the table names a release."""
    view = f" by {', '.join(row['view'])}" if row["view"] else ""
    return f"{row['metric']}{view}, {row['resolution']}"


def test_the_table_has_a_row_for_every_release(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each statistic of each release has one row, with its noise, its error, the units it needs and what halves it."""
    rows = explained(path, capsys, "--units", "3000")
    assert run(["plan", "explain", str(path), "--units", "3000"]) == 0
    printed = capsys.readouterr().out
    assert "3,000 units a window" in printed
    table = printed[: printed.index("Errors are standard errors")].splitlines()
    for row in rows:
        begins = f"  {named(row)} "
        lines = [line for line in table if line.startswith(begins) and line[len(begins) :].split()[0] == row["statistic"]]
        assert len(lines) == 1, named(row)
        for cell in (f"{row['noise_std']:,.3g}", row["unit"], f"{row['smallest_partition']:,} units", row["advice"]):
            assert cell in lines[0]
    assert {key_of(row) for row in rows} == keys_of(read(path))


def test_the_json_agrees_with_the_plan(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Releases are those of the plan; scales and shares are those that the service will charge and add."""
    plan = read(path)
    rows = {key_of(row): row for row in explained(path, capsys)}
    assert len(rows) == len(keys_of(plan))
    assert rows.keys() == keys_of(plan)
    priced = price(plan)
    charges = {
        (i.measurement.metric, i.measurement.view, i.measurement.resolution, i.measurement.name): i for i in priced.items
    }
    divided = shares(plan, priced.budget.currency, priced.budget.loss.amount)
    for (name, view, resolution, statistic), row in rows.items():
        made = [charges[name, view, resolution, m] for m in derivation(plan.metric(name), Statistic(statistic))]
        part = sum(divided[c.measurement] * c.measurement.windows for c in made) / priced.budget.loss.amount
        assert row["share"] == pytest.approx(float(part))
        assert (row["scale"], row["mechanism"]) == (made[0].scale, made[0].mechanism.value)
        opened = plan.metric(name).open_dimension(view) is not None
        assert (row["threshold"] is not None) == opened
        assert (row["hidden_share"] > 0) == opened
    own = {(c.metric, c.view, c.resolution) for c in measurements_of(plan)}
    assert {key[:3] for key in rows} == own


def test_assumed_units_change_errors_and_not_prices(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice the units halve every relative error and leave the scales of noise as the plan sets them."""
    once = explained(path, capsys, "--units", "20000")
    twice = explained(path, capsys, "--units", "40000")
    for few, many in zip(once, twice, strict=True):
        assert many["scale"] == few["scale"]
        close = 0.03 if few["statistic"] == "quantiles" else 0.01
        assert many["relative_error"] == pytest.approx(few["relative_error"] / 2, rel=close)
        assert many["smallest_partition"] == pytest.approx(few["smallest_partition"], rel=close, abs=2)
    by_default = explained(path, capsys)
    assert by_default == explained(path, capsys, "--units", "50000")


def test_a_release_is_useful_from_as_many_units_as_it_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the smallest number of units at which a total is useful, its expected error is a tenth of the value."""
    for row in explained(path, capsys, "--units", "20000"):
        if row["view"] == [] and row["statistic"] != "quantiles":
            again = explained(path, capsys, "--units", str(row["smallest_partition"]))
            found = next(r for r in again if key_of(r) == key_of(row))
            assert found["relative_error"] == pytest.approx(0.1, rel=0.02)


def warned(printed: str) -> dict[str, str]:
    """What the command warns of, by release and statistic."""
    lines = [line.removeprefix("warning ") for line in printed.splitlines() if line.startswith("warning ")]
    return dict(line.split(": the expected error is ", 1) for line in lines if ": the expected error is " in line)


@pytest.mark.parametrize("units", [40, 3_000, 100_000_000])
def test_an_error_beyond_the_value_is_warned_of(path: Path, capsys: pytest.CaptureFixture[str], units: int) -> None:
    """Each release whose expected error exceeds its value has a warning that says by how much, and no other has one."""
    rows = explained(path, capsys, "--units", str(units))
    assert run(["plan", "explain", str(path), "--units", str(units)]) == 0
    found = warned(capsys.readouterr().out)
    hopeless = {f"{named(row)}: {row['statistic']}": row for row in rows if row["relative_error"] > 1}
    assert found.keys() == hopeless.keys()
    for name, row in hopeless.items():
        assert found[name].startswith(f"{row['relative_error']:.1f} times the value itself")
        assert row["warning"] == f"the expected error is {row['relative_error']:.1f} times the value itself"
    assert all(not row["warning"] or row["relative_error"] > 1 or row["hidden_share"] > 0.5 for row in rows)
    assert (units == 100_000_000) == (not hopeless)


def test_hidden_units_are_told_and_warned_of(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of private partitions the threshold and the hidden share are told; more than half hidden is a warning."""
    for units, hidden in ((1_000_000, False), (1_500, True)):
        rows = [r for r in explained(path, capsys, "--units", str(units)) if r["threshold"] is not None]
        assert run(["plan", "explain", str(path), "--units", str(units)]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        told = f"private partitions show from about {rows[0]['threshold']:,} units; {rows[0]['hidden_share']:.1%} of units"
        assert told in printed
        assert (rows[0]["hidden_share"] > 0.5) == hidden
        assert (
            f"{rows[0]['hidden_share']:.0%} of units are expected to be in partitions that stay hidden" in printed
        ) == hidden


def test_half_the_range_halves_the_error(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Following the advice for a sum, with weights as stated, halves its noise."""
    with_privacy(path, weights="stated", currency="zcdp")
    key = ("calls", ("platform",), "1h", "sum")
    before = explained_one(path, key, capsys)
    assert before["advice"] == "half the range, or weight x 4"
    narrow = changed(path, "calls", per_unit={"range": [0, 10], "by_resolution": {"1d": {"range": [0, 60]}}})
    assert explained_one(narrow, key, capsys)["noise_std"] == pytest.approx(before["noise_std"] / 2, rel=1e-6)


BY_REGION = {
    "dimensions": {"region": {"values": [f"r{i}" for i in range(12)]}},
    "views": [[], ["region"]],
    "statistics": ["events"],
}
RATIO = {"kind": "ratio", "unit": "errors", "edges": [], "dimensions": {}, "views": [[]], "statistics": ["denominator"]}
LIMITS: list[tuple[str, dict[str, Any], tuple[str, ...], dict[str, int], str]] = [
    ("zcdp", BY_REGION, ("region",), {"max_partitions": 8, "max_events": 6}, "max_partitions 2 instead of 8"),
    ("pure", BY_REGION, ("region",), {"max_partitions": 8, "max_events": 6}, "max_partitions 4 instead of 8"),
    ("zcdp", BY_REGION, (), {"max_partitions": 8, "max_events": 6}, "max_events 3 instead of 6"),
    ("pure", RATIO, (), {"max_denominator": 6}, "max_denominator 3 instead of 6"),
]


@pytest.mark.parametrize(("currency", "fields", "view", "bounds", "advice"), LIMITS)
def test_lower_bounds_halve_the_error(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    currency: str,
    fields: dict[str, Any],
    view: tuple[str, ...],
    bounds: dict[str, int],
    advice: str,
) -> None:
    """Following the advice about a limit, with weights as stated, halves the noise in either currency."""
    with_privacy(path, weights="stated", currency=currency)
    key = ("call_setup", view, "1d", fields["statistics"][0])
    wide = changed(path, "call_setup", **fields, per_unit={"range": [0, 10], **bounds})
    before = explained_one(wide, key, capsys)
    assert before["advice"].startswith(advice)
    field, lower = advice.split()[:2]
    lowered = changed(wide, "call_setup", per_unit={"range": [0, 10], **bounds, field: int(lower)})
    assert explained_one(lowered, key, capsys)["noise_std"] == pytest.approx(before["noise_std"] / 2, rel=1e-3)


@pytest.mark.parametrize(("currency", "factor"), [("zcdp", 4), ("pure", 2)])
def test_the_advised_weight_halves_the_error(
    path: Path, capsys: pytest.CaptureFixture[str], currency: str, factor: int
) -> None:
    """Where a metric is a small part of the plan, the weight that is advised about halves its error."""
    with_privacy(path, weights="stated", currency=currency)
    key = ("codec", (), "1d", "rate")
    light = changed(path, "codec", weight=0.01)
    before = explained_one(light, key, capsys)
    assert before["advice"].endswith(f"weight x {factor}")
    after = explained_one(changed(light, "codec", weight=0.01 * factor), key, capsys)
    assert after["noise_std"] == pytest.approx(before["noise_std"] / 2, rel=0.01)


def test_a_chart_is_drawn(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chart is a PNG that grows with the number of releases, beside the table or the JSON."""
    chart = path.with_suffix(".png")
    assert run(["plan", "explain", str(path), "--chart", str(chart)]) == 0
    assert "to halve the error" in capsys.readouterr().out
    header = chart.read_bytes()[:24]
    assert header[:16] == b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
    assert explained(changed(path, "call_setup"), capsys, "--chart", str(chart))
    fewer = chart.read_bytes()[:24]
    assert 0 < int.from_bytes(fewer[20:]) < int.from_bytes(header[20:])


def test_a_chart_that_cannot_be_written_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A chart in a directory that does not exist ends the command with a sentence."""
    assert run(["plan", "explain", str(path), "--chart", str(path.parent / "none" / "chart.png")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_brackets_in_a_unit_are_printed_as_they_are(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit in brackets is text, not markup of the table."""
    odd = changed(path, "call_setup", unit="[red]ms[/]")
    assert run(["plan", "explain", str(odd)]) == 0
    assert "[red]ms[/]" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_plan_that_is_wrong_ends_with_its_problems(path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Whatever is wrong with the file is told on standard error, with status 2 and no traceback."""
    wrong = changed(path, "call_setup", edges=[100, 50])
    assert run(["plan", command, str(wrong)]) == 2
    assert "metrics.call_setup.edges: edges must increase (got [100, 50])" in capsys.readouterr().err
    assert run(["plan", command, str(path.with_name("none.yaml"))]) == 2
    assert "cannot read the plan" in capsys.readouterr().err


def test_a_plan_file_is_never_overwritten(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`plan init` writes a new file alone."""
    text = path.read_text()
    assert run(["plan", "init", str(path)]) == 2
    assert "choose a file that does not exist yet" in capsys.readouterr().err
    assert path.read_text() == text


def test_a_check_says_what_a_plan_costs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The costs of longer spans, the currency and the overhead are told, as text and as JSON."""
    capsys.readouterr()
    assert run(["plan", "check", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    plan = read(path)
    priced = price(plan)
    assert (told["plan"], told["version"], told["plan_hash"]) == (plan.name, plan.version, plan.plan_hash)
    assert (told["currency"], told["amount"]) == ("zcdp", float(priced.budget.loss.amount))
    assert list(told["epsilon"].values()) == [epsilon for epsilon, _ in priced.costs.values()]
    assert told["epsilon"]["one period (1w)"] == pytest.approx(4, abs=1e-6)
    assert 1 < told["noise_over_exact_composition"] < 1.1
    assert run(["plan", "check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "The plan holds." in printed
    for epsilon, _ in priced.costs.values():
        assert f"epsilon {epsilon:8.3f}" in printed


@pytest.fixture
def state(path: Path) -> Path:
    """The state directory of a deployment that runs the plan."""
    directory = path.with_name("state")
    context = open_context(Config(state_dir=directory), SystemClock(), OpenDPMechanisms(), path.read_text())
    context.store.close()
    return directory


def against(path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The changes of `plan check --against --json`, releases by name."""
    capsys.readouterr()
    assert run(["plan", "check", str(path), "--against", str(state), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["changes"]
    return found | {"releases": {row["release"]: row for row in found["releases"]}}


def test_the_same_plan_changes_nothing(path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against itself a plan has the same errors and shares, and a row for every release."""
    told = against(path, state, capsys)
    assert (told["from_version"], told["to_version"]) == (1, 1)
    assert len(told["releases"]) == len(keys_of(read(path)))
    for row in told["releases"].values():
        assert (row["error_before"], row["share_before"]) == (row["error_after"], row["share_after"])
    assert "at once" in told["when"]


def test_a_change_is_priced_release_by_release(path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is added, removed and reweighed is told beside what it was, as text and as JSON."""
    codec = yaml.safe_load(path.read_text())["metrics"]["codec"]
    plan = changed(changed(changed(path, "call_dropped"), "layout", **codec), "call_setup", weight=20)
    told = against(plan, state, capsys)
    rows = told["releases"]
    assert (told["from_version"], told["to_version"]) == (1, 4)
    assert rows["call_dropped, 1d: rate"] | {"error_before": "", "share_before": ""} == {
        "release": "call_dropped, 1d: rate",
        "error_before": "",
        "share_before": "",
        "error_after": "removed",
        "share_after": "-",
    }
    assert (rows["layout, 1d: rate"]["error_before"], rows["layout, 1d: rate"]["share_before"]) == ("-", "-")
    setup = rows["call_setup by platform, 1d: histogram"]
    assert float(setup["share_after"].rstrip("%")) > float(setup["share_before"].rstrip("%"))
    assert float(setup["error_after"].rstrip("%")) < float(setup["error_before"].rstrip("%"))
    assert run(["plan", "check", str(plan), "--against", str(state)]) == 0
    printed = capsys.readouterr().out
    assert "from 1 to 4" in printed
    for row in rows.values():
        assert any(all(cell in line for cell in row.values()) for line in printed.splitlines()), row


def test_another_period_is_another_deployment(path: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the period nor the privacy unit of a deployment can change (C3)."""
    for fields in ({"period": "1d"}, {"unit": "device"}):
        other = with_privacy(changed(path, "codec", weight=1), **fields)
        assert "a deployment of its own, whose costs add up with this one's" in against(other, state, capsys)["when"]


def test_a_directory_without_a_deployment_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that holds no state ends the command with a sentence, and stays as it was."""
    empty = path.with_name("empty")
    empty.mkdir()
    assert run(["plan", "check", str(path), "--against", str(empty)]) == 2
    assert "holds no state.db; give the state_dir of a service" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_a_whole_plan_adds_up_to_its_budget(path: Path) -> None:
    """Each measurement's part of the budget, told once, adds up to all of it."""
    priced = price(read(path))
    parts = sum((i.loss.amount * i.measurement.windows for i in priced.items), Fraction(0))
    assert parts == priced.budget.loss.amount
