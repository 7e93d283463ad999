from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import pytest

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.entries import entries_of, verify_budget, verify_chain
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import GENESIS, LedgerEntry, PrivacyBudget
from hushmeter.model.measurement import MeasurementName
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.release.measuring import measure
from hushmeter.sealing.seal import empty_tally
from tests.unit.test_plan_check import BUDGET, PLAN

WINDOW = PLAN.resolution("1d").span.window_of(1_772_500_000_000)
CHARGE = PriceList.of(PLAN, BUDGET).charge(WINDOW, Fraction(0))


def chained(contents: tuple[str, ...]) -> list[LedgerEntry]:
    entries, previous = [], GENESIS
    for number, content in enumerate(contents, 1):
        entries.append(LedgerEntry.following(number, previous, content))
        previous = entries[-1].entry_hash
    return entries


ENTRIES = chained(entries_of(PLAN, "d" * 32, CHARGE, None))


def test_a_chain_that_holds_adds_up() -> None:
    """A whole chain gives its head and each period's exact sum, which is within the budget."""
    summary = verify_chain(ENTRIES)
    assert summary.count == len(CHARGE.items)
    assert summary.head_hash == ENTRIES[-1].entry_hash
    assert summary.rho_by_period == {CHARGE.period_start_ms: CHARGE.rho}
    verify_budget(summary, BUDGET)
    with pytest.raises(LedgerBroken, match=r"charged rho .*; its budget is"):
        verify_budget(summary, PrivacyBudget(4.0, 1e-8, CHARGE.rho - Fraction(1, 10**12)))


@pytest.mark.parametrize("at", [0, 3, len(ENTRIES) - 1])
def test_tampering_is_found_at_the_entry(at: int) -> None:
    """A changed field, a forged hash, a missing and a swapped entry are each found, by number."""
    entry = ENTRIES[at]
    cheaper = json.dumps(json.loads(entry.content) | {"rho": "0/1"})
    altered = [*ENTRIES[:at], dataclasses.replace(entry, content=cheaper), *ENTRIES[at + 1 :]]
    with pytest.raises(LedgerBroken, match=f"entry {at + 1} was altered"):
        verify_chain(altered)
    forged = [*ENTRIES[:at], LedgerEntry.following(at + 1, entry.previous_hash, cheaper), *ENTRIES[at + 1 :]]
    if at < len(ENTRIES) - 1:
        with pytest.raises(LedgerBroken, match=f"entry {at + 2} does not follow"):
            verify_chain(forged)
        with pytest.raises(LedgerBroken, match=f"entry {at + 1} is missing"):
            verify_chain([*ENTRIES[:at], *ENTRIES[at + 1 :]])


def test_entries_name_what_was_done() -> None:
    """Each entry names mechanism, scale, sensitivity and norm, and OpenDP's own map, which is within the charge (C2)."""
    tally = empty_tally(PLAN, WINDOW)
    releases = measure(tally, CHARGE, OpenDPMechanisms(), plan=PLAN, completeness=0.5)
    contents = [json.loads(c) for c in entries_of(PLAN, "d" * 32, CHARGE, releases)]
    assert len(contents) == len(CHARGE.items) == len(tally.vectors)
    for fields, item in zip(contents, CHARGE.items, strict=True):
        assert fields["mechanism"] == "discrete_gaussian"
        assert fields["norm"] == "L2"
        assert fields["scale"] == item.scale
        assert fields["sensitivity"] ** 2 >= fields["l2_squared"] * (1 - 1e-15)
        assert Fraction(fields["rho"]) == item.rho
        assert 0 < Fraction(fields["mapped_rho"]) <= item.rho
    assert all(json.loads(e.content)["mechanism"] == "lost" for e in ENTRIES)


def test_every_vector_is_released_with_noise_also_an_empty_one() -> None:
    """Releases of nobody's data hold noise in every vector, at scheduled times (T3, R1)."""
    releases = measure(empty_tally(PLAN, WINDOW), CHARGE, OpenDPMechanisms(), plan=PLAN, completeness=1.0)
    assert {(r.key.metric, r.key.view) for r in releases} == {
        (m.name, view) for m in PLAN.metrics_in(WINDOW) for view in m.views
    }
    assert all(r.published_at_ms == WINDOW.end_ms + 48 * 3_600_000 for r in releases)
    setup = next(r for r in releases if r.key.metric == "call_setup" and r.key.view == ("platform",))
    assert setup.vectors[MeasurementName.WEIGHTS].values.any()
    assert setup.vectors[MeasurementName.UNIT_MEAN].values.any()
