//! The token endpoint of OAuth 2.0, as golang.org/x/oauth2 speaks to it: both OAuth handlers ask here.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::{HeaderValue, Request, Response, header};
use outrigger_component::{Error, SecretString};
use outrigger_http_client::{Client, ClientOptions, Proxies};
use serde_json::Value;
use url::Url;

/// How the client shows its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthStyle {
    /// Tries the header first, then the form, and remembers what worked.
    #[default]
    AutoDetect = 0,
    /// In the form.
    InParams = 1,
    /// In the `Authorization` header.
    InHeader = 2,
}

/// A token, ready for a header.
#[derive(Clone)]
pub(crate) struct Token {
    /// `Bearer …`
    pub(crate) header: HeaderValue,
    /// How long it is good from now; `None` where the server does not say.
    pub(crate) lifetime: Option<Duration>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// A client's registration at a token endpoint.
#[derive(Debug)]
pub(crate) struct TokenEndpoint {
    url: Url,
    client_id: String,
    client_secret: SecretString,
    style: AuthStyle,
    /// What worked, once [`AuthStyle::AutoDetect`] has found out.
    detected: AtomicU8,
    client: Client,
}

fn client(proxies: Proxies) -> Result<Client, Error> {
    let options = ClientOptions {
        proxies,
        ..ClientOptions::default()
    };
    Client::new(options).map_err(|error| Error::internal("cannot make an HTTP client").with_source(error))
}

impl TokenEndpoint {
    /// Checks the address; nothing is sent yet.
    ///
    /// # Errors
    /// When the address cannot be called.
    pub(crate) fn new(
        url: &str,
        client_id: String,
        client_secret: SecretString,
        style: AuthStyle,
    ) -> Result<Self, Error> {
        let invalid =
            |error| Error::configuration("metadata property 'tokenURL' is invalid").with_source(error);
        let url = Client::parse(url).map_err(invalid)?;
        Ok(Self {
            url,
            client_id,
            client_secret,
            style,
            detected: AtomicU8::new(AuthStyle::AutoDetect as u8),
            client: client(Proxies::default())?,
        })
    }

    /// The same, asked by these proxies.
    ///
    /// # Errors
    /// When the way to a proxy cannot be set up.
    pub(crate) fn by(mut self, proxies: Proxies) -> Result<Self, Error> {
        self.client = client(proxies)?;
        Ok(self)
    }

    /// Asks for a token with these parameters.
    ///
    /// # Errors
    /// When the server does not answer or answers without one. The server's words are not repeated: they may hold what
    /// was sent.
    pub(crate) async fn token(&self, parameters: &[(String, String)]) -> Result<Token, Error> {
        let known = if self.style == AuthStyle::AutoDetect {
            match self.detected.load(Ordering::Relaxed) {
                1 => AuthStyle::InParams,
                2 => AuthStyle::InHeader,
                _ => AuthStyle::AutoDetect,
            }
        } else {
            self.style
        };
        if known != AuthStyle::AutoDetect {
            return self.ask(parameters, known).await;
        }
        for style in [AuthStyle::InHeader, AuthStyle::InParams] {
            match self.ask(parameters, style).await {
                Ok(token) => {
                    self.detected.store(style as u8, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) if style == AuthStyle::InParams => return Err(error),
                Err(_) => {}
            }
        }
        Err(Error::unavailable("the token endpoint gave no token"))
    }

    async fn ask(&self, parameters: &[(String, String)], style: AuthStyle) -> Result<Token, Error> {
        let request = self.request(parameters, style)?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| Error::unavailable("cannot ask the token endpoint").with_source(error))?;
        if !response.status().is_success() {
            return Err(Error::unavailable(format!(
                "the token endpoint answered with status {}{}",
                response.status().as_u16(),
                error_code(response.body())
            )));
        }
        read(&response)
    }

    fn request(&self, parameters: &[(String, String)], style: AuthStyle) -> Result<Request<Bytes>, Error> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters);
        let mut request = Request::post(self.url.as_str()).header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let secret = self.client_secret.expose();
        if style == AuthStyle::InParams {
            form.append_pair("client_id", &self.client_id);
            if !secret.is_empty() {
                form.append_pair("client_secret", secret);
            }
        } else {
            let escaped = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", escaped(&self.client_id), escaped(secret));
            let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
                .map_err(|_| Error::configuration("the client's id or secret cannot be sent"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request
            .body(Bytes::from(form.finish()))
            .map_err(|error| Error::internal("cannot ask the token endpoint").with_source(error))
    }
}

/// The error's registered name, which is safe to repeat.
fn error_code(body: &Bytes) -> String {
    serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| body.get("error")?.as_str().map(str::to_owned))
        .filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        .map(|code| format!(" ({code})"))
        .unwrap_or_default()
}

/// A token's answer: JSON, or a form where the content type says so.
fn read(response: &Response<Bytes>) -> Result<Token, Error> {
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let fields: serde_json::Map<String, Value> = match content_type.as_str() {
        "application/x-www-form-urlencoded" | "text/plain" => form_urlencoded::parse(response.body())
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect(),
        _ => serde_json::from_slice(response.body())
            .map_err(|_| Error::unavailable("the token endpoint's answer is no JSON object"))?,
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let token = text("access_token");
    if token.is_empty() {
        return Err(Error::unavailable(
            "the token endpoint's answer has no access_token",
        ));
    }
    let kind = match text("token_type") {
        "" => "Bearer",
        kind if kind.eq_ignore_ascii_case("bearer") => "Bearer",
        kind if kind.eq_ignore_ascii_case("mac") => "MAC",
        kind if kind.eq_ignore_ascii_case("basic") => "Basic",
        kind => kind,
    };
    let mut header = HeaderValue::try_from(format!("{kind} {token}"))
        .map_err(|_| Error::unavailable("the token endpoint's token cannot be sent in a header"))?;
    header.set_sensitive(true);
    let lifetime = match fields.get("expires_in") {
        Some(Value::Number(seconds)) => seconds.as_u64(),
        Some(Value::String(seconds)) => seconds.parse().ok(),
        _ => None,
    };
    Ok(Token {
        header,
        lifetime: lifetime.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

/// What tests of both handlers need: a token endpoint that remembers what it was asked.
#[cfg(test)]
pub(crate) mod fake {
    use std::sync::{Arc, Mutex};

    use axum::{Router, body::Bytes, extract::State, routing};
    use http::HeaderMap;

    use crate::testing::serve;

    /// What the endpoint was asked, in order: the `Authorization` header and the form.
    pub(crate) type Asked = Arc<Mutex<Vec<(String, Vec<(String, String)>)>>>;

    /// Status, content type and body.
    type Answer = (u16, &'static str, String);

    #[derive(Clone)]
    pub(crate) struct FakeEndpoint {
        pub(crate) asked: Asked,
        answers: Arc<Mutex<Vec<Answer>>>,
        pub(crate) url: String,
    }

    impl FakeEndpoint {
        /// Answers in this order: status, content type, body; the last one for ever.
        pub(crate) async fn start(answers: Vec<Answer>) -> Self {
            let mut endpoint = Self {
                asked: Asked::default(),
                answers: Arc::new(Mutex::new(answers)),
                url: String::new(),
            };
            let router = Router::new()
                .route("/token", routing::post(answer))
                .with_state(endpoint.clone());
            endpoint.url = format!("{}/token", serve(router).await);
            endpoint
        }
    }

    async fn answer(
        State(endpoint): State<FakeEndpoint>,
        headers: HeaderMap,
        body: Bytes,
    ) -> (http::StatusCode, [(&'static str, &'static str); 1], String) {
        let authorization = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let form = form_urlencoded::parse(&body).into_owned().collect();
        endpoint.asked.lock().unwrap().push((authorization, form));
        let mut answers = endpoint.answers.lock().unwrap();
        let (status, content_type, body) = if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        };
        let status = http::StatusCode::from_u16(status).unwrap();
        (status, [("content-type", content_type)], body)
    }
}
