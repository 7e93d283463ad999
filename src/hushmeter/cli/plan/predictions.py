"""What `hushmeter plan check` and `plan explain` say: a plan's prices, its predicted errors, and what a change costs."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hushmeter.cli.options import existing_store, read_plan_file
from hushmeter.clock import SystemClock
from hushmeter.errors import ConfigError
from hushmeter.ledger.accountant import epsilon_and_delta, planned_costs
from hushmeter.ledger.gaussian import conversion_overhead
from hushmeter.ledger.pricing import PriceList
from hushmeter.model.changes import When
from hushmeter.model.ledger import MeasurementCharge, PrivacyBudget
from hushmeter.model.plan import Plan
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.plan.changes import changes_of, earliest
from hushmeter.plan.check import PlanReport, check_plan
from hushmeter.plan.expected_error import USEFUL_ERROR
from hushmeter.plan.reading import parse_plan, parse_recorded
from hushmeter.query.prediction import Prediction, predict
from hushmeter.service.deployment.budget import budget_of
from hushmeter.service.deployment.foundation import ensure_founded
from hushmeter.service.deployment.plan_timeline import version_at

_BARS_MAX = 60
"""A chart shows at most so many releases, those with the largest errors."""
_WHEN = {
    When.AT_ONCE: "It may take effect at once (C3). `hushmeter plan diff` says what changes.",
    When.NEXT_WINDOW: "It may take effect at the next window (C3). `hushmeter plan diff` says what changes.",
    When.NEXT_PERIOD: (
        "Whatever is priced changes at a period's border (C3); a period that has begun keeps its budget and prices. "
        "`hushmeter plan diff` says what changes."
    ),
    When.NEVER: (
        "This needs a deployment of its own, whose costs add up with this one's (C3). `hushmeter plan diff` says why."
    ),
}


@dataclass(frozen=True, slots=True)
class Priced:
    """A plan, and what it costs and buys.

    Attributes:
        costs: epsilon and delta by span of time.
        overhead: see `conversion_overhead`.
    """

    plan: Plan
    budget: PrivacyBudget
    report: PlanReport
    items: tuple[MeasurementCharge, ...]
    costs: dict[str, tuple[float, float]]
    overhead: float


def read_priced(path: Path, today: dt.date, units: int | None) -> Priced:
    """Reads, checks and prices a plan file.

    Args:
        path: the plan file.
        today: against which expiry is checked.
        units: to assume in one window in place of the plan's `expected_units`; prices stay as the plan sets them.
    """
    priced = price(parse_plan(read_plan_file(path), today))
    if units is None:
        return priced
    privacy = dataclasses.replace(priced.plan.privacy, expected_units=units)
    return dataclasses.replace(priced, plan=dataclasses.replace(priced.plan, privacy=privacy))


def price(plan: Plan) -> Priced:
    """Checks a plan and prices it."""
    mechanisms = OpenDPMechanisms()
    budget = budget_of(plan, mechanisms)
    report = check_plan(plan, budget)
    prices = PriceList.of(plan, budget, mechanisms)
    costs = {
        span: epsilon_and_delta(loss, budget, mechanisms)
        for span, loss in planned_costs(budget, plan.privacy.period).items()
    }
    items = tuple(item for of_resolution in prices.items.values() for item in of_resolution)
    return Priced(plan, budget, report, items, costs, conversion_overhead(budget))


def recorded_plan(state_dir: Path) -> Priced:
    """The plan in force of a state directory, priced.

    Raises:
        ConfigError: the directory holds no founded state.
    """
    with existing_store(state_dir) as store:
        versions = ensure_founded(store.plan_versions(), state_dir)
    in_force = version_at(versions, SystemClock().now_ms())
    return price(parse_recorded(in_force.plan_text))


def changes(before: Priced, after: Priced) -> dict[str, object]:
    """What a plan change does to each release: its expected error and its share of the budget."""
    old = {_name(p): p for p in predict(before.plan, before.budget, before.items)}
    new = {_name(p): p for p in predict(after.plan, after.budget, after.items)}
    rows = [
        {
            "release": name,
            "error_before": _percent(old[name].relative_error) if name in old else "-",
            "error_after": _percent(new[name].relative_error) if name in new else "removed",
            "share_before": _percent(old[name].share) if name in old else "-",
            "share_after": _percent(new[name].share) if name in new else "-",
        }
        for name in dict.fromkeys((*old, *new))
    ]
    return {
        "from_version": before.plan.version,
        "to_version": after.plan.version,
        "releases": rows,
        "when": _WHEN[earliest(changes_of(before.plan, after.plan))],
    }


def prediction_row(prediction: Prediction) -> dict[str, object]:
    """One prediction as JSON."""
    return dataclasses.asdict(prediction) | {"view": list(prediction.view), "warning": prediction.warning}


def print_predictions(console: Console, priced: Priced, predictions: Sequence[Prediction]) -> None:
    """Prints predictions as a table, warnings after it."""
    plan = priced.plan
    table = Table(
        title=f"{plan.name} version {plan.version} with {plan.privacy.expected_units:,} units a window", box=box.SIMPLE
    )
    for column in ("release", "statistic"):
        table.add_column(column)
    for column in ("noise std", "expected error", "useful from", "budget"):
        table.add_column(column, justify="right")
    table.add_column("to halve the error")
    for p in predictions:
        view = f" by {', '.join(p.view)}" if p.view else ""
        noise = Text(f"{p.noise_std:,.3g}{' ' + p.unit if p.unit else ''}")
        useful = f"{p.smallest_partition:,} units"
        colour = "red" if p.warning else "default"
        error = f"[{colour}]{_percent(p.relative_error)}[/]"
        table.add_row(f"{p.metric}{view}, {p.resolution}", p.statistic, noise, error, useful, _percent(p.share), p.advice)
    console.print(table)
    console.print(
        f"Errors are standard errors against a typical value; a partition is useful from {USEFUL_ERROR:.0%} on. Budget: "
        f"{priced.budget.currency}, shared measurements count for each statistic that uses them."
    )
    for p in predictions:
        if p.threshold is not None and p.statistic == "units":
            console.print(
                f"{_name(p)}: private partitions show from about {p.threshold:,} units; {p.hidden_share:.1%} of units are "
                "expected to be in hidden ones."
            )
    for p in predictions:
        if p.warning:
            console.print(f"[red]warning[/] {_name(p)}: {p.warning}; {p.advice}.")


def draw(predictions: Sequence[Prediction], path: Path, title: str) -> None:
    """Draws the expected relative errors as bars on a logarithmic axis.

    Raises:
        ConfigError: the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter

    shown = sorted(predictions, key=lambda p: p.relative_error)[-_BARS_MAX:]
    figure, axes = plt.subplots(figsize=(10, 1.5 + 0.26 * len(shown)), layout="constrained")
    colours = ["tab:red" if p.relative_error > 1 else "tab:blue" for p in shown]
    axes.barh([_name(p) for p in shown], [p.relative_error for p in shown], color=colours)
    axes.set_xscale("log")
    axes.axvline(USEFUL_ERROR, color="tab:green", linestyle="--", label=f"useful: {USEFUL_ERROR:.0%}")
    axes.axvline(1, color="tab:red", linestyle=":", label="error as large as the value")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("expected standard error, share of a typical value")
    axes.set_title(title)
    axes.legend(loc="lower right")
    axes.tick_params(axis="y", labelsize=8)
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    plt.close(figure)


def _name(p: Prediction) -> str:
    view = f" by {', '.join(p.view)}" if p.view else ""
    return f"{p.metric}{view}, {p.resolution}: {p.statistic}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}" if share < 100 else f"{share:,.0f}x"
