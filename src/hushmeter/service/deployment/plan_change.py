"""Changes the plan of a deployment: what a new version means, when it may begin, what it costs, and its record (C3).

`apply_plan` works on the state store alone, beside a running service or without one. Workers and sealer follow the versions
that the store holds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from hushmeter import limits
from hushmeter.errors import ConfigError, PlanError
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.changes import PlanChange, When
from hushmeter.model.ledger import PrivacyBudget
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Plan
from hushmeter.model.ring import PlanMark
from hushmeter.model.stored import Approval, PlanVersion
from hushmeter.model.time import date_of, iso
from hushmeter.plan.catalog import assign_blocks
from hushmeter.plan.changes import changes_of, earliest
from hushmeter.plan.check import check_plan
from hushmeter.plan.reading import parse_plan, parse_recorded
from hushmeter.ports import Mechanisms, PlanStore
from hushmeter.service.deployment.budget import budget_of
from hushmeter.service.deployment.foundation import ensure_founded
from hushmeter.service.deployment.plan_timeline import Era, Timeline, lacks

NOW, NEXT_WINDOW, NEXT_PERIOD = "now", "next-window", "next-period"


@dataclass(frozen=True, slots=True)
class Applied:
    """A plan change that was recorded.

    Attributes:
        version: as it stands in the store.
        before: the plan that is in force until then.
        changes: what it means.
        superseded: versions that waited for their time, which this one takes.
    """

    version: PlanVersion
    before: Plan
    changes: tuple[PlanChange, ...]
    superseded: tuple[int, ...]


def apply_plan(
    store: PlanStore,
    mechanisms: Mechanisms,
    plan_text: str,
    at: str,
    now_ms: int,
    approvals: Sequence[Approval] = (),
    followed: PlanMark | None = None,
) -> Applied:
    """Records a new version of a deployment's plan.

    Args:
        store: of the deployment, founded.
        mechanisms: for the budget.
        plan_text: the new version.
        at: `now`, `next-window`, `next-period`, or a border of windows as ISO 8601.
        now_ms: the time.
        approvals: of this version, checked by the caller.
        followed: the newest version that the deployment's keys have seen; where the state lacks it, it comes first (C6).

    Raises:
        ConfigError: it may not be applied, or not then: with the reason, the admissible moments and what to do.
        PlanError: it is no plan.
        StateConflict: another version was recorded meanwhile.
    """
    deployment = ensure_founded(store.deployment(), "this state")
    timeline = Timeline(store.plan_versions, store.series_blocks, mechanisms)
    new = parse_plan(plan_text, date_of(now_ms))
    newest = timeline.recorded()[-1]
    _ensure_not_another(new, timeline, followed)
    _ensure_later(new, newest)
    in_force = timeline.at(now_ms).plan
    asked_ms = _moment(in_force, at, now_ms)
    meaning = _meaning(new, timeline, asked_ms, now_ms)
    from_ms = _beginning(in_force, meaning.changes, asked_ms, now_ms, at_once=at == NOW)
    budget = _cost(new, meaning, mechanisms, deployment.budget.currency)
    stops_ms = now_ms if at == NOW else from_ms
    version = PlanVersion(new.version, new.plan_hash, plan_text, budget, now_ms, from_ms, stops_ms, tuple(approvals))
    store.add_plan(version, newest.version, assign_blocks(new, store.series_blocks()))
    superseded = tuple(e.version.version for e in timeline.eras if e.from_ms >= from_ms and e.from_ms > now_ms)
    return Applied(version, meaning.before.plan, meaning.changes, superseded)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a new version changes.

    Attributes:
        before: the era that the new version ends.
        changes: from the plan of that era, as it was declared, to the new one.
    """

    before: Era
    changes: tuple[PlanChange, ...]


def _meaning(new: Plan, timeline: Timeline, asked_ms: int, now_ms: int) -> _Meaning:
    """What a new version means that is asked to begin at a moment; refuses what a deployment keeps for ever."""
    # The new version ends the era that is in force just before the moment that was asked for. A recorded version that waits
    # for an earlier border begins that era; where no version waits, that era is the one of now.
    before = timeline.at(max(asked_ms - 1, now_ms))
    changes = changes_of(parse_recorded(before.version.plan_text), new)
    _ensure_same_deployment(changes)
    return _Meaning(before, changes)


def _beginning(plan: Plan, changes: Sequence[PlanChange], asked_ms: int, now_ms: int, *, at_once: bool) -> int:
    """From when on a new version may be in force (C3).

    Args:
        plan: in force now.
        changes: what the new version means.
        asked_ms: the moment that was asked for.
        now_ms: the time.
        at_once: whether `now` was asked for, which stops at once what is to be collected no more.

    Raises:
        ConfigError: it may not be in force then.
    """
    if at_once:
        return _soonest(plan, changes, now_ms)
    _ensure_admissible(plan, changes, asked_ms, now_ms)
    return asked_ms


def _cost(new: Plan, meaning: _Meaning, mechanisms: Mechanisms, founded: Currency) -> PrivacyBudget:
    """The budget of a new version; refuses one that overspends it, or that would reprice a period that has begun (C3).

    Args:
        new: the plan.
        meaning: what it changes.
        mechanisms: for budget and prices.
        founded: the currency that the deployment was founded with, in which its periods add up.

    Raises:
        PlanError: the plan cannot pay for what it releases, or is priced otherwise than before and begins inside a period.
    """
    budget = budget_of(new, mechanisms, founded)
    check_plan(new, budget)
    if earliest(meaning.changes) in {When.AT_ONCE, When.NEXT_WINDOW}:
        before = meaning.before
        same_prices = PriceList.of(new, budget, mechanisms).items == before.prices.items
        if budget != before.version.budget or not same_prices:
            raise PlanError("this change is priced, and can begin at a period's border only (C3); use --at next-period")
    return budget


def admissible(plan: Plan, when: When, now_ms: int) -> int:
    """The first moment at which a change of a class may be in force.

    Processes follow a recorded version within seconds, so a border that is nearer than that is not taken.
    """
    if when is When.AT_ONCE:
        return now_ms
    span = plan.coarsest.span if when is When.NEXT_WINDOW else plan.privacy.period
    return span.window_of(now_ms + limits.PLAN_LEAD_MS).end_ms


def _ensure_not_another(new: Plan, timeline: Timeline, followed: PlanMark | None) -> None:
    """Refuses whatever is not the version that a state lacks: it would be recorded for good, and never served (C6)."""
    if followed is None or not lacks(timeline, followed):
        return
    if (new.version, new.plan_hash) == (followed.version, followed.plan_hash):
        return
    other = f"version {new.version}" if new.version != followed.version else "other content under that number"
    raise ConfigError(
        f"version {followed.version} of the plan (hash {followed.plan_hash}) has been in force and is not in this state, "
        f"and the file holds {other} (hash {new.plan_hash}). Apply the very file of that version first, to the letter: "
        "hushmeter plan check FILE --json tells a file's plan_hash. Nothing was recorded"
    )


def _ensure_later(new: Plan, newest: PlanVersion) -> None:
    if new.version > newest.version:
        return
    if new.version == newest.version and new.plan_hash == newest.plan_hash:
        raise ConfigError(
            f"version {new.version} was recorded already, from {iso(newest.active_from_ms)}; nothing is to do"
        )
    raise ConfigError(
        f"the file says version {new.version}, and version {newest.version} is the newest that was recorded; a change "
        f"needs a higher one: write version: {newest.version + 1}"
    )


def _ensure_same_deployment(changes: Sequence[PlanChange]) -> None:
    lasting = [c for c in changes if c.when is When.NEVER]
    if lasting:
        lines = "\n  ".join(f"{c.path}: {c.text}" for c in lasting)
        raise ConfigError(
            f"a deployment keeps these for ever (C3):\n  {lines}\nUndo them, or found another deployment with a state_dir "
            "of its own, whose costs add up with this one's"
        )


def _moment(plan: Plan, at: str, now_ms: int) -> int:
    if at == NOW:
        return now_ms
    if at in {NEXT_WINDOW, NEXT_PERIOD}:
        return admissible(plan, When.NEXT_WINDOW if at == NEXT_WINDOW else When.NEXT_PERIOD, now_ms)
    try:
        moment = dt.datetime.fromisoformat(at)
    except ValueError:
        raise ConfigError(
            f"--at {at!r} is no moment; write now, next-window, next-period, or a border such as "
            f"{iso(admissible(plan, When.NEXT_PERIOD, now_ms))}"
        ) from None
    moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC)
    return round(moment.timestamp() * 1000)


def _soonest(plan: Plan, changes: Sequence[PlanChange], now_ms: int) -> int:
    """When a change that was asked for now is in force: at once, or when what removed metrics leave may be given away."""
    stops = {c.path for c in changes if c.when is When.AT_ONCE}
    waiting = [c for c in changes if c.when is not When.AT_ONCE and c.path != "metrics"]
    if waiting:
        lines = "\n  ".join(f"{c.path}: {c.text} ({c.when.value})" for c in waiting)
        soonest = iso(admissible(plan, earliest(changes), now_ms))
        raise ConfigError(
            f"these changes cannot begin now (C3):\n  {lines}\nApply the whole from {soonest} on, or a plan that only "
            "removes or ends what must stop now"
        )
    priced = earliest(changes) is When.NEXT_PERIOD and bool(stops)
    return admissible(plan, When.NEXT_PERIOD, now_ms) if priced else now_ms


def _ensure_admissible(plan: Plan, changes: Sequence[PlanChange], from_ms: int, now_ms: int) -> None:
    when = earliest(changes)
    first = admissible(plan, when, now_ms)
    span = {When.NEXT_WINDOW: plan.coarsest.span, When.NEXT_PERIOD: plan.privacy.period}.get(when)
    border = span is None or span.window_of(from_ms).end_ms == from_ms
    if from_ms >= first and border:
        return
    following = [] if span is None else [first, span.end_of(first), span.end_of(span.end_of(first))]
    because = next((c for c in changes if c.when is when), None)
    reason = "" if because is None else f" (for one, {because.path}: {because.text})"
    past = "is past or too near" if border else "is no such border"
    raise ConfigError(
        f"this change can begin at {_BORDERS[when]}{reason}; {iso(from_ms)} {past} (C3). Admissible: "
        f"{', '.join(map(iso, following)) or 'now, and any later moment'}"
    )


_BORDERS = {
    When.AT_ONCE: "any moment from now on",
    When.NEXT_WINDOW: "a border of the plan's longest windows only",
    When.NEXT_PERIOD: "a border of the protection period only",
}
