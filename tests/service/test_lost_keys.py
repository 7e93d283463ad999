"""A key that is gone costs the windows over its hour, by name, and nobody else anything (P1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from hushmeter import limits
from hushmeter.errors import KeyGone
from hushmeter.model.key_names import data_key, period_key
from hushmeter.model.states import WindowState
from hushmeter.model.time import DAY_MS, HOUR_MS, MINUTE_MS
from hushmeter.patience import await_true
from hushmeter.service.deployment.config import Config
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.key_opening import open_keys
from hushmeter.testing.clock import FakeClock
from tests.service.deployment_by_hand import H, Hand, opened, sealer_of, sums, windows
from tests.service.harness import QUICK_PLAN, agree, read, serving, states, submitted
from tests.service.reported_hours import reported


def _destroy(_: Path, context: Context) -> None:
    context.keys.destroy(data_key(H))


def _file(state_dir: Path, name: str) -> Path:
    return Config(state_dir=state_dir).keys / f"{name}.key"


def _lose(state_dir: Path, _: Context) -> None:
    _file(state_dir, data_key(H)).unlink()


def _cut(state_dir: Path, _: Context) -> None:
    path = _file(state_dir, data_key(H))
    path.write_bytes(path.read_bytes()[:-1])


def _flip(state_dir: Path, _: Context) -> None:
    path = _file(state_dir, data_key(H))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def _replace(state_dir: Path, context: Context) -> None:
    """A key of the same name that the same master key opens."""
    _file(state_dir, data_key(H)).unlink()
    open_keys(Config(state_dir=state_dir), new=False).get_or_create(data_key(H))


@pytest.mark.parametrize("gone", [_destroy, _lose, _cut, _flip, _replace])
def test_a_dead_workers_hour_without_its_key_is_lost_alone(tmp_path: Path, gone: Callable[[Path, Context], None]) -> None:
    """The hour of a worker that died, and its day, end LOST; other windows are released in time."""
    context, clock, _ = reported(tmp_path, [("u", 1)], hours=1)
    gone(tmp_path, context)
    sealer = sealer_of(context)
    sealer.run_due()
    clock.advance(0, monotonic_s=limits.LEASE_S)
    sealer.run_due()
    living = Hand(context)
    clock.set(H + HOUR_MS + 30 * MINUTE_MS)
    assert len(living.send("u", clock.now_ms(), 7).admitted) == 1
    clock.set(H + DAY_MS + HOUR_MS)
    living.segments.tick()
    sealer.run_due()
    assert windows(context, WindowState.LOST) == [("1h", 0), ("1d", 0)]
    assert windows(context, WindowState.CLOSING, WindowState.FIXED) == []
    assert sums(context, "1h") == {1: 7}


def test_an_open_hour_without_its_key_is_lost_after_a_restart(tmp_path: Path) -> None:
    """A worker died, its hour's key is missing, and another worker takes reports for the same hour: nothing is released."""
    context, clock, _ = reported(tmp_path, [("u", 5)], hours=1)
    _lose(tmp_path, context)
    context.store.close()
    context = opened(tmp_path, clock)
    living = Hand(context)
    with pytest.raises(KeyGone, match=f"no key data/{H} "):
        living.send("u", clock.now_ms(), 7)
    clock.set(H + HOUR_MS + 30 * MINUTE_MS)
    living.send("u", clock.now_ms(), 9)
    sealer = sealer_of(context)
    sealer.run_due()
    clock.advance(DAY_MS, monotonic_s=limits.LEASE_S)
    living.segments.enlist()
    for _ in range(2):
        sealer.run_due()
        clock.advance(0, monotonic_s=limits.LEASE_S)
    assert windows(context, WindowState.LOST) == [("1h", 0), ("1d", 0)]
    assert sums(context, "1h") == {1: 9}


def test_a_period_without_its_key_is_lost_alone(tmp_path: Path) -> None:
    """Its windows end LOST for that reason, one after another; its reports are refused, and the next period goes on."""
    context, clock, hand = reported(tmp_path, [("u", 1)], hours=1)
    _file(tmp_path, period_key(H)).unlink()
    clock.set(H + 90 * MINUTE_MS)
    with pytest.raises(KeyGone, match=f"no key period/{H} "):
        hand.send("u", clock.now_ms())
    hand.segments.tick()
    sealer = sealer_of(context)
    with capture_logs() as logs:
        sealer.run_due()
    assert windows(context, WindowState.LOST) == [("1h", 0)]
    assert any(f"no key period/{H} " in str(line.get("error")) for line in logs)
    clock.set(H + 7 * DAY_MS + 30 * MINUTE_MS)
    hand.send("u", clock.now_ms(), 3)
    clock.set(H + 7 * DAY_MS + 2 * HOUR_MS)
    hand.segments.tick()
    sealer.run_due()
    assert windows(context, WindowState.CLOSING, WindowState.FIXED) == []
    assert sums(context, "1h") == {7 * 24: 3}
    assert not _file(tmp_path, period_key(H)).exists()


@pytest.mark.parametrize("name", ["deployment", "unit-tokens", "signing"])
def test_a_key_of_the_deployment_is_never_made_anew(tmp_path: Path, name: str) -> None:
    """A start without it, or with another one, is refused by its name; with it, decisions are found as before."""
    clock = FakeClock(H)
    context = opened(tmp_path, clock)
    Hand(context).decide("u")
    key = context.keys.get_or_create(name)
    context.store.close()
    path, kept = _file(tmp_path, name), _file(tmp_path, name).read_bytes()
    path.unlink()
    with pytest.raises(KeyGone, match=f"no key {name} "):
        opened(tmp_path, clock)
    assert not path.exists()
    open_keys(Config(state_dir=tmp_path), new=False).get_or_create(name)
    with pytest.raises(KeyGone, match=f"key {name} is another one"):
        opened(tmp_path, clock)
    path.write_bytes(kept)
    assert opened(tmp_path, clock).keys.get(name) == key


@pytest.mark.parametrize("kind", ["deployment", "signing", "data", "period"])
def test_a_key_that_goes_under_a_running_service_is_missed(tmp_path: Path, kind: str) -> None:
    """What it sealed is LOST or refused, all else goes on, it is not made anew, and the next start says what is missing."""
    state = tmp_path / "state"
    with serving(state, plan=QUICK_PLAN) as service:
        service.context.keys.get_or_create("signing")
        agree(service, "u")
        service.clock.advance_to(H + 10 * MINUTE_MS)
        assert submitted(service, [service.starts("u", service.clock.now_ms(), 2)]).accepted == 1
        path = _file(state, kind if kind in {"deployment", "signing"} else f"{kind}/{H}")
        path.unlink()
        service.advance(H + 2 * HOUR_MS)
        sealed = kind in {"data", "period"}
        assert states(service, WindowState.LOST) == ([("1h", 0)] if sealed else [])
        assert read(service, "joins", "sum", "1h") == ({} if sealed else {(0,): 2})

        def refused() -> bool:
            """The worker holds a period's key until its next tick; what it takes until then is LOST like the rest."""
            try:
                submitted(service, [service.starts("u", service.clock.now_ms(), 3)])
            except grpc.RpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        if kind == "period":
            await_true(refused)
        else:
            assert not refused()
        assert not path.exists()
    again = partial(opened, state, FakeClock(service.clock.now_ms()), QUICK_PLAN)
    if sealed:
        again().store.close()
    else:
        with pytest.raises(KeyGone, match=f"no key {kind} "):
            again()
