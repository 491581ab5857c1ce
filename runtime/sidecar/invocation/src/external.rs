//! Invocation of addresses outside Dapr: URLs and `HTTPEndpoint` resources (upstream `pkg/runtime/channels`).

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, Method as Verb, Request, Response, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use outrigger_middleware::{Body, Next};
use outrigger_resources::kinds::HttpEndpoint;
use outrigger_sidecar_app_channel::TcpConnector;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    delivery::http_request,
    peers::chain,
    remote::Reply,
    service::{Invocation, InvocationService},
    status::InvokeError,
};

/// Upstream's dialer and TLS handshake each get this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// As many as Go's client follows.
const MAX_REDIRECTS: usize = 10;

type HttpClient = Client<HttpsConnector<TcpConnector>, Body>;

/// An `HTTPEndpoint` that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpoint(String);

/// One address outside.
pub(crate) struct External {
    base_url: String,
    /// Whether redirects are followed: upstream does for resources, not for URLs.
    follows: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    client: HttpClient,
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may be secrets.
        f.debug_struct("External")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// The `HTTPEndpoint` resources by name; cheap to clone, replaceable while calls run.
#[derive(Clone)]
pub struct HttpEndpoints(Arc<Inner>);

struct Inner {
    by_name: ArcSwap<HashMap<String, Arc<External>>>,
    /// The client of URLs that no resource names; made when first needed.
    plain: std::sync::OnceLock<HttpClient>,
}

impl Default for HttpEndpoints {
    fn default() -> Self {
        Self(Arc::new(Inner {
            by_name: ArcSwap::default(),
            plain: std::sync::OnceLock::new(),
        }))
    }
}

impl fmt::Debug for HttpEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.by_name.load().keys()).finish()
    }
}

impl HttpEndpoints {
    /// Adds an endpoint whose secrets are resolved, or replaces the one of that name.
    ///
    /// # Errors
    /// When its TLS documents or headers cannot be used.
    pub fn upsert(&self, resource: &HttpEndpoint) -> Result<(), InvalidEndpoint> {
        let external = Arc::new(External::new(resource)?);
        self.0.by_name.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.insert(resource.meta.name.clone(), Arc::clone(&external));
            known
        });
        Ok(())
    }

    /// Removes an endpoint.
    pub fn remove(&self, name: &str) {
        self.0.by_name.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.remove(name);
            known
        });
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.by_name.load().keys().cloned().collect();
        names.sort();
        names
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<External>> {
        let known = self.0.by_name.load();
        if known.is_empty() {
            None
        } else {
            known.get(name).cloned()
        }
    }

    /// The base address of an endpoint.
    pub(crate) fn base_url(&self, name: &str) -> Option<String> {
        self.get(name).map(|external| external.base_url.clone())
    }

    /// An endpoint for a URL that no resource names.
    pub(crate) fn url(&self, url: &str) -> Result<Arc<External>, InvokeError> {
        let client = match self.0.plain.get() {
            Some(client) => client.clone(),
            None => {
                let client = client(default_tls().map_err(|error| InvokeError::plain(error.0))?);
                self.0.plain.get_or_init(|| client).clone()
            }
        };
        Ok(Arc::new(External {
            base_url: url.to_owned(),
            follows: false,
            headers: Vec::new(),
            client,
        }))
    }
}

impl External {
    fn new(resource: &HttpEndpoint) -> Result<Self, InvalidEndpoint> {
        let name = &resource.meta.name;
        let mut headers = Vec::with_capacity(resource.spec.headers.len());
        for header in &resource.spec.headers {
            let bad = || {
                InvalidEndpoint(format!(
                    "header {:?} of http endpoint {name} is not valid",
                    header.name
                ))
            };
            let key = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| bad())?;
            let mut value = HeaderValue::from_str(&header.value.text()).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.push((key, value));
        }
        let tls = match &resource.spec.client_tls {
            None => default_tls()?,
            Some(tls) => {
                let document = |document: &Option<outrigger_resources::kinds::TlsDocument>| {
                    document
                        .as_ref()
                        .and_then(|document| document.value.as_ref())
                        .map(|value| value.text())
                        .filter(|text| !text.is_empty())
                };
                if let Some(renegotiation) = tls.renegotiation.as_deref()
                    && !matches!(
                        renegotiation,
                        "Never"
                            | "OnceAsClient"
                            | "FreelyAsClient"
                            | "RenegotiateNever"
                            | "RenegotiateOnceAsClient"
                            | "RenegotiateFreelyAsClient"
                    )
                {
                    return Err(InvalidEndpoint(format!(
                        "invalid renegotiation value {renegotiation} for http endpoint {name}"
                    )));
                }
                client_tls(
                    name,
                    document(&tls.root_ca),
                    document(&tls.certificate),
                    document(&tls.private_key),
                )?
            }
        };
        Ok(Self {
            base_url: resource.spec.base_url.clone(),
            follows: true,
            headers,
            client: client(tls),
        })
    }
}

fn client(tls: ClientConfig) -> HttpClient {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(TcpConnector::new(DIAL_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        // Go keeps idle connections for 90 s.
        .pool_idle_timeout(Duration::from_secs(90))
        .http1_title_case_headers(true)
        .build(connector)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, InvalidEndpoint> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidEndpoint(error.to_string()))
}

fn default_tls() -> Result<ClientConfig, InvalidEndpoint> {
    client_tls("", None, None, None)
}

fn client_tls(
    name: &str,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
) -> Result<ClientConfig, InvalidEndpoint> {
    let mut roots = RootCertStore::empty();
    match root {
        Some(pem) => {
            let failed = || {
                InvalidEndpoint(format!(
                    "failed to add root cert to cert pool for http endpoint {name}"
                ))
            };
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots
                    .add(certificate.map_err(|_| failed())?)
                    .map_err(|_| failed())?;
            }
            if roots.is_empty() {
                return Err(failed());
            }
        }
        None => {
            // A system without roots trusts nobody: HTTPS then fails per call, HTTP still works.
            for certificate in rustls_native_certs::load_native_certs().certs {
                let _ = roots.add(certificate);
            }
        }
    }
    let builder = builder()?.with_root_certificates(roots);
    let Some(key) = key else {
        return Ok(builder.with_no_client_auth());
    };
    let failed = |error: &dyn fmt::Display| {
        InvalidEndpoint(format!(
            "failed to load client certificate for http endpoint {name}: {error}"
        ))
    };
    let certificates = CertificateDer::pem_slice_iter(certificate.unwrap_or_default().as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| failed(&error))?;
    builder
        .with_client_auth_cert(certificates, key)
        .map_err(|error| failed(&error))
}

impl InvocationService {
    pub(crate) async fn call_external(
        &self,
        endpoint: &Arc<External>,
        invocation: &Invocation,
    ) -> Result<Reply, InvokeError> {
        let mut request = http_request(invocation)?;
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        let mut url = endpoint.base_url.clone();
        // Upstream joins with one slash and writes none for an empty method.
        if !invocation.head.method.as_str().is_empty() || path.len() > 1 {
            url.push_str(if invocation.head.method.as_str().is_empty() {
                &path[1..]
            } else {
                &path
            });
        }
        *request.uri_mut() = url
            .parse::<Uri>()
            .map_err(|error| InvokeError::plain(format!("parse {url:?}: {error}")))?;
        for (name, value) in &endpoint.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let pipeline = &self.options.app_pipeline;
        let response = if pipeline.is_empty() {
            send_on(endpoint, request).await?
        } else {
            let failure = Arc::new(std::sync::OnceLock::new());
            let last = Terminal {
                endpoint: Arc::clone(endpoint),
                failure: Arc::clone(&failure),
            };
            let response = pipeline.run(request, Box::new(last)).await;
            if let Some(error) = Arc::into_inner(failure).and_then(std::sync::OnceLock::into_inner) {
                return Err(error);
            }
            response
        };
        Ok(crate::delivery::http_reply(response)
            .settled(invocation.events)
            .await)
    }
}

async fn send(endpoint: &External, request: Request<Body>) -> Result<Response<Body>, InvokeError> {
    let verb = request.method().clone();
    let uri = request.uri().clone();
    let response = endpoint.client.request(request).await;
    response
        .map(|response| response.map(Body::from))
        .map_err(|error| {
            let verb = verb.as_str();
            // Go's text: `Get "http://…": …`.
            let (first, rest) = verb.split_at(1);
            InvokeError::plain(format!(
                "{first}{} \"{uri}\": {}",
                rest.to_ascii_lowercase(),
                chain(&error)
            ))
        })
}

/// Sends a request and follows redirects as Go's client does: 301, 302 and 303 by GET, 307 and 308 only without a
/// body, which is gone by then.
async fn send_on(endpoint: &External, request: Request<Body>) -> Result<Response<Body>, InvokeError> {
    if !endpoint.follows {
        return send(endpoint, request).await;
    }
    let mut verb = request.method().clone();
    let mut uri = request.uri().clone();
    let mut headers = request.headers().clone();
    let has_body = !http_body::Body::is_end_stream(request.body());
    let mut response = send(endpoint, request).await?;
    for hop in 1.. {
        let keeps = match response.status().as_u16() {
            301..=303 => false,
            307 | 308 if !has_body => true,
            _ => return Ok(response),
        };
        let Some(next) = response
            .headers()
            .get(header::LOCATION)
            .and_then(|to| resolve(&uri, to))
        else {
            return Ok(response);
        };
        if hop > MAX_REDIRECTS {
            return Err(InvokeError::plain(format!(
                "stopped after {MAX_REDIRECTS} redirects"
            )));
        }
        if next.host() != uri.host() {
            // Credentials are for whom they were given to.
            for name in [header::AUTHORIZATION, header::COOKIE, header::WWW_AUTHENTICATE] {
                headers.remove(name);
            }
            for (name, _) in &endpoint.headers {
                headers.remove(name);
            }
        }
        if !keeps {
            if verb != Verb::HEAD {
                verb = Verb::GET;
            }
            headers.remove(header::CONTENT_TYPE);
        }
        uri = next;
        let mut request = Request::new(Body::Empty);
        *request.method_mut() = verb.clone();
        *request.uri_mut() = uri.clone();
        request.headers_mut().clone_from(&headers);
        response = send(endpoint, request).await?;
    }
    Ok(response)
}

/// Where a `Location` leads from `base`: an absolute address, or a path on the same host.
fn resolve(base: &Uri, location: &HeaderValue) -> Option<Uri> {
    let location = location.to_str().ok()?;
    let location = location.split('#').next().unwrap_or_default();
    let next: Uri = location.parse().ok()?;
    if next.scheme().is_some() {
        return Some(next);
    }
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{}://{rest}", base.scheme_str()?).parse().ok();
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let (folder, _) = base.path().rsplit_once('/').unwrap_or(("", ""));
        format!("{folder}/{location}")
    };
    Uri::builder()
        .scheme(base.scheme()?.clone())
        .authority(base.authority()?.clone())
        .path_and_query(path)
        .build()
        .ok()
}

/// The end of the pipeline: the address outside. Its failure travels beside the pipeline.
struct Terminal {
    endpoint: Arc<External>,
    failure: Arc<std::sync::OnceLock<InvokeError>>,
}

impl Next for Terminal {
    fn run(self: Box<Self>, request: Request<Body>) -> futures::future::BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            match send_on(&self.endpoint, request).await {
                Ok(response) => response,
                Err(error) => {
                    let mut response = Response::new(Body::whole(error.to_string()));
                    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
                    let _ = self.failure.set(error);
                    response
                }
            }
        })
    }
}
