//! What every component shares: metadata properties, the error shape with its retry verdict, the two build phases.
//!
//! This crate knows no building block and no backend. A component is built in two phases (design D3): `validate`
//! is pure and turns a [`Spec`] into a prepared opening; running that opening does the I/O.

mod error;
mod properties;
mod registration;
mod secret;

pub use error::{Answer, Error, ErrorKind, Retry, Side};
pub use properties::{Properties, Reads};
pub use registration::{Host, Open, Registration, Spec, Validate, open_with};
pub use secret::SecretString;

/// Free-form request or message metadata, as apps and backends pass it; names are case-sensitive as given.
pub type Metadata = std::collections::BTreeMap<String, String>;
