"""What can come of a call: an exception per gRPC status, with the details that services send along (E2.5)."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
_VERSION_MISMATCH = "API_VERSION_MISMATCH"


class VirtufinError(Exception):
    """Anything that a client raises."""


class NotConnectedError(VirtufinError):
    """The client was not entered: `async with Client(...) as client`, or `await client.connect()`."""


class NoReplyError(VirtufinError, TimeoutError):
    """No event with the correlation id arrived in time (E2.8)."""

    def __init__(self, topic: str, correlation_id: str, waited: float) -> None:
        super().__init__(f"no reply on topic {topic!r} to correlation id {correlation_id} within {waited:g} s")
        self.topic = topic
        self.correlation_id = correlation_id
        self.waited = waited


@dataclass(frozen=True)
class Violation:
    """A field of a request, and what is wrong with it."""

    field: str
    description: str


class StatusError(VirtufinError):
    """A gRPC status that is no success; each has a subclass."""

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        domain: str | None = None,
        metadata: dict[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        text = message if reason is None else f"{message} ({reason})"
        super().__init__("; ".join([text, *(f"{wrong.field}: {wrong.description}" for wrong in violations)]))
        self.message = message
        """For people."""
        self.reason = reason
        """For programs: the reason of `google.rpc.ErrorInfo`, such as `NOT_OWNER`."""
        self.domain = domain
        self.metadata = metadata or {}
        """What belongs to the reason."""
        self.violations = violations
        """Fields of the request that are wrong."""


class CancelledError(StatusError):
    code = grpc.StatusCode.CANCELLED


class UnknownError(StatusError):
    code = grpc.StatusCode.UNKNOWN


class InvalidArgumentError(StatusError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class DeadlineExceededError(StatusError, TimeoutError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotFoundError(StatusError):
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(StatusError):
    code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDeniedError(StatusError):
    code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhaustedError(StatusError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPreconditionError(StatusError):
    """`reason` is `NOT_OWNER` where another instance has the connection."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class ApiVersionMismatchError(FailedPreconditionError):
    """Service and client speak different versions of the contract; one of them has to be replaced (E2.7)."""

    def __str__(self) -> str:
        return f"API version mismatch: {super().__str__()}"


class AbortedError(StatusError):
    """An ETag is not the stored one."""

    code = grpc.StatusCode.ABORTED


class OutOfRangeError(StatusError):
    code = grpc.StatusCode.OUT_OF_RANGE


class UnimplementedError(StatusError):
    code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(StatusError):
    code = grpc.StatusCode.INTERNAL


class UnavailableError(StatusError):
    """Nothing answers, or the service says so."""

    code = grpc.StatusCode.UNAVAILABLE


class DataLossError(StatusError):
    code = grpc.StatusCode.DATA_LOSS


class UnauthenticatedError(StatusError):
    code = grpc.StatusCode.UNAUTHENTICATED


_BY_CODE: dict[grpc.StatusCode, type[StatusError]] = {
    kind.code: kind for kind in StatusError.__subclasses__() if kind is not ApiVersionMismatchError
}


def of_name(name: str, message: str) -> StatusError:
    """The error of a status's name, as it stands in answers that are no status themselves."""
    code = grpc.StatusCode.__members__.get(name, grpc.StatusCode.UNKNOWN)
    return _BY_CODE.get(code, UnknownError)(message)


def of_call(error: grpc.aio.AioRpcError) -> StatusError:
    """The error of a call that failed."""
    message = error.details() or ""
    kind = _BY_CODE.get(error.code(), UnknownError)
    status = _status(error)
    if status is None:
        return kind(message)
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    reason = domain = None
    metadata: dict[str, str] = {}
    violations: list[Violation] = []
    for detail in status.details:
        try:
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
                reason, domain, metadata = info.reason, info.domain, dict(info.metadata)
            elif detail.Is(request.DESCRIPTOR) and detail.Unpack(request):
                violations += [Violation(wrong.field, wrong.description) for wrong in request.field_violations]
        except DecodeError:
            continue
    if kind is FailedPreconditionError and reason == _VERSION_MISMATCH:
        kind = ApiVersionMismatchError
    return kind(message, reason=reason, domain=domain, metadata=metadata, violations=tuple(violations))


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
