//! The binding.

use std::{fmt, sync::OnceLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{self},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use outrigger_bindings::{InvokeError, InvokeRequest, InvokeResponse, OutputBinding};
use outrigger_component::{Error, ErrorKind, Host, Metadata};
use outrigger_http_client::{
    ClientError, Proxies,
    connect::{self, Dns},
};
use outrigger_types::is_truthy;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::{
    HttpConfig,
    tls::Identity,
    url::{self, Target},
};

/// As many redirects as Go's client follows.
const MAX_REDIRECTS: usize = 10;
/// Idle connections (more than the two of Go's default, because an endpoint is one host).
const MAX_IDLE: usize = 32;
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Headers that the client itself writes.
const OWN_HEADERS: [HeaderName; 4] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
];
/// Trace context arrives under these names and goes out under them, whatever the request says.
const TRACE_HEADERS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

type Client = connect::Pool<Full<Bytes>>;

/// Calls an endpoint, by the proxies that the environment names (upstream clones Go's default transport).
pub struct HttpBinding {
    config: HttpConfig,
    identity: Identity,
    dns: Dns,
    proxies: Proxies,
    plain: Client,
    /// Made at the first `https` address: reading the system's roots takes time and memory.
    tls: OnceLock<Client>,
}

fn no_proxy(error: ClientError) -> Error {
    Error::configuration("cannot set up the way to the proxy").with_source(error)
}

impl HttpBinding {
    /// Reads certificates and prepares the client; nothing is called yet.
    ///
    /// # Errors
    /// When a certificate or key cannot be read.
    pub async fn open(config: HttpConfig, host: &Host) -> Result<Self, Error> {
        let identity = Identity::load(&config, host).await?;
        if !identity.is_plain() {
            // Says at once whether certificate and key fit each other.
            identity.config()?;
        }
        let dns = Dns::open().map_err(|error| {
            Error::unavailable("cannot read the system's name resolution").with_source(error)
        })?;
        let no_roots =
            ClientConfig::builder_with_provider(std::sync::Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::internal("cannot set up TLS").with_source(error))?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
        let proxies = Proxies::from_environment(&host.environment);
        let plain = connect::pool(no_roots, dns.clone(), MAX_IDLE, proxies.clone()).map_err(no_proxy)?;
        Ok(Self {
            config,
            identity,
            dns,
            proxies,
            plain,
            tls: OnceLock::new(),
        })
    }

    fn client(&self, uri: &Uri) -> Result<&Client, Error> {
        if uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return Ok(&self.plain);
        }
        if let Some(client) = self.tls.get() {
            return Ok(client);
        }
        let tls = self.identity.config()?;
        let client =
            connect::pool(tls, self.dns.clone(), MAX_IDLE, self.proxies.clone()).map_err(no_proxy)?;
        Ok(self.tls.get_or_init(|| client))
    }

    /// Metadata with a capital first letter are headers; so are the trace context and the security token.
    fn headers(&self, metadata: &Metadata, has_body: bool) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        if has_body {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        headers.insert(header::ACCEPT, JSON);
        let mut set = |name: &str, value: &str, secret: bool| {
            let refused = || Error::invalid(format!("invalid header field {name:?}"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
            let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?;
            value.set_sensitive(secret);
            if !OWN_HEADERS.contains(&name) {
                headers.insert(name, value);
            }
            Ok::<_, Error>(())
        };
        if let Some((name, token)) = &self.config.security_token {
            set(name, token.expose(), true)?;
        }
        for (name, value) in metadata
            .iter()
            .filter(|(name, _)| name.starts_with(|first: char| first.is_ascii_uppercase()))
        {
            set(name, value, false)?;
        }
        for name in TRACE_HEADERS {
            if let Some(value) = metadata.get(name).filter(|value| !value.is_empty()) {
                set(name, value, false)?;
            }
        }
        Ok(headers)
    }

    async fn call(
        &self,
        mut method: Method,
        mut target: Target,
        mut headers: HeaderMap,
        mut body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        for _ in 0..=MAX_REDIRECTS {
            if let Some((name, password)) = target.user.take()
                && !headers.contains_key(header::AUTHORIZATION)
            {
                let mut value =
                    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))
                        .map_err(|_| Error::invalid("invalid user in URL"))?;
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            let mut request = Request::builder()
                .method(method.clone())
                .uri(target.uri.clone())
                .body(Full::new(body.clone()))
                .map_err(|error| Error::invalid("invalid request").with_source(error))?;
            *request.headers_mut() = headers.clone();
            let response = self
                .client(&target.uri)?
                .request(request)
                .await
                .map_err(|error| {
                    Error::unavailable(format!("{method} \"{}\"", target.uri)).with_source(error)
                })?;
            let keeps_method = match response.status() {
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
                StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
                _ => return Ok(response),
            };
            let Some(location) = response.headers().get(header::LOCATION) else {
                return Ok(response);
            };
            let location = location
                .to_str()
                .map_err(|_| Error::internal("the redirect's location is not text"))?;
            let next = url::relative(&target.uri, location)?;
            if !keeps_method {
                if method != Method::HEAD {
                    method = Method::GET;
                }
                body = Bytes::new();
                headers.remove(header::CONTENT_TYPE);
            }
            if next.uri.authority() != target.uri.authority() {
                // Credentials were meant for the first host only.
                headers.remove(header::AUTHORIZATION);
                headers.remove(header::COOKIE);
                if let Some((name, _)) = &self.config.security_token {
                    headers.remove(name.as_str());
                }
            }
            target = next;
        }
        Err(Error::internal(format!(
            "stopped after {MAX_REDIRECTS} redirects"
        )))
    }

    /// The body up to its bound; what follows is cut off, as upstream does.
    async fn read(&self, mut body: Incoming) -> Result<Bytes, Error> {
        let limit = self
            .config
            .max_response_body
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut data = BytesMut::new();
        while data.len() < limit
            && let Some(frame) = body.frame().await
        {
            let frame =
                frame.map_err(|error| Error::unavailable("cannot read the response").with_source(error))?;
            if let Ok(chunk) = frame.into_data() {
                let kept = chunk.len().min(limit - data.len());
                data.extend_from_slice(&chunk[..kept]);
            }
        }
        Ok(data.freeze())
    }
}

/// `Content-Type` for `content-type`: the spelling in which Go's client hands headers on.
fn canonical(name: &str) -> String {
    let mut first = true;
    name.chars()
        .map(|letter| {
            let letter = if first {
                letter.to_ascii_uppercase()
            } else {
                letter.to_ascii_lowercase()
            };
            first = letter == '-';
            letter
        })
        .collect()
}

/// Status and headers of a response.
fn metadata(response: &Response<Incoming>) -> Metadata {
    let status = response.status();
    let reason = match response.extensions().get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        None => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let mut metadata = Metadata::new();
    for name in response
        .headers()
        .keys()
        .filter(|name| *name != header::TRANSFER_ENCODING)
    {
        let values: Vec<_> = response
            .headers()
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        metadata.insert(canonical(name.as_str()), values.join(", "));
    }
    metadata.insert("statusCode".to_owned(), status.as_u16().to_string());
    metadata.insert(
        "status".to_owned(),
        format!("{} {reason}", status.as_u16()).trim_end().to_owned(),
    );
    metadata
}

fn verb(operation: &str) -> Option<(Method, bool)> {
    Some(match operation.to_ascii_uppercase().as_str() {
        "CREATE" | "POST" => (Method::POST, true),
        "PUT" => (Method::PUT, true),
        "PATCH" => (Method::PATCH, true),
        "GET" => (Method::GET, false),
        "HEAD" => (Method::HEAD, false),
        "DELETE" => (Method::DELETE, false),
        "OPTIONS" => (Method::OPTIONS, false),
        "TRACE" => (Method::TRACE, false),
        _ => return None,
    })
}

impl OutputBinding for HttpBinding {
    fn operations(&self) -> Vec<&str> {
        // `create` is the old name of `post`.
        vec![
            "create", "get", "head", "post", "put", "patch", "delete", "options", "trace",
        ]
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        let value = |name: &str| {
            request
                .metadata
                .get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let (method, has_body) = verb(&request.operation)
            .ok_or_else(|| Error::unsupported(format!("invalid operation: {}", request.operation)))?;
        let target = match value("path") {
            Some(path) => url::parse(&url::join(&self.config.url, path))?,
            None => url::parse(&self.config.url)?,
        };
        let error_if_not_2xx = value("errorIfNot2XX").map_or(self.config.error_if_not_2xx, is_truthy);
        let headers = self.headers(&request.metadata, has_body)?;
        let body = if has_body { request.data } else { Bytes::new() };

        let exchange = async {
            let response = self.call(method, target, headers, body).await?;
            let status = response.status();
            let metadata = metadata(&response);
            let data = self.read(response.into_body()).await?;
            Ok::<_, Error>((
                status,
                InvokeResponse {
                    data: Some(data),
                    metadata,
                    content_type: None,
                },
            ))
        };
        let (status, response) = match self.config.response_timeout {
            None => exchange.await?,
            Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|error| {
                Error::new(ErrorKind::Timeout, "context deadline exceeded").with_source(error)
            })??,
        };
        if error_if_not_2xx && !status.is_success() {
            let code = status.as_u16();
            let error = Error::new(
                ErrorKind::Status(code.into()),
                format!("received status code {code}"),
            );
            return Err(InvokeError {
                error,
                response: Some(response),
            });
        }
        Ok(Some(response))
    }
}

impl fmt::Debug for HttpBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpBinding")
    }
}
