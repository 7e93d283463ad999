"""Removing rows of units that have withdrawn moves no tally: an erasure is never seen in a release (R3, P1)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hushmeter.model.consent import NEVER
from hushmeter.model.report import bytes_of
from hushmeter.storage.log.runs import without_units
from tests.examples import examples
from tests.sealing import sealed
from tests.strategies import DAY, HOUR, Case, cases


@st.composite
def erasures(draw: st.DrawFn) -> tuple[Case, list[bytes]]:
    """A case in which some units have withdrawn everything, and those units."""
    case = draw(cases([HOUR, DAY]))
    units = sorted(set(bytes_of(case.rows.pseudonyms)) | set(bytes_of(case.consent.pseudonyms)))
    erased = draw(st.lists(st.sampled_from(units), unique=True)) if units else []
    since = case.consent.given_since_ms.copy()
    since[[name in erased for name in bytes_of(case.consent.pseudonyms)]] = NEVER
    return replace(case, consent=replace(case.consent, given_since_ms=since)), erased


@examples(400)
@given(erasures())
def test_no_tally_moves(erasure: tuple[Case, list[bytes]]) -> None:
    """With and without the rows of units that have withdrawn, every vector, partition and kept unit is the same."""
    case, erased = erasure
    left = without_units(case.rows, erased)
    assert not set(bytes_of(left.pseudonyms)) & set(erased)
    assert len(left) == sum(name not in erased for name in bytes_of(case.rows.pseudonyms))
    assert sealed(replace(case, rows=left)) == sealed(case)
