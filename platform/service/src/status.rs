//! gRPC errors with a reason that programs can read: `google.rpc.ErrorInfo` beside the message.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Whose reasons these are; the `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "virtufin.com";

/// An error with a reason in capitals (`NOT_OWNER`) and what belongs to it (`owner` → `instance-2`).
pub fn reasoned<'a>(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    facts: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let facts: HashMap<String, String> = facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, facts);
    Status::with_error_details(code, message, details)
}

/// The reason of an error made by [`reasoned`], if it is one.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}
