from hushmeter.api.release.v1 import release_pb2 as _release_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMetricsResponse(_message.Message):
    __slots__ = ("metrics", "budget", "plan_versions")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricCatalogEntry]
    budget: BudgetStatement
    plan_versions: _containers.RepeatedCompositeFieldContainer[PlanVersionStatement]
    def __init__(self, metrics: _Optional[_Iterable[_Union[MetricCatalogEntry, _Mapping]]] = ..., budget: _Optional[_Union[BudgetStatement, _Mapping]] = ..., plan_versions: _Optional[_Iterable[_Union[PlanVersionStatement, _Mapping]]] = ...) -> None: ...

class PlanVersionStatement(_message.Message):
    __slots__ = ("version", "plan_hash", "active_from_ms", "budget")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PLAN_HASH_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FROM_MS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    version: int
    plan_hash: bytes
    active_from_ms: int
    budget: BudgetStatement
    def __init__(self, version: _Optional[int] = ..., plan_hash: _Optional[bytes] = ..., active_from_ms: _Optional[int] = ..., budget: _Optional[_Union[BudgetStatement, _Mapping]] = ...) -> None: ...

class MetricCatalogEntry(_message.Message):
    __slots__ = ("name", "description", "kind", "unit", "purposes", "views", "resolutions", "statistics")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    RESOLUTIONS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    kind: str
    unit: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    views: _containers.RepeatedCompositeFieldContainer[MetricView]
    resolutions: _containers.RepeatedScalarFieldContainer[str]
    statistics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., kind: _Optional[str] = ..., unit: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., views: _Optional[_Iterable[_Union[MetricView, _Mapping]]] = ..., resolutions: _Optional[_Iterable[str]] = ..., statistics: _Optional[_Iterable[str]] = ...) -> None: ...

class MetricView(_message.Message):
    __slots__ = ("dimensions", "private_partitions", "expected_hidden_share")
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_HIDDEN_SHARE_FIELD_NUMBER: _ClassVar[int]
    dimensions: _containers.RepeatedScalarFieldContainer[str]
    private_partitions: bool
    expected_hidden_share: float
    def __init__(self, dimensions: _Optional[_Iterable[str]] = ..., private_partitions: _Optional[bool] = ..., expected_hidden_share: _Optional[float] = ...) -> None: ...

class BudgetStatement(_message.Message):
    __slots__ = ("period", "epsilon", "delta", "rho", "privacy_unit", "currency", "amount", "selection_delta")
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    RHO_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_UNIT_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SELECTION_DELTA_FIELD_NUMBER: _ClassVar[int]
    period: str
    epsilon: float
    delta: float
    rho: float
    privacy_unit: str
    currency: str
    amount: str
    selection_delta: str
    def __init__(self, period: _Optional[str] = ..., epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., rho: _Optional[float] = ..., privacy_unit: _Optional[str] = ..., currency: _Optional[str] = ..., amount: _Optional[str] = ..., selection_delta: _Optional[str] = ...) -> None: ...

class QueryReleasesRequest(_message.Message):
    __slots__ = ("metric", "view", "resolution", "from_ms", "to_ms", "filters", "statistics", "roll_up_time", "openings")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    ROLL_UP_TIME_FIELD_NUMBER: _ClassVar[int]
    OPENINGS_FIELD_NUMBER: _ClassVar[int]
    metric: str
    view: _containers.RepeatedScalarFieldContainer[str]
    resolution: str
    from_ms: int
    to_ms: int
    filters: _containers.RepeatedCompositeFieldContainer[PartitionFilter]
    statistics: _containers.RepeatedScalarFieldContainer[str]
    roll_up_time: bool
    openings: bool
    def __init__(self, metric: _Optional[str] = ..., view: _Optional[_Iterable[str]] = ..., resolution: _Optional[str] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ..., filters: _Optional[_Iterable[_Union[PartitionFilter, _Mapping]]] = ..., statistics: _Optional[_Iterable[str]] = ..., roll_up_time: _Optional[bool] = ..., openings: _Optional[bool] = ...) -> None: ...

class PartitionFilter(_message.Message):
    __slots__ = ("dimension", "values")
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    dimension: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, dimension: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class QueryReleasesResponse(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[_release_pb2.Release]
    def __init__(self, releases: _Optional[_Iterable[_Union[_release_pb2.Release, _Mapping]]] = ...) -> None: ...

class GetLedgerRequest(_message.Message):
    __slots__ = ("from_sequence",)
    FROM_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    from_sequence: int
    def __init__(self, from_sequence: _Optional[int] = ...) -> None: ...

class GetLedgerResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LedgerEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[LedgerEntry, _Mapping]]] = ...) -> None: ...

class LedgerEntry(_message.Message):
    __slots__ = ("sequence", "content", "previous_hash", "entry_hash")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_HASH_FIELD_NUMBER: _ClassVar[int]
    ENTRY_HASH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    content: str
    previous_hash: bytes
    entry_hash: bytes
    def __init__(self, sequence: _Optional[int] = ..., content: _Optional[str] = ..., previous_hash: _Optional[bytes] = ..., entry_hash: _Optional[bytes] = ...) -> None: ...
