#![doc = include_str!("../README.md")]

pub mod app;
pub mod client;
mod endpoint;
mod error;
mod event;
pub mod health;
pub mod outbox;
mod retry;
pub mod settings;
pub mod testing;

pub use app::{Ack, App, ServeError, Subscription};
pub use client::Client;
pub use endpoint::{Endpoint, Environment};
pub use error::Error;
pub use event::{Event, EventError};
pub use outbox::Outbox;
pub use retry::RetryPolicy;
pub use tokio_util::sync::CancellationToken;
