"""What the sealer does when something happens between two of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hushmeter import limits
from hushmeter.errors import Failure, KeyGone
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from hushmeter.service.context import Context
from hushmeter.testing.clock import FakeClock
from tests.service.by_hand import PLAN, H, Hand, opened, sealer_of, sums, windows


class Between:
    """Something of the deployment's, with something that happens before or after one of its calls.

    Args:
        of: what is called.
        call: the name of the call.
        before, after: what happens.
    """

    def __init__(
        self, of: object, call: str, *, before: Callable[[], object] = int, after: Callable[[], object] = int
    ) -> None:
        self._of, self._call, self._before, self._after = of, call, before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name != self._call:
            return found

        def called(*arguments: Any) -> Any:
            self._before()
            answer = found(*arguments)
            self._after()
            return answer

        return called


def hour_of_two(context: Context, clock: FakeClock) -> Hand:
    """Two units, with 1 and 10 starts in the first hour, whose deadline has come."""
    hand = Hand(context)
    hand.decide("u", "v")
    clock.set(H + 30 * MINUTE_MS)
    assert [len(hand.send(unit, H + 30 * MINUTE_MS, value).admitted) for unit, value in (("u", 1), ("v", 10))] == [1, 1]
    clock.set(H + HOUR_MS + 10 * MINUTE_MS)
    hand.segments.tick()
    return hand


def test_a_withdrawal_while_a_window_is_sealed_reaches_it(tmp_path: Path) -> None:
    """A unit that withdraws after its rows were read and before they are published is not in the release (P8)."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand, read = hour_of_two(context, clock), 0

    def withdraw() -> None:
        nonlocal read
        read += 1
        if read == 1:
            hand.decide("v", given=False)

    sealer_of(replace(context, log=Between(context.log, "read", after=withdraw))).run_due()
    assert (sums(context, "1h"), read) == ({0: 1}, 2)


def test_withdrawals_without_end_hold_no_window_up(tmp_path: Path) -> None:
    """Where somebody withdraws during every sealing, the last one that a window is given is published."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand, read = hour_of_two(context, clock), 0

    def withdraw() -> None:
        nonlocal read
        read += 1
        hand.decide(f"somebody {read}", given=False)

    sealer_of(replace(context, log=Between(context.log, "read", after=withdraw))).run_due()
    assert (sums(context, "1h"), read) == ({0: 11}, limits.SEALINGS_MAX)


def test_new_consent_while_a_window_is_sealed_changes_nothing(tmp_path: Path) -> None:
    """Consent that is given during sealing does not reach back, so that nothing is sealed again for it."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand, read = hour_of_two(context, clock), 0

    def agree() -> None:
        nonlocal read
        read += 1
        hand.decide("w")

    sealer_of(replace(context, log=Between(context.log, "read", after=agree))).run_due()
    assert (sums(context, "1h"), read) == ({0: 11}, 1)


KEPT = PLAN.replace("per_unit: {range: [0, 100]}", "per_unit: {range: [0, 100], max_windows: {1h: 2}}")


@pytest.mark.parametrize("failing", ["destroy", "forget_kept_windows"])
def test_a_period_dies_though_its_destruction_failed(tmp_path: Path, failing: str) -> None:
    """Key and kept windows of a period are destroyed by a later round, also of another process, where one failed (P3)."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock, KEPT)
    hour_of_two(context, clock)
    sealer_of(context).run_due()
    assert context.store.kept_windows("starts", "1h", H) is not None

    def refuse() -> None:
        raise Failure("the disk refused")

    broken = replace(
        context,
        keys=Between(context.keys, failing, before=refuse),
        store=Between(context.store, failing, before=refuse),
    )
    clock.set(H + WEEK_MS + 2 * DAY_MS)
    with pytest.raises(Failure):
        sealer_of(broken).run_due()
    assert context.keys.get(f"period/{H}")
    assert windows(context, WindowState.CLOSING, WindowState.SEALED) == []
    sealer_of(context).run_due()
    with pytest.raises(KeyGone):
        context.keys.get(f"period/{H}")
    assert context.store.kept_windows("starts", "1h", H) is None


def test_a_paused_sealer_buries_nobody(tmp_path: Path) -> None:
    """A worker that beats is not declared dead because the sealer stood still between the clock and the beats."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)

    def pause() -> None:
        clock.advance(round(3 * limits.LEASE_S * 1000))
        hand.segments.tick()

    for call in ({"before": pause}, {"after": pause}):
        sealer = sealer_of(replace(context, store=Between(context.store, "beats", **call)))
        for _ in range(3):
            sealer.run_due()
            hand.segments.tick()
        assert len(context.store.beats()) == 1


def test_a_window_whose_key_died_with_its_worker_is_lost_by_name(tmp_path: Path) -> None:
    """Where a dead worker's segment cannot be read because its key is gone, its window ends LOST, and later ones go on."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    hand = Hand(context)
    hand.decide("u")
    clock.set(H + 30 * MINUTE_MS)
    hand.send("u", H + 30 * MINUTE_MS)
    context.keys.destroy(f"data/{H}")
    sealer = sealer_of(context)
    sealer.run_due()
    clock.advance(2 * HOUR_MS)
    sealer.run_due()
    assert windows(context, WindowState.LOST) == [("1h", 0)]
    assert windows(context, WindowState.RELEASED) == [("1h", 1)]
    assert context.store.beats() == {}


def test_completeness_is_told_in_whole_percents(tmp_path: Path) -> None:
    """How long somebody served is told so coarsely that no beat shows in it (R1)."""
    found = []
    for pause_s in (0, 1):
        clock = FakeClock(H)
        context = opened(tmp_path / str(pause_s), clock)
        clock.advance(20 * MINUTE_MS + pause_s * 1000)
        hand = Hand(context)
        clock.advance(30 * MINUTE_MS - pause_s * 500)
        hand.segments.tick()
        clock.advance(H + HOUR_MS + 10 * MINUTE_MS - clock.now_ms())
        sealer_of(context).run_due()
        found += [release.completeness for _, release in context.store.releases("starts", (), "1h", 0, 2**61)]
    assert found == [0.5, 0.5]
