"""QueryService: answers from the plan, the ledger and published releases alone (R1)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from typing import Any, TypeVar

import grpc

from hushmeter import limits
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.release.v1 import release_pb2
from hushmeter.errors import QueryRefused
from hushmeter.ledger.accountant import epsilon_and_delta
from hushmeter.model.ledger import PrivacyLoss
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.release import Release
from hushmeter.plan.built_in import purposes_of_values
from hushmeter.plan.expectation import hidden_share
from hushmeter.query.answering import Question, ReleaseAnswer, answer, check_question
from hushmeter.service.context import Context
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
        self._listed: pb.ListMetricsResponse | None = None
        self._losses: dict[tuple[float, float], release_pb2.PrivacyLoss] = {}

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
        if self._listed is None:
            # Of a large plan it takes long to say, and is always the same.
            self._listed = await asyncio.to_thread(self._list)
        return self._listed

    def _list(self) -> pb.ListMetricsResponse:
        plan, budget = self._context.plan, self._context.deployment.budget
        hidden: dict[tuple[str, tuple[str, ...]], float] = {}
        for item in itertools.chain.from_iterable(self._context.prices.items.values()):
            view = item.measurement.metric, item.measurement.view
            if item.measurement.selects:
                hidden[view] = max(hidden.get(view, 0.0), hidden_share(plan, item))
        metrics = [
            pb.MetricCatalogEntry(
                name=m.name,
                description=m.description,
                kind=m.kind.value,
                unit=m.unit,
                purposes=m.purposes,
                views=[
                    pb.MetricView(
                        dimensions=view,
                        private_partitions=(m.name, view) in hidden,
                        expected_hidden_share=hidden.get((m.name, view), 0.0),
                    )
                    for view in m.views
                ],
                resolutions=m.at,
                statistics=[s.value for s in m.statistics],
            )
            for m in plan.measured
        ]
        statement = pb.BudgetStatement(
            period=plan.privacy.period.name,
            epsilon=budget.epsilon,
            delta=budget.delta,
            rho=float(budget.loss.amount) if budget.currency is Currency.ZCDP else 0.0,
            privacy_unit=plan.privacy.unit,
            currency=budget.currency.value,
            amount=str(budget.loss.amount),
            selection_delta=str(budget.loss.delta),
        )
        return pb.ListMetricsResponse(metrics=metrics, budget=statement)

    async def query_releases(self, request: pb.QueryReleasesRequest) -> AsyncIterator[pb.QueryReleasesResponse]:
        """Releases of one metric and view in a time range, in time order."""
        plan = self._context.plan
        filters = _filters(request)
        metric = next((m for m in plan.measured if m.name == request.metric), None)
        if metric is None:
            await _note("QueryReleases of an unknown metric")
        else:
            filters = await self._within_purposes(metric, filters)
        question = Question(
            metric=request.metric,
            view=tuple(request.view),
            resolution=request.resolution,
            from_ms=max(0, min(request.from_ms, _END_OF_TIME_MS - 1)),
            to_ms=min(request.to_ms, _END_OF_TIME_MS) or _END_OF_TIME_MS,
            filters={name: tuple(values) for name, values in filters.items()},
            statistics=tuple(request.statistics),
            roll_up_time=request.roll_up_time,
        )
        checked = check_question(plan, question)

        def stored(view: tuple[str, ...]) -> Iterator[tuple[int, Release]]:
            range_ms = question.from_ms, question.to_ms
            return self._context.store.releases(checked.metric.name, view, checked.resolution, *range_ms)

        answers = answer(checked, stored(checked.view), {view: stored(view) for view in checked.other_views})
        purposes = checked.metric.purposes
        async for chunk in _in_chunks(
            answers, lambda found: self._message(found, purposes), limits.RELEASES_PER_ANSWER_MESSAGE
        ):
            _still_let_in()
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
            _still_let_in()
            yield pb.GetLedgerResponse(entries=chunk)

    async def _within_purposes(self, metric: Metric, filters: dict[str, list[str]]) -> dict[str, list[str]]:
        """Notes the question; what the service counts by itself is narrowed to values of the caller's purposes.

        Raises:
            Forbidden: the metric, or a value that is asked for by name, is outside them.
        """
        caller = passage()
        if caller is None:
            return filters
        purposes = purposes_of_values(self._context.plan, metric)
        asked = [v for name in [d.name for d in metric.dimensions] for v in filters.get(name, ()) if v in purposes]
        await caller.ask("QueryReleases", metric, [purposes[value] for value in asked])
        if not purposes or asked:
            return filters
        return filters | {metric.dimensions[0].name: [v for v, of in purposes.items() if caller.serves(of)]}

    def _message(self, found: ReleaseAnswer, purposes: tuple[str, ...]) -> release_pb2.Release:
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
            privacy_loss=self._loss(found.loss, found.delta),
            max_windows=found.max_windows,
            estimates=estimates,
            unit=found.unit,
            rolled_up_from=found.rolled_up_from,
            purposes=purposes,
        )

    def _loss(self, amount: float, delta: float) -> release_pb2.PrivacyLoss:
        loss = self._losses.get((amount, delta))
        if loss is None:
            budget = self._context.deployment.budget
            spent = PrivacyLoss(Fraction(amount), Fraction(delta))
            epsilon, at = epsilon_and_delta(spent, budget, self._context.mechanisms)
            rho = amount if budget.currency is Currency.ZCDP else 0.0
            loss = release_pb2.PrivacyLoss(rho=rho, epsilon=epsilon, delta=at)
            # Distinct losses are as few as metrics, views and resolutions; roll-ups must not let them grow.
            if len(self._losses) < limits.CACHED_LOSSES_MAX:
                self._losses[amount, delta] = loss
        return loss


async def _note(what: str) -> None:
    """Lets a question that is not about one metric be noted in the access log."""
    caller = passage()
    if caller is not None:
        await caller.ask(what)


def _still_let_in() -> None:
    """Ends an answer whose caller would not be let in any more."""
    caller = passage()
    if caller is not None:
        caller.another_answer()


def _filters(request: pb.QueryReleasesRequest) -> dict[str, list[str]]:
    """The values to keep, by dimension."""
    most = limits.NAMES_PER_QUESTION_MAX
    names = len(request.view) + len(request.statistics) + len(request.filters) + sum(len(f.values) for f in request.filters)
    if names > most:
        raise QueryRefused(f"the question holds {names} names and values; at most {most} are taken: ask several")
    filters: dict[str, list[str]] = {}
    for f in request.filters:
        filters.setdefault(f.dimension, []).extend(f.values)
    return filters


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
