"""Questions about releases: what may be asked, what is refused and where to look instead, and the answers (E1, E2, R1)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hushmeter.errors import QueryRefused
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import Kind, Metric, Plan, Statistic, Weighting
from hushmeter.model.release import Release
from hushmeter.plan.measurements import derivation
from hushmeter.query.consistent_views import beside, consistent_sums, consistent_views
from hushmeter.query.estimates import StatisticEstimates, estimate
from hushmeter.query.sums import Sums

SEVERAL_VERSIONS = "the time range spans several plan versions, whose bounds differ; ask for each on its own"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for.

    Attributes:
        view: dimensions in any order.
        from_ms, to_ms: windows that end in `(from_ms, to_ms]`, milliseconds since the Unix epoch.
        filters: dimension to the values to keep.
        statistics: names; none means all that the metric releases.
        roll_up_time: add all windows up.
    """

    metric: str
    view: tuple[str, ...]
    resolution: str
    from_ms: int
    to_ms: int
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    statistics: tuple[str, ...] = ()
    roll_up_time: bool = False


@dataclass(frozen=True, slots=True)
class CheckedQuestion:
    """A question that has an answer.

    Attributes:
        view: in the metric's order.
        filters: dimension of the view to the values that are kept.
        statistics: to answer, in the metric's order.
    """

    metric: Metric
    view: tuple[str, ...]
    resolution: str
    filters: Mapping[str, tuple[str, ...]]
    statistics: tuple[Statistic, ...]
    roll_up_time: bool

    @property
    def other_views(self) -> tuple[tuple[str, ...], ...]:
        """The other views whose releases the answer needs, so that its estimates add up with theirs (E2)."""
        return () if self.roll_up_time else consistent_views(self.metric, self.view, self.statistics)


@dataclass(frozen=True, slots=True)
class ReleaseAnswer:
    """What an analyst gets of one release, or of several that were rolled up.

    Attributes:
        release_id: number of its first ledger entry; 0 for a roll-up.
        window_start_ms, window_end_ms: milliseconds since the Unix epoch; of a roll-up, of its first and last window.
        completeness: of a roll-up, the mean over its releases.
        published_at_ms: milliseconds since the Unix epoch; of a roll-up, when its last release was published.
        loss: what the release, or all releases of a roll-up, cost one unit that is in them, in the plan's currency.
        delta: what their partition selections cost the same unit.
        unit: of means and sums.
        rolled_up_from: how many releases; 1 where nothing was rolled up.
        partitions: labels of the rows of the estimates.
        estimates: one a statistic.
        selected: whether the partitions were selected by their noisy counts; those below the threshold are hidden (E4).
        max_windows: in how many windows of a period one unit counts; 0 for all. Such a limit alone makes later windows of
            a period smaller (P7).
        agreeing: by statistic, the estimates that add up with other views of the window (E2); none where they cannot.
        raw: the release itself; None for a roll-up.
    """

    release_id: int
    metric: str
    view: tuple[str, ...]
    resolution: str
    window_start_ms: int
    window_end_ms: int
    plan_version: int
    completeness: float
    published_at_ms: int
    loss: float
    delta: float
    unit: str
    rolled_up_from: int
    partitions: tuple[tuple[str, ...], ...]
    estimates: tuple[StatisticEstimates, ...]
    selected: bool
    max_windows: int
    agreeing: Mapping[Statistic, StatisticEstimates]
    raw: Release | None


def check_question(plan: Plan, question: Question) -> CheckedQuestion:
    """Checks a question against the plan.

    Raises:
        QueryRefused: with what is wrong, what is allowed, and where to look instead.
    """
    metric = _metric(plan, question.metric)
    view = _view(metric, question.view)
    if question.resolution not in metric.at:
        _refuse("resolution", question.resolution, f"{metric.name} is released at {', '.join(metric.at)}")
    if question.from_ms >= question.to_ms:
        _refuse("time range", f"{question.from_ms} to {question.to_ms}", "it must begin before it ends")
    statistics = _statistics(metric, question.statistics)
    if question.roll_up_time:
        statistics = _additive(metric, statistics, question)
        if metric.open_dimension(view):
            raise QueryRefused(
                f"{metric.name} by {_name(view)} cannot be added up over time: each window shows the private partitions "
                f"that its own noisy counts select{_coarser(metric, question)}"
            )
    _check_filters(metric, view, question.filters)
    return CheckedQuestion(metric, view, question.resolution, question.filters, statistics, question.roll_up_time)


def answer(
    question: CheckedQuestion,
    releases: Iterable[tuple[int, Release]],
    others: Mapping[tuple[str, ...], Iterable[tuple[int, Release]]],
) -> Iterator[ReleaseAnswer]:
    """Answers a checked question from stored releases, in their order.

    Args:
        question: checked.
        releases: (first ledger entry, release) of the question's metric, view, resolution and time range, in time order.
        others: by view, the same of each of the question's `other_views`.

    Yields:
        An answer for each release; one in all for a roll-up, and none where there is no release.

    Raises:
        QueryRefused: a roll-up would span several plan versions.
    """
    if not question.roll_up_time:
        for number, release, together in beside(releases, others):
            agreeing = consistent_sums(question.metric, release, together, question.statistics)
            yield _answer(question, [release], number, agreeing)
        return
    added = [release for _, release in releases]
    if len({r.key.plan_version for r in added}) > 1:
        raise QueryRefused(SEVERAL_VERSIONS)
    if added:
        yield _answer(question, added, 0, {})


def adds_over_windows(metric: Metric, statistic: Statistic) -> bool:
    """Whether a statistic of several windows is the sum of the windows' own ones, exactly on bounded values (E2)."""
    if statistic in {Statistic.SUM, Statistic.EVENTS, Statistic.NUMERATOR, Statistic.DENOMINATOR}:
        return True
    return statistic is Statistic.HISTOGRAM and metric.weighting is Weighting.EVENT and metric.kind is not Kind.FLAG


def _answer(
    question: CheckedQuestion,
    releases: Sequence[Release],
    number: int,
    agreeing: Mapping[Statistic, Mapping[MeasurementName, Sums]],
) -> ReleaseAnswer:
    metric, first, last = question.metric, releases[0], releases[-1]
    needed = {name for s in question.statistics for name in derivation(metric, s)}
    labels = _labels(metric, question.view, first)
    rows = _kept_rows(labels, question.view, question.filters)
    sums = {name: Sums.of([r.vectors[name] for r in releases]).rows(rows) for name in sorted(needed)}
    return ReleaseAnswer(
        release_id=number,
        metric=metric.name,
        view=question.view,
        resolution=question.resolution,
        window_start_ms=first.key.window_start_ms,
        window_end_ms=last.window_end_ms,
        plan_version=first.key.plan_version,
        completeness=sum(r.completeness for r in releases) / len(releases),
        published_at_ms=last.published_at_ms,
        loss=math.fsum(v.loss for r in releases for v in r.vectors.values()),
        delta=math.fsum(v.delta for r in releases for v in r.vectors.values()),
        unit=metric.unit,
        rolled_up_from=len(releases),
        partitions=tuple(labels[row] for row in rows),
        estimates=tuple(estimate(metric, question.resolution, sums, s) for s in question.statistics),
        selected=first.keys is not None,
        max_windows=metric.bounds[question.resolution].max_windows or 0,
        agreeing={
            s: estimate(metric, question.resolution, {name: sums.rows(rows) for name, sums in found.items()}, s)
            for s, found in agreeing.items()
        },
        raw=first if number else None,
    )


def _labels(metric: Metric, view: tuple[str, ...], release: Release) -> tuple[tuple[str, ...], ...]:
    """The values of the view's dimensions in each row of a release."""
    public = metric.partition_labels(view)
    opened = metric.open_dimension(view)
    if release.keys is None or opened is None:
        return public
    place = view.index(opened.name)
    return tuple((*public[number][:place], token, *public[number][place:]) for number, token in release.keys)


def _kept_rows(labels: Sequence[tuple[str, ...]], view: tuple[str, ...], filters: Mapping[str, Sequence[str]]) -> list[int]:
    wanted = [(view.index(name), frozenset(values)) for name, values in filters.items()]
    return [row for row, label in enumerate(labels) if all(label[place] in values for place, values in wanted)]


def _refuse(what: str, value: str, allowed: str) -> None:
    raise QueryRefused(f"{what} {value[:80]!r}: {allowed}")


def _metric(plan: Plan, name: str) -> Metric:
    try:
        return plan.metric(name)
    except KeyError:
        names = [m.name for m in plan.measured]
        near = difflib.get_close_matches(name[:80], names, n=1)
        meant = f"; did you mean {near[0]}?" if near else "."
        raise QueryRefused(f"there is no metric {name[:80]!r}{meant} The plan has {', '.join(names)}") from None


def _view(metric: Metric, asked: Sequence[str]) -> tuple[str, ...]:
    known = [d.name for d in metric.dimensions]
    for name in asked:
        if name not in known:
            _refuse("dimension", name, f"{metric.name} has {', '.join(known) or 'no dimensions'}")
    view = tuple(name for name in known if name in asked)
    if view in metric.views:
        return view
    released = "; ".join(_name(v) for v in metric.views)
    finer = [v for v in metric.views if set(view) < set(v)]
    why = ""
    if finer:
        why = (
            f" It cannot be added up from {_name(finer[0])}: a unit may stand in several partitions there, and each view "
            "is bounded on its own. Add the view to the plan to have it measured."
        )
    raise QueryRefused(f"{metric.name} is not released by {_name(view)}; its views are {released}.{why}")


def _name(view: Sequence[str]) -> str:
    return f"[{', '.join(view)}]"


def _statistics(metric: Metric, asked: Sequence[str]) -> tuple[Statistic, ...]:
    for name in asked:
        if name not in {s.value for s in metric.statistics}:
            _refuse("statistic", name, f"{metric.name} releases {', '.join(s.value for s in metric.statistics)}")
    return tuple(s for s in metric.statistics if not asked or s.value in asked)


def _additive(metric: Metric, statistics: Sequence[Statistic], question: Question) -> tuple[Statistic, ...]:
    """The statistics that may be added up; refuses others that were asked for by name (E2)."""
    additive = tuple(s for s in statistics if adds_over_windows(metric, s))
    refused = [s for s in statistics if s not in additive]
    if additive and (not question.statistics or not refused):
        return additive
    possible = ", ".join(s.value for s in metric.statistics if adds_over_windows(metric, s)) or "none of its statistics"
    names = ", ".join(refused)
    raise QueryRefused(
        f"{names} of several windows cannot be added up: the same unit may be in many of them. Of {metric.name}, "
        f"{possible} can{_coarser(metric, question)}"
    )


def _coarser(metric: Metric, question: Question) -> str:
    """Where to look instead of a roll-up: the resolutions whose windows are longer; nothing where there are none."""
    coarser = metric.at[metric.at.index(question.resolution) + 1 :]
    return f"; ask for resolution {' or '.join(coarser)}, which measures it" if coarser else ""


def _check_filters(metric: Metric, view: Sequence[str], filters: Mapping[str, Sequence[str]]) -> None:
    for name, values in filters.items():
        if name not in view:
            _refuse("filter on", name, f"only dimensions of the view {_name(view)} can be filtered")
        dimension = metric.dimension(name)
        known = frozenset(dimension.values)
        for value in values:
            # Any token of an open dimension may be asked for: a refusal would tell which tokens were reported.
            if value not in known and not dimension.open:
                shown = ", ".join(dimension.values[:20]) + (", ..." if len(dimension.values) > 20 else "")
                _refuse(name, value, f"its values are {shown}")
