"""Builds the record: a mapping that is the same text for everybody who asks at the same head of the ledger (R1).

Nothing in it is a number of a tally, a count of rows or a time of a wall clock: it is computed from plan versions, ledger
entries and released estimates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hushmeter.ledger.accountant import Conversion, SpanCost, epsilon_and_delta, planned_costs, span_costs
from hushmeter.ledger.checkpoint import Past, checkpoint_of, is_checkpoint
from hushmeter.ledger.commitments import LOST
from hushmeter.ledger.entries import verify_chain
from hushmeter.model.changes import FOR_PEOPLE
from hushmeter.model.ledger import LedgerEntry, PrivacyBudget
from hushmeter.model.plan import Metric, Plan
from hushmeter.model.stored import PlanVersion, Restore
from hushmeter.model.time import duration_text, iso
from hushmeter.plan.changes import changes_of, raw_rows_ms
from hushmeter.transparency.registry import registry_entry

FORMAT = "hushmeter transparency record 2"
WITHHELD = (
    "The first {count} entries of the ledger are from before salts: with their texts or hashes anybody could test guesses "
    "of what was released to some readers alone. They are withheld. Entry {first} is a checkpoint: it commits to them, and "
    "says what they spent. The operator, who has them, can verify the whole chain."
)
LIMITS = (
    "It is a promise about statistics: the operator's machine sees raw rows until their keys are destroyed.",
    "It holds for one {unit}. Somebody who uses several is protected less: loss grows at least as fast as their number.",
    "It does not cover what leaves the deployment on other ways: network traffic, copies that others made, other services.",
    "Another deployment, also of the same operator, has a budget of its own: costs of both add up.",
)
CHOICES = (
    "Nothing of your {unit} is collected before you agree, to each purpose by itself; a text that changes is asked again.",
    "You can withdraw at any time: no window whose deadline comes after that holds your {unit}.",
    "You can have its rows erased, by a time that you are told on a signed receipt; rows of a window that waits to be "
    "published go when it has ended.",
    "You can ask what is held on your {unit}, and when it is destroyed. The application that collects it has all this to "
    "offer.",
)

_NEARLY, _NO_BOUND = 98.0, 99.9
"""Percents of certainty from which on two more digits are told, or none."""


@dataclass(frozen=True, slots=True)
class PublishedEstimate:
    """One released number of people, with noise.

    Attributes:
        metric: that the service counts by itself, such as `participants`.
        partition: what it is of, such as a purpose.
        window_start_ms, window_end_ms: of its window.
        value, low, high: estimate and 95 % interval.
    """

    metric: str
    partition: str
    resolution: str
    window_start_ms: int
    window_end_ms: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Published:
    """Everything that the record is made of.

    Attributes:
        deployment_id: 32 hexadecimal digits.
        versions: of the plan, as recorded and as read, in order.
        entries: the ledger, from where on it is public: its first entry or its checkpoint.
        participation: released estimates of who takes part.
        restores: every time that the deployment was taken up from a backup.
    """

    deployment_id: str
    versions: Sequence[tuple[PlanVersion, Plan]]
    entries: Sequence[LedgerEntry]
    participation: Sequence[PublishedEstimate] = ()
    restores: Sequence[Restore] = ()


def public_record(published: Published, conversion: Conversion) -> dict[str, object]:
    """The record as a mapping of JSON's types.

    Args:
        published: what there is.
        conversion: of rho to epsilon.

    Raises:
        LedgerBroken: the ledger does not hold.
    """
    past, charges = _public_part(published.entries)
    ends = [int(str(entry.fields["window_end_ms"])) for entry in charges]
    as_of_ms = max(ends, default=past.charged_until_ms) or published.versions[0][0].recorded_at_ms
    version, plan = next(
        (v for v in reversed(published.versions) if v[0].active_from_ms <= as_of_ms), published.versions[0]
    )
    spans = planned_spans(version.budget, plan, conversion)
    released = [int(str(e.fields["window_end_ms"])) for e in charges if e.fields["mechanism"] != LOST]
    first_ms = past.released_from_ms or min(released, default=None)
    first = None if first_ms is None else iso(first_ms)[:10]
    return {
        "format": FORMAT,
        "deployment": published.deployment_id,
        "as_of": iso(as_of_ms),
        "plan": {"name": plan.name, "version": plan.version, "plan_hash": plan.plan_hash},
        "privacy_unit": plan.privacy.unit,
        "purposes": [{"name": p.name, "text": p.text, "text_sha256": p.text_hash.hex()} for p in plan.purposes],
        "collected": [_metric(m, as_of_ms) for m in plan.metrics],
        "counted_by_the_service": [m.name for m in plan.built_in],
        "raw_data": {
            "longest_life": duration_text(raw_rows_ms(plan)),
            "storage_window": plan.finest.name,
            "pseudonyms_change_every": plan.privacy.period.name,
        },
        "privacy": _privacy(published, version.budget, plan, conversion),
        "participation": [_estimate(e) for e in published.participation],
        "plan_versions": list(_versions(published.versions)),
        "restores": [_restore(r, published.entries) for r in published.restores],
        "registry_entry": registry_entry(plan, version.budget, spans, first),
        "your_choices": [c.format(unit=plan.privacy.unit) for c in CHOICES],
        "limits": [limit.format(unit=plan.privacy.unit) for limit in LIMITS],
        "ledger": _ledger(published.entries),
    }


def _ledger(entries: Sequence[LedgerEntry]) -> dict[str, object]:
    first = entries[0].sequence if entries else 1
    return {
        "first": first,
        "withheld": WITHHELD.format(count=first - 1, first=first) if first > 1 else None,
        "head": entries[-1].entry_hash.hex() if entries else "00" * 32,
        "entries": [entry.content for entry in entries],
    }


def _public_part(entries: Sequence[LedgerEntry]) -> tuple[Past, Sequence[LedgerEntry]]:
    """What is told of withheld entries, and the charges that are not withheld."""
    if entries and is_checkpoint(entries[0]):
        return checkpoint_of(entries[0]).past, entries[1:]
    return Past(), entries


def planned_spans(budget: PrivacyBudget, plan: Plan, conversion: Conversion) -> list[dict[str, object]]:
    """What one unit's record of longer spans of time costs at most, if every period spends its budget."""
    spans: list[dict[str, object]] = []
    for span, loss in planned_costs(budget, plan.privacy.period).items():
        epsilon, delta = epsilon_and_delta(loss, budget, conversion)
        spans.append({"span": span, "epsilon": epsilon, "delta": delta})
    return spans


def _metric(metric: Metric, as_of_ms: int) -> dict[str, object]:
    return {
        "name": metric.name,
        "description": metric.description,
        "kind": metric.kind.value,
        "unit": metric.unit,
        "category": metric.category.value,
        "owner": metric.owner,
        "purposes": list(metric.purposes),
        "expires": iso(metric.expires_ms),
        "expired": metric.expires_ms <= as_of_ms,
        "dimensions": [
            {"name": d.name, "values": list(d.values)} if d.open is None else {"name": d.name, "pattern": d.open.pattern}
            for d in metric.dimensions
        ],
        "statistics": [s.value for s in metric.statistics],
        "released_every": list(metric.at),
        "bounds": {
            at: {
                "range": [float(b.low * metric.step), float(b.high * metric.step)],
                "max_partitions": b.max_partitions,
                "max_events": b.max_events,
                "max_windows": b.max_windows,
            }
            for at, b in metric.bounds.items()
        },
    }


def _privacy(published: Published, budget: PrivacyBudget, plan: Plan, conversion: Conversion) -> dict[str, object]:
    summary = verify_chain(published.entries)
    spans = span_costs(summary.by_period, plan.privacy.period) if summary.by_period else ()
    costs = [_cost(span, budget, conversion) for span in spans]
    periods = []
    for start, loss in sorted(summary.by_period.items()):
        epsilon, delta = epsilon_and_delta(loss, budget, conversion)
        periods.append({"from": iso(start), "epsilon": epsilon, "delta": delta})
    return {
        "definition": "zCDP, stated as (epsilon, delta)" if budget.currency.value == "zcdp" else "(epsilon, delta)",
        "neighbours": f"two data sets that differ in one {plan.privacy.unit}'s whole record of one period",
        "period": plan.privacy.period.name,
        "budget_of_a_period": {"epsilon": budget.epsilon, "delta": budget.delta},
        "spent": periods,
        "cost_so_far": costs,
        "what_this_means": [meaning(float(str(c["epsilon"])), str(c["span"]), plan.privacy.unit) for c in costs],
        "windows": list(_windows(_public_part(published.entries)[1])),
    }


def _cost(span: SpanCost, budget: PrivacyBudget, conversion: Conversion) -> dict[str, object]:
    epsilon, delta = epsilon_and_delta(span.loss, budget, conversion)
    return {"span": span.name, "epsilon": epsilon, "delta": delta, "periods": span.periods}


def meaning(epsilon: float, span: str, unit: str) -> str:
    """What an epsilon says about one unit, as what somebody who was undecided can come to believe.

    References:
        By Bayes' rule the odds of two neighbouring data sets move by at most e^epsilon (up to delta), so that a belief of
        one half becomes at most e^epsilon / (1 + e^epsilon).
    """
    most = 100 / (1 + math.exp(-min(epsilon, 700.0)))
    if most > _NO_BOUND:
        return (
            f"{span}: epsilon {epsilon:.3g} adds up to no useful bound over so long a time; the promise is for one period"
        )
    said = f"{math.ceil(most)} %" if most < _NEARLY else f"{math.ceil(most * 100) / 100:.2f} %"
    return (
        f"{span}: whoever thinks it as likely as not that your {unit} took part can become, from everything that was "
        f"released, at most {said} sure (epsilon {epsilon:.3g})"
    )


def _windows(entries: Sequence[LedgerEntry]) -> Iterator[dict[str, object]]:
    """Every window and metric whose charge is public: its price in the plan's currency, and whether it was released."""

    def key(fields: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(fields[name]) for name in ("resolution", "window_start_ms", "metric"))

    for _, charged in itertools.groupby((entry.fields for entry in entries), key):
        same = list(charged)
        first = same[0]
        yield {
            "metric": first["metric"],
            "resolution": first["resolution"],
            "from": iso(int(str(first["window_start_ms"]))),
            "to": iso(int(str(first["window_end_ms"]))),
            "plan_version": first["plan_version"],
            "currency": first["currency"],
            "measurements": len(same),
            "losses": sorted({str(f["loss"]) for f in same}),
            "released": any(f["mechanism"] != LOST for f in same),
        }


def _estimate(estimate: PublishedEstimate) -> dict[str, object]:
    return {
        "metric": estimate.metric,
        "of": estimate.partition,
        "resolution": estimate.resolution,
        "from": iso(estimate.window_start_ms),
        "to": iso(estimate.window_end_ms),
        "value": estimate.value,
        "interval_95": [estimate.low, estimate.high],
    }


def _versions(versions: Sequence[tuple[PlanVersion, Plan]]) -> Iterator[dict[str, object]]:
    before: Plan | None = None
    for version, plan in versions:
        changes = () if before is None else changes_of(before, plan)
        yield {
            "version": version.version,
            "plan_hash": version.plan_hash,
            "in_force_from": iso(version.active_from_ms),
            "changes": [
                {"where": c.path, "what": c.text, "for": "people" if c.concern in FOR_PEOPLE else "analysts"}
                for c in changes
            ],
            "approvals": [
                {"name": a.name, "public_key": a.public_key.hex(), "signature": a.signature.hex()}
                for a in version.approvals
            ],
        }
        before = plan


def _restore(restore: Restore, entries: Sequence[LedgerEntry]) -> dict[str, object]:
    """One restore; the head that was published before is told where it is surely one with salts behind it."""
    published, withheld = restore.published, entries[0].sequence if entries and is_checkpoint(entries[0]) else 0
    told = published is not None and min(restore.ledger_sequence, published.sequence) > withheld
    return {
        "ledger_entries_in_the_backup": restore.ledger_sequence,
        "ledger_entries_published_before": None if published is None else published.sequence,
        "head_before": published.entry_hash.hex() if told and published is not None else None,
    }
