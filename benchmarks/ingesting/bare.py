"""A grpc.aio server whose handlers throw the bytes away and answer well: what any ingest in Python costs at least.

Run as a program, it prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from hushmeter.api.ingest.v1 import ingest_pb2 as pb

_ACKNOWLEDGEMENT = pb.Acknowledgement(accepted=100, server_time_ms=1_700_000_000_000, latest_plan_version=1)
_UNARY = pb.SubmitReportsResponse(acknowledgement=_ACKNOWLEDGEMENT).SerializeToString()
_STREAMED = pb.StreamReportsResponse(sequence=1, acknowledgement=_ACKNOWLEDGEMENT).SerializeToString()


async def submit(_message: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Answers one message."""
    return _UNARY


async def stream(messages: AsyncIterator[bytes], _context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    """Answers every message of a stream."""
    async for _ in messages:
        yield _STREAMED


async def serve() -> None:
    """Serves until its standard input ends."""
    server = grpc.aio.server()
    handlers = {
        "SubmitReports": grpc.unary_unary_rpc_method_handler(submit),
        "StreamReports": grpc.stream_stream_rpc_method_handler(stream),
    }
    name = pb.DESCRIPTOR.services_by_name["IngestService"].full_name
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(1)


if __name__ == "__main__":
    asyncio.run(serve())
