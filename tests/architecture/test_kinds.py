"""Every kind of metric is there from end to end: in plan files, on the wire, in the SDK, in the audit and in the pages."""

from __future__ import annotations

import datetime as dt
import inspect
import re
import typing
from pathlib import Path

import pytest

from hushmeter.api.ingest.v1.ingest_pb2 import MetricKind
from hushmeter.model.plan import STATISTICS, Kind, Statistic
from hushmeter.plan.file import MetricFile
from hushmeter.plan.reading import parse_plan
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.sdk.recorder import Recorder
from hushmeter.service.door.plan_messages import _KINDS

ROOT = Path(__file__).parents[2]
DECLARED = tuple(kind for kind in Kind if kind is not Kind.BUILT_IN)
declared = pytest.mark.parametrize("kind", DECLARED)
PAGES = {
    "README.md": r"^\| `· kind` \|.*`{}`",
    "docs/glossary.md": r"^\| kind \|.*\b{}\b",
    "docs/data_model.md": r"^\| {} \|",
}
"""Where pages list the kinds."""


def test_plan_files_can_declare_each() -> None:
    """A plan file takes exactly the kinds that the model can be built with, and each has statistics."""
    assert set(typing.get_args(MetricFile.model_fields["kind"].annotation)) == {kind.value for kind in DECLARED}
    assert set(STATISTICS) == set(Kind)


def test_clients_are_told_each_by_its_name() -> None:
    """The wire has a kind of the same name for each, and no other but the one that is never sent."""
    assert {f"METRIC_KIND_{kind.name}": number for kind, number in _KINDS.items()} == {
        name: number for name, number in MetricKind.items() if number
    }
    assert set(_KINDS) == set(DECLARED)


@declared
def test_applications_can_record_each(kind: Kind) -> None:
    """Some method of the SDK's recorder records metrics of the kind."""
    assert f"METRIC_KIND_{kind.name})" in inspect.getsource(Recorder)


def test_the_audit_has_each() -> None:
    """Each of the plans that the audit brings has metrics of every kind, and every statistic of some kind."""
    for text in AUDIT_PLANS:
        plan = parse_plan(text, dt.date(2026, 3, 2))
        assert {metric.kind for metric in plan.metrics} == set(DECLARED)
        assert {statistic for metric in plan.metrics for statistic in metric.statistics} == set(Statistic)


@declared
@pytest.mark.parametrize("page", PAGES)
def test_pages_name_each(kind: Kind, page: str) -> None:
    """Wherever a page lists the kinds, the kind is among them."""
    assert re.search(PAGES[page].format(kind.value), (ROOT / page).read_text(), re.MULTILINE)
