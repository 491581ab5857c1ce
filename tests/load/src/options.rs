//! Flags of the three verbs.

use std::str::FromStr;

use anyhow::{Context, bail};

/// Pairs of flag and value, and switches, in the order given.
#[derive(Debug)]
pub(crate) struct Options {
    pairs: Vec<(String, String)>,
}

impl Options {
    /// Reads `--flag value` pairs; a flag followed by another flag, or by nothing, is a switch.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut arguments = arguments.peekable();
        let mut pairs = Vec::new();
        while let Some(flag) = arguments.next() {
            let Some(name) = flag.strip_prefix("--") else {
                bail!("{flag} is no flag")
            };
            let value = arguments
                .next_if(|next| !next.starts_with("--"))
                .unwrap_or_default();
            pairs.push((name.to_owned(), value));
        }
        Ok(Self { pairs })
    }

    /// Every value of a flag.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(flag, _)| flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a flag, when given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(flag, _)| flag == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a flag that must be given.
    pub(crate) fn required(&self, name: &str) -> anyhow::Result<&str> {
        self.text(name).with_context(|| format!("--{name} is missing"))
    }

    /// The value of a flag as a number, or a default.
    pub(crate) fn number<T>(&self, name: &str, default: T) -> anyhow::Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        match self.text(name) {
            Some(text) => text.parse().with_context(|| format!("--{name} {text}")),
            None => Ok(default),
        }
    }
}
