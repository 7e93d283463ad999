"""QueryService: answers from the plan, the ledger and published releases alone (R1)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import grpc

from hushmeter import limits
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.release.v1 import release_pb2
from hushmeter.errors import QueryRefused
from hushmeter.ledger.accountant import epsilon_and_delta
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.release import Release
from hushmeter.plan.expectation import hidden_share
from hushmeter.query.answering import SEVERAL_VERSIONS, CheckedQuestion, Question, ReleaseAnswer, answer, check_question
from hushmeter.service.context import Context
from hushmeter.service.eras import Era
from hushmeter.service.gate import passage
from hushmeter.service.statuses import streamed, unary

T = TypeVar("T")
M = TypeVar("M")
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["QueryService"].full_name
_END_OF_TIME_MS = 2**62
"""Later than any window; also larger than any number of an entry, and within the database's integers."""


class QueryService:
    """Answers the three methods; reads run on threads, so that the door stays open meanwhile.

    Args:
        context: the deployment.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._losses: dict[tuple[float, float, float], release_pb2.PrivacyLoss] = {}

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The methods as gRPC wants them."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "ListMetrics": unary(self.list_metrics, pb.ListMetricsRequest, pb.ListMetricsResponse),
                "QueryReleases": streamed(self.query_releases, pb.QueryReleasesRequest, pb.QueryReleasesResponse),
                "GetLedger": streamed(self.get_ledger, pb.GetLedgerRequest, pb.GetLedgerResponse),
            },
        )

    async def list_metrics(self, _request: pb.ListMetricsRequest) -> pb.ListMetricsResponse:
        """What can be asked for, and the budget in force."""
        await _note("ListMetrics")
        now, begun = self._context.era, self._begun()
        # The newest version says what a metric is; those that it has no more may still have releases.
        named = {m.name: (era, m) for era in begun for m in era.plan.measured}
        inactive = [name for name in named if name not in {m.name for m in now.plan.measured}]
        return pb.ListMetricsResponse(
            metrics=[_entry(*named[name]) for name in (*(m.name for m in now.plan.measured), *inactive)],
            budget=_statement(now),
            plan_versions=[
                pb.PlanVersionStatement(
                    version=era.version.version,
                    plan_hash=bytes.fromhex(era.version.plan_hash),
                    active_from_ms=era.version.active_from_ms,
                    budget=_statement(era),
                )
                for era in self._context.timeline.eras
            ],
        )

    async def query_releases(self, request: pb.QueryReleasesRequest) -> AsyncIterator[pb.QueryReleasesResponse]:
        """Releases of one metric and view in a time range, in time order."""
        filters: dict[str, tuple[str, ...]] = {}
        for f in request.filters:
            filters[f.dimension] = (*filters.get(f.dimension, ()), *f.values)
        question = Question(
            metric=request.metric,
            view=tuple(request.view),
            resolution=request.resolution,
            from_ms=max(0, min(request.from_ms, _END_OF_TIME_MS - 1)),
            to_ms=min(request.to_ms, _END_OF_TIME_MS) or _END_OF_TIME_MS,
            filters=filters,
            statistics=tuple(request.statistics),
            roll_up_time=request.roll_up_time,
        )
        await self._note_metric(question)
        answers = self._answers(_by_era(self._begun(), question))
        async for chunk in _in_chunks(answers, lambda a: self._message(*a), limits.RELEASES_PER_ANSWER_MESSAGE):
            yield pb.QueryReleasesResponse(releases=chunk)

    async def get_ledger(self, request: pb.GetLedgerRequest) -> AsyncIterator[pb.GetLedgerResponse]:
        """The privacy ledger, entry by entry, in order."""
        await _note("GetLedger")
        entries = self._context.store.ledger(max(1, min(request.from_sequence, _END_OF_TIME_MS)))
        chunks = _in_chunks(
            entries,
            lambda e: pb.LedgerEntry(
                sequence=e.sequence, content=e.content, previous_hash=e.previous_hash, entry_hash=e.entry_hash
            ),
            limits.LEDGER_ENTRIES_PER_ANSWER_MESSAGE,
        )
        async for chunk in chunks:
            yield pb.GetLedgerResponse(entries=chunk)

    def _begun(self) -> tuple[Era, ...]:
        """The eras that have begun: those that wait have neither metrics nor releases."""
        now = self._context.clock.now_ms()
        return tuple(era for era in self._context.timeline.eras if era.from_ms <= now)

    async def _note_metric(self, question: Question) -> None:
        """Notes a query once for each set of purposes that the metric has had in the time range (P8)."""
        asked = [era.plan for era in self._begun() if _clipped(era, question)]
        metrics = [m for plan in asked for m in plan.measured if m.name == question.metric]
        for metric in {m.purposes: m for m in metrics}.values():
            await _note("QueryReleases", metric)

    def _answers(self, asked: Sequence[tuple[Era, CheckedQuestion, Question]]) -> Iterator[tuple[ReleaseAnswer, Era]]:
        """Answers of each era's releases by its own plan, in time order."""
        rolled_up = 0
        for era, checked, question in asked:
            for found in answer(checked, self._stored(checked, checked.view, question), self._others(checked, question)):
                rolled_up += checked.roll_up_time
                if rolled_up > 1:
                    raise QueryRefused(SEVERAL_VERSIONS)
                yield found, era

    def _stored(self, checked: CheckedQuestion, view: tuple[str, ...], question: Question) -> Iterator[tuple[int, Release]]:
        return self._context.store.releases(checked.metric.name, view, checked.resolution, question.from_ms, question.to_ms)

    def _others(self, checked: CheckedQuestion, question: Question) -> dict[tuple[str, ...], Iterator[tuple[int, Release]]]:
        return {view: self._stored(checked, view, question) for view in checked.other_views}

    def _message(self, found: ReleaseAnswer, era: Era) -> release_pb2.Release:
        estimates = [
            release_pb2.Estimate(
                statistic=e.statistic.value,
                partition=label,
                component=e.components[column],
                selected=found.selected or e.ranked is not None,
                value=e.values[row, column],
                noise_std=e.noise_std[row, column],
                interval_low=e.low[row, column],
                interval_high=e.high[row, column],
                agreement=_agreement(found, e.statistic, row, column),
            )
            for e in found.estimates
            for row, label in enumerate(found.partitions)
            for column in (range(len(e.components)) if e.ranked is None else e.ranked[row].tolist())
        ]
        return release_pb2.Release(
            release_id=found.release_id,
            metric=found.metric,
            view=found.view,
            resolution=found.resolution,
            window_start_ms=found.window_start_ms,
            window_end_ms=found.window_end_ms,
            plan_version=found.plan_version,
            completeness=found.completeness,
            published_at_ms=found.published_at_ms,
            privacy_loss=self._loss(found.loss, found.delta, era.version.budget),
            max_windows=found.max_windows,
            estimates=estimates,
            unit=found.unit,
            rolled_up_from=found.rolled_up_from,
            purposes=era.plan.metric(found.metric).purposes,
        )

    def _loss(self, amount: float, delta: float, budget: PrivacyBudget) -> release_pb2.PrivacyLoss:
        loss = self._losses.get((amount, delta, budget.conversion_delta))
        if loss is None:
            spent = PrivacyLoss(Fraction(amount), Fraction(delta))
            epsilon, at = epsilon_and_delta(spent, budget, self._context.mechanisms)
            rho = amount if budget.currency is Currency.ZCDP else 0.0
            loss = release_pb2.PrivacyLoss(rho=rho, epsilon=epsilon, delta=at)
            # Distinct losses are as few as metrics, views and resolutions; roll-ups must not let them grow.
            if len(self._losses) < limits.CACHED_LOSSES_MAX:
                self._losses[amount, delta, budget.conversion_delta] = loss
        return loss


def _clipped(era: Era, question: Question) -> Question | None:
    """A question about those of its windows that are an era's; None where it has none of them."""
    from_ms, to_ms = max(question.from_ms, era.from_ms), min(question.to_ms, era.until_ms)
    return dataclasses.replace(question, from_ms=from_ms, to_ms=to_ms) if from_ms < to_ms else None


def _by_era(eras: Sequence[Era], question: Question) -> list[tuple[Era, CheckedQuestion, Question]]:
    """A question to each era whose windows it is about; an era whose plan cannot answer it is left out.

    Raises:
        QueryRefused: no era can; as the newest of them says.
    """
    asked: list[tuple[Era, CheckedQuestion, Question]] = []
    refusal = None
    # An empty time range is about no era; the newest says what is wrong with it.
    for era in eras:
        clipped = _clipped(era, question)
        if clipped is None and (era is not eras[-1] or asked or refusal):
            continue
        try:
            asked.append((era, check_question(era.plan, clipped or question), clipped or question))
        except QueryRefused as error:
            refusal = error
    if not asked and refusal is not None:
        raise refusal
    return asked


def _entry(era: Era, metric: Metric) -> pb.MetricCatalogEntry:
    return pb.MetricCatalogEntry(
        name=metric.name,
        description=metric.description,
        kind=metric.kind.value,
        unit=metric.unit,
        purposes=metric.purposes,
        views=[_view(era, metric, view) for view in metric.views],
        resolutions=metric.at,
        statistics=[s.value for s in metric.statistics],
    )


def _view(era: Era, metric: Metric, view: tuple[str, ...]) -> pb.MetricView:
    selecting = [
        item
        for items in era.prices.items.values()
        for item in items
        if item.measurement.selects and (item.measurement.metric, item.measurement.view) == (metric.name, view)
    ]
    hidden = max((hidden_share(era.plan, item) for item in selecting), default=0.0)
    return pb.MetricView(dimensions=view, private_partitions=bool(selecting), expected_hidden_share=hidden)


def _statement(era: Era) -> pb.BudgetStatement:
    budget, privacy = era.version.budget, era.plan.privacy
    return pb.BudgetStatement(
        period=privacy.period.name,
        epsilon=budget.epsilon,
        delta=budget.delta,
        rho=float(budget.loss.amount) if budget.currency is Currency.ZCDP else 0.0,
        privacy_unit=privacy.unit,
        currency=budget.currency.value,
        amount=str(budget.loss.amount),
        selection_delta=str(budget.loss.delta),
    )


async def _note(what: str, metric: Metric | None = None) -> None:
    """Lets a query be noted in the access log; raises `Forbidden` where it is outside the caller's purposes."""
    caller = passage()
    if caller is not None:
        await caller.ask(what, metric)


def _agreement(found: ReleaseAnswer, statistic: Statistic, row: int, column: int) -> release_pb2.Agreement | None:
    """One cell of an estimate that agrees with other views; None where there is none."""
    e = found.agreeing.get(statistic)
    if e is None:
        return None
    return release_pb2.Agreement(
        value=e.values[row, column],
        noise_std=e.noise_std[row, column],
        interval_low=e.low[row, column],
        interval_high=e.high[row, column],
        as_of_ms=found.published_at_ms,
    )


async def _in_chunks(items: Iterator[T], message: Callable[[T], M], most: int) -> AsyncIterator[list[M]]:
    """Messages of items, some at a time, made on a thread."""

    def take() -> list[M]:
        chunk: list[M] = []
        for item in items:
            chunk.append(message(item))
            if len(chunk) == most:
                break
        return chunk

    while chunk := await asyncio.to_thread(take):
        yield chunk
