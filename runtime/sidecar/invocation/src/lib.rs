//! Service invocation: canonical targets, peers, the internal API, gRPC proxying and name resolution.
