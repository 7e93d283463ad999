"""From a tally and its charge to releases: noise on every vector, also on empty ones (T3)."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import Protocol

from hushmeter.errors import ensure
from hushmeter.model.ledger import Charge
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import Plan
from hushmeter.model.release import NoisyVector, Release, ReleaseKey
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Int64


class GaussianMechanism(Protocol):
    """The part of the port `Mechanisms` that measuring needs."""

    def gaussian(self, values: Int64, *, scale: float, l2_sensitivity: float, rho: Fraction) -> NoisyVector:
        """Adds discrete Gaussian noise to every cell; see `hushmeter.ports.Mechanisms`."""


def measure(
    tally: Tally, charge: Charge, mechanisms: GaussianMechanism, *, plan: Plan, completeness: float
) -> tuple[Release, ...]:
    """Releases one window: every measurement of its charge, once.

    Args:
        tally: exact and secret.
        charge: what may be spent on each vector.
        mechanisms: noise.
        plan: in force.
        completeness: share of the window that the service was serving.

    Returns:
        One release a metric and view, in the order of the charge.

    Raises:
        InvariantError: the charge does not cover exactly the tally's vectors.

    Privacy:
        The window's releases together are `charge.rho`-zCDP; their times are scheduled ones (R1).
    """
    window = tally.window
    ensure(
        (window.resolution, window.start_ms) == (charge.resolution, charge.window_start_ms), "a charge for another window"
    )
    noisy: defaultdict[tuple[str, tuple[str, ...]], dict[MeasurementName, NoisyVector]] = defaultdict(dict)
    for item in charge.items:
        m = item.measurement
        values = tally.vectors[VectorKey(m.metric, m.view, m.name)]
        ensure(values.shape == (m.partitions, m.columns), f"{m.metric}: a vector of another shape than its measurement")
        noisy[m.metric, m.view][m.name] = mechanisms.gaussian(
            values, scale=item.scale, l2_sensitivity=m.l2_sensitivity, rho=item.rho
        )
    ensure(len(charge.items) == len(tally.vectors), "every vector of a tally is charged, and no other")
    published = plan.resolution(window.resolution).deadline_ms(window)
    return tuple(
        Release(
            ReleaseKey(plan.version, metric, view, window.resolution, window.start_ms),
            window.end_ms,
            published,
            completeness,
            vectors,
        )
        for (metric, view), vectors in noisy.items()
    )
