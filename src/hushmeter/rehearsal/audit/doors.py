"""Every door that is not the operator's, as the descriptors of what is served name them, and what the audit asks there.

A method without a probe fails the audit, so that no new method is forgotten.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

import hushmeter.api
from hushmeter.access.roles import OPEN, Role, roles_of
from hushmeter.access.unit_tokens import ISSUER_KEY_NAME, issue
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.transparency.v1 import transparency_pb2
from hushmeter.model.time import DAY_MS, MINUTE_MS
from hushmeter.rehearsal.audit.courses import Rehearsal
from hushmeter.rehearsal.audit.inputs import modest, reports_of

INGEST = "/hushmeter.api.ingest.v1.IngestService/"
CONSENT = "/hushmeter.api.consent.v1.ConsentService/"
QUERY = "/hushmeter.api.query.v1.QueryService/"
RECORD_SERVICE = "/hushmeter.api.transparency.v1.TransparencyService/"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
STRANGER = "nobody-has-heard-of-me"

Asked = Iterator[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Probe:
    """What the audit asks at one door.

    Attributes:
        requests: from a service, and the units whose data is asked for, to role and message of each question.
        lasting: whether asking changes something; such a probe is asked at the very end.
        endless: whether the answers have no end; only the first one is read.
        meanwhile: the questions before the end of the run, where they are fewer; None for all.
    """

    requests: Callable[[Rehearsal, tuple[str, ...]], Asked]
    lasting: bool = False
    endless: bool = False
    meanwhile: Callable[[Rehearsal, tuple[str, ...]], Asked] | None = None


def methods_served(service: Rehearsal) -> tuple[str, ...]:
    """Full names of all methods that are served or declared, by reflection and by the generated packages."""
    asked = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    reply = service.call(REFLECTION, "ingest", asked, first=True)
    answer = reflection_pb2.ServerReflectionResponse.FromString(reply.messages[0])
    names = {s.name for s in answer.list_services_response.service}
    for module in pkgutil.walk_packages(hushmeter.api.__path__, "hushmeter.api."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            names |= {s.full_name for s in file.services_by_name.values()}
    pool = descriptor_pool.Default()
    found = [pool.FindServiceByName(name) for name in sorted(names)]
    return tuple(f"/{service.full_name}/{method.name}" for service in found for method in service.methods)


def unasked_methods(methods: tuple[str, ...]) -> list[str]:
    """Methods that others than the operator may call, and that have no probe."""
    return [m for m in methods if (m in OPEN or roles_of(m) != {Role.OPERATOR}) and m not in PROBES]


def everything(service: Rehearsal, units: tuple[str, ...], *, last: bool) -> Iterator[tuple[str, Any]]:
    """Asks every probe; at the end of the run also calls each method with each credential.

    Args:
        service: the rehearsal.
        units: whose own data is asked for, with their tokens.
        last: whether this is the end of the run, where everything is asked, also what changes something.

    Yields:
        What was asked, and the reply.
    """
    for method, probe in PROBES.items():
        if probe.lasting and not last:
            continue
        requests = probe.requests if last or probe.meanwhile is None else probe.meanwhile
        for number, (role, message) in enumerate(requests(service, units)):
            yield f"{method}#{number} as {role}", service.call(method, role, message, first=probe.endless)
        if last:
            for role in service.bearers:
                yield f"{method} as {role}", service.call(method, role, first=probe.endless)


def token(service: Rehearsal, unit: str) -> bytes:
    """A unit's token that holds for the whole rehearsal."""
    expires = service.foundation.founded_ms + 300 * DAY_MS
    return issue(service.context.keys.get_or_create(ISSUER_KEY_NAME), unit.encode(), expires)


def _nothing(role: str) -> Callable[[Rehearsal, tuple[str, ...]], Asked]:
    return lambda _service, _units: iter([(role, b"")])


def _reports(request: type[Any]) -> Callable[[Rehearsal, tuple[str, ...]], Asked]:
    """Reports that are rejected, each for another reason; they store nothing."""

    def asked(service: Rehearsal, units: tuple[str, ...]) -> Asked:
        now, plan = service.clock.now_ms(), service.context.plan
        points = modest(service.context.catalog, 0, high=True, purposes=plan.purpose_names)
        shapes: list[tuple[str, bytes, dict[str, Any]]] = [
            (units[0], token(service, units[0]), {"interval_end_ms": now - 400 * DAY_MS, "interval_start_ms": 1}),
            (units[0], token(service, units[0]), {"interval_end_ms": now + DAY_MS}),
            (units[0], b"", {}),
            (units[0], token(service, units[0]), {"plan_version": 99}),
            (units[0], token(service, units[0]), {"series": [2**31], "value": [1], "token": [], "point_token": []}),
            (STRANGER, token(service, STRANGER), {}),
        ]
        reports = []
        for unit, proof, changes in shapes:
            (report, *_) = reports_of(points, unit, plan.version, now, MINUTE_MS, "probe")
            report.unit_token = proof
            for name, value in changes.items():
                if isinstance(value, list):
                    report.ClearField(name)
                    getattr(report, name).extend(value)
                else:
                    setattr(report, name, value)
            reports.append(report)
        yield "ingest", request(reports=reports).SerializeToString()

    return asked


def _of_units(request: type[Any], **fields: Any) -> Callable[[Rehearsal, tuple[str, ...]], Asked]:
    def asked(service: Rehearsal, units: tuple[str, ...]) -> Asked:
        for unit in (*units, STRANGER):
            yield "consent", request(unit_id=unit, unit_token=token(service, unit), **fields).SerializeToString()
        yield "consent", request(unit_id=units[0], unit_token=b"wrong").SerializeToString()

    return asked


def _tokens(_service: Rehearsal, units: tuple[str, ...]) -> Asked:
    for unit in units:
        yield "consent", consent_pb2.IssueUnitTokenRequest(unit_id=unit, lifetime_s=3600).SerializeToString()


def _decisions(service: Rehearsal, units: tuple[str, ...]) -> Asked:
    """Decisions that are taken, and decisions with a wrong text hash, which are refused."""
    for unit in (units[0], STRANGER):
        proof = token(service, unit)
        for purpose in service.context.plan.purposes:
            taken = consent_pb2.Decision(purpose=purpose.name, given=False)
            wrong = consent_pb2.Decision(purpose=purpose.name, given=True, text_hash=bytes(32))
            for decision in (wrong, taken):
                yield (
                    "consent",
                    consent_pb2.SetConsentRequest(unit_id=unit, unit_token=proof, decisions=[decision]).SerializeToString(),
                )


def _questions(service: Rehearsal, _units: tuple[str, ...]) -> Asked:
    """Every metric by every view at every resolution, whole, filtered and rolled up, by every analyst."""
    plan = service.context.plan
    analysts = [name for name in service.bearers if name.startswith("analyst")]
    for metric in plan.measured:
        for view, resolution in itertools.product(metric.views, metric.at):
            for analyst in analysts:
                yield (
                    analyst,
                    query_pb2.QueryReleasesRequest(
                        metric=metric.name, view=view, resolution=resolution
                    ).SerializeToString(),
                )
            for statistic in metric.statistics:
                yield (
                    "analyst",
                    query_pb2.QueryReleasesRequest(
                        metric=metric.name,
                        view=view,
                        resolution=resolution,
                        statistics=[statistic.value],
                        roll_up_time=True,
                    ).SerializeToString(),
                )
            closed = next((d for d in metric.view_dimensions(view) if d.values), None)
            if closed is not None:
                kept = query_pb2.PartitionFilter(dimension=closed.name, values=closed.values[:1])
                yield (
                    "analyst",
                    query_pb2.QueryReleasesRequest(
                        metric=metric.name, view=view, resolution=resolution, filters=[kept]
                    ).SerializeToString(),
                )
    yield "analyst", query_pb2.QueryReleasesRequest(metric="no_such_metric", resolution="1h").SerializeToString()


def _plain_questions(service: Rehearsal, _units: tuple[str, ...]) -> Asked:
    """Every metric by its first view at each resolution, whole."""
    for metric in service.context.plan.measured:
        for resolution in metric.at:
            question = query_pb2.QueryReleasesRequest(metric=metric.name, view=metric.views[0], resolution=resolution)
            yield "analyst", question.SerializeToString()


def _formats(_service: Rehearsal, _units: tuple[str, ...]) -> Asked:
    for value in transparency_pb2.RecordFormat.DESCRIPTOR.values:
        yield "nobody", transparency_pb2.GetRecordRequest(format=value.name).SerializeToString()


def _reflected(_service: Rehearsal, _units: tuple[str, ...]) -> Asked:
    yield "ingest", reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()


PROBES: dict[str, Probe] = {
    INGEST + "GetPlan": Probe(_nothing("ingest")),
    INGEST + "SubmitReports": Probe(_reports(ingest_pb2.SubmitReportsRequest)),
    INGEST + "StreamReports": Probe(_reports(ingest_pb2.StreamReportsRequest)),
    INGEST + "ValidateReports": Probe(_reports(ingest_pb2.ValidateReportsRequest)),
    CONSENT + "GetConsent": Probe(_of_units(consent_pb2.GetConsentRequest)),
    CONSENT + "GetUnit": Probe(_of_units(consent_pb2.GetUnitRequest)),
    CONSENT + "IssueUnitToken": Probe(_tokens),
    QUERY + "ListMetrics": Probe(_nothing("analyst")),
    QUERY + "QueryReleases": Probe(_questions, meanwhile=_plain_questions),
    QUERY + "GetLedger": Probe(_nothing("analyst")),
    RECORD_SERVICE + "GetRecord": Probe(_formats),
    HEALTH + "Check": Probe(_nothing("nobody")),
    HEALTH + "List": Probe(_nothing("ingest")),
    HEALTH + "Watch": Probe(_nothing("nobody"), endless=True),
    REFLECTION: Probe(_reflected, endless=True),
    CONSENT + "SetConsent": Probe(_decisions, lasting=True),
    CONSENT + "EraseUnit": Probe(_of_units(consent_pb2.EraseUnitRequest), lasting=True),
}
