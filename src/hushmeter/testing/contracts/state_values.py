"""Values and steps that the contract suites of the state store share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from hushmeter.ledger.accountant import period_loss
from hushmeter.model.consent import Decision
from hushmeter.model.ledger import DraftEntry, PrivacyBudget, PrivacyLoss, Spending, canonical_json
from hushmeter.model.measurement import Currency, MeasurementName, Mechanism
from hushmeter.model.release import NoisyVector, Release, ReleaseKey
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, Window
from hushmeter.plan.catalog import SeriesBlock
from hushmeter.ports import ConsentStore, Deployment, WindowStore

RHO: Final = Fraction(1, 3)
BUDGET: Final = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1)))
SELECTING: Final = PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(1), Fraction(1e-8) / 2))
"""With half of delta for private partitions (C5)."""
ENDED: Final = (WindowState.RELEASED, WindowState.LOST)
ALL_BEGUN: Final = (WindowState.CLOSING, WindowState.FIXED, *ENDED)
DEPLOYMENT: Final = Deployment(
    "ab" * 16,
    12_345,
    3,
    "cd" * 32,
    "plan: é\n",
    PrivacyBudget(4.0, 1e-8, Currency.ZCDP, PrivacyLoss(Fraction(22, 97), Fraction(1, 3 * 10**9))),
)
BLOCKS: Final = (SeriesBlock(9, 4, "b", "s2"), SeriesBlock(1, 8, "a", "s1"))


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
        MeasurementName.UNITS: NoisyVector(values[:, :1], Mechanism.DISCRETE_LAPLACE, 12.5, 0.1),
        MeasurementName.WEIGHTS: NoisyVector(values, Mechanism.DISCRETE_GAUSSIAN, 1 / 3, 1e-17),
    }
    key = ReleaseKey(1, metric, view, window.resolution, window.start_ms)
    return Release(key, window.end_ms, window.end_ms + 600_000, 0.25, vectors)


def selected(window: Window) -> Release:
    """A release of the private partitions that an open view's noisy counts selected."""
    keys = ((0, "1.0"), (0, "é"), (3, ""))
    units = np.array([[7], [2**62], [-1]], np.int64)
    vectors = {
        MeasurementName.UNITS: NoisyVector(units, Mechanism.GAUSSIAN_THRESHOLD, 9.5, 0.1, 1e-17, 31),
        MeasurementName.SUM: NoisyVector(units - 1, Mechanism.DISCRETE_GAUSSIAN, 2.5, 0.2),
    }
    key = ReleaseKey(1, "calls", ("app_version",), window.resolution, window.start_ms)
    return Release(key, window.end_ms, window.end_ms + 600_000, 1.0, vectors, keys)


def entry(
    amount: Fraction,
    note: object = "é",
    *,
    delta: Fraction = Fraction(0),
    measurement: str = "units",
    cap: int = 1_000,
    period_start_ms: int = 0,
) -> DraftEntry:
    """An entry that costs so much, of a series of which a unit is in `cap` windows."""
    content = canonical_json(
        {
            "metric": "call_setup",
            "view": ["platform"],
            "resolution": "1h",
            "measurement": measurement,
            "period_start_ms": period_start_ms,
            "currency": "zcdp",
            "cap": cap,
            "loss": str(amount),
            "delta": str(delta),
            "note": note,
        }
    )
    series = f"call_setup/platform/1h/{measurement}"
    return DraftEntry(content, Spending(series, cap, PrivacyLoss(amount, delta)))


def decide(store: ConsentStore, *decisions: Decision) -> None:
    """Records decisions one by one, each when its receipt says."""
    for decision in decisions:
        store.record_decisions([decision], lambda: decision.received_at_ms)  # noqa: B023


def seal_window(store: WindowStore, window: Window) -> None:
    """Brings a window from OPEN to FIXED."""
    store.begin_closing(window, window.end_ms)
    store.mark_fixed(window)


def publish_window(
    store: WindowStore,
    window: Window,
    *,
    rho: Fraction = RHO,
    period_start_ms: int = 0,
    kept_windows: Mapping[str, bytes] | None = None,
) -> None:
    """Publishes one release of a window, with two entries of half the cost each."""
    entries = [entry(rho / 2, note, period_start_ms=period_start_ms) for note in (window.start_ms, "second")]
    store.publish(window, [release(window)], entries, period_start_ms, BUDGET, kept_windows or {})


def end_as_lost(store: WindowStore, window: Window, rho: Fraction = RHO) -> None:
    """Marks a window as lost, with one entry."""
    store.mark_lost(window, [entry(rho)], 0, BUDGET)


def cost(store: WindowStore, period_start_ms: int = 0) -> Fraction:
    """What a period has cost one unit, no delta among it."""
    loss = period_loss(store.spent(period_start_ms))
    assert loss.delta == 0
    return loss.amount


def state_of(store: WindowStore, window: Window) -> WindowState:
    """Where a window stands."""
    return next((r.state for r in store.windows(ALL_BEGUN) if r.window == window), WindowState.OPEN)


def outcome_of(store: WindowStore, window: Window) -> tuple[object, ...]:
    """What a publication may change."""
    found = [number for number, _ in store.releases("call_setup", ("platform",), window.resolution, -1, window.end_ms)]
    kept = store.kept_windows("call_setup", window.resolution, 0)
    return state_of(store, window), sorted(store.spent(0), key=repr), list(store.ledger()), found, kept


@contextlib.contextmanager
def failing_at(moment: str) -> Iterator[None]:
    """Meanwhile every transaction fails with an `OSError` at a statement that begins so, or at its `COMMIT`.

    It knows databases that SQLAlchemy speaks to, and no others.
    """

    def fail(*arguments: Any) -> None:
        if moment == "COMMIT" or arguments[2].startswith(moment):
            raise OSError(moment)

    event = "commit" if moment == "COMMIT" else "before_cursor_execute"
    sa.event.listen(sa.Engine, event, fail)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, event, fail)
