"""The whole service in one process: workers with their servers on one event loop, and the sealer on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from hushmeter.errors import ConfigError
from hushmeter.service.deployment.access_rules import AccessRules
from hushmeter.service.deployment.context import Context
from hushmeter.service.deployment.meters import Meters
from hushmeter.service.deployment.serving_times import Presence
from hushmeter.service.door.gate import Gate
from hushmeter.service.door.server import Server
from hushmeter.service.door.tls import Tls
from hushmeter.service.intake.intake import Intake
from hushmeter.service.sealer.sealer import Sealer

_LOOPBACK = "127.0.0.1"
_WORKERS = "workers"


@dataclass(frozen=True, slots=True)
class _Served:
    """One worker and its server, which would be a process of `hushmeter serve`."""

    intake: Intake
    server: Server

    async def stop(self) -> None:
        await self.server.stop()
        await self.intake.stop()


@contextlib.contextmanager
def serving(
    context: Context, rules: AccessRules | None = None, tls: Tls | None = None, *, workers: int = 1, seals: bool = True
) -> Iterator[tuple[str, ...]]:
    """Serves a deployment for as long as the block lasts, and closes its store at the end.

    These are the parts of `hushmeter serve`, without its processes.

    Args:
        context: the deployment.
        rules: what is asked of those who come in; nothing by default.
        tls: what the service proves itself with; None for plain text.
        workers: how many; each has a free loopback port of its own.
        seals: whether a sealer runs; where none does, the caller has one of its own.

    Yields:
        `host:port` of each worker.

    Raises:
        ConfigError: the service did not start.
    """
    presence = Presence(context.store, context.clock)
    with contextlib.ExitStack() as parts:
        on_loop = parts.enter_context(_looping())
        parts.callback(context.store.close)
        served: list[_Served] = []
        try:
            for _ in range(workers):
                served.append(on_loop(lambda: _started(context, rules, tls)))  # noqa: PERF401
        except Exception as error:
            for one in reversed(served):
                on_loop(one.stop)
            raise ConfigError("the service did not start") from error
        presence.up(_WORKERS)
        if seals:
            parts.enter_context(_sealing(context))
        parts.callback(presence.down, _WORKERS)
        for one in reversed(served):
            parts.callback(on_loop, one.stop)
        yield tuple(f"{_LOOPBACK}:{one.server.port}" for one in served)


async def _started(context: Context, rules: AccessRules | None, tls: Tls | None) -> _Served:
    meters = Meters()
    intake = Intake(context, meters, rules)
    gate = Gate(context.store, context.clock, meters, intake.rules)
    server = Server(context, meters, intake, f"{_LOOPBACK}:0", gate, tls)
    await intake.start()
    await server.start()
    return _Served(intake, server)


@contextlib.contextmanager
def _looping() -> Iterator[Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]]:
    """An event loop on a thread of its own; yields what calls a function there and waits for its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="service", daemon=True)
    thread.start()
    try:
        yield lambda call: asyncio.run_coroutine_threadsafe(call(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def _sealing(context: Context) -> Iterator[None]:
    """Runs a sealer on a thread of its own."""
    sealer = Sealer(context, Meters())
    thread = threading.Thread(target=sealer.run, name="sealer")
    thread.start()
    try:
        yield
    finally:
        sealer.stop()
        thread.join()
