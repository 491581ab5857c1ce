//! What several verbs send: data from a flag, a file or standard input.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;

use crate::usage::refuse;

/// Most bytes read; a sidecar takes 4 MiB unless told otherwise.
const MAX_BYTES: u64 = 1 << 30;

/// `--data` and `--data-file`.
#[derive(Debug, Default, Args)]
pub(super) struct Payload {
    /// The data
    #[arg(short = 'd', long, allow_hyphen_values = true)]
    data: Option<String>,
    /// A file with the data; `-` for standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    data_file: Option<PathBuf>,
}

impl Payload {
    /// The data; `None` when neither flag is given.
    ///
    /// # Errors
    /// When both flags are given, or the file cannot be read.
    pub(super) fn read(&self, verb: &str) -> Result<Option<Bytes>> {
        match (&self.data, &self.data_file) {
            (Some(data), _) if !data.is_empty() && self.data_file.is_some() => {
                refuse!("only one of --data and --data-file is allowed in one {verb} command")
            }
            (_, Some(path)) => read(path).map(|bytes| Some(bytes.into())),
            (Some(data), None) => Ok(Some(data.clone().into())),
            (None, None) => Ok(None),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read the data from {}", path.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{} is above 1 GiB", path.display());
    }
    Ok(bytes)
}

/// What a sidecar or app said in an error answer, on one line: Dapr's error bodies by their code and message, others
/// as they are.
pub(super) fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| parsed.as_ref()?.get(name)?.as_str();
    match (field("errorCode"), field("message")) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        (None, Some(message)) => message.to_owned(),
        _ => text.trim().chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short() {
        assert_eq!(reason(br#"{"errorCode":"ERR_X","message":"no"}"#), "no (ERR_X)");
        assert_eq!(reason(b" plain\n"), "plain");
        assert_eq!(reason(&[b'x'; 2000]).len(), 500);
    }
}
