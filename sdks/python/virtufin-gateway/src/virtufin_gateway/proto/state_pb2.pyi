from google.api import annotations_pb2 as _annotations_pb2
from virtufin_common.proto import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SaveStateRequest(_message.Message):
    __slots__ = ("service", "key", "value", "etag", "include_value", "create_only")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_VALUE_FIELD_NUMBER: _ClassVar[int]
    CREATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    service: str
    key: str
    value: str
    etag: str
    include_value: bool
    create_only: bool
    def __init__(self, service: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[str] = ..., etag: _Optional[str] = ..., include_value: _Optional[bool] = ..., create_only: _Optional[bool] = ...) -> None: ...

class SaveStateResponse(_message.Message):
    __slots__ = ("status", "etag")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusResponse
    etag: str
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusResponse, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class GetStateRequest(_message.Message):
    __slots__ = ("service", "key")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    service: str
    key: str
    def __init__(self, service: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class GetStateResponse(_message.Message):
    __slots__ = ("key", "value", "etag")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    etag: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class GetAllStateRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class GetAllStateResponse(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, str]
    def __init__(self, values: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RegisterKeysRequest(_message.Message):
    __slots__ = ("service", "keys")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    service: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, service: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class RegisterKeysResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusResponse
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusResponse, _Mapping]] = ...) -> None: ...

class DeleteStateRequest(_message.Message):
    __slots__ = ("service", "key", "include_value", "etag")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_VALUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    service: str
    key: str
    include_value: bool
    etag: str
    def __init__(self, service: _Optional[str] = ..., key: _Optional[str] = ..., include_value: _Optional[bool] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteStateResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusResponse
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusResponse, _Mapping]] = ...) -> None: ...
