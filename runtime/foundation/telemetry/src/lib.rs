//! Logs, bounded metrics, trace context and span export with Dapr's names and formats.
