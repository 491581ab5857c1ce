export { type Ask, CORRELATION_ID, DEFAULT_PORT, GatewayClient, Service, type Stored } from "./client.js";
export * from "./proto/config_pb.js";
export * from "./proto/gateway_pb.js";
export * from "./proto/pubsub_pb.js";
export * from "./proto/state_pb.js";
