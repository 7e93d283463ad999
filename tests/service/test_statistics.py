"""Every statistic over real sockets, without noise: what is answered is what the bounds leave of what was sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.ports import Mechanisms
from hushmeter.testing.mechanisms import ExactMechanisms, SeededMechanisms
from tests.plans import plan_text
from tests.service.running_service import FOUNDED_MS, Running, running

H = FOUNDED_MS

PLAN = plan_text(
    """
  setup:
    kind: distribution
    unit: ms
    edges: [10, 100]
    at: [1d]
    dimensions:
      platform: {values: [ios, web], scope: unit}
      version: {open: true, max_length: 8, pattern: '[0-9]+([.][0-9]+)?', expected_values: 4}
    views: [[], [version], [platform, version]]
    per_unit: {range: [0, 1000], max_events: 4, max_partitions: 2}
    statistics: [units, events, mean, variance, histogram, {quantiles: [0.5, 0.9]}, clamped]
  stalls:
    <<: *common
    kind: ratio
    unit: ms/s
    edges: []
    dimensions: {}
    views: [[]]
    weighting: event
    per_unit: {range: [0, 1000], max_denominator: 100}
    statistics: [units, ratio, numerator, denominator]
  codec:
    <<: *common
    kind: choice
    unit: ""
    edges: []
    options: [opus, lyra, evs]
    dimensions: {}
    views: [[]]
    per_unit: {}
    statistics: [{top_k: 2}, rate]
  waits:
    <<: *common
    unit: s
    resolution: 0.5
    edges: []
    dimensions: {}
    views: [[]]
    per_unit: {range: [0, 10], max_events: 2}
    statistics: [events, sum, clamped]
  starts:
    <<: *common
    kind: counter
    unit: ""
    edges: []
    at: [1h, 1d]
    dimensions: {platform: {values: [ios, web]}, net: {values: [wifi, wire]}}
    views: [[], [platform], [platform, net]]
    bounding: shared
    per_unit: {range: [0, 10], max_partitions: 2, max_windows: {1h: 2}}
    statistics: [units, sum, variance, clamped]
""",
    category="performance",
    purposes="tuning: Tune., research: Do research.",
    resolutions="1h: {lateness: 10m}, 1d: {lateness: 2h}",
    period="1d",
    delta="1e-6",
)

_UNITS = {"mean": "{}", "sum": "{}", "quantiles": "{}", "ratio": "{}", "numerator": "{}", "variance": "{}^2"}
"""Of the statistics that have a unit, how it is made of the metric's."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with _day(tmp_path_factory.mktemp("statistics") / "state", ExactMechanisms()) as service:
        yield service


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with _day(tmp_path_factory.mktemp("noisy") / "state", SeededMechanisms(20_261_123)) as service:
        yield service


@contextmanager
def _day(state: Path, mechanisms: Mechanisms) -> Iterator[Running]:
    """Three units report in three hours of a day; the third allows research too."""
    with running(state, plan=PLAN, mechanisms=mechanisms) as service:
        service.consent("a", "b", tuning=True)
        service.consent("c", tuning=True, research=True)
        for hour in range(3):
            end = H + hour * HOUR_MS + 30 * MINUTE_MS
            service.clock.advance_to(end)
            reports = []
            for unit, platform, version in (("a", "ios", "1.0"), ("b", "ios", "1.0"), ("c", "web", "2")):
                recorder = service.client.recorder(unit)
                recorder.count("starts", 3, platform=platform, net="wifi")
                recorder.count("starts", 4, platform=platform, net="wire")
                if hour == 0:
                    for value in (5, 50, 500):
                        recorder.observe("setup", value, platform=platform, version=version)
                    recorder.relate("stalls", 30, 60)
                    recorder.relate("stalls", 600, 20 if unit == "c" else 40)
                    recorder.choose("codec", "lyra" if unit == "c" else "opus")
                    for _ in range(3 if unit == "b" else 1):
                        recorder.observe("waits", 6)
                reports.append(recorder.report(end - MINUTE_MS, end))
            assert service.client.submit([r for r in reports if r]).accepted == 3
        service.advance(H + DAY_MS + 2 * HOUR_MS)
        yield service


def rows(service: Running, metric: str, view: tuple[str, ...], resolution: str, statistic: str) -> list[dict[str, object]]:
    asked = service.analyst.releases(metric, view, resolution=resolution, statistics=[statistic], end=H + DAY_MS)
    return asked.to_pylist()


def values(service: Running, metric: str, statistic: str, view: tuple[str, ...] = (), at: str = "1d") -> list[float]:
    return [round(float(str(r["value"])), 6) for r in rows(service, metric, view, at, statistic)]


def test_totals_of_a_distribution(service: Running) -> None:
    """Mean, variance, bins and quantiles of three values a unit are those of the values."""
    assert values(service, "setup", "units") == [3]
    assert values(service, "setup", "events") == [9]
    assert values(service, "setup", "mean") == [185]
    exact = (5**2 + 50**2 + 500**2) / 3 - 185**2
    assert values(service, "setup", "variance") == [pytest.approx(exact, abs=1)]
    assert values(service, "setup", "histogram") == pytest.approx([1, 1, 1], abs=1e-4)
    median, ninth = values(service, "setup", "quantiles")
    assert median == pytest.approx(55, abs=0.1), "half of the middle bin, (10, 100]"
    assert ninth == pytest.approx(730, abs=1), "seven tenths of the last bin, (100, 1000]"
    assert values(service, "setup", "clamped") == [0]


def test_private_partitions_show_from_the_threshold_on(service: Running) -> None:
    """Two units share a version and are shown; the version of one unit alone stays hidden, in every open view."""
    found = rows(service, "setup", ("version",), "1d", "units")
    assert [(r["version"], r["value"], r["selected"]) for r in found] == [("1.0", 2, True)]
    both = rows(service, "setup", ("platform", "version"), "1d", "mean")
    assert [(r["platform"], r["version"], r["value"]) for r in both] == [("ios", "1.0", 185)]
    catalog = next(m for m in service.analyst.metrics().metrics if m.name == "setup")
    assert [v.private_partitions for v in catalog.views] == [False, True, True]
    assert 0 < catalog.views[1].expected_hidden_share < 1


def test_ratio_bounds_numerator_and_denominator_together(service: Running) -> None:
    """A unit with a denominator of 100 of at most 100 stays whole, and the ratio is that of the sums."""
    assert values(service, "stalls", "denominator") == [280]
    assert values(service, "stalls", "numerator") == [pytest.approx(1890, abs=1.5)]
    assert values(service, "stalls", "ratio") == [pytest.approx(1890 / 280, abs=0.01)]
    assert rows(service, "stalls", (), "1d", "ratio")[0]["unit"] == "ms/s"


def test_top_k_ranks_options(service: Running) -> None:
    """The two most frequent options are told, the most frequent first, and marked as selected."""
    found = rows(service, "codec", (), "1d", "top_k")
    assert [(r["component"], r["value"], r["selected"]) for r in found] == [("opus", 2, True), ("lyra", 1, True)]


def test_shared_bounding_adds_up(service: Running) -> None:
    """With shared bounding the sums of the finest view add up to those of coarser ones, in the first hour."""
    totals = values(service, "starts", "sum", at="1h")
    assert totals[:3] == [21, 21, 0], "two hours of the period count of each unit"
    assert values(service, "starts", "sum", ("platform",), "1h")[:4] == [14, 7, 14, 7]
    assert values(service, "starts", "sum", ("platform", "net"), "1h")[:4] == [6, 8, 3, 4]


def test_views_agree(service: Running) -> None:
    """Consistent sums stand beside the raw ones, add up exactly, and have no more noise."""
    total, parts = rows(service, "starts", (), "1h", "sum"), rows(service, "starts", ("platform",), "1h", "sum")
    assert total[0]["consistent_value"] == pytest.approx(sum(float(str(r["consistent_value"])) for r in parts[:2]))
    assert all(float(str(r["consistent_std"])) <= float(str(r["noise_std"])) for r in total + parts)
    assert total[0]["consistent_as_of"] is not None
    assert rows(service, "starts", (), "1h", "units")[0]["consistent_value"] is None, "a unit may be in two partitions"
    assert rows(service, "setup", (), "1d", "units")[0]["consistent_value"] is None, "its views are bounded one by one"


def test_capped_share_is_told(service: Running) -> None:
    """The third hour has no unit left that may count: the built-in metric says so, and releases are marked."""
    assert values(service, "capped", "rate", ("metric",), "1h")[:3] == [0, 0, 1]
    assert {r["max_windows"] for r in rows(service, "starts", (), "1h", "sum")} == {2}


def test_clamping_is_told(service: Running) -> None:
    """The share of units that bounding altered is told: totals above the range, events beyond the most, and no others."""
    assert values(service, "waits", "events") == [4]
    assert values(service, "waits", "sum") == [24], "of three waits of 6 s two count"
    assert values(service, "waits", "clamped") == [pytest.approx(1 / 3)]
    assert values(service, "starts", "clamped", ("platform", "net"), "1h")[:4] == [0, 0, 0, 0]
    assert values(service, "starts", "clamped", ("platform", "net")) == [0, 1, 0, 1], "3 x 3 is in the range, 3 x 4 is not"
    assert values(service, "starts", "sum", ("platform", "net")) == [18, 20, 9, 10]
    row = rows(service, "waits", (), "1d", "clamped")[0]
    assert 0 <= row["interval_low"] < 1 / 3 < row["interval_high"] <= 1  # type: ignore[operator]


def test_hours_that_count_do_not_bound_days(service: Running) -> None:
    """A bound on the hours that one unit is in leaves its day whole, and the day is not marked."""
    assert values(service, "starts", "sum") == [57], "three hours of 3 by wifi, and of 4 by wire but at most 10"
    assert {r["max_windows"] for r in rows(service, "starts", (), "1d", "sum")} == {0}


def _every_row(service: Running) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Every estimate of every metric, with the metric's unit and the resolution that was asked for."""
    for metric in service.analyst.metrics().metrics:
        for view in metric.views:
            for resolution in metric.resolutions:
                for row in service.analyst.releases(metric.name, view.dimensions, resolution=resolution).to_pylist():
                    yield metric.unit, resolution, row


def test_every_estimate_says_what_it_is(service: Running, noisy: Running) -> None:
    """Each row has its unit, its resolution with a window of that length, and noise; no metric or statistic is without."""
    for served in (service, noisy):
        told = set()
        for unit, resolution, row in _every_row(served):
            assert row["unit"] == (_UNITS.get(str(row["statistic"]), "").format(unit) if unit else "")
            length = row["window_end"] - row["window_start"]  # type: ignore[operator]
            assert (row["resolution"], length.total_seconds()) == (resolution, {"1h": 3_600, "1d": 86_400}[resolution])
            assert 0 < float(str(row["noise_std"])) < math.inf
            told.add(((row.get("by_metric") and "capped") or row["metric"], resolution, row["statistic"]))
        listed = {(m.name, r, s) for m in served.analyst.metrics().metrics for r in m.resolutions for s in m.statistics}
        assert told == listed


def test_every_estimate_lies_in_its_interval(service: Running, noisy: Running) -> None:
    """Intervals hold their estimates; where noise took one out of what is possible, they end where it left (E3)."""
    outside = 0
    for served in (service, noisy):
        for _, _, row in _every_row(served):
            for value, low, high in (
                ("value", "interval_low", "interval_high"),
                ("consistent_value", "consistent_low", "consistent_high"),
            ):
                if row[value] is None:
                    continue
                estimate, lowest, highest = (float(str(row[name])) for name in (value, low, high))
                assert 0 <= lowest <= max(estimate, 0) <= highest
                assert row["statistic"] not in {"rate", "clamped"} or highest <= 1
                outside += estimate < 0
                assert served is noisy or estimate >= 0
    assert outside > 0, "without negative estimates the rule would not have been tried"


def test_participants_are_counted_by_purpose(service: Running) -> None:
    """All three units allow tuning, one allows research: counted once each, whatever they reported."""
    found = rows(service, "participants", ("purpose",), "1d", "units")
    assert [(r["purpose"], r["value"]) for r in found] == [("tuning", 3), ("research", 1)]
    assert values(service, "participants", "units", ("purpose",), "1h")[:4] == [3, 1, 3, 1]
