"""Least squares over time: windows that add up to the longer window that they tile.

Nothing is released so, because no identity across resolutions is exact on bounded values: see
docs/decisions/0016-no-consistency-across-resolutions.md. The closed form checks `hushmeter.query.consistency`: where all
windows have one variance, time is a dimension like any other there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Float64, Int64


@dataclass(frozen=True, slots=True)
class ConsistentWindows:
    """The least-squares estimates of windows and of the longer window that they tile.

    Attributes:
        fine: float64[windows, ...], read-only.
        fine_variance: float64[windows], of the noise in each cell of a window; read-only.
        coarse: float64[...], read-only.
        coarse_variance: of the noise in each cell.
    """

    fine: Float64
    fine_variance: Float64
    coarse: Float64
    coarse_variance: float


def consistent_windows(
    fine: Int64 | Float64, fine_variance: Float64, coarse: Int64 | Float64, coarse_variance: float
) -> ConsistentWindows:
    """The best linear unbiased estimates of windows and of the window that they tile, given both.

    Where every fine window has the same variance, time is a dimension like any other and `consistent` does the same for
    several views at once.

    Args:
        fine: int64 or float64[windows, ...], at least one window, none missing.
        fine_variance: float64[windows], of the independent noise in each cell of a window, positive and finite.
        coarse: int64 or float64[...]: before noise exactly the sum of the fine windows.
        coarse_variance: of its noise, positive and finite.

    Returns:
        Both levels; the fine windows add up to the coarse one, but for rounding, and no variance has grown.

    Privacy:
        Post-processing, as in `consistent`.

    References:
        M. Hay, V. Rastogi, G. Miklau, D. Suciu: Boosting the Accuracy of Differentially Private Histograms Through
        Consistency (2010): the tree of two levels. docs/privacy/consistency.md, equations (4) and (5).
    """
    ensure(fine.ndim >= 1 and len(fine) >= 1, "a longer window is tiled by at least one")
    ensure(fine.shape[1:] == coarse.shape, f"windows of shape {fine.shape[1:]} cannot tile one of shape {coarse.shape}")
    ensure(fine_variance.shape == fine.shape[:1], f"{len(fine)} windows have {fine_variance.shape} variances")
    ensure(np.all((fine_variance > 0) & (fine_variance < math.inf)), "variances are positive and finite")
    ensure(0 < coarse_variance < math.inf, f"a variance is positive and finite, got {coarse_variance}")
    exact = fine.astype(np.float64)
    below = math.fsum(fine_variance)
    share = fine_variance / (below + coarse_variance)
    total = exact.sum(axis=0)
    gap = coarse - total
    # Multiplied by what is at most 1 also after rounding, so that no variance grows.
    remaining = (below - fine_variance + coarse_variance) / (below + coarse_variance)
    return ConsistentWindows(
        _frozen(exact + np.multiply.outer(share, gap)),
        _frozen(fine_variance * np.minimum(remaining, 1.0)),
        _frozen(total + below / (below + coarse_variance) * gap),
        coarse_variance * (below / (below + coarse_variance)),
    )


def _frozen(values: Float64 | np.float64) -> Float64:
    frozen = np.asarray(values, np.float64)
    frozen.flags.writeable = False
    return frozen
