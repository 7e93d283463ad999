"""A double of `Mechanisms` whose noise does not depend on data, and which remembers what it was to hide.

With it, two runs on neighbouring data publish the same bytes, unless something besides noise tells of the data. What it was
given is compared beside: one unit may move it by what is charged, and no further.
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
"""Private partitions of so many units are shown: of the audit's others always more share one, or nobody."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """One exact vector that noise was asked for, int64[cells, columns], and its private partitions where it has any."""

    measurement: Measurement
    charge: MeasurementCharge
    values: Int64
    keys: tuple[PartitionKey, ...] | None = None


class FrozenMechanisms:
    """Returns the same numbers whatever it is given, by measurement and cell; prices and thresholds are the real ones.

    Args:
        real: which prices.
    """

    def __init__(self, real: Mechanisms) -> None:
        # Functions of their arguments alone: what one rehearsal asked holds in the next one.
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
        # What is released on private partitions is drawn after their selection: the same attempt goes on.
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
        mechanisms: whose memory is taken at each publication.
        seen: where it goes, by window.
    """

    def __init__(self, store: Any, mechanisms: FrozenMechanisms, seen: dict[Window, dict[str, Hidden]]) -> None:
        self._store = store
        self._mechanisms = mechanisms
        self._seen = seen
        self.on_publish: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def publish(self, window: Window, *args: Any, **kwargs: Any) -> Any:
        """Publishes, and remembers what noise hides in it."""
        self.on_publish()
        published = self._store.publish(window, *args, **kwargs)
        self._seen[window], self._mechanisms.hidden = self._mechanisms.hidden, {}
        return published


def _salt(name: str) -> bytes:
    """A salt by name: real ones are random, and would differ between two runs."""
    return hashlib.blake2b(name.encode(), digest_size=SALT_BYTES).digest()


def _numbers(name: str, shape: tuple[int, ...]) -> Int64:
    """Small numbers by name and cell."""
    cells = int(np.prod(shape))
    drawn = hashlib.shake_256(name.encode()).digest(2 * cells)
    values = (np.frombuffer(drawn, np.uint16).astype(np.int64) % 201 - 100).reshape(shape)
    values.flags.writeable = False
    return values
