"""The audit's reports: modest units stay within every bound, the greedy one goes beyond each, tokens fit their pattern."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from hushmeter.errors import ConfigError
from hushmeter.model.plan import Kind, Metric
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.reading import parse_recorded
from hushmeter.rehearsal.audit.inputs import Point, greedy, modest, reports_of, tokens_of
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS

PLAN = parse_recorded(AUDIT_PLANS[0])
CATALOG = Catalog.of(PLAN, assign_blocks(PLAN))
Cell = tuple[int, str]
"""Partition and token."""


def cells_of(points: list[Point], metric: Metric) -> dict[Cell, dict[int, int]]:
    """The values of a metric by component, in each of its partitions."""
    first, size = CATALOG.first_series(PLAN.metrics.index(metric)), len(metric.components)
    cells: defaultdict[Cell, dict[int, int]] = defaultdict(dict)
    for series, value, token in points:
        if first <= series < first + size * metric.partitions:
            cells[(series - first) // size, token][(series - first) % size] = value
    return cells


def events_of(values: dict[int, int], metric: Metric) -> int:
    """How many events one partition's values have; a counter's value is one."""
    if metric.kind is Kind.COUNTER:
        return 1
    return values[0] if metric.kind is Kind.RATIO else sum(values.get(c, 0) for c in range(metric.count_components))


def sums_of(values: dict[int, int], metric: Metric) -> list[int]:
    """What one partition's values add up to, where its kind has values."""
    at = {Kind.COUNTER: 0, Kind.RATIO: 1, Kind.DISTRIBUTION: metric.count_components}.get(metric.kind)
    return [] if at is None else [values[at]]


@pytest.mark.parametrize("metric", PLAN.metrics, ids=lambda m: m.name)
def test_the_greedy_unit_goes_beyond_every_bound(metric: Metric) -> None:
    """It touches every partition and more tokens than it may, and has more events than count, at the range's upper end."""
    bounds = next(iter(metric.bounds.values()))
    cells = cells_of(greedy(CATALOG, PLAN.purpose_names), metric)
    opened = any(d.open for d in metric.dimensions)
    assert {partition for partition, _ in cells} == set(range(metric.partitions))
    assert len(cells) > bounds.max_partitions or len(cells) == metric.partitions
    assert all(bool(token) is opened for _, token in cells)
    for values in cells.values():
        assert metric.kind is Kind.COUNTER or events_of(values, metric) > bounds.max_events
        assert sums_of(values, metric) == [bounds.high * events_of(values, metric)] * len(sums_of(values, metric))


@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("metric", PLAN.metrics, ids=lambda m: m.name)
def test_modest_units_stay_within_every_bound(metric: Metric, *, high: bool) -> None:
    """Each has one event in one of two partitions, at the end of the range that was asked for."""
    bounds = next(iter(metric.bounds.values()))
    touched = set()
    for unit in range(4):
        points = modest(CATALOG, unit, high=high, purposes=PLAN.purpose_names)
        (((partition, _), values),) = cells_of(points, metric).items()
        touched.add(partition)
        assert events_of(values, metric) == 1
        assert sums_of(values, metric) == [bounds.high if high else bounds.low] * len(sums_of(values, metric))
    assert touched == set(range(min(2, metric.partitions)))


@pytest.mark.parametrize("purposes", [(), ("tuning",), ("research",)])
def test_nobody_reports_what_its_purposes_do_not_allow(purposes: tuple[str, ...]) -> None:
    """A metric that asks for a purpose which the unit has not allowed is in no report, greedy or modest."""
    for points in (greedy(CATALOG, purposes), modest(CATALOG, 0, high=True, purposes=purposes)):
        reported = {m.name for m in PLAN.metrics if cells_of(points, m)}
        assert reported == {m.name for m in PLAN.metrics if set(m.purposes) <= set(purposes)}


def test_points_that_are_too_many_go_to_several_reports() -> None:
    """Reports hold 2,000 points at most, each with an id of its own and the tokens that its own points name."""
    points = [(n, n, f"t{n % 3}" if n < 2_000 else "") for n in range(4_001)]
    found = reports_of(points, "u", 7, 10_000, 60, "seed", report_id=bytes(16))
    assert [len(r.series) for r in found] == [2_000, 2_000, 1]
    assert [s for r in found for s in r.series] == [v for r in found for v in r.value] == list(range(4_001))
    assert [list(r.token) for r in found] == [["t0", "t1", "t2"], [], []]
    assert [found[0].token[n - 1] for n in found[0].point_token[:4]] == ["t0", "t1", "t2", "t0"]
    assert found[0].report_id == bytes(16)
    assert len({r.report_id for r in found}) == 3
    assert {(r.unit_id, r.plan_version, r.interval_start_ms, r.interval_end_ms) for r in found} == {("u", 7, 9_940, 10_000)}


@pytest.mark.parametrize(
    "pattern",
    ["[0-9]+([.][0-9]+)*", "ab|cd?", "[a-z]{3}-(x|y)", r"v\d+", "[^a]b?", "a|b", "^.x$", r"[\w][\d]", "[^a]", "[^-x]+?"],
)
def test_tokens_match_their_pattern(pattern: str) -> None:
    """Tokens are made for any pattern, differ, and match it."""
    tokens = tokens_of(pattern, 16, 2)
    assert 1 <= len(tokens) == len(set(tokens)) <= 2
    assert all(re.fullmatch(pattern, token) for token in tokens)


@pytest.mark.parametrize(("pattern", "max_length"), [("[a-z]{9}", 8), ("é[^\x00-\uffff]", 8)])
def test_a_pattern_that_no_token_is_found_for_is_named(pattern: str, max_length: int) -> None:
    """Where none of the tokens that are tried fits, the audit says so instead of leaving the metric out."""
    with pytest.raises(ConfigError, match="finds no token that the pattern") as caught:
        tokens_of(pattern, max_length, 2)
    assert repr(pattern) in str(caught.value)
