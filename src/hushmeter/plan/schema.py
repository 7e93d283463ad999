"""The JSON Schema of plan files, for editors."""

from __future__ import annotations

from typing import Any

from hushmeter.plan.file import PlanFile


def plan_json_schema() -> dict[str, Any]:
    """The schema, with a description of every field."""
    schema = PlanFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hushmeter telemetry plan"}
