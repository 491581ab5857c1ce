//! What can go wrong.

use std::{net::IpAddr, time::Duration};

/// Why a URL is not asked. The texts name what the caller wrote, never what a resolver said: a stranger shall not
/// learn an inner network's addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no URL.
    #[error("not a URL: {0}")]
    Malformed(String),
    /// Neither `http` nor `https`.
    #[error("scheme {0:?} is not http or https")]
    Scheme(String),
    /// A user name or a password, which only serve to make a host look like another.
    #[error("a URL with a user name or password is not fetched")]
    UserInfo,
    /// No host, or the port 0.
    #[error("the URL names no host that can be reached")]
    Host,
    /// An address of an inner network.
    #[error("host {host:?} is not on the public internet; allow it by name if it is meant")]
    Inner {
        /// As written.
        host: String,
        /// What it stands for; for logs, not for strangers.
        address: IpAddr,
    },
    /// None of the only hosts that are allowed.
    #[error("host {0:?} is not on the list of allowed hosts")]
    NotListed(String),
    /// From `https` to `http`.
    #[error("a redirect from https to http is not followed")]
    Downgrade,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It may not be asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The name has no address.
    #[error("host {0:?} is not known")]
    Unknown(String),
    /// No connection, or one that broke.
    #[error("host {host:?} cannot be asked")]
    Unreachable {
        /// As written.
        host: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not have it.
    #[error("the server answers {0}")]
    Status(http::StatusCode),
    /// Redirects without end.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// Larger than allowed.
    #[error("the document is larger than {0} bytes")]
    TooLarge(usize),
    /// Slower than allowed.
    #[error("no document within {0:?}")]
    Timeout(Duration),
}
