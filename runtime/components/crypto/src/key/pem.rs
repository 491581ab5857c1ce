//! PEM blocks (RFC 7468).

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{KeyError, SecretBytes};

const LINE: usize = 64;

/// A block: its label and its content.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) content: SecretBytes,
}

/// The first block of a text; what stands before it is skipped.
pub(super) fn read(bytes: &[u8]) -> Result<Block, KeyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| KeyError::Pem("not text"))?;
    let mut lines = text.lines().map(str::trim);
    let label = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or(KeyError::Pem("no BEGIN line"))?;
    let end = format!("-----END {label}-----");
    let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
    for line in lines {
        if line == end {
            let content = STANDARD
                .decode(base64.as_bytes())
                .map_err(|_| KeyError::Pem("not base64"))?;
            return Ok(Block {
                label: label.to_owned(),
                content: Zeroizing::new(content),
            });
        }
        if line.contains(':') {
            // Headers announce encryption, which no key of a component has a password for.
            return Err(KeyError::Pem("headers are not supported"));
        }
        base64.push_str(line);
    }
    Err(KeyError::Pem("no END line"))
}

/// A block as text.
pub(super) fn write(label: &str, content: &[u8]) -> String {
    let base64 = STANDARD.encode(content);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
