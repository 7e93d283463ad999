"""The whole service in one process: a worker, its server, and the sealer on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

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


class EmbeddedService:
    """Serves a deployment for as long as it is entered; the same parts as `hushmeter serve`, without its processes.

    Args:
        context: the deployment.
        listen: `host:port`; port 0 takes a free one.
        rules: what is asked of those who come in; nothing by default.
        tls: what the service proves itself with; None for plain text.
    """

    def __init__(
        self, context: Context, listen: str = "127.0.0.1:0", rules: AccessRules | None = None, tls: Tls | None = None
    ) -> None:
        self._context = context
        self._meters = Meters()
        self._intake = Intake(context, self._meters, rules)
        self.sealer = Sealer(context, self._meters)
        self._sealing = threading.Thread(target=self.sealer.run, name="sealer")
        gate = Gate(context.store, context.clock, self._meters, self._intake.rules)
        self._server = Server(context, self._meters, self._intake, listen, gate, tls)
        self.port = self._server.port
        self._presence = Presence(context.store, context.clock)

    async def __aenter__(self) -> EmbeddedService:
        await self._intake.start()
        await self._server.start()
        self._presence.up("worker")
        self._sealing.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()
        await self._intake.stop()
        self._presence.down("worker")
        self.sealer.stop()
        self._sealing.join()
        self._context.store.close()


@contextmanager
def serving(context: Context, rules: AccessRules | None = None, tls: Tls | None = None) -> Iterator[int]:
    """Serves on a free loopback port, on an event loop of its own thread, for as long as the block lasts; yields the port.

    Arguments are those of `EmbeddedService`.

    Raises:
        ConfigError: the service did not start.
    """
    started: list[int] = []
    failed: list[BaseException] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with EmbeddedService(context, rules=rules, tls=tls) as service:
            started.append(service.port)
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except Exception as error:
            failed.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="service")
    thread.start()
    ready.wait()
    if not started:
        thread.join()
        raise ConfigError("the service did not start") from failed[0]
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
