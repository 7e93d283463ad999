"""Reports for any plan: those of units that behave, and those of one unit that presses on every bound."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import string
from collections.abc import Collection, Iterator, Sequence
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from hushmeter.api.report.v1.report_pb2 import Report
from hushmeter.errors import ConfigError
from hushmeter.model.plan import Kind, Metric, Plan
from hushmeter.plan.catalog import Catalog

Point = tuple[int, int, str]
"""Series number, value, token (empty where it has none)."""

_PARTITIONS_MAX = 24
_TOKENS = 6
_POINTS_PER_REPORT = 2_000
_LETTERS = string.ascii_lowercase + string.digits + string.ascii_uppercase
_REPEATS_MAX = 3


@functools.cache
def tokens_of(pattern: str, max_length: int, count: int) -> tuple[str, ...]:
    """Different tokens that an open dimension takes; fewer where its pattern matches no more.

    Args:
        pattern: of a whole token.
        max_length: of a token, in characters.
        count: how many.

    Raises:
        ConfigError: none was found.
    """
    found: list[str] = []
    tree = parser.parse(pattern)
    for seed in range(64 * count):
        digits = itertools.cycle(hashlib.sha256(str(seed).encode()).digest())
        token = "".join(_matching(tree, digits))
        if token not in found and len(token) <= max_length and re.fullmatch(pattern, token):
            found.append(token)
        if len(found) == count:
            break
    if not found:
        raise ConfigError(f"the audit finds no token that the pattern {pattern!r} takes")
    return tuple(found)


def _matching(tree: Any, digits: Iterator[int]) -> Iterator[str]:
    """A text that a parsed pattern takes, chosen by digits."""
    for operation, argument in tree:
        match str(operation):
            case "LITERAL":
                yield chr(argument)
            case "NOT_LITERAL":
                yield next(c for c in _LETTERS if ord(c) != argument)
            case "ANY":
                yield _LETTERS[next(digits) % len(_LETTERS)]
            case "IN":
                members = [c for c in _LETTERS + "._-+: /" if re.fullmatch(_class_of(argument), c)]
                if members:
                    yield members[next(digits) % len(members)]
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = argument
                times = least + next(digits) % (min(int(most), least + _REPEATS_MAX) - least + 1)
                for _ in range(times):
                    yield from _matching(inner, digits)
            case "SUBPATTERN":
                yield from _matching(argument[-1], digits)
            case "BRANCH":
                branches = argument[1]
                yield from _matching(branches[next(digits) % len(branches)], digits)
            case _:
                pass  # Anchors and the like take no room.


def _class_of(members: Any) -> str:
    """A class of characters as a pattern."""
    parts = []
    for operation, argument in members:
        match str(operation):
            case "LITERAL":
                parts.append(re.escape(chr(argument)))
            case "RANGE":
                parts.append(f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}")
            case "NEGATE":
                parts.insert(0, "^")
            case "CATEGORY":
                names = {"CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w", "CATEGORY_SPACE": r"\s"}
                parts.append(names.get(str(argument), r"\w"))
            case _:
                pass
    return f"[{''.join(parts)}]"


def modest(catalog: Catalog, unit: int, *, high: bool, purposes: Collection[str]) -> list[Point]:
    """One partition of each metric that the purposes allow, at one end of its range.

    Args:
        catalog: series numbers.
        unit: number of the unit, from 0; decides the partition.
        high: whether at the upper end of the range; else at the lower one.
        purposes: what the unit has allowed.
    """
    points: list[Point] = []
    for index, metric in enumerate(catalog.plan.metrics):
        if not set(metric.purposes) <= set(purposes):
            continue
        token = _tokens(metric)[0] if _tokens(metric) else ""
        # Only two partitions, so that many units share each token of an open dimension.
        partition = unit % min(2, metric.partitions)
        points += _cells(metric, catalog.first_series(index), partition, 1, token, high=high)
    return points


def greedy(catalog: Catalog, purposes: Collection[str]) -> list[Point]:
    """Points beyond every bound: many partitions and tokens, more events than count, the upper end of each range."""
    points: list[Point] = []
    for index, metric in enumerate(catalog.plan.metrics):
        if not set(metric.purposes) <= set(purposes):
            continue
        most = max(b.max_events for b in metric.bounds.values()) + 3
        for partition in range(min(_PARTITIONS_MAX, metric.partitions)):
            for token in _tokens(metric) or ("",):
                points += _cells(metric, catalog.first_series(index), partition, most, token, high=True)
    return points


def _tokens(metric: Metric) -> tuple[str, ...]:
    opened = next((d.open for d in metric.dimensions if d.open), None)
    return () if opened is None else tokens_of(opened.pattern, opened.max_length, _TOKENS)


def _cells(metric: Metric, first: int, partition: int, events: int, token: str, *, high: bool) -> Iterator[Point]:
    """The points of one partition: so many events, each at one end of the range."""
    bounds = next(iter(metric.bounds.values()))
    value = bounds.high if high else bounds.low
    base = first + partition * len(metric.components)
    counts = metric.count_components
    match metric.kind:
        case Kind.COUNTER:
            yield base, value, token
        case Kind.RATIO:
            yield base, events, token
            yield base + 1, events * value, token
        case Kind.DISTRIBUTION:
            bin_ = sum(value > edge for edge in metric.edges)
            yield base + bin_, events, token
            yield base + counts, events * value, token
            if len(metric.components) > counts + 1:
                yield base + counts + 1, events * value * value, token
        case _:
            yield base + (0 if high else counts - 1), events, token


def reports_of(
    points: Sequence[Point], unit: str, version: int, end_ms: int, length_ms: int, seed: str, report_id: bytes | None = None
) -> list[Report]:
    """Points as reports of one unit; several reports where one may not contain them all.

    Args:
        points: of the unit.
        unit: its id.
        version: of the plan.
        end_ms: of the interval, milliseconds since the Unix epoch.
        length_ms: of the interval.
        seed: decides the reports' ids.
        report_id: of the first report, 16 bytes; None for one that follows from the seed.
    """
    found = []
    for number in range(0, max(1, len(points)), _POINTS_PER_REPORT):
        part = points[number : number + _POINTS_PER_REPORT]
        names = sorted({token for _, _, token in part if token})
        derived = hashlib.blake2b(f"{unit}/{seed}/{number}".encode(), digest_size=16).digest()
        found.append(
            Report(
                report_id=report_id if report_id is not None and not number else derived,
                unit_id=unit,
                interval_start_ms=end_ms - length_ms,
                interval_end_ms=end_ms,
                plan_version=version,
                series=[series for series, _, _ in part],
                value=[value for _, value, _ in part],
                token=names,
                point_token=[names.index(token) + 1 if token else 0 for _, _, token in part] if names else [],
            )
        )
    return found


def purposes_all(plan: Plan) -> tuple[str, ...]:
    """Every purpose of a plan."""
    return plan.purpose_names
