"""What a plan may do, and its author should know: patterns that take people's words, series that decline by rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from hushmeter.model.plan import OpenValues, Plan
from hushmeter.plan.built_in import CAPPED

_CONTENT: Final = {
    "an e-mail address": ("a@b.de", "someone@example.com"),
    "a web address": ("x.org/a", "https://example.com/a?b=c"),
    "words of a sentence": ("to be", "to be or", "Meet me at noon."),
    "encoded text": ("c2VjcmV0Cg==", "aGVsbG8gd29ybGQhIQ=="),
}


def cautions(plan: Plan) -> tuple[str, ...]:
    """One line for each open dimension whose pattern takes what looks like content, and for each keep-first series."""
    return (*_patterns(plan), *_keeps_first(plan))


def _keeps_first(plan: Plan) -> Iterator[str]:
    """Series of bounded participation: a unit's first windows of a period are kept, so that later ones hold fewer (P7)."""
    for metric in plan.metrics:
        for name, bounds in metric.bounds.items():
            windows = plan.resolution(name).span.most_in(plan.privacy.period)
            if bounds.max_windows is not None and bounds.max_windows < windows:
                yield (
                    f"metrics.{metric.name}.per_unit.max_windows.{name} keeps a unit's first {bounds.max_windows} of up to "
                    f"{windows} windows, so that each {plan.privacy.period.name} looks like a decline: compare windows of "
                    f"the same place in their period alone, and read the share that is left out, released as {CAPPED}"
                )


def _patterns(plan: Plan) -> tuple[str, ...]:
    return tuple(
        f"metrics.{metric.name}.dimensions.{dimension.name}.pattern takes {', '.join(taken)}: what enough units share is "
        "released as it is; write the narrowest pattern that works"
        for metric in plan.metrics
        for dimension in metric.dimensions
        if dimension.open is not None and (taken := _taken(dimension.open))
    )


def _taken(rule: OpenValues) -> list[str]:
    def fits(texts: tuple[str, ...]) -> bool:
        short = pa.array([text for text in texts if len(text) <= rule.max_length], pa.string())
        return any(pc.match_substring_regex(short, f"^(?:{rule.pattern})$").to_pylist())

    return [what for what, texts in _CONTENT.items() if fits(texts)]
