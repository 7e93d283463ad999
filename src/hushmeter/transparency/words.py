"""How the record is written, and its numbers in words."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class RecordFormat(StrEnum):
    """How the record is written."""

    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


def people(estimate: Mapping[str, Any]) -> str:
    """A number of people with its 95 % interval; less than nobody is shown as nobody (E3)."""
    low, high = (max(0.0, float(end)) for end in estimate["interval_95"])
    return f"about {max(0.0, float(estimate['value'])):,.0f} ({low:,.0f} to {high:,.0f})"
