"""The gateway's client (cases A)."""

import asyncio
import json
import uuid

import grpc
import pytest
import virtufin_gateway
from server import Refusal
from virtufin_common import (
    AbortedError,
    ApiVersionMismatchError,
    InvalidArgumentError,
    NoReplyError,
    NotConnectedError,
    NotFoundError,
    UnavailableError,
)
from virtufin_common.proto.common_pb2 import StatusResponse
from virtufin_gateway import (
    ConfigService,
    DeleteStateRequest,
    DeleteStateResponse,
    GatewayClient,
    GetAllStateResponse,
    GetConfigServiceRequest,
    GetConfigServiceResponse,
    GetMethodSchemaRequest,
    GetMethodSchemaResponse,
    GetStateResponse,
    InvokeJsonRequest,
    InvokeJsonResponse,
    InvokeRequest,
    InvokeResponse,
    ListConfigServicesResponse,
    ListMethodsResponse,
    ListServicesResponse,
    MethodInfo,
    MethodSchema,
    PublishRequest,
    PublishResponse,
    PubsubSubscribeRequest,
    PubsubSubscribeResponse,
    RegisterKeysRequest,
    SaveStateRequest,
    SaveStateResponse,
    Stored,
    SubscribeRequest,
    TopicEventRequest,
    UnsubscribeRequest,
)
from virtufin_gateway.proto.gateway_pb2_grpc import GatewayStub

# By rpc; names that several services have say whose they are.
METHODS = {
    "virtufin.Gateway": {
        "Invoke": "invoke",
        "InvokeJson": "invoke_json",
        "ListServices": "list_services",
        "ListMethods": "list_methods",
        "GetMethodSchema": "get_method_schema",
        "Subscribe": "subscribe_events",
    },
    "virtufin.Pubsub": {"PublishEvent": "publish_event", "Subscribe": "subscribe", "Unsubscribe": "unsubscribe"},
    "virtufin.State": {
        "SaveState": "save_state",
        "GetState": "get_state",
        "GetAllState": "get_all_state",
        "RegisterKeys": "register_keys",
        "DeleteState": "delete_state",
    },
    "virtufin.Config": {"ListServices": "list_config_services", "GetService": "get_config_service"},
}


# A1
def test_the_gateway_is_on_this_machine_at_5002():
    client = GatewayClient()
    assert client.address == "localhost:5002"
    assert GatewayClient.from_environment({}).address == "localhost:5002"


# A2
def test_host_and_port_can_be_given():
    assert GatewayClient("gateway.example", 6002).address == "gateway.example:6002"
    assert GatewayClient("::1", 6002).address == "[::1]:6002"
    environment = {"VIRTUFIN_API_HOST": "10.0.0.1", "VIRTUFIN_API_GRPC_PORT": "7002"}
    assert GatewayClient.from_environment(environment).address == "10.0.0.1:7002"


# A3
def test_every_method_of_the_contract_has_a_coroutine(structure):
    for service, methods in METHODS.items():
        assert {method["name"] for method in structure["services"][service]} == set(methods)
        for name in methods.values():
            assert asyncio.iscoroutinefunction(getattr(GatewayClient, name)), name


# A4
def test_types_can_be_imported(structure):
    for name in virtufin_gateway.__all__:
        assert hasattr(virtufin_gateway, name), name
    for service in METHODS:
        for method in structure["services"][service]:
            for message in (method["input"], method["output"]):
                assert message.removeprefix("virtufin.") in virtufin_gateway.__all__


# A6
async def test_a_stub_can_be_made():
    async with GatewayClient() as client:
        assert callable(GatewayStub(client.channel).ListServices)


async def test_a_client_that_was_not_entered_says_so():
    client = GatewayClient()
    for call in (client.list_services(), client.subscribe(["a"])):
        with pytest.raises(NotConnectedError):
            await call


def reply(correlation_id, data=b"", **metadata):
    return PubsubSubscribeResponse(topic="answers", data=data, metadata={"correlationid": correlation_id, **metadata})


# A8
async def test_the_reply_with_the_correlation_id_is_given(server):
    def answers(request):
        own = request.metadata["correlationid"]
        other = PubsubSubscribeResponse(topic="answers", data=b"no id")
        return [other, reply(str(uuid.uuid4()), b"another's"), reply(own, b"mine"), reply(own, b"late")]

    server.replies = answers
    async with GatewayClient("127.0.0.1", server.port) as client:
        event = await client.publish_with_result("ask", "answers", b"question", {"ce-type": "asked"}, timeout=10)
        assert event.data == b"mine"
        while "left" not in server.order:
            await asyncio.sleep(0)
    assert server.order == ["subscribed", "published", "left"]
    request = server.last(PublishRequest)
    assert (request.topic, request.data, request.metadata["ce-type"]) == ("ask", b"question", "asked")
    subscription = PubsubSubscribeRequest.FromString(server.calls[0].request)
    assert list(subscription.topics) == ["answers"]


async def test_interleaved_asks_get_their_own_replies(server):
    """Every reply reaches every subscriber, in the reverse order of the asks."""
    asked = []

    def answers(request):
        asked.append(request)
        if len(asked) < 10:
            return []
        return [reply(ask.metadata["correlationid"], ask.data) for ask in reversed(asked)]

    server.replies = answers
    async with GatewayClient("127.0.0.1", server.port) as client:
        events = await asyncio.gather(
            *(client.publish_with_result("ask", "answers", str(number).encode(), timeout=20) for number in range(10))
        )
    assert [event.data for event in events] == [str(number).encode() for number in range(10)]


# A9
async def test_a_reply_that_does_not_come_is_a_timeout(server):
    server.replies = lambda request: [reply("another")]
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(NoReplyError) as caught:
            await client.publish_with_result("ask", "answers", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.topic == "answers"
    assert caught.value.correlation_id in str(caught.value)


async def test_a_subscription_that_ends_before_the_reply_is_no_timeout(server):
    server.streams["/virtufin.Pubsub/Subscribe"] = []
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(UnavailableError, match="ended the subscription"):
            await client.publish_with_result("ask", "answers", timeout=10)


# A10
async def test_every_ask_makes_a_correlation_id(server):
    seen = []

    def answers(request):
        seen.append(request.metadata["correlationid"])
        return [reply(seen[-1])]

    server.replies = answers
    async with GatewayClient("127.0.0.1", server.port) as client:
        for _ in range(2):
            await client.publish_with_result("ask", "answers", timeout=10)
    assert len(set(seen)) == 2
    assert all(uuid.UUID(id).version == 4 for id in seen)


# A11
async def test_a_real_gateway_answers(real_gateway):
    async with GatewayClient(*real_gateway) as client:
        await client.list_services()


# A12
async def test_a_real_gateway_lists_services(real_gateway):
    async with GatewayClient(*real_gateway) as client:
        services = await client.list_services()
        assert services == [service.name for service in await client.list_config_services()]


# A13
async def test_a_real_gateway_lists_methods(real_gateway):
    async with GatewayClient(*real_gateway) as client:
        services = await client.list_services()
        assert services, "the gateway has no backends"
        assert await client.list_methods(services[0])
        with pytest.raises(NotFoundError):
            await client.list_methods("no-such-service")


# A14
async def test_a_real_gateway_publishes(real_gateway):
    topic = f"clients.{uuid.uuid4()}"
    async with GatewayClient(*real_gateway) as client, await client.subscribe([topic]) as events:
        await client.publish_event(topic, b'{"n":1}', {"ce-type": "test", "correlationid": "7"})
        event = await asyncio.wait_for(anext(events), 20)
    assert json.loads(event.data) == {"n": 1}
    assert event.metadata["correlationid"] == "7"


async def test_a_real_gateway_passes_replies_and_refuses_other_versions(real_gateway):
    ask, answers = (f"clients.{name}.{uuid.uuid4()}" for name in ("ask", "answers"))
    async with GatewayClient(*real_gateway) as client, await client.subscribe([ask]) as asked:

        async def answer():
            async for question in asked:
                for id in ("nobody", question.metadata["correlationid"]):
                    await client.publish_event(answers, question.data, {"correlationid": id})

        answering = asyncio.create_task(answer())
        events = await asyncio.gather(
            *(client.publish_with_result(ask, answers, str(number).encode(), timeout=20) for number in range(10))
        )
        answering.cancel()
        assert [event.data for event in events] == [str(number).encode() for number in range(10)]
        with pytest.raises(NoReplyError):
            await client.publish_with_result(answers, ask, timeout=0.1)
    async with GatewayClient(*real_gateway, api_version="9.0.0") as client:
        with pytest.raises(ApiVersionMismatchError):
            await client.list_services()


# X8
async def test_every_call_is_passed_on(server):
    ok = StatusResponse(success=True, status="OK")
    server.answers |= {
        "/virtufin.Gateway/Invoke": InvokeResponse(success=True, response_data=b"out"),
        "/virtufin.Gateway/ListServices": ListServicesResponse(services=["a", "b"]),
        "/virtufin.Gateway/ListMethods": ListMethodsResponse(methods=[MethodInfo(name="Do")]),
        "/virtufin.Gateway/GetMethodSchema": GetMethodSchemaResponse(schema=MethodSchema(schema_type="output")),
        "/virtufin.Pubsub/PublishEvent": PublishResponse(status=ok),
        "/virtufin.State/SaveState": SaveStateResponse(status=ok, etag="2"),
        "/virtufin.State/GetState": GetStateResponse(key="k", value="v", etag="1"),
        "/virtufin.State/GetAllState": GetAllStateResponse(values={"k": "v"}),
        "/virtufin.Config/ListServices": ListConfigServicesResponse(services=[ConfigService(name="a")]),
        "/virtufin.Config/GetService": GetConfigServiceResponse(service=ConfigService(name="b")),
    }
    async with GatewayClient("127.0.0.1", server.port) as client:
        assert await client.invoke("a", "Do", b"in") == b"out"
        assert server.last(InvokeRequest) == InvokeRequest(service="a", method="Do", request_data=b"in")
        assert await client.list_services() == ["a", "b"]
        assert [method.name for method in await client.list_methods("a")] == ["Do"]
        assert (await client.get_method_schema("a", "Do", "output")).schema_type == "output"
        assert server.last(GetMethodSchemaRequest).schema_type == "output"
        await client.publish_event("t", b"d", {"ce-id": "1"})
        assert server.last(PublishRequest) == PublishRequest(topic="t", data=b"d", metadata={"ce-id": "1"})
        await client.unsubscribe("s1")
        assert server.last(UnsubscribeRequest).subscription_id == "s1"
        assert await client.save_state("svc", "k", "v", etag="1", include_value=True) == "2"
        assert server.last(SaveStateRequest) == SaveStateRequest(
            service="svc", key="k", value="v", etag="1", include_value=True
        )
        assert await client.get_state("svc", "k") == Stored("v", "1")
        server.answers["/virtufin.State/GetState"] = GetStateResponse(key="k")
        assert await client.get_state("svc", "k") is None
        assert await client.get_all_state("svc") == {"k": "v"}
        await client.register_keys("svc", ["k", "l"])
        assert list(server.last(RegisterKeysRequest).keys) == ["k", "l"]
        await client.delete_state("svc", "k", etag="2")
        assert server.last(DeleteStateRequest) == DeleteStateRequest(service="svc", key="k", etag="2")
        assert [service.name for service in await client.list_config_services()] == ["a"]
        assert (await client.get_config_service("b")).name == "b"
        assert server.last(GetConfigServiceRequest).name == "b"


async def test_a_status_inside_an_answer_is_an_error_too(server):
    status = StatusResponse(success=False, status="ABORTED", message="stale")
    server.answers["/virtufin.State/DeleteState"] = DeleteStateResponse(status=status)
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(AbortedError, match="stale"):
            await client.delete_state("svc", "k", etag="1")


# X9
async def test_events_arrive_in_order_and_a_refusal_is_an_error(server):
    path = "/virtufin.Gateway/Subscribe"
    server.streams[path] = [TopicEventRequest(id=str(number)) for number in range(100)]
    async with GatewayClient("127.0.0.1", server.port) as client:
        async with await client.subscribe_events(services=["a"], event_types=["t"]) as events:
            assert [event.id async for event in events] == [str(number) for number in range(100)]
        assert server.last(SubscribeRequest) == SubscribeRequest(services=["a"], event_types=["t"])
        server.streams[path] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "bad filter")
        with pytest.raises(InvalidArgumentError, match="bad filter"):
            async with await client.subscribe_events() as events:
                await anext(events)


# X5
async def test_a_backend_is_called_by_name(server):
    server.answers["/virtufin.Gateway/InvokeJson"] = InvokeJsonResponse(
        success=True, status="OK", response_data='{"workers":[{"id":"w1"}]}'
    )
    async with GatewayClient("127.0.0.1", server.port) as client:
        answer = await client.service("workmanager").call("ListWorkers", {"filters": []})
    assert answer == {"workers": [{"id": "w1"}]}
    assert server.last(InvokeJsonRequest) == InvokeJsonRequest(
        service="workmanager", method="ListWorkers", request_data='{"filters": []}'
    )


# X6
async def test_an_error_of_a_backend_called_by_name_keeps_its_status(server):
    server.answers["/virtufin.Gateway/InvokeJson"] = InvokeJsonResponse(
        success=False, status="NOT_FOUND", message="no such worker"
    )
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(NotFoundError, match="no such worker"):
            await client.service("workmanager").call("StartWorker", {"id": "w1"})
