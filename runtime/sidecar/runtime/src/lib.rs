//! One sidecar as a value: options, wiring, life cycle, health, metadata, shutdown.
