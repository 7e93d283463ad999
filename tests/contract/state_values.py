"""Values and steps that the suites of the state store share."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from hushmeter.model.ledger import PrivacyBudget, canonical_json
from hushmeter.model.measurement import MeasurementName
from hushmeter.model.release import NoisyVector, Release, ReleaseKey
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, Window
from hushmeter.plan.catalog import SeriesBlock
from hushmeter.ports import Deployment, StateStore

RHO = Fraction(1, 3)
BUDGET = PrivacyBudget(4.0, 1e-8, Fraction(1))
ENDED = (WindowState.RELEASED, WindowState.LOST)
ALL_BEGUN = (WindowState.CLOSING, WindowState.SEALED, *ENDED)
DEPLOYMENT = Deployment("ab" * 16, 12_345, 3, "cd" * 32, "plan: é\n", PrivacyBudget(4.0, 1e-8, Fraction(22, 97)))
BLOCKS = (SeriesBlock(9, 4, "b", "s2"), SeriesBlock(1, 8, "a", "s1"))


def hour(number: int) -> Window:
    """The so many-th hour of the epoch."""
    return Window("1h", number * HOUR_MS, (number + 1) * HOUR_MS)


def day(number: int) -> Window:
    """The so many-th day of the epoch."""
    return Window("1d", number * DAY_MS, (number + 1) * DAY_MS)


def release(window: Window, metric: str = "call_setup", view: tuple[str, ...] = ("platform",)) -> Release:
    """A release of a window, with values that tell windows apart."""
    values = np.array([[3, -4], [window.start_ms, 7]], np.int64)
    vectors = {
        MeasurementName.UNITS: NoisyVector(values[:, :1], 12.5, 0.1),
        MeasurementName.WEIGHTS: NoisyVector(values, 1 / 3, 1e-17),
    }
    key = ReleaseKey(1, metric, view, window.resolution, window.start_ms)
    return Release(key, window.end_ms, window.end_ms + 600_000, 0.25, vectors)


def entry(rho: Fraction, note: object = "é") -> str:
    """A ledger entry's content that costs `rho`."""
    return canonical_json({"rho": str(rho), "note": note})


def seal(store: StateStore, window: Window) -> None:
    """Brings a window from OPEN to SEALED."""
    store.begin_closing(window)
    store.mark_sealed(window)


def publish(store: StateStore, window: Window, *, rho: Fraction = RHO, period_start_ms: int = 0) -> None:
    """Publishes one release of a window, with two entries of half the cost each."""
    entries = [entry(rho / 2, window.start_ms), entry(rho / 2, "second")]
    store.publish(window, [release(window)], entries, period_start_ms, rho, BUDGET)


def lose(store: StateStore, window: Window, rho: Fraction = RHO) -> None:
    """Marks a window as lost, with one entry."""
    store.mark_lost(window, [entry(rho)], 0, rho, BUDGET)


def state_of(store: StateStore, window: Window) -> WindowState:
    """Where a window stands."""
    return next((r.state for r in store.windows(ALL_BEGUN) if r.window == window), WindowState.OPEN)


def everything(store: StateStore, window: Window) -> tuple[object, ...]:
    """What a publication may change."""
    found = [number for number, _ in store.releases("call_setup", ("platform",), window.resolution, -1, window.end_ms)]
    return state_of(store, window), store.spent(0), list(store.ledger()), found


def url_of(path: Path) -> str:
    """The URL of a database in a directory."""
    return f"sqlite:///{path / 'state.db'}"
