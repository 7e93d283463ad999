"""Later versions of the plan that `running` serves."""

from __future__ import annotations

from tests.plans import with_field
from tests.service.running_service import PLAN


def changed(version: int = 2, **fields: object) -> str:
    """The plan with some fields changed, by path with `__`; `...` removes one."""
    text = with_field(with_field(PLAN, ("version",), version), ("metrics", "short_lived"), ...)
    for path, value in fields.items():
        text = with_field(text, tuple(path.split("__")), value)
    return text
