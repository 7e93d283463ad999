"""The audit lets what is honest pass, and catches engines that are wrong in more than one place of the code.

Faults of one place are in tests/faults.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from hushmeter.consent.register import ConsentRegister
from hushmeter.errors import InvariantError
from hushmeter.ingest import admission
from hushmeter.ingest.identity import pseudonym_of
from hushmeter.model.arrays import Int64
from hushmeter.model.consent import ConsentTable
from hushmeter.model.key_names import period_key
from hushmeter.model.measurement import Mechanism
from hushmeter.model.participation import KeptWindows
from hushmeter.model.plan import Plan
from hushmeter.model.report import ReportBatch, pairs_of
from hushmeter.model.time import DAY_MS, Window
from hushmeter.pipeline import participation
from hushmeter.pipeline.participation import CarriedWindows
from hushmeter.ports import KeyRing, WindowStore
from hushmeter.rehearsal.audit import doors
from hushmeter.rehearsal.audit.evidence import (
    Evidence,
    PrivacyClaim,
    epsilon_of_mu,
    laplace_curve,
    lattice_factor,
    rate_at_most,
    shown_by,
)
from hushmeter.rehearsal.audit.neighbours import NEIGHBOURS, Course
from hushmeter.rehearsal.audit.noise import Scale
from hushmeter.rehearsal.audit.period import audit_period
from hushmeter.rehearsal.audit.plans import AUDIT_PLANS
from hushmeter.rehearsal.audit.replay import audit_replay
from hushmeter.rehearsal.audit.run import SLOTS as AUDIT_SLOTS
from hushmeter.rehearsal.audit.sensitivity import audit_sensitivity
from hushmeter.rehearsal.audit.statistics import audit_statistics
from hushmeter.sealing import seal as sealing
from hushmeter.sealing import views
from hushmeter.sealing.rows import UnitRows, places_of

SLOTS = 600
"""Enough for faults that double what a canary moves."""


def caught(evidence: Iterable[Evidence]) -> set[str]:
    return {e.statistic for e in evidence if not e.holds}


def test_every_course_has_a_neighbour_of_its_own() -> None:
    """Numbers are a row from 1, as docs/privacy/audit.md lists them, and no course is without a neighbour."""
    assert [n.number for n in NEIGHBOURS] == list(range(1, len(NEIGHBOURS) + 1))
    assert {n.course for n in NEIGHBOURS} == set(Course)


def test_a_replay_sees_nothing_of_a_unit_in_any_course() -> None:
    """Nothing readable tells of a unit in time, nor of one that tries a limit, a restore or a kill; copies count once."""
    found = {e.name: e for e in audit_replay(AUDIT_PLANS[1], {1, 8, 15, 17, 20, 21, 22})}
    courses = [f"replay: {course.value}" for course in Course]
    for name in ("doors", "who may call", "who may read", "replay", "sensitivity", "absent 8", "once 15", *courses):
        mine = [e for n, e in found.items() if n.startswith(name)]
        assert mine
        assert all(e.holds for e in mine), [e.note for e in mine]


def test_a_method_without_a_probe_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that somebody may call and nobody asks fails the audit."""
    methods = tuple(doors.PROBES)
    assert doors.unasked_methods(methods) == []
    monkeypatch.delitem(doors.PROBES, doors.CONSENT + "GetUnit")
    assert doors.unasked_methods(methods) == [doors.CONSENT + "GetUnit"]


@pytest.mark.parametrize("mechanism", [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE])
@pytest.mark.parametrize("scale", [0.7, 3.0, 250.0])
def test_the_size_of_noise_is_judged_as_its_law_says(mechanism: Mechanism, scale: float) -> None:
    """Noise of the stated scale passes, 0.9 and 1.1 of it do not, and the stated power says so."""
    law, rng = Scale(mechanism, scale), np.random.default_rng(5)
    honest = np.arange(-40 * int(scale + 1), 40 * int(scale + 1) + 1)
    weights = np.exp(-np.abs(honest) / scale if mechanism.laplace else -((honest / scale) ** 2) / 2)
    noise = rng.choice(honest, 20_000, p=weights / weights.sum())
    assert abs(law.z_of(noise)) < 5
    assert abs(Scale(mechanism, scale / 0.9).z_of(noise)) > 6
    assert abs(Scale(mechanism, scale / 1.1).z_of(noise)) > 6
    assert law.power(6_000, 0.9, 1e-8) > 0.9
    assert law.power(100_000, 0.97, 1e-8) > 0.9
    assert (noise == 0).mean() == pytest.approx(law.zero_share, abs=0.02)


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
    monkeypatch.setattr("hushmeter.ingest.by_version.admit", by_arrival)
    assert {"sum of a counter", "mean, by units", "histogram of a choice"} <= caught(audit_statistics("zcdp", SLOTS, 7))


def test_a_cap_that_a_withdrawal_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that withdraws and agrees again may not begin its windows anew."""
    honest = participation.carried_into

    def forgetful(plan: Plan, window: Window, store: WindowStore, keys: KeyRing) -> CarriedWindows:
        carried = honest(plan, window, store, keys)
        key = keys.get_or_create(period_key(carried.period_start_ms))
        _, decisions = store.decisions_after(0)
        gone = pairs_of([pseudonym_of(key, d.subject) for d in decisions if not d.given])
        gone = np.unique(gone, axis=0)
        forgotten = {}
        for metric, p in carried.by_metric.items():
            stay = places_of(p.earlier.pseudonyms, gone) < 0
            kept = KeptWindows(p.earlier.pseudonyms[stay], p.earlier.windows[stay])
            forgotten[metric] = sealing.Participation(kept, p.index)
        return replace(carried, by_metric=forgotten)

    monkeypatch.setattr(participation, "carried_into", forgetful)
    assert "sums of a unit in four windows that may be in one" in caught(audit_period(SLOTS, 11))


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
    shown = shown_by(PrivacyClaim("discrete_gaussian", "test", 14.0, 1e-4, 2.5), scores, present, 40)
    assert shown.holds
    assert shown.shown_mu is not None
    assert 2.2 < shown.shown_mu < 2.5
    assert shown.shown_epsilon == pytest.approx(epsilon_of_mu(shown.shown_mu, 1e-4))
    loud = shown_by(PrivacyClaim("discrete_gaussian", "test", 14.0, 1e-4, 2.0), scores, present, 40)
    assert not loud.holds


def tails(weights: np.ndarray) -> np.ndarray:
    """P(Z >= t) for t from 0, float64[n], of noise with such weights at 0, 1, 2 and so on, and at their negatives."""
    return np.cumsum(weights[::-1])[::-1] / (2 * weights.sum() - weights[0])


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.4448, 0.7, 1.0, 2.5, 17.0, 60.0])
@pytest.mark.parametrize("moved", [1, 2, 7])
def test_no_threshold_tells_the_discrete_gaussian_better_than_its_factor_says(scale: float, moved: int) -> None:
    """Every threshold of the exact law keeps to m-GDP of the factor; where a step is moved, the middle one reaches it."""
    normal = NormalDist()
    above = tails(np.exp(-((np.arange(int(40 * scale) + 20) / scale) ** 2) / 2))

    def quantile(t: int) -> float:
        """Of P(Z >= t), which is 1 - P(Z >= 1 - t)."""
        return normal.inv_cdf(above[t]) if t > 0 else -normal.inv_cdf(above[1 - t])

    # Of a threshold t, which others pass with P(Z >= t), the unit passes with P(Z >= t - moved).
    seen = int(np.count_nonzero(above > 1e-290))
    told = [quantile(t - moved) - quantile(t) for t in range(max(1, moved + 2 - seen), seen)]
    most = moved / scale * lattice_factor(scale)
    assert max(told, default=0.0) <= most * (1 + 1e-9)
    if moved == 1:
        assert max(told) == pytest.approx(most, rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.3, 2.0, 3.07])
@pytest.mark.parametrize("moved", [1, 2, 3, 50])
def test_the_laplace_curve_runs_through_every_threshold_of_the_exact_law(epsilon: float, moved: int) -> None:
    """Rates of the discrete Laplace lie on the curve; nothing that tells its values, mixed or not, lies below it."""
    above = tails(np.exp(-epsilon / moved * np.arange(int(50 * moved / epsilon))))
    points = [
        (above[t], 1 - above[t - moved] if t > moved else above[moved - t + 1])
        for t in range(1, 9 * moved + 1)
        if above[t] > 0
    ]
    for alarms, misses in points:
        assert misses == pytest.approx(laplace_curve(alarms, epsilon, moved), rel=1e-6)
    for (a, b), (c, d) in itertools.pairwise(points):
        assert (b + d) / 2 >= laplace_curve((a + c) / 2, epsilon, moved) * (1 - 1e-9)


@pytest.mark.parametrize("mechanism", [Mechanism.DISCRETE_GAUSSIAN, Mechanism.DISCRETE_LAPLACE])
@pytest.mark.parametrize("scale", [0.35, 0.5, 1.0])
def test_noise_of_few_whole_numbers_is_judged_by_its_own_law(mechanism: Mechanism, scale: float) -> None:
    """An honest engine whose noise is small beside a step holds; one that has 0.75 of the noise is caught."""
    steps = np.arange(-40, 41)
    rng = np.random.default_rng(5)
    present = rng.random(20_000) < 0.5

    def holds(true_scale: float) -> bool:
        power = -np.abs(steps) / true_scale if mechanism.laplace else -((steps / true_scale) ** 2) / 2
        law = np.exp(power) / np.exp(power).sum()
        scores = present + rng.choice(steps, len(present), p=law).astype(np.float64)
        if mechanism.laplace:
            claim = PrivacyClaim("discrete_laplace", "test", 1 / scale, 0.0, None, sensitivity=1)
        else:
            claim = PrivacyClaim("discrete_gaussian", "test", math.inf, 1e-4, 1 / scale, lattice_factor(scale))
        return shown_by(claim, scores, present, 40).holds

    assert holds(scale)
    assert not holds(0.75 * scale)


def test_canaries_that_could_not_contradict_a_claim_are_refused() -> None:
    """A check that cannot fail is none: too few canaries for a claim are an error, whatever they score."""
    present = np.arange(200) % 2 == 0
    for claim in (
        PrivacyClaim("discrete_gaussian", "test", math.inf, 1e-4, 3.0),
        PrivacyClaim("discrete_laplace", "test", 3.0, 0.0, None, sensitivity=1),
    ):
        with pytest.raises(InvariantError, match="take more"):
            shown_by(claim, present.astype(np.float64), present, 40)


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_second_partition_shows_in_the_sums_of_both(partitions: int) -> None:
    """With as many canaries as the full audit hides, two partitions of one that is charged are seen, and one is not.

    The sums of both hold the noise of both, at the scale that the audit's plan has (mu 1.8, in steps of a tenth).
    """
    claim = PrivacyClaim("discrete_gaussian", "test", math.inf, 1e-4, 1.775, lattice_factor(10 / 1.775))
    steps = np.arange(-120, 121)
    law = np.exp(-((steps * 0.1775) ** 2) / 2)
    rng = np.random.default_rng(2)
    present = np.arange(AUDIT_SLOTS) % 2 == 0
    noise = rng.choice(steps, (2, AUDIT_SLOTS), p=law / law.sum()).sum(axis=0) / 10
    assert shown_by(claim, partitions * present + noise, present, 40).holds is (partitions == 1)
