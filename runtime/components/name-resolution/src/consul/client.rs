//! The agent's HTTP API, as much of it as a resolver needs.

use std::{fmt, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use outrigger_component::{Error, Host, SecretString};
use outrigger_http_client::{Client, ClientOptions, Identity, Proxies, TlsOptions};
use serde_json::Value;
use url::Url;

use super::config::{ClientConfig, QueryConfig};

const DEFAULT_ADDRESS: &str = "127.0.0.1:8500";
/// A list of instances is some kilobytes; this is some thousand instances.
const MAX_RESPONSE: usize = 4 << 20;
/// How long a call may take that does not wait on purpose.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The agent's own default for calls that wait, and the most that it takes.
const DEFAULT_WAIT: Duration = Duration::from_mins(5);
const MAX_WAIT: Duration = Duration::from_mins(10);

/// One agent.
pub(super) struct Agent {
    base: Url,
    client: Client,
    datacenter: Option<String>,
    wait_time: Option<Duration>,
    authorization: Option<HeaderValue>,
    token: Option<SecretString>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("host", &self.base.host_str())
            .finish_non_exhaustive()
    }
}

/// What a question for a service waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// The index of the answer known.
    pub(super) index: u64,
}

impl Agent {
    /// Reads files of the configuration; calls nobody.
    pub(super) async fn open(config: &ClientConfig, host: &Host) -> Result<Self, Error> {
        let environment = |name: &str| host.environment.non_empty(name).map(str::to_owned);
        let address = config
            .address
            .clone()
            .or_else(|| environment("CONSUL_HTTP_ADDR"))
            .unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let secure =
            environment("CONSUL_HTTP_SSL").is_some_and(|value| matches!(&*value, "1" | "t" | "true"));
        let scheme = config
            .scheme
            .clone()
            .unwrap_or_else(|| if secure { "https" } else { "http" }.to_owned());
        let address = if address.contains("://") {
            address
        } else {
            format!("{scheme}://{address}")
        };
        let invalid = |error| Error::configuration("failed to init consul client").with_source(error);
        let base = Client::parse(&address).map_err(invalid)?;
        let token_file = config
            .token_file
            .clone()
            .or_else(|| environment("CONSUL_HTTP_TOKEN_FILE"));
        // A file wins over the token beside it, as in Consul's library.
        let token = match token_file {
            Some(file) => {
                let text = String::from_utf8(read(host.path(&file)).await?)
                    .map_err(|_| Error::configuration(format!("the token in {file} is not text")))?;
                Some(text.trim().into())
            }
            None => config
                .token
                .clone()
                .or_else(|| environment("CONSUL_HTTP_TOKEN").map(SecretString::from)),
        };
        let authorization = config
            .basic_auth
            .as_ref()
            .map(|(name, password)| {
                let pair = STANDARD.encode(format!("{name}:{}", password.expose()));
                let mut value = HeaderValue::try_from(format!("Basic {pair}"))
                    .map_err(|_| Error::configuration("httpAuth cannot be sent"))?;
                value.set_sensitive(true);
                Ok::<_, Error>(value)
            })
            .transpose()?;
        if config.insecure_skip_verify {
            tracing::info!(
                "hashicorp consul: you are using 'insecureSkipVerify' to skip server config verify which is unsafe!"
            );
        }
        let client = Client::new(ClientOptions {
            timeout: TIMEOUT,
            max_response: MAX_RESPONSE,
            tls: tls(config, host).await?,
            proxies: Proxies::from_environment(&host.environment),
        })
        .map_err(invalid)?;
        Ok(Self {
            base,
            client,
            datacenter: config.datacenter.clone(),
            wait_time: config.wait_time,
            authorization,
            token,
        })
    }

    /// Whether the agent is there.
    pub(super) async fn check(&self) -> Result<(), Error> {
        self.call(Method::GET, &["agent", "self"], Vec::new(), None)
            .await?;
        Ok(())
    }

    pub(super) async fn register(&self, registration: &Value) -> Result<(), Error> {
        let path = ["agent", "service", "register"];
        self.call(Method::PUT, &path, Vec::new(), Some(registration))
            .await?;
        Ok(())
    }

    pub(super) async fn deregister(&self, id: &str) -> Result<(), Error> {
        let path = ["agent", "service", "deregister", id];
        self.call(Method::PUT, &path, Vec::new(), None).await?;
        Ok(())
    }

    /// The healthy instances of a service and the index of the answer.
    pub(super) async fn healthy(
        &self,
        service: &str,
        options: &QueryConfig,
        wait: Option<Wait>,
    ) -> Result<(Vec<Value>, u64), Error> {
        let mut query = query(options, self.datacenter.as_deref());
        query.push(("passing", "1".to_owned()));
        let mut timeout = TIMEOUT;
        if let Some(Wait { index }) = wait {
            let time = options
                .wait_time
                .or(self.wait_time)
                .unwrap_or(DEFAULT_WAIT)
                .min(MAX_WAIT);
            query.push(("index", index.to_string()));
            query.push(("wait", format!("{}ms", time.as_millis())));
            // The agent adds up to a sixteenth of its own.
            timeout += time + time / 8;
        }
        let mut request = self.request(Method::GET, &["health", "service", service], &query, None)?;
        if let Some(token) = &options.token {
            request.headers_mut().insert("x-consul-token", secret(token)?);
        }
        if let Some(value) = cache_control(options) {
            request.headers_mut().insert(header::CACHE_CONTROL, value);
        }
        let response = self.send(request, timeout).await?;
        let index = response
            .headers()
            .get("x-consul-index")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let found = serde_json::from_slice(response.body())
            .map_err(|error| Error::unavailable("consul's answer is not a list").with_source(error))?;
        Ok((found, index))
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        mut query: Vec<(&'static str, String)>,
        body: Option<&Value>,
    ) -> Result<Response<Bytes>, Error> {
        if let Some(datacenter) = &self.datacenter {
            query.push(("dc", datacenter.clone()));
        }
        let request = self.request(method, path, &query, body)?;
        self.send(request, TIMEOUT).await
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&'static str, String)],
        body: Option<&Value>,
    ) -> Result<Request<Bytes>, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::configuration("failed to init consul client: the address has no path"))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = Request::builder().method(method).uri(url.as_str());
        if let Some(token) = &self.token {
            request = request.header("x-consul-token", secret(token)?);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        let body = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                body.to_string().into()
            }
        };
        request
            .body(body)
            .map_err(|error| Error::internal("cannot ask consul").with_source(error))
    }

    async fn send(&self, request: Request<Bytes>, timeout: Duration) -> Result<Response<Bytes>, Error> {
        let response = self
            .client
            .send_within(request, timeout)
            .await
            .map_err(|error| Error::unavailable("cannot ask consul").with_source(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let words: String = String::from_utf8_lossy(response.body())
            .chars()
            .take(200)
            .collect();
        Err(Error::unavailable(format!(
            "unexpected response code: {} ({})",
            response.status().as_u16(),
            words.trim()
        )))
    }
}

fn secret(token: &SecretString) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(token.expose())
        .map_err(|_| Error::configuration("consul's token cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The parameters, by the names that Consul's library gives them.
fn query(options: &QueryConfig, datacenter: Option<&str>) -> Vec<(&'static str, String)> {
    let mut query = Vec::new();
    let mut text = |name, value: Option<&str>| {
        if let Some(value) = value {
            query.push((name, value.to_owned()));
        }
    };
    text("ns", options.namespace.as_deref());
    text("partition", options.partition.as_deref());
    text("dc", options.datacenter.as_deref().or(datacenter));
    text("near", options.near.as_deref());
    text("filter", options.filter.as_deref());
    let relay = options.relay_factor.map(|factor| factor.to_string());
    text("relay-factor", relay.as_deref());
    for (name, value) in &options.node_meta {
        text("node-meta", Some(&format!("{name}:{value}")));
    }
    let cached = options.use_cache && !options.require_consistent;
    for (name, on, value) in [
        ("stale", options.allow_stale, ""),
        ("consistent", options.require_consistent, ""),
        ("cached", cached, ""),
        ("local-only", options.local_only, "true"),
        ("connect", options.connect, "true"),
    ] {
        text(name, on.then_some(value));
    }
    query
}

fn cache_control(options: &QueryConfig) -> Option<HeaderValue> {
    if !options.use_cache || options.require_consistent {
        return None;
    }
    let mut parts = Vec::new();
    for (name, age) in [
        ("max-age", options.max_age),
        ("stale-if-error", options.stale_if_error),
    ] {
        if let Some(age) = age {
            parts.push(format!("{name}={}", age.as_secs()));
        }
    }
    (!parts.is_empty())
        .then(|| HeaderValue::try_from(parts.join(", ")).ok())
        .flatten()
}

async fn tls(config: &ClientConfig, host: &Host) -> Result<TlsOptions, Error> {
    let mut roots = Vec::new();
    if let Some(file) = &config.ca_file {
        roots.extend(read(host.path(file)).await?);
    } else if let Some(folder) = &config.ca_path {
        let failed = |error| Error::configuration(format!("cannot read {folder}")).with_source(error);
        let mut files = tokio::fs::read_dir(host.path(folder)).await.map_err(failed)?;
        while let Some(file) = files.next_entry().await.map_err(failed)? {
            roots.extend(read(file.path()).await?);
            roots.push(b'\n');
        }
    }
    let identity = match (&config.cert_file, &config.key_file) {
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: read(host.path(certificate)).await?,
            key: read(host.path(key)).await?,
        }),
        (None, None) => None,
        _ => return Err(Error::configuration("certFile and keyFile only work together")),
    };
    Ok(TlsOptions {
        roots: (!roots.is_empty()).then_some(roots),
        identity,
        server_name: config.server_name.clone(),
        insecure_skip_verify: config.insecure_skip_verify,
    })
}

async fn read(path: PathBuf) -> Result<Vec<u8>, Error> {
    tokio::fs::read(&path)
        .await
        .map_err(|error| Error::configuration(format!("cannot read {}", path.display())).with_source(error))
}
