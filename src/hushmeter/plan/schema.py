"""The JSON Schema of plan files, for editors."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hushmeter.plan.file import PlanFile


class _PlainNumbers(GenerateJsonSchema):
    """A schema whose exact numbers are numbers: pydantic also allows text for them, which plan files may not hold."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """The number among the alternatives."""
        alternatives = super().decimal_schema(schema)["anyOf"]
        number: JsonSchemaValue = next(a for a in alternatives if a["type"] == "number")
        return number

    def encode_default(self, dft: Any) -> Any:
        """A default as it is written in a plan."""
        return int(dft) if isinstance(dft, Decimal) and dft == int(dft) else super().encode_default(dft)


def plan_json_schema() -> dict[str, Any]:
    """The schema, with a description of every field."""
    schema = PlanFile.model_json_schema(schema_generator=_PlainNumbers)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hushmeter telemetry plan"}
