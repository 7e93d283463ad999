"""Sends encoded requests over real sockets, many at once, and says how long each waited for its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from hushmeter.api.ingest.v1 import ingest_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["IngestService"].full_name


async def unary(target: str, messages: Sequence[bytes], at_once: int) -> list[float]:
    """Calls SubmitReports once a message; so many callers, each with a connection of its own, wait for their answers.

    Returns:
        Seconds that each call took.
    """
    queue, taken = iter(messages), list[float]()

    async def caller() -> None:
        async with grpc.aio.insecure_channel(target, options=_OWN_CONNECTION) as channel:
            submit = channel.unary_unary(f"/{_SERVICE}/SubmitReports", None, None)
            for message in queue:
                start = time.perf_counter()
                answer = pb.SubmitReportsResponse.FromString(await submit(message))
                taken.append(time.perf_counter() - start)
                assert answer.acknowledgement.accepted
                assert not answer.acknowledgement.rejections

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return taken


async def streamed(target: str, messages: Sequence[bytes], at_once: int) -> int:
    """Sends messages over so many streams, each as fast as the server reads; returns how many were acknowledged."""
    parts = [messages[i::at_once] for i in range(at_once)]

    async def stream(part: Sequence[bytes]) -> int:
        async def sent() -> AsyncIterator[bytes]:
            for message in part:
                yield message

        async with grpc.aio.insecure_channel(target, options=_OWN_CONNECTION) as channel:
            call: Any = channel.stream_stream(f"/{_SERVICE}/StreamReports", None, None)(sent())
            count = 0
            async for answer in call:
                acknowledgement = pb.StreamReportsResponse.FromString(answer).acknowledgement
                assert acknowledgement.accepted
                assert not acknowledgement.rejections
                count += 1
            return count

    return sum(await asyncio.gather(*(stream(part) for part in parts)))


_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
