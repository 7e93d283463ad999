"""One table from errors to gRPC status, with google.rpc details where a client can act on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from hushmeter import errors
from hushmeter.service.logs import told

T = TypeVar("T")
RETRY_AFTER_S = 1

_STATUS: dict[type[errors.HushmeterError], grpc.StatusCode] = {
    errors.MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ConsentRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.QueryRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LeaseLost: grpc.StatusCode.UNAVAILABLE,
    errors.KeyUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Failure: grpc.StatusCode.UNAVAILABLE,
    errors.StateConflict: grpc.StatusCode.ABORTED,
    errors.Refusal: grpc.StatusCode.FAILED_PRECONDITION,
}
_RETRYABLE = (errors.Overloaded, errors.Failure)
_log = structlog.get_logger("hushmeter.service")


def status_of(error: errors.HushmeterError) -> grpc.StatusCode:
    """The gRPC status of an error: that of the nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return grpc.StatusCode.INTERNAL


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """Ends a call with an error's status, its text, its kind as ErrorInfo, and RetryInfo where trying again helps.

    A defect's text may hold values of a report, so nobody is told more than that there was one.
    """
    code = status_of(error) if isinstance(error, errors.HushmeterError) else grpc.StatusCode.INTERNAL
    text = str(error) if code is not grpc.StatusCode.INTERNAL else "internal error; the operator's log says more"
    if code is grpc.StatusCode.INTERNAL:
        _log.error("internal error", **told(error))
    reason = type(error).__name__ if code is not grpc.StatusCode.INTERNAL else "InternalError"
    details = [ErrorInfo(reason=reason, domain="hushmeter")]
    retry = [RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_S))] if isinstance(error, _RETRYABLE) else []
    status = Status(code=code.value[0], message=text)
    for detail in (*details, *retry):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, text, trailing_metadata=metadata)
    raise AssertionError  # abort always raises


def answering(
    method: Callable[..., Awaitable[T]],
) -> Callable[..., Awaitable[T]]:
    """Wraps a unary method so that errors become their statuses."""

    async def wrapped(self: object, request: object, context: grpc.aio.ServicerContext[Any, Any]) -> T:
        try:
            return await method(self, request, context)
        except Exception as error:
            await refuse(context, error)

    return wrapped


def streaming(
    method: Callable[..., AsyncIterator[T]],
) -> Callable[..., AsyncIterator[T]]:
    """Wraps a streaming method so that errors become their statuses."""

    async def wrapped(self: object, request: object, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[T]:
        try:
            async for answer in method(self, request, context):
                yield answer
        except Exception as error:
            await refuse(context, error)

    return wrapped
