#![doc = include_str!("../README.md")]

pub mod app;
mod breaker;
pub mod client;
pub mod configuration;
mod endpoint;
mod error;
mod event;
pub mod health;
pub mod outbox;
mod retry;
pub mod settings;
pub mod telemetry;
pub mod testing;

pub use app::{Ack, App, BindingEvent, ServeError, Subscription};
pub use breaker::{Breaker, BreakerPolicy, BreakerState, Breakers, Permit};
pub use client::Client;
pub use configuration::Configuration;
pub use endpoint::{Endpoint, Environment};
pub use error::Error;
pub use event::{Event, EventError};
pub use outbox::Outbox;
pub use retry::RetryPolicy;
pub use telemetry::Telemetry;
pub use tokio_util::sync::CancellationToken;
