"""What a plan's author may expect of its releases, from the plan alone: no data is touched."""

from __future__ import annotations

import math

from hushmeter.model.ledger import MeasurementCharge
from hushmeter.model.plan import Plan


def hidden_share(plan: Plan, charge: MeasurementCharge) -> float:
    """The share of units that is expected to be in private partitions that stay hidden.

    `expected_units` are taken to spread over `expected_values` tokens by Zipf's law with exponent 1, which short tokens
    such as versions follow roughly; a partition stays hidden where its noisy count is below the threshold.

    Args:
        plan: the plan.
        charge: of a measurement that selects.

    Returns:
        0 to 1; 0 where all partitions are public.

    References:
        L. Adamic, B. Huberman: Zipf's law and the Internet (2002).
    """
    m = charge.measurement
    opened = plan.metric(m.metric).open_dimension(m.view)
    if charge.threshold is None or opened is None or opened.open is None:
        return 0.0
    harmonic = [1 / rank for rank in range(1, opened.open.expected + 1)]
    whole = math.fsum(harmonic)
    std = math.sqrt(charge.mechanism.variance(charge.scale))
    per_public = plan.privacy.expected_units / m.partitions
    shares = [weight / whole for weight in harmonic]
    return math.fsum(share * _below(charge.threshold - per_public * share, std) for share in shares)


def _below(distance: float, std: float) -> float:
    """The probability that noise stays below a distance; of a Laplace's tails the normal's are close enough here."""
    return math.erfc(-distance / (std * math.sqrt(2))) / 2
