from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportView(_message.Message):
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
    unit_id: bytes
    unit_token: bytes
    interval_start_ms: int
    interval_end_ms: int
    plan_version: int
    series: _containers.RepeatedScalarFieldContainer[bytes]
    value: _containers.RepeatedScalarFieldContainer[bytes]
    token: _containers.RepeatedScalarFieldContainer[bytes]
    point_token: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, report_id: _Optional[bytes] = ..., unit_id: _Optional[bytes] = ..., unit_token: _Optional[bytes] = ..., interval_start_ms: _Optional[int] = ..., interval_end_ms: _Optional[int] = ..., plan_version: _Optional[int] = ..., series: _Optional[_Iterable[bytes]] = ..., value: _Optional[_Iterable[bytes]] = ..., token: _Optional[_Iterable[bytes]] = ..., point_token: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReportsView(_message.Message):
    __slots__ = ("reports", "sent_at_ms")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[ReportView]
    sent_at_ms: int
    def __init__(self, reports: _Optional[_Iterable[_Union[ReportView, _Mapping]]] = ..., sent_at_ms: _Optional[int] = ...) -> None: ...
