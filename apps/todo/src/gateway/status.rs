//! The status strip: which services and sidecars are there, and how many events wait.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use outrigger_kit::{CancellationToken, Client, RetryPolicy};
use serde::Serialize;
use tokio::sync::watch;

use super::{Gateway, json};
use crate::app_id;
use crate::instance::Instance;
use crate::model::now;
use crate::presence::{self, STALE, Sign, Signs};

/// How long a service may take to answer.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the strip is looked at.
const EVERY: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_millis(700);

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Light {
    Up,
    Down,
    /// Nobody can say: the way to it is down.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Member {
    instance: String,
    service: Light,
    sidecar: Light,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    app: &'static str,
    instances: Vec<Member>,
}

/// What the strip shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Status {
    services: Vec<Line>,
    /// Events committed but not yet sent.
    waiting: usize,
}

/// The latest status. The sender is behind an [`Arc`] because each route holds a copy of the gateway.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<watch::Sender<Option<Arc<Status>>>>);

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Watch {
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Status>>> {
        self.0.subscribe()
    }
}

pub(super) async fn show(State(gateway): State<Gateway>) -> Response {
    json(&look(&gateway.instance).await)
}

/// Looks again and again while somebody watches.
pub(super) async fn keep(instance: &Instance, watch: &Watch, stopping: &CancellationToken) {
    while !stopping.is_cancelled() {
        if watch.0.receiver_count() > 0 {
            let status = look(instance).await;
            watch.0.send_if_modified(|known| {
                let changed = known.as_deref() != Some(&status);
                if changed {
                    *known = Some(Arc::new(status));
                }
                changed
            });
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stopping.cancelled() => {}
        }
    }
}

async fn look(instance: &Instance) -> Status {
    let read = presence::read(&instance.client, &instance.store, &app_id::ALL);
    let signs = match tokio::time::timeout(PROBE * 2, read).await {
        Ok(Ok(signs)) => Some(signs),
        _ => None,
    };
    let own_sidecar = instance.client.outbound_healthy().await.is_ok();
    let at = now();
    let lines = app_id::ALL.iter().enumerate().map(|(index, app)| {
        let signs = signs.as_ref().and_then(|all| all.get(index));
        line(instance, app, signs, own_sidecar, at)
    });
    let services = futures::future::join_all(lines).await;
    // The outbox is one for all instances, so their counts are views of the same.
    let waiting = signs
        .iter()
        .flatten()
        .flat_map(Signs::values)
        .filter(|sign| at - sign.at <= STALE);
    Status {
        services,
        waiting: waiting.map(|sign| sign.waiting).max().unwrap_or_default(),
    }
}

async fn line(
    instance: &Instance,
    app: &'static str,
    signs: Option<&Signs>,
    own_sidecar: bool,
    at: i64,
) -> Line {
    let itself = app == instance.app;
    let members = signs.into_iter().flat_map(Signs::values).map(|sign| async move {
        let own = itself && sign.instance == *instance.name;
        let fresh = own || at - sign.at <= STALE;
        let sidecar = if own {
            light(own_sidecar)
        } else {
            probe(sign, fresh).await
        };
        let service = match sidecar {
            _ if fresh => Light::Up,
            Light::Down => Light::Unknown,
            Light::Up | Light::Unknown => Light::Down,
        };
        Member {
            instance: sign.instance.clone(),
            service,
            sidecar,
        }
    });
    let mut instances = futures::future::join_all(members).await;
    if instances.is_empty() {
        // Without a word from the store nothing is known about others; about oneself a little is.
        let silent = if signs.is_some() {
            Light::Down
        } else {
            Light::Unknown
        };
        instances.push(Member {
            instance: if itself {
                instance.name.to_string()
            } else {
                app.to_owned()
            },
            service: if itself { Light::Up } else { silent },
            sidecar: if itself { light(own_sidecar) } else { silent },
        });
    }
    Line { app, instances }
}

fn light(up: bool) -> Light {
    if up { Light::Up } else { Light::Down }
}

/// Looks at a sidecar's health route, which needs no token. Only on this host: elsewhere its address says nothing,
/// and a fresh sign of life has come through it anyway.
async fn probe(sign: &Sign, fresh: bool) -> Light {
    let here = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    if fresh {
        return Light::Up;
    }
    if !here.iter().any(|prefix| sign.sidecar.starts_with(prefix)) {
        return Light::Unknown;
    }
    let client = Client::builder()
        .endpoint(&sign.sidecar)
        .retry(RetryPolicy::none())
        .build();
    let Ok(client) = client else { return Light::Unknown };
    light(matches!(
        tokio::time::timeout(PROBE, client.outbound_healthy()).await,
        Ok(Ok(()))
    ))
}
