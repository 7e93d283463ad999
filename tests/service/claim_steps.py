"""A deployment with a window that is due, stopped at any step of its claim, and all noise that was drawn for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from hushmeter.ledger.entries import verify_budget, verify_chain
from hushmeter.model.states import WindowState
from hushmeter.model.time import MINUTE_MS
from hushmeter.noise.opendp import OpenDPMechanisms
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.opening import open_context
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import HOUR_DUE, PLAN, H, Hand, capped, windows

CAPPED = capped("1h: 100")
STEPS, AFTER_CLAIM, AFTER_DRAWN = 16, 1, 11
"""Steps of a publication, see `watched`; from which one on the window is claimed, and from which one on DRAWN."""


class Dead(BaseException):
    """The process is killed: nothing catches it."""


def kill() -> None:
    """Kills the process."""
    raise Dead


class Drawn(OpenDPMechanisms):
    """Real noise, all of which is remembered."""

    def __init__(self) -> None:
        self.draws: list[bytes] = []

    def draw(self, vectors, selections=()):  # type: ignore[no-untyped-def]
        noisy, chosen = super().draw(vectors, selections)
        if vectors:
            self.draws.append(b"".join(v.values.tobytes() for v in noisy))
        return noisy, chosen


class Steps:
    """Something before the so many-th of whose named calls a thing happens; as many objects as are watched share the count.

    Args:
        happens: what, and it may raise.
        at: number of the call, from 0; -1 for never.
    """

    def __init__(self, happens: Callable[[], object], at: int) -> None:
        self._happens, self._at = happens, at
        self.taken = 0

    def __call__(self) -> None:
        self.taken += 1
        if self.taken == self._at + 1:
            self._happens()

    def over(self, real: object, *names: str, after: bool = False) -> object:
        """A double of an object: before each of the named methods a step is taken, or after it as well."""
        return _Watched(real, self, names, after)


class _Watched:
    def __init__(self, real: object, steps: Steps, names: tuple[str, ...], after: bool) -> None:
        self._real, self._steps, self._names, self._after = real, steps, names, after

    def __getattr__(self, name: str) -> object:
        method = getattr(self._real, name)
        if name not in self._names:
            return method

        def call(*arguments: object, **named: object) -> object:
            self._steps()
            result = method(*arguments, **named)
            if self._after:
                self._steps()
            return result

        return call


def watched(context: Context, steps: Steps) -> Context:
    """The context of a process that may be stopped at every step of a claim, before and after it."""
    return dataclasses.replace(
        context,
        keys=steps.over(context.keys, "swap", after=True),
        store=steps.over(context.store, "publish", "mark_lost", after=True),
        publications=steps.over(context.publications, "put", "clear", after=True),
        mechanisms=steps.over(context.mechanisms, "draw", after=True),
    )


@dataclasses.dataclass
class DueDeployment:
    """A deployment in which one unit has reported in the first hour, which is due."""

    directory: Path
    plan: str = PLAN
    clock: FakeClock = dataclasses.field(default_factory=lambda: FakeClock(H))
    noise: Drawn = dataclasses.field(default_factory=Drawn)
    context: Context = dataclasses.field(default=None, init=False)  # type: ignore[arg-type]

    @classmethod
    def founded(cls, directory: Path, plan: str = PLAN) -> DueDeployment:
        """Founds it."""
        made = cls(directory, plan)
        made.context = made.open("state")
        hand = Hand(made.context)
        made.clock.advance(MINUTE_MS)
        hand.decide("u")
        made.context.answered()
        made.clock.set(H + 30 * MINUTE_MS)
        assert len(hand.send("u", made.clock.now_ms(), 50).admitted) == 1
        hand.segments.retire()
        made.clock.set(HOUR_DUE)
        return made

    def open(self, name: str, *, serves: bool = True) -> Context:
        """Opens a state with the deployment's keys."""
        config = Config(state_dir=self.directory / name, keys_dir=self.directory / "keys")
        return open_context(config, self.clock, self.noise, self.plan, serves=serves)


def published(context: Context) -> list[bytes]:
    """Released values, one a window, as the mechanism drew them."""
    return [
        b"".join(v.values.tobytes() for v in release.vectors.values())
        for resolution in ("1h", "1d")
        for _, release in context.store.releases("starts", (), resolution, 0, 2**61)
    ]


def ensure_sound(context: Context) -> None:
    """The ledger holds, the record is the state's, and nothing is claimed."""
    verify_budget(verify_chain(context.store.ledger()), context.deployment.budget)
    record = context.keys.record()
    assert record is not None
    assert record.claim is None
    assert record.head == context.store.ledger_head(context.deployment.deployment_id)


def ensure_one_noise(machine: DueDeployment, context: Context) -> None:
    """The first hour has ended with the one noise that was drawn for it, or LOST, charged and with none."""
    released, lost = windows(context, WindowState.RELEASED), windows(context, WindowState.LOST)
    assert released + lost == [("1h", 0)]
    assert len(machine.noise.draws) <= 1
    values = published(context)
    assert len(values) == len(released)
    # Built-in metrics are drawn together with this one.
    assert all(v in machine.noise.draws[0] for v in values)
    charged = {(e.fields["resolution"], e.fields["window_start_ms"]) for e in context.store.ledger()}
    assert charged == {("1h", H)}
    ensure_sound(context)
