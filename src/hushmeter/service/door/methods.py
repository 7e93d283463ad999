"""Methods as gRPC wants them, from functions of ours: parsed requests, deterministic answers, errors as their statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from hushmeter import errors
from hushmeter.service.door.statuses import refuse


def unary(
    method: Callable[[Any], Awaitable[Any]], request: type[Message] | None, response: type[Message] | None
) -> grpc.RpcMethodHandler[Any, Any]:
    """A unary method whose errors become their statuses, malformed requests included.

    Args:
        method: from a request to its answer.
        request: its type; None for the bytes themselves.
        response: type of the answer; None for the bytes themselves.
    """

    async def answer(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(_parsed(request, message))
        except Exception as error:
            await refuse(context, error)

    return grpc.unary_unary_rpc_method_handler(answer, None, response and _bytes_of)


def streamed(
    method: Callable[[Any], AsyncIterator[Message]], request: type[Message], response: type[Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that answers one request with a stream; as `unary` otherwise."""

    async def answer(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
        try:
            async for item in method(_parsed(request, message)):
                yield item
        except Exception as error:
            await refuse(context, error)

    return grpc.unary_stream_rpc_method_handler(answer, None, _bytes_of)


def both_streamed(
    method: Callable[[AsyncIterator[bytes]], AsyncIterator[Any]], response: type[Message] | None
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method from a stream of messages, as bytes, to a stream of answers; as `unary` otherwise."""

    async def answer(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for item in method(messages):
                yield item
        except Exception as error:
            await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(answer, None, response and _bytes_of)


def _parsed(request: type[Message] | None, message: bytes) -> Message | bytes:
    if request is None:
        return message
    try:
        return request.FromString(message)
    except DecodeError:
        text = "the message is not a valid protobuf message of this method; nothing of it was taken"
        raise errors.MalformedMessage(text) from None


def _bytes_of(answer: Message) -> bytes:
    """An answer as bytes that its content alone decides: entries of maps are sorted, whichever process answers (R4)."""
    return answer.SerializeToString(deterministic=True)


_T = TypeVar("_T")


_M = TypeVar("_M")


async def in_chunks(items: Iterator[_T], message: Callable[[_T], _M], most: int) -> AsyncIterator[list[_M]]:
    """Messages of items, some at a time, made on a thread."""

    def take() -> list[_M]:
        chunk: list[_M] = []
        for item in items:
            chunk.append(message(item))
            if len(chunk) == most:
                break
        return chunk

    while chunk := await asyncio.to_thread(take):
        yield chunk
