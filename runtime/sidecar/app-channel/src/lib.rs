//! The channel to the app: HTTP and gRPC, concurrency, tokens, health probes, configuration.
