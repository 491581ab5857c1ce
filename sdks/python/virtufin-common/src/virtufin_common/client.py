"""A connection to a service, and what every call over it has in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc
from typing_extensions import Self

from .errors import NotConnectedError, of_call

API_VERSION = "1.0.0"
"""The version of the contract that this package speaks."""
API_VERSION_HEADER = "x-api-version"

Event = TypeVar("Event")

# A connection with streams that is silent for this long is asked whether it lives, and given up after as long again.
_KEEP_ALIVE = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 30_000)]


class ServiceClient:
    """What the clients have in common. Entering one connects, leaving it closes:

        async with GatewayClient("localhost", 5002) as gateway: ...
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 0,
        *,
        timeout: float = 30.0,
        api_version: str = API_VERSION,
        metadata: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """
        timeout: seconds that a unary call may take; streams have no limit.
        metadata: what every call carries, such as `dapr-app-id` where host and port are a sidecar's.
        credentials: for TLS; without them the connection is in the clear.
        channel: a connection made elsewhere; it is not closed here.
        """
        self.host = host
        self.port = port
        self.timeout = timeout
        self._metadata = ((API_VERSION_HEADER, api_version), *(metadata or {}).items())
        self._credentials = credentials
        self._given = channel
        self._channel: grpc.aio.Channel | None = None

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{host}:{self.port}"

    @property
    def connected(self) -> bool:
        return self._channel is not None

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection, for generated stubs.

        Raises NotConnectedError before `connect` and after `close`.
        """
        if self._channel is None:
            raise NotConnectedError(f"{type(self).__name__} is not connected")
        return self._channel

    async def connect(self) -> Self:
        """Makes the client ready. The connection itself is made by the first call, and anew after a loss."""
        if self._channel is None:
            if self._given is not None:
                self._channel = self._given
            elif self._credentials is not None:
                self._channel = grpc.aio.secure_channel(self.address, self._credentials, options=_KEEP_ALIVE)
            else:
                self._channel = grpc.aio.insecure_channel(self.address, options=_KEEP_ALIVE)
            self._open(self._channel)
        return self

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled. Closing twice does nothing."""
        channel, self._channel = self._channel, None
        if channel is not None and channel is not self._given:
            await channel.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self, channel: grpc.aio.Channel) -> None:
        """Makes the stubs."""

    async def _unary(self, stub: str, method: str, request: Any, patience: float = 0.0) -> Any:
        """Calls a unary method; `patience` is how long the service itself may let it take."""
        self.channel  # noqa: B018 - raises where there is none
        call = getattr(getattr(self, stub), method)
        try:
            return await call(request, timeout=self.timeout + patience, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise of_call(error) from error

    async def _stream(self, stub: str, method: str, request: Any) -> Subscription[Any]:
        """Calls a streaming method; returns when the service has taken it."""
        self.channel  # noqa: B018 - raises where there is none
        call = getattr(getattr(self, stub), method)(request, metadata=self._metadata)
        try:
            await call.initial_metadata()
            if call.done():
                # A refusal has a head as well; reading tells it.
                code = await call.code()
                if code is not grpc.StatusCode.OK:
                    await call.read()
        except grpc.aio.AioRpcError as error:
            raise of_call(error) from error
        return Subscription(call)


class Subscription(Generic[Event]):
    """Events as they come, until the service ends it or it is left: `async with await client.subscribe(...) as events`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise of_call(error) from error
        if event is grpc.aio.EOF:
            raise StopAsyncIteration
        return event

    def cancel(self) -> None:
        """Ends it."""
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
