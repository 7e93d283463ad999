"""QueryService: answers from the plan, the ledger and published releases alone (R1)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any

import grpc

from hushmeter import limits
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.errors import QueryRefused, ReleaseAltered
from hushmeter.model.plan import Metric
from hushmeter.model.release import Release
from hushmeter.plan.built_in import purposes_of_values
from hushmeter.query.answering import SEVERAL_VERSIONS, CheckedQuestion, Question, ReleaseAnswer, answer
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.plan_timeline import Era
from hushmeter.service.disclosure.verified_releases import public_from, released
from hushmeter.service.door.methods import in_chunks, streamed, unary
from hushmeter.service.door.passage import Passage, passage
from hushmeter.service.door.query_eras import by_era, clipped
from hushmeter.service.door.release_messages import (
    ReleaseMessages,
    budget_statement,
    catalog_entry,
    filters_of,
    hidden_shares,
)

QUERY_SERVICE = pb.DESCRIPTOR.services_by_name["QueryService"].full_name
_END_OF_TIME_MS = 2**62
"""Later than any window; also larger than any number of an entry, and within the database's integers."""
_WHOLE_VIEWS = (
    "a release can be verified by whoever reads the whole of it: ask for openings without filters and roll-ups, and with a "
    "credential for the purposes of all of its values"
)


class QueryService:
    """Answers the three methods; reads run on threads, so that other calls are answered meanwhile.

    Args:
        context: the deployment.
        meters: operators' metrics.
    """

    def __init__(self, context: Context, meters: Meters) -> None:
        self._context = context
        self._meters = meters
        self._listed: tuple[tuple[tuple[Era, ...], ...], pb.ListMetricsResponse] | None = None
        self._messages = ReleaseMessages(context.mechanisms)

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The methods as gRPC wants them."""
        return grpc.method_handlers_generic_handler(
            QUERY_SERVICE,
            {
                "ListMetrics": unary(self.list_metrics, pb.ListMetricsRequest, pb.ListMetricsResponse),
                "QueryReleases": streamed(self.query_releases, pb.QueryReleasesRequest, pb.QueryReleasesResponse),
                "GetLedger": streamed(self.get_ledger, pb.GetLedgerRequest, pb.GetLedgerResponse),
            },
        )

    async def list_metrics(self, _request: pb.ListMetricsRequest) -> pb.ListMetricsResponse:
        """What can be asked for, and the budget in force."""
        await passage().note("ListMetrics")
        known, begun = self._context.timeline.eras, self._begun()
        if self._listed is None or self._listed[0] != (known, begun):
            # Of a large plan it takes long to say, and is the same until another version is known or begins.
            self._listed = (known, begun), await asyncio.to_thread(self._list, begun)
        return self._listed[1]

    def _list(self, begun: tuple[Era, ...]) -> pb.ListMetricsResponse:
        now = begun[-1]
        # The newest version says what a metric is; those that it has no more may still have releases.
        named = {m.name: (era, m) for era in begun for m in era.plan.measured}
        measured = {m.name for m in now.plan.measured}
        hidden = {era: hidden_shares(era) for era in {era for era, _ in named.values()}}
        names = [*(m.name for m in now.plan.measured), *(name for name in named if name not in measured)]
        return pb.ListMetricsResponse(
            metrics=[catalog_entry(metric, hidden[era]) for era, metric in (named[name] for name in names)],
            budget=budget_statement(now),
            plan_versions=[
                pb.PlanVersionStatement(
                    version=era.version.version,
                    plan_hash=bytes.fromhex(era.version.plan_hash),
                    active_from_ms=era.version.active_from_ms,
                    budget=budget_statement(era),
                )
                for era in self._context.timeline.eras
            ],
        )

    async def query_releases(self, request: pb.QueryReleasesRequest) -> AsyncIterator[pb.QueryReleasesResponse]:
        """Releases of one metric and view in a time range, in time order."""
        question = Question(
            metric=request.metric,
            view=tuple(request.view),
            resolution=request.resolution,
            from_ms=max(0, min(request.from_ms, _END_OF_TIME_MS - 1)),
            to_ms=min(request.to_ms, _END_OF_TIME_MS) or _END_OF_TIME_MS,
            filters=filters_of(request),
            statistics=tuple(request.statistics),
            roll_up_time=request.roll_up_time,
        )
        caller = passage()
        question = await self._within_purposes(question, caller)
        if request.openings and (question.filters or question.roll_up_time):
            raise QueryRefused(_WHOLE_VIEWS)
        message = self._messages.opened if request.openings else self._messages.message
        answers = self._answers(by_era(self._begun(), question))
        try:
            async for chunk in in_chunks(answers, lambda a: message(*a), limits.RELEASES_PER_ANSWER_MESSAGE):
                caller.another_answer()
                yield pb.QueryReleasesResponse(releases=chunk)
        except ReleaseAltered:
            self._meters.failures.labels("release").inc()
            raise

    async def get_ledger(self, request: pb.GetLedgerRequest) -> AsyncIterator[pb.GetLedgerResponse]:
        """The privacy ledger, entry by entry, in order, from where on it is public."""
        caller = passage()
        await caller.note("GetLedger")
        store = self._context.store
        first = await asyncio.to_thread(public_from, store)
        entries = store.ledger(max(first, min(request.from_sequence, _END_OF_TIME_MS)))
        chunks = in_chunks(
            entries,
            lambda e: pb.LedgerEntry(
                sequence=e.sequence, content=e.content, previous_hash=e.previous_hash, entry_hash=e.entry_hash
            ),
            limits.LEDGER_ENTRIES_PER_ANSWER_MESSAGE,
        )
        async for chunk in chunks:
            caller.another_answer()
            yield pb.GetLedgerResponse(entries=chunk)

    def _begun(self) -> tuple[Era, ...]:
        """The eras that have begun: those that wait have neither metrics nor releases."""
        now = self._context.clock.now_ms()
        return tuple(era for era in self._context.timeline.eras if era.from_ms <= now)

    async def _within_purposes(self, question: Question, caller: Passage) -> Question:
        """Notes a question once for each set of purposes that its metric has had in the time range (P8).

        What the service counts by itself is narrowed to values of the purposes of the caller.

        Raises:
            Forbidden: the metric, or a value that is asked for by name, is outside them.
        """
        plans = [era.plan for era in self._begun() if clipped(era, question)]
        found = [(plan, m) for plan in plans for m in plan.measured if m.name == question.metric]
        if not found:
            await caller.note("QueryReleases of an unknown metric")
            return question
        dimensions = found[-1][1].dimensions
        named = [value for d in dimensions for value in question.filters.get(d.name, ())]
        serves: dict[str, bool] = {}
        asked: dict[tuple[str, ...], tuple[Metric, list[Collection[str]]]] = {}
        for plan, metric in found:
            purposes = purposes_of_values(plan, metric)
            _, parts = asked.setdefault(metric.purposes, (metric, []))
            parts += [purposes[value] for value in named if value in purposes]
            serves |= {value: caller.serves(of) and serves.get(value, True) for value, of in purposes.items()}
        for metric, parts in asked.values():
            await caller.ask("QueryReleases", metric, parts)
        if all(serves.values()) or any(value in serves for value in named):
            return question
        served = tuple(value for value, mine in serves.items() if mine)
        return dataclasses.replace(question, filters={**question.filters, dimensions[0].name: served})

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
        store, metric = self._context.store, checked.metric.name
        return released(store, metric, view, checked.resolution, question.from_ms, question.to_ms)

    def _others(self, checked: CheckedQuestion, question: Question) -> dict[tuple[str, ...], Iterator[tuple[int, Release]]]:
        return {view: self._stored(checked, view, question) for view in checked.other_views}
