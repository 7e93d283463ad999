"""Roles, and the one table of which may call which method."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a credential is for."""

    INGEST = "ingest"
    CONSENT = "consent"
    ANALYST = "analyst"
    OPERATOR = "operator"


_EVERYBODY = frozenset(Role)
_PACKAGE = "/hushmeter.api."
_TABLE: dict[str, frozenset[Role]] = {
    "ingest.v1.IngestService/GetPlan": _EVERYBODY,
    "ingest.v1.IngestService/SubmitReports": frozenset({Role.INGEST}),
    "ingest.v1.IngestService/StreamReports": frozenset({Role.INGEST}),
    "ingest.v1.IngestService/ValidateReports": frozenset({Role.INGEST}),
    "consent.v1.ConsentService/SetConsent": frozenset({Role.CONSENT}),
    "consent.v1.ConsentService/GetConsent": frozenset({Role.CONSENT}),
    "consent.v1.ConsentService/IssueUnitToken": frozenset({Role.CONSENT}),
    "consent.v1.ConsentService/EraseUnit": frozenset({Role.CONSENT}),
    "consent.v1.ConsentService/GetUnit": frozenset({Role.CONSENT}),
    "query.v1.QueryService/ListMetrics": frozenset({Role.ANALYST}),
    "query.v1.QueryService/QueryReleases": frozenset({Role.ANALYST}),
    "query.v1.QueryService/GetLedger": frozenset({Role.ANALYST}),
}
METHODS: Final = {_PACKAGE + name: roles | {Role.OPERATOR} for name, roles in _TABLE.items()} | {
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERYBODY,
    "/grpc.health.v1.Health/List": _EVERYBODY,
}
"""Roles by full method name; a method that is not here is the operator's alone."""

RESERVED_METHODS: Final = frozenset(
    {_PACKAGE + f"consent.v1.ConsentService/{name}" for name in ("SetConsent", "EraseUnit")}
)
"""Methods with a rate of their own, which no other message of their credential uses up."""
GET_RECORD: Final = _PACKAGE + "transparency.v1.TransparencyService/GetRecord"
OPEN: Final = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", GET_RECORD})
"""Methods that need no credential: load balancers ask them, and anybody may read the public record."""


def roles_of(method: str) -> frozenset[Role]:
    """The roles that may call a method, given by its full name such as `/package.Service/Method`."""
    return METHODS.get(method, frozenset({Role.OPERATOR}))
