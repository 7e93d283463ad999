"""What the demo prints and writes: the table, summary.json, releases.parquet and the chart."""

from __future__ import annotations

import importlib.util
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from rich import box
from rich.console import Console
from rich.table import Table

from hushmeter.errors import LedgerBroken
from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.states import WindowState
from hushmeter.rehearsal.demo.truth import Key, Truth
from hushmeter.service.deployment.context import Context

_CAPTION = (
    "private: what analysts see; bounded: the exact value after bounding, which only this demo knows; "
    "raw: before bounding; error: private against bounded; epsilon: what the release cost an aircraft"
)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that the demo has at its end.

    Attributes:
        context: the deployment.
        tables: what analysts get, a table for each metric, view and resolution.
        truth: exact values of the windows.
        sent, acknowledged: numbers of reports.
        rejected: numbers of reports, by reason.
        values_per_second: values of reports that the demo sent in a second.
        anonymous: flights without a tail number.
    """

    context: Context
    tables: Sequence[pa.Table]
    truth: Truth
    sent: int
    acknowledged: int
    rejected: Mapping[str, int]
    values_per_second: float
    anonymous: int


@dataclass(frozen=True, slots=True)
class _Compared:
    """One estimate beside the truth."""

    row: Mapping[str, Any]
    key: Key
    truth: float

    @property
    def covered(self) -> bool:
        """Whether the interval holds the bounded exact value."""
        return bool(self.row["interval_low"] <= self.truth <= self.row["interval_high"])

    @property
    def relative_error(self) -> float:
        """How far off, as a share of the bounded exact value, which is not zero."""
        return abs(float(self.row["value"]) - self.truth) / abs(self.truth)


def write_results(results: Results, out: Path, console: Console) -> None:
    """Prints the table and writes `summary.json`, `releases.parquet` and, where matplotlib is installed, `chart.png`."""
    compared = list(_compare(results))
    whole = pa.concat_tables(results.tables, promote_options="permissive")
    parquet.write_table(whole, out / "releases.parquet")
    summary = _summary(results, compared, whole.num_rows)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _print(results, compared, summary, console)
    written = [out / "summary.json", out / "releases.parquet"]
    if importlib.util.find_spec("matplotlib") is None:
        console.print("No chart: it needs matplotlib, which comes with: pip install 'hushmeter[plot]'", markup=False)
    else:
        written.append(out / "chart.png")
        _draw(compared, written[-1])
    console.print(f"Written: {', '.join(map(str, written))}")


def _draw(compared: Sequence[_Compared], path: Path) -> None:
    from hushmeter.rehearsal.demo.chart import draw_chart

    daily = [c for c in compared if c.key[:2] == ("departures", "1d") and c.key[3] == () and c.key[5] == "sum"]
    weekly = [c for c in compared if c.key[:2] == ("departure_delay", "1w") and c.key[3] == () and c.key[5] == "mean"]
    draw_chart([(c.row, c.truth) for c in daily], [(c.row, c.truth) for c in weekly], path)


def _compare(results: Results) -> Iterator[_Compared]:
    plan = results.context.plan
    for table in results.tables:
        dimensions = [n for n in table.column_names if n in {"carrier", "origin", "destination", "purpose"}]
        for row in table.to_pylist():
            metric = plan.metric(row["metric"])
            view, label = tuple(dimensions), tuple(row[d] for d in dimensions)
            start = int(row["window_start"].timestamp() * 1000)
            key = (metric.name, row["resolution"], start, view, label, row["statistic"], row["component"])
            if key in results.truth.bounded:
                yield _Compared(row, key, results.truth.bounded[key])


def _summary(results: Results, compared: Sequence[_Compared], estimates: int) -> dict[str, Any]:
    context = results.context
    errors: defaultdict[str, list[float]] = defaultdict(list)
    for c in compared:
        if c.truth:
            errors[c.key[0]].append(c.relative_error)
    covered: defaultdict[str, list[bool]] = defaultdict(list)
    for c in compared:
        covered[c.key[5]].append(c.covered)
    ended = context.store.windows([WindowState.RELEASED])
    return {
        "reports_sent": results.sent,
        "reports_acknowledged": results.acknowledged,
        "reports_rejected": dict(results.rejected),
        "windows_released": len(ended),
        "windows_lost": len(context.store.windows([WindowState.LOST])),
        "estimates_released": estimates,
        "epsilon_per_period": float(context.plan.privacy.epsilon),
        "delta": float(context.plan.privacy.delta),
        "period": context.plan.privacy.period.name,
        "median_relative_error": {name: statistics.median(values) for name, values in sorted(errors.items())},
        "median_bounding_bias": _bounding_bias(results.truth),
        "interval_coverage_95": float(np.mean([c.covered for c in compared])),
        "interval_coverage_95_by_statistic": {name: float(np.mean(hits)) for name, hits in sorted(covered.items())},
        "estimates_compared": len(compared),
        "values_per_second": results.values_per_second,
        "flights_without_tail_number": results.anonymous,
        "ledger_verified": _ledger_holds(context),
    }


def _bounding_bias(truth: Truth) -> dict[str, float]:
    """How far bounding alone moves the totals, as a median share of the value before it, by metric and statistic."""
    shares: defaultdict[str, list[float]] = defaultdict(list)
    for (metric, statistic, resolution, start), raw in truth.unbounded.items():
        bounded = truth.bounded.get((metric, resolution, start, (), (), statistic, ""))
        if bounded is not None and raw:
            shares[f"{metric} {statistic} {resolution}"].append(abs(bounded - raw) / abs(raw))
    return {name: statistics.median(values) for name, values in sorted(shares.items())}


def _ledger_holds(context: Context) -> bool:
    try:
        verify_budget(verify_chain(context.store.ledger(), context.store.checkpoints()), context.budget)
    except LedgerBroken:
        return False
    return True


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _print(results: Results, compared: Sequence[_Compared], summary: Mapping[str, Any], console: Console) -> None:
    """The total view of one day and one week, estimate beside both truths."""
    table = Table(title="One day and one week of all aircraft that consent", caption=_CAPTION, box=box.SIMPLE)
    for name in ("window", "what"):
        table.add_column(name, no_wrap=True)
    for name in ("private", "95 % interval", "bounded", "raw", "error", "epsilon"):
        table.add_column(name, justify="right")
    total = [c for c in compared if c.key[3] == () and (c.key[0], c.key[5], c.key[1], c.key[2]) in results.truth.unbounded]
    for resolution in ("1d", "1w"):
        starts = sorted({c.key[2] for c in total if c.key[1] == resolution})
        shown = starts[len(starts) // 4]
        for c in total:
            if c.key[1:3] != (resolution, shown):
                continue
            before = results.truth.unbounded[c.key[0], c.key[5], resolution, shown]
            low, high = c.row["interval_low"], c.row["interval_high"]
            table.add_row(
                f"{resolution} {c.row['window_start']:%d %b}",
                f"{c.key[0]} {c.key[5]}",
                _short(c.row["value"]),
                f"{_short(low)}..{_short(high)}",
                _short(c.truth),
                _short(before),
                f"{c.relative_error:.1%}" if c.truth else "",
                f"{c.row['epsilon']:.2f}",
            )
    console.print(table)
    console.print(
        f"{summary['reports_acknowledged']:,} of {summary['reports_sent']:,} reports acknowledged "
        f"(rejected: {summary['reports_rejected']}), {summary['windows_released']} windows released, "
        f"{summary['estimates_released']:,} estimates, {summary['values_per_second']:,.0f} values/s."
    )
    console.print(
        f"95 % intervals hold the bounded truth in {summary['interval_coverage_95']:.2%} of "
        f"{summary['estimates_compared']:,} estimates; ledger verified: {summary['ledger_verified']}."
    )
