"""What a plan change means: compares two plans and says in plain words what is new, and when it may take effect (C3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from hushmeter.model.changes import Concern, PlanChange, When
from hushmeter.model.plan import Category, Metric, Plan, Privacy
from hushmeter.model.time import duration_text
from hushmeter.plan.built_in import PARTICIPANTS
from hushmeter.plan.metric_changes import described, listed, metric_changes


def changes_of(old: Plan, new: Plan) -> tuple[PlanChange, ...]:
    """Everything that a change from one plan to another means, in the order of the plan file.

    Version and hash are no change by themselves. Two plans without a change between them collect, keep, price and release
    the same.
    """
    return (
        *_identity(old, new),
        *_privacy(old.privacy, new.privacy),
        *_participants(old, new),
        *_resolutions(old, new),
        *_purposes(old, new),
        *_asking(old, new),
        *_metrics(old, new),
    )


def earliest(changes: Sequence[PlanChange]) -> When:
    """When all of some changes may be in force; at once where there are none."""
    return max((c.when for c in changes), key=list(When).index, default=When.AT_ONCE)


def stopped(old: Plan, new: Plan, at_ms: int) -> dict[str, int]:
    """Metrics of one plan that another removes, or lets expire earlier, and when they stop if it says so at `at_ms`."""
    kept = {m.name: m for m in new.metrics}
    stops = {m.name: max(at_ms, kept[m.name].expires_ms) if m.name in kept else at_ms for m in old.metrics}
    return {m.name: stops[m.name] for m in old.metrics if stops[m.name] < m.expires_ms}


def without_stopped(plan: Plan, stops: dict[str, int]) -> Plan:
    """A plan some of whose metrics expire earlier: they are refused from then on, and their share stays unspent (C3)."""
    if not stops:
        return plan
    metrics = tuple(
        dataclasses.replace(m, expires_ms=min(m.expires_ms, stops.get(m.name, m.expires_ms))) for m in plan.metrics
    )
    return dataclasses.replace(plan, metrics=metrics)


def _identity(old: Plan, new: Plan) -> Iterator[PlanChange]:
    if old.name != new.name:
        text = f"it is another plan, {new.name!r} instead of {old.name!r}: a plan keeps its name"
        yield PlanChange("plan", text, Concern.DEPLOYMENT, When.NEVER)


def _privacy(old: Privacy, new: Privacy) -> Iterator[PlanChange]:
    if old.unit != new.unit:
        text = f"each {new.unit} is protected instead of each {old.unit}"
        yield PlanChange("privacy.unit", text, Concern.DEPLOYMENT, When.NEVER)
    if old.period != new.period:
        text = f"the budget is of {new.period.name} instead of {old.period.name}"
        yield PlanChange("privacy.period", text, Concern.DEPLOYMENT, When.NEVER)
    for name, before, after in (("epsilon", old.epsilon, new.epsilon), ("delta", old.delta, new.delta)):
        if before != after:
            text = f"one {new.unit}'s whole record of a period may cost {name} {after} instead of {before}"
            concern = Concern.BUDGET if after > before else Concern.RELEASE
            yield PlanChange(f"privacy.{name}", f"{'more' if after > before else 'less'} budget: {text}", concern)
    if old.currency != new.currency:
        was, now = (c.value if c else "auto" for c in (old.currency, new.currency))
        foreign = None not in (old.currency, new.currency)
        text = f"losses add up as {now} instead of {was}; a deployment keeps the currency that it was founded with"
        when = When.NEVER if foreign else When.NEXT_PERIOD
        yield PlanChange("privacy.currency", text, Concern.DEPLOYMENT if foreign else Concern.RELEASE, when)
    if old.auto_weights != new.auto_weights:
        text = f"the budget is divided {'by expected errors' if new.auto_weights else 'by the stated weights'}"
        yield PlanChange("privacy.weights", text, Concern.RELEASE)
    if old.expected_units != new.expected_units:
        text = f"{new.expected_units:,} units are expected in a window instead of {old.expected_units:,}"
        yield PlanChange("privacy.expected_units", f"{text}: the budget may be divided otherwise", Concern.RELEASE)


def _participants(old: Plan, new: Plan) -> Iterator[PlanChange]:
    before, after = (any(m.name == PARTICIPANTS for m in p.built_in) for p in (old, new))
    if after and not before:
        text = "the units that take part in each purpose are counted, privately"
        yield PlanChange("privacy.participants", text, Concern.DATA)
    if before and not after:
        text = "the units that take part in each purpose are counted no more"
        yield PlanChange("privacy.participants", text, Concern.RELEASE)


def _resolutions(old: Plan, new: Plan) -> Iterator[PlanChange]:
    before, after = ([r.span.name for r in p.resolutions] for p in (old, new))
    if before != after:
        text = f"windows of {listed(after)} instead of {listed(before)}: raw rows are kept and keys destroyed by them"
        yield PlanChange("resolutions", text, Concern.DEPLOYMENT, When.NEVER)
        return
    for was, now in zip(old.resolutions, new.resolutions, strict=True):
        if was.lateness_ms != now.lateness_ms:
            late, were = duration_text(now.lateness_ms), duration_text(was.lateness_ms)
            longer = raw_rows_ms(new) > raw_rows_ms(old)
            lives = (
                f"raw rows live up to {duration_text(raw_rows_ms(new))} instead of {duration_text(raw_rows_ms(old))}"
                if raw_rows_ms(new) != raw_rows_ms(old)
                else "raw rows live as long as before"
            )
            text = f"reports are taken until {late} after a window's end instead of {were}; {lives}"
            concern = Concern.RETENTION if longer else Concern.RELEASE
            yield PlanChange(f"resolutions.{now.name}.lateness", text, concern)


def raw_rows_ms(plan: Plan) -> int:
    """The longest that a row is kept: from the start of a window of some resolution to that window's deadline."""
    return max(r.span.length_ms + r.lateness_ms for r in plan.resolutions)


def _purposes(old: Plan, new: Plan) -> Iterator[PlanChange]:
    before, after = ({p.name: p.text for p in plan.purposes} for plan in (old, new))
    for name, text in after.items():
        path = f"purposes.{name}"
        if name not in before:
            yield PlanChange(path, f"a new purpose, which everybody is asked about: {text!r}", Concern.PURPOSE)
        elif before[name] != text:
            words = (
                f"the text is {text!r} instead of {before[name]!r}: consent to the old one counts no more, all are asked"
            )
            yield PlanChange(path, f"{words} again", Concern.PURPOSE, When.NEXT_WINDOW)
    for name in before:
        if name not in after:
            yield PlanChange(f"purposes.{name}", "the purpose is given up; nobody is asked about it", Concern.PURPOSE)
    if _reordered(list(before), list(after)):
        yield PlanChange("purposes", "they are asked about in another order", Concern.RELEASE)


def _asking(old: Plan, new: Plan) -> Iterator[PlanChange]:
    for name in ("languages", "sources"):
        before, after = (getattr(p.asking, name) for p in (old, new))
        if before != after:
            now, was = (listed(some) if some else "none" for some in (after, before))
            text = f"{name} that may be kept beside a decision: {now} instead of {was}"
            yield PlanChange(f"consent.{name}", text, Concern.TEXT, When.NEXT_WINDOW)


def _metrics(old: Plan, new: Plan) -> Iterator[PlanChange]:
    before, after = ({m.name: m for m in plan.metrics} for plan in (old, new))
    used = {m.category for m in old.metrics}
    for name, metric in after.items():
        if name not in before:
            yield PlanChange(f"metrics.{name}", f"new data is collected: {described(metric)}", Concern.DATA)
            yield from _new_category(metric, used)
        else:
            yield from metric_changes(before[name], metric, new_category=metric.category not in used)
    for name in before:
        if name not in after:
            text = "removed: it is collected no more; its share of the budget stays unspent until the period ends"
            yield PlanChange(f"metrics.{name}", text, Concern.STOP, When.AT_ONCE)
    if _reordered(list(before), list(after)):
        yield PlanChange("metrics", "they stand in another order", Concern.RELEASE)
    if set(before) - set(after):
        text = "what removed metrics leave of the budget goes to the others"
        yield PlanChange("metrics", text, Concern.RELEASE)


def _new_category(metric: Metric, used: set[Category]) -> Iterator[PlanChange]:
    if metric.category not in used:
        text = f"a new category of data in this plan: {metric.category.value}"
        yield PlanChange(f"metrics.{metric.name}.category", text, Concern.DATA)


def _reordered(before: Sequence[str], after: Sequence[str]) -> bool:
    return [n for n in before if n in after] != [n for n in after if n in before]
