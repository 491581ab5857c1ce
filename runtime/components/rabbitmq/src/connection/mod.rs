//! How the broker is reached: settings, TLS, a connection that comes back.

mod link;
mod settings;
mod tls;

pub(crate) use link::{Link, closed};
pub(crate) use settings::{Settings, invalid};
