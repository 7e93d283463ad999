"""Faults of who may call which method and read which metric."""

from __future__ import annotations

from tests.faults.fault import Fault

_PLANS = "plans = [era.plan for era in self._begun() if clipped(era, question)]"
_WHO = "who may call which method"
_WHAT = "who may read which metric"

DOORS: tuple[Fault, ...] = (
    Fault(
        "clients that send may read the ledger",
        "access/roles.py",
        '"query.v1.QueryService/GetLedger": frozenset({Role.ANALYST})',
        '"query.v1.QueryService/GetLedger": frozenset({Role.ANALYST, Role.INGEST})',
        "replay:0",
        _WHO,
    ),
    Fault(
        "analysts may read what is held on a unit",
        "access/roles.py",
        '"consent.v1.ConsentService/GetUnit": frozenset({Role.CONSENT})',
        '"consent.v1.ConsentService/GetUnit": frozenset({Role.CONSENT, Role.ANALYST})',
        "replay:0",
        _WHO,
    ),
    Fault(
        "clients that send may issue tokens",
        "access/roles.py",
        '"consent.v1.ConsentService/IssueUnitToken": frozenset({Role.CONSENT})',
        '"consent.v1.ConsentService/IssueUnitToken": frozenset({Role.CONSENT, Role.INGEST})',
        "replay:0",
        _WHO,
    ),
    Fault(
        "nobody needs a credential to query",
        "access/roles.py",
        '"/grpc.health.v1.Health/Watch", GET_RECORD}',
        '"/grpc.health.v1.Health/Watch", GET_RECORD, _PACKAGE + "query.v1.QueryService/QueryReleases"}',
        "replay:0",
        _WHO,
    ),
    Fault(
        "a roll-up of another purpose's metric",
        "service/door/query_service.py",
        _PLANS,
        "if question.roll_up_time:\n            return question\n        " + _PLANS,
        "replay:0",
        _WHAT,
    ),
    Fault(
        "statistics by name of another purpose's metric",
        "service/door/query_service.py",
        _PLANS,
        "if question.statistics:\n            return question\n        " + _PLANS,
        "replay:0",
        _WHAT,
    ),
    Fault(
        "a filtered question about another purpose's metric",
        "service/door/query_service.py",
        _PLANS,
        "if question.filters:\n            return question\n        " + _PLANS,
        "replay:0",
        _WHAT,
    ),
    Fault(
        "participants of other purposes are told",
        "service/door/query_service.py",
        "if all(serves.values()) or any(value in serves for value in named):",
        "if True:",
        "replay:0",
        _WHAT,
    ),
    Fault(
        "a named participant of another purpose is told",
        "service/door/query_service.py",
        "parts += [purposes[value] for value in named if value in purposes]",
        "parts += []",
        "replay:0",
        _WHAT,
    ),
    Fault(
        "whoever has any purpose has all",
        "service/door/passage.py",
        "any(p in mine.purposes for p in purposes)",
        "bool(mine.purposes)",
        "replay:0",
        _WHAT,
    ),
)
