//! The one error of all components (design D5): kind, retry verdict, side, operation, context, source.

use std::{borrow::Cow, error::Error as StdError, fmt};

/// What went wrong, as the surfaces need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The component's own configuration is wrong; fixing the file cures it.
    Configuration,
    /// The request is malformed.
    InvalidRequest,
    /// What was asked for does not exist.
    NotFound,
    /// The etag given is not the stored one.
    EtagMismatch,
    /// The etag given cannot be one of this store's.
    EtagInvalid,
    /// The backend cannot do this at all.
    Unsupported,
    /// The caller may not do this.
    Forbidden,
    /// The backend cannot be reached or is not ready.
    Unavailable,
    /// The operation took too long.
    Timeout,
    /// A bound of ours or of the backend is reached (queue full, too many operations).
    Exhausted,
    /// The component is closed.
    Closed,
    /// The other end answered with an error status of its own (HTTP 100–599, gRPC 0–16).
    Status(i32),
    /// Anything else.
    Internal,
}

/// Whether trying again can help. The code that knows decides; layers obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same request will fail again.
    Permanent,
    /// A later try may succeed.
    Transient,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The app's request or answer.
    App,
    /// Another sidecar.
    Peer,
    /// The backend behind the component.
    Component,
    /// Our own.
    Us,
}

/// What a component wants the API to answer, in place of the sidecar's own row (upstream's "kit errors", which
/// pluggable components send as a `google.rpc.ErrorInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// gRPC code, 0–16.
    pub grpc: i32,
    /// HTTP status.
    pub http: u16,
    /// Value of `errorCode`.
    pub code: String,
    /// The text, as the gRPC status carries it.
    pub message: String,
    /// Reason of the error info.
    pub reason: String,
    /// Domain of the error info.
    pub domain: String,
}

/// An error of a component operation. The message describes its own level only; causes are in `source`.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    retry: Retry,
    side: Side,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    answer: Option<Box<Answer>>,
}

impl Error {
    /// An error of this kind, with the retry verdict and side that usually go with it.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let (retry, side) = match kind {
            ErrorKind::Configuration
            | ErrorKind::InvalidRequest
            | ErrorKind::NotFound
            | ErrorKind::EtagMismatch
            | ErrorKind::EtagInvalid
            | ErrorKind::Unsupported
            | ErrorKind::Forbidden => (Retry::Permanent, Side::App),
            ErrorKind::Closed => (Retry::Permanent, Side::Us),
            ErrorKind::Exhausted => (Retry::Transient, Side::Us),
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Status(_) | ErrorKind::Internal => {
                (Retry::Transient, Side::Component)
            }
        };
        Self(Box::new(Inner {
            kind,
            retry,
            side,
            message: message.into(),
            context: Vec::new(),
            source: None,
            answer: None,
        }))
    }

    /// A configuration error, as `validate` reports it.
    pub fn configuration(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// A malformed request.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// Something the backend cannot do.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failure of the backend or of ours.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The backend cannot be reached.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// With a cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// With a key and value that help whoever reads it; never a secret.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.context.push((key, value.into()));
        self
    }

    /// With another retry verdict.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// With another side.
    #[must_use]
    pub fn with_side(mut self, side: Side) -> Self {
        self.0.side = side;
        self
    }

    /// With the answer that the component wants the API to give.
    #[must_use]
    pub fn with_answer(mut self, answer: Answer) -> Self {
        self.0.answer = Some(Box::new(answer));
        self
    }

    /// The answer that the component wants the API to give, if it decides that.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        self.0.answer.as_deref()
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whose fault it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.0.side
    }

    /// The message of this level, without context and causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Context pairs in the order they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }

    /// The whole chain on one line, `message: cause: cause`, as Go prints wrapped errors.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.0.message.to_string();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_joins_causes_and_display_stays_at_its_level() {
        let error = Error::unavailable("cannot reach the store").with_source("connection refused");
        assert_eq!(error.to_string(), "cannot reach the store");
        assert_eq!(error.chain(), "cannot reach the store: connection refused");
        assert_eq!(error.retry(), Retry::Transient);
    }
}
