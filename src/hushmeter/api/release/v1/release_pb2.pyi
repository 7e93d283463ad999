from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Release(_message.Message):
    __slots__ = ("release_id", "metric", "view", "resolution", "window_start_ms", "window_end_ms", "plan_version", "completeness", "published_at_ms", "privacy_loss", "estimates", "unit", "rolled_up_from", "max_windows", "purposes", "openings", "private_partitions")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_MS_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_LOSS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATES_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    ROLLED_UP_FROM_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    OPENINGS_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    release_id: int
    metric: str
    view: _containers.RepeatedScalarFieldContainer[str]
    resolution: str
    window_start_ms: int
    window_end_ms: int
    plan_version: int
    completeness: float
    published_at_ms: int
    privacy_loss: PrivacyLoss
    estimates: _containers.RepeatedCompositeFieldContainer[Estimate]
    unit: str
    rolled_up_from: int
    max_windows: int
    purposes: _containers.RepeatedScalarFieldContainer[str]
    openings: _containers.RepeatedCompositeFieldContainer[Opening]
    private_partitions: PrivatePartitions
    def __init__(self, release_id: _Optional[int] = ..., metric: _Optional[str] = ..., view: _Optional[_Iterable[str]] = ..., resolution: _Optional[str] = ..., window_start_ms: _Optional[int] = ..., window_end_ms: _Optional[int] = ..., plan_version: _Optional[int] = ..., completeness: _Optional[float] = ..., published_at_ms: _Optional[int] = ..., privacy_loss: _Optional[_Union[PrivacyLoss, _Mapping]] = ..., estimates: _Optional[_Iterable[_Union[Estimate, _Mapping]]] = ..., unit: _Optional[str] = ..., rolled_up_from: _Optional[int] = ..., max_windows: _Optional[int] = ..., purposes: _Optional[_Iterable[str]] = ..., openings: _Optional[_Iterable[_Union[Opening, _Mapping]]] = ..., private_partitions: _Optional[_Union[PrivatePartitions, _Mapping]] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("measurement", "salt", "columns", "values")
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    measurement: str
    salt: bytes
    columns: int
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, measurement: _Optional[str] = ..., salt: _Optional[bytes] = ..., columns: _Optional[int] = ..., values: _Optional[_Iterable[int]] = ...) -> None: ...

class PrivatePartitions(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[PrivatePartition]
    def __init__(self, rows: _Optional[_Iterable[_Union[PrivatePartition, _Mapping]]] = ...) -> None: ...

class PrivatePartition(_message.Message):
    __slots__ = ("public_partition", "token")
    PUBLIC_PARTITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    public_partition: int
    token: str
    def __init__(self, public_partition: _Optional[int] = ..., token: _Optional[str] = ...) -> None: ...

class PrivacyLoss(_message.Message):
    __slots__ = ("rho", "epsilon", "delta")
    RHO_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    rho: float
    epsilon: float
    delta: float
    def __init__(self, rho: _Optional[float] = ..., epsilon: _Optional[float] = ..., delta: _Optional[float] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("value", "noise_std", "interval_low", "interval_high", "as_of_ms")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NOISE_STD_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LOW_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_HIGH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_MS_FIELD_NUMBER: _ClassVar[int]
    value: float
    noise_std: float
    interval_low: float
    interval_high: float
    as_of_ms: int
    def __init__(self, value: _Optional[float] = ..., noise_std: _Optional[float] = ..., interval_low: _Optional[float] = ..., interval_high: _Optional[float] = ..., as_of_ms: _Optional[int] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("statistic", "partition", "component", "value", "noise_std", "interval_low", "interval_high", "selected", "agreement")
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NOISE_STD_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_LOW_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_HIGH_FIELD_NUMBER: _ClassVar[int]
    SELECTED_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    statistic: str
    partition: _containers.RepeatedScalarFieldContainer[str]
    component: str
    value: float
    noise_std: float
    interval_low: float
    interval_high: float
    selected: bool
    agreement: Agreement
    def __init__(self, statistic: _Optional[str] = ..., partition: _Optional[_Iterable[str]] = ..., component: _Optional[str] = ..., value: _Optional[float] = ..., noise_std: _Optional[float] = ..., interval_low: _Optional[float] = ..., interval_high: _Optional[float] = ..., selected: _Optional[bool] = ..., agreement: _Optional[_Union[Agreement, _Mapping]] = ...) -> None: ...
