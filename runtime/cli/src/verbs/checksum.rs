//! Checksums of files: SHA-256, in hex.

use std::{fmt::Write as _, fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Of bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Of a file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn of_file(path: &Path) -> Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 128 * 1024];
    loop {
        let read = file.read(&mut chunk).with_context(context)?;
        if read == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(&chunk[..read]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_bytes_agree() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), known);
        assert_eq!(of_file(&file).unwrap(), known);
    }
}
