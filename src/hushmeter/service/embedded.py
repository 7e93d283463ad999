"""The whole service in one process: a worker, its server, and the sealer on a thread of its own."""

from __future__ import annotations

import threading
from types import TracebackType

from hushmeter.service.context import Context
from hushmeter.service.meters import Meters
from hushmeter.service.sealer import Sealer
from hushmeter.service.server import Server
from hushmeter.service.worker import IntakeWorker


class EmbeddedService:
    """Serves a deployment for as long as it is entered; the same parts as `hushmeter serve`, without its processes.

    Args:
        context: the deployment.
        listen: `host:port`; port 0 takes a free one.
    """

    def __init__(self, context: Context, listen: str = "127.0.0.1:0") -> None:
        self._context = context
        self._meters = Meters()
        self._worker = IntakeWorker(context, self._meters)
        self.sealer = Sealer(context, self._meters)
        self._sealing = threading.Thread(target=self.sealer.run, name="sealer")
        self._server = Server(context, self._worker, listen)
        self.port = self._server.port

    async def __aenter__(self) -> EmbeddedService:
        await self._worker.start()
        await self._server.start()
        self._sealing.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()
        await self._worker.stop()
        self.sealer.stop()
        self._sealing.join()
        self._context.store.close()
