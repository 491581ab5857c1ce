//! Trace context, baggage, sampling, spans and exporters (rows C1–C4, C11).
//!
//! Spans are made explicitly, because names and attributes must be the peer's. A request that is not sampled
//! costs two random numbers and no allocation; a recorded one is boxed, and handed to a bounded queue when it
//! ends. Nothing is global: a [`Tracer`] is a value.

mod attributes;
pub mod baggage;
mod context;
mod current;
mod export;
mod ids;
mod options;
mod otlp;
mod sampler;
mod span;
mod stdout;
mod tracer;
mod zipkin;

pub use attributes::{HttpExchange, Protocol};
pub use baggage::InvalidBaggage;
pub use context::{MAX_TRACESTATE_BYTES, SpanContext, SpanId, TraceId, Traceparent};
pub use current::LogIds;
pub use ids::{IdSource, RandomIds};
pub use options::{Clock, TracerOptions};
pub use sampler::Sampler;
pub use span::{Recording, Span, SpanKind};
pub use tracer::Tracer;
