"""The API gateway: calls to services by name, events, state, configuration."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import grpc
from virtufin_common import NoReplyError, ServiceClient, Subscription, UnavailableError
from virtufin_common.errors import of_name
from virtufin_common.proto.cloudevents_pb2 import CloudEvent
from virtufin_common.proto.common_pb2 import Empty, StatusResponse

from .proto import config_pb2, gateway_pb2, pubsub_pb2, state_pb2
from .proto.config_pb2_grpc import ConfigStub
from .proto.gateway_pb2_grpc import GatewayStub
from .proto.pubsub_pb2_grpc import PubsubStub
from .proto.state_pb2_grpc import StateStub

CORRELATION_ID = "correlationid"
"""The extension attribute by which a reply is known."""


@dataclass(frozen=True)
class Stored:
    """A stored value: JSON where it is JSON, else text."""

    value: str
    etag: str


class GatewayClient(ServiceClient):
    """The gateway's four services: `virtufin.Gateway`, `Pubsub`, `State` and `Config`."""

    def __init__(self, host: str = "localhost", port: int = 5002, **options: Any) -> None:
        super().__init__(host, port, **options)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> GatewayClient:
        """The gateway where `VIRTUFIN_API_HOST` and `VIRTUFIN_API_GRPC_PORT` say (F7)."""
        return cls(
            environment.get("VIRTUFIN_API_HOST") or "localhost",
            int(environment.get("VIRTUFIN_API_GRPC_PORT") or 5002),
            **options,
        )

    def _open(self, channel: grpc.aio.Channel) -> None:
        self._gateway = GatewayStub(channel)
        self._pubsub = PubsubStub(channel)
        self._state = StateStub(channel)
        self._config = ConfigStub(channel)

    def service(self, name: str) -> Service:
        """A backend to be called by the names of its methods (E2.10)."""
        return Service(self, name)

    # virtufin.Gateway

    async def invoke(self, service: str, method: str, request: bytes = b"") -> bytes:
        """Calls a unary method of a backend with an encoded message; the answer is an encoded message."""
        message = gateway_pb2.InvokeRequest(service=service, method=method, request_data=request)
        answer = await self._unary("_gateway", "Invoke", message)
        _succeeded(answer)
        return answer.response_data

    async def invoke_json(self, service: str, method: str, request: str = "{}") -> str:
        """Calls a unary method of a backend with a message as JSON; the answer is JSON."""
        message = gateway_pb2.InvokeJsonRequest(service=service, method=method, request_data=request)
        answer = await self._unary("_gateway", "InvokeJson", message)
        _succeeded(answer)
        return answer.response_data

    async def list_services(self) -> list[str]:
        """The names of the backends."""
        return list((await self._unary("_gateway", "ListServices", Empty())).services)

    async def list_methods(self, service: str) -> list[gateway_pb2.MethodInfo]:
        """The methods of a backend, as it tells them itself."""
        request = gateway_pb2.ListMethodsRequest(service=service)
        return list((await self._unary("_gateway", "ListMethods", request)).methods)

    async def get_method_schema(
        self, service: str, method: str, side: Literal["input", "output"] = "input"
    ) -> gateway_pb2.MethodSchema:
        """The fields of a message of a method."""
        request = gateway_pb2.GetMethodSchemaRequest(service=service, method=method, schema_type=side)
        return (await self._unary("_gateway", "GetMethodSchema", request)).schema

    async def subscribe_events(
        self,
        services: Iterable[str] = (),
        topics: Iterable[str] = (),
        event_types: Iterable[str] = (),
    ) -> Subscription[gateway_pb2.TopicEventRequest]:
        """Events of services (`Gateway.Subscribe`, G10); empty filters stand for all."""
        request = gateway_pb2.SubscribeRequest(services=services, topics=topics, event_types=event_types)
        return await self._stream("_gateway", "Subscribe", request)

    # virtufin.Pubsub

    async def publish_event(
        self,
        topic: str,
        data: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        *,
        cloudevent: CloudEvent | None = None,
    ) -> None:
        """Publishes an event; metadata holds its attributes (`ce-type`, …) and extensions. A CloudEvent takes the place
        of both."""
        request = pubsub_pb2.PublishRequest(topic=topic, data=data, metadata=metadata, cloudevent=cloudevent)
        _acknowledged(await self._unary("_pubsub", "PublishEvent", request))

    async def subscribe(self, topics: Iterable[str]) -> Subscription[pubsub_pb2.PubsubSubscribeResponse]:
        """Every event of topics (`Pubsub.Subscribe`) from the time that this returns."""
        return await self._stream("_pubsub", "Subscribe", pubsub_pb2.PubsubSubscribeRequest(topics=topics))

    async def unsubscribe(self, subscription_id: str) -> None:
        """Ends the subscription whose events carry this `subscription_id`."""
        request = pubsub_pb2.UnsubscribeRequest(subscription_id=subscription_id)
        _acknowledged(await self._unary("_pubsub", "Unsubscribe", request))

    async def publish_with_result(
        self,
        topic: str,
        reply_topic: str,
        data: bytes = b"",
        metadata: Mapping[str, str] | None = None,
        *,
        timeout: float = 30.0,
    ) -> pubsub_pb2.PubsubSubscribeResponse:
        """Publishes an event with a fresh correlation id and gives the first event on the reply topic that carries the
        same one (E2.8). The subscription stands before the event is published; events for others are passed over.

        Raises NoReplyError after `timeout` seconds from the publication.
        """
        correlation_id = str(uuid.uuid4())
        async with await self.subscribe([reply_topic]) as replies:
            await self.publish_event(topic, data, {**(metadata or {}), CORRELATION_ID: correlation_id})
            try:
                return await asyncio.wait_for(_reply(replies, correlation_id), timeout)
            except asyncio.TimeoutError:
                raise NoReplyError(reply_topic, correlation_id, timeout) from None

    # virtufin.State

    async def save_state(
        self,
        service: str,
        key: str,
        value: str,
        *,
        etag: str = "",
        include_value: bool = False,
        create_only: bool = False,
    ) -> str:
        """Stores a value and gives its new ETag. `service` is the caller's own name (F7).

        Raises AbortedError if `etag` is not the stored one.
        """
        request = state_pb2.SaveStateRequest(
            service=service, key=key, value=value, etag=etag, include_value=include_value, create_only=create_only
        )
        answer = await self._unary("_state", "SaveState", request)
        _acknowledged(answer)
        return answer.etag

    async def get_state(self, service: str, key: str) -> Stored | None:
        """A stored value, if there is one."""
        answer = await self._unary("_state", "GetState", state_pb2.GetStateRequest(service=service, key=key))
        return Stored(answer.value, answer.etag) if answer.value or answer.etag else None

    async def get_all_state(self, service: str) -> dict[str, str]:
        """All registered keys of a service that have a value."""
        answer = await self._unary("_state", "GetAllState", state_pb2.GetAllStateRequest(service=service))
        return dict(answer.values)

    async def register_keys(self, service: str, keys: Iterable[str]) -> None:
        """Makes keys known to `get_all_state` and to the events of changes."""
        request = state_pb2.RegisterKeysRequest(service=service, keys=keys)
        _acknowledged(await self._unary("_state", "RegisterKeys", request))

    async def delete_state(self, service: str, key: str, *, etag: str = "", include_value: bool = False) -> None:
        """Removes a value; a key that has none is no error.

        Raises AbortedError if `etag` is not the stored one.
        """
        request = state_pb2.DeleteStateRequest(service=service, key=key, etag=etag, include_value=include_value)
        _acknowledged(await self._unary("_state", "DeleteState", request))

    # virtufin.Config

    async def list_config_services(self) -> list[config_pb2.ConfigService]:
        """The backends as they are configured (`Config.ListServices`)."""
        return list((await self._unary("_config", "ListServices", config_pb2.ListConfigServicesRequest())).services)

    async def get_config_service(self, name: str) -> config_pb2.ConfigService:
        """A backend as it is configured (`Config.GetService`)."""
        return (await self._unary("_config", "GetService", config_pb2.GetConfigServiceRequest(name=name))).service


class Service:
    """A backend of the gateway, called with JSON. Unary methods only; streams take the backend's stubs."""

    def __init__(self, gateway: GatewayClient, name: str) -> None:
        self._gateway = gateway
        self.name = name

    async def call(self, method: str, request: Any = None) -> Any:
        """Calls a method with a message in the JSON form of protobuf; the answer is of the same form."""
        text = json.dumps({} if request is None else request)
        return json.loads(await self._gateway.invoke_json(self.name, method, text))


async def _reply(
    replies: Subscription[pubsub_pb2.PubsubSubscribeResponse], correlation_id: str
) -> pubsub_pb2.PubsubSubscribeResponse:
    async for event in replies:
        if event.metadata.get(CORRELATION_ID) == correlation_id:
            return event
    raise UnavailableError("the gateway ended the subscription before a reply came")


def _succeeded(answer: Any) -> None:
    """An answer that carries a status instead of being one."""
    if not answer.success:
        raise of_name(answer.status, answer.message)


def _acknowledged(answer: Any) -> None:
    # A service that says nothing more than the gRPC status says that it went well.
    status: StatusResponse = answer.status
    if answer.HasField("status"):
        _succeeded(status)
