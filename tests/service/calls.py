"""What tests call a service with: full names of its methods, statuses that calls end with, and requests as bytes."""

from __future__ import annotations

from typing import Any

import grpc

from hushmeter.access.roles import OPEN
from hushmeter.api.consent.v1 import consent_pb2
from hushmeter.api.ingest.v1 import ingest_pb2
from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.transparency.v1 import transparency_pb2

_INGEST, _CONSENT, _QUERY = (
    f"/{file.package}.{name}Service/"
    for file, name in (
        (ingest_pb2.DESCRIPTOR, "Ingest"),
        (consent_pb2.DESCRIPTOR, "Consent"),
        (query_pb2.DESCRIPTOR, "Query"),
    )
)
GET_PLAN = _INGEST + "GetPlan"
SUBMIT = _INGEST + "SubmitReports"
STREAM = _INGEST + "StreamReports"
VALIDATE = _INGEST + "ValidateReports"
SET_CONSENT = _CONSENT + "SetConsent"
GET_CONSENT = _CONSENT + "GetConsent"
ISSUE_UNIT_TOKEN = _CONSENT + "IssueUnitToken"
ERASE_UNIT = _CONSENT + "EraseUnit"
GET_UNIT = _CONSENT + "GetUnit"
LIST_METRICS = _QUERY + "ListMetrics"
QUERY_RELEASES = _QUERY + "QueryReleases"
GET_LEDGER = _QUERY + "GetLedger"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"

FILES = (ingest_pb2.DESCRIPTOR, consent_pb2.DESCRIPTOR, query_pb2.DESCRIPTOR, transparency_pb2.DESCRIPTOR)
METHODS: dict[str, Any] = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
    if f"/{service.full_name}/{method.name}" not in OPEN
}
"""Every method of the service that needs a credential, by full name."""

OK = grpc.StatusCode.OK
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
LIMITED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def consent_question(unit: str, token: bytes = b"") -> bytes:
    """A request for what a unit allows."""
    return consent_pb2.GetConsentRequest(unit_id=unit, unit_token=token).SerializeToString()


def unit_token_request(unit: str, lifetime_s: int = 0) -> bytes:
    """A request for a unit token; with the lifetime by default where that is 0."""
    return consent_pb2.IssueUnitTokenRequest(unit_id=unit, lifetime_s=lifetime_s).SerializeToString()
