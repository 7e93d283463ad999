"""The checks of sealing are checked: an engine with one wrong rule fails them, and the right one passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import (
    ContributionBounds,
    Dimension,
    Kind,
    Metric,
    OpenValues,
    Statistic,
    Weighting,
)
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import VectorKey
from hushmeter.model.time import HOUR_MS, Window
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.plan.measurements import bound_of
from tests.oracle.contribution import Contribution, Rules
from tests.oracle.rows import Row, Unit, content_digest
from tests.sealing import (
    assert_claim,
    assert_sensitivity,
    claims,
    later,
    movement,
    oracle,
    over_hours,
    sealed,
    without_unit,
)
from tests.strategies import DAY, HOUR, PURPOSES, STARTS, UNITS, Case, batch_of, plan_of, unkept

(PLATFORM,) = STARTS.dimensions
SIZE = Dimension("size", ("s", "m"))
VERSION = Dimension("version", (), open=OpenValues(".*", 8, 10))
ME, YOU, THEM = UNITS[:3]

Sent = Sequence[tuple[Unit, int, int, bytes | None]]


def hour_of(metric: Metric, sent: Sent) -> Case:
    """An hour with one report for each (unit, series, value, token); everybody allows everything."""
    plan = plan_of([metric])
    rows = [(unit, i, HOUR.end_ms, HOUR.end_ms - 1, HOUR.end_ms, [(*point,)]) for i, (unit, *point) in enumerate(sent)]
    allowed = [(high.to_bytes(8, "big") + low.to_bytes(8, "big"), (0, 0)) for high, low in UNITS]
    table = ConsentTable.of(PURPOSES, allowed)
    return Case(Catalog.of(plan, assign_blocks(plan)), HOUR, batch_of(rows), table, bytes(16), unkept(plan, HOUR))


EVERYWHERE: Sent = [(ME, series, 50, None) for series in (1, 2, 3, 4)]
VERSIONS = replace(STARTS, dimensions=(VERSION,), views=(("version",),))
# Platform is one to a unit, so that a view of platforms alone is touched once however many rows are kept.
SCOPED = replace(
    STARTS,
    dimensions=(replace(PLATFORM, per_unit=True), SIZE),
    views=(("platform", "size"), ("platform",)),
    statistics=(Statistic.UNITS, Statistic.SUM),
    shared_bounding=True,
)
EVERY_CELL: Sent = [(ME, series, 5, None) for series in range(1, 9)]
TOKENS_OF_ME: Sent = [(ME, 1, 5, token) for token in (b"", b"1.0", b"1.00")]
TOKENS_OF_ALL: Sent = [(ME, 1, 5, b""), (YOU, 1, 5, b"1.0"), (THEM, 1, 5, b"1.0")]


@pytest.mark.parametrize(
    ("rules", "case"),
    [
        pytest.param(Rules(extra_partitions=1), hour_of(STARTS, EVERYWHERE), id="l0 off by one"),
        pytest.param(Rules(clamps=False), hour_of(STARTS, EVERYWHERE), id="no clamp"),
        pytest.param(Rules(extra_partitions=1), hour_of(VERSIONS, TOKENS_OF_ME), id="l0 of tokens off by one"),
        pytest.param(Rules(many_scopes=True), hour_of(SCOPED, EVERY_CELL), id="several values of a unit's own"),
        pytest.param(Rules(tokens_of_all=1), hour_of(VERSIONS, TOKENS_OF_ALL), id="a shared limit of tokens"),
    ],
)
def test_the_sensitivity_check_catches_a_wrong_engine(rules: Rules, case: Case) -> None:
    """`assert_sensitivity` holds for the right rules and fails for an engine with a wrong one (P1, P4)."""
    without = without_unit(case, ME)
    assert sealed(case) == oracle(case)
    assert_sensitivity(case, oracle(case), oracle(without))
    with pytest.raises(AssertionError, match=r"claimed|beyond"):
        assert_sensitivity(case, oracle(case, rules), oracle(without, rules))


@pytest.mark.parametrize(
    ("most", "view", "together", "moved"),
    [(2, (), 2, [10]), (3, ("platform",), 2, [10, 5]), (4, ("platform",), 2, [10, 10])],
)
def test_rows_that_fall_together_reach_the_claim(most: int, view: tuple[str, ...], together: int, moved: list[int]) -> None:
    """Rows of one unit that share a coarser partition move it by all their bounds, just as far as is claimed."""
    shared = replace(
        STARTS,
        dimensions=(PLATFORM, SIZE),
        views=(("platform", "size"), view),
        bounds={"1h": ContributionBounds(most, 0, 5, 1)},
        shared_bounding=True,
    )
    case = hour_of(shared, EVERY_CELL[:most])
    key = VectorKey("starts", view, MeasurementName.SUM)
    claim, found = claims(case.plan, "1h")[key], movement(sealed(case), sealed(without_unit(case, ME)), key)
    assert found == [[v] for v in moved]
    assert (claim.l0, claim.together, claim.l1, claim.l2_squared) == (most, together, sum(moved), sum(v * v for v in moved))
    assert_claim(claim, found)
    with pytest.raises(AssertionError, match="beyond"):
        assert_claim(replace(claim, together=1), found)


def test_a_cap_off_by_one_is_caught() -> None:
    """An engine that keeps one window too many moves more windows of a period than the plan claims (P7)."""
    capped = replace(STARTS, bounds={"1h": ContributionBounds(2, 0, 5, 1, 2)})
    hours = [later(hour_of(capped, EVERYWHERE), hour) for hour in range(4)]
    empty = [without_unit(case, ME) for case in hours]
    key = VectorKey("starts", ("platform",), MeasurementName.SUM)

    def moved(rules: Rules) -> int:
        whole, without = (over_hours(c, lambda case: oracle(case, rules)) for c in (hours, empty))
        return sum(bool(movement(a, b, key)) for a, b in zip(whole, without, strict=True))

    assert claims(hours[0].plan, "1h")[key].windows == 2
    assert over_hours(hours, sealed) == over_hours(hours, oracle)
    assert moved(Rules()) == 2
    assert moved(Rules(extra_windows=1)) == 3


def test_dedupe_by_report_id_alone_is_caught() -> None:
    """An engine that takes two units' reports with one report_id for one report differs from the oracle (P2)."""

    def by_id_alone(row: Row, _window: int) -> object:
        return row.report_id

    case = hour_of(STARTS, [(ME, 1, 5, None)])
    yours = replace(case.rows, pseudonyms=np.array([YOU], np.uint64))
    case = replace(case, rows=ReportBatch.concat([case.rows, yours]))
    assert sealed(case) == oracle(case) != oracle(case, Rules(same_report=by_id_alone))


def unwindowed(row: Row, _window: int) -> object:
    """A wrong rule: one id in two storage windows is one report."""
    return row.unit, row.report_id


def smallest_content(row: Row, key: bytes) -> tuple[int, bytes]:
    """A wrong rule: whichever copy has the smallest hash counts, however late it came."""
    return 0, content_digest(row, key)


def without_a_key(row: Row, _key: bytes) -> tuple[int, bytes]:
    """A wrong rule: of copies of one millisecond the unit can tell beforehand which one counts."""
    return row.received_at_ms, content_digest(row, b"")


@pytest.mark.parametrize(
    ("rules", "window"),
    [
        pytest.param(Rules(same_report=unwindowed), DAY, id="one id in two hours is one report"),
        pytest.param(Rules(counts_first=smallest_content), DAY, id="a later copy counts"),
        pytest.param(Rules(counts_first=without_a_key), HOUR, id="copies told apart without a key"),
        pytest.param(Rules(assigned_first=True), HOUR, id="another copy counts where the first one is too long"),
    ],
)
def test_another_rule_for_copies_is_caught(rules: Rules, window: Window) -> None:
    """An engine that takes other rows for one report, or another copy of it, differs from the oracle (P2)."""
    received, end, first = HOUR.end_ms, HOUR.end_ms, 1
    day_before = HOUR.start_ms - 20 * HOUR_MS
    copies = [(ME, i, received, end - 1, end, [(first, value, None)]) for i in range(8) for value in (1, 2)]
    copies += [(ME, 8 + i, received + value, end - 1, end, [(first, value, None)]) for i in range(8) for value in (1, 2)]
    copies += [(ME, 0, received, end - 1 - HOUR_MS, end - HOUR_MS, [(first, 4, None)])]
    copies += [
        (ME, 16, received, day_before, end, [(first, 8, None)]),
        (ME, 16, received + 1, end - 1, end, [(first, 16, None)]),
    ]
    metric = replace(STARTS, at=("1h", "1d"), bounds=dict.fromkeys(("1h", "1d"), ContributionBounds(2, 0, 1_000, 1)))
    case = hour_of(metric, [])
    case = replace(case, window=window, rows=batch_of(copies), participation=unkept(case.plan, window), copy_key=b"key" * 8)
    assert sealed(case) == oracle(case) != oracle(case, rules)


@pytest.mark.parametrize("weighting", Weighting)
@pytest.mark.parametrize(
    "rounded", [round, lambda exact: -(-exact.numerator // exact.denominator)], ids=["to nearest", "up"]
)
def test_rounding_a_unit_s_weight_is_caught(rounded: object, weighting: Weighting) -> None:
    """An engine that does not round weights down exceeds the bound of a unit's weight (P6)."""
    choice = replace(STARTS, kind=Kind.CHOICE, options=("a", "b", "c"), weighting=weighting, statistics=(Statistic.RATE,))
    bounds = choice.bounds["1h"]
    bound = bound_of(choice, MeasurementName.WEIGHTS, bounds)

    def weight(rules: Rules) -> int:
        return sum(Contribution(choice, bounds, [2, 2, 3], False, rules).vector(MeasurementName.WEIGHTS))

    assert weight(Rules()) <= bound
    assert weight(Rules(rounded=rounded)) > bound  # type: ignore[arg-type]
