"""A deployment that releases hours, with its backup; one of them was left behind by a plan that its backup lacks."""

from __future__ import annotations

from pathlib import Path

from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.states import WindowState
from hushmeter.model.time import HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.deployment import restoring
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.service.deployment.plan_change import apply_plan
from hushmeter.testing.clock import FakeClock
from hushmeter.testing.mechanisms import ExactMechanisms
from tests.service.deployment_by_hand import PLAN, H, Hand, capped, sealer_of

CAPPED = capped("1h: 100")
ENDED = (WindowState.RELEASED, WindowState.LOST)


class DeploymentWithBackup:
    """A deployment in directories of its own, its backup, and its clock."""

    def __init__(self, directory: Path, plan: str = PLAN) -> None:
        self.directory = directory
        self.plan: str | None = plan
        self.keys, self.backup = directory / "keys", directory / "backup"
        self.clock = FakeClock(H)
        self.context = self.open(directory / "state")

    def open(self, state: Path) -> Context:
        """Founds or opens a state with the one key ring."""
        return open_context(Config(state_dir=state, keys_dir=self.keys), self.clock, ExactMechanisms(), self.plan)

    def release(self, hours: int, value: int = 1) -> None:
        """Lets so many hours pass, each with a report of one unit that has agreed, and released at its deadline."""
        for _ in range(hours):
            hour = self.clock.now_ms() - (self.clock.now_ms() - H) % HOUR_MS
            self.clock.set(hour + 40 * MINUTE_MS)
            hand = Hand(self.context)
            hand.decide("u")
            self.clock.set(hour + 45 * MINUTE_MS)
            assert len(hand.send("u", self.clock.now_ms(), value).admitted) == 1
            hand.segments.retire()
            self.clock.set(hour + HOUR_MS + 10 * MINUTE_MS)
            sealer_of(self.context).run_due()

    def back_up(self) -> None:
        """Writes the backup."""
        self.context.store.back_up(self.backup)

    def restore(self, name: str = "restored", keys: Path | None = None) -> restoring.Restored:
        """Restores the backup and goes on with it."""
        config = Config(state_dir=self.directory / name, keys_dir=keys or self.keys)
        done = restoring.restore(self.backup, config, self.clock, ExactMechanisms())
        self.keys = config.keys
        self.context = self.open(config.state_dir)
        return done


def charged(context: Context) -> set[tuple[str, int]]:
    """Windows that the ledger charges, whose chain and budget hold."""
    verify_budget(verify_chain(context.store.ledger()), context.deployment.budget)
    fields = [entry.fields for entry in context.store.ledger()]
    return {(str(f["resolution"]), int(str(f["window_start_ms"]))) for f in fields}


WEEKLY = PLAN.replace("1d: {lateness: 1h}", "1w: {lateness: 1h}").replace("    per_unit", "    at: [1w]\n    per_unit")
HOURLY = WEEKLY.replace("version: 1", "version: 2").replace("at: [1w]", "at: [1h]")


def left_behind(directory: Path) -> tuple[DeploymentWithBackup, int]:
    """A deployment that released by the hour for most of a period, and whose backup has the plan that pays by the week."""
    machine = DeploymentWithBackup(directory, WEEKLY)
    machine.back_up()
    applied = apply_plan(machine.context.store, ExactMechanisms(), HOURLY, "next-period", machine.clock.now_ms())
    period = applied.version.active_from_ms
    machine.clock.set(period + 50 * MINUTE_MS)
    sealer_of(machine.context).run_due()
    machine.clock.set(period + WEEK_MS - 2 * HOUR_MS)
    sealer_of(machine.context).run_due()
    return machine, period
