"""Plan files that are valid but for what a test changes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import yaml

from hushmeter.plan.template import plan_template
from tests.plans import with_field

TODAY = dt.date(2026, 3, 2)
TEMPLATE = plan_template(TODAY)
M = ("metrics", "call_setup")
CODEC = yaml.safe_load(TEMPLATE)["metrics"]["codec"]
RATIO = {k: v for k, v in CODEC.items() if k != "options"} | {
    "kind": "ratio",
    "unit": "errors",
    "statistics": ["ratio"],
    "per_unit": {"range": [0, 9], "max_denominator": 5},
}
"""A ratio that is valid in place of `codec`."""


def edited(path: tuple[str | int, ...], value: Any) -> str:
    """The template with one field changed; `...` removes it."""
    return with_field(TEMPLATE, path, value)
