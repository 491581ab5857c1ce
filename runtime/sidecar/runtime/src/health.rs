//! What makes the sidecar ready, by name (wire.md §2, Health; design D8: readiness and reason per part).

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, Response};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, Reply, errors, handler};
use outrigger_types::AppId;
use parking_lot::RwLock;
use tokio::sync::watch;

const GROUP: Group = Group {
    name: "healthz",
    version: "v1",
};
const GET: &[Method] = &[Method::GET];

/// A set of parts, each ready or not. Ready as a whole when it has parts and all are ready.
#[derive(Debug)]
pub struct Readiness {
    parts: RwLock<BTreeMap<&'static str, Option<String>>>,
    ready: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            parts: RwLock::default(),
            ready: watch::Sender::new(false),
        }
    }
}

impl Readiness {
    /// Adds a part that is not ready yet.
    pub fn expect(&self, part: &'static str) {
        self.set(part, Some("not ready".to_owned()));
    }

    /// Marks a part ready.
    pub fn ready(&self, part: &'static str) {
        self.set(part, None);
    }

    /// Marks a part not ready, with the reason.
    pub fn not_ready(&self, part: &'static str, reason: impl Into<String>) {
        self.set(part, Some(reason.into()));
    }

    fn set(&self, part: &'static str, reason: Option<String>) {
        let ready = {
            let mut parts = self.parts.write();
            parts.insert(part, reason);
            parts.values().all(Option::is_none)
        };
        self.ready
            .send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    /// Whether all parts are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Follows readiness.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The parts that are not ready, as the error names them.
    #[must_use]
    pub fn missing(&self) -> String {
        let parts = self.parts.read();
        let missing: Vec<String> = parts
            .iter()
            .filter_map(|(part, reason)| match reason.as_deref() {
                None => None,
                Some("not ready") => Some((*part).to_owned()),
                Some(reason) => Some(format!("{part} ({reason})")),
            })
            .collect();
        format!("[{}]", missing.join(" "))
    }
}

/// The health endpoints.
#[derive(Debug)]
pub struct HealthApi {
    app_id: AppId,
    /// All parts.
    inbound: Arc<Readiness>,
    /// What outbound calls need.
    outbound: Arc<Readiness>,
}

impl HealthApi {
    /// Endpoints over these sets.
    #[must_use]
    pub fn new(app_id: AppId, inbound: Arc<Readiness>, outbound: Arc<Readiness>) -> Self {
        Self {
            app_id,
            inbound,
            outbound,
        }
    }

    /// `healthz` and `healthz/outbound`.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let endpoint = |route, name, handler| {
            let mut endpoint = Endpoint::new(GET, "v1.0", route, GROUP, name, handler);
            endpoint.always_allowed = true;
            endpoint.health_check = true;
            endpoint.public = true;
            endpoint
        };
        vec![
            endpoint("healthz", "Healthz", handler(self, Self::healthz)),
            endpoint(
                "healthz/outbound",
                "HealthzOutbound",
                handler(self, Self::outbound),
            ),
        ]
    }

    async fn healthz(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        if !self.inbound.is_ready() {
            return Err(errors::health_not_ready(self.inbound.missing()));
        }
        match request.query_value("appid") {
            Some(app_id) if app_id != self.app_id.as_str() => Err(errors::health_app_id_not_match()),
            _ => Ok(Reply::no_content()),
        }
    }

    async fn outbound(self: Arc<Self>, _: ApiRequest) -> Result<Response<Body>, ApiError> {
        if self.outbound.is_ready() {
            Ok(Reply::no_content())
        } else {
            Err(errors::outbound_health_not_ready())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_with_all_parts() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready());
        readiness.expect("a");
        readiness.ready("b");
        assert_eq!(
            (readiness.is_ready(), readiness.missing().as_str()),
            (false, "[a]")
        );
        readiness.ready("a");
        assert!(readiness.is_ready());
        readiness.not_ready("b", "broker is down");
        assert_eq!(readiness.missing(), "[b (broker is down)]");
    }
}
