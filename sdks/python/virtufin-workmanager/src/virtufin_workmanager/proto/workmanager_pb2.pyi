from google.api import annotations_pb2 as _annotations_pb2
from virtufin_common.proto import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATUS_UNSPECIFIED: _ClassVar[WorkerStatus]
    WORKER_STATUS_STOPPED: _ClassVar[WorkerStatus]
    WORKER_STATUS_RUNNING: _ClassVar[WorkerStatus]
WORKER_STATUS_UNSPECIFIED: WorkerStatus
WORKER_STATUS_STOPPED: WorkerStatus
WORKER_STATUS_RUNNING: WorkerStatus

class BasicCredential(_message.Message):
    __slots__ = ("username", "password")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    username: str
    password: str
    def __init__(self, username: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class BearerCredential(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class SourceCredential(_message.Message):
    __slots__ = ("basic", "bearer")
    BASIC_FIELD_NUMBER: _ClassVar[int]
    BEARER_FIELD_NUMBER: _ClassVar[int]
    basic: BasicCredential
    bearer: BearerCredential
    def __init__(self, basic: _Optional[_Union[BasicCredential, _Mapping]] = ..., bearer: _Optional[_Union[BearerCredential, _Mapping]] = ...) -> None: ...

class CodeSource(_message.Message):
    __slots__ = ("url", "content", "credential", "content_sha256")
    URL_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    url: str
    content: bytes
    credential: SourceCredential
    content_sha256: str
    def __init__(self, url: _Optional[str] = ..., content: _Optional[bytes] = ..., credential: _Optional[_Union[SourceCredential, _Mapping]] = ..., content_sha256: _Optional[str] = ...) -> None: ...

class CreateWorkerRequest(_message.Message):
    __slots__ = ("code_source", "mime_type", "topic", "group", "config", "tags", "create_stopped")
    class ConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CREATE_STOPPED_FIELD_NUMBER: _ClassVar[int]
    code_source: CodeSource
    mime_type: str
    topic: str
    group: str
    config: _containers.ScalarMap[str, str]
    tags: _containers.ScalarMap[str, str]
    create_stopped: bool
    def __init__(self, code_source: _Optional[_Union[CodeSource, _Mapping]] = ..., mime_type: _Optional[str] = ..., topic: _Optional[str] = ..., group: _Optional[str] = ..., config: _Optional[_Mapping[str, str]] = ..., tags: _Optional[_Mapping[str, str]] = ..., create_stopped: _Optional[bool] = ...) -> None: ...

class CreateWorkerResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WorkerInfo(_message.Message):
    __slots__ = ("id", "code_source", "mime_type", "language", "topic", "group", "created_at", "status", "config", "tags")
    class ConfigEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CODE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    id: str
    code_source: CodeSource
    mime_type: str
    language: str
    topic: str
    group: str
    created_at: str
    status: WorkerStatus
    config: _containers.ScalarMap[str, str]
    tags: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., code_source: _Optional[_Union[CodeSource, _Mapping]] = ..., mime_type: _Optional[str] = ..., language: _Optional[str] = ..., topic: _Optional[str] = ..., group: _Optional[str] = ..., created_at: _Optional[str] = ..., status: _Optional[_Union[WorkerStatus, str]] = ..., config: _Optional[_Mapping[str, str]] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ("filters",)
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[_common_pb2.TagFilter]
    def __init__(self, filters: _Optional[_Iterable[_Union[_common_pb2.TagFilter, _Mapping]]] = ...) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers",)
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerInfo]
    def __init__(self, workers: _Optional[_Iterable[_Union[WorkerInfo, _Mapping]]] = ...) -> None: ...

class DeleteWorkerRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class StartWorkerRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class StopWorkerRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RecoverWorkersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecoverWorkersResponse(_message.Message):
    __slots__ = ("recovered_count",)
    RECOVERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    recovered_count: int
    def __init__(self, recovered_count: _Optional[int] = ...) -> None: ...

class GetWorkerHistoryRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("code_source", "created_at", "sha256")
    CODE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    code_source: CodeSource
    created_at: str
    sha256: str
    def __init__(self, code_source: _Optional[_Union[CodeSource, _Mapping]] = ..., created_at: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class GetWorkerHistoryResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[HistoryEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[HistoryEntry, _Mapping]]] = ...) -> None: ...

class LoadCodeFromContentRequest(_message.Message):
    __slots__ = ("id", "content", "content_sha256")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: bytes
    content_sha256: str
    def __init__(self, id: _Optional[str] = ..., content: _Optional[bytes] = ..., content_sha256: _Optional[str] = ...) -> None: ...

class LoadCodeFromUrlRequest(_message.Message):
    __slots__ = ("id", "url", "credential", "content_sha256")
    ID_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    id: str
    url: str
    credential: SourceCredential
    content_sha256: str
    def __init__(self, id: _Optional[str] = ..., url: _Optional[str] = ..., credential: _Optional[_Union[SourceCredential, _Mapping]] = ..., content_sha256: _Optional[str] = ...) -> None: ...

class LoadCodeRequest(_message.Message):
    __slots__ = ("id", "code_source")
    ID_FIELD_NUMBER: _ClassVar[int]
    CODE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    code_source: CodeSource
    def __init__(self, id: _Optional[str] = ..., code_source: _Optional[_Union[CodeSource, _Mapping]] = ...) -> None: ...
