//! The header: three lines before the first segment.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use outrigger_component::Error;

use super::{BoxError, SCHEME_NAME, SEGMENT_SIZE, file_key::FileKey, manifest::Manifest};

/// A header as read, and what of the document was read with it.
pub(super) struct Header {
    pub(super) manifest: Bytes,
    code: Bytes,
    pub(super) rest: Bytes,
}

fn message(manifest: &[u8]) -> Vec<u8> {
    [SCHEME_NAME.as_bytes(), b"\n", manifest, b"\n"].concat()
}

pub(super) fn write(manifest: &Manifest, key: &FileKey) -> Result<Bytes, Error> {
    let mut header = message(&manifest.to_json()?);
    let code = STANDARD.encode(key.authenticate(&header));
    header.extend_from_slice(code.as_bytes());
    header.push(b'\n');
    if header.len() > SEGMENT_SIZE {
        return Err(Error::invalid("failed to sign header: header is too long"));
    }
    Ok(header.into())
}

pub(super) fn verify(header: &Header, key: &FileKey) -> Result<(), Error> {
    let code = STANDARD
        .decode(&header.code)
        .map_err(|error| Error::invalid("failed to decode header's signature").with_source(error))?;
    if key.is_authentic(&message(&header.manifest), &code) {
        Ok(())
    } else {
        Err(Error::invalid("failed to validate the document's signature"))
    }
}

/// Reads chunks until the third line break; gives up after the most a header may have.
pub(super) async fn read<S, E>(input: &mut S) -> Result<Header, Error>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<BoxError>,
{
    let mut buffer = BytesMut::new();
    let mut lines: Vec<(usize, usize)> = Vec::with_capacity(3);
    let (mut start, mut seen) = (0, 0);
    let invalid = |text: &'static str| Error::invalid(format!("invalid header: {text}"));
    while lines.len() < 3 {
        while seen < buffer.len().min(SEGMENT_SIZE) && lines.len() < 3 {
            if buffer[seen] == b'\n' {
                if seen == start {
                    return Err(invalid("invalid format"));
                }
                if lines.is_empty() && buffer[..seen] != *SCHEME_NAME.as_bytes() {
                    return Err(invalid("unsupported scheme"));
                }
                lines.push((start, seen));
                start = seen + 1;
            }
            seen += 1;
        }
        if lines.len() == 3 || seen >= SEGMENT_SIZE {
            break;
        }
        match input.next().await {
            Some(Ok(chunk)) => buffer.extend_from_slice(&chunk),
            // What breaks within the header ends it, as upstream has it: what is missing is told then.
            Some(Err(_)) | None => break,
        }
    }
    match lines[..] {
        [] => Err(invalid("scheme name not found")),
        [_] => Err(invalid("manifest not found")),
        [_, manifest, code] => {
            let all = buffer.freeze();
            Ok(Header {
                manifest: all.slice(manifest.0..manifest.1),
                code: all.slice(code.0..code.1),
                rest: all.slice(start..),
            })
        }
        _ => Err(invalid("message authentication code not found")),
    }
}
