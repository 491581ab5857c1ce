//! How sidecars find one another: mDNS in Dapr's form, the per-user runtime registry, Consul, DNS, a pattern.
//!
//! Three resolvers of the machine: [`Mdns`] finds and is found by any Dapr sidecar on the link, [`RuntimeRegistry`] knows the
//! sidecars of this user on this host without a server and without multicast, and [`Composite`] asks several
//! resolvers in order. These are live views: they answer from memory and kernel state, so a caller need not
//! cache what they say. Three more ask others or nobody: [`Consul`], [`Dns`] and [`NameFormat`].

mod composite;
mod consul;
mod dns;
mod mdns;
mod nameformat;
#[cfg(unix)]
mod runtime_registry;

pub use composite::Composite;
pub use consul::{CONSUL, Consul};
pub use dns::{DNS, Dns};
pub use mdns::{Mdns, MdnsOptions};
pub use nameformat::{NAME_FORMAT, NameFormat};
#[cfg(unix)]
pub use runtime_registry::{Entry, RuntimeRegistry};
