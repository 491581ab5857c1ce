"""What the clients share: errors, metadata, the structure of the contract."""

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from server import Refusal
from virtufin_common import (
    API_VERSION,
    ApiVersionMismatchError,
    FailedPreconditionError,
    StatusError,
    UnavailableError,
    Violation,
)
from virtufin_common.errors import of_name
from virtufin_gateway import GatewayClient
from virtufin_websocketmanager import WebSocketManagerClient
from virtufin_workmanager import WorkManagerClient

LIST = "/virtufin.Gateway/ListServices"
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


# X1
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_every_status_has_an_exception_of_its_own(server, code):
    server.answers[LIST] = Refusal(code, "why")
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(StatusError, match="why") as caught:
            await client.list_services()
    assert caught.value.code is code
    assert type(caught.value).__name__ == "".join(word.title() for word in code.name.split("_")) + "Error"
    assert type(of_name(code.name, "why")) is type(caught.value)


# X2
async def test_details_of_a_status_are_kept(server):
    info = ErrorInfo(reason="NOT_OWNER", domain="virtufin", metadata={"owner": "b"})
    wrong = BadRequest(field_violations=[BadRequest.FieldViolation(field="id", description="not here")])
    server.answers[LIST] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "elsewhere", (info, wrong))
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(FailedPreconditionError) as caught:
            await client.list_services()
    error = caught.value
    assert (error.message, error.reason, error.domain) == ("elsewhere", "NOT_OWNER", "virtufin")
    assert error.metadata == {"owner": "b"}
    assert error.violations == (Violation("id", "not here"),)
    assert str(error) == "elsewhere (NOT_OWNER); id: not here"


# X3
async def test_another_version_of_the_contract_is_told_by_its_own_error(server):
    info = ErrorInfo(reason="API_VERSION_MISMATCH", domain="virtufin")
    server.answers[LIST] = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the service speaks 2.0.0", (info,))
    async with GatewayClient("127.0.0.1", server.port) as client:
        with pytest.raises(ApiVersionMismatchError, match="API version mismatch: the service speaks 2.0.0"):
            await client.list_services()


# X4
async def test_version_and_metadata_are_sent_with_every_call(server):
    for kind in (GatewayClient, WorkManagerClient, WebSocketManagerClient):
        async with kind("127.0.0.1", server.port, metadata={"dapr-app-id": "it"}) as client:
            call = {
                GatewayClient: lambda: client.subscribe_events(),
                WorkManagerClient: lambda: client.list_workers(),
                WebSocketManagerClient: lambda: client.list(),
            }[kind]
            await call()
        assert server.calls[-1].metadata["x-api-version"] == API_VERSION == "1.0.0"
        assert server.calls[-1].metadata["dapr-app-id"] == "it"


async def test_nobody_there_is_unavailable(server):
    await server.stop()
    async with GatewayClient("127.0.0.1", server.port) as client:
        for call in (client.list_services(), client.subscribe(["a"])):
            with pytest.raises(UnavailableError):
                await call


SCALARS = {getattr(FieldDescriptor, name): name[5:].lower() for name in dir(FieldDescriptor) if name.startswith("TYPE_")}


def kind(field):
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{SCALARS[key.type]}, {SCALARS[value.type]}>"
    inner = field.message_type or field.enum_type
    name = inner.full_name if inner is not None else SCALARS[field.type]
    return f"repeated {name}" if field.is_repeated else name


# X7
def test_every_message_enum_and_service_has_the_structure_of_the_contract(structure):
    pool = descriptor_pool.Default()
    for name, fields in structure["messages"].items():
        message = pool.FindMessageTypeByName(name)
        assert [
            {"name": field.name, "number": field.number, "type": kind(field)} for field in message.fields
        ] == fields, name
    for name, values in structure["enums"].items():
        enum = pool.FindEnumTypeByName(name)
        assert {value.name: value.number for value in enum.values} == values
    for name, methods in structure["services"].items():
        service = pool.FindServiceByName(name)
        assert [method.name for method in service.methods] == [method["name"] for method in methods]
