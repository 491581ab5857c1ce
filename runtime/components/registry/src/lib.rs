//! The one list of component types and how each is built.
//!
//! A type is searched here and nowhere else: one function per block lists its registrations, [`find`] picks one,
//! [`Category`] says which block a type belongs to. Nothing registers itself; a new backend is one line here, in
//! `types.txt` beside this crate and in its block's behaviour suite.
//!
//! Types that other processes offer by Unix socket are no part of the list: whoever opens components looks for them
//! once ([`pluggable::discover`]) and asks what was found before this list.
//!
//! # Features
//! One per family of backends (`sqlite`, `bindings`, `secretstores`, `crypto`, `conversation`, `middleware`,
//! `name-resolution`, `pluggable`, `redis`, `rabbitmq`), all on by default. The in-memory backends are always there.

mod blocks;
mod category;
mod find;
#[cfg(feature = "name-resolution")]
mod resolvers;
#[cfg(test)]
mod tests;

pub use blocks::{
    binding_sides, bindings, built_in_middleware, configuration, conversation, crypto, lock, middleware,
    name_resolution, pubsub, secret_stores, state,
};
pub use category::Category;
pub use find::{UnknownType, find, is_initial_version};
#[cfg(feature = "pluggable")]
pub use outrigger_components_pluggable as pluggable;
