"""Hypothesis strategies: plans of every kind, and reports that reach every rule of sealing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from hushmeter.model.consent import NEVER, ConsentTable
from hushmeter.model.measurement import Currency
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import (
    STATISTICS,
    Category,
    ContributionBounds,
    Dimension,
    Kind,
    Metric,
    OpenValues,
    Plan,
    Privacy,
    Purpose,
    Statistic,
    Weighting,
)
from hushmeter.model.report import ReportBatch
from hushmeter.model.time import HOUR_MS, MINUTE_MS, Resolution, Span, Window
from hushmeter.plan.built_in import built_in_metrics, capped_metrics
from hushmeter.plan.catalog import Catalog, assign_blocks
from hushmeter.sealing.participation import window_index
from hushmeter.sealing.seal import Participation

PURPOSES = ("model_tuning", "research")
RESOLUTIONS = (Resolution(Span.parse("1h"), 10 * MINUTE_MS), Resolution(Span.parse("1d"), 48 * HOUR_MS))
PERIOD = Span.parse("1w")
# A Thursday, so that windows of the period come before it, more than one word of a set of hours.
DAY = Span.parse("1d").window_of(1_770_250_000_000)
HOUR = Span.parse("1h").window_from(DAY.start_ms + 5 * HOUR_MS)
DECLARED = tuple(kind for kind in Kind if kind is not Kind.BUILT_IN)
# One is empty, one the beginning of another, and their order is that of bytes.
TOKENS = (b"", b"1.0", b"1.00", "ä".encode(), "\U0001f600".encode())

# A metric by hand, of which tests make others.
STARTS = Metric(
    name="starts",
    description="-",
    owner="-",
    expires_ms=DAY.end_ms + 1,
    category=Category.DIAGNOSTIC,
    purposes=PURPOSES[:1],
    kind=Kind.COUNTER,
    unit="",
    step=Decimal(1),
    edges=(),
    options=(),
    dimensions=(Dimension("platform", ("a", "b", "c", "d")),),
    views=(("platform",),),
    at=("1h",),
    bounds={"1h": ContributionBounds(2, 0, 5, 1)},
    weighting=Weighting.UNIT,
    statistics=(Statistic.SUM,),
    weight=Fraction(1),
)


@dataclass(frozen=True)
class Case:
    """A window with everything that is sealed into it."""

    catalog: Catalog
    window: Window
    rows: ReportBatch
    consent: ConsentTable
    salt: bytes
    participation: Mapping[str, Participation]
    copy_key: bytes = bytes(32)

    @property
    def plan(self) -> Plan:
        return self.catalog.plan


@st.composite
def bounds(draw: st.DrawFn) -> ContributionBounds:
    low = draw(st.integers(-50, 50))
    windows = draw(st.sampled_from([None, None, 1, 2]))
    high = low + draw(st.integers(1, 60))
    return ContributionBounds(draw(st.integers(1, 4)), low, high, draw(st.integers(1, 5)), windows)


@st.composite
def dimensions(draw: st.DrawFn) -> tuple[Dimension, ...]:
    """Up to three, one of which may be open."""
    count = draw(st.integers(0, 3))
    opened = draw(st.sampled_from([None, None, *range(count)]))
    return tuple(
        Dimension(f"d{i}", (), draw(st.booleans()), OpenValues(".*", 8, 10))
        if i == opened
        else Dimension(f"d{i}", tuple(f"v{j}" for j in range(draw(st.integers(1, 4)))), draw(st.booleans()))
        for i in range(count)
    )


@st.composite
def metrics(draw: st.DrawFn, name: str) -> Metric:
    kind = draw(st.sampled_from(DECLARED))
    declared = draw(dimensions())
    names = [d.name for d in declared]
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
        dimensions=declared,
        views=tuple(draw(st.lists(subsets, min_size=1, max_size=3, unique=True))),
        at=("1h", "1d"),
        bounds={"1h": draw(bounds()), "1d": draw(bounds())},
        weighting=weighting,
        statistics=tuple(statistics),
        weight=Fraction(1),
        quantiles=(Decimal("0.5"), Decimal("0.9")) if Statistic.QUANTILES in statistics else (),
        top_k=2 if Statistic.TOP_K in statistics else 0,
        shared_bounding=not any(d.open for d in declared) and draw(st.booleans()),
    )


def plan_of(metrics: Sequence[Metric], *, participants: bool = False, currency: Currency | None = None) -> Plan:
    """A plan of some metrics, with what the service counts by itself."""
    purposes = tuple(Purpose(p, p) for p in PURPOSES)
    names = [r.name for r in RESOLUTIONS]
    return Plan(
        "generated",
        1,
        Privacy("device", PERIOD, Decimal(4), Decimal("1e-8"), 100, currency),
        RESOLUTIONS,
        purposes,
        tuple(metrics),
        "00" * 32,
        built_in_metrics(names, purposes, metrics, participants=participants),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    declared = [draw(metrics(f"m{i}")) for i in range(draw(st.integers(1, 2)))]
    currency = draw(st.sampled_from([None, *Currency]))
    return plan_of(declared, participants=draw(st.booleans()), currency=currency)


# Units that share one half of their pseudonym, so that grouping by fewer than 16 bytes shows (P3).
UNITS = ((1, 1), (1, 2), (2, 1), (2**64 - 1, 0), (2**63, 2**63), (0, 2**64 - 1))
HUGE = (0, 2**20, -(2**40), 2**40, 2**62, -(2**62), 2**63 - 1, -(2**63))
VALUES = st.one_of(st.integers(1, 12), st.integers(1, 12), st.integers(-3, 100), st.sampled_from(HUGE))

Points = Sequence[tuple[int, int] | tuple[int, int, bytes | None]]
Rows = Sequence[tuple[tuple[int, int], int, int, int, int, Points]]


@st.composite
def batches(draw: st.DrawFn, catalog: Catalog, window: Window) -> ReportBatch:
    last = int((catalog.firsts + catalog.sizes).max())
    deadline = catalog.plan.resolution(window.resolution).deadline_ms(window)
    length = window.end_ms - window.start_ms
    inside = [window.start_ms + 1, window.start_ms + length // 2, window.end_ms]
    has_open = any(d.open for m in catalog.plan.metrics for d in m.dimensions)
    token = st.sampled_from([*TOKENS, *TOKENS, None]) if has_open else st.none()
    rows = []
    # Most rows count, so that units meet in partitions; each border is crossed by itself, so that each rule shows alone.
    crosses = st.integers(0, 9).map(lambda drawn: drawn == 0)
    for _ in range(draw(st.integers(0, 12))):
        end = draw(st.sampled_from([window.start_ms, window.end_ms + 1] if draw(crosses) else inside))
        interval = draw(st.sampled_from([length, length + 1] if draw(crosses) else [1, 1_000]))
        received = draw(st.sampled_from([deadline, deadline + 1] if draw(crosses) else [window.end_ms, deadline - 1]))
        series = st.integers(0, last + 1) if draw(crosses) else st.integers(1, last - 1)
        points = draw(st.lists(st.tuples(series, VALUES, token), max_size=6))
        unit = draw(st.sampled_from(UNITS[:2] if draw(st.booleans()) else UNITS))
        rows.append((unit, draw(st.integers(0, 3)), received, end - interval, end, points))
    duplicates = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    return batch_of(rows + duplicates, draw(st.permutations(TOKENS)) if has_open else ())


def batch_of(rows: Rows, tokens: Sequence[bytes] = TOKENS) -> ReportBatch:
    """Columns of (unit, report id, received, start, end, points); points are (series, value), or with a token too."""
    numbers = {None: 0} | {token: i + 1 for i, token in enumerate(tokens)}
    points = [(*point, None)[:3] for r in rows for point in r[5]]
    return ReportBatch(
        np.array([r[0] for r in rows], np.uint64).reshape(len(rows), 2),
        np.array([(7, r[1]) for r in rows], np.uint64).reshape(len(rows), 2),
        np.array([r[2] for r in rows], np.int64),
        np.array([r[3] for r in rows], np.int64),
        np.array([r[4] for r in rows], np.int64),
        np.full(len(rows), 1, np.uint32),
        np.cumsum([0, *(len(r[5]) for r in rows)]).astype(np.int64),
        np.array([series for series, _, _ in points], np.uint32),
        np.array([value for _, value, _ in points], np.int64),
        tuple(tokens),
        np.array([numbers[token] for _, _, token in points], np.uint32),
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


def unkept(plan: Plan, window: Window) -> dict[str, Participation]:
    """What a window is sealed with where none of its period has kept anybody."""
    span = plan.resolution(window.resolution).span
    none = KeptWindows.none(span.most_in(PERIOD))
    index = window_index(window, PERIOD.window_of(window.end_ms), span)
    return {metric.name: Participation(none, index) for metric in capped_metrics(plan, window.resolution)}


@st.composite
def participations(draw: st.DrawFn, plan: Plan, window: Window) -> dict[str, Participation]:
    """Kept windows before, after and at a window: sealing it again finds itself among them."""
    made = {}
    for metric, carried in unkept(plan, window).items():
        index, earlier = carried.index, carried.earlier
        near = st.sampled_from([0, 1, index - 1, index, index + 1])
        for kept in draw(st.sets(near, max_size=3)):
            units = draw(st.sets(st.sampled_from(UNITS)))
            earlier = earlier.keeping(np.array(sorted(units), np.uint64).reshape(len(units), 2), kept)
        made[metric] = replace(carried, earlier=earlier)
    return made


@st.composite
def cases(draw: st.DrawFn, windows: Sequence[Window] = (HOUR, DAY)) -> Case:
    plan = draw(plans())
    catalog = Catalog.of(plan, assign_blocks(plan))
    window = draw(st.sampled_from(windows))
    return Case(
        catalog,
        window,
        draw(batches(catalog, window)),
        draw(consents(window)),
        draw(st.binary(min_size=16, max_size=16)),
        draw(participations(plan, window)),
        draw(st.binary(min_size=32, max_size=32)),
    )
