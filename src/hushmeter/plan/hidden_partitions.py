"""What a plan's author may expect of its releases, from the plan alone: no data is touched."""

from __future__ import annotations

import math

from hushmeter.model.ledger import MeasurementCharge
from hushmeter.model.measurement import Measurement
from hushmeter.model.plan import Plan


def hidden_share(plan: Plan, charge: MeasurementCharge) -> float:
    """The share of units that is expected to be in private partitions that stay hidden, of a release at its price."""
    std = math.sqrt(charge.mechanism.variance(charge.scale))
    return hidden_below(plan, charge.measurement, charge.threshold or 0, std)


def hidden_below(plan: Plan, m: Measurement, threshold: float, std: float) -> float:
    """The share of units that is expected to be in private partitions that stay hidden.

    `expected_units` are taken to spread over `expected_values` tokens by Zipf's law with exponent 1, which short tokens
    such as versions follow roughly; a partition stays hidden where its noisy count is below the threshold.

    Args:
        plan: the plan.
        m: a measurement that selects.
        threshold: smallest noisy count that is released.
        std: of the noise in that count.

    Returns:
        0 to 1; 0 where all partitions are public.

    References:
        L. Adamic, B. Huberman: Zipf's law and the Internet (2002).
    """
    # A view has at most one open dimension.
    expected = sum(d.open.expected for d in plan.metric(m.metric).view_dimensions(m.view) if d.open)
    harmonic = [1 / rank for rank in range(1, expected + 1)]
    whole = math.fsum(harmonic)
    per_public = plan.privacy.expected_units / m.partitions
    shares = [weight / whole for weight in harmonic]
    return math.fsum(share * _below(threshold - per_public * share, std) for share in shares)


def _below(distance: float, std: float) -> float:
    """The probability that noise stays below a distance; of a Laplace's tails the normal's are close enough here."""
    return math.erfc(-distance / (std * math.sqrt(2))) / 2
