//! State, pub/sub, configuration, lock and binding on Redis.
//!
//! What is stored is byte for byte what Dapr's Go components store (components-contrib `common/component/redis`,
//! `state/redis`, `pubsub/redis`, `configuration/redis`, `lock/redis`, `bindings/redis`), so that both can work on
//! one server at the same time. How it gets there is ours: all commands of a component share one connection, where
//! waiting ones leave in one write; scripts go by their hash; only blocking reads have connections of their own.
//!
//! `settings` reads the metadata all types share, `link` owns the connections and knows what may be sent twice.

mod certificates;
pub mod configuration;
mod failure;
mod link;
pub mod lock;
pub mod pubsub;
mod script;
mod settings;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod topologies;

pub mod bindings;
