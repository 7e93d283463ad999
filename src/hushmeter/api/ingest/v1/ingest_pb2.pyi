from hushmeter.api.report.v1 import report_pb2 as _report_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_KIND_UNSPECIFIED: _ClassVar[MetricKind]
    METRIC_KIND_COUNTER: _ClassVar[MetricKind]
    METRIC_KIND_DISTRIBUTION: _ClassVar[MetricKind]
    METRIC_KIND_FLAG: _ClassVar[MetricKind]
    METRIC_KIND_CHOICE: _ClassVar[MetricKind]
    METRIC_KIND_RATIO: _ClassVar[MetricKind]
METRIC_KIND_UNSPECIFIED: MetricKind
METRIC_KIND_COUNTER: MetricKind
METRIC_KIND_DISTRIBUTION: MetricKind
METRIC_KIND_FLAG: MetricKind
METRIC_KIND_CHOICE: MetricKind
METRIC_KIND_RATIO: MetricKind

class GetPlanRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPlanResponse(_message.Message):
    __slots__ = ("plan", "server_time_ms")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    plan: PlanDescription
    server_time_ms: int
    def __init__(self, plan: _Optional[_Union[PlanDescription, _Mapping]] = ..., server_time_ms: _Optional[int] = ...) -> None: ...

class PlanDescription(_message.Message):
    __slots__ = ("name", "version", "plan_hash", "purposes", "metrics", "resolutions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    plan_hash: bytes
    purposes: _containers.RepeatedCompositeFieldContainer[PurposeDescription]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricDescription]
    resolutions: _containers.RepeatedCompositeFieldContainer[ResolutionDescription]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., plan_hash: _Optional[bytes] = ..., purposes: _Optional[_Iterable[_Union[PurposeDescription, _Mapping]]] = ..., metrics: _Optional[_Iterable[_Union[MetricDescription, _Mapping]]] = ..., resolutions: _Optional[_Iterable[_Union[ResolutionDescription, _Mapping]]] = ...) -> None: ...

class PurposeDescription(_message.Message):
    __slots__ = ("name", "text", "text_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TEXT_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    text_hash: bytes
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ..., text_hash: _Optional[bytes] = ...) -> None: ...

class ResolutionDescription(_message.Message):
    __slots__ = ("name", "lateness_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LATENESS_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    lateness_ms: int
    def __init__(self, name: _Optional[str] = ..., lateness_ms: _Optional[int] = ...) -> None: ...

class MetricDescription(_message.Message):
    __slots__ = ("name", "description", "kind", "unit", "resolution", "purposes", "dimensions", "components", "first_series", "range_low", "range_high", "edges", "expires_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SERIES_FIELD_NUMBER: _ClassVar[int]
    RANGE_LOW_FIELD_NUMBER: _ClassVar[int]
    RANGE_HIGH_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    kind: MetricKind
    unit: str
    resolution: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    dimensions: _containers.RepeatedCompositeFieldContainer[DimensionDescription]
    components: _containers.RepeatedScalarFieldContainer[str]
    first_series: int
    range_low: int
    range_high: int
    edges: _containers.RepeatedScalarFieldContainer[int]
    expires_ms: int
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., kind: _Optional[_Union[MetricKind, str]] = ..., unit: _Optional[str] = ..., resolution: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., dimensions: _Optional[_Iterable[_Union[DimensionDescription, _Mapping]]] = ..., components: _Optional[_Iterable[str]] = ..., first_series: _Optional[int] = ..., range_low: _Optional[int] = ..., range_high: _Optional[int] = ..., edges: _Optional[_Iterable[int]] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class DimensionDescription(_message.Message):
    __slots__ = ("name", "values", "open", "pattern", "max_length")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[str]
    open: bool
    pattern: str
    max_length: int
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., open: _Optional[bool] = ..., pattern: _Optional[str] = ..., max_length: _Optional[int] = ...) -> None: ...

class SubmitReportsRequest(_message.Message):
    __slots__ = ("reports", "sent_at_ms")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[_report_pb2.Report]
    sent_at_ms: int
    def __init__(self, reports: _Optional[_Iterable[_Union[_report_pb2.Report, _Mapping]]] = ..., sent_at_ms: _Optional[int] = ...) -> None: ...

class SubmitReportsResponse(_message.Message):
    __slots__ = ("acknowledgement",)
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    acknowledgement: Acknowledgement
    def __init__(self, acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ...) -> None: ...

class StreamReportsRequest(_message.Message):
    __slots__ = ("reports", "sent_at_ms")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[_report_pb2.Report]
    sent_at_ms: int
    def __init__(self, reports: _Optional[_Iterable[_Union[_report_pb2.Report, _Mapping]]] = ..., sent_at_ms: _Optional[int] = ...) -> None: ...

class StreamReportsResponse(_message.Message):
    __slots__ = ("sequence", "acknowledgement")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    acknowledgement: Acknowledgement
    def __init__(self, sequence: _Optional[int] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ...) -> None: ...

class ValidateReportsRequest(_message.Message):
    __slots__ = ("reports", "sent_at_ms")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[_report_pb2.Report]
    sent_at_ms: int
    def __init__(self, reports: _Optional[_Iterable[_Union[_report_pb2.Report, _Mapping]]] = ..., sent_at_ms: _Optional[int] = ...) -> None: ...

class ValidateReportsResponse(_message.Message):
    __slots__ = ("acknowledgement",)
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    acknowledgement: Acknowledgement
    def __init__(self, acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("accepted", "rejections", "missed", "server_time_ms", "latest_plan_version")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LATEST_PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    missed: _containers.RepeatedCompositeFieldContainer[MissedResolution]
    server_time_ms: int
    latest_plan_version: int
    def __init__(self, accepted: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., missed: _Optional[_Iterable[_Union[MissedResolution, _Mapping]]] = ..., server_time_ms: _Optional[int] = ..., latest_plan_version: _Optional[int] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("index", "reason", "message", "retry_after_ms")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: _report_pb2.RejectionReason
    message: str
    retry_after_ms: int
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[_Union[_report_pb2.RejectionReason, str]] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class MissedResolution(_message.Message):
    __slots__ = ("resolution", "indices")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    resolution: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, resolution: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ...) -> None: ...
