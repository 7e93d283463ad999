"""From a tally and its charge to releases: noise on every vector, also on empty ones (T3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from hushmeter.errors import ensure
from hushmeter.model.arrays import Int64
from hushmeter.model.ledger import Charge, MeasurementCharge
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.plan import Plan
from hushmeter.model.release import NoisyVector, PartitionKey, Release, ReleaseKey, Selection
from hushmeter.model.tally import Tally, VectorKey, ViewKey


class Noise(Protocol):
    """The part of the port `Mechanisms` that measuring needs."""

    def draw(
        self,
        vectors: Sequence[tuple[Int64, MeasurementCharge]],
        selections: Sequence[tuple[Mapping[PartitionKey, int], MeasurementCharge]] = (),
    ) -> tuple[list[NoisyVector], list[Selection]]:
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
        The window's releases together cost what the items of `charge` add up to: what is released on selected partitions
        depends on the data by its own noisy vector alone, given the selection (adaptive composition); their times are
        scheduled ones (R1).
    """
    window = tally.window
    charged = (charge.resolution, charge.window_start_ms, charge.window_end_ms)
    ensure((window.resolution, window.start_ms, window.end_ms) == charged, "a charge for another window")
    ensure(not tally.overflows, "sums end at the ends of int64 before they are measured")
    _ensure_covered(tally, charge)
    selecting = {_view_of(item): item for item in charge.items if item.measurement.selects}
    public = [item for item in charge.items if _view_of(item) not in selecting]
    noisy, chosen = mechanisms.draw(
        [(tally.vectors[_key_of(item)], item) for item in public],
        [(_counts(tally, item), item) for item in selecting.values()],
    )
    selected = dict(zip(selecting, chosen, strict=True))
    vectors = {_key_of(item): vector for item, vector in zip(public, noisy, strict=True)}
    vectors |= _on_selected(tally, charge, selected, mechanisms)
    return tuple(_releases(tally, charge, vectors, selected, plan=plan, completeness=completeness))


def _key_of(item: MeasurementCharge) -> VectorKey:
    """Which vector is charged."""
    return VectorKey(item.measurement.metric, item.measurement.view, item.measurement.name)


def _view_of(item: MeasurementCharge) -> ViewKey:
    """Of which metric and view it is."""
    return item.measurement.metric, item.measurement.view


def _ensure_covered(tally: Tally, charge: Charge) -> None:
    """Every vector of a tally is charged once, in its shape, and nothing else is."""
    keys = [_key_of(item) for item in charge.items]
    ensure(len(set(keys)) == len(keys) and set(keys) == tally.vectors.keys(), "a charge covers exactly a tally's vectors")
    for key, item in zip(keys, charge.items, strict=True):
        m, private = item.measurement, tally.keys.get((key.metric, key.view))
        shape = (m.partitions if private is None else len(private), m.columns)
        ensure(tally.vectors[key].shape == shape, f"{m.metric}: a vector of another shape than its measurement")

    selecting = [_view_of(item) for item in charge.items if item.measurement.selects]
    ensure(sorted(selecting) == sorted(tally.keys), "private partitions are selected, of each open view once")


def _counts(tally: Tally, item: MeasurementCharge) -> dict[PartitionKey, int]:
    ensure(item.threshold is not None, "selection has a threshold")
    return dict(zip(tally.keys[_view_of(item)], tally.vectors[_key_of(item)][:, 0].tolist(), strict=True))


def _on_selected(
    tally: Tally, charge: Charge, selected: Mapping[ViewKey, Selection], mechanisms: Noise
) -> dict[VectorKey, NoisyVector]:
    """The noisy vectors of open views: the counts that selected, and the others on the selected partitions alone."""
    rows: dict[ViewKey, list[int]] = {}
    for view, chosen in selected.items():
        place = {key: row for row, key in enumerate(tally.keys[view])}
        rows[view] = [place[key] for key in chosen.keys]
    others = [i for i in charge.items if _view_of(i) in selected and not i.measurement.selects]
    noisy, _ = mechanisms.draw([(tally.vectors[_key_of(i)][rows[_view_of(i)]], i) for i in others])
    found = {_key_of(i): selected[_view_of(i)].units for i in charge.items if i.measurement.selects}
    return found | {_key_of(item): vector for item, vector in zip(others, noisy, strict=True)}


def _releases(
    tally: Tally,
    charge: Charge,
    vectors: Mapping[VectorKey, NoisyVector],
    selected: Mapping[ViewKey, Selection],
    *,
    plan: Plan,
    completeness: float,
) -> Iterator[Release]:
    window = tally.window
    published = plan.resolution(window.resolution).deadline_ms(window)
    by_view: dict[ViewKey, dict[MeasurementName, NoisyVector]] = {}
    for item in charge.items:
        by_view.setdefault(_view_of(item), {})[item.measurement.name] = vectors[_key_of(item)]
    for (metric, view), found in by_view.items():
        key = ReleaseKey(plan.version, metric, view, window.resolution, window.start_ms)
        keys = selected[metric, view].keys if (metric, view) in selected else None
        yield Release(key, window.end_ms, published, completeness, found, keys)
