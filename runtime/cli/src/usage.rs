//! What is wrong with the command line itself, as against what went wrong while its work was done.

/// A flag, a value or a combination of flags that no run of this command line could make right. It leaves with 2, as
/// what clap refuses does; everything else that fails leaves with 1 (docs/cli.md).
#[derive(Debug)]
pub(crate) struct Usage(String);

/// Values of `--log-level`.
pub(crate) const LOG_LEVELS: [&str; 5] = ["debug", "info", "warn", "error", "fatal"];

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Usage {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether this is what an error comes from.
    pub(crate) fn is_behind(error: &anyhow::Error) -> bool {
        error.downcast_ref::<Self>().is_some()
    }
}

/// Leaves with a [`Usage`] error, as `bail!` does with any.
macro_rules! refuse {
    ($($text:tt)*) => {
        return Err($crate::usage::Usage::new(format!($($text)*)).into())
    };
}

pub(crate) use refuse;

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};

    use super::*;

    #[test]
    fn a_wrong_flag_is_known_under_what_was_said_above_it() {
        fn flag() -> Result<()> {
            refuse!("--{} cannot be empty", "topic");
        }
        let error = flag().context("publishing").unwrap_err();
        assert!(Usage::is_behind(&error));
        assert_eq!(format!("{error:#}"), "publishing: --topic cannot be empty");
        assert!(!Usage::is_behind(&anyhow::anyhow!("the disk is full")));
    }
}
