"""OpenDP used directly in the obvious way: one release at a time, the budget split evenly between releases.

The user bounds each unit as hushmeter does (OpenDP leaves that to its caller), releases units, events, sums and bins of
each day as vectors over public partitions, and takes means and quantiles from those. Epsilon and delta of each release are
the whole's divided by the number of releases (basic composition). Laplace or Gaussian noise, whichever is smaller. `zcdp`
divides rho instead, as a user would who has read about composition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import opendp.prelude as dp

from benchmarks.engines.common import QUANTILES, Answers, Float, Task
from benchmarks.workloads import Events
from hushmeter.model.measurement import Mechanism
from hushmeter.noise.opendp import OpenDPMechanisms

dp.enable_features("contrib")

_Select = Callable[[dict[str, int]], dict[str, int]]
_NEEDS = {
    "units": ("units",),
    "sum": ("sum",),
    "mean": ("sum", "events"),
    "histogram": ("histogram",),
    "quantiles": ("histogram",),
}


def opendp_runs(task: Task, *, zcdp: bool = False) -> Iterator[Answers]:
    """Endless runs of one task."""
    names = sorted({n for s in task.statistics for n in _NEEDS[s]})
    exact = [_bounded(task.events.on(day)) for day in range(task.days)]
    noises = {name: _noise(task, name, len(names) * task.days, zcdp=zcdp) for name in names}
    while True:
        days = [{name: noises[name](vectors[name]) for name in names} for vectors in exact]
        yield {s: np.stack([_told(task.events, s, day) for day in days]) for s in task.statistics}


def _bounded(e: Events) -> dict[str, Float]:
    """Exact vectors after bounding: l0 random partitions a unit, max_events random events in each."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(e.units))
    units, partitions, values = e.units[order], e.partitions[order], e.values[order]
    pairs, place = np.unique(units * e.partition_count + partitions, return_inverse=True)
    kept_pairs = _first_of(pairs // e.partition_count, e.l0, rng)
    inside = kept_pairs[place] & _first_of_each(place, e.max_events)
    bins = len(e.edges) + 1
    found = {"units": np.zeros((e.partition_count, 1)), "events": np.zeros((e.partition_count, 1))}
    found |= {"sum": np.zeros((e.partition_count, 1)), "histogram": np.zeros((e.partition_count, bins))}
    np.add.at(found["units"][:, 0], pairs[kept_pairs] % e.partition_count, 1)
    np.add.at(found["events"][:, 0], partitions[inside], 1)
    np.add.at(found["sum"][:, 0], partitions[inside], values[inside])
    np.add.at(found["histogram"], (partitions[inside], np.searchsorted(e.edges, values[inside], side="left")), 1)
    return found


def _first_of(units: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    shuffled = rng.permutation(len(units))
    kept = np.zeros(len(units), np.bool_)
    kept[shuffled] = _first_of_each(units[shuffled], most)
    return kept


def _first_of_each(groups: np.ndarray, most: int) -> np.ndarray:
    """bool[n]: whether each row is among the first `most` of its group."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
    rank = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    kept = np.zeros(len(groups), np.bool_)
    kept[order] = rank < most
    return kept


def _noise(task: Task, name: str, releases: int, *, zcdp: bool) -> Callable[[Float], Float]:
    """Noise for one vector of one day."""
    e = task.events
    bound = {"units": 1, "events": e.max_events, "histogram": e.max_events, "sum": e.max_events * max(abs(e.low), e.high)}
    l1, l2 = e.l0 * bound[name], math.sqrt(e.l0) * bound[name]
    mechanisms = OpenDPMechanisms()
    if zcdp:
        rho = float(mechanisms.zcdp_budget(task.epsilon, task.delta)) / releases
        sigma = l2 / math.sqrt(2 * rho)
        laplace = math.inf
    else:
        rho = float(Fraction(mechanisms.zcdp_budget(task.epsilon / releases, task.delta / releases)))
        sigma = l2 / math.sqrt(2 * rho)
        laplace = l1 * releases / task.epsilon
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if math.sqrt(2) * laplace < sigma:
        draw = dp.m.make_laplace(domain, dp.l1_distance(T="f64"), laplace)
    else:
        draw = dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), sigma)

    def noisy(vector: Float) -> Float:
        drawn: Float = np.array(draw(vector.astype(np.int64).ravel()), np.float64).reshape(vector.shape)
        return drawn

    return noisy


def _told(e: Events, statistic: str, vectors: dict[str, Float]) -> Float:
    if statistic == "mean":
        events = np.maximum(vectors["events"], 1)
        return np.clip(vectors["sum"] / events, e.low, e.high)
    if statistic != "quantiles":
        return vectors[statistic]
    return quantiles_of(e, vectors["histogram"])


def quantiles_of(e: Events, bins: Float) -> Float:
    """Quantiles as one reads them off a noisy histogram: negative bins are zero, values spread evenly in a bin."""
    cumulative = np.concatenate([np.zeros((len(bins), 1)), np.cumsum(np.maximum(bins, 0), axis=1)], axis=1)
    found = np.full((len(bins), len(QUANTILES)), (e.low + e.high) / 2)
    for row, curve in enumerate(cumulative):
        if curve[-1] > 0:
            found[row] = [np.interp(q * curve[-1], curve, e.borders) for q in QUANTILES]
    return found


def opendp_private_runs(task: Task) -> Iterator[Answers]:
    """Endless runs of a task for units of private partitions: each day's counts through the threshold mechanism.

    Epsilon and delta of each day are the whole's divided by the number of days; the threshold is the smallest that OpenDP's
    map allows, Laplace or Gaussian noise whichever leads to the smaller one.
    """
    e, epsilon, delta = task.events, task.epsilon / task.days, task.delta / task.days
    mechanisms = OpenDPMechanisms()
    # Half of delta converts rho, the other half is for the threshold; Laplace noise needs it for the threshold only.
    rho = mechanisms.zcdp_budget(epsilon, delta / 2)
    gaussian = _threshold_run(Mechanism.GAUSSIAN_THRESHOLD, math.sqrt(e.l0 / (2 * float(rho))), e.l0, delta / 2)
    laplace = _threshold_run(Mechanism.LAPLACE_THRESHOLD, e.l0 / epsilon, e.l0, delta)
    _, draw = min((gaussian, laplace), key=lambda run: run[0])
    exact = [_bounded(e.on(day))["units"][:, 0].astype(int).tolist() for day in range(task.days)]
    while True:
        units = np.full((task.days, e.partition_count, 1), np.nan)
        for day, counts in enumerate(exact):
            for name, noisy in draw({str(i): count for i, count in enumerate(counts) if count}).items():
                units[day, int(name), 0] = noisy
        yield {"units": units}


def _threshold_run(
    mechanism: Mechanism, scale: float, l0: int, delta: float
) -> tuple[int, Callable[[object], dict[str, int]]]:
    threshold = OpenDPMechanisms().threshold(mechanism, scale=scale, l0=l0, delta=Fraction(delta))
    domain = dp.map_domain(dp.atom_domain(T=str), dp.atom_domain(T="i64"))
    distance = dp.absolute_distance(T="f64")
    if mechanism.laplace:
        return threshold, dp.m.make_laplace_threshold(domain, dp.l01inf_distance(distance), scale, threshold)
    return threshold, dp.m.make_gaussian_threshold(domain, dp.l02inf_distance(distance), scale, threshold)
