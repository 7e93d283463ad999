"""`hushmeter audit`: runs every check, says what was tried and seen; exit status 1 where a promise does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from hushmeter.cli import printing
from hushmeter.cli.options import read_plan_file
from hushmeter.errors import ConfigError
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.plan import Plan
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.reading import parse_recorded
from hushmeter.rehearsal.audit.evidence import FAMILYWISE_ALPHA, Evidence
from hushmeter.rehearsal.audit.neighbours import QUICK
from hushmeter.rehearsal.audit.noise import audit_noise
from hushmeter.rehearsal.audit.period import audit_period
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.rehearsal.audit.prices import audit_prices
from hushmeter.rehearsal.audit.replay import audit_replay
from hushmeter.rehearsal.audit.sensitivity import audit_sensitivity
from hushmeter.rehearsal.audit.statistics import audit_statistics
from hushmeter.service.deployment.budget import budget_of
from hushmeter.service.deployment.logs import configure_logs

SLOTS, QUICK_SLOTS = 2_000, 400
_SEED = 20_260_302
_LOG_WIDTH = 140
_NOTE_WIDTH = 90


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the audit, which can be run by itself.

    Attributes:
        name: as `--only` takes it.
        rules: of the privacy contract that it tests.
        tried: what it does, for the report.
        seen: what it would have seen.
        run: on a plan's text, quick or not, all or some of its numbered neighbours.
        slow: whether only the full audit runs it unasked.
    """

    name: str
    rules: str
    tried: str
    seen: str
    run: Callable[[str, bool, frozenset[int]], Iterator[Evidence]]
    slow: bool = False


def _prices(text: str, _quick: bool, _numbers: frozenset[int]) -> Iterator[Evidence]:
    return audit_prices(*_priced(text))


def _noise(text: str, quick: bool, _numbers: frozenset[int]) -> Iterator[Evidence]:
    return audit_noise(*_priced(text), quick=quick)


def _canaries(_text: str, quick: bool, _numbers: frozenset[int]) -> Iterator[Evidence]:
    slots = QUICK_SLOTS if quick else SLOTS
    yield from audit_statistics("zcdp", slots, _SEED)
    yield from audit_statistics("pure", slots, _SEED + 1)
    yield from audit_period(slots, _SEED + 2)


PARTS: tuple[Part, ...] = (
    Part(
        "prices",
        "C1 C2 C5",
        "sensitivity, loss, threshold, delta and epsilon of everything that the plan charges were recomputed",
        "a bound, scale, threshold or conversion that costs more than is charged",
        _prices,
    ),
    Part(
        "noise",
        "C4 C5",
        "what one window of each resolution releases was drawn many times",
        "a vector without noise, noise drawn twice or shared, noise of 0.9 of its scale (0.97 in the full audit), "
        "and a selection that shows more or fewer than its law",
        _noise,
    ),
    Part(
        "sensitivity",
        "P1 P2 P4 P5 P6 P7",
        "an adversary that presses on every bound was sealed beside others, and left out",
        "a vector that one unit moves by one step more than is charged",
        lambda _text, _quick, _numbers: audit_sensitivity(),
    ),
    Part(
        "replay",
        "P1 P2 P8 P9 C6 C7 R1 R3 R4",
        "the service itself was run with and without the whole record of one unit, through a restart, a restore, kills and "
        "limits, with noise that cannot tell, and every byte compared that anybody but the operator can read at any of its "
        "doors; every role and purpose asked every door and every question",
        "an answer, refusal, status, receipt, entry, count or completeness that depends on a stranger's reports, decisions "
        "or erasures; "
        "another unit's copies that count otherwise; a number told for a purpose that nobody allowed; a hash to try "
        "guesses against",
        lambda text, _quick, numbers: audit_replay(text, numbers),
    ),
    Part(
        "canaries",
        "P1-P8 C2 C4",
        "canaries were hidden by fair coins in releases of plans with little noise, and looked for in the answers",
        "a release that gives away clearly more than its ledger says",
        _canaries,
        slow=True,
    ),
)


def run_audit(
    path: Path | None,
    *,
    quick: bool,
    plan: Path | None = None,
    only: Sequence[str] = (),
    stop_at_first: bool = False,
) -> int:
    """Audits the engine that is installed, on an operator's own plan or on those that it brings.

    Args:
        path: where the JSON list goes; None for nowhere.
        quick: fewer draws, and no canaries: less is shown, and what is shown is as certain.
        plan: the operator's plan; None for the audit's own.
        only: names of parts; all where there are none. `replay:8` is one neighbour, `replay:0` the reading of one run.
        stop_at_first: end at the first check that fails.

    Returns:
        0, or 1 where anything that was shown exceeds its claim or a check failed.
    """
    configure_logs("console", quiet=True)
    console = printing.console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    chosen = dict(map(_chosen, only))
    unknown = chosen.keys() - {p.name for p in PARTS}
    if unknown:
        raise ConfigError(f"no part of the audit is called {', '.join(sorted(unknown))}; there are {_names()}")
    texts = [read_plan_file(plan)] if plan else list(AUDIT_PLANS)
    parts = [p for p in PARTS if (p.name in chosen if only else not (p.slow and (quick or plan)))]
    found: list[tuple[Part, Evidence]] = []
    for part, evidence in _every(parts, texts, chosen, quick=quick):
        found.append((part, evidence))
        if not quick:
            console.print(f"{part.name}: {evidence.name}: {'holds' if evidence.holds else '[red]FAILS[/]'}")
        if not evidence.holds:
            console.print(f"[red]exceeded[/] {evidence.name}: {evidence.finding}", soft_wrap=True)
            if stop_at_first:
                break
    _write(path, found)
    return _report(console, parts, found)


def _chosen(name: str) -> tuple[str, frozenset[int]]:
    """A part by its name, and the numbers of those neighbours that were chosen after a colon."""
    part, _, numbers = name.partition(":")
    if not all(n.isdigit() for n in numbers.split(",") if n):
        raise ConfigError(f"{name!r} names no part of the audit; write replay, or replay:4,8 for two of its neighbours")
    return part, frozenset(int(n) for n in numbers.split(",") if n)


def _every(
    parts: Sequence[Part], texts: Sequence[str], chosen: Mapping[str, frozenset[int]], *, quick: bool
) -> Iterator[tuple[Part, Evidence]]:
    """Each part on each plan; those that bring a plan of their own once, and in a hurry less on the second plan."""
    own = {"sensitivity", "canaries"}
    for part in parts:
        for place, text in enumerate(texts[:1] if part.name in own or chosen.get(part.name) else texts):
            numbers = chosen.get(part.name) or (QUICK if quick and place else frozenset())
            for evidence in part.run(text, quick, numbers):
                yield part, evidence


def _priced(text: str) -> tuple[Plan, PriceList]:
    mechanisms = OpenDPMechanisms()
    plan = parse_recorded(text)
    return plan, PriceList.of(plan, budget_of(plan, mechanisms), mechanisms)


def _write(path: Path | None, found: Sequence[tuple[Part, Evidence]]) -> None:
    if path is None:
        return
    rows = [{"part": part.name, "rules": part.rules, **e.row()} for part, e in found]
    try:
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _report(console: Console, parts: Sequence[Part], found: Sequence[tuple[Part, Evidence]]) -> int:
    """What was tried and would have been seen, one line a check, and the verdict."""
    for heading, texts in (("Tried", [p.tried for p in parts]), ("Would have been seen", [p.seen for p in parts])):
        console.print(f"[bold]{heading}:[/] {'; '.join(texts)}.", soft_wrap=True)
    table = Table(box=box.SIMPLE)
    for column in ("rules", "check", "trials", "result"):
        table.add_column(column, overflow="fold")
    for part, e in found:
        result = e.finding[:_NOTE_WIDTH] or "holds"
        table.add_row(part.rules, e.name, str(e.trials), result, style=None if e.holds else "red")
    console.print(table)
    broken = sum(not e.holds for _, e in found)
    console.print(
        f"{len(found)} checks, statistical ones at a familywise level of {FAMILYWISE_ALPHA:g}: "
        + (f"[red]{broken} do not hold[/]" if broken else "[green]all hold[/]")
    )
    return 1 if broken else 0


def _names() -> str:
    return ", ".join(p.name for p in PARTS)
