"""Hypothesis strategies of plans for what depends on the plan alone: numbers, prices, shares."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency
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
from hushmeter.model.time import Span
from hushmeter.plan.built_in import built_in_metrics
from tests.strategies import PURPOSES, RESOLUTIONS

DECLARED = tuple(kind for kind in Kind if kind is not Kind.BUILT_IN)


@st.composite
def any_dimensions(draw: st.DrawFn, *, opened: bool) -> tuple[Dimension, ...]:
    """Up to three dimensions, the last of them open where that is asked for."""
    closed = [
        Dimension(f"d{i}", tuple(f"v{j}" for j in range(draw(st.integers(1, 4)))), draw(st.booleans()))
        for i in range(draw(st.integers(0, 2)))
    ]
    if opened:
        tokens = OpenValues("[a-z]*", draw(st.integers(1, 64)), draw(st.integers(1, 200)))
        closed.append(Dimension("token", (), draw(st.booleans()), tokens))
    return tuple(closed)


@st.composite
def any_bounds(draw: st.DrawFn, windows: int) -> ContributionBounds:
    """Bounds at a resolution of which a period has so many windows."""
    low = draw(st.integers(-50, 50))
    most = draw(st.none() | st.integers(1, windows))
    high = low + draw(st.integers(1, 60))
    return ContributionBounds(draw(st.integers(1, 9)), low, high, draw(st.integers(1, 5)), most)


@st.composite
def any_metrics(draw: st.DrawFn, name: str, period: Span, *, opened: bool | None) -> Metric:
    """A metric of any kind that can be declared."""
    kind = draw(st.sampled_from(DECLARED))
    dimensions = draw(any_dimensions(opened=draw(st.booleans()) if opened is None else opened))
    names = [d.name for d in dimensions]
    subsets = st.lists(st.sampled_from(names), unique=True).map(lambda v: tuple(n for n in names if n in v))
    statistics = tuple(draw(st.lists(st.sampled_from(STATISTICS[kind]), min_size=1, unique=True)))
    low = draw(st.integers(-40, 40))
    at = tuple(draw(st.lists(st.sampled_from(["1h", "1d"]), min_size=1, unique=True).map(sorted)))[::-1]
    return Metric(
        name=name,
        description="-",
        owner="-",
        expires_ms=2**62,
        category=Category.DIAGNOSTIC,
        purposes=draw(st.sampled_from([PURPOSES[:1], PURPOSES[1:], PURPOSES])),
        kind=kind,
        unit="ms",
        step=Decimal(1),
        edges=(low, *range(low + 1, low + draw(st.integers(1, 4)))) if kind is Kind.DISTRIBUTION else (),
        options=("a", "b", "c") if kind is Kind.CHOICE else (),
        dimensions=dimensions,
        views=tuple(draw(st.lists(subsets, min_size=1, max_size=3, unique=True))) if names else ((),),
        at=at,
        bounds={name: draw(any_bounds(Span.parse(name).most_in(period))) for name in at},
        weighting=Weighting.UNIT if kind is Kind.COUNTER else draw(st.sampled_from(Weighting)),
        statistics=statistics,
        weight=draw(st.sampled_from([Fraction(1, 100), Fraction(1), Fraction(7, 3), Fraction(1000)])),
        quantiles=(Decimal("0.5"), Decimal("0.9")) if Statistic.QUANTILES in statistics else (),
        top_k=2 if Statistic.TOP_K in statistics else 0,
        shared_bounding=not any(d.open for d in dimensions) and draw(st.booleans()),
    )


@st.composite
def any_plans(draw: st.DrawFn, *, periods: tuple[str, ...] = ("1d", "1w", "1mo"), opened: bool | None = None) -> Plan:
    """A plan of one or two metrics with what the service counts beside them.

    Args:
        draw: Hypothesis'.
        periods: one of which is the protection period.
        opened: whether metrics have an open dimension; either way if None.
    """
    period = Span.parse(draw(st.sampled_from(periods)))
    metrics = tuple(draw(any_metrics(f"m{i}", period, opened=opened)) for i in range(draw(st.integers(1, 2))))
    purposes = tuple(Purpose(p, p) for p in PURPOSES)
    privacy = Privacy(
        "device",
        period,
        Decimal(draw(st.sampled_from(["0.1", "1", "4", "10"]))),
        Decimal("1e-8"),
        draw(st.integers(1, 10**6)),
        draw(st.none() | st.sampled_from(Currency)),
        draw(st.booleans()),
    )
    built_in = built_in_metrics([r.name for r in RESOLUTIONS], purposes, metrics, participants=draw(st.booleans()))
    return Plan("generated", 1, privacy, RESOLUTIONS, purposes, metrics, "00" * 32, built_in)


def any_budgets() -> st.SearchStrategy[PrivacyBudget]:
    """Budgets of either currency with awkward fractions; half of delta is for private partitions."""
    amounts = st.fractions(min_value=Fraction(1, 1000), max_value=10)
    return st.builds(
        lambda currency, amount: PrivacyBudget(4.0, 1e-8, currency, PrivacyLoss(amount, Fraction(1e-8) / 2)),
        st.sampled_from(Currency),
        amounts,
    )
