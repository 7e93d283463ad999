"""The audit lets the honest engine pass, and catches every wrong engine that the privacy contract lists."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hushmeter.carried import CarriedWindows
from hushmeter.cli.app import run
from hushmeter.cli.audit import command
from hushmeter.cli.audit.evidence import Claim, Evidence, epsilon_of_mu, rate_at_most, show
from hushmeter.cli.audit.period import audit_period
from hushmeter.cli.audit.sensitivity import audit_sensitivity
from hushmeter.cli.audit.statistics import audit_statistics
from hushmeter.consent.register import ConsentRegister
from hushmeter.ingest import admission
from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import FIXED_POINT, Mechanism
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Metric, Weighting
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.model.time import DAY_MS, Int64
from hushmeter.noise import opendp
from hushmeter.sealing import seal as sealing
from hushmeter.sealing import statistics, views
from hushmeter.sealing.rows import UnitRows, places_of

SLOTS = 600
"""Enough for faults that double what a canary moves."""


def caught(evidence: Iterable[Evidence]) -> set[str]:
    return {e.statistic for e in evidence if not e.holds}


def test_the_honest_engine_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with status 0, and its JSON lists every mechanism with what was claimed and shown."""
    monkeypatch.setattr(command, "QUICK_SLOTS", 120)
    out = tmp_path / "audit.json"
    assert run(["audit", "--json", str(out), "--quick"]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text())
    assert {Mechanism(r["mechanism"]) for r in rows if r["mechanism"] not in {"deterministic", "composition"}} == set(
        Mechanism
    )
    named = {
        "mechanism",
        "statistic",
        "claimed_epsilon",
        "shown_epsilon",
        "claimed_mu",
        "shown_mu",
        "shown_epsilon_by_counts",
    }
    for row in rows:
        assert named | {"trials"} <= row.keys()
        assert row["shown_epsilon"] <= row["claimed_epsilon"]
        assert row["shown_mu"] is None or row["shown_mu"] <= row["claimed_mu"]
    whole = next(r for r in rows if r["mechanism"] == "composition")
    assert whole["shown_mu"] > 0.5, "an audit that shows nothing of canaries at the claimed bound is blind"


def test_too_little_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Noise of 0.7 times the scale that the ledger states is shown to give away more than was claimed."""
    honest = opendp._noise

    class Quiet:
        def __init__(self, mechanism: Mechanism, scale: float) -> None:
            self.map = honest(mechanism, scale).map
            self._draw = honest(mechanism, 0.7 * scale)

        def __call__(self, values: object) -> object:
            return self._draw(values)

    monkeypatch.setattr(opendp, "_noise", Quiet)
    monkeypatch.setattr(command, "every", lambda _slots: audit_statistics("zcdp", 1_000, 3))
    assert run(["audit", "--json", str(tmp_path / "audit.json")]) == 1
    rows = json.loads((tmp_path / "audit.json").read_text())
    over = {r["statistic"] for r in rows if r["shown_mu"] is not None and r["shown_mu"] > r["claimed_mu"]}
    assert {"units", "events"} & over, f"only {over} was caught"


def test_rounding_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of a weight that are rounded to nearest add up to more than the weight."""

    def nearest(metric: Metric, bounds: object, totals: np.ndarray) -> np.ndarray:
        counts = statistics._counts(metric, totals)
        events = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        most = bounds.max_events if metric.weighting is Weighting.EVENT else 1  # type: ignore[attr-defined]
        whole = np.minimum(events, most) if metric.weighting is Weighting.EVENT else 1
        rounded: np.ndarray = np.rint(FIXED_POINT * counts * whole / events).astype(np.int64)
        return rounded

    monkeypatch.setitem(statistics._ROWS, statistics.MeasurementName.WEIGHTS, nearest)
    assert "check:sensitivity chosen weights by nothing" in caught(audit_sensitivity())


def test_one_partition_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that keeps one partition more than it may is caught, public or private."""
    honest = views.kept
    monkeypatch.setattr(views, "kept", lambda u, p, grid, bases, l0: honest(u, p, grid, bases, l0 + 1))
    found = caught(audit_sensitivity())
    assert {"check:sensitivity counted units by part", "check:sensitivity named units by name"} <= found


def test_one_event_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap of events that is off by one is caught."""
    honest = statistics._ROWS[statistics.MeasurementName.EVENTS]

    def loose(metric: Metric, bounds: Any, totals: np.ndarray) -> np.ndarray:
        return np.minimum(statistics._events(metric, totals), bounds.max_events + 1)

    monkeypatch.setitem(statistics._ROWS, statistics.MeasurementName.EVENTS, loose)
    assert "check:sensitivity felt events by nothing" in caught(audit_sensitivity())
    assert honest is not loose


def test_duplicates_by_report_id_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine in which one unit's copies push out other units' reports is caught."""

    def by_id(rows: ReportBatch, chosen: Int64, *_: object) -> UnitRows:
        units, ids = rows.pseudonyms[chosen], rows.report_ids[chosen]
        order = np.lexsort((units[:, 1], units[:, 0], ids[:, 1], ids[:, 0]))[::-1]
        first = np.ones(len(order), np.bool_)
        first[1:] = (ids[order][1:] != ids[order][:-1]).any(axis=1)
        left = order[first]
        left = left[np.lexsort((units[left, 1], units[left, 0]))]
        pseudonyms, numbers = np.unique(units[left], axis=0, return_inverse=True)
        return UnitRows(chosen[left], numbers.reshape(-1), pseudonyms)

    monkeypatch.setattr(sealing, "deduplicated", by_id)
    assert "check:sensitivity counted sum by nothing" in caught(audit_sensitivity())


def test_a_pseudonym_by_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that reports a window again after the period's border counts twice if its pseudonym is that of the arrival."""
    honest, honest_table, doors = admission.admit, ConsentRegister.table, []

    def both_periods(self: ConsentRegister, start_ms: int, pseudonym: Any) -> ConsentTable:
        """Consent under the pseudonyms of either period, or sealing would take the second one's for a stranger."""
        door = doors[0]
        mine = honest_table(self, start_ms, pseudonym)
        next_ = honest_table(self, start_ms + DAY_MS, lambda s: door.pseudonyms(start_ms + DAY_MS, s))
        units = np.concatenate((mine.pseudonyms, next_.pseudonyms))
        order = np.lexsort((units[:, 1], units[:, 0]))
        since = np.concatenate((mine.given_since_ms, next_.given_since_ms))
        return ConsentTable(mine.purposes, units[order], since[order])

    def by_arrival(raw: Any, door: Any, now_ms: int) -> Any:
        period = door.columns.catalog.plan.privacy.period
        arrived = int(period.starts(np.array([now_ms], np.int64))[0])
        mistaken = admission.Door(
            door.columns, door.first_starts, door.subjects, door.given_since, lambda _start, s: door.pseudonyms(arrived, s)
        )
        doors[:] = [door]
        return honest(raw, mistaken, now_ms)

    monkeypatch.setattr(ConsentRegister, "table", both_periods)
    monkeypatch.setattr("hushmeter.ingest.several.admit", by_arrival)
    assert "units" in caught(audit_statistics("zcdp", SLOTS, 7))


def test_one_window_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded participation that is off by one is caught."""
    honest = sealing.admitted_units
    monkeypatch.setattr(sealing, "admitted_units", lambda units, kept, index, most: honest(units, kept, index, most + 1))
    assert "check:max_windows" in caught(audit_sensitivity())


def test_a_cap_that_a_withdrawal_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that withdraws and agrees again may not begin its windows anew."""
    honest = CarriedWindows.before

    def forgetful(self: CarriedWindows) -> Any:
        carried = honest(self)
        _, decisions = self._store.decisions_after(0)
        gone = pairs_of([pseudonym_of(self._key(), d.subject) for d in decisions if not d.given])
        gone = np.unique(gone, axis=0)
        for metric, p in carried.items():
            stay = places_of(p.earlier.pseudonyms, gone) < 0
            kept = KeptWindows(p.earlier.pseudonyms[stay], p.earlier.windows[stay])
            carried[metric] = sealing.Participation(kept, p.index)
        return carried

    monkeypatch.setattr(CarriedWindows, "before", forgetful)
    assert "units of a unit in four windows that may be in one" in caught(audit_period(SLOTS, 11))


def test_a_shared_limit_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that keeps so many tokens a window, and drops others', lets one unit push out the rest."""
    honest = views._add_open

    def limited(sums: Any, metric: Any, view: Any, resolution: Any, points: Any) -> None:
        tokens = points.tokens
        last = set(sorted(set(tokens.numbers.tolist()), key=lambda t: tokens.dictionary[t - 1])[-5:])
        left = np.array([t in last for t in tokens.numbers.tolist()], np.bool_)
        columns = (points.units, points.partitions, points.components, points.values)
        fewer = (None if c is None else c[left] for c in columns)
        named = replace(tokens, numbers=tokens.numbers[left])
        honest(sums, metric, view, resolution, views.Points(*fewer, points.bases, named))

    monkeypatch.setattr(views, "_add_open", limited)
    assert "check:sensitivity named units by name" in caught(audit_sensitivity())


def test_bounds_of_rates_are_those_of_clopper_and_pearson() -> None:
    """The upper bound agrees with the quantile of the beta distribution."""
    from scipy.stats import beta

    for successes, trials, alpha in ((0, 300, 1e-9), (7, 300, 1e-6), (299, 300, 1e-3), (1_000, 2_000, 1e-9)):
        assert rate_at_most(successes, trials, alpha) == pytest.approx(
            beta.ppf(1 - alpha, successes + 1, trials - successes)
        )


def test_an_audit_of_gaussian_scores_shows_no_more_than_there_is() -> None:
    """Scores with a known mu show less than that, and not much less with many trials; epsilon follows from mu."""
    rng = np.random.default_rng(1)
    present = rng.random(20_000) < 0.5
    scores = present + rng.normal(0, 1 / 2.5, len(present))
    shown = show(Claim("discrete_gaussian", "test", 14.0, 1e-4, 2.5), scores, present, 40)
    assert shown.holds
    assert shown.shown_mu is not None
    assert 2.2 < shown.shown_mu < 2.5
    assert shown.shown_epsilon == pytest.approx(epsilon_of_mu(shown.shown_mu, 1e-4))
    loud = show(Claim("discrete_gaussian", "test", 14.0, 1e-4, 2.0), scores, present, 40)
    assert not loud.holds
