"""The asynchronous client of the same SDK, which shares no calls with the other one."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable

from cases import Skipped, case, has
from dapr.aio.clients import DaprClient
from dapr.clients.grpc._crypto import DecryptOptions, EncryptOptions
from dapr.clients.grpc._request import TransactionalStateOperation
from dapr.clients.grpc._response import UnlockResponseStatus
from dapr.conf import settings

TWO = os.environ["TWO_APP_ID"]


def case_of(name: str):
    """Registers a case that gets a client of sidecar one, in a loop of its own."""

    def register(function: Callable[[DaprClient], Awaitable[None]]):
        async def with_client() -> None:
            async with DaprClient() as client:
                await function(client)

        case(f"async.{name}")(lambda: asyncio.run(with_client()))
        return function

    return register


@case_of("state")
async def state(one: DaprClient) -> None:
    await one.save_state("state", "async-a", b"1")
    await one.execute_state_transaction("state", [TransactionalStateOperation(key="async-b", data=b"2")])
    found = await one.get_bulk_state("state", ["async-a", "async-b"])
    assert {item.key: item.data for item in found.items} == {"async-a": b"1", "async-b": b"2"}
    await one.delete_state("state", "async-a")
    assert (await one.get_state("state", "async-a")).data == b""


@case_of("publish-and-stream")
async def stream(one: DaprClient) -> None:
    has(DaprClient, "subscribe")
    subscription = await one.subscribe("pubsub", "async-streamed")
    await one.publish_event("pubsub", "async-streamed", json.dumps({"s": 1}), data_content_type="application/json")
    message = await subscription.next_message()
    assert message.data() == {"s": 1}, message.data()
    await subscription.respond_success(message)
    await subscription.close()


for protocol in ("http", "grpc"):

    @case_of(f"invoke.{protocol}")
    async def invoke(_: DaprClient, protocol: str = protocol) -> None:
        settings.DAPR_API_METHOD_INVOCATION_PROTOCOL = protocol
        async with DaprClient() as one:
            answer = await one.invoke_method(TWO, "echo", "hello", content_type="text/plain", http_verb="POST")
        told = json.loads(answer.data)
        assert told["app"] == "two" and told["text"] == "hello", told


@case_of("binding-and-secret")
async def binding(one: DaprClient) -> None:
    await one.invoke_binding("files", "create", "async", {"fileName": "async.txt"})
    assert (await one.invoke_binding("files", "get", "", {"fileName": "async.txt"})).data == b"async"
    assert (await one.get_secret("secrets", "greeting")).secret == {"greeting": "hello"}


@case_of("crypto")
async def crypto(one: DaprClient) -> None:
    plain = os.urandom(150_000)
    sealed = await (await one.encrypt(plain, EncryptOptions("keys", "rsa.pem", "RSA"))).read()
    opened = await (await one.decrypt(sealed, DecryptOptions("keys", "rsa.pem"))).read()
    assert opened == plain


@case_of("lock")
async def lock(one: DaprClient) -> None:
    names = {component.name for component in (await one.get_metadata()).registered_components}
    if "lock" not in names:
        raise Skipped("this sidecar has no component lock")
    assert (await one.try_lock("lock", "async-thing", "me", 30)).success
    answer = await one.unlock("lock", "async-thing", "me")
    assert answer.status == UnlockResponseStatus.success


@case_of("metadata")
async def metadata(one: DaprClient) -> None:
    await one.set_metadata("async-colour", "teal")
    told = await one.get_metadata()
    assert told.extended_metadata["async-colour"] == "teal", told.extended_metadata
