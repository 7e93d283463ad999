"""The audited deployment: a plan, a fleet of canaries, and the real service between its two doors."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.clock import ReplayClock
from hushmeter.errors import ConfigError
from hushmeter.ledger.entries import spending_of
from hushmeter.model.arrays import Bool, Float64
from hushmeter.model.ledger import LedgerEntry
from hushmeter.model.measurement import Mechanism
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.rehearsal.audit.evidence import PrivacyClaim, lattice_factor
from hushmeter.rehearsal.service import RehearsedService
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context

AUDIT_START_MS = 1_772_409_600_000
"""Monday, 2 March 2026, midnight UTC."""
AUDIT_PURPOSE = "audit"
BACKGROUND = 6
"""Units in each slot that are always there."""


def slots_of(count: int) -> list[str]:
    """Names of the slots; each has one canary."""
    return [f"s{i}" for i in range(count)]


def flip(count: int, seed: int) -> Bool:
    """Which canaries are present, bool[count]: fair coins that depend on the seed alone."""
    drawn = hashlib.shake_256(str(seed).encode()).digest(count // 8 + 1)
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))
    return bits[:count].astype(np.bool_)


class Audited(RehearsedService):
    """A running service, and what an auditor reads of it.

    Args:
        context: the deployment.
        clock: the deployment's.
    """

    def __init__(self, context: Context, clock: ReplayClock) -> None:
        super().__init__(context, clock)
        self._claims: dict[tuple[str, tuple[str, ...], str, str], PrivacyClaim] = {}
        self._charges: dict[tuple[str, int], list[float]] = defaultdict(list)

    def agree(self, units: Sequence[str], *, given: bool = True) -> None:
        """Sends the units' consent to the audit's purpose, or its withdrawal."""
        self.decide(units, {AUDIT_PURPOSE: given})

    def values(
        self, metric: str, view: Sequence[str], slots: Sequence[str], *, resolution: str, start_ms: int = AUDIT_START_MS
    ) -> Mapping[tuple[str, ...], Float64]:
        """Every statistic of one window by (statistic, other dimensions..., component), float64[slots]; 0 where hidden."""
        end = self.context.plan.resolution(resolution).span.end_of(start_ms)
        table = self.analyst.releases(metric, view, resolution=resolution, start=end - 1, end=end)
        place = {slot: i for i, slot in enumerate(slots)}
        others = [name for name in view if name != "slot"]
        found: dict[tuple[str, ...], Float64] = {}
        columns = [table[name].to_pylist() for name in ("slot", "statistic", *others, "component", "value")]
        for slot, *key, value in zip(*columns, strict=True):
            found.setdefault(tuple(key), np.zeros(len(slots)))[place[slot]] = value
        return found

    def claim(self, metric: str, view: Sequence[str], measurement: str, resolution: str, statistic: str) -> PrivacyClaim:
        """The privacy loss that the ledger states for one measurement, read through the query service."""
        self._read_ledger()
        found = self._claims[metric, tuple(view), resolution, measurement]
        return replace(found, statistic=statistic)

    def composition(self, statistic: str) -> PrivacyClaim:
        """The privacy loss that the budget states for all Gaussians of the ledger together; all are of one period."""
        self._read_ledger()
        budget = self.analyst.metrics().budget
        mu = math.sqrt(2 * Fraction(budget.amount))
        # A unit is in at most as many windows of a series as its cap allows; the dearest ones count.
        squares = (sum(sorted(charged)[-cap:]) for (_, cap), charged in self._charges.items())
        return PrivacyClaim("composition", statistic, budget.epsilon, budget.delta, mu, math.sqrt(2 * sum(squares)) / mu)

    def _read_ledger(self) -> None:
        if self._claims:
            return
        budget = self.analyst.metrics().budget
        for e in self.analyst.ledger():
            entry = LedgerEntry(e.sequence, e.content, e.previous_hash, e.entry_hash)
            self._take(entry, budget.delta - float(Fraction(budget.selection_delta)))

    def _take(self, entry: LedgerEntry, conversion_delta: float) -> None:
        f = entry.fields
        view = f["view"]
        key = str(f["metric"]), tuple(view) if isinstance(view, list) else (), str(f["resolution"]), str(f["measurement"])
        amount, spent = Fraction(str(f["loss"])), float(Fraction(str(f["delta"])))
        sensitivity, scale = float(str(f["sensitivity"])), float(str(f["scale"]))
        if Mechanism(str(f["mechanism"])).laplace:
            self._claims[key] = PrivacyClaim(str(f["mechanism"]), "", float(amount), spent, None, sensitivity=sensitivity)
            return
        epsilon = self.context.mechanisms.epsilon_of(amount, conversion_delta)
        claim = PrivacyClaim(
            str(f["mechanism"]), "", epsilon, conversion_delta + spent, sensitivity / scale, lattice_factor(scale)
        )
        self._claims[key] = claim
        spending = spending_of(entry)
        self._charges[spending.series, spending.cap].append(float(amount) * claim.lattice**2)


@contextmanager
def audited(plan_text: str) -> Iterator[Audited]:
    """Serves a plan on a loopback port, from an empty state in a temporary directory, with a clock that the audit moves."""
    with tempfile.TemporaryDirectory(prefix="hushmeter-audit-") as directory:
        clock = ReplayClock(AUDIT_START_MS)
        config = Config(state_dir=Path(directory) / "state")
        context = open_context(config, clock, OpenDPMechanisms(), plan_text)
        with Audited(context, clock) as service:
            yield service


def finished(recorder_report: Report | None) -> Report:
    """The report of a recorder that must have recorded something.

    Raises:
        ConfigError: there is none.
    """
    if recorder_report is None:
        raise ConfigError("an audit's report holds nothing: the unit's consent is missing")
    return recorder_report


def resent(report: Report) -> Report:
    """The same content under another report id."""
    again = Report()
    again.CopyFrom(report)
    again.report_id = os.urandom(16)
    return again
