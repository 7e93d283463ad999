"""The accountant: what charges add up to, over a period and over longer spans, and whether a period can pay (C1-C3, C5).

Losses of one period add up, except that one unit is in at most `cap` windows of a series (P7): of each series the `cap`
largest charges count. This sum is a bound for charges and caps that were chosen before the period began (C3), whatever the
releases show: a unit's kept windows are a function of its own rows, and in every other window of the series its rows have
no part.

References:
    M. Bun, T. Steinke: Concentrated Differential Privacy (2016), Lemma 1.7 (rho adds up under adaptive composition).
    S. Denisov et al.: Improved Differential Privacy for SGD via Optimal Private Linear Operators (2022), section 2, and
    DP-SQLP (arXiv 2303.18086), section 3, for bounded participation.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from hushmeter.errors import BudgetExhausted
from hushmeter.model.ledger import Charge, PrivacyBudget, PrivacyLoss, Spending
from hushmeter.model.measurement import Currency, float_up
from hushmeter.model.time import DAY_MS, Span, Window, iso

_ONE_YEAR_DAYS = 365


def period_loss(spendings: Iterable[Spending]) -> PrivacyLoss:
    """What charges of one period cost one unit: of each series, the `cap` largest (C2).

    Amounts and deltas are taken apart, so that the sum is an upper bound whichever windows a unit is in.
    """
    by_series: defaultdict[str, list[Spending]] = defaultdict(list)
    for spending in spendings:
        by_series[spending.series].append(spending)
    return sum((_series_loss(charged) for charged in by_series.values()), PrivacyLoss())


def _series_loss(charged: Sequence[Spending]) -> PrivacyLoss:
    cap = max(s.cap for s in charged)
    amounts = _largest(((s.loss.amount, s.count) for s in charged), cap)
    return PrivacyLoss(amounts, _largest(((s.loss.delta, s.count) for s in charged), cap))


def _largest(priced: Iterable[tuple[Fraction, int]], cap: int) -> Fraction:
    total, left = Fraction(0), cap
    for price, count in sorted(priced, reverse=True):
        taken = min(count, left)
        total, left = total + price * taken, left - taken
    return total


def ensure_affordable(
    window: Window, spent: Sequence[Spending], asked: Sequence[Spending], budget: PrivacyBudget, frees: str
) -> None:
    """Checks that a period can pay for one more window.

    Args:
        window: that asks.
        spent: what its period has been charged.
        asked: what it is to be charged.
        budget: of one period.
        frees: when there is a new budget, in words.

    Raises:
        BudgetExhausted: naming the window, what is spent, asked and left, when it frees, and what would fit.
    """
    after = period_loss([*spent, *asked])
    if after.within(budget.loss):
        return
    before = period_loss(spent)
    fitting = _what_fits(spent, asked, budget)
    unit = "rho" if budget.currency.value == "zcdp" else "epsilon"
    raise BudgetExhausted(
        f"window {window} asks for {unit} {_shown(after.amount - before.amount)} and delta "
        f"{_shown(after.delta - before.delta)}; its period has spent {_shown(before.amount)} of "
        f"{_shown(budget.loss.amount)} and delta {_shown(before.delta)} of {_shown(budget.loss.delta)}, so "
        f"{_shown(budget.loss.amount - before.amount)} remains; nothing was published or charged; what would fit: "
        f"{', '.join(fitting) or 'nothing'}; {frees} the next period has a new budget, and `hushmeter ledger show` lists "
        "what this one paid"
    )


def _what_fits(spent: Sequence[Spending], asked: Sequence[Spending], budget: PrivacyBudget) -> list[str]:
    """The series that the rest of the budget would pay for, taken in order."""
    taken = list(spent)
    fitting = []
    for one in asked:
        if period_loss([*taken, one]).within(budget.loss):
            taken.append(one)
            fitting.append(one.series)
    return fitting


def _shown(number: Fraction) -> str:
    return f"{float(number):.9g}"


def spendings_of(charge: Charge) -> tuple[Spending, ...]:
    """What a window's charge adds to its period, one a measurement."""
    return tuple(Spending(i.measurement.series(), i.measurement.windows, i.loss) for i in charge.items)


class Conversion(Protocol):
    """The part of the port `Mechanisms` that turns rho into epsilon."""

    def epsilon_of(self, rho: Fraction, delta: float) -> float:
        """See `hushmeter.ports.Mechanisms`."""


def epsilon_and_delta(loss: PrivacyLoss, budget: PrivacyBudget, conversion: Conversion) -> tuple[float, float]:
    """A loss in the words of approximate DP; converted once, at the end, at the budget's own conversion delta (C2).

    Args:
        loss: of any span of time.
        budget: of one period: its currency, and the delta of the conversion, which does not grow with the periods.
        conversion: of rho.

    Returns:
        epsilon and delta, both rounded up; delta is that of the conversion and of all selections.
    """
    if budget.currency is Currency.PURE or not loss.amount:
        return float_up(loss.amount), float_up(loss.delta)
    return conversion.epsilon_of(loss.amount, budget.conversion_delta), float_up(
        Fraction(budget.conversion_delta) + loss.delta
    )


def planned_costs(budget: PrivacyBudget, period: Span) -> dict[str, PrivacyLoss]:
    """What longer spans cost one unit at most, if every period spends its budget.

    At epsilon 4 and delta 1e-8 a week, with all of delta for the conversion of rho, that is 5.848 for any rolling week,
    10.862 for any 30 days and 41.717 for any year, each at delta 1e-8. Where the plan selects private partitions, half of
    delta is left for the conversion: then it is 5.841, 10.823 and 41.269 at 5e-9, and the selections' deltas add up (C5).
    """
    return {name: budget.loss.times(periods) for name, periods in _spans(period).items()}


def _spans(period: Span) -> dict[str, int]:
    return {
        f"one period ({period.name})": 1,
        "any rolling period": 2,
        "any 30 days": periods_touched(30, period),
        "any year": periods_touched(_ONE_YEAR_DAYS, period),
    }


@dataclass(frozen=True, slots=True)
class SpanCost:
    """What one unit's record of a span of time has cost at most.

    Attributes:
        name: of the span, in words.
        loss: amounts and selection deltas of all periods that it touches, added up.
        periods: how many periods it touches.
    """

    name: str
    loss: PrivacyLoss
    periods: int


def span_costs(by_period: Mapping[int, PrivacyLoss], period: Span) -> tuple[SpanCost, ...]:
    """What the ledger has cost so far: the dearest period, rolling period, 30 days and year, and all to date.

    A span that begins at any moment touches whole periods: their losses add up, because a unit may be in all of them.

    Args:
        by_period: loss by start of the period; at least one.
        period: the protection period.
    """
    first, last = min(by_period), max(by_period)
    starts = [first]
    while starts[-1] < last:
        starts.append(period.end_of(starts[-1]))
    losses = [by_period.get(start, PrivacyLoss()) for start in starts]
    costs = [_dearest(name, losses, count) for name, count in _spans(period).items()]
    return (*costs, _dearest(f"to date (since {iso(first)})", losses, len(losses)))


def _dearest(name: str, losses: Sequence[PrivacyLoss], count: int) -> SpanCost:
    count = min(count, len(losses))
    sums = list(itertools.accumulate(losses, initial=PrivacyLoss()))
    totals = [
        PrivacyLoss(b.amount - a.amount, b.delta - a.delta)
        for a, b in zip(sums[: len(sums) - count], sums[count:], strict=True)
    ]
    return SpanCost(name, max(totals, key=lambda loss: (loss.amount, loss.delta)), count)


def periods_touched(days: int, period: Span) -> int:
    """How many periods a span of days that begins anywhere can touch: floor(D/L) + 2, one less where L divides D."""
    if period.monthly:
        return 13 if days >= _ONE_YEAR_DAYS else 3
    length = period.length_ms // DAY_MS
    return days // length + (1 if days % length == 0 else 2)
