"""The WebSocket manager's client (cases W)."""

import asyncio

import grpc
import pytest
import virtufin_websocketmanager as package
from server import Refusal
from virtufin_common import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotConnectedError,
)
from virtufin_common.proto.common_pb2 import GetTagsResponse, SetTagsRequest
from virtufin_websocketmanager import (
    SEND_TIMEOUT,
    ConnectRequest,
    ConnectResponse,
    DisconnectRequest,
    ListRequest,
    ListResponse,
    SendRawRequest,
    SendRequest,
    SendResponse,
    StartPublishRequest,
    StopPublishRequest,
    WebSocketConnection,
    WebSocketManagerClient,
)
from virtufin_websocketmanager.proto.websocketmanager_pb2_grpc import WebSocketManagerStub

SERVICE = "/virtufin.WebSocketManager/"
METHODS = {
    "Connect": "connect_to",
    "List": "list",
    "Disconnect": "disconnect",
    "Send": "send",
    "SendRaw": "send_raw",
    "StartPublish": "start_publish",
    "StopPublish": "stop_publish",
    "SetTag": "set_tag",
    "GetTag": "get_tag",
    "SetTags": "set_tags",
    "GetTags": "get_tags",
}


def connected(server):
    return WebSocketManagerClient("127.0.0.1", server.port)


# W1
def test_the_websocket_manager_is_on_this_machine_at_5202():
    assert WebSocketManagerClient().address == "localhost:5202"


# W2
def test_host_and_port_can_be_given():
    assert WebSocketManagerClient("sockets.example", 6202).address == "sockets.example:6202"


# W3
def test_every_method_of_the_contract_has_a_coroutine(structure):
    assert {method["name"] for method in structure["services"]["virtufin.WebSocketManager"]} == set(METHODS)
    for name in METHODS.values():
        assert asyncio.iscoroutinefunction(getattr(WebSocketManagerClient, name)), name


# W4
def test_types_can_be_imported():
    for name in package.__all__:
        assert hasattr(package, name), name


# W5
async def test_a_stub_can_be_made():
    async with WebSocketManagerClient() as client:
        assert callable(WebSocketManagerStub(client.channel).Connect)


# W18
async def test_connect_is_passed_on(server):
    server.answers[SERVICE + "Connect"] = ConnectResponse(id="c1", status="Connected")
    async with connected(server) as client:
        answer = await client.connect_to("wss://a.example", auto_reconnect=True, tags={"t": "1"})
    assert answer == ConnectResponse(id="c1", status="Connected")
    assert server.last(ConnectRequest) == ConnectRequest(url="wss://a.example", auto_reconnect=True, tags={"t": "1"})


# W19
async def test_list_is_passed_on(server):
    server.answers[SERVICE + "List"] = ListResponse(connections=[WebSocketConnection(id="c1")])
    async with connected(server) as client:
        assert await client.list({"t": ""}) == [WebSocketConnection(id="c1")]
    assert [tag.key for tag in server.last(ListRequest).filters] == ["t"]


# W20
async def test_disconnect_is_passed_on(server):
    async with connected(server) as client:
        await client.disconnect("c1")
    assert server.last(DisconnectRequest).id == "c1"


# W21
async def test_send_is_passed_on(server):
    server.answers[SERVICE + "Send"] = SendResponse(response=b"pong")
    async with connected(server) as client:
        assert await client.send("c1", b"ping", "text/plain", timeout=0.5) == b"pong"
    assert server.last(SendRequest) == SendRequest(
        id="c1", message=b"ping", timeout_ms=500, content_type="text/plain"
    )


# W22
async def test_send_waits_for_ten_seconds_unless_told_otherwise(server):
    async with connected(server) as client:
        await client.send("c1", b"ping")
        assert server.last(SendRequest).timeout_ms == 10_000 == SEND_TIMEOUT * 1000
        await client.send("c1", b"ping", timeout=0)
        assert server.last(SendRequest).timeout_ms == 1


# W23
async def test_send_raw_is_passed_on(server):
    async with connected(server) as client:
        await client.send_raw("c1", b"\x00\xff", "application/octet-stream")
    assert server.last(SendRawRequest) == SendRawRequest(
        id="c1", message=b"\x00\xff", content_type="application/octet-stream"
    )


# W24
async def test_start_publish_is_passed_on(server):
    async with connected(server) as client:
        await client.start_publish("c1", "ticks")
    assert server.last(StartPublishRequest) == StartPublishRequest(id="c1", topic="ticks")


# W25
async def test_stop_publish_is_passed_on(server):
    async with connected(server) as client:
        await client.stop_publish("c1")
    assert server.last(StopPublishRequest).id == "c1"


# W26
async def test_a_closed_client_says_so(server):
    client = connected(server)
    async with client:
        assert client.connected
    assert not client.connected
    await client.close()
    with pytest.raises(NotConnectedError):
        await client.list()


# W27
async def test_an_error_of_connect_is_typed(server):
    server.answers[SERVICE + "Connect"] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "ws or wss only")
    async with connected(server) as client:
        with pytest.raises(InvalidArgumentError, match="ws or wss only"):
            await client.connect_to("http://a.example")


# W28
async def test_an_error_of_send_is_typed(server):
    server.answers[SERVICE + "Send"] = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer")
    async with connected(server) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.send("c1", b"ping", timeout=0.1)
    assert isinstance(caught.value, TimeoutError)


# W29
async def test_an_error_of_list_is_typed(server):
    server.answers[SERVICE + "List"] = Refusal(grpc.StatusCode.INTERNAL, "broken")
    async with connected(server) as client:
        with pytest.raises(InternalError, match="broken"):
            await client.list()


# X10
async def test_tags_are_passed_on(server):
    server.answers[SERVICE + "GetTags"] = GetTagsResponse(tags={"a": "1"})
    async with connected(server) as client:
        await client.set_tag("c1", "a", "")
        assert await client.get_tag("c1", "a") is None
        await client.set_tags("c1", {"b": "2"})
        assert server.last(SetTagsRequest) == SetTagsRequest(id="c1", tags={"b": "2"})
        assert await client.get_tags("c1") == {"a": "1"}
