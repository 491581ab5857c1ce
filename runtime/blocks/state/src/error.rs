//! The errors all stores share, with the texts of components-contrib `state/errors.go` and `state/requests.go`.

use outrigger_component::{Error, ErrorKind};

/// An expectation about an item's version did not hold. Give a cause where there is more to say.
#[must_use]
pub fn etag_mismatch() -> Error {
    Error::new(
        ErrorKind::EtagMismatch,
        "possible etag mismatch. error from state store",
    )
}

/// A search for keys without a pattern.
#[must_use]
pub fn empty_pattern() -> Error {
    Error::invalid("keys like pattern cannot be empty")
}

/// A removal by prefix without one.
#[must_use]
pub fn empty_prefix() -> Error {
    Error::invalid("a prefix is required for deleteWithPrefix request")
}
