from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hushmeter.consent.register import bucket_of
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import Measurement
from hushmeter.model.plan import Plan
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.plan.measurements import measurements_of
from hushmeter.sealing.seal import empty_tally, seal
from tests.oracle.seal import Row, Rules, oracle_seal
from tests.strategies import DAY, HOUR, UNITS, Case, batch_of, cases

Vectors = Mapping[VectorKey, Sequence[Sequence[int]]]


def sealed(case: Case) -> Tally:
    return seal(case.rows, case.window, catalog=case.catalog, consent=case.consent, salt=case.salt)


def as_lists(tally: Tally) -> dict[VectorKey, list[list[int]]]:
    return {key: vector.tolist() for key, vector in tally.vectors.items()}


def oracle(case: Case, rules: Rules | None = None) -> dict[VectorKey, list[list[int]]]:
    return oracle_seal(case.rows, case.window, catalog=case.catalog, consent=case.consent, salt=case.salt, rules=rules)


def claims(plan: Plan, resolution: str) -> dict[VectorKey, Measurement]:
    return {VectorKey(m.metric, m.view, m.name): m for m in measurements_of(plan) if m.resolution == resolution}


def assert_sensitivity(case: Case, whole: Vectors, without: Vectors) -> None:
    """Fails unless two tallies that differ in one unit are as close as every measurement claims."""
    for key, claim in claims(case.catalog.plan, case.window.resolution).items():
        difference = [
            [a - b for a, b in zip(row, other, strict=True)] for row, other in zip(whole[key], without[key], strict=True)
        ]
        touched = [row for row in difference if any(row)]
        assert len(touched) <= claim.l0, f"{key}: {len(touched)} partitions moved, {claim.l0} claimed"
        assert all(sum(v * v for v in row) <= claim.bound**2 for row in touched), f"{key}: beyond the bound"
        assert sum(v * v for row in difference for v in row) <= claim.l2_squared, f"{key}: beyond the sensitivity"
        assert claim.l2_sensitivity**2 >= claim.l2_squared * (1 - 1e-15)


def without_unit(case: Case, unit: tuple[int, int]) -> Case:
    mine = (case.rows.pseudonyms == np.array(unit, np.uint64)).all(axis=1)
    other = (case.consent.pseudonyms != np.array(unit, np.uint64)).any(axis=1)
    table = ConsentTable(case.consent.purposes, case.consent.pseudonyms[other], case.consent.given_since_ms[other])
    return replace(case, rows=case.rows.take(np.flatnonzero(~mine)), consent=table)


@settings(max_examples=600)
@given(cases())
def test_the_numpy_core_equals_the_oracle(case: Case) -> None:
    """The fast path and the slow path agree on every vector."""
    assert as_lists(sealed(case)) == oracle(case)


@given(cases(), st.sampled_from(UNITS))
def test_one_unit_moves_a_tally_within_its_claim(case: Case, unit: tuple[int, int]) -> None:
    """Adding or removing one unit's whole record moves each vector by at most the claimed sensitivity (P4-P6)."""
    assert_sensitivity(case, as_lists(sealed(case)), as_lists(sealed(without_unit(case, unit))))


@given(cases(), st.sampled_from(UNITS))
def test_other_units_are_untouched(case: Case, unit: tuple[int, int]) -> None:
    """What a unit adds does not depend on any other unit (P1)."""
    alone = without_unit(case, unit)
    mine = np.flatnonzero((case.rows.pseudonyms == np.array(unit, np.uint64)).all(axis=1))
    own = replace(case, rows=case.rows.take(mine))
    assert as_lists(sealed(alone) + sealed(own)) == as_lists(sealed(case))


@given(cases(), st.integers(1, 3))
def test_buckets_add_up(case: Case, bits: int) -> None:
    """Sealing buckets of units one by one and adding is sealing all, in any order."""
    tops = case.rows.pseudonyms[:, 0] >> np.uint64(64 - bits)
    tallies = []
    for bucket in range(2**bits):
        rows = case.rows.take(np.flatnonzero(tops == np.uint64(bucket)))
        tallies.append(sealed(replace(case, rows=rows, consent=bucket_of(case.consent, bucket, bits))))
    forward, backward = empty_tally(case.catalog.plan, case.window), empty_tally(case.catalog.plan, case.window)
    for tally in tallies:
        forward += tally
    for tally in reversed(tallies):
        backward = tally + backward
    assert as_lists(forward) == as_lists(backward) == as_lists(sealed(case))


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(case: Case, random: object) -> None:
    """A tally is a function of the set of reports, not of their order of arrival (P2)."""
    order = list(range(len(case.rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = replace(case, rows=case.rows.take(np.array(order, np.int64)))
    assert as_lists(sealed(shuffled)) == as_lists(sealed(case))


@given(cases())
def test_everything_twice_counts_once(case: Case) -> None:
    """Duplicates of (pseudonym, report_id) count once, also when every row is there twice (P2)."""
    twice = replace(case, rows=ReportBatch.concat([case.rows, case.rows]))
    assert as_lists(sealed(twice)) == as_lists(sealed(case))


@given(cases())
def test_nobody_is_zeros(case: Case) -> None:
    """A window without rows, or without consent, has a tally of zeros for every vector (T3, P8)."""
    nobody = ConsentTable.of(case.consent.purposes, [])
    for empty in (replace(case, rows=ReportBatch.empty()), replace(case, consent=nobody)):
        tally = sealed(empty)
        assert tally.vectors.keys() == claims(case.catalog.plan, case.window.resolution).keys()
        assert all(not vector.any() for vector in tally.vectors.values())


@given(cases())
def test_a_late_row_misses_its_hour_and_is_in_its_day(case: Case) -> None:
    """A report that arrives after the hour's deadline changes no tally of the hour, and counts in the day (T2)."""
    if case.window != HOUR:
        return
    late = np.full(len(case.rows), HOUR.end_ms + 6 * 3_600_000, np.int64)
    rows = replace(case.rows, received_at_ms=late)
    hour = sealed(replace(case, rows=rows))
    assert all(not vector.any() for vector in hour.vectors.values())
    in_time = replace(case.rows, received_at_ms=np.full(len(rows), HOUR.end_ms, np.int64))
    day = replace(case, window=DAY)
    assert as_lists(sealed(replace(day, rows=rows))) == as_lists(sealed(replace(day, rows=in_time)))


def one_counter(values: Sequence[tuple[int, int]]) -> Case:
    """A case by hand: one counter `m0` with 4 partitions, two of which one unit may touch, in [0, 5]."""
    from hushmeter.model.plan import Dimension, Kind, Metric, Statistic, Weighting
    from tests import strategies as s

    metric = Metric(
        "m0", "-", "-", DAY.end_ms + 1, s.Category.DIAGNOSTIC, s.PURPOSES[:1], Kind.COUNTER, "", s.Decimal(1), (), (),
        (Dimension("d0", ("a", "b", "c", "d")),), (("d0",),), ("1h", "1d"),
        dict.fromkeys(("1h", "1d"), s.ContributionBounds(2, 0, 5, 1)), Weighting.UNIT, (Statistic.SUM,), s.Fraction(1),
    )  # fmt: skip
    privacy = s.Privacy("device", s.Span.parse("1w"), s.Decimal(4), s.Decimal("1e-8"), 100)
    plan = Plan("hand", 1, privacy, s.RESOLUTIONS, tuple(s.Purpose(p, p) for p in s.PURPOSES), (metric,), "00" * 32)
    catalog = s.Catalog.of(plan, s.assign_blocks(plan))
    rows = [((1, 1), i, HOUR.end_ms, HOUR.end_ms - 1, HOUR.end_ms, [(series, v)]) for i, (series, v) in enumerate(values)]
    consent = ConsentTable.of(s.PURPOSES, [((1).to_bytes(8, "big") * 2, (0, 0))])
    return Case(catalog, HOUR, batch_of(rows), consent, bytes(16))


@pytest.mark.parametrize("rules", [Rules(extra_partitions=1), Rules(clamps=False)], ids=["l0 off by one", "no clamp"])
def test_the_sensitivity_check_catches_a_wrong_engine(rules: Rules) -> None:
    """`assert_sensitivity` fails for an engine that keeps one partition too many, and for one that does not clamp."""
    case = one_counter([(1, 50), (2, 5), (3, 5), (4, 5)])
    empty = oracle(replace(case, rows=ReportBatch.empty()))
    assert_sensitivity(case, oracle(case), empty)
    with pytest.raises(AssertionError, match=r"claimed|beyond"):
        assert_sensitivity(case, oracle(case, rules), empty)


def test_dedupe_by_report_id_alone_is_caught() -> None:
    """An engine that takes two units' reports with one report_id for one report differs from the oracle."""

    def by_id_alone(row: Row) -> object:
        return row.report_id

    case = one_counter([(1, 5)])
    both = ReportBatch.concat([case.rows, replace(case.rows, pseudonyms=np.array([[2, 2]], np.uint64))])
    table = ConsentTable.of(case.consent.purposes, [(n.to_bytes(8, "big") * 2, (0, 0)) for n in (1, 2)])
    case = replace(case, rows=both, consent=table)
    assert as_lists(sealed(case)) == oracle(case) != oracle(case, Rules(same_report=by_id_alone))


def test_rounding_up_is_caught() -> None:
    """An engine that rounds weights up exceeds the bound of a unit's weight (P6)."""
    from hushmeter.model.measurement import MeasurementName
    from hushmeter.model.plan import Category, Kind, Metric, Statistic, Weighting
    from hushmeter.plan.measurements import bound_of
    from tests.oracle.seal import contribution
    from tests.strategies import ContributionBounds, Decimal, Fraction

    bounds = ContributionBounds(1, 0, 1, 1)
    choice = Metric(
        "c", "-", "-", 1, Category.DIAGNOSTIC, ("p",), Kind.CHOICE, "", Decimal(1), (), ("a", "b", "c"), (), ((),), ("1h",),
        {"1h": bounds}, Weighting.UNIT, (Statistic.RATE,), Fraction(1),
    )  # fmt: skip
    bound = bound_of(choice, MeasurementName.WEIGHTS, bounds)
    assert sum(contribution(MeasurementName.WEIGHTS, choice, bounds, [1, 1, 1], Rules())) <= bound
    assert sum(contribution(MeasurementName.WEIGHTS, choice, bounds, [1, 1, 1], Rules(rounds_up=True))) > bound
