"""What a change of one metric means, in plain words."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction

from hushmeter.model.changes import Concern, PlanChange, When
from hushmeter.model.plan import ContributionBounds, Dimension, Kind, Metric, Statistic
from hushmeter.model.time import date_of


def metric_changes(old: Metric, new: Metric, *, new_category: bool) -> Iterator[PlanChange]:
    """Everything that one metric's change means.

    Args:
        old: as it was.
        new: as it is to be, of the same name.
        new_category: whether the plan has had nothing of its category so far.
    """
    yield from _about(old, new, new_category=new_category)
    yield from _purposes(old, new)
    yield from _values(old, new)
    yield from _dimensions(old, new)
    yield from _bounds(old, new)
    yield from _released(old, new)


def described(metric: Metric) -> str:
    """A metric in one line: what it measures, by what, for what."""
    by = f" by {listed(d.name for d in metric.dimensions)}" if metric.dimensions else ""
    unit = f" in {metric.unit}" if metric.unit else ""
    return (
        f"{metric.description!r}, a {metric.kind.value}{unit}{by}; category {metric.category.value}, for "
        f"{listed(metric.purposes)}, until {_day(metric.expires_ms)}"
    )


def listed(names: Iterable[str]) -> str:
    """Names in a row."""
    return ", ".join(names) or "nothing"


def _about(old: Metric, new: Metric, *, new_category: bool) -> Iterator[PlanChange]:
    path = f"metrics.{new.name}"
    for name, before, after in (("description", old.description, new.description), ("owner", old.owner, new.owner)):
        if before != after:
            yield PlanChange(f"{path}.{name}", f"{after!r} instead of {before!r}", Concern.TEXT, When.AT_ONCE)
    if new.expires_ms < old.expires_ms:
        text = f"it is collected until {_day(new.expires_ms)} instead of {_day(old.expires_ms)}"
        yield PlanChange(f"{path}.expires", text, Concern.STOP, When.AT_ONCE)
    if new.expires_ms > old.expires_ms:
        text = f"it is collected for longer, until {_day(new.expires_ms)} instead of {_day(old.expires_ms)}"
        yield PlanChange(f"{path}.expires", text, Concern.DATA, When.NEXT_WINDOW)
    if old.category != new.category:
        novel = ", a new category of data in this plan" if new_category else ""
        text = f"{new.category.value} instead of {old.category.value}{novel}"
        yield PlanChange(f"{path}.category", text, Concern.DATA if new_category else Concern.TEXT, When.NEXT_WINDOW)


def _purposes(old: Metric, new: Metric) -> Iterator[PlanChange]:
    added, gone = ([p for p in a.purposes if p not in b.purposes] for a, b in ((new, old), (old, new)))
    path = f"metrics.{new.name}.purposes"
    if added:
        yield PlanChange(path, f"it is used for {listed(added)} too, and needs consent to that", Concern.PURPOSE)
    if gone:
        text = f"it is not used for {listed(gone)} any more; consent to {listed(new.purposes)} is enough"
        yield PlanChange(path, text, Concern.PURPOSE)
    if not added and not gone and old.purposes != new.purposes:
        yield PlanChange(path, "they stand in another order", Concern.TEXT, When.NEXT_WINDOW)


def _values(old: Metric, new: Metric) -> Iterator[PlanChange]:
    path = f"metrics.{new.name}"
    if old.kind != new.kind:
        yield PlanChange(f"{path}.kind", f"a {new.kind.value} instead of a {old.kind.value}", Concern.DATA)
    if old.unit != new.unit:
        yield PlanChange(f"{path}.unit", f"{new.unit!r} instead of {old.unit!r}", Concern.RELEASE)
    if old.step != new.step:
        finer = " (finer: more is told)" if new.step < old.step else ""
        text = f"values come in steps of {new.step} instead of {old.step}{finer}"
        yield PlanChange(f"{path}.resolution", text, Concern.DATA if finer else Concern.RELEASE)
    if _scaled(old.edges, old.step) != _scaled(new.edges, new.step):
        finer = " (more of them: more is told)" if len(new.edges) > len(old.edges) else ""
        text = f"bins end at {_steps(new)} instead of {_steps(old)}{finer}"
        yield PlanChange(f"{path}.edges", text, Concern.DATA if finer else Concern.RELEASE)
    yield from _list(f"{path}.options", "option", old.options, new.options)
    if new.kind is Kind.DISTRIBUTION and "sum_squares" in new.components and "sum_squares" not in old.components:
        yield PlanChange(f"{path}.statistics", "a sum of squares is collected too", Concern.DATA)


def _list(path: str, word: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[PlanChange]:
    """How a closed list of names changes."""
    added, gone = [v for v in new if v not in old], [v for v in old if v not in new]
    if added:
        yield PlanChange(path, f"new {word}s are told apart: {listed(added)}", Concern.DATA)
    if gone:
        yield PlanChange(path, f"{word}s that are told apart no more: {listed(gone)}", Concern.RELEASE)
    if not added and not gone and old != new:
        yield PlanChange(path, f"the {word}s stand in another order", Concern.RELEASE)


def _dimensions(old: Metric, new: Metric) -> Iterator[PlanChange]:
    before, after = ({d.name: d for d in m.dimensions} for m in (old, new))
    path = f"metrics.{new.name}.dimensions"
    for name, dimension in after.items():
        if name not in before:
            values = "open tokens" if dimension.open else listed(dimension.values)
            yield PlanChange(f"{path}.{name}", f"a new dimension is collected: {values}", Concern.DATA)
        else:
            yield from _dimension(f"{path}.{name}", before[name], dimension)
    for name in before:
        if name not in after:
            yield PlanChange(f"{path}.{name}", "the dimension is collected no more", Concern.RELEASE)
    if [n for n in before if n in after] != [n for n in after if n in before]:
        yield PlanChange(path, "they stand in another order", Concern.RELEASE)


def _dimension(path: str, old: Dimension, new: Dimension) -> Iterator[PlanChange]:
    if (old.open is None) != (new.open is None):
        text = "open tokens instead of a closed list" if new.open else "a closed list instead of open tokens"
        yield PlanChange(path, text, Concern.DATA if new.open else Concern.RELEASE)
    elif old.open is not None and new.open is not None:
        if old.open.pattern != new.open.pattern:
            text = f"tokens look like {new.open.pattern} instead of {old.open.pattern}"
            yield PlanChange(f"{path}.pattern", text, Concern.DATA)
        if old.open.max_length != new.open.max_length:
            text = f"tokens of {new.open.max_length} characters instead of {old.open.max_length}"
            concern = Concern.DATA if new.open.max_length > old.open.max_length else Concern.RELEASE
            yield PlanChange(f"{path}.max_length", text, concern)
        if old.open.expected != new.open.expected:
            text = f"{new.open.expected} different tokens are expected instead of {old.open.expected}"
            yield PlanChange(f"{path}.expected_values", text, Concern.RELEASE)
    else:
        yield from _list(f"{path}.values", "value", old.values, new.values)
    if old.per_unit != new.per_unit:
        text = "a unit has one value of it" if new.per_unit else "a unit may have several values of it"
        yield PlanChange(f"{path}.scope", text, Concern.RELEASE if new.per_unit else Concern.DATA)


def _bounds(old: Metric, new: Metric) -> Iterator[PlanChange]:
    path = f"metrics.{new.name}"
    added, gone = ([r for r in a.at if r not in b.at] for a, b in ((new, old), (old, new)))
    if added:
        yield PlanChange(f"{path}.at", f"it is released at {listed(added)} too", Concern.RELEASE)
    if gone:
        yield PlanChange(f"{path}.at", f"it is released at {listed(gone)} no more", Concern.RELEASE)
    if not added and not gone and old.at != new.at:
        yield PlanChange(f"{path}.at", "they stand in another order", Concern.RELEASE)
    for resolution in new.at:
        if resolution in old.bounds and old.bounds[resolution] != new.bounds[resolution]:
            changed = _bound(old.bounds[resolution], old.step, new.bounds[resolution], new.step)
            for name, text, wider in changed:
                concern = Concern.DATA if wider else Concern.RELEASE
                yield PlanChange(f"{path}.per_unit.{name}", f"at {resolution}, {text}", concern)


def _bound(
    old: ContributionBounds, old_step: Decimal, new: ContributionBounds, new_step: Decimal
) -> Iterator[tuple[str, str, bool]]:
    """Name, words, and whether a unit can contribute more, of each bound that differs."""
    before, after = (_scaled((b.low, b.high), s) for b, s in ((old, old_step), (new, new_step)))
    if before != after or (old.low, old.high) != (new.low, new.high):
        wider = after[0] < before[0] or after[1] > before[1]
        yield "range", f"values of {_range(after)} count instead of {_range(before)}{' (wider)' * wider}", wider
    for name, was, now in (
        ("max_partitions", old.max_partitions, new.max_partitions),
        ("max_events", old.max_events, new.max_events),
    ):
        if was != now:
            yield name, f"{name.removeprefix('max_')} of one unit count up to {now:,} instead of {was:,}", now > was
    if old.max_windows != new.max_windows:
        was_all, now_all = (b.max_windows is None for b in (old, new))
        words = [("all" if b.max_windows is None else str(b.max_windows)) for b in (new, old)]
        more = now_all or (not was_all and (new.max_windows or 0) > (old.max_windows or 0))
        yield "max_windows", f"a unit counts in {words[0]} windows of a period instead of {words[1]}", more


def _released(old: Metric, new: Metric) -> Iterator[PlanChange]:
    path = f"metrics.{new.name}"
    for name, before, after in (
        ("views", [_view(v) for v in old.views], [_view(v) for v in new.views]),
        ("statistics", _asked(old), _asked(new)),
        ("weighting", [f"each {old.weighting.value} counts"], [f"each {new.weighting.value} counts"]),
        ("bounding", [_bounding(old)], [_bounding(new)]),
        ("weight", [f"weight {old.weight}"], [f"weight {new.weight}"]),
    ):
        added, gone = [a for a in after if a not in before], [b for b in before if b not in after]
        if added or gone:
            parts = [f"{listed(added)} from now on"] * bool(added) + [f"{listed(gone)} no more"] * bool(gone)
            yield PlanChange(f"{path}.{name}", "; ".join(parts), Concern.RELEASE)
        elif before != after:
            yield PlanChange(f"{path}.{name}", "they stand in another order", Concern.RELEASE)


def _asked(metric: Metric) -> list[str]:
    more = {
        Statistic.QUANTILES: f"quantiles {listed(map(str, metric.quantiles))}",
        Statistic.TOP_K: f"top {metric.top_k}",
    }
    return [more.get(s, s.value) for s in metric.statistics]


def _view(view: tuple[str, ...]) -> str:
    return f"by {' and '.join(view)}" if view else "in total"


def _bounding(metric: Metric) -> str:
    return "all views bounded as one" if metric.shared_bounding else "each view bounded on its own"


def _scaled(steps: Iterable[int], step: Decimal) -> tuple[Fraction, ...]:
    return tuple(s * Fraction(step) for s in steps)


def _steps(metric: Metric) -> str:
    return listed(f"{float(edge):g}" for edge in _scaled(metric.edges, metric.step))


def _range(bounds: tuple[Fraction, ...]) -> str:
    return f"{float(bounds[0]):g} to {float(bounds[1]):g}"


def _day(moment_ms: int) -> str:
    """The last day of a metric that expires as the next one begins."""
    last_ms = round(dt.datetime(9999, 1, 1, tzinfo=dt.UTC).timestamp() * 1_000)
    return date_of(min(moment_ms - 1, last_ms)).isoformat()
