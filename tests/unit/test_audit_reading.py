"""The audit finds whoever reads what is not for them: at a method, of a metric, of a value, or by a hash to guess at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hushmeter.api.query.v1 import query_pb2
from hushmeter.api.release.v1 import release_pb2
from hushmeter.api.transparency.v1 import transparency_pb2
from hushmeter.model.plan import Metric
from hushmeter.plan.reading import parse_recorded
from hushmeter.rehearsal.audit.courses import Reply
from hushmeter.rehearsal.audit.doors import CONSENT, HEALTH, INGEST, QUERY, RECORD_SERVICE
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.rehearsal.audit.reading import MAY, audit_reading

PLAN = parse_recorded(AUDIT_PLANS[0])
OPERATORS = "/hushmeter.api.operator.v1.OperatorService/Stop"
METHODS = (*MAY, OPERATORS)
ROLES, METRICS, HASHES = "who may call which method", "who may read which metric", "no hash in the record can be guessed"
CELLS = np.array([[3], [5]], np.int64)
Question = query_pb2.QueryReleasesRequest
Answer = Callable[[str, Question], Reply]


def ok(*partition: str) -> Reply:
    """An answer with one estimate of a partition."""
    release = release_pb2.Release(estimates=[release_pb2.Estimate(partition=partition)])
    return Reply((query_pb2.QueryReleasesResponse(releases=[release]).SerializeToString(),), "OK", "", ())


DENIED = Reply((), "PERMISSION_DENIED", "", ())


def own_values(metric: Metric, purpose: str) -> set[str]:
    """The values of a built-in metric that are for a purpose: its own name, or metrics that ask for it."""
    values = metric.dimensions[0].values
    by_purpose = metric.dimensions[0].name == "purpose"
    return {v for v in values if (v == purpose if by_purpose else purpose in PLAN.metric(v).purposes)}


def honest(purpose: str, question: Question) -> Reply:
    """What a service answers that keeps to its plan."""
    metric = PLAN.metric(question.metric)
    if purpose not in metric.purposes:
        return DENIED
    if metric not in PLAN.built_in:
        return ok()
    own = own_values(metric, purpose)
    filtered = {v for f in question.filters for v in f.values}
    return DENIED if filtered - own else ok(*sorted(own))


@dataclass
class Service:
    """A service that answers as it is told.

    Attributes:
        answer: to a question, by the purpose of whoever asks.
        roles: of each method.
        record: the public record.
    """

    answer: Answer = honest
    roles: dict[str, frozenset[str]] = field(default_factory=lambda: dict(MAY))
    record: str = "{}"

    @property
    def context(self) -> Any:
        """The plan, and a store with one release of one metric."""
        vector = SimpleNamespace(values=CELLS)
        release = SimpleNamespace(vectors={"sum": vector}, keys=None)

        def releases(metric: str, *_: object) -> list[object]:
            return [(0, release)] if metric == PLAN.metrics[0].name else []

        return SimpleNamespace(plan=PLAN, store=SimpleNamespace(releases=releases))

    def call(self, method: str, bearer: str, message: bytes = b"", *, first: bool = False) -> Reply:
        """See `Rehearsal.call`."""
        if not first and method == QUERY + "QueryReleases":
            return self.answer(bearer.removeprefix("analyst of "), Question.FromString(message))
        if not first and method == RECORD_SERVICE + "GetRecord":
            part = transparency_pb2.GetRecordResponse(part=self.record.encode())
            return Reply((part.SerializeToString(),), "OK", "", ())
        return ok() if bearer in self.roles.get(method, ()) else DENIED


def failed(service: Service) -> dict[str, str]:
    """What was found by each check that fails."""
    return {e.name: e.note for e in audit_reading(service, METHODS) if not e.holds}  # type: ignore[arg-type]


def test_a_service_that_keeps_to_its_plan_holds() -> None:
    """No check fails where each role, purpose and value is answered as it may be; a salted hash is no finding."""
    assert failed(Service()) == {}
    assert failed(Service(record=f'{{"commitment": "{hashlib.sha256(b"salt" + CELLS.tobytes()).hexdigest()}"}}')) == {}


@pytest.mark.parametrize(
    ("method", "role"),
    [
        (QUERY + "GetLedger", "ingest"),
        (CONSENT + "GetUnit", "analyst"),
        (HEALTH + "List", "nobody"),
        (OPERATORS, "consent"),
    ],
)
def test_a_method_that_answers_whom_it_must_not_is_found(method: str, role: str) -> None:
    """A role that a method does not have, nobody, and anybody at an operator's method."""
    roles = dict(MAY) | {method: MAY.get(method, frozenset()) | {role}}
    assert failed(Service(roles=roles)) == {ROLES: f"{method} answers {role}: OK"}


def test_a_method_that_refuses_whom_it_must_serve_is_found() -> None:
    """A role that cannot do its work is a fault as well."""
    roles = dict(MAY) | {INGEST + "SubmitReports": frozenset[str]()}
    assert failed(Service(roles=roles)) == {ROLES: f"{INGEST}SubmitReports is refused to ingest: PERMISSION_DENIED"}


def told_of_another_purpose(purpose: str, question: Question) -> Reply:
    """Tells metrics of any purpose where a roll-up is asked for."""
    return ok() if question.roll_up_time else honest(purpose, question)


def told_of_another_value(purpose: str, question: Question) -> Reply:
    """Tells filtered values of any purpose."""
    return ok() if question.filters and purpose in PLAN.metric(question.metric).purposes else honest(purpose, question)


def told_of_all_values(purpose: str, question: Question) -> Reply:
    """Tells values of built-in metrics to whoever may ask for some of them."""
    metric = PLAN.metric(question.metric)
    honestly = honest(purpose, question)
    return ok(*metric.dimensions[0].values) if metric in PLAN.built_in and honestly is not DENIED else honestly


def denied_to_all(*_: object) -> Reply:
    """Tells nobody anything."""
    return DENIED


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (told_of_another_purpose, ", rolled up, is told for the purpose "),
        (told_of_another_value, " of another purpose is told for "),
        (told_of_all_values, ": values of another purpose are told for "),
        (denied_to_all, ", is refused for its own purpose "),
    ],
)
def test_an_answer_for_another_purpose_is_found(answer: Answer, words: str) -> None:
    """Whole metrics, filtered values and values beside one's own are found, and so is a service that tells nothing."""
    found = failed(Service(answer=answer))
    assert found.keys() == {METRICS}
    assert words in found[METRICS]


@pytest.mark.parametrize(
    "hashed", [CELLS.tobytes(), b"[[3],[5]]", b"null\0" + CELLS.tobytes()], ids=["cells", "list", "keys"]
)
@pytest.mark.parametrize("digest", [hashlib.sha256, lambda text: hashlib.blake2b(text, digest_size=32)])
def test_a_hash_that_anybody_can_compute_is_found(digest: Callable[[bytes], Any], hashed: bytes) -> None:
    """A hash of released values without a salt lets anybody test guesses, also where it stands inside of other JSON."""
    record = f'{{"entry": "{{\\"hash\\": \\"{digest(hashed).hexdigest()}\\"}}"}}'
    note = f"anybody can try values of {PLAN.metrics[0].name} sum against a hash in the public record"
    assert failed(Service(record=record)) == {HASHES: note}
