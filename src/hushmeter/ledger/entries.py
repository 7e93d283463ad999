"""What the ledger says about a charge, and whether a ledger holds (C2)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hushmeter.errors import InvariantError, LedgerBroken, ensure
from hushmeter.ledger.accountant import period_loss, spendings_of
from hushmeter.ledger.checkpoint import NO_SALTS, Checkpoint, Past, checkpoint_of, head_commitment, is_checkpoint
from hushmeter.ledger.commitments import COMMITMENT, LOST, commitment_to
from hushmeter.model.ledger import (
    GENESIS,
    Charge,
    DraftEntry,
    LedgerEntry,
    MeasurementCharge,
    PrivacyBudget,
    PrivacyLoss,
    Spending,
    canonical_json,
    chain_hash,
    fraction_of,
    fraction_text,
)
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Plan
from hushmeter.model.release import NoisyVector, Release
from hushmeter.model.time import has_date, iso

LOST_HISTORY = "(lost history)"
"""Stands in place of a metric's name where a restore charges what it has no entry of."""
_LEAST = Fraction(1, 10**12)
_Key = tuple[str, tuple[str, ...], str]
_Released = tuple[Release, NoisyVector]


def entries_of(
    plan: Plan,
    deployment_id: str,
    charge: Charge,
    releases: Sequence[Release] | None,
    lost: Collection[str] = (),
) -> tuple[DraftEntry, ...]:
    """The ledger entries of one window, one a measurement.

    Args:
        plan: the plan in force.
        deployment_id: whose ledger.
        charge: what the window costs.
        releases: what was released for it; None where the window is lost, and charged all the same (C6).
        lost: metrics of which nothing was released, and which are charged all the same (C6).

    Returns:
        Canonical JSON texts with what they spend, in the order of the charge's items; functions of plan, window, privacy
        map and released values alone (R1). Each entry commits to its values with a salt of its own: two histories of one
        deployment, which draw their noise apart, never have the same ledger.

    Raises:
        InvariantError: the releases are not exactly what was charged, or cost more, or a salt is missing or used twice.
    """
    released = _vectors_of(releases or ())
    if releases is not None:
        charged = {_key_of(i) for i in charge.items if i.measurement.metric not in lost}
        ensure(charged == released.keys(), "what was released is not what was charged (C4)")
        salts = {vector.salt for _, vector in released.values()}
        ensure(len(salts) == len(released) and None not in salts, "each vector that is released has a salt of its own (R1)")
    contents = [_content(plan, deployment_id, charge, item, released.get(_key_of(item))) for item in charge.items]
    return tuple(DraftEntry(c, s) for c, s in zip(contents, spendings_of(charge), strict=True))


def _key_of(item: MeasurementCharge) -> _Key:
    m = item.measurement
    return m.metric, m.view, m.name.value


def _vectors_of(releases: Sequence[Release]) -> dict[_Key, _Released]:
    return {(r.key.metric, r.key.view, n.value): (r, v) for r in releases for n, v in r.vectors.items()}


def _content(plan: Plan, deployment_id: str, charge: Charge, item: MeasurementCharge, released: _Released | None) -> str:
    m, vector = item.measurement, None if released is None else released[1]
    if vector is not None:
        within = Fraction(vector.loss) <= item.loss.amount and Fraction(vector.delta) <= item.loss.delta
        ensure(within, f"{m.series()} cost more than it was charged")
    return canonical_json(
        {
            "deployment": deployment_id,
            "plan": plan.name,
            "plan_version": plan.version,
            "plan_hash": plan.plan_hash,
            "metric": m.metric,
            "view": list(m.view),
            "measurement": m.name.value,
            "resolution": charge.resolution,
            "window_start_ms": charge.window_start_ms,
            "window_end_ms": charge.window_end_ms,
            "period_start_ms": charge.period_start_ms,
            "mechanism": LOST if vector is None else vector.mechanism.value,
            "currency": charge.currency.value,
            "norm": "L1" if charge.currency is Currency.PURE else "L2",
            "l2_squared": m.l2_squared,
            "sensitivity": item.sensitivity,
            "l0": m.l0,
            "cap": m.windows,
            "scale": item.scale,
            "threshold": item.threshold,
            "loss": fraction_text(item.loss.amount),
            "delta": fraction_text(item.loss.delta),
            "mapped_loss": None if vector is None else vector.loss,
            "mapped_delta": None if vector is None else vector.delta,
            COMMITMENT: None if released is None else commitment_to(*released),
        }
    )


def unknown_charge(beside: DraftEntry, loss: PrivacyLoss, known: PrivacyLoss) -> DraftEntry:
    """An entry for what a period was charged in a history that was lost, beyond what is known of it (C6).

    Args:
        beside: an entry of the window that it stands beside.
        loss: what is known.
        known: what the period was charged, more than `loss`.

    Returns:
        The entry; with it the period's charges are at least `known`.
    """
    more = known.at_least(loss)
    # No entry charges nothing. Where only delta was larger, an amount is added that is too small for any budget to notice.
    missing = PrivacyLoss(max(more.amount - loss.amount, _LEAST), more.delta - loss.delta)
    fields = json.loads(beside.content) | {
        "metric": LOST_HISTORY,
        "view": [],
        "mechanism": "lost",
        "cap": 1,
        "loss": fraction_text(missing.amount),
        "delta": fraction_text(missing.delta),
    }
    series = "/".join((LOST_HISTORY, "", fields["resolution"], fields["measurement"]))
    return DraftEntry(canonical_json(fields), Spending(series, 1, missing))


def spending_of(entry: LedgerEntry) -> Spending:
    """What one entry spends; raises `LedgerBroken` where it does not say so."""
    try:
        f = entry.fields
        view, cap = f["view"], f["cap"]
        if not isinstance(view, list) or not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
            raise ValueError
        series = "/".join((str(f["metric"]), ",".join(view), str(f["resolution"]), str(f["measurement"])))
        loss = PrivacyLoss(fraction_of(f["loss"]), fraction_of(f["delta"]))
        if loss.amount <= 0 or Currency(str(f["currency"])) not in Currency:
            raise ValueError
        return Spending(series, cap, loss)
    except (KeyError, ValueError, ZeroDivisionError, TypeError, InvariantError):
        raise LedgerBroken(f"entry {entry.sequence} does not say what it spends") from None


def period_of(entry: LedgerEntry) -> int:
    """The start of the period that pays for one entry; raises `LedgerBroken` where it does not say so."""
    try:
        start = entry.fields["period_start_ms"]
        if not isinstance(start, int) or isinstance(start, bool) or not has_date(start):
            raise TypeError
        return start
    except (KeyError, ValueError, TypeError):
        raise LedgerBroken(f"entry {entry.sequence} does not say which period pays") from None


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What a ledger that holds adds up to.

    A ledger that was cut off at its end holds as well. Only whoever keeps the head's hash elsewhere finds that out.

    Attributes:
        first: number of its first entry: 1, or that of the checkpoint that it begins with.
        count: how many entries.
        head_hash: hash of the newest entry; zeros for an empty ledger.
        by_period: what one unit's record of each period cost, by start of the period; what a first checkpoint says that
            was spent before it is in it.
    """

    first: int
    count: int
    head_hash: bytes
    by_period: Mapping[int, PrivacyLoss]


def verify_chain(entries: Iterable[LedgerEntry], salts: Mapping[int, bytes] = NO_SALTS) -> LedgerSummary:
    """Follows the hash chain, from the first entry on or from a checkpoint on.

    Args:
        entries: in order; the whole ledger, or the part that is public: see `hushmeter.ledger.checkpoint`.
        salts: of checkpoints, by number; needed of those that do not come first.

    Raises:
        LedgerBroken: naming the first entry that does not hold.
    """
    return _followed(entries, salts)[0]


def checkpoint_after(deployment_id: str, entries: Iterable[LedgerEntry], salt: bytes, releases: str) -> LedgerEntry | None:
    """The checkpoint that stands for a whole ledger.

    Args:
        deployment_id: whose.
        entries: all of them.
        salt: 16 bytes, fresh.
        releases: see `Checkpoint`.

    Returns:
        The entry that follows them; None where there are none.

    Raises:
        LedgerBroken: the ledger does not hold.
    """
    summary, past = _followed(entries, NO_SALTS)
    if not summary.count:
        return None
    head = head_commitment(salt, summary.count, summary.head_hash)
    made = Checkpoint(deployment_id, summary.count, head, releases, past)
    return LedgerEntry.following(summary.count + 1, GENESIS, made.content())


def _followed(entries: Iterable[LedgerEntry], salts: Mapping[int, bytes]) -> tuple[LedgerSummary, Past]:
    previous, first, last, past = GENESIS, 1, 0, Past()
    for entry in entries:
        if entry.entry_hash != chain_hash(entry.previous_hash, entry.content):
            raise LedgerBroken(f"entry {entry.sequence} was altered: its hash is not that of its content")
        checkpoint = checkpoint_of(entry) if is_checkpoint(entry) else None
        if checkpoint is not None and last == 0:
            first, last, past = entry.sequence, checkpoint.through, checkpoint.past
        elif checkpoint is not None:
            _ensure_stands_for(checkpoint, entry.sequence, salts, previous, past)
            previous = GENESIS
        last += 1
        if entry.sequence != last:
            raise LedgerBroken(f"entry {last} is missing: entry {entry.sequence} stands in its place")
        if entry.previous_hash != previous:
            raise LedgerBroken(f"entry {last} does not follow the entry before it: previous_hash differs")
        if checkpoint is None:
            _add(past, entry)
        previous = entry.entry_hash
    by_period = {start: period_loss(_counted(same)) for start, same in past.spent.items()}
    return LedgerSummary(first, last - first + 1, previous, by_period), past


def _ensure_stands_for(
    checkpoint: Checkpoint, sequence: int, salts: Mapping[int, bytes], previous: bytes, past: Past
) -> None:
    salt = salts.get(sequence)
    if salt is None:
        raise LedgerBroken(f"the salt of checkpoint {sequence} is missing: what it stands for cannot be known")
    if checkpoint.head != head_commitment(salt, checkpoint.through, previous) or checkpoint.past != past:
        raise LedgerBroken(f"checkpoint {sequence} does not stand for the entries before it")


def _add(past: Past, entry: LedgerEntry) -> None:
    spending, period, fields = spending_of(entry), period_of(entry), entry.fields
    end = fields.get("window_end_ms")
    past.add(period, spending, end if isinstance(end, int) else 0, released=fields.get("mechanism") != LOST)


def _counted(same: Counter[Spending]) -> list[Spending]:
    return [Spending(s.series, s.cap, s.loss, count) for s, count in same.items()]


def verify_budget(summary: LedgerSummary, budget: PrivacyBudget, later: Mapping[int, PrivacyBudget] | None = None) -> None:
    """Checks that no period was charged more than its budget.

    Args:
        summary: of the ledger.
        budget: of a period of the first plan.
        later: budgets of later versions, by the moment from which periods are theirs.

    Raises:
        LedgerBroken: naming the first period that was.
    """
    budgets = later or {}
    for start, loss in sorted(summary.by_period.items()):
        since = max((at for at in budgets if at <= start), default=None)
        own = budget if since is None else budgets[since]
        if not loss.within(own.loss):
            raise LedgerBroken(
                f"the period from {iso(start)} was charged {own.currency} {float(loss.amount):.6g} and delta "
                f"{float(loss.delta):.3g}; its budget is {float(own.loss.amount):.6g} and {float(own.loss.delta):.3g}"
            )
