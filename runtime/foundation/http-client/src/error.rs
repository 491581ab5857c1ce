//! What can go wrong with a request.

/// A request that brought no usable answer. Addresses are shown without user, password and query: those may be secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address cannot be used.
    #[error("invalid URL: {0}")]
    Url(String),
    /// Certificates or keys cannot be used.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The request could not be written.
    #[error("invalid request")]
    Request(#[from] http::Error),
    /// Nobody answered.
    #[error("no answer from {url}")]
    Connection {
        /// Where.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The deadline passed.
    #[error("{url} did not answer within {seconds} s")]
    Timeout {
        /// Where.
        url: String,
        /// The deadline.
        seconds: f64,
    },
    /// The answer is larger than the client takes.
    #[error("the answer of {url} is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        url: String,
        /// The bound.
        limit: usize,
    },
    /// Redirects without end, or to where none may lead.
    #[error("{url} redirects {reason}")]
    Redirect {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An answer with a status that says no.
    #[error("{url} answered with status {status}")]
    Status {
        /// Where.
        url: String,
        /// The status.
        status: u16,
    },
    /// The document cannot be read as what it should be.
    #[error("cannot read the document at {url}: {reason}")]
    Document {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
}
