"""Who may read what: every door as every role, every question by every purpose, and every hash that can be guessed."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.transparency.v1 import transparency_pb2
from hushmeter.model.plan import Metric, Plan
from hushmeter.rehearsal.audit.courses import ELSEWHERE, Rehearsal
from hushmeter.rehearsal.audit.doors import CONSENT, HEALTH, INGEST, QUERY, RECORD_SERVICE, REFLECTION
from hushmeter.rehearsal.audit.evidence import Evidence, checked

_I, _C, _A, _N = "ingest", "consent", "analyst", "nobody"
_ALL = frozenset({_I, _C, _A})
MAY: Final[Mapping[str, frozenset[str]]] = {
    INGEST + "GetPlan": _ALL,
    INGEST + "SubmitReports": frozenset({_I}),
    INGEST + "StreamReports": frozenset({_I}),
    INGEST + "ValidateReports": frozenset({_I}),
    CONSENT + "SetConsent": frozenset({_C}),
    CONSENT + "GetConsent": frozenset({_C}),
    CONSENT + "IssueUnitToken": frozenset({_C}),
    CONSENT + "EraseUnit": frozenset({_C}),
    CONSENT + "GetUnit": frozenset({_C}),
    QUERY + "ListMetrics": frozenset({_A}),
    QUERY + "QueryReleases": frozenset({_A}),
    QUERY + "GetLedger": frozenset({_A}),
    RECORD_SERVICE + "GetRecord": _ALL | {_N},
    HEALTH + "Check": _ALL | {_N},
    HEALTH + "Watch": _ALL | {_N},
    HEALTH + "List": _ALL,
    REFLECTION: _ALL,
}
"""The roles of each method, written down a second time: the service's own table is audited. Others are the operator's."""
_REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def audit_reading(service: Rehearsal, methods: tuple[str, ...]) -> Iterator[Evidence]:
    """Checks who may read what of a service whose windows have ended.

    Args:
        service: the rehearsal.
        methods: full names of all that are served.
    """
    yield checked("who may call which method", _roles(service, methods), trials=len(methods) * 4)
    asked = list(_questions(service.context.plan))
    yield checked("who may read which metric", _purposes(service, asked), trials=len(asked))
    yield checked("no hash in the record can be guessed", _guessed(service))


def _roles(service: Rehearsal, methods: tuple[str, ...]) -> str:
    for method, role in itertools.product(methods, (_I, _C, _A, _N)):
        code = service.call(method, role, first=True).code
        if role in MAY.get(method, ()) and code in _REFUSED:
            return f"{method} is refused to {role}: {code}"
        if role not in MAY.get(method, ()) and code not in _REFUSED:
            return f"{method} answers {role}: {code}"
    return ""


def _questions(plan: Plan) -> Iterator[tuple[Metric, query_pb2.QueryReleasesRequest]]:
    """Every metric with every option that a question has."""
    for metric in plan.measured:
        for view, resolution in itertools.product(metric.views, metric.at):
            plain = query_pb2.QueryReleasesRequest(metric=metric.name, view=view, resolution=resolution)
            yield metric, plain
            for statistic in metric.statistics:
                for roll_up in (False, True):
                    one = query_pb2.QueryReleasesRequest()
                    one.CopyFrom(plain)
                    one.statistics.append(statistic.value)
                    one.roll_up_time = roll_up
                    yield metric, one
            for dimension in metric.view_dimensions(view):
                for value in dimension.values[:4]:
                    kept = query_pb2.QueryReleasesRequest()
                    kept.CopyFrom(plain)
                    kept.filters.add(dimension=dimension.name, values=[value])
                    yield metric, kept


def _purposes(service: Rehearsal, asked: list[tuple[Metric, query_pb2.QueryReleasesRequest]]) -> str:
    """An analyst reads the metrics of the credential's purpose, and of built-in ones the values of that purpose alone."""
    plan = service.context.plan
    analysts = {f"analyst of {purpose}": purpose for purpose in (*plan.purpose_names, ELSEWHERE)}
    for (metric, question), (analyst, purpose) in itertools.product(asked, analysts.items()):
        reply = service.call(QUERY + "QueryReleases", analyst, question.SerializeToString())
        told = [query_pb2.QueryReleasesResponse.FromString(m) for m in reply.messages]
        options = f"{metric.name} by {list(question.view)} at {question.resolution}, {question.statistics or 'everything'}"
        options += ", rolled up" if question.roll_up_time else ""
        if purpose not in metric.purposes:
            if reply.code != "PERMISSION_DENIED" or told:
                return f"{options}, is told for the purpose {purpose}: {reply.code}"
            continue
        values = [v for f in question.filters for v in f.values]
        outside = [v for v in values if metric in plan.built_in and purpose not in _of_value(plan, metric, v)]
        if outside and (reply.code != "PERMISSION_DENIED" or told):
            return f"{options}, {outside[0]} of another purpose is told for {purpose}"
        shown = {p for a in told for r in a.releases for e in r.estimates for p in e.partition}
        if metric in plan.built_in and any(purpose not in _of_value(plan, metric, v) for v in shown):
            return f"{options}: values of another purpose are told for {purpose}"
        if not outside and reply.code in _REFUSED:
            return f"{options}, is refused for its own purpose {purpose}"
    return ""


def _of_value(plan: Plan, metric: Metric, value: str) -> tuple[str, ...]:
    """The purposes of one value of a built-in metric; the value names a purpose, or a metric."""
    return (value,) if metric.dimensions[0].name == "purpose" else plan.metric(value).purposes


def _guessed(service: Rehearsal) -> str:
    """Looks in the public record for hashes of released vectors that anybody can compute from a guess."""
    parts = service.call(RECORD_SERVICE + "GetRecord", _N).messages
    # The ledger's entries are JSON inside of JSON. Their quotes are escaped, which changes no hash.
    record = b"".join(transparency_pb2.GetRecordResponse.FromString(p).part for p in parts)
    public = set(_HASH.findall(record.decode()))
    for metric in service.context.plan.measured:
        for view, resolution in itertools.product(metric.views, metric.at):
            for _, release in service.context.store.releases(metric.name, view, resolution, 0, 2**62):
                for name, vector in release.vectors.items():
                    cells = vector.values.astype("<i8").tobytes()
                    listed = json.dumps(vector.values.tolist(), separators=(",", ":")).encode()
                    keys = json.dumps(release.keys, separators=(",", ":"), ensure_ascii=False).encode()
                    for text in (cells, listed, keys + b"\0" + cells, b"null\0" + cells, keys + cells, keys + listed):
                        if {hashlib.sha256(text).hexdigest(), hashlib.blake2b(text, digest_size=32).hexdigest()} & public:
                            return f"anybody can try values of {metric.name} {name} against a hash in the public record"
    return ""
