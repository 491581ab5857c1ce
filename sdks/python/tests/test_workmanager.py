"""The worker manager's client (cases M)."""

import asyncio

import grpc
import pytest
import virtufin_workmanager as package
from server import Refusal
from virtufin_common import InvalidArgumentError, NotConnectedError, PermissionDeniedError
from virtufin_common.proto.common_pb2 import GetTagResponse, GetTagsResponse, SetTagRequest, SetTagsRequest
from virtufin_workmanager import (
    BearerCredential,
    CodeSource,
    CreateWorkerRequest,
    CreateWorkerResponse,
    DeleteWorkerRequest,
    GetWorkerHistoryRequest,
    GetWorkerHistoryResponse,
    HistoryEntry,
    ListWorkersRequest,
    ListWorkersResponse,
    LoadCodeFromContentRequest,
    LoadCodeFromUrlRequest,
    LoadCodeRequest,
    RecoverWorkersResponse,
    SourceCredential,
    StartWorkerRequest,
    StopWorkerRequest,
    WorkerInfo,
    WorkerStatus,
    WorkManagerClient,
)
from virtufin_workmanager.proto.workmanager_pb2_grpc import WorkManagerStub

SERVICE = "/virtufin.WorkManager/"
METHODS = {
    "CreateWorker": "create_worker",
    "ListWorkers": "list_workers",
    "DeleteWorker": "delete_worker",
    "StartWorker": "start_worker",
    "StopWorker": "stop_worker",
    "RecoverWorkers": "recover_workers",
    "GetWorkerHistory": "get_worker_history",
    "LoadCodeFromContent": "load_code_from_content",
    "LoadCodeFromUrl": "load_code_from_url",
    "LoadCode": "load_code",
    "SetTag": "set_tag",
    "GetTag": "get_tag",
    "SetTags": "set_tags",
    "GetTags": "get_tags",
}


def connected(server):
    return WorkManagerClient("127.0.0.1", server.port)


# M1
def test_the_worker_manager_is_on_this_machine_at_5102():
    assert WorkManagerClient().address == "localhost:5102"


# M2
def test_host_and_port_can_be_given():
    assert WorkManagerClient("workers.example", 6102).address == "workers.example:6102"


# M3
def test_every_method_of_the_contract_has_a_coroutine(structure):
    assert {method["name"] for method in structure["services"]["virtufin.WorkManager"]} == set(METHODS)
    for name in METHODS.values():
        assert asyncio.iscoroutinefunction(getattr(WorkManagerClient, name)), name


# M4
def test_types_can_be_imported():
    for name in package.__all__:
        assert hasattr(package, name), name
    assert package.WORKER_STATUS_RUNNING == WorkerStatus.Value("WORKER_STATUS_RUNNING") == 2


# M6
async def test_a_stub_can_be_made():
    async with WorkManagerClient() as client:
        assert callable(WorkManagerStub(client.channel).CreateWorker)


# M19
async def test_a_worker_is_made_of_code_from_a_url(server):
    server.answers[SERVICE + "CreateWorker"] = CreateWorkerResponse(id="w1")
    credential = SourceCredential(bearer=BearerCredential(token="t"))
    async with connected(server) as client:
        id = await client.create_worker(
            url="https://code.example/w.py",
            credential=credential,
            content_sha256="ab",
            mime_type="text/x-python",
            topic="in",
            group="g",
            config={"c": "1"},
            tags={"t": "2"},
            create_stopped=True,
        )
    assert id == "w1"
    assert server.last(CreateWorkerRequest) == CreateWorkerRequest(
        code_source=CodeSource(url="https://code.example/w.py", credential=credential, content_sha256="ab"),
        mime_type="text/x-python",
        topic="in",
        group="g",
        config={"c": "1"},
        tags={"t": "2"},
        create_stopped=True,
    )


# M20
async def test_a_worker_is_made_of_code_itself(server):
    server.answers[SERVICE + "CreateWorker"] = CreateWorkerResponse(id="w2")
    async with connected(server) as client:
        assert await client.create_worker(content=b"code", mime_type="text/x-python", topic="in") == "w2"
        assert server.last(CreateWorkerRequest).code_source.content == b"code"
        for wrong in ({}, {"url": "https://a", "content": b""}):
            with pytest.raises(ValueError, match="either"):
                await client.create_worker(**wrong, mime_type="text/x-python", topic="in")


# M21
async def test_a_client_that_was_not_entered_says_so():
    with pytest.raises(NotConnectedError):
        await WorkManagerClient().create_worker(content=b"", mime_type="text/x-python", topic="in")


# M22
async def test_list_workers_is_passed_on(server):
    server.answers[SERVICE + "ListWorkers"] = ListWorkersResponse(workers=[WorkerInfo(id="w1")])
    async with connected(server) as client:
        assert await client.list_workers({"team": "a"}) == [WorkerInfo(id="w1")]
    assert [(tag.key, tag.value) for tag in server.last(ListWorkersRequest).filters] == [("team", "a")]


# M23
async def test_delete_worker_is_passed_on(server):
    async with connected(server) as client:
        await client.delete_worker("w1")
    assert server.last(DeleteWorkerRequest).id == "w1"


# M24
async def test_start_worker_is_passed_on(server):
    async with connected(server) as client:
        await client.start_worker("w1")
    assert server.last(StartWorkerRequest).id == "w1"


# M25
async def test_stop_worker_is_passed_on(server):
    async with connected(server) as client:
        await client.stop_worker("w1")
    assert server.last(StopWorkerRequest).id == "w1"


# M26
async def test_recover_workers_is_passed_on(server):
    server.answers[SERVICE + "RecoverWorkers"] = RecoverWorkersResponse(recovered_count=3)
    async with connected(server) as client:
        assert await client.recover_workers() == 3


# M27
async def test_get_worker_history_is_passed_on(server):
    entries = [HistoryEntry(sha256="a"), HistoryEntry(sha256="b")]
    server.answers[SERVICE + "GetWorkerHistory"] = GetWorkerHistoryResponse(entries=entries)
    async with connected(server) as client:
        assert await client.get_worker_history("w1") == entries
    assert server.last(GetWorkerHistoryRequest).id == "w1"


# M28
async def test_load_code_from_content_is_passed_on(server):
    async with connected(server) as client:
        await client.load_code_from_content("w1", b"code", content_sha256="ab")
    assert server.last(LoadCodeFromContentRequest) == LoadCodeFromContentRequest(
        id="w1", content=b"code", content_sha256="ab"
    )


# M29
async def test_load_code_from_url_is_passed_on(server):
    async with connected(server) as client:
        await client.load_code_from_url("w1", "https://code.example")
        assert server.last(LoadCodeFromUrlRequest) == LoadCodeFromUrlRequest(id="w1", url="https://code.example")
        await client.load_code("w1", url="https://code.example")
        assert server.last(LoadCodeRequest).code_source.url == "https://code.example"


# M30
async def test_an_error_of_create_worker_is_typed(server):
    async with connected(server) as client:
        for code, kind in (
            (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
            (grpc.StatusCode.PERMISSION_DENIED, PermissionDeniedError),
        ):
            server.answers[SERVICE + "CreateWorker"] = Refusal(code, "not this code")
            with pytest.raises(kind, match="not this code"):
                await client.create_worker(content=b"", mime_type="text/x-python", topic="in")


# X10
async def test_tags_are_passed_on(server):
    server.answers[SERVICE + "GetTags"] = GetTagsResponse(tags={"a": "1"})
    async with connected(server) as client:
        await client.set_tag("w1", "a", "1")
        assert server.last(SetTagRequest) == SetTagRequest(id="w1", key="a", value="1")
        assert await client.get_tag("w1", "a") is None
        server.answers[SERVICE + "GetTag"] = GetTagResponse(value="", found=True)
        assert await client.get_tag("w1", "a") == ""
        await client.set_tags("w1", {"b": "2"})
        assert server.last(SetTagsRequest) == SetTagsRequest(id="w1", tags={"b": "2"})
        assert await client.get_tags("w1") == {"a": "1"}
