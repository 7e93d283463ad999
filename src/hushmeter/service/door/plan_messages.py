"""A plan as a message to clients."""

from __future__ import annotations

from hushmeter.api.ingest.v1 import ingest_pb2 as pb
from hushmeter.model.plan import Dimension, Kind, Metric
from hushmeter.service.deployment.plan_timeline import Era

_KINDS = {
    Kind.COUNTER: pb.METRIC_KIND_COUNTER,
    Kind.DISTRIBUTION: pb.METRIC_KIND_DISTRIBUTION,
    Kind.FLAG: pb.METRIC_KIND_FLAG,
    Kind.CHOICE: pb.METRIC_KIND_CHOICE,
    Kind.RATIO: pb.METRIC_KIND_RATIO,
}


def describe_plan(era: Era) -> pb.PlanDescription:
    """The plan of an era as clients need it."""
    plan = era.plan
    return pb.PlanDescription(
        name=plan.name,
        version=plan.version,
        plan_hash=bytes.fromhex(plan.plan_hash),
        purposes=[pb.PurposeDescription(name=p.name, text=p.text, text_hash=p.text_hash) for p in plan.purposes],
        metrics=[_describe(m, era.catalog.first_series(i)) for i, m in enumerate(plan.metrics)],
        resolutions=[pb.ResolutionDescription(name=r.name, lateness_ms=r.lateness_ms) for r in plan.resolutions],
    )


def _describe(metric: Metric, first_series: int) -> pb.MetricDescription:
    return pb.MetricDescription(
        name=metric.name,
        description=metric.description,
        kind=_KINDS[metric.kind],
        unit=metric.unit,
        resolution=str(metric.step),
        purposes=metric.purposes,
        dimensions=[_describe_dimension(d) for d in metric.dimensions],
        components=metric.components,
        first_series=first_series,
        range_low=min(b.low for b in metric.bounds.values()),
        range_high=max(b.high for b in metric.bounds.values()),
        edges=metric.edges,
        expires_ms=metric.expires_ms,
    )


def _describe_dimension(dimension: Dimension) -> pb.DimensionDescription:
    if dimension.open is None:
        return pb.DimensionDescription(name=dimension.name, values=dimension.values)
    return pb.DimensionDescription(
        name=dimension.name, open=True, pattern=dimension.open.pattern, max_length=dimension.open.max_length
    )
