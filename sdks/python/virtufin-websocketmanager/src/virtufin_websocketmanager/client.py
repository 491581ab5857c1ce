"""The WebSocket manager: connections to the outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from virtufin_common import ServiceClient
from virtufin_common.proto import common_pb2

from .proto import websocketmanager_pb2 as pb
from .proto.websocketmanager_pb2_grpc import WebSocketManagerStub

SEND_TIMEOUT = 10.0
"""Seconds that the service awaits the answer to a message unless told otherwise (I2.3)."""


class WebSocketManagerClient(ServiceClient):
    """`virtufin.WebSocketManager`."""

    def __init__(self, host: str = "localhost", port: int = 5202, **options: Any) -> None:
        super().__init__(host, port, **options)

    def _open(self, channel: grpc.aio.Channel) -> None:
        self._stub = WebSocketManagerStub(channel)

    async def connect_to(
        self, url: str, *, auto_reconnect: bool = False, tags: Mapping[str, str] | None = None
    ) -> pb.ConnectResponse:
        """Opens a connection to a `ws` or `wss` URL (`Connect`; `connect` connects this client); gives id and status.

        Raises InvalidArgumentError for another URL, UnavailableError if nobody is there.
        """
        request = pb.ConnectRequest(url=url, auto_reconnect=auto_reconnect, tags=tags)
        return await self._unary("_stub", "Connect", request)

    async def list(self, tags: Mapping[str, str] | None = None) -> list[pb.WebSocketConnection]:
        """The connections that carry all of these tags; an empty value stands for any."""
        filters = [common_pb2.TagFilter(key=key, value=value) for key, value in (tags or {}).items()]
        return [*(await self._unary("_stub", "List", pb.ListRequest(filters=filters))).connections]

    async def disconnect(self, id: str) -> None:
        """Closes a connection.

        Raises FailedPreconditionError with reason `NOT_OWNER` if another instance has it.
        """
        await self._unary("_stub", "Disconnect", pb.DisconnectRequest(id=id))

    async def send(
        self, id: str, message: bytes, content_type: str = "", *, timeout: float = SEND_TIMEOUT
    ) -> bytes:
        """Sends a message and gives the one that answers it; the service awaits that for `timeout` seconds.

        Raises DeadlineExceededError without an answer.
        """
        request = pb.SendRequest(
            id=id,
            message=message,
            # 0 would ask for the service's default.
            timeout_ms=max(1, round(timeout * 1000)),
            content_type=content_type,
        )
        return (await self._unary("_stub", "Send", request, patience=timeout)).response

    async def send_raw(self, id: str, message: bytes, content_type: str = "") -> None:
        """Sends a message as it is."""
        await self._unary("_stub", "SendRaw", pb.SendRawRequest(id=id, message=message, content_type=content_type))

    async def start_publish(self, id: str, topic: str) -> None:
        """Has every later message of the connection published to a topic."""
        await self._unary("_stub", "StartPublish", pb.StartPublishRequest(id=id, topic=topic))

    async def stop_publish(self, id: str) -> None:
        """Ends that."""
        await self._unary("_stub", "StopPublish", pb.StopPublishRequest(id=id))

    async def set_tag(self, id: str, key: str, value: str) -> None:
        """Sets a tag; an empty value removes it."""
        await self._unary("_stub", "SetTag", common_pb2.SetTagRequest(id=id, key=key, value=value))

    async def get_tag(self, id: str, key: str) -> str | None:
        """The value of a tag, if there is one."""
        answer = await self._unary("_stub", "GetTag", common_pb2.GetTagRequest(id=id, key=key))
        return answer.value if answer.found else None

    async def set_tags(self, id: str, tags: Mapping[str, str]) -> None:
        """Replaces all tags."""
        await self._unary("_stub", "SetTags", common_pb2.SetTagsRequest(id=id, tags=tags))

    async def get_tags(self, id: str) -> dict[str, str]:
        """All tags."""
        return dict((await self._unary("_stub", "GetTags", common_pb2.GetTagsRequest(id=id))).tags)
