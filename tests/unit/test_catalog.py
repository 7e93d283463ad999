from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hushmeter import limits
from hushmeter.errors import InvariantError, PlanError
from hushmeter.model.plan import Dimension, Plan
from hushmeter.plan.catalog import Catalog, SeriesBlock, assign_blocks, signature_of
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from tests.unit.any_plans import any_plans

PLAN = parse_plan(plan_template(dt.date(2026, 3, 2)), dt.date(2026, 3, 2))
CHANGES = st.lists(st.tuples(st.integers(0, len(PLAN.metrics) - 1), st.integers(1, 4)), max_size=8)


def with_values(plan: Plan, metric_index: int, count: int) -> Plan:
    """The plan whose metric has one dimension of so many values."""
    metric = plan.metrics[metric_index]
    dimension = Dimension("size", tuple(f"v{i}" for i in range(count)))
    changed = dataclasses.replace(metric, dimensions=(dimension,), views=((),))
    return dataclasses.replace(plan, metrics=tuple(changed if m is metric else m for m in plan.metrics))


def located_by_loop(plan: Plan, blocks: tuple[SeriesBlock, ...], number: int) -> tuple[int, int] | None:
    """Which metric and place a number has, looked for in every block."""
    for index, metric in enumerate(plan.metrics):
        for block in blocks:
            if (block.metric, block.signature) == (metric.name, signature_of(metric)):
                for place in range(block.size):
                    if block.first + place == number:
                        return index, place
    return None


@given(CHANGES)
def test_series_numbers_are_never_reused(changes: list[tuple[int, int]]) -> None:
    """However often metrics change their dimensions, a number that was assigned once keeps its one meaning."""
    plan, blocks = PLAN, assign_blocks(PLAN)
    meaning: dict[int, tuple[str, str]] = {}
    for metric_index, count in changes:
        plan = with_values(plan, metric_index, count)
        after = assign_blocks(plan, blocks)
        assert set(blocks) <= set(after)
        blocks = after
        for block in blocks:
            for number in range(block.first, block.first + block.size):
                assert meaning.setdefault(number, (block.metric, block.signature)) == (block.metric, block.signature)
    assert sum(b.size for b in blocks) == blocks[-1].first + blocks[-1].size - 1


def test_a_changed_metric_takes_new_numbers_and_finds_its_old_ones_again() -> None:
    """New dimension values take a new block behind all others; the old values, declared again, take the old block."""
    blocks = assign_blocks(PLAN)
    after = assign_blocks(with_values(PLAN, 0, 3), blocks)
    assert after[: len(blocks)] == blocks
    assert after[-1].first == blocks[-1].first + blocks[-1].size
    assert assign_blocks(PLAN, after) == after


@pytest.mark.parametrize("recorded", [(), (SeriesBlock(1, 500, "gone", "00"),)], ids=["fresh", "after a removed metric"])
def test_numbers_begin_behind_what_is_recorded(recorded: tuple[SeriesBlock, ...]) -> None:
    """Zero is nobody's number, and the numbers of a removed metric stay taken."""
    blocks = assign_blocks(PLAN, recorded)
    assert blocks[len(recorded)].first == 1 + sum(b.size for b in recorded)


@given(any_plans(), CHANGES)
def test_series_are_located_as_a_loop_would(plan: Plan, changes: list[tuple[int, int]]) -> None:
    """`locate` finds each number's metric and place, also between blocks of older plans, and -1 where there is none."""
    blocks = assign_blocks(plan)
    for metric_index, count in changes:
        plan = with_values(plan, metric_index % len(plan.metrics), count)
        blocks = assign_blocks(plan, blocks)
    catalog = Catalog.of(plan, blocks)
    last = blocks[-1].first + blocks[-1].size
    numbers = [*range(min(last + 3, 200)), last - 1, last, 2**32 - 1]
    metrics, places = catalog.locate(np.array(numbers, np.uint32))
    found = [(m, p) if m >= 0 else None for m, p in zip(metrics.tolist(), places.tolist(), strict=True)]
    assert found == [located_by_loop(plan, blocks, n) for n in numbers]
    assert set(metrics.tolist()) - {-1} <= set(range(len(plan.metrics)))


@given(any_plans())
def test_each_number_of_a_plan_leads_back_to_itself(plan: Plan) -> None:
    """A metric's first number plus a place is located as that metric and that place."""
    catalog = Catalog.of(plan, assign_blocks(plan))
    for index, metric in enumerate(plan.metrics):
        numbers = catalog.first_series(index) + np.arange(metric.series_count)
        metrics, places = catalog.locate(numbers.astype(np.uint32))
        assert (metrics == index).all()
        assert places.tolist() == list(range(metric.series_count))


def test_no_numbers_are_located_nowhere() -> None:
    """An empty column stays empty."""
    metrics, places = Catalog.of(PLAN, assign_blocks(PLAN)).locate(np.array([], np.uint32))
    assert (len(metrics), len(places)) == (0, 0)


def test_a_plan_whose_blocks_are_not_recorded_has_no_catalog() -> None:
    """A catalog without a recorded block for each metric is a defect, told by the metric's name."""
    with pytest.raises(InvariantError, match="metric codec has no recorded series numbers"):
        Catalog.of(PLAN, [b for b in assign_blocks(PLAN) if b.metric != "codec"])


def test_series_numbers_run_out_with_a_sentence() -> None:
    """Numbers up to the limit are assigned; one more is refused as a problem of the plan."""
    needed = sum(m.series_count for m in PLAN.metrics)
    room = limits.SERIES_MAX - needed - 1
    assert assign_blocks(PLAN, [SeriesBlock(1, room, "old", "00")])[-1].first < limits.SERIES_MAX
    with pytest.raises(PlanError, match="series numbers; at most 2147483648"):
        assign_blocks(PLAN, [SeriesBlock(1, room + 1, "old", "00")])


@pytest.mark.parametrize("change", ["unit", "values", "order"])
def test_the_signature_holds_what_a_number_means(change: str) -> None:
    """Another unit, another value or another order of values is another signature; text and bounds are not."""
    metric = PLAN.metric("calls")
    platform = metric.dimensions[0]
    changed = {
        "unit": dataclasses.replace(metric, unit="meetings"),
        "values": dataclasses.replace(metric, dimensions=(Dimension("platform", (*platform.values, "tv")),)),
        "order": dataclasses.replace(metric, dimensions=(Dimension("platform", platform.values[::-1]),)),
    }[change]
    assert signature_of(changed) != signature_of(metric)
    assert signature_of(
        dataclasses.replace(metric, description="other", at=("1d",), bounds={"1d": metric.bounds["1d"]})
    ) == (signature_of(metric))
