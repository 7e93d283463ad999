"""The noise of every scale that a plan uses: that it is there, that it is drawn anew, and that it is as large as is stated.

The real mechanisms measure what one window of each resolution releases, many times. The noise is compared with what its
law says of zeros, of repeats, of two vectors beside each other, and of its size.

References:
    C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy (2020), Definition 1.
    S. Inusah, T. Kozubowski: A Discrete Analogue of the Laplace Distribution (2006), equation 2.1.
    E. Wilson, M. Hilferty: The Distribution of Chi-Square (1931).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hushmeter.ledger.pricing import PriceList
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import Charge, MeasurementCharge
from hushmeter.model.measurement import Mechanism
from hushmeter.model.plan import Plan
from hushmeter.model.tally import Tally, VectorKey
from hushmeter.model.time import Window
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.rehearsal.audit.evidence import FAMILYWISE_ALPHA, Evidence, checked, rate_at_most
from hushmeter.release.measuring import measure

DRAWS, QUICK_DRAWS = 100_000, 6_000
"""Draws of each scale."""
SEEN, QUICK_SEEN = 0.97, 0.9
"""The part of a scale that so many draws tell from the whole scale."""
_PART = 512
_PARTS = 6
_CELLS_MAX = 400_000
_TIMES_LEAST, _TIMES_MOST = 40, 250
_ZEROS_AT_ONCE = 10_000
_SINGLE = 7
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Scale:
    """One law of noise."""

    mechanism: Mechanism
    scale: float

    @property
    def zero_share(self) -> float:
        """The probability that noise is 0."""
        if self.mechanism.laplace:
            p = math.exp(-1 / self.scale)
            return (1 - p) / (1 + p)
        return 1 / self._weights(0)

    @property
    def size(self) -> float:
        """The mean of what the test adds up: |x| of Laplace noise, x^2 of Gaussian noise."""
        if self.mechanism.laplace:
            p = math.exp(-1 / self.scale)
            return 2 * p / (1 - p**2)
        return self._weights(2) / self._weights(0)

    def _weights(self, power: int) -> float:
        """Sum of k^power exp(-k^2 / 2 sigma^2); of large scales the integral, which differs by less than 1e-18 of it."""
        if self.scale > 10:
            return math.sqrt(2 * math.pi) * self.scale ** (power + 1)
        reach = range(-int(12 * self.scale) - 12, int(12 * self.scale) + 13)
        return math.fsum(k**power * math.exp(-((k / self.scale) ** 2) / 2) for k in reach)

    @property
    def degrees(self) -> int:
        """Degrees of freedom that each cell adds: chi-square of x^2 has one, of 2 |x| two."""
        return 2 if self.mechanism.laplace else 1

    def z_of(self, noise: Int64) -> float:
        """How many standard deviations a sample's size is from what the law says (Wilson and Hilferty 1931)."""
        cells = noise.astype(np.float64).ravel()
        total = np.abs(cells).sum() if self.mechanism.laplace else np.square(cells).sum()
        return _cube_root(float(total) / self.size / len(cells), self.degrees * len(cells))

    def power(self, draws: int, ratio: float, alpha: float) -> float:
        """The probability that a test of level alpha rejects so many draws of `ratio` times this scale."""
        degrees = self.degrees * draws
        rejected = NormalDist().inv_cdf(alpha / 2)
        step = 2 / (9 * degrees)
        edge = (1 - step + rejected * math.sqrt(step)) ** 3
        shrunk = ratio if self.mechanism.laplace else ratio**2
        return NormalDist().cdf(_cube_root(edge / shrunk, degrees))


def audit_noise(plan: Plan, prices: PriceList, *, quick: bool) -> Iterator[Evidence]:
    """Every check of the noise of one plan.

    Args:
        plan: the operator's.
        prices: what its windows cost.
        quick: fewer draws.
    """
    mechanisms = OpenDPMechanisms()
    for resolution in plan.resolutions:
        charge = _charge(plan, prices, resolution.name)
        if charge.items:
            yield from _released(plan, charge, mechanisms)
    yield from _sizes(prices, mechanisms, quick=quick)
    yield from _selected(prices, mechanisms)


def _charge(plan: Plan, prices: PriceList, resolution: str) -> Charge:
    window = plan.resolution(resolution).span.window_of(min(m.expires_ms for m in plan.metrics) - 1)
    before = window.start_ms - (window.end_ms - window.start_ms)
    return prices.charge(Window(resolution, before, window.start_ms), ())


def _tally(charge: Charge) -> Tally:
    """Exact vectors to add noise to: large, and different in every cell."""
    vectors: dict[VectorKey, Int64] = {}
    keys = {}
    for number, item in enumerate(charge.items):
        m = item.measurement
        key = VectorKey(m.metric, m.view, m.name)
        if any(
            i.measurement.selects and (i.measurement.metric, i.measurement.view) == (m.metric, m.view) for i in charge.items
        ):
            # A single partition, with so many units that it is always selected.
            keys[m.metric, m.view] = ((0, "known"),)
            shape = (1, m.columns)
        else:
            shape = (m.partitions, m.columns)
        cells = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape)
        vectors[key] = cells + 10**9 * (number + 1)
    window = Window(charge.resolution, charge.window_start_ms, charge.window_end_ms)
    return Tally(window=window, vectors=vectors, keys=keys, kept={})


def _released(plan: Plan, charge: Charge, mechanisms: OpenDPMechanisms) -> Iterator[Evidence]:
    """Checks of the noise of each vector, from many releases of one window."""
    tally = _tally(charge)
    cells = sum(v.size for v in tally.vectors.values())
    times = max(_TIMES_LEAST, min(_TIMES_MOST, _CELLS_MAX // cells))
    noises: dict[VectorKey, list[Int64]] = {key: [] for key in tally.vectors}
    for _ in range(times):
        for release in measure(tally, charge, mechanisms, plan=plan, completeness=1.0):
            for name, vector in release.vectors.items():
                key = VectorKey(release.key.metric, release.key.view, name)
                noises[key].append(vector.values - tally.vectors[key])
    found = {_name(i): (i, np.stack(noises[_key(i)])) for i in charge.items}
    yield checked(f"noise {charge.resolution}: every vector has it", _unmoved(found), trials=times * cells)
    yield checked(f"noise {charge.resolution}: none is drawn twice", _repeated(found), trials=times * len(found))
    yield checked(f"noise {charge.resolution}: vectors are independent", _correlated(found), trials=len(found))
    yield checked(f"noise {charge.resolution}: of the scale that is charged", _missized(found), trials=times * cells)


Drawn = Mapping[str, tuple[MeasurementCharge, Int64]]
"""By vector: what is charged, and int64[times, cells, columns] of noise."""


def _unmoved(found: Drawn) -> str:
    """A vector with more cells without noise than the law allows, in words; empty where there is none."""
    for name, (item, noise) in found.items():
        cells = noise.ravel()[:_ZEROS_AT_ONCE]
        zeros, share = int((cells == 0).sum()), Scale(item.mechanism, item.scale).zero_share
        at_least = 1 - rate_at_most(len(cells) - zeros, len(cells), FAMILYWISE_ALPHA / len(found))
        if at_least > share:
            return f"{name}: {zeros} of {len(cells)} cells have no noise; at scale {item.scale:g} {share:.2g} of them may"
    return ""


def _repeated(found: Drawn) -> str:
    """A vector whose noise came twice, where that is too unlikely to be chance; empty where there is none."""
    for name, (item, noise) in found.items():
        rows = noise.reshape(len(noise), -1)
        likely = Scale(item.mechanism, item.scale).zero_share ** rows.shape[1] * len(rows) ** 2
        again = len(rows) - len(np.unique(rows, axis=0))
        if again and likely < FAMILYWISE_ALPHA / len(found):
            return f"{name}: the same noise was drawn {again + 1} times of {len(rows)}"
    return ""


def _correlated(found: Drawn) -> str:
    """Two vectors, or two parts of 512 cells of one, whose noise is correlated; empty where there are none."""
    rows, names = [], []
    for name, (item, noise) in found.items():
        flat = noise.reshape(len(noise), -1).astype(np.float64) / item.scale
        for start in range(0, flat.shape[1], _PART):
            rows.append(flat[:, start])
            names.append(f"{name}[{start}]")
            if len(rows) > 4_000:
                break
    table = np.stack(rows)
    table /= np.sqrt(np.maximum((table**2).mean(axis=1, keepdims=True), 1e-12))
    z = np.abs(table @ table.T) / math.sqrt(table.shape[1])
    np.fill_diagonal(z, 0)
    # Beyond what chance gives for so many pairs, and below the root of the draws, the largest value that there can be.
    limit = max(_SINGLE * 1.3, _z(FAMILYWISE_ALPHA / max(1, z.size)))
    limit = min(limit, 0.95 * math.sqrt(table.shape[1]))
    worst = int(z.argmax())
    i, j = divmod(worst, len(names))
    if z[i, j] > limit:
        return f"the noise of {names[i]} and of {names[j]} moves together: {z[i, j]:.1f} deviations"
    return ""


def _missized(found: Drawn) -> str:
    """A vector whose noise has not the size of its own charge, however few cells it has; empty where there is none."""
    limit = _z(FAMILYWISE_ALPHA / len(found))
    for name, (item, noise) in found.items():
        if item.mechanism.selects:
            continue  # Counts are shown where they are large, so their noise has no symmetric law; `_selected` tests it.
        z = Scale(item.mechanism, item.scale).z_of(noise)
        if abs(z) > limit:
            return f"{name}: {z:+.1f} deviations from noise of scale {item.scale:g}"
    return ""


def _sizes(prices: PriceList, mechanisms: OpenDPMechanisms, *, quick: bool) -> Iterator[Evidence]:
    """The size of noise at every scale that the plan uses, with its power; and 512 cells beside the next 512."""
    items = {Scale(i.mechanism, i.scale): i for items in prices.items.values() for i in items if not i.mechanism.selects}
    draws, seen = (QUICK_DRAWS, QUICK_SEEN) if quick else (DRAWS, SEEN)
    alpha, wrong, least, together = FAMILYWISE_ALPHA / max(1, len(items)), [], 1.0, ""
    for scale, item in items.items():
        values = np.zeros((draws, 1), np.int64)
        ((vector,), _) = mechanisms.draw([(values, item)])
        z = scale.z_of(vector.values)
        least = min(least, scale.power(draws, seen, alpha))
        if abs(z) > _z(alpha):
            wrong.append(f"scale {scale.scale:g}: {z:+.1f} deviations")
        together = together or _parts_together(vector.values)
    name = f"size of noise at {len(items)} scales; {seen:g} of one is seen with probability {least:.6f}"
    yield checked(name, "; ".join(wrong[:_SHOWN]), trials=draws * len(items))
    yield checked("noise in parts of 512 is independent", together, trials=len(items))


def _parts_together(noise: Int64) -> str:
    parts = noise.ravel()[: _PARTS * _PART].reshape(-1, _PART).astype(np.float64)
    parts /= np.sqrt(np.maximum((parts**2).mean(axis=1, keepdims=True), 1e-12))
    z = np.abs(parts @ parts.T) / math.sqrt(_PART)
    np.fill_diagonal(z, 0)
    return "" if z.max() < 2 * _SINGLE else f"two parts of one vector move together: {z.max():.1f} deviations"


def _selected(prices: PriceList, mechanisms: OpenDPMechanisms) -> Iterator[Evidence]:
    """How often partitions are selected: of one unit, of as many units as the threshold, and of one scale less."""
    chosen = {Scale(i.mechanism, i.scale): i for items in prices.items.values() for i in items if i.mechanism.selects}
    tests = max(1, 3 * len(chosen))
    for scale, item in chosen.items():
        threshold, count = item.threshold or 0, 2_000
        note = ""
        for units in (1, threshold, max(1, threshold - round(scale.scale))):
            counts = {(n, "x"): units for n in range(count)}
            (_, (selection,)) = mechanisms.draw([], [(counts, item)])
            shown, share = len(selection.keys), tail(scale, threshold - units)
            low = 1 - rate_at_most(count - shown, count, FAMILYWISE_ALPHA / tests / 2)
            high = rate_at_most(shown, count, FAMILYWISE_ALPHA / tests / 2)
            if not low <= share <= high:
                note = f"{shown} of {count} partitions of {units} units were shown; the law says {share:.3g} of them"
            if any(value < threshold for value in selection.units.values[:, 0].tolist()):
                note = f"a count below the threshold {threshold} was shown"
        yield checked(f"selection at scale {scale.scale:.4g}, threshold {threshold}", note, trials=3 * count)


def tail(scale: Scale, distance: int) -> float:
    """The exact probability that noise is at least so many steps; one-sided."""
    if distance <= 0:
        return 1 - tail(scale, 1 - distance)
    if scale.mechanism.laplace:
        p = math.exp(-1 / scale.scale)
        return p**distance / (1 + p)
    reach = int(40 * scale.scale) + 40
    terms = [math.exp(-((k / scale.scale) ** 2) / 2) for k in range(reach + 1)]
    return math.fsum(terms[distance:]) / (2 * math.fsum(terms) - 1)


def _cube_root(ratio: float, degrees: int) -> float:
    """Chi-square over its degrees of freedom, as standard deviations of a normal (Wilson and Hilferty 1931)."""
    step = 2 / (9 * degrees)
    return (math.copysign(abs(ratio) ** (1 / 3), ratio) - (1 - step)) / math.sqrt(step)


def _z(alpha: float) -> float:
    """Standard deviations beyond which a two-sided test of that level rejects."""
    return -NormalDist().inv_cdf(alpha / 2)


def _key(item: MeasurementCharge) -> VectorKey:
    m = item.measurement
    return VectorKey(m.metric, m.view, m.name)


def _name(item: MeasurementCharge) -> str:
    return item.measurement.series()
