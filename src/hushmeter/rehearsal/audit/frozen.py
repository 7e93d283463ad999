"""A double of `Mechanisms` whose noise does not depend on data, and which remembers the exact vectors that it was given.

With it, two runs on neighbouring data publish the same bytes, unless something besides the noisy numbers depends on data.
The audit compares the exact vectors, too: one unit may move them by what is charged, and no further.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import MeasurementCharge
from hushmeter.model.measurement import Measurement, float_down
from hushmeter.model.release import SALT_BYTES, NoisyVector, PartitionKey, Selection
from hushmeter.model.time import Window
from hushmeter.ports import Mechanisms

SHOWN_FROM = 3
"""Private partitions of at least so many units are shown. The audit's other units share each of theirs with more."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """One exact vector that noise was asked for, int64[cells, columns], and its private partitions where it has any."""

    measurement: Measurement
    charge: MeasurementCharge
    values: Int64
    keys: tuple[PartitionKey, ...] | None = None


class FrozenMechanisms:
    """Draws numbers that depend on measurement and cell alone; prices and thresholds are the real ones.

    Args:
        real: computes prices and thresholds.

    Attributes:
        hidden: the exact vectors of the newest attempt, by series.
        on_draw: called when an attempt begins to draw.
    """

    def __init__(self, real: Mechanisms) -> None:
        # These depend on their arguments alone, so that later rehearsals reuse what an earlier one computed.
        self.threshold = functools.cache(real.threshold)
        self.zcdp_budget = functools.cache(real.zcdp_budget)
        self.epsilon_of = functools.cache(real.epsilon_of)
        self.hidden: dict[str, Hidden] = {}
        self.on_draw: Callable[[], None] = lambda: None

    def draw(
        self,
        vectors: Sequence[tuple[Int64, MeasurementCharge]],
        selections: Sequence[tuple[Mapping[PartitionKey, int], MeasurementCharge]] = (),
    ) -> tuple[list[NoisyVector], list[Selection]]:
        """See `hushmeter.ports.Mechanisms`."""
        series = [charge.measurement.series() for _, charge in (*vectors, *selections)]
        # Vectors on private partitions are drawn after the selection, in a second call of the same attempt.
        begins = bool(series) and (not self.hidden or any(name in self.hidden for name in series))
        if begins:
            self.hidden = {}
        for values, charge in vectors:
            self.hidden[charge.measurement.series()] = Hidden(charge.measurement, charge, values.copy())
        for counts, charge in selections:
            column = np.array(list(counts.values()), np.int64).reshape(-1, 1)
            self.hidden[charge.measurement.series()] = Hidden(charge.measurement, charge, column, tuple(counts))
        if begins:
            self.on_draw()
        noisy = [self._frozen(values.shape, charge) for values, charge in vectors]
        return noisy, [self._chosen(counts, charge) for counts, charge in selections]

    def _frozen(self, shape: tuple[int, ...], charge: MeasurementCharge) -> NoisyVector:
        values = _numbers(charge.measurement.series(), shape)
        salt = _salt(charge.measurement.series())
        return NoisyVector(values, charge.mechanism, charge.scale, float_down(charge.loss.amount), salt=salt)

    def _chosen(self, counts: Mapping[PartitionKey, int], charge: MeasurementCharge) -> Selection:
        keys = tuple(sorted(key for key, count in counts.items() if count >= SHOWN_FROM))
        threshold = charge.threshold or 0
        values = threshold + np.abs(_numbers(charge.measurement.series(), (len(keys), 1)))
        loss, delta = float_down(charge.loss.amount), float_down(charge.loss.delta)
        salt = _salt(charge.measurement.series())
        return Selection(keys, NoisyVector(values, charge.mechanism, charge.scale, loss, delta, threshold, salt))


class WatchedStore:
    """A state store that says which window each publication was of; everything else is the store's own.

    Args:
        store: the store.
        mechanisms: remembers the exact vectors.
        seen: receives those vectors at each publication, by window.

    Attributes:
        on_publish: called before each publication.
    """

    def __init__(self, store: Any, mechanisms: FrozenMechanisms, seen: dict[Window, dict[str, Hidden]]) -> None:
        self._store = store
        self._mechanisms = mechanisms
        self._seen = seen
        self.on_publish: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def publish(self, window: Window, *args: Any, **kwargs: Any) -> Any:
        """Publishes a window, and puts its exact vectors into `seen`."""
        self.on_publish()
        published = self._store.publish(window, *args, **kwargs)
        self._seen[window], self._mechanisms.hidden = self._mechanisms.hidden, {}
        return published


def _salt(name: str) -> bytes:
    """A salt that depends on the name alone: random ones would differ between two runs."""
    return hashlib.blake2b(name.encode(), digest_size=SALT_BYTES).digest()


def _numbers(name: str, shape: tuple[int, ...]) -> Int64:
    """int64[shape] from -100 to 100 that depend on name and cell alone, read-only."""
    cells = int(np.prod(shape))
    drawn = hashlib.shake_256(name.encode()).digest(2 * cells)
    values = (np.frombuffer(drawn, np.uint16).astype(np.int64) % 201 - 100).reshape(shape)
    values.flags.writeable = False
    return values
