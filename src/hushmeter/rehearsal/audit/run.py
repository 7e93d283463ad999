"""The audit as a whole: its parts, which of them run, and on which plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hushmeter.errors import ConfigError
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.plan import Plan
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.reading import parse_recorded
from hushmeter.rehearsal.audit.evidence import Evidence
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


@dataclass(frozen=True, slots=True)
class Trial:
    """What a part of the audit is run on.

    Attributes:
        plan_text: the plan.
        quick: whether to take fewer draws.
        numbers: of the neighbours to replay; all where there are none.
    """

    plan_text: str
    quick: bool
    numbers: frozenset[int]

    def priced(self) -> tuple[Plan, PriceList]:
        """The plan, and what its windows cost."""
        mechanisms = OpenDPMechanisms()
        plan = parse_recorded(self.plan_text)
        return plan, PriceList.of(plan, budget_of(plan, mechanisms), mechanisms)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the audit, which can be run by itself.

    Attributes:
        name: as `--only` takes it.
        rules: of the privacy contract that it tests.
        tried: what it does, for the report.
        seen: faults that it would have found, for the report.
        run: the part itself.
        slow: whether it runs in the full audit alone, unless `--only` names it.
        brings_plan: whether it has a plan of its own, and so runs once, whatever the plans.
    """

    name: str
    rules: str
    tried: str
    seen: str
    run: Callable[[Trial], Iterator[Evidence]]
    slow: bool = False
    brings_plan: bool = False


def _canaries(trial: Trial) -> Iterator[Evidence]:
    slots = QUICK_SLOTS if trial.quick else SLOTS
    yield from audit_statistics("zcdp", slots, _SEED)
    yield from audit_statistics("pure", slots, _SEED + 1)
    yield from audit_period(slots, _SEED + 2)


PARTS: tuple[Part, ...] = (
    Part(
        "prices",
        "C1 C2 C5",
        "sensitivity, loss, threshold, delta and epsilon of everything that the plan charges were recomputed",
        "a bound, scale, threshold or conversion that costs more than is charged",
        lambda trial: audit_prices(*trial.priced()),
    ),
    Part(
        "noise",
        "C4 C5",
        "what one window of each resolution releases was drawn many times",
        "a vector without noise, noise drawn twice or shared, noise of 0.9 of its scale (0.97 in the full audit), "
        "and a selection that shows more or fewer than its law",
        lambda trial: audit_noise(*trial.priced(), quick=trial.quick),
    ),
    Part(
        "sensitivity",
        "P1 P2 P4 P5 P6 P7",
        "an adversary that presses on every bound was sealed beside others, and left out",
        "a vector that one unit moves by one step more than is charged",
        lambda _trial: audit_sensitivity(),
        brings_plan=True,
    ),
    Part(
        "replay",
        "P1 P2 P8 P9 C6 C7 R1 R3 R4",
        "the service itself was run with and without the whole record of one unit, through a restart, a restore, kills and "
        "limits, with noise that does not depend on data, and every byte compared that others than the operator can "
        "read at its doors; every role and purpose asked every door and every question",
        "an answer, refusal, status, receipt, entry, count or completeness that depends on a stranger's reports, decisions "
        "or erasures; "
        "another unit's copies that count otherwise; a number told for a purpose that nobody allowed; a hash to try "
        "guesses against",
        lambda trial: audit_replay(trial.plan_text, trial.numbers),
    ),
    Part(
        "canaries",
        "P1-P8 C2 C4",
        "canaries were hidden by fair coins in releases of plans with little noise, and looked for in the answers",
        "a release that gives away clearly more than its ledger says",
        _canaries,
        slow=True,
        brings_plan=True,
    ),
)


class AuditRun:
    """Which parts of the audit run, and on which plans.

    Args:
        only: names of parts; all where there are none. `replay:8` is one neighbour, `replay:0` the reading of one run.
        plan_text: the operator's plan; None for the audit's own.
        quick: fewer draws, and no canaries: fewer faults are found, at the same level of certainty.

    Attributes:
        parts: those that run.

    Raises:
        ConfigError: `only` names what is no part.
    """

    def __init__(self, only: Sequence[str] = (), plan_text: str | None = None, *, quick: bool = False) -> None:
        self._quick = quick
        self._texts = list(AUDIT_PLANS) if plan_text is None else [plan_text]
        self._chosen = dict(map(_chosen, only))
        if unknown := self._chosen.keys() - {p.name for p in PARTS}:
            names = ", ".join(p.name for p in PARTS)
            raise ConfigError(f"no part of the audit is called {', '.join(sorted(unknown))}; there are {names}")
        unasked = [p for p in PARTS if not (p.slow and (quick or plan_text is not None))]
        self.parts = [p for p in PARTS if p.name in self._chosen] if only else unasked

    def evidence(self) -> Iterator[tuple[Part, Evidence]]:
        """Runs each part on each plan, and yields its checks.

        A part that brings its own plan runs once. The quick audit replays fewer neighbours on the second plan.
        """
        configure_logs("console", quiet=True)
        for part in self.parts:
            chosen = self._chosen.get(part.name, frozenset())
            for place, text in enumerate(self._texts[:1] if part.brings_plan or chosen else self._texts):
                numbers = chosen or (QUICK if self._quick and place else frozenset())
                for evidence in part.run(Trial(text, self._quick, numbers)):
                    yield part, evidence


def _chosen(name: str) -> tuple[str, frozenset[int]]:
    """A part by its name, and the numbers of those neighbours that were chosen after a colon."""
    part, _, numbers = name.partition(":")
    if not all(n.isdigit() for n in numbers.split(",") if n):
        raise ConfigError(f"{name!r} names no part of the audit; write replay, or replay:4,8 for two of its neighbours")
    return part, frozenset(int(n) for n in numbers.split(",") if n)
