//! Logs, bounded metrics, trace context and span export with Dapr's names and formats.
//!
//! Three parts, each a value the binary builds and hands down (design D9, D13; rows C1–C11):
//!
//! * [`logs`]: `tracing` events as logrus-compatible text or JSON lines;
//! * [`metrics`]: one bounded set of Dapr's metric families per sidecar, rendered as Prometheus text;
//! * [`trace`]: W3C and gRPC trace context, baggage, sampling, spans and their exporters.
//!
//! [`export`] is what pushes them to a collector. [`audit`] is a log of its own: who did what, linked by hashes.
//!
//! There is no global state: no default registry, no global tracer, no process environment. Everything public
//! takes plain values, so resource types stay out of here.

pub mod audit;
pub mod export;
mod float;
pub mod logs;
pub mod metrics;
mod timestamp;
pub mod trace;

pub use metrics::Metrics;
pub use trace::Tracer;
