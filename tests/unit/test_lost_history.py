"""What a restore charges for a history that was lost (C6)."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from hushmeter.ledger.accountant import period_loss
from hushmeter.ledger.entries import period_of, spending_of, unknown_charge, verify_chain
from hushmeter.model.ledger import DraftEntry, PrivacyLoss
from tests.unit.chains import chained, content_with

(BESIDE,) = chained([content_with(view=["country", "platform"], deployment="d" * 32, period_start_ms=345_600_000)])
DRAFT = DraftEntry(BESIDE.content, spending_of(BESIDE))
MILLIONTH = Fraction(1, 10**6)


def loss(amount: str, deltas: int = 0) -> PrivacyLoss:
    return PrivacyLoss(Fraction(amount), deltas * MILLIONTH)


@pytest.mark.parametrize(
    ("known", "was", "missing"),
    [
        (loss("1/8"), loss("1/2"), loss("3/8")),
        (loss("1/8", 2), loss("1/2", 5), loss("3/8", 3)),
        (loss("1/8", 5), loss("1/2", 2), loss("3/8", 0)),
        (loss("1/2", 2), loss("1/8", 5), loss("1/1000000000000", 3)),
        (loss("1/2", 2), loss("1/2", 5), loss("1/1000000000000", 3)),
    ],
    ids=str,
)
def test_what_is_missing_is_charged_and_no_more(known: PrivacyLoss, was: PrivacyLoss, missing: PrivacyLoss) -> None:
    """The entry charges the difference, amount and delta apart; where only delta is missing, the least amount beside it."""
    draft = unknown_charge(DRAFT, known, was)
    assert draft.spending.loss == missing
    assert was.within(known + period_loss([draft.spending]))


def test_the_entry_says_that_it_stands_for_lost_history() -> None:
    """It is of the window, plan and period that it stands beside, names no metric, view or mechanism, and counts once."""
    draft = unknown_charge(DRAFT, loss("1/8", 2), loss("1/2", 5))
    changed = {
        "metric": "(lost history)",
        "view": [],
        "mechanism": "lost",
        "cap": 1,
        "loss": "3/8",
        "delta": "3/1000000",
    }
    assert json.loads(draft.content) == json.loads(BESIDE.content) | changed
    assert (draft.spending.series, draft.spending.cap) == ("(lost history)//1d/units", 1)


def test_the_entry_is_read_back_as_it_was_charged() -> None:
    """A ledger with it holds, and its period costs what was known and what was missing."""
    draft = unknown_charge(DRAFT, loss("1/100"), loss("1/2", 5))
    entries = chained([BESIDE.content, draft.content])
    assert spending_of(entries[1]) == draft.spending
    assert period_of(entries[1]) == period_of(entries[0])
    assert verify_chain(entries).by_period == {345_600_000: loss("1/2", 5)}
