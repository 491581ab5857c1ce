//! The chain of hashes.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A hash in hexadecimal.
const HASH_DIGITS: usize = 64;

const PREV: &str = ",\"prev\":\"";
const HASH: &str = "\",\"hash\":\"";
const END: &str = "\"}";

/// Where a chain stands: the last line's number and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) sequence: u64,
    pub(super) hash: String,
}

impl Default for Chain {
    /// Before the first line.
    fn default() -> Self {
        Self {
            sequence: 0,
            hash: "0".repeat(HASH_DIGITS),
        }
    }
}

impl Chain {
    /// Ends a line whose fields stand in `line` and were numbered `sequence`: `prev`, `hash`, brace and newline.
    pub(super) fn seal(&mut self, line: &mut String, sequence: u64) {
        line.push_str(PREV);
        line.push_str(&self.hash);
        self.hash = hash(line.as_bytes());
        self.sequence = sequence;
        line.push_str(HASH);
        line.push_str(&self.hash);
        line.push_str(END);
        line.push('\n');
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(HASH_DIGITS);
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A line taken apart, its own hash checked.
pub(super) struct Sealed<'a> {
    pub(super) sequence: u64,
    pub(super) prev: &'a str,
    pub(super) hash: &'a str,
}

/// Reads a line without its newline.
///
/// # Errors
/// When it is no line of an audit log, or not the one that was written.
pub(super) fn open(line: &str) -> Result<Sealed<'_>, &'static str> {
    const MALFORMED: &str = "it is not a line of an audit log";
    // Fixed widths from the end: a text inside the fields cannot be taken for the chain.
    let rest = line.strip_suffix(END).ok_or(MALFORMED)?;
    let (rest, own) = cut(rest, HASH).ok_or(MALFORMED)?;
    let (fields, prev) = cut(rest, PREV).ok_or(MALFORMED)?;
    let number = fields
        .strip_prefix("{\"seq\":")
        .and_then(|rest| rest.split(',').next())
        .ok_or(MALFORMED)?;
    let sequence = number.parse().map_err(|_| MALFORMED)?;
    if hash(rest.as_bytes()) != own {
        return Err("its text was changed");
    }
    Ok(Sealed {
        sequence,
        prev,
        hash: own,
    })
}

/// Cuts `<label><hash>` off the end.
fn cut<'a>(text: &'a str, label: &str) -> Option<(&'a str, &'a str)> {
    let at = text.len().checked_sub(HASH_DIGITS)?;
    let (rest, hash) = text.split_at_checked(at)?;
    hash.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    Some((rest.strip_suffix(label)?, hash))
}
