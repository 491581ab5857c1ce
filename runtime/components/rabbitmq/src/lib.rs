//! RabbitMQ over AMQP 0.9.1: [`pubsub`].
//!
//! Exchanges, queues, their arguments and the properties of messages are those of components-contrib
//! `pubsub/rabbitmq`, so that Go and Rust sidecars of one app share a queue.

mod connection;
mod error;
pub mod pubsub;
