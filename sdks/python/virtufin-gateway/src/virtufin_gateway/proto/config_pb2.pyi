from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListConfigServicesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListConfigServicesResponse(_message.Message):
    __slots__ = ("services",)
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[ConfigService]
    def __init__(self, services: _Optional[_Iterable[_Union[ConfigService, _Mapping]]] = ...) -> None: ...

class GetConfigServiceRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetConfigServiceResponse(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: ConfigService
    def __init__(self, service: _Optional[_Union[ConfigService, _Mapping]] = ...) -> None: ...

class ConfigService(_message.Message):
    __slots__ = ("name", "dapr_app_id", "grpc", "pubsub", "state", "jobs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DAPR_APP_ID_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    PUBSUB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dapr_app_id: str
    grpc: GrpcConfig
    pubsub: PubsubConfig
    state: StateConfig
    jobs: JobsConfig
    def __init__(self, name: _Optional[str] = ..., dapr_app_id: _Optional[str] = ..., grpc: _Optional[_Union[GrpcConfig, _Mapping]] = ..., pubsub: _Optional[_Union[PubsubConfig, _Mapping]] = ..., state: _Optional[_Union[StateConfig, _Mapping]] = ..., jobs: _Optional[_Union[JobsConfig, _Mapping]] = ...) -> None: ...

class GrpcConfig(_message.Message):
    __slots__ = ("host", "port", "reflection_enabled")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    REFLECTION_ENABLED_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    reflection_enabled: bool
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., reflection_enabled: _Optional[bool] = ...) -> None: ...

class PubsubConfig(_message.Message):
    __slots__ = ("pubsub_name",)
    PUBSUB_NAME_FIELD_NUMBER: _ClassVar[int]
    pubsub_name: str
    def __init__(self, pubsub_name: _Optional[str] = ...) -> None: ...

class StateConfig(_message.Message):
    __slots__ = ("store_name", "keys")
    STORE_NAME_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    store_name: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, store_name: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class JobsConfig(_message.Message):
    __slots__ = ("crons",)
    CRONS_FIELD_NUMBER: _ClassVar[int]
    crons: _containers.RepeatedCompositeFieldContainer[CronJobConfig]
    def __init__(self, crons: _Optional[_Iterable[_Union[CronJobConfig, _Mapping]]] = ...) -> None: ...

class CronJobConfig(_message.Message):
    __slots__ = ("name", "schedule", "topic", "method", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    schedule: str
    topic: str
    method: str
    data: str
    def __init__(self, name: _Optional[str] = ..., schedule: _Optional[str] = ..., topic: _Optional[str] = ..., method: _Optional[str] = ..., data: _Optional[str] = ...) -> None: ...
