//! Events through the gateway (G5, G8, G9, G10).

mod filter;
mod hub;
mod publish;

pub use filter::Filter;
pub use hub::{Event, Hub, Options, Subscription};
pub use publish::{Outgoing, Publisher};
