"""The demo's chart: what an analyst sees, with its band, against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ChartPoints = Sequence[tuple[Mapping[str, Any], float]]


def draw_chart(daily: ChartPoints, weekly: ChartPoints, path: Path) -> None:
    """Draws daily departures and the weekly mean delay, estimates with 95 % bands over the bounded truth.

    Args:
        daily: rows of the daily total with their bounded exact values, in time order.
        weekly: rows of the weekly mean with their bounded exact values, in time order.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(11, 7), layout="constrained")
    _draw(axes[0], daily, "departures a day", "Departures, daily total (public: only the blue)")
    _draw(axes[1], weekly, "minutes", "Mean departure delay, weekly")
    figure.suptitle("Flights out of New York in 2013, seen through differential privacy")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(axis: Any, points: ChartPoints, label: str, title: str) -> None:
    times = [row["window_end"] for row, _ in points]
    low, high = [row["interval_low"] for row, _ in points], [row["interval_high"] for row, _ in points]
    axis.fill_between(times, low, high, color="tab:blue", alpha=0.25, linewidth=0, label="95 % interval")
    axis.plot(times, [row["value"] for row, _ in points], color="tab:blue", linewidth=1.2, label="private estimate")
    axis.plot(
        times, [truth for _, truth in points], color="black", linewidth=0.9, linestyle="--", label="truth after bounding"
    )
    axis.set(title=title, ylabel=label)
    axis.margins(x=0.01)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left", ncols=3, fontsize=8)
