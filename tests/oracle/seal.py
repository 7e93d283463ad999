"""Sealing once more, slowly: plain dicts and Python integers, one rule after another. The numpy core must agree with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from hushmeter.model.consent import ConsentTable
from hushmeter.model.measurement import FIXED_POINT, MeasurementName
from hushmeter.model.plan import ContributionBounds, Kind, Metric, Weighting
from hushmeter.model.report import ReportBatch
from hushmeter.model.tally import VectorKey
from hushmeter.model.time import Window
from hushmeter.plan.catalog import Catalog
from hushmeter.plan.measurements import columns_of, names_of

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
COUNT_CAP = 2**40 - 1
Unit = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One report."""

    unit: Unit
    report_id: Unit
    received_at_ms: int
    start_ms: int
    end_ms: int
    plan_version: int
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Rules:
    """Where the oracle can be made wrong on purpose, to see whether the tests notice."""

    same_report: Callable[[Row], object] = field(default=lambda row: (row.unit, row.report_id))
    extra_partitions: int = 0
    clamps: bool = True
    rounds_up: bool = False


def rows_of(batch: ReportBatch) -> Iterator[Row]:
    """The reports of a batch, one by one."""
    for i in range(len(batch)):
        first, last = int(batch.offsets[i]), int(batch.offsets[i + 1])
        points = zip(batch.series[first:last].tolist(), batch.values[first:last].tolist(), strict=True)
        yield Row(
            (int(batch.pseudonyms[i, 0]), int(batch.pseudonyms[i, 1])),
            (int(batch.report_ids[i, 0]), int(batch.report_ids[i, 1])),
            int(batch.received_at_ms[i]),
            int(batch.interval_start_ms[i]),
            int(batch.interval_end_ms[i]),
            int(batch.plan_versions[i]),
            tuple(points),
        )


def oracle_seal(
    batch: ReportBatch, window: Window, *, catalog: Catalog, consent: ConsentTable, salt: bytes, rules: Rules | None = None
) -> dict[VectorKey, list[list[int]]]:
    """What `hushmeter.sealing.seal.seal` must return, as nested lists."""
    rules = rules or Rules()
    plan = catalog.plan
    tally = {
        VectorKey(m.name, view, name): [[0] * columns_of(m, name) for _ in range(m.view_partitions(view))]
        for m in plan.metrics_in(window)
        for view in m.views
        for name in names_of(m)
    }
    rows = _deduplicated(
        [r for r in rows_of(batch) if _belongs(r, window, plan.resolution(window.resolution).deadline_ms(window))], rules
    )
    since = {
        (int(hi), int(lo)): dict(zip(consent.purposes, granted.tolist(), strict=True))
        for (hi, lo), granted in zip(consent.pseudonyms.tolist(), consent.given_since_ms, strict=True)
    }
    for index, metric in enumerate(plan.metrics):
        if metric not in plan.metrics_in(window):
            continue
        first = catalog.first_series(index)
        totals = _totals(rows, metric, first, since)
        for view in metric.views:
            for unit, partitions in _projected(totals, metric, view).items():
                chosen = _bounded(unit, partitions, metric, view, window, salt, rules)
                for partition in chosen:
                    for name in names_of(metric):
                        vector = contribution(name, metric, metric.bounds[window.resolution], partitions[partition], rules)
                        cells = tally[VectorKey(metric.name, view, name)][partition]
                        for column, value in enumerate(vector):
                            cells[column] += value
    return tally


def _belongs(row: Row, window: Window, deadline_ms: int) -> bool:
    """T2: the interval ends in the window, is no longer than it, and arrived before the deadline."""
    return (
        window.start_ms < row.end_ms <= window.end_ms
        and row.end_ms - row.start_ms <= window.end_ms - window.start_ms
        and row.received_at_ms < deadline_ms
    )


def _deduplicated(rows: list[Row], rules: Rules) -> list[Row]:
    """P2: one row a (pseudonym, report_id), the one with the smallest content hash."""
    kept: dict[object, Row] = {}
    for row in rows:
        key = rules.same_report(row)
        if key not in kept or content_hash(row) < content_hash(kept[key]):
            kept[key] = row
    return list(kept.values())


def mix(x: int) -> int:
    """The SplitMix64 finaliser."""
    x %= WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % WORD
    return x ^ (x >> 31)


def content_hash(row: Row) -> int:
    """A function of what the report says alone."""
    total = 0
    for place, (series, value) in enumerate(row.points):
        total += mix(mix(series + GOLDEN * (place + 1)) ^ (value % WORD))
    return mix(total + mix(row.start_ms) * 3 + mix(row.end_ms) * 5 + mix(row.plan_version) * 7)


def _totals(
    rows: list[Row], metric: Metric, first: int, since: dict[Unit, dict[str, int]]
) -> dict[Unit, dict[int, list[int]]]:
    """Consented totals (P8) by unit and full partition."""
    totals: dict[Unit, dict[int, list[int]]] = defaultdict(dict)
    size = len(metric.components)
    for row in rows:
        granted = since.get(row.unit)
        if granted is None or any(granted[p] > row.start_ms for p in metric.purposes):
            continue
        for series, value in row.points:
            place = series - first
            if 0 <= place < metric.series_count:
                cell = totals[row.unit].setdefault(place // size, [0] * size)
                cell[place % size] += value
    return totals


def _digits(metric: Metric, partition: int) -> dict[str, int]:
    digits = {}
    for dimension in reversed(metric.dimensions):
        partition, digits[dimension.name] = divmod(partition, len(dimension.values))
    return digits


def _number(metric: Metric, names: list[str], digits: dict[str, int]) -> int:
    number = 0
    for name in names:
        number = number * len(metric.dimension(name).values) + digits[name]
    return number


def _projected(
    totals: dict[Unit, dict[int, list[int]]], metric: Metric, view: tuple[str, ...]
) -> dict[Unit, dict[int, list[int]]]:
    """P4: project first, then bound."""
    projected: dict[Unit, dict[int, list[int]]] = {}
    for unit, cells in totals.items():
        own = projected.setdefault(unit, {})
        for partition, values in cells.items():
            number = _number(metric, list(view), _digits(metric, partition))
            own[number] = [a + b for a, b in zip(own.get(number, [0] * len(values)), values, strict=True)]
    return projected


def _bounded(
    unit: Unit,
    partitions: dict[int, list[int]],
    metric: Metric,
    view: tuple[str, ...],
    window: Window,
    salt: bytes,
    rules: Rules,
) -> list[int]:
    """P4: one combination of unit-scoped values, and of its partitions the first l0, in the unit's keyed order."""
    s0, s1 = int.from_bytes(salt[:8], "big"), int.from_bytes(salt[8:], "big")
    base = (mix(unit[0] ^ s0) + mix(unit[1] ^ s1)) % WORD
    scoped = [d.name for d in metric.view_dimensions(view) if d.per_unit]

    def scope(partition: int) -> int:
        rest, digits = partition, {}
        for dimension in reversed(metric.view_dimensions(view)):
            rest, digits[dimension.name] = divmod(rest, len(dimension.values))
        return _number(metric, scoped, digits)

    def scope_order(partition: int) -> tuple[int, int]:
        c = scope(partition)
        return mix(base ^ mix(c + GOLDEN)), c

    first_scope = min(scope_order(p) for p in partitions)
    same = [p for p in partitions if scope_order(p) == first_scope]
    same.sort(key=lambda p: (mix(base + mix(p + 1)), p))
    return same[: metric.l0(view, window.resolution) + rules.extra_partitions]


def contribution(
    name: MeasurementName, metric: Metric, bounds: ContributionBounds, totals: list[int], rules: Rules
) -> list[int]:
    """One row of the calibration table."""
    low, high, most = bounds.low, bounds.high, bounds.max_events

    def clamp(value: int, least: int, greatest: int) -> int:
        return max(least, min(value, greatest)) if rules.clamps else value

    # No honest unit comes near the cap: one point counts to 2^20. It keeps the core's products in int64.
    counts = [min(max(0, v), COUNT_CAP) for v in (totals[:-1] if metric.kind is Kind.DISTRIBUTION else totals)]
    n = sum(counts)
    total = totals[-1]
    match name:
        case MeasurementName.UNITS:
            return [1]
        case MeasurementName.EVENTS:
            return [min(n, most)]
        case MeasurementName.SUM:
            return [clamp(total, low, high)]
        case MeasurementName.UNIT_MEAN if metric.kind is Kind.COUNTER:
            return [2 * clamp(total, low, high) - low - high]
        case MeasurementName.UNIT_MEAN:
            return [2 * clamp(total // n, low, high) - low - high if n else 0]
        case MeasurementName.EVENT_SUM:
            kept = min(n, most)
            if n > most:
                total = (1 if total > 0 else -1) * (abs(total) * most // n)
            return [2 * clamp(total, kept * low, kept * high) - kept * (low + high)]
        case MeasurementName.WEIGHTS:
            return _weights(metric, counts, most, rules)


def _weights(metric: Metric, counts: list[int], most: int, rules: Rules) -> list[int]:
    n = sum(counts)
    if metric.kind is Kind.FLAG and metric.weighting is Weighting.UNIT:
        return [FIXED_POINT if counts[0] else 0, FIXED_POINT if not counts[0] and counts[1] else 0]
    if n == 0:
        return [0] * len(counts)
    factor = Fraction(1, n) if metric.weighting is Weighting.UNIT else min(Fraction(1), Fraction(most, n))
    exact = [FIXED_POINT * h * factor for h in counts]
    # P6: floored toward zero; rounding up or to nearest would break the bound.
    return [-(-e.numerator // e.denominator) if rules.rounds_up else e.numerator // e.denominator for e in exact]
