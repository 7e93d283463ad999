"""What a plan may do, and better did not: patterns of open dimensions that take people's words."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from hushmeter.model.plan import OpenValues, Plan

_CONTENT: Final = {
    "an e-mail address": ("a@b.de", "someone@example.com"),
    "a web address": ("x.org/a", "https://example.com/a?b=c"),
    "words of a sentence": ("to be", "to be or", "Meet me at noon."),
    "encoded text": ("c2VjcmV0Cg==", "aGVsbG8gd29ybGQhIQ=="),
}


def cautions(plan: Plan) -> tuple[str, ...]:
    """One line for each open dimension whose pattern takes what looks like content, with what it takes."""
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
