"""A worker without a server: it starts, is asked by the test, and stops in good order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hushmeter.model.consent import Decision
from hushmeter.model.plan import Purpose
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.intake.intake import Intake

YES = [Decision(bytes(16), "tuning", True, 0, Purpose("tuning", "Tune models.").text_hash)]
NO = [Decision(bytes(16), "tuning", False, 0)]
"""What a unit decides about the one purpose of a `deployment_by_hand`."""


@asynccontextmanager
async def working(context: Context, rules: AccessRules | None = None) -> AsyncIterator[Intake]:
    """A worker that has started, and stops in good order."""
    worker = Intake(context, Meters(), rules)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
