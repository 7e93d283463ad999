"""Reads and checks a telemetry plan: from YAML text to a `Plan` that is valid, or to a list of what is wrong.

Every problem is told at once, a line each: the path in the file, the value, what is allowed.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from hushmeter import limits
from hushmeter.errors import PlanError
from hushmeter.model.consent import ERASURE
from hushmeter.model.measurement import Currency
from hushmeter.model.plan import Asking, Plan, Privacy, Purpose
from hushmeter.model.time import Resolution, Span, duration_text, parse_duration_ms
from hushmeter.plan.built_in import built_in_metrics
from hushmeter.plan.file import ConsentFile, PlanFile
from hushmeter.plan.metrics import build_metric
from hushmeter.plan.problems import Problems, in_words

_T = TypeVar("_T")


def parse_plan(text: str, today: dt.date) -> Plan:
    """Reads a plan file that is to be used from now on.

    Args:
        text: YAML.
        today: metrics must expire after today, and at most a year ahead.

    Raises:
        PlanError: with a line for each problem.
    """
    return _parsed(text, today)


def parse_recorded(text: str) -> Plan:
    """Reads a plan that was recorded before, or that is only compared with one: its metrics may have expired since.

    Args:
        text: YAML.

    Raises:
        PlanError: with a line for each problem.
    """
    return _parsed(text, None)


def _parsed(text: str, today: dt.date | None) -> Plan:
    """The plan of a text; its metrics' expiry is checked against today, where a day is given."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.PLAN_FILE_MAX_BYTES:
        raise PlanError(f"the plan has {size} bytes; at most {limits.PLAN_FILE_MAX_BYTES} are read")
    file = _validated(_loaded(text))
    problems = Problems()
    resolutions = _resolutions(file, problems)
    period = Span.parse(file.privacy.period)
    _check_nesting(resolutions, period, problems)
    for name, asked_with in file.purposes.items():
        if not in_words(asked_with):
            problems.add(f"purposes.{name}", repr(asked_with), "must be said in words: people are asked with it")
    for name, listed in (("languages", file.consent.languages), ("sources", file.consent.sources)):
        for twice in sorted({said for said in listed if listed.count(said) > 1}):
            problems.add(f"consent.{name}", twice, "stands twice; keep one")
    if ERASURE in file.consent.sources:
        problems.add("consent.sources", ERASURE, "is the source of withdrawals that erasures bring; choose another word")
    metrics = [build_metric(name, metric, file, resolutions, problems, today) for name, metric in file.metrics.items()]
    _check_edges(file, problems)
    problems.raise_any()
    asked = file.privacy
    privacy = Privacy(
        asked.unit,
        period,
        asked.epsilon,
        asked.delta,
        asked.expected_units,
        None if asked.currency == "auto" else Currency(asked.currency),
        asked.weights == "auto",
    )
    purposes = tuple(Purpose(name, text) for name, text in file.purposes.items())
    built = tuple(m for m in metrics if m is not None)
    built_in = built_in_metrics([r.name for r in resolutions], purposes, built, participants=asked.participants)
    asking = Asking(tuple(file.consent.languages), tuple(file.consent.sources))
    return Plan(file.plan, file.version, privacy, tuple(resolutions), purposes, built, plan_hash_of(file), built_in, asking)


def canonical_text(file: PlanFile) -> str:
    """The plan as JSON that depends on what the file says, not on how it is written.

    Comments, spaces, the order of fields and of resolutions, and the notation of numbers do not change it. The order of
    metrics, dimensions and values does: it is the order of series numbers and of partitions.

    Args:
        file: a plan file whose resolutions' names are window lengths.
    """
    dumped = file.model_dump(mode="python")
    # A plan that leaves this field out has the hash that it had before the field existed.
    if file.consent == ConsentFile():
        del dumped["consent"]
    dumped["resolutions"] = _finest_first(dumped["resolutions"])
    for metric in dumped["metrics"].values():
        for field in ("by_resolution", "max_windows"):
            metric["per_unit"][field] = _finest_first(metric["per_unit"][field])
    return json.dumps(dumped, sort_keys=False, separators=(",", ":"), default=_plain)


def plan_hash_of(file: PlanFile) -> str:
    """SHA-256 of `canonical_text`, hexadecimal."""
    return hashlib.sha256(canonical_text(file).encode()).hexdigest()


def _finest_first(by_resolution: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(by_resolution.items(), key=lambda item: Span.parse(item[0])))


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{Fraction(value)}"
    return str(value)


class _Loader(yaml.SafeLoader):
    """Safe YAML whose numbers are exact, and whose mappings do not repeat a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        # Whoever merges keys (<<) may override them on purpose. Whoever writes a key twice has slipped.
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key_node.tag != "tag:yaml.org,2002:merge" and key in seen:
                mark = key_node.start_mark
                raise PlanError(f"line {mark.line + 1}: the key {key!r} stands twice in one mapping; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise PlanError(f"line {node.start_mark.line + 1}: {text!r} is not a finite number") from None


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # YAML 1.1 reads 010 as eight and 1:30 as ninety; nobody who writes a plan means that.
    text = str(loader.construct_scalar(node)).replace("_", "")
    if re.fullmatch(r"[-+]?(0|[1-9]\d*)", text) is None or len(text) > limits.NUMBER_DIGITS_MAX:
        raise PlanError(
            f"line {node.start_mark.line + 1}: {text[:40]!r} is not a plain number: write at most "
            f"{limits.NUMBER_DIGITS_MAX} decimal digits without a leading zero, or quote it if it is text"
        )
    return int(text)


def _date(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> dt.date:
    try:
        return loader.construct_yaml_timestamp(node)
    except ValueError as error:
        raise PlanError(
            f"line {node.start_mark.line + 1}: {node.value!r} is not a day: {error}; write one such as 2027-06-30"
        ) from None


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)
# YAML 1.1 reads 1e-8 as text; people mean the number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _loaded(text: str) -> dict[str, Any]:
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        _check_expansion(root)
        loaded = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise PlanError(f"the plan is not valid YAML: {error}") from None
    except RecursionError:
        raise PlanError("the plan is nested too deeply; plans need fewer than ten levels") from None
    if not isinstance(loaded, dict):
        raise PlanError("the plan must be a mapping that begins with 'plan: NAME'; hushmeter plan init writes one")
    return loaded


def _check_expansion(root: yaml.Node | None) -> None:
    """Refuses aliases that hold themselves, or that stand for more than a file without aliases could hold."""
    sizes: dict[yaml.Node, int] = {}
    open_nodes: set[yaml.Node] = set()

    def size(node: yaml.Node) -> int:
        if node in open_nodes:
            raise PlanError(f"line {node.start_mark.line + 1}: this anchor holds an alias of itself; write it out")
        if node not in sizes:
            open_nodes.add(node)
            children = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = itertools.chain.from_iterable(c if isinstance(c, tuple) else (c,) for c in children)
            sizes[node] = 1 + sum(size(part) for part in parts)
            open_nodes.remove(node)
        return sizes[node]

    most = limits.PLAN_FILE_MAX_BYTES
    if root is not None and size(root) > most:
        raise PlanError(f"the plan's aliases stand for {size(root)} values; at most {most} are read: use fewer aliases")


def _validated(loaded: dict[str, Any]) -> PlanFile:
    try:
        return PlanFile.model_validate(_numbers_as_decimals(loaded))
    except ValidationError as error:
        lines = sorted({_line(e) for e in error.errors()})
        raise PlanError("the plan is not valid:\n  " + "\n  ".join(lines)) from None


def _numbers_as_decimals(value: Any) -> Any:
    """Every number that stands where a Decimal may; whole numbers stay whole where an int is asked for."""
    if isinstance(value, dict):
        return {k: _decimal_field(k, _numbers_as_decimals(v)) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers_as_decimals(v) for v in value]
    return value


_DECIMAL_FIELDS = frozenset({"epsilon", "delta", "resolution", "weight", "range", "edges"})


def _decimal_field(name: object, value: Any) -> Any:
    if name not in _DECIMAL_FIELDS:
        return value
    if isinstance(value, list):
        return [Decimal(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value]
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


_PLAINLY = {
    "string_type": "must be text; quote it",
    "is_instance_of": "must be a number, without quotes",
    "int_type": "must be a whole number, written in digits and without quotes",
    "date_type": "must be a day such as 2027-06-30, without quotes",
    "bool_type": "must be true or false",
    "list_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
}


def _line(error: Any) -> str:
    parts = [str(part) for part in error["loc"] if not str(part).startswith("[")]
    path = ".".join(part if part.isprintable() else repr(part) for part in parts)
    value = error["input"]
    shown = repr(str(value) if isinstance(value, Decimal) else value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    message = _PLAINLY.get(error["type"], str(error["msg"]))
    if error["type"] == "extra_forbidden":
        message = "is not a field here; " + _lawful_fields(error["loc"])
    elif error["type"] == "missing":
        return f"{path}: is missing; it is required"
    elif error["type"] == "string_pattern_mismatch":
        message += _pattern_in_words(error["ctx"]["pattern"])
    return f"{path}: {message} (got {shown})"


def _pattern_in_words(pattern: str) -> str:
    if pattern.startswith("^[a-z]"):
        return "; names begin with a small letter and hold at most 64 small letters, digits and _"
    return "; a value has 1 to 64 characters, none of them a slash or a control character"


def _lawful_fields(location: Sequence[Any]) -> str:
    """The field that was probably meant, or all that may stand in this place of the file."""
    schema = PlanFile.model_json_schema()
    here: dict[str, Any] = schema
    for part in location[:-1]:
        named: list[Any] = list(here.get("patternProperties", {}).values())
        here = here.get("properties", {}).get(str(part)) or here.get("additionalProperties") or named[0]
        here = schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
    known = list(here.get("properties", ()))
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {near[0]}?" if near else f"the fields are {', '.join(known)}"


def _resolutions(file: PlanFile, problems: Problems) -> list[Resolution]:
    resolutions = []
    for name, resolution in file.resolutions.items():
        path = f"resolutions.{name}"
        span = _read_field(Span.parse, path, name, problems)
        lateness = _read_field(parse_duration_ms, f"{path}.lateness", resolution.lateness, problems)
        if lateness is not None and lateness > limits.LATENESS_MAX_MS:
            problems.add(f"{path}.lateness", resolution.lateness, f"at most {duration_text(limits.LATENESS_MAX_MS)}")
        if span is not None and lateness is not None:
            resolutions.append(Resolution(span, lateness))
    return sorted(resolutions, key=lambda r: r.span)


def _read_field(read: Callable[[str], _T], path: str, text: str, problems: Problems) -> _T | None:
    """What a text means; None, and a problem more, where it means nothing."""
    try:
        return read(text)
    except ValueError as error:
        problems.add(path, text, str(error))
        return None


def _check_nesting(resolutions: Sequence[Resolution], period: Span, problems: Problems) -> None:
    """Each resolution divides the next coarser one and the period (T1)."""
    for resolution in resolutions:
        path = f"resolutions.{resolution.name}"
        if resolution.span.length_ms > period.length_ms:
            problems.add(path, resolution.name, f"windows are no longer than the protection period, {period.name}")
        elif not resolution.span.divides(period):
            problems.add(path, resolution.name, f"must divide the protection period, {period.name}, into whole windows")
        elif resolution.span.most_in(period) > limits.WINDOWS_PER_PERIOD_MAX:
            windows = resolution.span.most_in(period)
            problems.add(path, resolution.name, f"{windows} windows a period; at most {limits.WINDOWS_PER_PERIOD_MAX}")
    for finer, coarser in itertools.pairwise(resolutions):
        if finer.span.length_ms == coarser.span.length_ms:
            problems.add(f"resolutions.{coarser.name}", coarser.name, f"is as long as {finer.name}; keep one")
        elif not finer.span.divides(coarser.span):
            problems.add(f"resolutions.{finer.name}", finer.name, f"must divide the next coarser one, {coarser.name}")
        most = coarser.lateness_ms + coarser.span.length_ms - finer.span.length_ms
        if finer.lateness_ms > most:
            problems.add(
                f"resolutions.{finer.name}.lateness",
                duration_text(finer.lateness_ms),
                f"at most {duration_text(most)}: the first window of {finer.name} in one of {coarser.name} must not close "
                "after it",
            )


def _check_edges(file: PlanFile, problems: Problems) -> None:
    """Edges, in steps, stay where a range may be: they travel as 64-bit integers."""
    for name, metric in file.metrics.items():
        for edge in metric.edges:
            if abs(Fraction(edge) / Fraction(metric.resolution)) > limits.RANGE_MAX:
                problems.add(f"metrics.{name}.edges", edge, f"within {limits.RANGE_MAX} steps of zero")
