"""The worker manager: user code that turns events into events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from virtufin_common import ServiceClient
from virtufin_common.proto import common_pb2

from .proto import workmanager_pb2 as pb
from .proto.workmanager_pb2_grpc import WorkManagerStub


class WorkManagerClient(ServiceClient):
    """`virtufin.WorkManager`."""

    def __init__(self, host: str = "localhost", port: int = 5102, **options: Any) -> None:
        super().__init__(host, port, **options)

    def _open(self, channel: grpc.aio.Channel) -> None:
        self._stub = WorkManagerStub(channel)

    async def create_worker(
        self,
        *,
        mime_type: str,
        topic: str,
        url: str | None = None,
        content: bytes | None = None,
        credential: pb.SourceCredential | None = None,
        content_sha256: str = "",
        group: str = "",
        config: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        create_stopped: bool = False,
    ) -> str:
        """Makes a worker of code from a URL or of code itself, which runs at once unless told otherwise; gives its id.

        Raises InvalidArgumentError for code, MIME type or topic that will not do, PermissionDeniedError for a URL that
        may not be fetched, ValueError unless there is either a URL or content.
        """
        request = pb.CreateWorkerRequest(
            code_source=_source(url, content, credential, content_sha256),
            mime_type=mime_type,
            topic=topic,
            group=group,
            config=config,
            tags=tags,
            create_stopped=create_stopped,
        )
        return (await self._unary("_stub", "CreateWorker", request)).id

    async def list_workers(self, tags: Mapping[str, str] | None = None) -> list[pb.WorkerInfo]:
        """The workers that carry all of these tags; an empty value stands for any."""
        filters = [common_pb2.TagFilter(key=key, value=value) for key, value in (tags or {}).items()]
        return list((await self._unary("_stub", "ListWorkers", pb.ListWorkersRequest(filters=filters))).workers)

    async def delete_worker(self, id: str) -> None:
        """Removes a worker, running or not."""
        await self._unary("_stub", "DeleteWorker", pb.DeleteWorkerRequest(id=id))

    async def start_worker(self, id: str) -> None:
        """Starts a worker; one that runs is left as it is."""
        await self._unary("_stub", "StartWorker", pb.StartWorkerRequest(id=id))

    async def stop_worker(self, id: str) -> None:
        """Stops a worker; one that does not run is left as it is."""
        await self._unary("_stub", "StopWorker", pb.StopWorkerRequest(id=id))

    async def recover_workers(self) -> int:
        """Brings persisted workers back; gives their number."""
        return (await self._unary("_stub", "RecoverWorkers", pb.RecoverWorkersRequest())).recovered_count

    async def get_worker_history(self, id: str) -> list[pb.HistoryEntry]:
        """The code that a worker has had, oldest first."""
        return list((await self._unary("_stub", "GetWorkerHistory", pb.GetWorkerHistoryRequest(id=id))).entries)

    async def load_code_from_content(self, id: str, content: bytes, *, content_sha256: str = "") -> None:
        """Gives a worker new code."""
        request = pb.LoadCodeFromContentRequest(id=id, content=content, content_sha256=content_sha256)
        await self._unary("_stub", "LoadCodeFromContent", request)

    async def load_code_from_url(
        self, id: str, url: str, *, credential: pb.SourceCredential | None = None, content_sha256: str = ""
    ) -> None:
        """Gives a worker new code that the service fetches."""
        request = pb.LoadCodeFromUrlRequest(id=id, url=url, credential=credential, content_sha256=content_sha256)
        await self._unary("_stub", "LoadCodeFromUrl", request)

    async def load_code(
        self,
        id: str,
        *,
        url: str | None = None,
        content: bytes | None = None,
        credential: pb.SourceCredential | None = None,
        content_sha256: str = "",
    ) -> None:
        """Gives a worker new code of either kind."""
        source = _source(url, content, credential, content_sha256)
        await self._unary("_stub", "LoadCode", pb.LoadCodeRequest(id=id, code_source=source))

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


def _source(
    url: str | None, content: bytes | None, credential: pb.SourceCredential | None, content_sha256: str
) -> pb.CodeSource:
    if (url is None) == (content is None):
        raise ValueError("code comes either from a URL or as content")
    return pb.CodeSource(url=url, content=content, credential=credential, content_sha256=content_sha256)
