"""Hypothesis strategies: plans of every kind, and reports that reach every rule of sealing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.plan import (
    STATISTICS,
    Category,
    ContributionBounds,
    Dimension,
    Kind,
    Metric,
    Plan,
    Privacy,
    Purpose,
    Weighting,
)
from hushmeter.model.report import ReportBatch
from hushmeter.model.time import HOUR_MS, MINUTE_MS, Resolution, Span, Window
from hushmeter.plan.catalog import Catalog, assign_blocks

PURPOSES = ("model_tuning", "research")
RESOLUTIONS = (Resolution(Span.parse("1h"), 10 * MINUTE_MS), Resolution(Span.parse("1d"), 48 * HOUR_MS))
DAY = Span.parse("1d").window_of(1_770_000_000_000)
HOUR = Span.parse("1h").window_from(DAY.start_ms + 5 * HOUR_MS)


@dataclass(frozen=True)
class Case:
    """A window with everything that is sealed into it."""

    catalog: Catalog
    window: Window
    rows: ReportBatch
    consent: ConsentTable
    salt: bytes


@st.composite
def bounds(draw: st.DrawFn) -> ContributionBounds:
    low = draw(st.integers(-50, 50))
    return ContributionBounds(draw(st.integers(1, 4)), low, low + draw(st.integers(1, 60)), draw(st.integers(1, 5)))


@st.composite
def metrics(draw: st.DrawFn, name: str) -> Metric:
    kind = draw(st.sampled_from(Kind))
    dimensions = tuple(
        Dimension(f"d{i}", tuple(f"v{j}" for j in range(draw(st.integers(1, 4)))), draw(st.booleans()))
        for i in range(draw(st.integers(0, 3)))
    )
    names = [d.name for d in dimensions]
    subsets = (
        st.lists(st.sampled_from(names), unique=True).map(lambda v: tuple(n for n in names if n in v))
        if names
        else st.just(())
    )
    statistics = draw(st.lists(st.sampled_from(STATISTICS[kind]), min_size=1, unique=True))
    weighting = Weighting.UNIT if kind is Kind.COUNTER else draw(st.sampled_from(Weighting))
    edges = tuple(sorted(draw(st.sets(st.integers(-40, 90), min_size=1, max_size=4))))
    return Metric(
        name=name,
        description="-",
        owner="-",
        expires_ms=DAY.end_ms + 1,
        category=Category.DIAGNOSTIC,
        purposes=draw(st.sampled_from([PURPOSES[:1], PURPOSES[1:], PURPOSES])),
        kind=kind,
        unit="ms",
        step=Decimal(1),
        edges=edges if kind is Kind.DISTRIBUTION else (),
        options=("a", "b", "c") if kind is Kind.CHOICE else (),
        dimensions=dimensions,
        views=tuple(draw(st.lists(subsets, min_size=1, max_size=3, unique=True))),
        at=("1h", "1d"),
        bounds={"1h": draw(bounds()), "1d": draw(bounds())},
        weighting=weighting,
        statistics=tuple(statistics),
        weight=Fraction(1),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 2))
    return Plan(
        "generated",
        1,
        Privacy("device", Span.parse("1w"), Decimal(4), Decimal("1e-8"), 100),
        RESOLUTIONS,
        tuple(Purpose(p, p) for p in PURPOSES),
        tuple(draw(metrics(f"m{i}")) for i in range(count)),
        "00" * 32,
    )


# Units that share one half of their pseudonym, so that grouping by fewer than 16 bytes shows (P3).
UNITS = ((1, 1), (1, 2), (2, 1), (2**64 - 1, 0), (2**63, 2**63), (0, 2**64 - 1))


@st.composite
def batches(draw: st.DrawFn, catalog: Catalog, window: Window) -> ReportBatch:
    last = int((catalog.firsts + catalog.sizes).max())
    deadline = catalog.plan.resolution(window.resolution).deadline_ms(window)
    length = window.end_ms - window.start_ms
    inside = [window.start_ms + 1, window.start_ms + length // 2, window.end_ms]
    value = st.one_of(
        st.integers(1, 12), st.integers(1, 12), st.integers(-3, 100), st.sampled_from([0, 2**20, -(2**40), 2**40])
    )
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        # Most rows count, so that units meet in partitions; the others stand just beyond each border.
        odd = draw(st.integers(0, 4)) == 0
        end = draw(st.sampled_from([window.start_ms, window.end_ms + 1] if odd else inside))
        interval = draw(st.sampled_from([length, length + 1] if odd else [1, 1_000]))
        received = draw(st.sampled_from([deadline, deadline + 1] if odd else [window.end_ms, deadline - 1]))
        points = draw(st.lists(st.tuples(st.integers(0 if odd else 1, last + (1 if odd else -1)), value), max_size=6))
        unit = draw(st.sampled_from(UNITS[:2] if draw(st.booleans()) else UNITS))
        rows.append((unit, draw(st.integers(0, 3)), received, end - interval, end, points))
    duplicates = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    return batch_of(rows + duplicates)


Rows = list[tuple[tuple[int, int], int, int, int, int, list[tuple[int, int]]]]


def batch_of(rows: Rows) -> ReportBatch:
    """Columns of (unit, report id, received, start, end, points)."""
    return ReportBatch(
        np.array([r[0] for r in rows], np.uint64).reshape(len(rows), 2),
        np.array([(7, r[1]) for r in rows], np.uint64).reshape(len(rows), 2),
        np.array([r[2] for r in rows], np.int64),
        np.array([r[3] for r in rows], np.int64),
        np.array([r[4] for r in rows], np.int64),
        np.full(len(rows), 1, np.uint32),
        np.cumsum([0, *(len(r[5]) for r in rows)]).astype(np.int64),
        np.array([s for r in rows for s, _ in r[5]], np.uint32),
        np.array([v for r in rows for _, v in r[5]], np.int64),
    )


@st.composite
def consents(draw: st.DrawFn, window: Window) -> ConsentTable:
    since = st.sampled_from([0, window.start_ms, window.start_ms + 1, NEVER])
    rows = []
    for high, low in UNITS:
        fate = draw(st.integers(0, 7))
        if fate:
            pseudonym = high.to_bytes(8, "big") + low.to_bytes(8, "big")
            rows.append((pseudonym, (draw(since), draw(since)) if fate == 1 else (0, 0)))
    return ConsentTable.of(PURPOSES, rows)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    plan = draw(plans())
    catalog = Catalog.of(plan, assign_blocks(plan))
    window = draw(st.sampled_from([HOUR, DAY]))
    return Case(
        catalog, window, draw(batches(catalog, window)), draw(consents(window)), draw(st.binary(min_size=16, max_size=16))
    )
