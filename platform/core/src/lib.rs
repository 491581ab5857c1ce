//! The platform's data types (requirements J1, J2, J4, J5).
//!
//! - [`entity`]: entities with named attributes whose values come from providers.
//! - [`Variant`]: a value that says of what type it is, with a binary form other languages read.
//! - [`event`]: CloudEvents and workers' responses in the binary form of native workers (R7).
//! - [`money`]: currencies, amounts with a fixed number of decimals, cash.
//!
//! Nothing here is global: what is registered, is registered in a value.

pub mod entity;
pub mod event;
pub mod money;
mod variant;

pub use outrigger_platform_flatbuffers::{Invalid, MAX_NESTING};
pub use variant::{DecodeError, EncodeError, Kind, Variant, VariantError};
