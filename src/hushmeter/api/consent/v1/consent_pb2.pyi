from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AskReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASK_REASON_UNSPECIFIED: _ClassVar[AskReason]
    ASK_REASON_NEVER_DECIDED: _ClassVar[AskReason]
    ASK_REASON_TEXT_CHANGED: _ClassVar[AskReason]
ASK_REASON_UNSPECIFIED: AskReason
ASK_REASON_NEVER_DECIDED: AskReason
ASK_REASON_TEXT_CHANGED: AskReason

class SetConsentRequest(_message.Message):
    __slots__ = ("unit_id", "decisions", "unit_token")
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    UNIT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    unit_id: str
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    unit_token: bytes
    def __init__(self, unit_id: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., unit_token: _Optional[bytes] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("purpose", "given", "text_hash", "locale", "source")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    TEXT_HASH_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    given: bool
    text_hash: bytes
    locale: str
    source: str
    def __init__(self, purpose: _Optional[str] = ..., given: _Optional[bool] = ..., text_hash: _Optional[bytes] = ..., locale: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class SetConsentResponse(_message.Message):
    __slots__ = ("states", "received_at_ms", "reaches")
    STATES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REACHES_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[ConsentState]
    received_at_ms: int
    reaches: _containers.RepeatedCompositeFieldContainer[ReachedWindow]
    def __init__(self, states: _Optional[_Iterable[_Union[ConsentState, _Mapping]]] = ..., received_at_ms: _Optional[int] = ..., reaches: _Optional[_Iterable[_Union[ReachedWindow, _Mapping]]] = ...) -> None: ...

class ReachedWindow(_message.Message):
    __slots__ = ("resolution", "window_start_ms", "window_end_ms")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_MS_FIELD_NUMBER: _ClassVar[int]
    resolution: str
    window_start_ms: int
    window_end_ms: int
    def __init__(self, resolution: _Optional[str] = ..., window_start_ms: _Optional[int] = ..., window_end_ms: _Optional[int] = ...) -> None: ...

class GetConsentRequest(_message.Message):
    __slots__ = ("unit_id", "unit_token")
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    unit_id: str
    unit_token: bytes
    def __init__(self, unit_id: _Optional[str] = ..., unit_token: _Optional[bytes] = ...) -> None: ...

class GetConsentResponse(_message.Message):
    __slots__ = ("states",)
    STATES_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[ConsentState]
    def __init__(self, states: _Optional[_Iterable[_Union[ConsentState, _Mapping]]] = ...) -> None: ...

class IssueUnitTokenRequest(_message.Message):
    __slots__ = ("unit_id", "lifetime_s")
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_S_FIELD_NUMBER: _ClassVar[int]
    unit_id: str
    lifetime_s: int
    def __init__(self, unit_id: _Optional[str] = ..., lifetime_s: _Optional[int] = ...) -> None: ...

class IssueUnitTokenResponse(_message.Message):
    __slots__ = ("unit_token", "expires_ms")
    UNIT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    unit_token: bytes
    expires_ms: int
    def __init__(self, unit_token: _Optional[bytes] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class EraseUnitRequest(_message.Message):
    __slots__ = ("unit_id", "unit_token")
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    unit_id: str
    unit_token: bytes
    def __init__(self, unit_id: _Optional[str] = ..., unit_token: _Optional[bytes] = ...) -> None: ...

class EraseUnitResponse(_message.Message):
    __slots__ = ("received_at_ms", "rows_gone_by_ms", "receipt")
    RECEIVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ROWS_GONE_BY_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    received_at_ms: int
    rows_gone_by_ms: int
    receipt: str
    def __init__(self, received_at_ms: _Optional[int] = ..., rows_gone_by_ms: _Optional[int] = ..., receipt: _Optional[str] = ...) -> None: ...

class GetUnitRequest(_message.Message):
    __slots__ = ("unit_id", "unit_token")
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    unit_id: str
    unit_token: bytes
    def __init__(self, unit_id: _Optional[str] = ..., unit_token: _Optional[bytes] = ...) -> None: ...

class GetUnitResponse(_message.Message):
    __slots__ = ("rows", "kept", "decisions", "erasure_ms", "rows_gone_by_ms")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    ERASURE_MS_FIELD_NUMBER: _ClassVar[int]
    ROWS_GONE_BY_MS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[HeldRows]
    kept: _containers.RepeatedCompositeFieldContainer[HeldKept]
    decisions: int
    erasure_ms: int
    rows_gone_by_ms: int
    def __init__(self, rows: _Optional[_Iterable[_Union[HeldRows, _Mapping]]] = ..., kept: _Optional[_Iterable[_Union[HeldKept, _Mapping]]] = ..., decisions: _Optional[int] = ..., erasure_ms: _Optional[int] = ..., rows_gone_by_ms: _Optional[int] = ...) -> None: ...

class HeldRows(_message.Message):
    __slots__ = ("window_start_ms", "window_end_ms", "reports", "points", "dies_ms")
    class PointsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    WINDOW_START_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_MS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    DIES_MS_FIELD_NUMBER: _ClassVar[int]
    window_start_ms: int
    window_end_ms: int
    reports: int
    points: _containers.ScalarMap[str, int]
    dies_ms: int
    def __init__(self, window_start_ms: _Optional[int] = ..., window_end_ms: _Optional[int] = ..., reports: _Optional[int] = ..., points: _Optional[_Mapping[str, int]] = ..., dies_ms: _Optional[int] = ...) -> None: ...

class HeldKept(_message.Message):
    __slots__ = ("metric", "resolution", "period_start_ms", "period_end_ms", "windows", "dies_ms")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    PERIOD_START_MS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_END_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    DIES_MS_FIELD_NUMBER: _ClassVar[int]
    metric: str
    resolution: str
    period_start_ms: int
    period_end_ms: int
    windows: int
    dies_ms: int
    def __init__(self, metric: _Optional[str] = ..., resolution: _Optional[str] = ..., period_start_ms: _Optional[int] = ..., period_end_ms: _Optional[int] = ..., windows: _Optional[int] = ..., dies_ms: _Optional[int] = ...) -> None: ...

class ConsentState(_message.Message):
    __slots__ = ("purpose", "given", "given_since_ms", "ask_again", "ask_reason")
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    GIVEN_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    ASK_AGAIN_FIELD_NUMBER: _ClassVar[int]
    ASK_REASON_FIELD_NUMBER: _ClassVar[int]
    purpose: str
    given: bool
    given_since_ms: int
    ask_again: bool
    ask_reason: AskReason
    def __init__(self, purpose: _Optional[str] = ..., given: _Optional[bool] = ..., given_since_ms: _Optional[int] = ..., ask_again: _Optional[bool] = ..., ask_reason: _Optional[_Union[AskReason, str]] = ...) -> None: ...
