"""Open dimensions over real sockets: what is released of tokens that nobody declared, and that the rest stays hidden."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from hushmeter import limits
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.query.v1 import query_pb2_grpc
from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from tests.plans import plan_text
from tests.service.harness import H, finish, reasons, states, submitted
from tests.service.running_service import Running, running

PLAN = plan_text(
    """
  setup:
    kind: distribution
    unit: ms
    edges: [10, 100]
    dimensions:
      platform: {values: [ios, web], scope: unit}
      version: {open: true, max_length: 8, pattern: '[0-9]+([.][0-9]+)?', expected_values: 4}
    views: [[], [platform], [version], [platform, version]]
    weighting: event
    per_unit: {range: [0, 1000], max_events: 4, max_partitions: 2}
    statistics: [units, events, sum, mean, histogram, clamped]
  starts:
    <<: *common
    kind: counter
    unit: ""
    edges: []
    dimensions: {}
    views: [[]]
    weighting: unit
    per_unit: {range: [0, 1000]}
    statistics: [units, sum]
""",
    category="performance",
    purposes="tuning: Tune.",
    resolutions="1d: {lateness: 2h}",
    delta="1e-6",
)
NOISY_PLAN = (
    PLAN[: PLAN.index("  starts:")]
    .replace("[[], [platform], [version], [platform, version]]", "[[version]]")
    .replace("statistics: [units, events, sum, mean, histogram, clamped]", "statistics: [units, events]")
    .replace("unit: device", "unit: device, participants: false")
)

Rows = list[dict[str, object]]

FIRST_DAY = [("g", "ios", "3.5"), ("f", "web", "2"), ("d", "web", "1.0"), ("a", "ios", "1.0"), ("b", "ios", "1.0"),
             ("c", "ios", "1.0"), ("h", "web", "3.5"), ("i", "ios", "10"), ("e", "ios", "10")]  # fmt: skip
"""Units with their platform and version: the second version has one unit, the third two that share no platform."""


def noon(day: int) -> int:
    return H + day * DAY_MS + 12 * HOUR_MS


def due(day: int) -> int:
    """The deadline of a day."""
    return H + (day + 1) * DAY_MS + 2 * HOUR_MS


def observed(service: Running, end_ms: int, unit: str, platform: str, *versions: str) -> Report:
    """A report of a setup of 5 and one of 50 ms under each version."""
    recorder = service.client.recorder(unit)
    for version in versions:
        recorder.observe("setup", 5, platform=platform, version=version)
        recorder.observe("setup", 50, platform=platform, version=version)
    return finish(recorder, end_ms)


def rows(service: Running, view: Sequence[str], **options: object) -> Rows:
    found: Rows = service.analyst.releases("setup", view, resolution="1d", **options).to_pylist()  # type: ignore[arg-type]
    return found


def of_day(found: Rows, day: int) -> Rows:
    return [r for r in found if int(r["window_start"].timestamp() * 1000) == H + day * DAY_MS]  # type: ignore[attr-defined]


def values(service: Running, view: Sequence[str], statistic: str, day: int = 0) -> dict[tuple[object, ...], object]:
    """One statistic of one day by the values of the view's dimensions, and the component where it has several."""
    found = of_day(rows(service, view, statistics=[statistic]), day)
    return {(*(r[name] for name in view), *([r["component"]] if r["component"] else [])): r["value"] for r in found}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three days: several versions; nothing; another version, and two units in three versions each."""
    with running(tmp_path_factory.mktemp("open") / "state", plan=PLAN) as service:
        service.consent(*"abcdefghi", tuning=True)
        service.clock.advance_to(noon(0))
        assert submitted(service, [observed(service, noon(0), *row) for row in FIRST_DAY]).accepted == len(FIRST_DAY)
        service.advance(noon(2))
        reports = [observed(service, noon(2), unit, "web", "2") for unit in "abcd"]
        reports += [observed(service, noon(2), unit, "ios", "7", "8", "9") for unit in "ef"]
        assert submitted(service, reports).accepted == len(reports)
        service.advance(due(2))
        yield service


def test_a_token_of_one_unit_stays_hidden(service: Running) -> None:
    """Versions with two units and more are released with their counts, in the order of tokens; that of one is not."""
    assert list(values(service, ["version"], "units").items()) == [(("1.0",), 4), (("10",), 2), (("3.5",), 2)]
    assert values(service, [], "units") == {(): 9}, "all units count where nothing is private"


def test_public_and_private_dimensions_combine(service: Running) -> None:
    """Each combination must reach the threshold by itself: a version that is shown may be hidden on its platforms."""
    assert list(values(service, ["platform", "version"], "units").items()) == [(("ios", "1.0"), 3), (("ios", "10"), 2)]
    assert values(service, ["platform"], "units") == {("ios",): 6, ("web",): 3}
    assert values(service, ["platform", "version"], "units", 2) == {("web", "2"): 4} | {
        key: 2 for key in values(service, ["platform", "version"], "units", 2) if key[0] == "ios"
    }


def test_other_statistics_are_of_released_partitions_alone(service: Running) -> None:
    """Every statistic has exactly the partitions that the noisy counts selected, with the values of their units."""
    for view in (["version"], ["platform", "version"]):
        found = rows(service, view)
        partitions = [(r["window_start"], *(r[d] for d in view)) for r in found if r["statistic"] == "units"]
        for statistic in ("events", "sum", "mean", "clamped"):
            assert [(r["window_start"], *(r[d] for d in view)) for r in found if r["statistic"] == statistic] == partitions
        bins = [(r["window_start"], *(r[d] for d in view)) for r in found if r["statistic"] == "histogram"]
        assert bins == [p for p in partitions for _ in range(3)]
    assert values(service, ["version"], "sum") == {("1.0",): 220, ("10",): 110, ("3.5",): 110}
    assert set(values(service, ["version"], "mean").values()) == {27.5}
    assert values(service, ["platform", "version"], "histogram") == {
        ("ios", "1.0", "<= 10"): 3, ("ios", "1.0", "(10, 100]"): 3, ("ios", "1.0", "> 100"): 0,
        ("ios", "10", "<= 10"): 2, ("ios", "10", "(10, 100]"): 2, ("ios", "10", "> 100"): 0,
    }  # fmt: skip


def test_a_unit_is_in_as_many_private_partitions_as_the_plan_says(service: Running) -> None:
    """Of three versions a unit keeps two, not all units the same ones, and the diagnostic says that some were dropped."""
    found = values(service, ["platform", "version"], "units", 2)
    of_three = {key: count for key, count in found.items() if key[0] == "ios"}
    assert of_three in ({("ios", v): 2 for v in pair} for pair in ("7", "8", "9", "78", "79", "89"))
    clamped = values(service, ["platform", "version"], "clamped", 2)
    assert clamped == {("web", "2"): 0} | dict.fromkeys(of_three, 1)


def test_selected_rows_are_marked(service: Running) -> None:
    """Rows of views with an open dimension are marked as selected, others are not, and the listing says which views."""
    (setup,) = [m for m in service.analyst.metrics().metrics if m.name == "setup"]
    for view in setup.views:
        private = "version" in view.dimensions
        assert view.private_partitions == private
        assert (0 < view.expected_hidden_share < 1) == private
        table = service.analyst.releases("setup", view.dimensions, resolution="1d")
        assert table.schema.field("selected").type == "bool"
        assert set(table["selected"].to_pylist()) == {private}
        assert all(r["interval_low"] <= r["value"] <= r["interval_high"] for r in table.to_pylist())


def test_what_is_hidden_is_as_if_it_were_not(service: Running) -> None:
    """A filter by a hidden token is answered as one by a token that nobody ever sent: without rows, without refusal."""
    columns = [service.analyst.releases("setup", ["version"], resolution="1d", where={"version": v}, end=H + DAY_MS)
               for v in ("2", "999", "no version", "3.5")]  # fmt: skip
    assert [table.num_rows for table in columns] == [0, 0, 0, 8]
    assert columns[0].equals(columns[1])
    assert columns[0].column_names == columns[3].column_names
    both = rows(service, ["platform", "version"], where={"platform": "ios", "version": ["10", "3.5"]}, statistics=["units"])
    assert [(r["platform"], r["version"], r["value"]) for r in both] == [("ios", "10", 2)]


def test_a_day_without_tokens_is_released_and_charged_like_any_other(service: Running) -> None:
    """A day that nobody reported on has a release without rows, at the price of the days beside it; delta is charged."""
    with grpc.insecure_channel(service.target) as channel:
        asked = pb.QueryReleasesRequest(metric="setup", view=["version"], resolution="1d")
        releases = [r for a in query_pb2_grpc.QueryServiceStub(channel).QueryReleases(asked) for r in a.releases]
    assert [len(r.estimates) > 0 for r in releases] == [True, False, True]
    assert len({r.privacy_loss.SerializeToString() for r in releases}) == 1
    budget = service.context.deployment.budget
    assert budget.conversion_delta < releases[1].privacy_loss.delta < budget.delta
    assert {r["delta"] for r in rows(service, ["platform"])} == {budget.conversion_delta}
    summary = verify_chain(service.context.store.ledger())
    verify_budget(summary, budget)
    assert summary.by_period[H].delta == budget.loss.delta * 3 / 7


def test_the_ledger_says_what_selects_and_names_no_token(service: Running) -> None:
    """Each open view's counts are charged with their threshold and delta; what is said is the same for every day."""
    charged: dict[int, list[tuple[object, ...]]] = {}
    for entry in service.context.store.ledger():
        f = entry.fields
        if f["threshold"] is not None:
            said = tuple(
                json.dumps(f[n]) for n in ("view", "measurement", "threshold", "scale", "delta", "l0", "mechanism")
            )
            charged.setdefault(int(str(f["window_start_ms"])), []).append(said)
            assert (f["metric"], f["measurement"]) == ("setup", "units")
            assert "version" in list(f["view"])  # type: ignore[call-overload]
        assert not any(f'"{token}"' in entry.content for _, _, token in FIRST_DAY)
    first, *others = charged.values()
    assert len(first) == 2
    assert [first, first] == others


def test_private_partitions_are_not_added_up_over_time(service: Running) -> None:
    """A roll-up over windows that each show their own partitions is refused, and one of public partitions is not."""
    for view in (["version"], ["version", "platform"]):
        for statistics in ([], ["sum"]):
            with pytest.raises(grpc.RpcError) as caught:
                rows(service, view, statistics=statistics, roll_up_time=True)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "each window shows the private partitions that its own noisy counts select" in caught.value.details()
            assert "resolution" not in caught.value.details(), "days are the longest windows of this plan"
    rolled = rows(service, ["platform"], statistics=["sum"], roll_up_time=True)
    apart = rows(service, ["platform"], statistics=["sum"])
    for row in rolled:
        assert row["value"] == sum(r["value"] for r in apart if r["platform"] == row["platform"])  # type: ignore[misc]
        assert row["rolled_up_from"] == 3
    assert [r["platform"] for r in rolled] == ["ios", "web"]


def test_a_bad_token_is_refused_and_nothing_else_is_lost(tmp_path: Path) -> None:
    """A report whose token the pattern does not take is refused by name; the unit's other reports, and others, count."""
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent("u", "v", "w", tuning=True)
        service.clock.advance_to(noon(0))
        bad = [observed(service, noon(0), "u", "ios", *versions) for versions in (["x1"], ["1.0", "1..0"], ["1.0 "])]
        good = [observed(service, noon(0), unit, "ios", "1.0") for unit in ("u", "v")]
        plain = service.client.recorder("w")
        plain.count("starts", 3)
        answer = submitted(service, [bad[0], good[0], bad[1], finish(plain, noon(0)), bad[2], good[1]])
        assert answer.accepted == 3
        assert reasons(answer) == {0: "BAD_TOKEN", 2: "BAD_TOKEN", 4: "BAD_TOKEN"}
        service.advance(due(0))
        assert values(service, ["version"], "units") == {("1.0",): 2}
        assert values(service, ["version"], "events") == {("1.0",): 4}, "a report is refused as a whole"
        assert values(service, [], "units") == {(): 2}
        (total,) = service.analyst.releases("starts", resolution="1d", statistics=["sum"])["value"].to_pylist()
        assert total == 3


def test_too_many_tokens_fail_their_day_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit's tokens push out another's: a day with more tokens than can be held is LOST by name, and charged."""
    monkeypatch.setattr(limits, "TOKENS_PER_WINDOW_MAX", 4)
    with running(tmp_path / "state", plan=PLAN) as service:
        service.consent(*"abcd", tuning=True)
        for day, versions in enumerate((["1", "2", "3", "4"], ["1", "2", "3", "4", "5"], ["1", "1", "1", "1"])):
            service.advance(noon(day))
            units = "abcd" + "a" * (len(versions) - 4)
            reports = [observed(service, noon(day), u, "ios", v) for u, v in zip(units, versions, strict=True)]
            assert submitted(service, reports).accepted == len(versions)
        service.advance(due(2))
        assert states(service, WindowState.LOST) == [("1d", 24)]
        assert [values(service, ["version"], "units", day) for day in (0, 1, 2)] == [{}, {}, {("1",): 4}]
        assert values(service, [], "units") == {(): 4}
        lost = {e.fields["window_start_ms"] for e in service.context.store.ledger() if e.fields["mechanism"] == "lost"}
        assert lost == {H + DAY_MS}


def test_real_noise_hides_one_unit_and_shows_many(tmp_path: Path) -> None:
    """OpenDP's selection hides a version of one unit and shows one of many, each far on its side of the threshold."""
    many = [f"unit-{i}" for i in range(120)]
    with running(tmp_path / "state", plan=NOISY_PLAN, mechanisms=OpenDPMechanisms()) as service:
        service.consent(*many, "loner", tuning=True)
        service.clock.advance_to(noon(0))
        reports = [observed(service, noon(0), unit, "ios", "1.0") for unit in many]
        reports.append(observed(service, noon(0), "loner", "ios", "66.6"))
        assert submitted(service, reports).accepted == 121
        service.advance(due(0))
        (entry,) = [e.fields for e in service.context.store.ledger() if e.fields["threshold"] is not None]
        threshold, scale = int(str(entry["threshold"])), float(str(entry["scale"]))
        assert 1 + 5 * scale < threshold < 120 - 8 * scale
        units, events = rows(service, ["version"])
        for row, truth, std in ((units, 120, scale), (events, 240, None)):
            assert (row["version"], row["selected"]) == ("1.0", True)
            assert row["noise_std"] == pytest.approx(std or row["noise_std"])
            assert row["value"] == pytest.approx(truth, abs=8 * float(str(row["noise_std"])))
            assert row["interval_low"] < row["value"] < row["interval_high"]  # type: ignore[operator]
