"""Catalog, budget and releases as messages, and the filters of a question."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hushmeter import limits
from hushmeter.api.query.v1 import query_pb2 as pb
from hushmeter.api.release.v1 import release_pb2
from hushmeter.errors import QueryRefused
from hushmeter.ledger.accountant import epsilon_and_delta
from hushmeter.model.ledger import PrivacyBudget, PrivacyLoss
from hushmeter.model.measurement import Currency, MeasurementName
from hushmeter.model.plan import Metric, Statistic
from hushmeter.model.release import NoisyVector
from hushmeter.plan.hidden_partitions import hidden_share
from hushmeter.ports import Mechanisms
from hushmeter.query.answering import ReleaseAnswer
from hushmeter.service.deployment.plan_timeline import Era

HiddenShares = dict[tuple[str, tuple[str, ...]], float]


def hidden_shares(era: Era) -> HiddenShares:
    """By metric and view with private partitions, the share of units that is expected to stay hidden."""
    hidden: HiddenShares = {}
    for item in itertools.chain.from_iterable(era.prices.items.values()):
        view = item.measurement.metric, item.measurement.view
        if item.measurement.selects:
            hidden[view] = max(hidden.get(view, 0.0), hidden_share(era.plan, item))
    return hidden


def catalog_entry(metric: Metric, hidden: HiddenShares) -> pb.MetricCatalogEntry:
    """What can be asked of a metric."""
    return pb.MetricCatalogEntry(
        name=metric.name,
        description=metric.description,
        kind=metric.kind.value,
        unit=metric.unit,
        purposes=metric.purposes,
        views=[
            pb.MetricView(
                dimensions=view,
                private_partitions=(metric.name, view) in hidden,
                expected_hidden_share=hidden.get((metric.name, view), 0.0),
            )
            for view in metric.views
        ],
        resolutions=metric.at,
        statistics=[s.value for s in metric.statistics],
    )


def budget_statement(era: Era) -> pb.BudgetStatement:
    """The budget of a version of the plan."""
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


def filters_of(request: pb.QueryReleasesRequest) -> dict[str, tuple[str, ...]]:
    """The values to keep, by dimension."""
    most = limits.NAMES_PER_QUESTION_MAX
    names = len(request.view) + len(request.statistics) + len(request.filters) + sum(len(f.values) for f in request.filters)
    if names > most:
        raise QueryRefused(f"the question holds {names} names and values; at most {most} are taken: ask several")
    filters: dict[str, list[str]] = {}
    for f in request.filters:
        filters.setdefault(f.dimension, []).extend(f.values)
    return {dimension: tuple(values) for dimension, values in filters.items()}


class ReleaseMessages:
    """Makes messages of releases; what a loss is as epsilon it works out once.

    Args:
        mechanisms: which say what a loss is as epsilon.
    """

    def __init__(self, mechanisms: Mechanisms) -> None:
        self._mechanisms = mechanisms
        self._losses: dict[tuple[float, float, float], release_pb2.PrivacyLoss] = {}

    def message(self, found: ReleaseAnswer, era: Era) -> release_pb2.Release:
        """A release with its estimates.

        Args:
            found: what a question found of it.
            era: whose plan it is of.
        """
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

    def opened(self, found: ReleaseAnswer, era: Era) -> release_pb2.Release:
        """As `message`, with what opens the commitments of its ledger entries."""
        message = self.message(found, era)
        if found.raw is not None:
            message.openings.extend(_opening(name, vector) for name, vector in found.raw.vectors.items())
            if found.raw.keys is not None:
                rows = [release_pb2.PrivatePartition(public_partition=n, token=token) for n, token in found.raw.keys]
                message.private_partitions.CopyFrom(release_pb2.PrivatePartitions(rows=rows))
        return message

    def _loss(self, amount: float, delta: float, budget: PrivacyBudget) -> release_pb2.PrivacyLoss:
        loss = self._losses.get((amount, delta, budget.conversion_delta))
        if loss is None:
            spent = PrivacyLoss(Fraction(amount), Fraction(delta))
            epsilon, at = epsilon_and_delta(spent, budget, self._mechanisms)
            rho = amount if budget.currency is Currency.ZCDP else 0.0
            loss = release_pb2.PrivacyLoss(rho=rho, epsilon=epsilon, delta=at)
            # Distinct losses are as few as metrics, views and resolutions; roll-ups must not let them grow.
            if len(self._losses) < limits.CACHED_LOSSES_MAX:
                self._losses[amount, delta, budget.conversion_delta] = loss
        return loss


def _opening(name: MeasurementName, vector: NoisyVector) -> release_pb2.Opening:
    """What opens the commitment of one measurement's ledger entry."""
    values, columns = vector.values.ravel().tolist(), vector.values.shape[1]
    return release_pb2.Opening(measurement=name.value, salt=vector.salt or b"", columns=columns, values=values)


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
