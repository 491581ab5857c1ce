//! What counts as "yes" in metadata and environment values.

/// Dapr's reading of a switch (kit `utils.IsTruthy`): `y`, `yes`, `true`, `t`, `on`, `1`, in any case, blanks
/// around them ignored.
#[must_use]
pub fn is_truthy(value: &str) -> bool {
    matches!(
        value.trim().to_ascii_lowercase().as_str(),
        "y" | "yes" | "true" | "t" | "on" | "1"
    )
}
