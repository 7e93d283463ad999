"""Test doubles of `Mechanisms`: no noise at all, or the same noise every time. Neither is private."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import MeasurementCharge, PrivacyLoss
from hushmeter.model.measurement import Mechanism, float_down
from hushmeter.model.release import SALT_BYTES, NoisyVector, PartitionKey, Selection
from hushmeter.ports import Mechanisms


@dataclass(frozen=True, slots=True)
class UncheckedCharge:
    """What mechanisms read of a `MeasurementCharge`, of no plan's measurement, and with numbers that no charge has."""

    mechanism: Mechanism
    sensitivity: float
    loss: PrivacyLoss
    scale: float


def add_noise(
    mechanisms: Mechanisms, values: Int64, *, mechanism: Mechanism, scale: float, sensitivity: float, loss: PrivacyLoss
) -> NoisyVector:
    """Draws one vector alone, at any price: see `Mechanisms.draw`."""
    charge = UncheckedCharge(mechanism, sensitivity, loss, scale)
    noisy, _ = mechanisms.draw([(values, cast("MeasurementCharge", charge))])
    return noisy[0]


class ExactMechanisms:
    """Returns what it is given, and every partition with at least two units: for tests that count.

    Salts differ, and are the same in the same order of draws every time.
    """

    def __init__(self) -> None:
        self._drawn = itertools.count()

    def salt(self) -> bytes:
        """The next one."""
        return hashlib.sha256(str(next(self._drawn)).encode()).digest()[:SALT_BYTES]

    def noise(self, shape: tuple[int, ...], mechanism: Mechanism, scale: float) -> Int64:
        """None."""
        ensure(bool(mechanism) and 0 < scale < math.inf, "a scale is positive and finite")
        return np.zeros(shape, np.int64)

    def draw(
        self,
        vectors: Sequence[tuple[Int64, MeasurementCharge]],
        selections: Sequence[tuple[Mapping[PartitionKey, int], MeasurementCharge]] = (),
    ) -> tuple[list[NoisyVector], list[Selection]]:
        """One after the other, selections first."""
        chosen = [
            self.select(
                counts,
                mechanism=c.mechanism,
                scale=c.scale,
                threshold=c.threshold or 0,
                l0=c.measurement.l0,
                loss=c.loss,
            )
            for counts, c in selections
        ]
        return [self._noisy(values, c) for values, c in vectors], chosen

    def _noisy(self, values: Int64, charge: MeasurementCharge) -> NoisyVector:
        """With `noise` added, at the price that was charged."""
        ensure(0 < charge.scale < math.inf and 0 < charge.sensitivity < math.inf, "scale and sensitivity are positive")
        noisy = values + self.noise(values.shape, charge.mechanism, charge.scale)
        return NoisyVector(noisy, charge.mechanism, charge.scale, float_down(charge.loss.amount), salt=self.salt())

    def select(
        self,
        counts: Mapping[PartitionKey, int],
        *,
        mechanism: Mechanism,
        scale: float,
        threshold: int,
        l0: int,
        loss: PrivacyLoss,
    ) -> Selection:
        """Selects by count and `noise`."""
        ensure(threshold > 1 and l0 >= 1, "a threshold is above what one unit adds")
        noisy = np.array(list(counts.values()), np.int64) + self.noise((len(counts),), mechanism, scale)
        found = sorted((key, n) for key, n in zip(counts, noisy.tolist(), strict=True) if n >= threshold)
        values = np.array([n for _, n in found], np.int64).reshape(len(found), 1)
        amount, lost = float_down(loss.amount), float_down(loss.delta)
        vector = NoisyVector(values, mechanism, scale, amount, lost, threshold, self.salt())
        return Selection(tuple(key for key, _ in found), vector)

    def threshold(self, mechanism: Mechanism, *, scale: float, l0: int, delta: Fraction) -> int:
        """Two: a partition of one unit stays hidden."""
        ensure(mechanism.selects and scale > 0 and l0 >= 1 and delta > 0, "parameters of a selection")
        return 2

    def zcdp_budget(self, epsilon: float, delta: float) -> Fraction:
        """The rho whose textbook epsilon, rho + 2 sqrt(rho ln(1/delta)), is `epsilon` (Bun and Steinke 2016, Prop. 1.3)."""
        log = math.log(1 / delta)
        return Fraction((math.sqrt(epsilon + log) - math.sqrt(log)) ** 2)

    def epsilon_of(self, rho: Fraction, delta: float) -> float:
        """The textbook epsilon."""
        return float(rho) + 2 * math.sqrt(float(rho) * math.log(1 / delta))


class SeededMechanisms(ExactMechanisms):
    """Rounded noise of the right variance that repeats: for tests of what comes after noise.

    Args:
        seed: of the generator.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = np.random.default_rng(seed)

    def noise(self, shape: tuple[int, ...], mechanism: Mechanism, scale: float) -> Int64:
        """Rounded Gaussian or Laplace noise."""
        draw = self._generator.laplace if mechanism.laplace else self._generator.normal
        return np.rint(draw(0, scale, shape)).astype(np.int64)
