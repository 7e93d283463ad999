"""From a tally and its charge to releases: noise on every vector, also on empty ones (T3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

from hushmeter.errors import ensure
from hushmeter.model.ledger import Charge, MeasurementCharge, PrivacyLoss
from hushmeter.model.measurement import MeasurementName, Mechanism
from hushmeter.model.plan import Plan
from hushmeter.model.release import NoisyVector, PrivateKey, Release, ReleaseKey, Selection
from hushmeter.model.tally import Tally, VectorKey, ViewKey
from hushmeter.model.time import Int64


class Noise(Protocol):
    """The part of the port `Mechanisms` that measuring needs."""

    def add_noise(
        self, values: Int64, *, mechanism: Mechanism, scale: float, sensitivity: float, loss: PrivacyLoss
    ) -> NoisyVector:
        """See `hushmeter.ports.Mechanisms`."""

    def select(
        self,
        counts: Mapping[PrivateKey, int],
        *,
        mechanism: Mechanism,
        scale: float,
        threshold: int,
        l0: int,
        loss: PrivacyLoss,
    ) -> Selection:
        """See `hushmeter.ports.Mechanisms`."""


def measure(tally: Tally, charge: Charge, mechanisms: Noise, *, plan: Plan, completeness: float) -> tuple[Release, ...]:
    """Releases one window: every measurement of its charge, once.

    Of an open view the private partitions are selected first; its other vectors are released on those alone.

    Args:
        tally: exact and secret.
        charge: what may be spent on each vector.
        mechanisms: noise.
        plan: in force.
        completeness: share of the window that the service was serving.

    Returns:
        One release a metric and view, in the order of the charge.

    Raises:
        InvariantError: the charge does not cover exactly the tally's vectors; before any noise is drawn.

    Privacy:
        The window's releases together cost `charge.loss`: what is released on selected partitions depends on the data by
        its own noisy vector alone, given the selection (adaptive composition); their times are scheduled ones (R1).
    """
    window = tally.window
    charged = (charge.resolution, charge.window_start_ms, charge.window_end_ms)
    ensure((window.resolution, window.start_ms, window.end_ms) == charged, "a charge for another window")
    _ensure_covered(tally, charge)
    by_view: defaultdict[ViewKey, list[MeasurementCharge]] = defaultdict(list)
    for item in charge.items:
        by_view[item.measurement.metric, item.measurement.view].append(item)
    published = plan.resolution(window.resolution).deadline_ms(window)
    releases = []
    for (metric, view), items in by_view.items():
        keys, vectors = _measure_view(tally, items, mechanisms)
        key = ReleaseKey(plan.version, metric, view, window.resolution, window.start_ms)
        releases.append(Release(key, window.end_ms, published, completeness, vectors, keys))
    return tuple(releases)


def _ensure_covered(tally: Tally, charge: Charge) -> None:
    """Every vector of a tally is charged once, in its shape, and nothing else is."""
    keys = [VectorKey(i.measurement.metric, i.measurement.view, i.measurement.name) for i in charge.items]
    ensure(len(set(keys)) == len(keys) and set(keys) == tally.vectors.keys(), "a charge covers exactly a tally's vectors")
    for key, item in zip(keys, charge.items, strict=True):
        m, private = item.measurement, tally.keys.get((key.metric, key.view))
        shape = (m.partitions if private is None else len(private), m.columns)
        ensure(tally.vectors[key].shape == shape, f"{m.metric}: a vector of another shape than its measurement")


def _measure_view(
    tally: Tally, items: list[MeasurementCharge], mechanisms: Noise
) -> tuple[tuple[PrivateKey, ...] | None, dict[MeasurementName, NoisyVector]]:
    """The noisy vectors of one metric and view, and of an open view the partitions that they are of."""
    m = items[0].measurement
    private = tally.keys.get((m.metric, m.view))
    selecting = [item for item in items if item.measurement.selects]
    ensure(len(selecting) == (private is not None), f"{m.metric}: private partitions are selected, once")
    released: tuple[PrivateKey, ...] | None = None
    rows: list[int] | slice = slice(None)
    vectors: dict[MeasurementName, NoisyVector] = {}
    for item in selecting:
        chosen = _select(tally, item, private or (), mechanisms)
        released, vectors[item.measurement.name] = chosen.keys, chosen.units
        place = {key: row for row, key in enumerate(private or ())}
        rows = [place[key] for key in chosen.keys]
    for item in items:
        if item not in selecting:
            name = item.measurement.name
            vectors[name] = mechanisms.add_noise(
                tally.vectors[VectorKey(m.metric, m.view, name)][rows],
                mechanism=item.mechanism,
                scale=item.scale,
                sensitivity=item.sensitivity,
                loss=item.loss,
            )
    return released, vectors


def _select(tally: Tally, item: MeasurementCharge, keys: tuple[PrivateKey, ...], mechanisms: Noise) -> Selection:
    m = item.measurement
    counts = tally.vectors[VectorKey(m.metric, m.view, m.name)][:, 0].tolist()
    ensure(item.threshold is not None, "selection has a threshold")
    return mechanisms.select(
        dict(zip(keys, counts, strict=True)),
        mechanism=item.mechanism,
        scale=item.scale,
        threshold=item.threshold or 0,
        l0=m.l0,
        loss=item.loss,
    )
