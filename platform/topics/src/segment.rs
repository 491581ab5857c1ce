//! The pieces between the dots.

use std::fmt;

use crate::TopicError;

/// The scenario that is no simulation.
pub const LIVE: &str = "LIVE";

macro_rules! segment {
    ($(#[$doc:meta])* $name:ident, $most:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`TopicError::Segment`].
            pub fn new(text: &str) -> Result<Self, TopicError> {
                let fits: fn(u8) -> bool = $fits;
                if text.is_empty() || text.len() > $most || !text.bytes().all(fits) {
                    return Err(TopicError::Segment(text.to_owned()));
                }
                Ok(Self(text.to_owned()))
            }

            /// As written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

segment!(
    /// A venue, an entity, an event, a metric, a service: small letters, digits, `-` and `_`, 64 at most.
    Name,
    64,
    |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
);
segment!(
    /// An order, a trade, a pair, a symbol: letters, digits, `-` and `_`, 128 at most.
    Id,
    128,
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
);
segment!(
    /// A scenario or the selector of a hypothetical market: `^[A-Z0-9_]{1,32}$` (K9).
    ScenarioId,
    32,
    |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
);
