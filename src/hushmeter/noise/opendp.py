"""Noise and partition selection from OpenDP, and its conversions: the only way from a tally to a release.

OpenDP accepts a scale of zero and then returns the exact data, and thresholds below the bound; so everything is ensured
here before any value is passed.

References:
    M. Bun, T. Steinke: Concentrated Differential Privacy (2016), Definition 1.1 and Proposition 1.6.
    C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy (2020), Theorem 4.
    A. Ghosh, T. Roughgarden, M. Sundararajan: Universally Utility-Maximizing Privacy Mechanisms (2009), section 1.
    A. Korolova, K. Kenthapadi, N. Mishra, A. Ntoulas: Releasing Search Queries and Clicks Privately (2009), Theorem 1.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import opendp.prelude as dp

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import MeasurementCharge, PrivacyLoss
from hushmeter.model.measurement import Mechanism, float_up, sqrt_up
from hushmeter.model.release import SALT_BYTES, NoisyVector, PartitionKey, Selection
from hushmeter.runtime import cores, step_back

dp.enable_features("contrib")

_LINF = 1
"""A unit adds 1 to the count of each partition that it is in."""
_THRESHOLD_MAX = 2**53
"""Beyond it OpenDP's own conversion to a float could round."""
_CELLS_AT_ONCE = 512
"""Cells of one invocation: so many that the call costs little beside their noise, so few that all cores end together."""


class OpenDPMechanisms:
    """The production implementation of the port `Mechanisms`."""

    def draw(
        self,
        vectors: Sequence[tuple[Int64, MeasurementCharge]],
        selections: Sequence[tuple[Mapping[PartitionKey, int], MeasurementCharge]] = (),
    ) -> tuple[list[NoisyVector], list[Selection]]:
        """Adds noise to vectors and selects partitions, on all cores.

        Every price and shape is checked before the first value is passed. A selection is one invocation. A vector is passed
        in parts: noise is independent in every cell, so the parts get the same noise as the whole would.

        Args:
            vectors: int64[partitions, columns] each, exact; no partitions give no rows. The charge names a mechanism that
                does not select, its scale, and the L2 (Gaussian) or L1 (Laplace) norm of what one unit can move them by.
            selections: see `select`.

        Returns:
            The noisy vectors, read-only, each with what OpenDP's own privacy map states: at most what was charged; and what
            `select` returns; in order.

        Raises:
            InvariantError: a scale or sensitivity is not positive and finite, or a map exceeds its charge; or as `select`.
                Nothing that was drawn is returned then.

        Privacy:
            A vector costs its charge's `loss.amount`-zCDP (Gaussian) or -DP (Laplace) under adding or removing one unit, if
            the sensitivity holds.
        """
        noises = [_Noise.within(c.loss, c.mechanism, c.scale, c.sensitivity) for _, c in vectors]
        for _, c in selections:
            self._ensure_selection(c.loss, c.mechanism, c.scale, c.threshold or 0, c.measurement.l0)
        for values, _ in vectors:
            _ensure_table(values)
        with _all_cores() as pool:
            selecting = [
                pool.submit(
                    self.select,
                    counts,
                    mechanism=c.mechanism,
                    scale=c.scale,
                    threshold=c.threshold or 0,
                    l0=c.measurement.l0,
                    loss=c.loss,
                )
                for counts, c in selections
            ]
            drawing = [noise.begin(pool, values) for noise, (values, _) in zip(noises, vectors, strict=True)]
            return [finish() for finish in drawing], [selected.result() for selected in selecting]

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
        """Releases the partitions whose noisy count of units reaches a threshold, with that count.

        Args:
            counts: exact numbers of units, at least 1 each, by partition.
            mechanism: one that selects.
            scale: of the noise.
            threshold: smallest noisy count that is released.
            l0: partitions that one unit can be in.
            loss: what may be spent, delta included.

        Returns:
            The selected partitions, sorted (R1), with their noisy counts.

        Raises:
            InvariantError: the scale is not positive and finite, the threshold not above what one unit adds, or the map
                exceeds `loss`; before any value is touched.

        Privacy:
            The probability that any of up to l0 partitions of one unit alone is released is at most `loss.delta`.
        """
        amount, delta = self._ensure_selection(loss, mechanism, scale, threshold, l0)
        ensure(all(count >= 1 for count in counts.values()), "a private partition holds at least one unit")
        names = {_name_of(key): count for key, count in counts.items()}
        released = _selection(mechanism, scale, threshold)(names)
        found = sorted((_key_of(name), int(noisy)) for name, noisy in released.items())
        values = np.array([noisy for _, noisy in found], np.int64).reshape(len(found), 1)
        values.flags.writeable = False
        vector = NoisyVector(values, mechanism, scale, amount, delta, threshold, new_salt())
        return Selection(tuple(key for key, _ in found), vector)

    def threshold(self, mechanism: Mechanism, *, scale: float, l0: int, delta: Fraction) -> int:
        """The smallest threshold whose selection costs at most delta, by bisection on OpenDP's own map.

        Args:
            mechanism: one that selects.
            scale: of the noise.
            l0: partitions that one unit can be in.
            delta: what all of them together may cost, between 0 and 1.

        Raises:
            InvariantError: no threshold is large enough.
        """
        ensure(0 < delta < 1, f"not a delta: {float(delta)}")
        low, high = _LINF, 2 * _LINF
        while Fraction(self._selection_loss(mechanism, scale, high, l0)[1]) > delta:
            low, high = high, 2 * high
            ensure(high < _THRESHOLD_MAX, f"no threshold keeps delta {float(delta)} at scale {scale}")
        while high - low > 1:
            middle = (low + high) // 2
            if Fraction(self._selection_loss(mechanism, scale, middle, l0)[1]) > delta:
                low = middle
            else:
                high = middle
        return high

    def _ensure_selection(
        self, loss: PrivacyLoss, mechanism: Mechanism, scale: float, threshold: int, l0: int
    ) -> tuple[float, float]:
        """What a selection costs by OpenDP's own map, in amount and delta: at most `loss`."""
        ensure(mechanism.selects, f"{mechanism} does not select partitions; it adds noise to vectors")
        amount, delta = self._selection_loss(mechanism, scale, threshold, l0)
        within = 0 < amount < math.inf and Fraction(amount) <= loss.amount and delta > 0 and Fraction(delta) <= loss.delta
        ensure(
            within,
            f"selection costs {amount} and delta {delta}, {float(loss.amount)} and {float(loss.delta)} may be spent",
        )
        return amount, delta

    def _selection_loss(self, mechanism: Mechanism, scale: float, threshold: int, l0: int) -> tuple[float, float]:
        ensure(0 < scale < math.inf, f"the scale must be positive and finite, got {scale}")
        ensure(_LINF < threshold < _THRESHOLD_MAX, f"the threshold must be above what one unit adds, 1, got {threshold}")
        ensure(l0 >= 1, f"a unit can be in at least one partition, got {l0}")
        norm = float_up(l0) if mechanism.laplace else sqrt_up(l0)
        # OpenDP 0.16 releases counts from the threshold on, but its map adds up the tail above it (opendp/opendp#2922):
        # the delta of what is run is what the map states of a threshold one lower.
        amount, delta = _selection(mechanism, scale, threshold - 1).map((l0, norm, float(_LINF)))
        return float(amount), float(delta)

    def zcdp_budget(self, epsilon: float, delta: float) -> Fraction:
        """The largest float rho that implies (epsilon, delta), as a Fraction; found by bisection on OpenDP's conversion."""
        ensure(0 < epsilon < math.inf and 0 < delta < 1, f"not a budget: epsilon {epsilon}, delta {delta}")
        low, high = 0.0, epsilon
        while self.epsilon_of(Fraction(high), delta) <= epsilon:
            low, high = high, 2 * high
        while low < (middle := (low + high) / 2) < high:
            if self.epsilon_of(Fraction(middle), delta) <= epsilon:
                low = middle
            else:
                high = middle
        ensure(low > 0, f"no rho implies epsilon {epsilon} at delta {delta}")
        return Fraction(low)

    def epsilon_of(self, rho: Fraction, delta: float) -> float:
        """The epsilon that rho implies at delta, rounded up."""
        ensure(rho > 0 and 0 < delta < 1, f"not a loss: rho {float(rho)}, delta {delta}")
        # A discrete Gaussian of scale 1 and this sensitivity costs at least rho; OpenDP converts its whole profile.
        distance = math.nextafter(math.sqrt(2 * float_up(rho)), math.inf)
        return float(_profile().map(distance).epsilon(delta))


@dataclass(frozen=True, slots=True)
class _Noise:
    """A mechanism whose price was checked.

    Attributes:
        mechanism, scale: of the noise.
        mapped: the loss that OpenDP's own privacy map states.
        invoke: OpenDP's measurement.
    """

    mechanism: Mechanism
    scale: float
    mapped: float
    invoke: Any

    @classmethod
    def within(cls, loss: PrivacyLoss, mechanism: Mechanism, scale: float, sensitivity: float) -> _Noise:
        """The mechanism, if it costs at most `loss`; see `OpenDPMechanisms.draw`."""
        ensure(not mechanism.selects, f"{mechanism} selects partitions; `select` runs it")
        ensure(0 < scale < math.inf, f"the scale must be positive and finite, got {scale}")
        ensure(0 < sensitivity < math.inf, f"the sensitivity must be positive and finite, got {sensitivity}")
        noise = _noise(mechanism, scale)
        mapped = noise.map(sensitivity)
        ensure(
            0 < mapped < math.inf and Fraction(mapped) <= loss.amount,
            f"the mechanism costs {mapped}, {float(loss.amount)} may be spent",
        )
        return cls(mechanism, scale, mapped, noise)

    def begin(self, pool: Executor, values: Int64) -> Callable[[], NoisyVector]:
        """Begins to add noise to every cell of a table, int64[partitions, columns].

        Returns:
            A function that waits for all cells and returns them, or raises the first error.
        """
        cells = np.ascontiguousarray(values).reshape(-1)
        parts = [
            pool.submit(self._added, cells[start : start + _CELLS_AT_ONCE])
            for start in range(0, cells.size, _CELLS_AT_ONCE)
        ]

        def finish() -> NoisyVector:
            noisy = np.concatenate([np.zeros(0, np.int64), *(part.result() for part in parts)]).reshape(values.shape)
            noisy.flags.writeable = False
            return NoisyVector(noisy, self.mechanism, self.scale, self.mapped, salt=new_salt())

        return finish

    def _added(self, cells: Int64) -> Int64:
        noisy = np.array(self.invoke(cells), np.int64)
        ensure(noisy.shape == cells.shape, "noise was added to every cell")
        return noisy


def new_salt() -> bytes:
    """The salt of one vector's commitment in the ledger: 128 bits of the operating system's randomness (R1)."""
    return secrets.token_bytes(SALT_BYTES)


def _ensure_table(values: Int64) -> None:
    ensure(values.dtype == np.int64 and values.ndim == 2, "values are int64[partitions, columns]")


@contextmanager
def _all_cores() -> Iterator[Executor]:
    """A thread for each core that may be used: OpenDP lets other threads run. After an error no further part begins."""
    with ThreadPoolExecutor(cores(), "noise", step_back) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _name_of(key: PartitionKey) -> str:
    """A name for OpenDP, which ends strings at their first NUL: two tokens would become one partition."""
    public, token = key
    return f"{public}/{token.encode().hex()}"


def _key_of(name: str) -> PartitionKey:
    public, _, token = name.partition("/")
    return int(public), bytes.fromhex(token).decode()


@functools.lru_cache(maxsize=4096)
def _noise(mechanism: Mechanism, scale: float) -> Any:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if mechanism.laplace:
        return dp.m.make_laplace(domain, dp.l1_distance(T="f64"), scale)
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale)


@functools.lru_cache(maxsize=4096)
def _selection(mechanism: Mechanism, scale: float, threshold: int) -> Any:
    domain = dp.map_domain(dp.atom_domain(T=str), dp.atom_domain(T="i64"))
    distance = dp.absolute_distance(T="f64")
    if mechanism.laplace:
        return dp.m.make_laplace_threshold(domain, dp.l01inf_distance(distance), scale, threshold)
    return dp.m.make_gaussian_threshold(domain, dp.l02inf_distance(distance), scale, threshold)


@functools.cache
def _profile() -> Any:
    unit = dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T="f64"), scale=1.0)
    return dp.c.make_zCDP_to_approxDP(unit)
