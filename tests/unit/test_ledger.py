from __future__ import annotations

import dataclasses
import datetime as dt
import json
from fractions import Fraction

import pytest

from hushmeter.errors import InvariantError, LedgerBroken
from hushmeter.ledger.entries import entries_of, period_of, spending_of, verify_budget, verify_chain
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.ledger import GENESIS, Charge, LedgerEntry, PrivacyBudget, PrivacyLoss, Spending, canonical_json
from hushmeter.model.measurement import Currency, MeasurementName, Mechanism
from hushmeter.model.release import Release
from hushmeter.model.time import DAY_MS, iso
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.reading import parse_plan
from hushmeter.plan.template import plan_template
from hushmeter.release.measuring import measure
from hushmeter.testing.tallies import empty_tally
from tests.unit.chains import chained, content_with

TODAY = dt.date(2026, 3, 2)
TEXT = plan_template(TODAY).replace("per_unit: {range: [0, 10000],", "per_unit: {max_windows: {1d: 2}, range: [0, 10000],")
PLAN = parse_plan(TEXT, TODAY)
MECHANISMS = OpenDPMechanisms()
BUDGETS = {
    Currency.ZCDP: PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1, 4), Fraction(1e-8) / 2)),
    Currency.PURE: PrivacyBudget(4.0, 1e-8, Currency.PURE, PrivacyLoss(Fraction(4), Fraction(1e-8))),
}
PRICES = {currency: PriceList.of(PLAN, budget, MECHANISMS) for currency, budget in BUDGETS.items()}
DAYS = PLAN.resolution("1d").span.tiles(PLAN.privacy.period.window_of(1_772_500_000_000))
CHARGES = {currency: prices.charge(DAYS[0], ()) for currency, prices in PRICES.items()}
currencies = pytest.mark.parametrize("currency", Currency)


def contents_of(charge: Charge, releases: tuple[Release, ...] | None = None) -> list[str]:
    return [draft.content for draft in entries_of(PLAN, "d" * 32, charge, releases)]


def released(currency: Currency) -> tuple[Release, ...]:
    return measure(empty_tally(PLAN, DAYS[0]), CHARGES[currency], MECHANISMS, plan=PLAN, completeness=0.5)


ENTRIES = chained(contents_of(CHARGES[Currency.ZCDP]))


def loss_of(charge: Charge) -> PrivacyLoss:
    """What the whole window costs one unit that is in it."""
    return sum((item.loss for item in charge.items), PrivacyLoss())


@currencies
def test_a_chain_that_holds_adds_up(currency: Currency) -> None:
    """A whole chain gives its head and each period's exact sum, which is within the budget; a hair less is not."""
    charge, budget = CHARGES[currency], BUDGETS[currency]
    loss = loss_of(charge)
    entries = chained(contents_of(charge))
    summary = verify_chain(entries)
    assert summary.count == len(charge.items)
    assert summary.head_hash == entries[-1].entry_hash
    assert summary.by_period == {charge.period_start_ms: loss}
    assert loss.delta > 0, "private partitions were charged"
    verify_budget(summary, budget)
    verify_budget(summary, dataclasses.replace(budget, loss=loss))
    hair = 1 - Fraction(1, 10**12)
    for less in (
        PrivacyLoss(loss.amount * hair, loss.delta),
        PrivacyLoss(loss.amount, loss.delta * hair),
    ):
        with pytest.raises(
            LedgerBroken, match=f"the period from {iso(charge.period_start_ms)} was charged {currency} .*; its"
        ):
            verify_budget(summary, dataclasses.replace(budget, loss=less))


@currencies
def test_a_whole_period_spends_its_budget_to_the_last_bit(currency: Currency) -> None:
    """Every window of a period, released or lost, adds up to the budget exactly, though capped series are in all days."""
    windows = [w for r in PLAN.resolutions for w in r.span.tiles(PLAN.privacy.period.window_of(DAYS[0].end_ms))]
    contents = [content for window in windows for content in contents_of(PRICES[currency].charge(window, ()))]
    summary = verify_chain(chained(contents))
    assert summary.by_period == {DAYS[0].start_ms: BUDGETS[currency].loss}
    verify_budget(summary, BUDGETS[currency])


def test_periods_are_added_up_apart() -> None:
    """Each period has its own sum, and the first that overspends is named."""
    first, second = (
        CHARGES[Currency.ZCDP],
        PRICES[Currency.ZCDP].charge(PLAN.resolution("1d").span.window_from(DAYS[-1].end_ms), ()),
    )
    summary = verify_chain(chained([*contents_of(first), *contents_of(second), *contents_of(second)]))
    assert list(summary.by_period) == [first.period_start_ms, second.period_start_ms]
    assert summary.by_period[first.period_start_ms] == loss_of(first)
    assert summary.by_period[second.period_start_ms] == loss_of(second).times(2)
    with pytest.raises(LedgerBroken, match=f"the period from {iso(second.period_start_ms)} was charged"):
        verify_budget(summary, dataclasses.replace(BUDGETS[Currency.ZCDP], loss=loss_of(first)))


def test_an_empty_ledger_holds() -> None:
    """A ledger without entries has the head of nothing and no periods."""
    summary = verify_chain([])
    assert (summary.count, summary.head_hash, summary.by_period) == (0, GENESIS, {})
    verify_budget(summary, BUDGETS[Currency.ZCDP])


@pytest.mark.parametrize("at", [0, 3, len(ENTRIES) - 1])
def test_tampering_is_found_at_the_entry(at: int) -> None:
    """A changed field, a forged hash, a missing and a swapped entry are each found, by number."""
    entry = ENTRIES[at]
    cheaper = json.dumps(json.loads(entry.content) | {"loss": "1/10000000"})
    altered = [*ENTRIES[:at], dataclasses.replace(entry, content=cheaper), *ENTRIES[at + 1 :]]
    with pytest.raises(LedgerBroken, match=f"entry {at + 1} was altered"):
        verify_chain(altered)
    forged = [*ENTRIES[:at], LedgerEntry.following(at + 1, entry.previous_hash, cheaper), *ENTRIES[at + 1 :]]
    if at < len(ENTRIES) - 1:
        with pytest.raises(LedgerBroken, match=f"entry {at + 2} does not follow"):
            verify_chain(forged)
        with pytest.raises(LedgerBroken, match=f"entry {at + 1} is missing"):
            verify_chain([*ENTRIES[:at], *ENTRIES[at + 1 :]])
        swapped = [*ENTRIES[:at], ENTRIES[at + 1], entry, *ENTRIES[at + 2 :]]
        with pytest.raises(LedgerBroken, match=f"entry {at + 1} is missing: entry {at + 2} stands in its place"):
            verify_chain(swapped)


@pytest.mark.parametrize(
    "changed",
    [
        {"cap": 0},
        {"cap": True},
        {"cap": 2.0},
        {"cap": None},
        {"view": "platform"},
        {"currency": "gold"},
        {"loss": "0/1"},
        {"loss": "-1/4"},
        {"loss": "1/0"},
        {"loss": "1e9"},
        {"loss": 0.25},
        {"loss": "1" * 4_001},
        {"loss": f"1{'0' * 100}1/1"},
        {"delta": "-1/9"},
        {"delta": "1/1"},
        {"delta": None},
    ],
    ids=str,
)
def test_an_entry_that_does_not_say_what_it_spends_is_named(changed: dict[str, object]) -> None:
    """A spending that cannot be read, also under a hash that holds, breaks the ledger instead of counting for nothing."""
    fields = json.loads(ENTRIES[2].content)
    entry = LedgerEntry.following(3, ENTRIES[1].entry_hash, json.dumps(fields | changed))
    with pytest.raises(LedgerBroken, match="entry 3 does not say what it spends"):
        verify_chain([*ENTRIES[:2], entry])
    for name in changed:
        without = json.dumps({k: v for k, v in fields.items() if k != name})
        with pytest.raises(LedgerBroken, match="entry 3 does not say what it spends"):
            spending_of(LedgerEntry.following(3, GENESIS, without))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        '{"period_start_ms":',
        "{}",
        '{"period_start_ms":"1"}',
        '{"period_start_ms":true}',
        '{"period_start_ms":253402300800000}',
    ],
)
def test_an_entry_that_does_not_say_which_period_pays_is_named(content: str) -> None:
    """Content that is not a mapping, or has no period, breaks the ledger by name."""
    with pytest.raises(LedgerBroken, match="entry 1 does not say which period pays"):
        period_of(LedgerEntry.following(1, GENESIS, content))


def expected_mechanism(currency: Currency, name: str, *, selects: bool) -> str:
    family = "laplace" if currency is Currency.PURE else "gaussian"
    return f"{family}_threshold" if selects else f"discrete_{family}"


@currencies
def test_entries_name_what_was_done(currency: Currency) -> None:
    """Each entry names mechanism, scale, sensitivity, norm, cap and delta, and OpenDP's map, within the charge (C2)."""
    charge = CHARGES[currency]
    contents = [json.loads(c) for c in contents_of(charge, released(currency))]
    assert len(contents) == len(charge.items) == len(empty_tally(PLAN, DAYS[0]).vectors)
    for fields, item in zip(contents, charge.items, strict=True):
        m = item.measurement
        assert fields["mechanism"] == expected_mechanism(currency, m.name, selects=m.selects)
        assert fields["norm"] == ("L1" if currency is Currency.PURE else "L2")
        assert fields["currency"] == currency.value
        assert (fields["metric"], tuple(fields["view"]), fields["measurement"]) == (m.metric, m.view, m.name.value)
        assert (fields["plan"], fields["plan_hash"], fields["plan_version"]) == (PLAN.name, PLAN.plan_hash, 1)
        assert fields["deployment"] == "d" * 32
        assert (fields["scale"], fields["threshold"]) == (item.scale, item.threshold)
        assert (fields["l0"], fields["cap"]) == (m.l0, 2 if m.metric == "call_setup" else 7)
        if currency is Currency.PURE:
            assert fields["sensitivity"] == m.l1
        else:
            assert Fraction(fields["sensitivity"]) ** 2 >= fields["l2_squared"] == m.l2_squared
        assert Fraction(fields["loss"]) == item.loss.amount
        assert Fraction(fields["delta"]) == item.loss.delta
        assert 0 < Fraction(fields["mapped_loss"]) <= item.loss.amount
        assert (Fraction(fields["mapped_delta"]) > 0) == m.selects
        assert Fraction(fields["mapped_delta"]) <= item.loss.delta
    assert sum(item.measurement.selects for item in charge.items) == 1


@currencies
def test_a_lost_window_is_charged_in_full(currency: Currency) -> None:
    """The entries of a window that is lost spend what its release would have, and say so (C6)."""
    lost = entries_of(PLAN, "d" * 32, CHARGES[currency], None)
    done = entries_of(PLAN, "d" * 32, CHARGES[currency], released(currency))
    assert [draft.spending for draft in lost] == [draft.spending for draft in done]
    for draft in lost:
        fields = json.loads(draft.content)
        assert (fields["mechanism"], fields["mapped_loss"], fields["mapped_delta"]) == ("lost", None, None)


@currencies
def test_entries_can_be_read_back(currency: Currency) -> None:
    """What an entry spends, read from its content, is what was charged; content is canonical JSON."""
    drafts = entries_of(PLAN, "d" * 32, CHARGES[currency], released(currency))
    for entry, draft in zip(chained([draft.content for draft in drafts]), drafts, strict=True):
        assert spending_of(entry) == draft.spending
        assert period_of(entry) == CHARGES[currency].period_start_ms
        assert canonical_json(json.loads(draft.content)) == draft.content


@pytest.mark.parametrize(
    ("view", "cap", "series"),
    [
        ([], 7, "calls//1d/units"),
        (["platform"], 1, "calls/platform/1d/units"),
        (["country", "platform"], 2, "calls/country,platform/1d/units"),
    ],
    ids=str,
)
def test_windows_of_one_view_are_one_series(view: list[str], cap: int, series: str) -> None:
    """An entry spends for the series of its metric, its view with every dimension, its resolution and its measurement."""
    (entry,) = chained([content_with(view=view, cap=cap)])
    assert spending_of(entry) == Spending(series, cap, PrivacyLoss(Fraction(1, 100)))


@currencies
def test_a_mechanism_may_cost_all_that_was_charged(currency: Currency) -> None:
    """A vector whose own map says exactly what it was charged is entered as it is."""
    charge, releases = CHARGES[currency], released(currency)
    vectors = {(r.key.metric, r.key.view, n): v for r in releases for n, v in r.vectors.items()}
    exact = [
        dataclasses.replace(item, loss=PrivacyLoss(Fraction(vectors[m.metric, m.view, m.name].loss), item.loss.delta))
        for item in charge.items
        for m in (item.measurement,)
    ]
    contents = contents_of(dataclasses.replace(charge, items=tuple(exact)), releases)
    assert all(Fraction(f["loss"]) == Fraction(f["mapped_loss"]) for f in map(json.loads, contents))


@currencies
def test_what_was_released_must_be_what_was_charged(currency: Currency) -> None:
    """A vector too few, a release too few, and a vector that cost more than its charge are each a defect (C4)."""
    charge, releases = CHARGES[currency], released(currency)
    with pytest.raises(InvariantError, match=r"what was released is not what was charged \(C4\)"):
        contents_of(charge, releases[1:])
    first = releases[0]
    name, vector = next(iter(first.vectors.items()))
    fewer = dataclasses.replace(charge, items=charge.items[1:])
    with pytest.raises(InvariantError, match=r"what was released is not what was charged \(C4\)"):
        contents_of(fewer, releases)
    for dearer in (dataclasses.replace(vector, loss=vector.loss * 1.001), dataclasses.replace(vector, delta=1e-300)):
        changed = dataclasses.replace(first, vectors={**first.vectors, name: dearer})
        with pytest.raises(InvariantError, match=f"{first.key.metric}/.* cost more than it was charged"):
            contents_of(charge, (changed, *releases[1:]))


@currencies
def test_every_vector_is_released_with_noise_also_an_empty_one(currency: Currency) -> None:
    """Releases of nobody's data hold noise in every public vector, and no private partition, on schedule (T3, R1)."""
    releases = released(currency)
    assert {(r.key.metric, r.key.view) for r in releases} == {
        (m.name, view) for m in PLAN.metrics_in(DAYS[0]) for view in m.views
    }
    assert all(r.published_at_ms == DAYS[0].start_ms + 3 * DAY_MS for r in releases)
    setup = {r.key.view: r for r in releases if r.key.metric == "call_setup"}
    for name in (MeasurementName.WEIGHTS, MeasurementName.UNIT_MEAN):
        assert setup["platform",].vectors[name].values.any()
    assert setup["platform",].keys is None
    opened = setup["app_version",]
    assert opened.keys == ()
    assert {len(vector.values) for vector in opened.vectors.values()} == {0}
    assert opened.vectors[MeasurementName.UNITS].mechanism in {Mechanism.GAUSSIAN_THRESHOLD, Mechanism.LAPLACE_THRESHOLD}
    participants = next(r for r in releases if r.key.metric == "participants")
    assert participants.vectors[MeasurementName.UNITS].values.any()


def with_first_item_wider(charge: Charge) -> Charge:
    first, *rest = charge.items
    wider = dataclasses.replace(first, measurement=dataclasses.replace(first.measurement, columns=2))
    return dataclasses.replace(charge, items=(wider, *rest))


CHARGE = CHARGES[Currency.ZCDP]
WRONG = {
    "earlier": (dataclasses.replace(CHARGE, window_start_ms=DAYS[0].start_ms - DAY_MS), "a charge for another window"),
    "hourly": (dataclasses.replace(CHARGE, resolution="1h"), "a charge for another window"),
    "one fewer": (dataclasses.replace(CHARGE, items=CHARGE.items[1:]), "a charge covers exactly a tally's vectors"),
    "twice": (
        dataclasses.replace(CHARGE, items=(*CHARGE.items, CHARGE.items[0])),
        "a charge covers exactly a tally's vectors",
    ),
    "wider": (with_first_item_wider(CHARGE), "a vector of another shape than its measurement"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_charge_must_cover_exactly_what_is_measured(wrong: str) -> None:
    """A charge of another window, with a vector too few, twice or of another shape, releases nothing."""
    charge, told = WRONG[wrong]
    with pytest.raises(InvariantError, match=told):
        measure(empty_tally(PLAN, DAYS[0]), charge, MECHANISMS, plan=PLAN, completeness=1.0)
