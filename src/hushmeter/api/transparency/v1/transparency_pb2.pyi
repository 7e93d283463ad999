from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECORD_FORMAT_UNSPECIFIED: _ClassVar[RecordFormat]
    RECORD_FORMAT_JSON: _ClassVar[RecordFormat]
    RECORD_FORMAT_MARKDOWN: _ClassVar[RecordFormat]
    RECORD_FORMAT_HTML: _ClassVar[RecordFormat]
RECORD_FORMAT_UNSPECIFIED: RecordFormat
RECORD_FORMAT_JSON: RecordFormat
RECORD_FORMAT_MARKDOWN: RecordFormat
RECORD_FORMAT_HTML: RecordFormat

class GetRecordRequest(_message.Message):
    __slots__ = ("format",)
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    format: RecordFormat
    def __init__(self, format: _Optional[_Union[RecordFormat, str]] = ...) -> None: ...

class GetRecordResponse(_message.Message):
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: bytes
    def __init__(self, part: _Optional[bytes] = ...) -> None: ...
