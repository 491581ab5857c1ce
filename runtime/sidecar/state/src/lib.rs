//! The state building block as served to apps: key prefixes, encryption at rest, HTTP and gRPC handlers, outbox hook.
