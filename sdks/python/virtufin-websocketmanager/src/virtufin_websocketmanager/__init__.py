"""Client of the platform's WebSocket manager."""

from virtufin_common.proto.common_pb2 import Empty, TagFilter

from .client import SEND_TIMEOUT, WebSocketManagerClient
from .proto.websocketmanager_pb2 import (
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
    WebSocketMessage,
)

__all__ = [
    "SEND_TIMEOUT",
    "ConnectRequest",
    "ConnectResponse",
    "DisconnectRequest",
    "Empty",
    "ListRequest",
    "ListResponse",
    "SendRawRequest",
    "SendRequest",
    "SendResponse",
    "StartPublishRequest",
    "StopPublishRequest",
    "TagFilter",
    "WebSocketConnection",
    "WebSocketManagerClient",
    "WebSocketMessage",
]
