//! The flags of a verb.

use std::str::FromStr;

use anyhow::{Context, bail};

/// The arguments after the verb; each reader takes what it knows and [`Args::finish`] refuses the rest.
#[derive(Debug)]
pub(crate) struct Args {
    flags: Vec<String>,
    /// What stood behind `--`.
    trailing: Vec<String>,
}

impl Args {
    /// Splits the arguments at `--`.
    pub(crate) fn new(mut arguments: Vec<String>) -> Self {
        let trailing = match arguments.iter().position(|argument| argument == "--") {
            Some(at) => arguments.split_off(at).split_off(1),
            None => Vec::new(),
        };
        Self {
            flags: arguments,
            trailing,
        }
    }

    /// Takes a switch; true when it was given.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.flags.len();
        self.flags.retain(|flag| flag != name);
        before != self.flags.len()
    }

    /// Takes `--name value` or `--name=value`.
    pub(crate) fn value(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(at) = self.flags.iter().position(|flag| {
            flag.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        }) else {
            return Ok(None);
        };
        let flag = self.flags.remove(at);
        if let Some((_, value)) = flag.split_once('=') {
            return Ok(Some(value.to_owned()));
        }
        if at == self.flags.len() {
            bail!("{name} needs a value");
        }
        Ok(Some(self.flags.remove(at)))
    }

    /// Takes a value and parses it, or gives the default.
    pub(crate) fn parsed<T>(&mut self, name: &str, default: T) -> anyhow::Result<T>
    where
        T: FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        match self.value(name)? {
            Some(text) => text.parse().with_context(|| format!("{name} {text}")),
            None => Ok(default),
        }
    }

    /// Takes what stood behind `--`.
    pub(crate) fn trailing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trailing)
    }

    /// Refuses what nobody took: a mistyped flag must not be ignored.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self.flags.into_iter().chain(self.trailing).next() {
            Some(unknown) => bail!("unknown argument {unknown}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn args(texts: &[&str]) -> Args {
        Args::new(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn values_and_switches_are_taken_in_any_order() {
        let mut args = args(&["--runs", "2", "--all", "--focus=^a=b", "--", "--rest"]);
        assert!(args.switch("--all"));
        assert_eq!(args.parsed("--runs", 1_u32).unwrap(), 2);
        assert_eq!(args.value("--focus").unwrap().as_deref(), Some("^a=b"));
        assert_eq!(args.trailing(), ["--rest"]);
        args.finish().unwrap();
    }

    #[test]
    fn what_is_unknown_or_lacks_its_value_is_refused() {
        assert!(args(&["--rnus", "2"]).finish().is_err());
        assert!(args(&["--runs"]).value("--runs").is_err());
        assert!(args(&["--runs", "x"]).parsed("--runs", 1_u32).is_err());
    }
}
