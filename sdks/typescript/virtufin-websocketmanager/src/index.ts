export { DEFAULT_PORT, SEND_TIMEOUT_MS, WebSocketManagerClient } from "./client.js";
export * from "./proto/websocketmanager_pb.js";
