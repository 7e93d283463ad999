"""Released views that agree with each other: generalised least squares in closed form; post-processing (E1, E2).

Rules:

1. The identity must be exact on what was measured: all views bounded as one row set, all windows under one allowance.
   Nothing here can check it; docs/privacy/consistency.md says where it does not hold.
2. Estimates are linear in the releases and unbiased. Variances come from the noise's scales alone, never from values,
   and never exceed the release's own.
3. Cells of one estimate are correlated. The variance of their sum is not the sum of their variances: ask for the coarser
   view instead, which has its own.

A view splits into one orthogonal table for each subset S of its dimensions: summed over the other dimensions, and with
every mean along a dimension of S taken away. Noise of equal variance stays uncorrelated between these tables, and two
views that both contain S measure the same table. So each table is an inverse-variance mean, and a view is rebuilt from
the tables of its subsets.

References:
    B. Ding, M. Winslett, J. Han, Z. Li: Differentially Private Data Cubes: Optimizing Noise Sources and Consistency (2011).
    Y. Xiao, G. He, D. Zhang, D. Kifer: An Optimal and Scalable Matrix Mechanism for Noisy Marginals under Convex Loss
    Functions (2023): residual bases and the variance of a rebuilt marginal.
    docs/privacy/consistency.md: equations (1) to (3).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hushmeter.errors import ensure
from hushmeter.model.arrays import Float64

Int = npt.NDArray[np.int64]
Dimensions = tuple[str, ...]

_Index = tuple[int | slice, ...]
_REST = slice(1, None)


@dataclass(frozen=True, slots=True)
class NoisyView:
    """One released view of an additive quantity.

    Attributes:
        dimensions: names of the leading axes, each once; empty for the total.
        values: int64 or float64[size of each dimension..., columns], each size at least 1; the noise of all cells is
            independent, also between views.
        variance: of the noise in each cell, positive and finite.
    """

    dimensions: Dimensions
    values: Int | Float64
    variance: float

    def __post_init__(self) -> None:
        ensure(len(set(self.dimensions)) == len(self.dimensions), f"a view repeats a dimension: {self.dimensions}")
        ensure(self.values.ndim == len(self.dimensions) + 1, "a view has one axis a dimension, and one of columns")
        ensure(self.values.size > 0, f"a view has cells, got shape {self.values.shape}")
        ensure(0 < self.variance < math.inf, f"a variance is positive and finite, got {self.variance}")

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each dimension."""
        return dict(zip(self.dimensions, self.values.shape[:-1], strict=True))


@dataclass(frozen=True, slots=True)
class ConsistentView:
    """The least-squares estimate of one view.

    Attributes:
        dimensions: names of the leading axes.
        values: float64[size of each dimension..., columns], read-only.
        variance: of the noise in each cell; the same in all of them.
    """

    dimensions: Dimensions
    values: Float64
    variance: float


@dataclass(frozen=True, slots=True)
class _Table:
    """One orthogonal table of the quantity; `variance` is that of its noise before means were taken away."""

    values: Float64
    variance: float


def consistent(views: Sequence[NoisyView], wanted: Sequence[Dimensions] | None = None) -> tuple[ConsistentView, ...]:
    """The best linear unbiased estimate of each view, given all of them.

    Any set of views will do, also the same one several times. Work grows with the cells of the views, times at most
    1 + 1/size for each dimension.

    Args:
        views: at least one; a dimension has the same size in all of them, and all have equally many columns, which stay
            apart. Coarser ones are exact marginals of finer ones before noise.
        wanted: dimensions of the views to estimate, each a subset of some view's; None means those of `views`.

    Returns:
        One estimate for each view wanted, in that order. Marginals of one are equal to the others, but for rounding, and
        a variance is at most that of any view that the estimate could have been added up from.

    Privacy:
        Post-processing: a function of releases and of the scales of their noise.

    References:
        docs/privacy/consistency.md, equations (1) to (3).
    """
    sizes = _sizes(views)
    tables = _combined(views, tuple(sizes))
    names = [v.dimensions for v in views] if wanted is None else wanted
    return tuple(_rebuilt(tables, dimensions, sizes, views) for dimensions in names)


def _sizes(views: Sequence[NoisyView]) -> dict[str, int]:
    """The size of each dimension of any view, in the order that tables keep their axes in."""
    ensure(views, "there is at least one view")
    ensure(len({v.values.shape[-1] for v in views}) == 1, "views have equally many columns")
    sizes: dict[str, int] = {}
    for view in views:
        for name, size in view.sizes.items():
            ensure(sizes.setdefault(name, size) == size, f"dimension {name} has sizes {sizes[name]} and {size}")
    return sizes


def _combined(views: Sequence[NoisyView], order: Dimensions) -> dict[Dimensions, _Table]:
    """The inverse-variance mean of every table that some view contains, with names and axes in one order (2)."""
    weighted: dict[Dimensions, Float64] = {}
    precision: dict[Dimensions, float] = {}
    for view in views:
        names = tuple(name for name in order if name in view.dimensions)
        axes = [view.dimensions.index(name) for name in names]
        split = _split(view.values.transpose(*axes, len(axes)).astype(np.float64))
        sizes = view.sizes
        for subset, index in _subsets(names):
            weight = 1 / (view.variance * math.prod(sizes[name] for name in names if name not in subset))
            table = weight * split[index]
            weighted[subset] = weighted[subset] + table if subset in weighted else table
            precision[subset] = precision.get(subset, 0.0) + weight
    return {subset: _Table(weighted[subset] / total, 1 / total) for subset, total in precision.items()}


def _rebuilt(
    tables: Mapping[Dimensions, _Table], wanted: Dimensions, sizes: Mapping[str, int], views: Sequence[NoisyView]
) -> ConsistentView:
    """One view from the tables of its subsets, and the variance of its cells (3)."""
    finer = [view for view in views if set(wanted) <= set(view.dimensions)]
    ensure(finer and len(set(wanted)) == len(wanted), f"no view holds {wanted}")
    names = tuple(name for name in sizes if name in wanted)
    columns = views[0].values.shape[-1]
    split = np.empty((*(sizes[name] + 1 for name in names), columns))
    variance = []
    for subset, index in _subsets(names):
        split[index] = tables[subset].values
        kept = math.prod(1 - 1 / sizes[name] for name in subset)
        spread = math.prod(sizes[name] for name in names if name not in subset)
        variance.append(tables[subset].variance * kept / spread**2)
    values = _joined(split).transpose(*(names.index(name) for name in wanted), len(names))
    # Least squares is at least as good as adding up any one view; without `min`, rounding could make it look worse.
    added_up = [v.variance * math.prod(n for name, n in v.sizes.items() if name not in wanted) for v in finer]
    return ConsistentView(wanted, _frozen(values), min(math.fsum(variance), *added_up))


def _split(values: Float64) -> Float64:
    """All orthogonal tables of a view in one array: along each axis first the sum, then what differs from the mean (1).

    Args:
        values: float64[size of each dimension..., columns].

    Returns:
        float64[size + 1 of each dimension..., columns]; `_subsets` finds a table in it.
    """
    for axis, size in enumerate(values.shape[:-1]):
        total = values.sum(axis=axis, keepdims=True)
        values = np.concatenate([total, values - total / size], axis=axis)
    return values


def _joined(split: Float64) -> Float64:
    """The view that `_split` splits into this; its inverse."""
    for axis, length in enumerate(split.shape[:-1]):
        total, rest = np.split(split, [1], axis=axis)
        split = rest + total / (length - 1)
    return split


def _subsets(names: Dimensions) -> Iterator[tuple[Dimensions, _Index]]:
    """Every subset of a view's dimensions, and where `_split` puts its table, float64[size of each of them..., columns]."""
    for kept in itertools.product((False, True), repeat=len(names)):
        yield tuple(itertools.compress(names, kept)), tuple(_REST if keep else 0 for keep in kept)


def _frozen(values: Float64 | np.float64) -> Float64:
    values = np.asarray(values)
    values.flags.writeable = False
    return values
