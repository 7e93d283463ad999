"""The examples in the docstrings of the two clients run as they stand there, but for the port."""

from __future__ import annotations

import datetime as dt
import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest

import hushmeter.analyst
import hushmeter.sdk
from hushmeter.clock import ReplayClock
from hushmeter.model.time import HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.template import plan_template
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.opening import open_context
from tests.service.running_service import FOUNDED_MS

FOUNDED_ON = dt.date(2026, 3, 2)
SHOWN_TARGET = "127.0.0.1:50551"
RATIO = """
  stalling:
    description: Milliseconds of stalled audio for each second of a call.
    owner: media-quality@example.com
    expires: 2026-08-29
    category: performance
    purposes: [model_tuning]
    kind: ratio
    unit: ms/s
    at: [1d]
    per_unit: {range: [0, 1000], max_denominator: 3600}
    statistics: [ratio]
"""
PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (hushmeter.sdk, hushmeter.analyst)
    for name in package.__all__
}


def examples_of(name: str) -> list[doctest.DocTest]:
    """The examples of a class and its methods, or of a function; none of a docstring without any."""
    return [test for test in doctest.DocTestFinder().find(PUBLIC[name], name) if test.examples]


EXAMPLES = {test.name: test for name in PUBLIC for test in examples_of(name)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RehearsedService]:
    """A service of the plan that `plan init` writes, with real noise, ten minutes after its first hour."""
    clock = ReplayClock(FOUNDED_MS)
    config = Config(state_dir=tmp_path_factory.mktemp("examples") / "state")
    context = open_context(config, clock, OpenDPMechanisms(), plan_template(FOUNDED_ON) + RATIO)
    with RehearsedService(context, clock) as served:
        served.decide(["account-17"], {"model_tuning": True})
        served.advance(FOUNDED_MS + HOUR_MS + 10 * MINUTE_MS)
        yield served


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, service: RehearsedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example prints what its docstring shows; `...` there leaves the rest of a text out."""
    monkeypatch.chdir(tmp_path)
    Path("ml-team.credential").write_text("hm_of_the_team\n", encoding="utf-8")
    test, printed = EXAMPLES[name], list[str]()
    test.globs.update(client=service.client, analyst=service.analyst)
    for example in test.examples:
        example.source = example.source.replace(SHOWN_TARGET, service.target)
    ran = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert ran.failed == 0, "".join(printed)
    assert ran.attempted == len(test.examples)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_has_an_example(name: str) -> None:
    """Whatever the packages export is shown in use, in its own docstring or in that of a method."""
    assert examples_of(name)
