"""Customer content has no way in: each attempt of `smuggling` ends where the docs say, and what it planted is nowhere."""

from __future__ import annotations

import datetime as dt
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.patience import PATIENCE_S, await_true
from hushmeter.service.deployment.meters import Meters
from tests.ports import free_port
from tests.processes import hushmeter_serve
from tests.service.calls import SET_CONSENT
from tests.service.running_service import FOUNDED_MS, Running, running
from tests.service.smuggler import CHORUS, CROWD, PLAN, UNIT, Smuggler, mark, needles
from tests.service.smuggling import ATTEMPTS
from tests.service.state_files import everything

DOCS = Path(__file__).parents[2] / "docs" / "privacy" / "smuggling.md"
NOW = FOUNDED_MS + 30 * MINUTE_MS
MARKS = {needle: name for name in ATTEMPTS for needle in needles(mark(name))}
ANY_MARK = re.compile(b"|".join(map(re.escape, sorted(MARKS, key=len, reverse=True))))


def found(data: bytes) -> set[str]:
    """The attempts whose marks stand in some bytes."""
    return {MARKS[hit] for hit in ANY_MARK.findall(data)}


@dataclass
class Planted:
    """What became of all attempts at a service whose windows were then released and whose period ended.

    Attributes:
        fates: where each attempt's sender was stopped.
        held: what the state directory held while the rows were in it.
        told: everything that an analyst can ask for, as text.
        left: what the state directory holds after the period.
    """

    fates: dict[str, str]
    held: dict[str, bytes]
    told: str
    left: dict[str, bytes]
    sums: list[tuple[float, float]]
    decisions: list[tuple[bool, bytes, str, str]]


def answers(service: Running) -> str:
    """All releases of all metrics, the catalog and the ledger."""
    views = {m.name: [list(v.dimensions) for v in m.views] for m in service.analyst.metrics().metrics}
    tables = [
        str(service.analyst.releases(metric, view, resolution="1h").to_pylist())
        for metric in views
        for view in views[metric]
    ]
    return "".join([*tables, str(service.analyst.metrics()), *(e.content for e in service.analyst.ledger())])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """All attempts at one service with real noise, and what is left of them."""
    state_dir = tmp_path_factory.mktemp("smuggled") / "state"
    plan = PLAN.replace("EXPIRES", "2026-12-31")
    with running(state_dir, plan=plan, mechanisms=OpenDPMechanisms()) as service:
        sender = Smuggler(service.target, service.clock.now_ms)
        service.clock.advance_to(NOW)
        fates = {name: attempt(sender, mark(name)) for name, (attempt, _) in ATTEMPTS.items()}
        assert sender.send(*(sender.report("lax", CHORUS, unit_id=unit) for unit in CROWD)) == "taken"
        held = everything(state_dir)
        sender.close()
        service.advance(FOUNDED_MS + 2 * HOUR_MS)
        rows = service.analyst.releases("bytes", resolution="1h", statistics=["sum"]).to_pylist()
        sums = [(row["value"], row["noise_std"]) for row in rows]
        told = answers(service)
        service.advance(FOUNDED_MS + DAY_MS + 2 * HOUR_MS)
        await_true(lambda: not service.context.log.storage_windows())
        _, decisions = service.context.store.decisions_after(0)
        left = everything(state_dir)
    kept = [(d.given, d.text_hash, d.locale, d.source) for d in decisions]
    return Planted(fates, held, told, left, sums, kept)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_where_each_attempt_ends(planted: Planted, name: str) -> None:
    """The sender is stopped where the table says; what is taken is in no file in clear, in no answer, and then nowhere."""
    assert planted.fates[name] == ATTEMPTS[name][1]
    for file, data in planted.held.items():
        assert name not in found(data), f"{file} holds it"
    assert name not in found(planted.told.encode())
    for file, data in planted.left.items():
        assert name not in found(data), f"{file} still holds it"


def test_the_search_finds_what_is_there(planted: Planted) -> None:
    """What many units share under a plan that takes any text is released, and is found; the search is no sham."""
    assert CHORUS in planted.told
    assert found(b"x" + needles(mark("text_as_report_id"))[0]) == {"text_as_report_id"}
    assert any(b"test@example.com" in data for data in planted.held.values())
    assert any(name.endswith("-wal") for name in planted.held)
    assert any(name.startswith("state/log/") for name in planted.held)
    assert not any(name.startswith("state/log/") for name in planted.left)


def test_every_needle_is_what_an_encoder_writes() -> None:
    """Marks are looked for as hexadecimal digits and as base64 too, wherever in a text they begin."""
    import base64

    for shift in range(3):
        text = base64.b64encode(b"y" * shift + mark("x").encode() + b"y" * 5)
        assert any(needle in text for needle in needles(mark("x")))


def test_values_leave_as_one_noisy_sum(planted: Planted) -> None:
    """Sixteen bytes sent as values leave as one clamped sum a window, behind noise as large as all that a unit can add."""
    ((value, noise_std),) = planted.sums
    assert noise_std > 255
    assert value != sum(mark("text_in_values").encode())


def test_decisions_hold_nothing_free(planted: Planted) -> None:
    """Of what was sent beside decisions the hash of a text in force alone is kept."""
    assert {locale + source for *_, locale, source in planted.decisions} == {""}
    assert {len(text_hash) for _, text_hash, *_ in planted.decisions} == {0, 32}
    assert {text_hash for given, text_hash, *_ in planted.decisions if not given} == {b""}


def test_what_the_plan_lists_is_kept(tmp_path: Path) -> None:
    """Languages and sources of the plan's lists are kept with a decision; a withdrawal keeps no hash of a text."""
    with running(tmp_path, plan=PLAN.replace("EXPIRES", "2026-12-31")) as service:
        sender = Smuggler(service.target, service.clock.now_ms)
        for locale, source in (("de", "settings"), ("pt-BR", "onboarding"), ("zh-Hant-TW", ""), ("", "settings"), ("", "")):
            for given in (True, False):
                request = sender.grant("u", given=given, locale=locale, source=source)
                assert sender.code(SET_CONSENT, request) == "taken"
                *_, newest = service.context.store.decisions_after(0)[1]
                assert (newest.locale, newest.source) == (locale, source)
                assert bool(newest.text_hash) == given
        sender.close()


def test_a_letter_in_many_decisions(tmp_path: Path) -> None:
    """A text cut into tokens, one a grant or withdrawal, is in no backup, before or after the unit's erasure."""
    with running(tmp_path / "state", plan=PLAN.replace("EXPIRES", "2026-12-31")) as service:
        sender = Smuggler(service.target, service.clock.now_ms)
        pieces = [mark(f"piece-{n}") for n in range(20)]
        for number, piece in enumerate(pieces):
            given = number % 2 == 0
            for fields in ({"source": piece}, {"locale": piece}, {"text_hash": piece.encode() * 2}):
                answer = sender.code(SET_CONSENT, sender.grant("u", given=given, **fields))
                assert answer == ("INVALID_ARGUMENT" if given else "taken")
        service.context.store.back_up(tmp_path / "before")
        sender.client.erase("u")
        service.context.store.back_up(tmp_path / "after")
        sender.close()
        kept = {d.source for d in service.context.store.decisions_after(0)[1]}
        assert kept == {"", "erasure"}
        for data in (*everything(tmp_path / "state").values(), *((tmp_path / n).read_bytes() for n in ("before", "after"))):
            assert not [piece for piece in pieces for needle in needles(piece) if needle in data]


def test_the_docs_say_it() -> None:
    """The table lists every attempt, with where its sender is stopped."""
    rows = re.findall(r"^\|[^|]+\| `(\w+)` \| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)
    assert dict(rows) == {name: where for name, (_, where) in ATTEMPTS.items()}
    assert len(rows) == len(ATTEMPTS)


def test_no_other_label_is_declared() -> None:
    """No meter has a label but those of the contract, whether or not anything was counted under it yet (R2)."""
    declared = [m for m in vars(Meters()).values() if isinstance(m, MetricWrapperBase)]
    assert len(declared) == len(list(Meters().registry.collect()))
    assert {label for meter in declared for label in meter._labelnames} == {"reason", "stage", "status"}


class TestServed:
    """The same attempts at `hushmeter serve`: its processes, its log at its most talkative, its page for Prometheus."""

    @pytest.fixture
    def served(self, tmp_path: Path) -> Iterator[tuple[str, str, Path]]:
        expires = (dt.datetime.now(dt.UTC) + dt.timedelta(days=90)).date()
        (tmp_path / "plan.yaml").write_text(PLAN.replace("EXPIRES", str(expires)))
        metrics = f"127.0.0.1:{free_port()}"
        options = f"--plan plan.yaml --metrics {metrics} --workers 2 --log-format json --state-dir state".split()
        with hushmeter_serve(tmp_path, *options, GRPC_VERBOSITY="DEBUG") as service:
            yield service.target, metrics, tmp_path

    def test_logs_and_metrics(self, served: tuple[str, str, Path]) -> None:
        """Neither log nor metrics nor any file holds a mark, a unit or an address; counts are by reason alone."""
        target, metrics, directory = served
        sender = Smuggler(target, lambda: time.time_ns() // 1_000_000)
        consented_ms = sender.now_ms()
        # Reports are of a whole second after consent.
        await_true(lambda: sender.now_ms() >= consented_ms + 2_000)
        for name, (attempt, expected) in ATTEMPTS.items():
            # Nobody has consented for so long yet.
            if name != "text_in_odd_milliseconds":
                assert attempt(sender, mark(name)) == expected, name
        sender.close()
        page = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=PATIENCE_S).read()
        log = (directory / "log").read_bytes()
        assert b'reason="BAD_TOKEN"' in page
        labels = set(re.findall(rb'(\w+)="', page))
        assert labels <= {b"reason", b"stage", b"status", b"le"}
        for data in (page, log, *everything(directory / "state").values()):
            assert found(data) == set()
        for word in (UNIT, CROWD[0], CHORUS, "user-agent"):
            assert word.encode() not in page + log
        assert target.encode() not in log
