export { answered, type ClientOptions, ServiceClient, Subscription, succeeded, TIMEOUT_MS } from "./client.js";
export {
  ApiVersionMismatchError,
  type Details,
  isVirtufinError,
  NoReplyError,
  ofCall,
  ofName,
  StatusError,
  type StatusKind,
  type Violation,
  type VirtufinError,
} from "./errors.js";
export { API_VERSION, API_VERSION_HEADER } from "./version.js";
export * from "./proto/common_pb.js";
