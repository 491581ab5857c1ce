//! The handler.

use std::time::Instant;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use outrigger_component::Error;
use outrigger_http_client::{Client, Proxies};
use outrigger_middleware::{Body, Middleware, Next};
use parking_lot::Mutex;
use url::Url;

use super::{
    Oauth2Config,
    session::{LIFETIME, Session, Sessions},
};
use crate::{
    oauth::{AuthStyle, TokenEndpoint},
    respond,
};

/// The cookie's name, as upstream's session manager calls it.
const COOKIE: &str = "gosessionsid";
/// Longer addresses are not remembered over a login.
const MAX_TARGET: usize = 8192;

/// The authorization code flow around requests that the path filter takes.
///
/// Stricter than upstream where that leaves people open to theft: a cookie that names no session of ours begins a new
/// one (no fixation), the name changes with the login, the cookie stays at this host, and people are only ever sent
/// back to a path of this host.
#[derive(Debug)]
pub struct Oauth2 {
    config: Oauth2Config,
    auth_url: Url,
    endpoint: TokenEndpoint,
    sessions: Mutex<Sessions>,
}

impl Oauth2 {
    /// A handler; nobody is called yet.
    ///
    /// # Errors
    /// When one of the addresses cannot be used.
    pub fn new(config: Oauth2Config) -> Result<Self, Error> {
        let auth_url = Client::parse(&config.auth_url).map_err(|error| {
            Error::configuration("metadata property 'authURL' is invalid").with_source(error)
        })?;
        let endpoint = TokenEndpoint::new(
            &config.token_url,
            config.client_id.clone(),
            config.client_secret.clone(),
            AuthStyle::AutoDetect,
        )?;
        Ok(Self {
            config,
            auth_url,
            endpoint,
            sessions: Mutex::new(Sessions::default()),
        })
    }

    /// The same, with tokens asked for by these proxies.
    ///
    /// # Errors
    /// When the way to a proxy cannot be set up.
    pub fn by(mut self, proxies: Proxies) -> Result<Self, Error> {
        self.endpoint = self.endpoint.by(proxies)?;
        Ok(self)
    }

    fn session(&self, headers: &HeaderMap) -> Option<(String, Session)> {
        let id = cookie(headers)?;
        let session = self.sessions.lock().get(id, Instant::now())?.clone();
        Some((id.to_owned(), session))
    }

    /// Sends the client to log in, and remembers where it wanted to go.
    fn send_to_login(&self, request: &Request<Body>, old: Option<&str>) -> Response<Body> {
        let state = uuid::Uuid::new_v4().to_string();
        let mut url = self.auth_url.clone();
        {
            let mut query = url.query_pairs_mut();
            // In the order of the names, as Go writes them.
            query.append_pair("access_type", "offline");
            query.append_pair("client_id", &self.config.client_id);
            if let Some(redirect) = &self.config.redirect_url {
                query.append_pair("redirect_uri", redirect);
            }
            query.append_pair("response_type", "code");
            if !self.config.scopes.is_empty() {
                query.append_pair("scope", &self.config.scopes.join(" "));
            }
            query.append_pair("state", &state);
        }
        let session = Session::Pending {
            state,
            target: self.target(request),
        };
        let mut response = respond::redirect(url.as_str());
        self.begin(session, old, LIFETIME, &mut response);
        response
    }

    /// Where a request wanted to go, as a path of this host: two slashes at the start would name another one.
    fn target(&self, request: &Request<Body>) -> String {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = if path.len() > MAX_TARGET { "/" } else { path };
        let path = format!("/{}", path.trim_start_matches(['/', '\\']));
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .or_else(|| request.uri().authority().map(http::uri::Authority::as_str))
            .and_then(|host| format!("https://{host}{path}").parse::<Uri>().ok());
        match host {
            Some(absolute) if self.config.force_https => absolute.to_string(),
            _ => path,
        }
    }

    /// The client is back with a code.
    async fn finish_login(
        &self,
        request: &Request<Body>,
        given: &str,
        id: &str,
        session: &Session,
    ) -> Response<Body> {
        let Session::Pending { state, target } = session else {
            return respond::status(500);
        };
        if given != state {
            return respond::text(StatusCode::BAD_REQUEST, "invalid state");
        }
        let Some(code) = query(request.uri(), "code") else {
            return respond::text(StatusCode::BAD_REQUEST, "code not found");
        };
        // A state is good for one exchange, whatever comes of it.
        self.sessions.lock().end(id);
        let mut parameters = vec![
            ("grant_type".to_owned(), "authorization_code".to_owned()),
            ("code".to_owned(), code),
        ];
        if let Some(redirect) = &self.config.redirect_url {
            parameters.push(("redirect_uri".to_owned(), redirect.clone()));
        }
        match self.endpoint.token(&parameters).await {
            Ok(token) => {
                let mut response = respond::redirect(target);
                let lifetime = token.lifetime.unwrap_or(LIFETIME);
                let session = Session::LoggedIn { header: token.header };
                self.begin(session, None, lifetime, &mut response);
                response
            }
            Err(error) => {
                tracing::error!("Failed to exchange token: {}", error.chain());
                respond::status(500)
            }
        }
    }

    /// Begins a session and tells the client its name.
    fn begin(
        &self,
        session: Session,
        old: Option<&str>,
        lifetime: std::time::Duration,
        response: &mut Response<Body>,
    ) {
        let mut sessions = self.sessions.lock();
        if let Some(old) = old {
            sessions.end(old);
        }
        let id = sessions.begin(session, lifetime, Instant::now());
        drop(sessions);
        let secure = if self.config.force_https { "; Secure" } else { "" };
        let age = lifetime.min(LIFETIME).as_secs();
        let cookie = format!("{COOKIE}={id}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
            cookie.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> usize {
        self.sessions.lock().len()
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// The first value of this name that is not empty.
fn query(uri: &Uri, name: &str) -> Option<String> {
    form_urlencoded::parse(uri.query()?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.is_empty())
}

impl Middleware for Oauth2 {
    fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            if !self.config.path_filter.takes(request.uri()) {
                return next.run(request).await;
            }
            let session = self.session(request.headers());
            if let Some((_, Session::LoggedIn { header })) = &session {
                // In place of what the client may have written there itself.
                request
                    .headers_mut()
                    .insert(self.config.auth_header_name.clone(), header.clone());
                return next.run(request).await;
            }
            match (query(request.uri(), "state"), &session) {
                (None, session) => {
                    let old = session.as_ref().map(|(id, _)| id.as_str());
                    self.send_to_login(&request, old)
                }
                (Some(given), Some((id, session))) => self.finish_login(&request, &given, id, session).await,
                // Upstream's answer to a state without a session.
                (Some(_), None) => respond::status(500),
            }
        })
    }
}
