"""What the service counts by itself: who takes part, and whom bounded participation leaves out.

To ledger, release and query these metrics are like any other. Sealing alone counts them otherwise: from rows and consent
instead of from points. A plan cannot declare a metric of such a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from hushmeter.model.plan import (
    Category,
    ContributionBounds,
    Dimension,
    Kind,
    Metric,
    Plan,
    Purpose,
    Statistic,
    Weighting,
)

PARTICIPANTS = "participants"
"""Units that sent a report and allow a purpose, by purpose: tells 'did not happen' from 'opted out'."""
CAPPED = "capped"
"""The share of units whose window was not kept, by metric with `max_windows`: a week of these looks like a decline (P7)."""
RESERVED_METRICS = (PARTICIPANTS, CAPPED)

SMALL_SHARE = Fraction(1, 10)
"""Weight of what is measured beside a plan's own statistics, against a metric of weight 1."""
_NEVER_MS = 2**62


def built_in_metrics(
    resolutions: Sequence[str], purposes: Sequence[Purpose], metrics: Sequence[Metric], *, participants: bool
) -> tuple[Metric, ...]:
    """The built-in metrics of a plan.

    Args:
        resolutions: names of all, finest first.
        purposes: of the plan.
        metrics: that it declares.
        participants: whether it counts them.
    """
    purpose_names = tuple(p.name for p in purposes)
    built = []
    if participants:
        words, by = "Units that sent a report and allow a purpose.", Dimension("purpose", purpose_names)
        built.append(_counting(PARTICIPANTS, words, resolutions, purpose_names, by, Statistic.UNITS))
    capped = [m for m in metrics if any(b.max_windows for b in m.bounds.values())]
    if capped:
        at = [r for r in resolutions if any(r in m.bounds and m.bounds[r].max_windows for m in capped)]
        purposes_of = tuple(p for p in purpose_names if any(p in m.purposes for m in capped))
        named = Dimension("metric", tuple(m.name for m in capped))
        words = "The share of units that are left out because they were in as many windows of the period as count."
        built.append(_counting(CAPPED, words, at, purposes_of, named, Statistic.RATE))
    return tuple(built)


def capped_metrics(plan: Plan, resolution: str) -> tuple[Metric, ...]:
    """The metrics whose participation is bounded at a resolution."""
    return tuple(m for m in plan.metrics if resolution in m.bounds and m.bounds[resolution].max_windows)


def purposes_of_values(plan: Plan, metric: Metric) -> dict[str, tuple[str, ...]]:
    """Of a built-in metric the purposes of each value of its dimension; empty for a metric that the plan declares."""
    if metric.kind is not Kind.BUILT_IN:
        return {}
    (by,) = metric.dimensions
    return {value: (value,) if metric.name == PARTICIPANTS else plan.metric(value).purposes for value in by.values}


def _counting(
    name: str, description: str, at: Sequence[str], purposes: tuple[str, ...], by: Dimension, statistic: Statistic
) -> Metric:
    return Metric(
        name=name,
        description=description,
        owner="hushmeter",
        expires_ms=_NEVER_MS,
        category=Category.SERVICE_GENERATED,
        purposes=purposes,
        kind=Kind.BUILT_IN,
        unit="",
        step=Decimal(1),
        edges=(),
        options=(),
        dimensions=(by,),
        views=((by.name,),),
        at=tuple(at),
        bounds={resolution: ContributionBounds(by.size, 0, 1, 1) for resolution in at},
        weighting=Weighting.UNIT,
        statistics=(statistic,),
        weight=SMALL_SHARE,
    )
