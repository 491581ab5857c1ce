//! `middleware.http.routerchecker`: refuses requests whose path and query do not match a regular expression.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use outrigger_component::{Error, Open, Registration, Spec, open_with};
use outrigger_middleware::{Body, Middleware, Next};
use regex::Regex;

use crate::{filter, path, respond};

/// How `middleware.http.routerchecker` is built.
pub const ROUTER_CHECKER: Registration<dyn Middleware> = Registration {
    type_names: &["middleware.http.routerchecker"],
    versions: &["v1"],
    validate,
};

fn validate(spec: &Spec) -> Result<Open<dyn Middleware>, Error> {
    let handler = RouterChecker::new(spec.properties.get("rule").unwrap_or_default())?;
    Ok(open_with(async move |_host| {
        Ok(Arc::new(handler) as Arc<dyn Middleware>)
    }))
}

/// Lets requests pass whose path and query match; all others are answered 400 (components-contrib
/// `middleware/http/routerchecker`).
#[derive(Debug)]
pub struct RouterChecker {
    rule: Regex,
}

impl RouterChecker {
    /// A handler of this rule. An empty rule matches everything, as Go's does.
    ///
    /// # Errors
    /// When it is no regular expression.
    pub fn new(rule: &str) -> Result<Self, Error> {
        Ok(Self {
            rule: Regex::new(rule).map_err(|error| filter::invalid("rule", &error))?,
        })
    }
}

impl Middleware for RouterChecker {
    fn handle(&self, request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        if self.rule.is_match(&path::with_query(request.uri())) {
            next.run(request)
        } else {
            Box::pin(async { respond::text(StatusCode::BAD_REQUEST, "invalid router") })
        }
    }
}
