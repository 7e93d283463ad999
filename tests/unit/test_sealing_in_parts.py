"""Units that are added bit by bit: private partitions, kept units and capped ones add up to those of all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import ContributionBounds, Dimension, OpenValues, Statistic
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.sealing.seal import Participation, Sealing
from tests.sealing import said
from tests.strategies import HOUR, PURPOSES, STARTS, batch_of, plan_of, unkept

METRIC = replace(
    STARTS,
    dimensions=(Dimension("version", (), open=OpenValues(".*", 8, 10)),),
    views=(("version",),),
    bounds={"1h": ContributionBounds(3, 0, 9, 1, max_windows=1)},
    statistics=(Statistic.UNITS, Statistic.SUM),
)
PLAN = plan_of([METRIC])
CATALOG = Catalog.of(PLAN, assign_blocks(PLAN))
TOKENS = ("\U0001f600".encode(), b"b", "\uffff".encode(), b"a", b"")
"""In no order, and two of them in another order by UTF-16."""
SENT = {
    (1, 1): [b"b", TOKENS[0]],
    (1, 2): [b"b", b"a"],
    (2, 1): [b"a", b"", TOKENS[2]],
    (2, 2): [TOKENS[0], b"b"],
    (3, 3): [b"b"],
}
"""Tokens by unit."""
KEPT_BEFORE = ((2, 2), (3, 3))


def participation() -> dict[str, Participation]:
    """Two units were in as many windows as count."""
    none = unkept(PLAN, HOUR)[METRIC.name]
    return {METRIC.name: replace(none, earlier=none.earlier.keeping(np.array(KEPT_BEFORE, np.uint64), 0))}


def tally_in(*parts: list[tuple[int, int]]) -> Tally:
    """The tally of some units after one another, each of whose points says 2."""
    names = [high.to_bytes(8, "big") + low.to_bytes(8, "big") for high, low in SENT]
    consent = ConsentTable.of(PURPOSES, [(name, (0, 0)) for name in names])
    sealing = Sealing(HOUR, catalog=CATALOG, salt=bytes(16), copy_key=bytes(32), participation=participation())
    first = CATALOG.first_series(0)
    for units in parts:
        rows = [(u, 0, HOUR.end_ms, HOUR.start_ms, HOUR.end_ms, [(first, 2, t) for t in SENT[u]]) for u in units]
        sealing.add(batch_of(rows, TOKENS), consent)
    return sealing.tally()


def test_units_added_in_parts_are_the_units_added_at_once() -> None:
    """Each part that brings partitions that are there, new ones, or both, adds to what was counted before."""
    units = list(SENT)
    whole = said(tally_in(units))
    assert said(tally_in(*([unit] for unit in units))) == whole
    assert said(tally_in(*([unit] for unit in reversed(units)))) == whole
    assert said(tally_in(units[:2], units[2:])) == whole


def test_what_parts_add_up_to() -> None:
    """Private partitions rise by text, with units and sums of all parts; who was in too many windows is counted apart."""
    tally = said(tally_in(*([unit] for unit in SENT)))
    keys = tally.keys[METRIC.name, ("version",)]
    assert keys == tuple(sorted(keys)) == ((0, ""), (0, "a"), (0, "b"), (0, "\uffff"), (0, "\U0001f600"))
    units, sums = (
        tally.vectors[VectorKey(METRIC.name, ("version",), name)] for name in (MeasurementName.UNITS, MeasurementName.SUM)
    )
    assert units == dict(zip(keys, [[1], [2], [2], [1], [1]], strict=True))
    assert sums == dict(zip(keys, [[2], [4], [4], [2], [2]], strict=True))
    assert tally.vectors[VectorKey("capped", ("metric",), MeasurementName.CAPPED)] == {0: [2, 3]}
    assert tally.kept == {METRIC.name: [(1, 1), (1, 2), (2, 1)]}
