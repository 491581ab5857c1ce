//! Metadata of `middleware.http.external`.

use std::time::Duration;

use outrigger_component::{Error, Properties};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_BODY: usize = 4 << 20;
/// The most that `maxBodySize` may be.
const MOST_BODY: usize = 64 << 20;
const DEFAULT_CONCURRENCY: usize = 64;
/// The most that `maxConcurrency` may be.
const MOST_CONCURRENCY: usize = 1024;

/// Which answers the handler sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Responses {
    /// None: they stream past it.
    None,
    /// Those with a status from 400.
    Errors,
    /// All, each read whole.
    All,
}

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct ExternalConfig {
    /// The component's name, which errors and the handler see.
    pub name: String,
    /// The path of the socket.
    pub socket: String,
    /// How long one exchange with the handler may take.
    pub timeout: Duration,
    /// Whether the handler sees requests' bodies.
    pub read_body: bool,
    /// Which answers it sees.
    pub responses: Responses,
    /// Bytes of a body that the handler sees or writes.
    pub max_body: usize,
    /// Exchanges at once; more are answered 503.
    pub max_concurrency: usize,
}

impl ExternalConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When `socket` is missing or a value is none.
    pub fn parse(name: &str, properties: &Properties) -> Result<Self, Error> {
        let bounded = |name: &str, default: usize, most: usize| {
            let value = properties.number::<usize>(name)?.unwrap_or(default);
            if (1..=most).contains(&value) {
                Ok(value)
            } else {
                Err(Error::configuration(format!(
                    "metadata field {name:?} must be from 1 to {most}"
                )))
            }
        };
        let responses = match properties.non_empty("responses") {
            None | Some("none") => Responses::None,
            Some("errors") => Responses::Errors,
            Some("all") => Responses::All,
            Some(other) => {
                return Err(Error::configuration(format!(
                    "metadata field \"responses\": {other:?} is none of none, errors and all"
                )));
            }
        };
        let timeout = properties.duration("timeout")?.unwrap_or(DEFAULT_TIMEOUT);
        if timeout.is_zero() {
            return Err(Error::configuration(
                "metadata field \"timeout\" must not be zero",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            socket: properties.required("socket")?.to_owned(),
            timeout,
            read_body: properties.truthy("readBody"),
            responses,
            max_body: bounded("maxBodySize", DEFAULT_MAX_BODY, MOST_BODY)?,
            max_concurrency: bounded("maxConcurrency", DEFAULT_CONCURRENCY, MOST_CONCURRENCY)?,
        })
    }
}
