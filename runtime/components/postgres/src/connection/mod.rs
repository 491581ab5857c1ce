//! From metadata to connections.

mod connector;
mod conninfo;
mod settings;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use connector::{Connector, Wire};
pub(crate) use settings::{ExecMode, PoolSettings, Settings, duration};
