//! The handler.

use std::fmt::Write as _;

use futures::future::BoxFuture;
use http::{Request, Response, Uri, uri::PathAndQuery};
use outrigger_middleware::{Body, Middleware, Next};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::RouterAliasConfig;
use crate::template::Template;

/// What Go leaves as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// What Go leaves as it is in a query; a blank becomes `+`.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b' ');

#[derive(Debug)]
struct Route {
    template: Template,
    /// Percent-encoded already.
    path: String,
}

/// Rewrites the path of requests that match a template; the values of its names join the query. The first route
/// of the file that matches wins; a request that matches none passes as it is.
#[derive(Debug)]
pub struct RouterAlias {
    routes: Vec<Route>,
}

impl RouterAlias {
    /// A handler. A template that cannot be matched is left out with a warning, as upstream's router never
    /// matches it.
    #[must_use]
    pub fn new(config: &RouterAliasConfig) -> Self {
        let mut routes = Vec::with_capacity(config.routes.len());
        for (template, path) in &config.routes {
            if !path.starts_with('/') {
                tracing::warn!(
                    template,
                    path,
                    "this route is left out: its path must start with a slash"
                );
                continue;
            }
            match Template::compile(template) {
                Ok(compiled) => routes.push(Route {
                    template: compiled,
                    path: utf8_percent_encode(path, PATH).to_string(),
                }),
                Err(reason) => tracing::warn!(template, reason, "this route is left out"),
            }
        }
        Self { routes }
    }

    /// The new address of a request; `None` where no route matches.
    fn rewrite(&self, uri: &Uri) -> Option<Uri> {
        let path = percent_decode_str(uri.path()).decode_utf8_lossy();
        let (route, values) = self
            .routes
            .iter()
            .find_map(|route| Some((route, route.template.matches(&path)?)))?;
        let mut target = route.path.clone();
        let query = uri.query().unwrap_or_default();
        if values.is_empty() {
            if !query.is_empty() {
                target.push('?');
                target.push_str(query);
            }
        } else {
            target.push('?');
            target.push_str(&joined(query, &values));
        }
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// The query with further values, ordered by name as Go writes it.
fn joined(query: &str, values: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .chain(
            values
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        )
        .collect();
    pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut out = String::new();
    for (name, value) in pairs {
        let separator = if out.is_empty() { "" } else { "&" };
        let escape = |text: &str| utf8_percent_encode(text, QUERY).to_string().replace(' ', "+");
        let _ = write!(out, "{separator}{}={}", escape(&name), escape(&value));
    }
    out
}

impl Middleware for RouterAlias {
    fn handle(&self, mut request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        if let Some(uri) = self.rewrite(request.uri()) {
            *request.uri_mut() = uri;
        }
        next.run(request)
    }
}
