//! Where code comes from: the request itself, or a URL (H5).

use bytes::Bytes;
use outrigger_platform_fetch::{Credential, FetchError, Fetcher, Refusal};
use outrigger_platform_wire::virtufin as proto;
use proto::code_source::Source as Wanted;
use proto::source_credential::Credential as Shown;

use crate::error::ManagerError;
use crate::record::Source;
use crate::store::sha256;

/// Characters of a URL in logs.
const LONGEST_SHOWN: usize = 500;

/// Code that was got and checked.
#[derive(Debug, Clone)]
pub struct Code {
    /// The code.
    pub bytes: Bytes,
    /// Where from, without a credential.
    pub source: Source,
    /// In small hexadecimal digits.
    pub sha256: String,
}

/// Gets the code that a request names. `worker` is for the audit log.
///
/// # Errors
/// [`ManagerError::Invalid`] if nothing is named or the hash is another one, [`ManagerError::Denied`] if code may not
/// come from there; that is audited (H5.3).
pub async fn resolve(
    fetcher: &Fetcher,
    wanted: proto::CodeSource,
    max_bytes: usize,
    worker: &str,
) -> Result<Code, ManagerError> {
    let invalid = |why: String| ManagerError::Invalid(why);
    let credential = wanted.credential.and_then(|shown| shown.credential);
    let (bytes, source) = match wanted.source {
        None => return Err(invalid("code_source names neither url nor content".to_owned())),
        Some(Wanted::Content(_)) if credential.is_some() => {
            return Err(invalid("a credential is for a url only".to_owned()));
        }
        Some(Wanted::Content(bytes)) => (bytes, Source::Content),
        Some(Wanted::Url(url)) => {
            let credential = credential.map(read_credential).transpose()?;
            let bytes = fetch(fetcher, &url, credential.as_ref(), worker).await?;
            (bytes, Source::Url(url))
        }
    };
    if bytes.is_empty() {
        return Err(invalid("the code is empty".to_owned()));
    }
    if bytes.len() > max_bytes {
        return Err(invalid(format!(
            "the code has {} bytes, more than {max_bytes}",
            bytes.len()
        )));
    }
    let sha256 = sha256(&bytes);
    let expected = wanted.content_sha256.trim();
    if !expected.is_empty() && !expected.eq_ignore_ascii_case(&sha256) {
        return Err(invalid(format!(
            "the code has the SHA-256 {sha256}, not {expected}"
        )));
    }
    Ok(Code {
        bytes,
        source,
        sha256,
    })
}

async fn fetch(
    fetcher: &Fetcher,
    url: &str,
    credential: Option<&Credential>,
    worker: &str,
) -> Result<Bytes, ManagerError> {
    match fetcher.get_as(url, credential).await {
        Ok(fetched) => {
            tracing::info!(target: "audit", worker, url = shown(url), bytes = fetched.bytes.len(), "audit: code was fetched");
            Ok(fetched.bytes)
        }
        Err(FetchError::Refused(refusal)) => {
            tracing::warn!(target: "audit", worker, url = shown(url), reason = ?refusal, "audit: code source was refused");
            Err(match refusal {
                Refusal::Inner { .. } | Refusal::NotListed(_) | Refusal::Downgrade => {
                    ManagerError::Denied(refusal.to_string())
                }
                _ => ManagerError::Invalid(format!("url: {refusal}")),
            })
        }
        Err(error @ (FetchError::TooLarge(_) | FetchError::Status(_))) => {
            Err(ManagerError::Invalid(format!("url: {error}")))
        }
        Err(error) => Err(ManagerError::Fetch(error)),
    }
}

/// A URL for logs: its query may hold a token, and what stands before its host a password, also where that is why it
/// is refused.
fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = bare.split_once("://").unwrap_or(("", bare));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // A password with a slash in it makes no URL, and looks like a port and a path.
    let path = if host.contains(':') && path.contains('@') {
        ""
    } else {
        path
    };
    format!("{scheme}://{host}{path}")
        .chars()
        .take(LONGEST_SHOWN)
        .collect()
}

fn read_credential(shown: Shown) -> Result<Credential, ManagerError> {
    let read = match shown {
        Shown::Basic(basic) => Credential::basic(&basic.username, &basic.password),
        Shown::Bearer(bearer) => Credential::bearer(&bearer.token),
    };
    // What it is stays unsaid.
    read.ok_or_else(|| ManagerError::Invalid("the credential has characters that none can have".to_owned()))
}

/// A source as it is told: without its content, with its hash (R4).
pub fn told(source: &Source, sha256: &str) -> proto::CodeSource {
    proto::CodeSource {
        source: match source {
            Source::Content => None,
            Source::Url(url) => Some(Wanted::Url(url.clone())),
        },
        credential: None,
        content_sha256: sha256.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_show_no_secret_of_a_url() {
        for (url, expected) in [
            ("https://a.example/b?sig=s3cret#s3cret", "https://a.example/b"),
            ("https://me:s3cret@a.example/b", "https://a.example/b"),
            ("https://me:s3@cret@a.example/b", "https://a.example/b"),
            ("https://me:5/s3cret@a.example/b", "https://me:5"),
            ("https://a.example/@b/c", "https://a.example/@b/c"),
            ("s3cret@a.example", "://a.example"),
        ] {
            assert_eq!(shown(url), expected);
        }
        assert!(shown(&"x".repeat(10_000)).len() < 600);
    }
}
