//! Metadata of `middleware.http.wasm`.

use std::path::Path;

use outrigger_component::{Error, Host, Properties};
use outrigger_http_client::{Client, ClientError, ClientOptions, Proxies};
use url::Url;

/// Larger files are no handlers.
const MAX_GUEST: usize = 64 << 20;

/// The metadata, read.
#[derive(Debug, Clone)]
pub struct WasmConfig {
    /// The component's name, for logs and answers.
    pub name: String,
    /// Where the guest is.
    pub source: Source,
    /// `guestConfig`: a text for the guest.
    pub guest_config: String,
    /// `strictSandbox`: the guest sees a made-up clock and made-up random numbers.
    pub strict_sandbox: bool,
}

/// Where a guest is.
#[derive(Debug, Clone)]
pub enum Source {
    /// `file://`, and the path as written.
    File(String),
    /// `http://` or `https://`.
    Address(Url),
}

impl WasmConfig {
    /// Reads the metadata.
    ///
    /// # Errors
    /// When the address is missing or of a kind that upstream cannot load either.
    pub fn parse(name: &str, properties: &Properties) -> Result<Self, Error> {
        let failed =
            |reason: String| Error::configuration(format!("wasm: failed to parse metadata: {reason}"));
        let url = properties
            .non_empty("url")
            .ok_or_else(|| failed("missing url".to_owned()))?;
        let source = match url.split_once(':') {
            None => return Err(failed(format!("invalid URL: {url}"))),
            Some(("file", path)) => Source::File(path.strip_prefix("//").unwrap_or(path).to_owned()),
            Some(("http" | "https", _)) => {
                Source::Address(Client::parse(url).map_err(|error| failed(error.to_string()))?)
            }
            Some((scheme, _)) => return Err(failed(format!("unsupported URL scheme: {scheme}"))),
        };
        Ok(Self {
            name: name.to_owned(),
            source,
            guest_config: properties.get("guestConfig").unwrap_or_default().to_owned(),
            strict_sandbox: properties.truthy("strictSandbox"),
        })
    }

    /// Loads the guest.
    pub(super) async fn load(&self, host: &Host) -> Result<Vec<u8>, Error> {
        match &self.source {
            Source::File(path) => read(&host.path(path)).await,
            Source::Address(url) => {
                let failed = |error: ClientError| {
                    Error::unavailable("wasm: failed to load the guest").with_source(error)
                };
                let client = Client::new(ClientOptions {
                    max_response: MAX_GUEST,
                    proxies: Proxies::from_environment(&host.environment),
                    ..ClientOptions::default()
                })
                .map_err(failed)?;
                Ok(client.get(url).await.map_err(failed)?.into_body().into())
            }
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| {
        Error::configuration(format!("wasm: cannot read {}", path.display())).with_source(error)
    };
    let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if size > MAX_GUEST as u64 {
        return Err(Error::configuration(format!(
            "wasm: {} is larger than {MAX_GUEST} bytes",
            path.display()
        )));
    }
    tokio::fs::read(path).await.map_err(failed)
}
