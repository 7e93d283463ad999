"""Consistent estimates: the views of one window that were bounded as one row set, made to agree (E2).

A metric's views must share their bounding, and all measurements of a statistic must be additive. Only then do the finer
view's cells add up to the coarser one's exactly on bounded values. Consistent estimates stand beside the raw ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.release import NoisyVector, Release
from hushmeter.plan.measurements import derivation, is_additive
from hushmeter.query.consistency import NoisyView, consistent
from hushmeter.query.intervals import z_of
from hushmeter.query.sums import Sums

View = tuple[str, ...]
_ROUNDING = 0.5
"""Noise is whole steps: an interval of a linear map needs half a step more on either side."""


def consistent_views(metric: Metric, view: View, statistics: Sequence[Statistic]) -> tuple[View, ...]:
    """The other views that a view's estimates can be made to agree with; none where no identity is exact."""
    if not metric.shared_bounding or not any(_agrees(metric, s) for s in statistics):
        return ()
    return tuple(other for other in metric.views if other != view)


def beside(
    releases: Iterable[tuple[int, Release]], others: Mapping[View, Iterable[tuple[int, Release]]]
) -> Iterator[tuple[int, Release, dict[View, Release]]]:
    """Joins releases of one view with those of other views of the same window and plan version.

    Args:
        releases: (number, release) of one view, in time order.
        others: by view, the same of other views.

    Yields:
        Number and release, and by view the other releases of that window and version; views without one are left out.
    """
    following = {view: iter(stored) for view, stored in others.items()}
    current = {view: next(stored, None) for view, stored in following.items()}
    for number, release in releases:
        together: dict[View, Release] = {}
        for view, stored in following.items():
            found = current[view]
            while found is not None and found[1].window_end_ms < release.window_end_ms:
                found = next(stored, None)
            current[view] = found
            if found is not None and _same_window(found[1], release):
                together[view] = found[1]
        yield number, release, together


def _same_window(one: Release, other: Release) -> bool:
    a, b = one.key, other.key
    return (a.plan_version, a.window_start_ms) == (b.plan_version, b.window_start_ms)


def consistent_sums(
    metric: Metric, release: Release, together: Mapping[View, Release], statistics: Sequence[Statistic]
) -> dict[Statistic, dict[MeasurementName, Sums]]:
    """The measurements of one release, made to agree with those of other views, by the statistics that they answer.

    Args:
        metric: with shared bounding.
        release: the one that is asked for.
        together: other views of the same window.
        statistics: that are asked for.

    Returns:
        By statistic and measurement; statistics that are not additive are left out, and all are where `together` is empty.
    """
    if not together:
        return {}
    agreeing = [s for s in statistics if _agrees(metric, s)]
    names = sorted({name for s in agreeing for name in derivation(metric, s)})
    sums = {name: _agreeing(metric, name, [release, *together.values()]) for name in names}
    return {s: {name: sums[name] for name in derivation(metric, s)} for s in agreeing}


def _agrees(metric: Metric, statistic: Statistic) -> bool:
    return all(is_additive(metric, name) for name in derivation(metric, statistic))


def _agreeing(metric: Metric, name: MeasurementName, releases: Sequence[Release]) -> Sums:
    """One measurement of the first release's view, by generalised least squares over all of them."""
    views = [_view(metric, r.key.view, r.vectors[name]) for r in releases]
    own, vector = consistent(views)[0], releases[0].vectors[name]
    z = z_of(vector.mechanism)
    spread = (math.sqrt(own.variance) + _ROUNDING / z) ** 2
    return Sums.mapped(own.values.reshape(vector.values.shape), own.variance, spread, z)


def _view(metric: Metric, view: View, vector: NoisyVector) -> NoisyView:
    sizes = [d.size for d in metric.view_dimensions(view)]
    return NoisyView(view, np.asarray(vector.values).reshape(*sizes, vector.values.shape[1]), vector.variance)
