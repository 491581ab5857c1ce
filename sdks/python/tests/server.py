"""A gRPC server in this process that keeps what it is asked and answers what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2
from virtufin_gateway import PublishRequest, PubsubSubscribeResponse


@dataclass
class Call:
    path: str
    request: bytes
    metadata: dict[str, Any]


@dataclass
class Refusal:
    """A status with details."""

    code: grpc.StatusCode
    message: str = "no"
    details: tuple[Message, ...] = ()

    async def abort(self, context: grpc.aio.ServicerContext) -> None:
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(self.code, self.message)


@dataclass
class Server(grpc.GenericRpcHandler):
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Message | Refusal] = field(default_factory=dict)
    """By path; an empty message where there is none."""
    streams: dict[str, list[Message] | Refusal] = field(default_factory=dict)
    """By path, what a stream says before it ends."""
    replies: Callable[[PublishRequest], list[PubsubSubscribeResponse]] | None = None
    """What a published event brings about on every open `Pubsub.Subscribe`."""
    order: list[str] = field(default_factory=list)
    """Subscriptions begun and ended, events published."""
    port: int = 0

    def __post_init__(self) -> None:
        self._subscribers: list[asyncio.Queue[PubsubSubscribeResponse]] = []
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))

    async def start(self) -> Server:
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    def last(self, kind: type[Message]) -> Message:
        """The request of the last call."""
        return kind.FromString(self.calls[-1].request)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        path = details.method
        if path == "/virtufin.Pubsub/Subscribe" and path not in self.streams:
            return grpc.unary_stream_rpc_method_handler(self._subscribe)
        if path.endswith("/Subscribe"):

            async def stream(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
                self._keep(path, request, context)
                events = self.streams.get(path, [])
                if isinstance(events, Refusal):
                    await events.abort(context)
                    return
                for event in events:
                    yield event.SerializeToString()

            return grpc.unary_stream_rpc_method_handler(stream)

        async def unary(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            self._keep(path, request, context)
            if path == "/virtufin.Pubsub/PublishEvent" and self.replies is not None:
                self.order.append("published")
                for reply in self.replies(PublishRequest.FromString(request)):
                    for subscriber in self._subscribers:
                        subscriber.put_nowait(reply)
            answer = self.answers.get(path)
            if isinstance(answer, Refusal):
                await answer.abort(context)
            return b"" if answer is None else answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _subscribe(self, request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        self._keep("/virtufin.Pubsub/Subscribe", request, context)
        queue: asyncio.Queue[PubsubSubscribeResponse] = asyncio.Queue()
        self._subscribers.append(queue)
        self.order.append("subscribed")
        # The head says that the subscription stands.
        await context.send_initial_metadata(())
        try:
            while True:
                yield (await queue.get()).SerializeToString()
        finally:
            self._subscribers.remove(queue)
            self.order.append("left")

    def _keep(self, path: str, request: bytes, context: grpc.aio.ServicerContext) -> None:
        self.calls.append(Call(path, request, dict(context.invocation_metadata() or ())))
