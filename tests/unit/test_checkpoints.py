"""What a checkpoint says of the entries before it, and that nothing else is read as one (R1)."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.checkpoint import Checkpoint, checkpoint_of
from hushmeter.ledger.entries import checkpoint_after, verify_chain
from hushmeter.model.ledger import GENESIS, LedgerEntry, PrivacyLoss, Spending, canonical_json
from hushmeter.model.time import DAY_MS
from tests.unit.chains import chained, content_with

SALT = bytes(range(16))


def told_of(*contents: str) -> Checkpoint:
    """What the checkpoint says that follows entries of these contents."""
    entry = checkpoint_after("d" * 32, chained(contents), SALT, "ab" * 32)
    assert entry is not None
    return checkpoint_of(entry)


def day(number: int, **changed: object) -> str:
    """The content of one day's entry."""
    return content_with(window_start_ms=(number - 1) * DAY_MS, window_end_ms=number * DAY_MS, **changed)


def test_one_entry_is_enough_for_a_checkpoint() -> None:
    """A ledger of one entry, of a series that a unit is in once, is stood for like any other."""
    said = told_of(day(1, cap=1))
    assert (said.deployment, said.through, said.releases) == ("d" * 32, 1, "ab" * 32)
    assert said.past.spent == {0: {Spending("calls/platform/1d/units", 1, PrivacyLoss(Fraction(1, 100))): 1}}


def test_equal_charges_are_counted() -> None:
    """Charges of one price are one row with their number, by period; they cost what the entries do."""
    contents = [day(1), day(2), day(3, loss="1/50"), day(8, period_start_ms=7 * DAY_MS)]
    said = told_of(*contents)
    series = "calls/platform/1d/units"
    cheap, dear = (Spending(series, 7, PrivacyLoss(Fraction(1, n))) for n in (100, 50))
    assert said.past.spent == {0: {cheap: 2, dear: 1}, 7 * DAY_MS: {cheap: 1}}
    made = checkpoint_after("d" * 32, chained(contents), SALT, "ab" * 32)
    assert made is not None
    assert verify_chain([made]).by_period == verify_chain(chained(contents)).by_period


def test_the_newest_charge_and_the_oldest_release_are_told() -> None:
    """In whatever order windows were charged; a window that was lost is charged, and is no release."""
    ends = {2: DAY_MS * 2, 3: DAY_MS * 3, 5: DAY_MS * 5}
    for order in ((2, 3, 5), (5, 3, 2), (3, 2, 5)):
        past = told_of(*(day(number) for number in order)).past
        assert (past.charged_until_ms, past.released_from_ms) == (ends[5], ends[2])
    past = told_of(day(2, mechanism="lost"), day(3), day(5, mechanism="lost")).past
    assert (past.charged_until_ms, past.released_from_ms) == (ends[5], ends[3])
    past = told_of(day(2, mechanism="lost")).past
    assert (past.charged_until_ms, past.released_from_ms) == (ends[2], None)


def test_an_entry_that_names_no_end_of_its_window_counts_from_the_beginning() -> None:
    """It moves no newest charge, and releases from before it may be missing."""
    past = told_of(content_with(window_end_ms=None)).past
    assert (past.charged_until_ms, past.released_from_ms) == (0, 0)


SAID = json.loads(told_of(day(1)).content())["checkpoint"]
(ROW,) = SAID["spent"]


def read(**changed: object) -> Checkpoint:
    """What is read of an entry that says something else, in canonical JSON."""
    return checkpoint_of(LedgerEntry.following(2, GENESIS, canonical_json({"checkpoint": SAID | changed})))


def test_what_is_read_is_what_was_written() -> None:
    """The text of a checkpoint that was read is the text that was written."""
    assert read() == told_of(day(1))


@pytest.mark.parametrize(
    "changed",
    [
        {"deployment": 7},
        {"through": True},
        {"through": 1.0},
        {"head": None},
        {"releases": []},
        {"charged_until_ms": 86_400_000.0},
        {"charged_until_ms": 1e308},
        {"released_from_ms": "86400000"},
        {"released_from_ms": True},
        {"spent": [["0", *ROW[1:]]]},
        {"spent": [[False, *ROW[1:]]]},
        {"spent": [[0, 7, *ROW[2:]]]},
        {"spent": [[*ROW[:2], True, *ROW[3:]]]},
        {"spent": [[*ROW[:2], 7.5, *ROW[3:]]]},
        {"spent": [[*ROW[:2], 0, *ROW[3:]]]},
        {"spent": [[*ROW[:5], True]]},
        {"spent": [[*ROW[:5], 1.0]]},
        {"spent": [[*ROW[:5], 0]]},
        {"spent": [ROW, ROW]},
        {"spent": [[253402300800000, *ROW[1:]]]},
        {"spent": [[*ROW[:3], f"1{'0' * 100}1/1", *ROW[4:]]]},
    ],
    ids=str,
)
def test_numbers_and_names_of_another_type_are_no_checkpoint(changed: dict[str, object]) -> None:
    """What only resembles a whole number or a name, and a row that stands there twice, is refused by the entry's number."""
    with pytest.raises(LedgerBroken, match=r"^entry 2 is no checkpoint that hushmeter wrote$"):
        read(**changed)


def test_a_number_beyond_all_numbers_is_no_checkpoint() -> None:
    """JSON that reads as infinity is refused like any other text."""
    content = canonical_json({"checkpoint": SAID}).replace('"charged_until_ms":86400000', '"charged_until_ms":1e400')
    with pytest.raises(LedgerBroken, match="entry 2 is no checkpoint that hushmeter wrote"):
        checkpoint_of(LedgerEntry.following(2, GENESIS, content))
