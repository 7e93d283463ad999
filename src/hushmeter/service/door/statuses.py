"""One table from errors to gRPC status, with google.rpc details where a client can act on them."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from hushmeter import errors
from hushmeter.service.deployment.logs import fields_of

RETRY_AFTER_S = 1

_STATUS: dict[type[errors.HushmeterError], grpc.StatusCode] = {
    errors.MalformedMessage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ConsentRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.QueryRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LeaseLost: grpc.StatusCode.UNAVAILABLE,
    errors.ReleaseAltered: grpc.StatusCode.DATA_LOSS,
    errors.KeyUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Failure: grpc.StatusCode.UNAVAILABLE,
    errors.StateConflict: grpc.StatusCode.ABORTED,
    errors.Refusal: grpc.StatusCode.FAILED_PRECONDITION,
}
_AT_HOME = (errors.Failure, errors.ConfigError, errors.StateConflict)
"""Their texts name files and directories of the service's machine: they are for its operator, and go to the log."""
_ALTERED = (
    "a stored release is missing, or is not the one that the ledger names, so that no answer would be the whole one; the "
    "operator's log names it: ask for a time range without it, or again once the state was put back"
)
_FOR_ALL = (errors.CredentialsUnread,)
_RETRYABLE = (errors.Overloaded, errors.RateLimited, errors.Failure)
_log = structlog.get_logger("hushmeter.service")


def status_of(error: errors.HushmeterError) -> grpc.StatusCode:
    """The gRPC status of an error: that of the nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return grpc.StatusCode.INTERNAL


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """Ends a call with an error's status, its text, its kind as ErrorInfo, and RetryInfo where trying again helps.

    A defect's text may hold values of a report, and a failure's the names of files, so callers learn only that there was
    one.

    Privacy:
        Text, details and delay are constants of the error's kind wherever it can come of what others sent (R4).
    """
    code = status_of(error) if isinstance(error, errors.HushmeterError) else grpc.StatusCode.INTERNAL
    text = str(error)
    if code is grpc.StatusCode.INTERNAL:
        text = "internal error; the operator's log says more"
        _log.error("internal error", **fields_of(error))
    elif isinstance(error, errors.ReleaseAltered):
        text = _ALTERED
        _log.error("a release was altered", **fields_of(error))
    elif isinstance(error, _AT_HOME) and not isinstance(error, _FOR_ALL):
        text = (
            "the service cannot do this at the moment, and may have recorded a part of it; send the same again later, "
            "for nothing counts twice; its operator's log says more"
        )
        _log.warning("a call failed", **fields_of(error))
    reason = type(error).__name__ if code is not grpc.StatusCode.INTERNAL else "InternalError"
    details = [ErrorInfo(reason=reason, domain="hushmeter")]
    retryable = isinstance(error, _RETRYABLE) and not isinstance(error, errors.ReleaseAltered)
    retry = [RetryInfo(retry_delay=_retry_after(error))] if retryable else []
    status = Status(code=code.value[0], message=text)
    for detail in (*details, *retry):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, text, trailing_metadata=metadata)
    raise AssertionError  # abort always raises


def _retry_after(error: Exception) -> Duration:
    pause = Duration()
    after_s = error.retry_after_s if isinstance(error, errors.Overloaded | errors.RateLimited) else RETRY_AFTER_S
    pause.FromNanoseconds(round(1e9 * after_s))
    return pause
