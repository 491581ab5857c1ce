from google.api import annotations_pb2 as _annotations_pb2
from virtufin_common.proto import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InvokeRequest(_message.Message):
    __slots__ = ("service", "method", "request_data")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    service: str
    method: str
    request_data: bytes
    def __init__(self, service: _Optional[str] = ..., method: _Optional[str] = ..., request_data: _Optional[bytes] = ...) -> None: ...

class InvokeResponse(_message.Message):
    __slots__ = ("success", "status", "message", "response_data")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_DATA_FIELD_NUMBER: _ClassVar[int]
    success: bool
    status: str
    message: str
    response_data: bytes
    def __init__(self, success: _Optional[bool] = ..., status: _Optional[str] = ..., message: _Optional[str] = ..., response_data: _Optional[bytes] = ...) -> None: ...

class InvokeJsonRequest(_message.Message):
    __slots__ = ("service", "method", "request_data")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    service: str
    method: str
    request_data: str
    def __init__(self, service: _Optional[str] = ..., method: _Optional[str] = ..., request_data: _Optional[str] = ...) -> None: ...

class InvokeJsonResponse(_message.Message):
    __slots__ = ("success", "status", "message", "response_data")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_DATA_FIELD_NUMBER: _ClassVar[int]
    success: bool
    status: str
    message: str
    response_data: str
    def __init__(self, success: _Optional[bool] = ..., status: _Optional[str] = ..., message: _Optional[str] = ..., response_data: _Optional[str] = ...) -> None: ...

class ListServicesResponse(_message.Message):
    __slots__ = ("services",)
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, services: _Optional[_Iterable[str]] = ...) -> None: ...

class ListMethodsRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class ListMethodsResponse(_message.Message):
    __slots__ = ("methods",)
    METHODS_FIELD_NUMBER: _ClassVar[int]
    methods: _containers.RepeatedCompositeFieldContainer[MethodInfo]
    def __init__(self, methods: _Optional[_Iterable[_Union[MethodInfo, _Mapping]]] = ...) -> None: ...

class MethodInfo(_message.Message):
    __slots__ = ("name", "full_name", "input_type", "output_type", "is_client_streaming", "is_server_streaming")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FULL_NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TYPE_FIELD_NUMBER: _ClassVar[int]
    IS_CLIENT_STREAMING_FIELD_NUMBER: _ClassVar[int]
    IS_SERVER_STREAMING_FIELD_NUMBER: _ClassVar[int]
    name: str
    full_name: str
    input_type: str
    output_type: str
    is_client_streaming: bool
    is_server_streaming: bool
    def __init__(self, name: _Optional[str] = ..., full_name: _Optional[str] = ..., input_type: _Optional[str] = ..., output_type: _Optional[str] = ..., is_client_streaming: _Optional[bool] = ..., is_server_streaming: _Optional[bool] = ...) -> None: ...

class GetMethodSchemaRequest(_message.Message):
    __slots__ = ("service", "method", "schema_type")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_TYPE_FIELD_NUMBER: _ClassVar[int]
    service: str
    method: str
    schema_type: str
    def __init__(self, service: _Optional[str] = ..., method: _Optional[str] = ..., schema_type: _Optional[str] = ...) -> None: ...

class GetMethodSchemaResponse(_message.Message):
    __slots__ = ("schema",)
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    schema: MethodSchema
    def __init__(self, schema: _Optional[_Union[MethodSchema, _Mapping]] = ...) -> None: ...

class MethodSchema(_message.Message):
    __slots__ = ("input_type_name", "output_type_name", "schema_type", "fields")
    INPUT_TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_TYPE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    input_type_name: str
    output_type_name: str
    schema_type: str
    fields: _containers.RepeatedCompositeFieldContainer[FieldSchema]
    def __init__(self, input_type_name: _Optional[str] = ..., output_type_name: _Optional[str] = ..., schema_type: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[FieldSchema, _Mapping]]] = ...) -> None: ...

class FieldSchema(_message.Message):
    __slots__ = ("name", "type", "type_name", "is_repeated", "is_optional", "oneof_group", "oneof_cases")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    IS_REPEATED_FIELD_NUMBER: _ClassVar[int]
    IS_OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    ONEOF_GROUP_FIELD_NUMBER: _ClassVar[int]
    ONEOF_CASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    type_name: str
    is_repeated: bool
    is_optional: bool
    oneof_group: str
    oneof_cases: _containers.RepeatedCompositeFieldContainer[OneofCaseSchema]
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., type_name: _Optional[str] = ..., is_repeated: _Optional[bool] = ..., is_optional: _Optional[bool] = ..., oneof_group: _Optional[str] = ..., oneof_cases: _Optional[_Iterable[_Union[OneofCaseSchema, _Mapping]]] = ...) -> None: ...

class OneofCaseSchema(_message.Message):
    __slots__ = ("name", "type", "type_name", "field_number")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    FIELD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    type_name: str
    field_number: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., type_name: _Optional[str] = ..., field_number: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("services", "topics", "event_types")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedScalarFieldContainer[str]
    topics: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, services: _Optional[_Iterable[str]] = ..., topics: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ...) -> None: ...

class TopicEventRequest(_message.Message):
    __slots__ = ("id", "source", "type", "spec_version", "data_content_type", "topic", "data", "pubsub_name", "path", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    DATA_CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    PUBSUB_NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    source: str
    type: str
    spec_version: str
    data_content_type: str
    topic: str
    data: bytes
    pubsub_name: str
    path: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[str] = ..., source: _Optional[str] = ..., type: _Optional[str] = ..., spec_version: _Optional[str] = ..., data_content_type: _Optional[str] = ..., topic: _Optional[str] = ..., data: _Optional[bytes] = ..., pubsub_name: _Optional[str] = ..., path: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...
