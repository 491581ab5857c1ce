export { DEFAULT_PORT, WorkManagerClient } from "./client.js";
export * from "./proto/workmanager_pb.js";
