//! mDNS in Dapr's form and the per-user runtime registry.
//!
//! Three resolvers: [`Mdns`] finds and is found by any Dapr sidecar on the link, [`RuntimeRegistry`] knows the
//! sidecars of this user on this host without a server and without multicast, and [`Composite`] asks several
//! resolvers in order. All three are live views: they answer from memory and kernel state, so a caller need not
//! cache what they say.

mod composite;
mod mdns;
#[cfg(unix)]
mod runtime_registry;

pub use composite::Composite;
pub use mdns::{Mdns, MdnsOptions};
#[cfg(unix)]
pub use runtime_registry::{Entry, RuntimeRegistry};
