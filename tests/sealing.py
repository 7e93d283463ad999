"""What tests ask of sealing: what a tally says by partition, a case without a unit, and what one unit may move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from hushmeter.model.arrays import Bool, UInt64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import Currency, Measurement
from hushmeter.model.plan import Plan
from hushmeter.model.report import ReportBatch, pruned_tokens
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import HOUR_MS, Window
from hushmeter.plan.measurements import measurements_of
from hushmeter.sealing.seal import Participation, seal
from tests.oracle.contribution import Rules
from tests.oracle.rows import Unit
from tests.oracle.seal import Sealed, oracle_seal
from tests.strategies import Case, unkept

Engine = Callable[[Case], Sealed]


def terms_of(case: Case) -> dict[str, Any]:
    """What a case's rows are sealed under, by name."""
    names = ("catalog", "consent", "salt", "copy_key", "participation")
    return {name: getattr(case, name) for name in names}


def tally_of(case: Case) -> Tally:
    """A case, sealed."""
    return seal(case.rows, case.window, **terms_of(case))


def said(tally: Tally) -> Sealed:
    """What a tally says by partition, so that tallies compare whatever rows their partitions have."""
    vectors = {}
    for key, vector in tally.vectors.items():
        partitions = tally.keys.get((key.metric, key.view), range(len(vector)))
        vectors[key] = dict(zip(partitions, vector.tolist(), strict=True))
    kept = {metric: sorted((high, low) for high, low in units.tolist()) for metric, units in tally.kept.items()}
    return Sealed(vectors, dict(tally.keys), kept)


def sealed(case: Case) -> Sealed:
    """What the core says of a case."""
    return said(tally_of(case))


def oracle(case: Case, rules: Rules | None = None) -> Sealed:
    """What the oracle says of a case."""
    return oracle_seal(case.rows, case.window, **terms_of(case), rules=rules)


def claims(plan: Plan, resolution: str) -> dict[VectorKey, Measurement]:
    """What the plan claims of each vector."""
    return {VectorKey(m.metric, m.view, m.name): m for m in measurements_of(plan) if m.resolution == resolution}


def movement(whole: Sealed, without: Sealed, key: VectorKey) -> list[list[int]]:
    """The rows of a vector in which two tallies differ, and by how much; a partition that one lacks is zero there."""
    first, second = whole.vectors[key], without.vectors[key]
    moved = []
    for partition in {**first, **second}:
        row, other = first.get(partition), second.get(partition)
        zeros = [0] * len(row or other or ())
        difference = [a - b for a, b in zip(row or zeros, other or zeros, strict=True)]
        if any(difference):
            moved.append(difference)
    return moved


def assert_claim(claim: Measurement, moved: list[list[int]]) -> None:
    """Fails unless the rows that one unit moves are as few and as small as a measurement claims."""
    l1, l2_squared = sum(abs(v) for row in moved for v in row), sum(v * v for row in moved for v in row)
    most = claim.together * claim.bound
    assert len(moved) <= claim.l0, f"{len(moved)} partitions moved, {claim.l0} claimed"
    assert all(sum(map(abs, row)) <= most for row in moved), f"a partition moved beyond the bound {most}"
    assert l1 <= claim.l1, f"moved by {l1} in L1, {claim.l1} claimed"
    assert l2_squared <= claim.l2_squared, f"moved by the root of {l2_squared} in L2, of {claim.l2_squared} claimed"
    assert not claim.selects or all(row in ([1], [-1]) for row in moved), "a unit counts once a private partition"


def assert_sensitivity(case: Case, whole: Sealed, without: Sealed) -> None:
    """Fails unless two tallies that differ in one unit are as close as every measurement claims, in both norms."""
    claimed = claims(case.plan, case.window.resolution)
    assert claimed.keys() == whole.vectors.keys() == without.vectors.keys()
    for key, claim in claimed.items():
        assert_claim(claim, movement(whole, without, key))
        for currency, least in ((Currency.PURE, Fraction(claim.l1) ** 2), (Currency.ZCDP, Fraction(claim.l2_squared))):
            noisy_for = Fraction(claim.sensitivity(currency)) ** 2
            assert least <= noisy_for <= least * (1 + Fraction(1, 10**15))


def _is(pseudonyms: UInt64, unit: Unit) -> Bool:
    same: Bool = (pseudonyms == np.array(unit, np.uint64)).all(axis=1)
    return same


def only_tokens_had(rows: ReportBatch) -> ReportBatch:
    """The same reports with a dictionary of their own tokens alone."""
    tokens, numbers = pruned_tokens(rows.tokens, rows.token_numbers)
    return replace(rows, tokens=tokens, token_numbers=numbers)


def without_unit(case: Case, unit: Unit) -> Case:
    """A case without one unit's whole record: its reports, its consent, and what it was kept in."""
    others = ~_is(case.consent.pseudonyms, unit)
    table = ConsentTable(case.consent.purposes, case.consent.pseudonyms[others], case.consent.given_since_ms[others])
    carried = {}
    for metric, before in case.participation.items():
        stay = ~_is(before.earlier.pseudonyms, unit)
        earlier = replace(before.earlier, pseudonyms=before.earlier.pseudonyms[stay], windows=before.earlier.windows[stay])
        carried[metric] = replace(before, earlier=earlier)
    rows = only_tokens_had(case.rows.take(np.flatnonzero(~_is(case.rows.pseudonyms, unit))))
    return replace(case, rows=rows, consent=table, participation=carried)


def only_unit(case: Case, unit: Unit) -> Case:
    """A case with one unit's reports alone."""
    return replace(case, rows=only_tokens_had(case.rows.take(np.flatnonzero(_is(case.rows.pseudonyms, unit)))))


def later(case: Case, hours: int) -> Case:
    """The same reports so many hours later, in the window that is then."""
    by, rows = hours * HOUR_MS, case.rows
    moved = replace(
        rows,
        received_at_ms=rows.received_at_ms + by,
        interval_start_ms=rows.interval_start_ms + by,
        interval_end_ms=rows.interval_end_ms + by,
    )
    window = Window(case.window.resolution, case.window.start_ms + by, case.window.end_ms + by)
    return replace(case, rows=moved, window=window)


def over_hours(hours: list[Case], engine: Engine) -> list[Sealed]:
    """Seals windows of one period in their order, each with what the earlier ones kept (P7)."""
    tallies: list[Sealed] = []
    carried: Mapping[str, Participation] = unkept(hours[0].plan, hours[0].window)
    for case in hours:
        indices = unkept(case.plan, case.window)
        carried = {metric: replace(before, index=indices[metric].index) for metric, before in carried.items()}
        tally = engine(replace(case, participation=carried))
        tallies.append(tally)
        carried = {metric: _keeping(before, tally.kept[metric]) for metric, before in carried.items()}
    return tallies


def _keeping(before: Participation, units: list[Unit]) -> Participation:
    pairs = np.array(units, np.uint64).reshape(len(units), 2)
    return replace(before, earlier=before.earlier.keeping(pairs, before.index))
