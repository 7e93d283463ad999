from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RejectionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECTION_REASON_UNSPECIFIED: _ClassVar[RejectionReason]
    REJECTION_REASON_MALFORMED: _ClassVar[RejectionReason]
    REJECTION_REASON_BAD_UNIT_ID: _ClassVar[RejectionReason]
    REJECTION_REASON_BAD_INTERVAL: _ClassVar[RejectionReason]
    REJECTION_REASON_IN_FUTURE: _ClassVar[RejectionReason]
    REJECTION_REASON_TOO_LATE: _ClassVar[RejectionReason]
    REJECTION_REASON_UNKNOWN_PLAN_VERSION: _ClassVar[RejectionReason]
    REJECTION_REASON_UNKNOWN_SERIES: _ClassVar[RejectionReason]
    REJECTION_REASON_VALUE_OUT_OF_RANGE: _ClassVar[RejectionReason]
    REJECTION_REASON_TOO_LARGE: _ClassVar[RejectionReason]
    REJECTION_REASON_NO_CONSENT: _ClassVar[RejectionReason]
    REJECTION_REASON_EXPIRED_METRIC: _ClassVar[RejectionReason]
    REJECTION_REASON_BAD_TOKEN: _ClassVar[RejectionReason]
    REJECTION_REASON_BAD_UNIT_TOKEN: _ClassVar[RejectionReason]
    REJECTION_REASON_RATE_LIMITED: _ClassVar[RejectionReason]
REJECTION_REASON_UNSPECIFIED: RejectionReason
REJECTION_REASON_MALFORMED: RejectionReason
REJECTION_REASON_BAD_UNIT_ID: RejectionReason
REJECTION_REASON_BAD_INTERVAL: RejectionReason
REJECTION_REASON_IN_FUTURE: RejectionReason
REJECTION_REASON_TOO_LATE: RejectionReason
REJECTION_REASON_UNKNOWN_PLAN_VERSION: RejectionReason
REJECTION_REASON_UNKNOWN_SERIES: RejectionReason
REJECTION_REASON_VALUE_OUT_OF_RANGE: RejectionReason
REJECTION_REASON_TOO_LARGE: RejectionReason
REJECTION_REASON_NO_CONSENT: RejectionReason
REJECTION_REASON_EXPIRED_METRIC: RejectionReason
REJECTION_REASON_BAD_TOKEN: RejectionReason
REJECTION_REASON_BAD_UNIT_TOKEN: RejectionReason
REJECTION_REASON_RATE_LIMITED: RejectionReason

class Report(_message.Message):
    __slots__ = ("report_id", "unit_id", "unit_token", "interval_start_ms", "interval_end_ms", "plan_version", "series", "value", "token", "point_token")
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_START_MS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_END_MS_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    POINT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    report_id: bytes
    unit_id: str
    unit_token: bytes
    interval_start_ms: int
    interval_end_ms: int
    plan_version: int
    series: _containers.RepeatedScalarFieldContainer[int]
    value: _containers.RepeatedScalarFieldContainer[int]
    token: _containers.RepeatedScalarFieldContainer[str]
    point_token: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, report_id: _Optional[bytes] = ..., unit_id: _Optional[str] = ..., unit_token: _Optional[bytes] = ..., interval_start_ms: _Optional[int] = ..., interval_end_ms: _Optional[int] = ..., plan_version: _Optional[int] = ..., series: _Optional[_Iterable[int]] = ..., value: _Optional[_Iterable[int]] = ..., token: _Optional[_Iterable[str]] = ..., point_token: _Optional[_Iterable[int]] = ...) -> None: ...
