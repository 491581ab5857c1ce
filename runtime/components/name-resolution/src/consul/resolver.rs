//! The resolver.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use outrigger_component::{Error, ErrorKind, Host};
use outrigger_name_resolution::{Addresses, Instance, Resolver, Target};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::{
    client::{Agent, Wait},
    config::{Config, Registration},
};

/// Most services watched at a time; others are asked for at each call.
const MAX_WATCHED: usize = 256;
/// The pauses after a failed watch (upstream's).
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_mins(3);

/// Finds sidecars among the healthy instances of the service that is named like the app, and registers this one where
/// the configuration says so.
#[derive(Debug)]
pub struct Consul {
    shared: Arc<Shared>,
    registered: Mutex<Option<String>>,
    watches: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    agent: Agent,
    /// What watched services answered last; `None` while nothing is known, and then the agent is asked.
    watched: Mutex<HashMap<String, Option<Addresses>>>,
}

impl Consul {
    /// Looks whether the agent is there, unless registering will show it.
    pub(super) async fn open(config: Config, host: &Host) -> Result<Self, Error> {
        let agent = Agent::open(&config.client, host).await?;
        if config.registration.is_none() {
            agent.check().await.map_err(|error| {
                Error::new(error.kind(), "failed check on consul agent").with_source(error)
            })?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                agent,
                watched: Mutex::default(),
            }),
            registered: Mutex::default(),
            watches: Mutex::default(),
        })
    }

    /// Begins to watch a service.
    fn watch(&self, service: &str) {
        let mut watched = self.shared.watched.lock();
        if watched.len() >= MAX_WATCHED || watched.contains_key(service) {
            return;
        }
        watched.insert(service.to_owned(), None);
        drop(watched);
        let shared = Arc::clone(&self.shared);
        let service = service.to_owned();
        self.watches
            .lock()
            .spawn(async move { shared.follow(&service).await });
    }
}

impl Shared {
    async fn ask(&self, service: &str, wait: Option<Wait>) -> Result<(Vec<Value>, u64), Error> {
        self.agent
            .healthy(service, &self.config.query, wait)
            .await
            .map_err(|error| {
                Error::new(error.kind(), "failed to query healthy consul services").with_source(error)
            })
    }

    /// Keeps a service's addresses for as long as the resolver lives.
    async fn follow(&self, service: &str) {
        let mut index = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask(service, Some(Wait { index })).await {
                Ok((entries, newer)) => {
                    let addresses = addresses(&entries, service, &self.config.port_key).ok();
                    self.watched.lock().insert(service.to_owned(), addresses);
                    // An index that goes back begins anew, and zero would not wait (Consul's rules for blocking
                    // queries).
                    index = if newer < index { 0 } else { newer.max(1) };
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    tracing::error!(
                        "consul service-watcher error: {}, retry in {pause:?}",
                        error.chain()
                    );
                    self.watched.lock().insert(service.to_owned(), None);
                    index = 0;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }
}

/// The addresses of instances that say their sidecar's port.
fn addresses(entries: &[Value], service: &str, port_key: &str) -> Result<Addresses, Error> {
    if entries.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no healthy services found with AppID '{service}'"),
        ));
    }
    let text = |value: &Value, path: &str| {
        value
            .pointer(path)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let found: Addresses = entries
        .iter()
        .filter_map(|entry| {
            let meta = entry.pointer("/Service/Meta")?.get(port_key)?.as_str()?;
            let port: u16 = meta.parse().ok()?;
            let host = text(entry, "/Service/Address").or_else(|| text(entry, "/Node/Address"))?;
            Some(match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
                _ => format!("{host}:{port}"),
            })
        })
        .collect();
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("target service AppID '{service}' found but {port_key} missing from meta"),
        ));
    }
    Ok(found)
}

/// What the agent is told of this sidecar.
fn registration(registration: &Registration, port_key: &str, instance: &Instance) -> Value {
    let port = instance.internal_address.port().to_string();
    match registration {
        Registration::Advanced(fields) => {
            let mut fields = fields.clone();
            let name = fields
                .keys()
                .find(|name| name.eq_ignore_ascii_case("meta"))
                .cloned()
                .unwrap_or_else(|| "Meta".to_owned());
            let meta = fields.entry(name).or_insert_with(|| json!({}));
            if !meta.is_object() {
                *meta = json!({});
            }
            meta[port_key] = port.into();
            Value::Object(fields)
        }
        Registration::Own { checks, tags, meta } => {
            let host = instance.internal_address.ip();
            let app = instance.app_id.as_str();
            let id = format!("{app}-{host}-{}", instance.http_port);
            let mut meta: Map<String, Value> = meta.clone();
            meta.insert(port_key.to_owned(), port.into());
            let health = std::net::SocketAddr::new(host, instance.http_port);
            let checks = if checks.is_empty() {
                vec![json!({
                    "Name": "Dapr Health Status",
                    "CheckID": format!("daprHealth:{id}"),
                    "Interval": "15s",
                    "HTTP": format!("http://{health}/v1.0/healthz?appid={app}"),
                })]
            } else {
                checks.clone()
            };
            json!({
                "ID": id,
                "Name": app,
                "Address": host.to_string(),
                "Port": instance.app_port,
                "Checks": checks,
                "Tags": tags,
                "Meta": meta,
            })
        }
    }
}

/// The id under which a registration stands: its own, else its name.
fn id(registration: &Value) -> Option<String> {
    let field = |name: &str| {
        let (_, value) = registration
            .as_object()?
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    field("id").or_else(|| field("name"))
}

impl Resolver for Consul {
    async fn register(&self, instance: Instance) -> Result<(), Error> {
        let config = &self.shared.config;
        let Some(wanted) = &config.registration else {
            return Ok(());
        };
        let body = registration(wanted, &config.port_key, &instance);
        self.shared.agent.register(&body).await.map_err(|error| {
            Error::new(error.kind(), "failed to register consul service").with_source(error)
        })?;
        tracing::info!("service:{} registered on consul agent", instance.app_id);
        if config.deregister {
            *self.registered.lock() = id(&body);
        }
        Ok(())
    }

    async fn resolve(&self, target: &Target) -> Result<Addresses, Error> {
        let service = target.app_id.as_str();
        if self.shared.config.use_cache {
            if let Some(Some(known)) = self.shared.watched.lock().get(service) {
                return Ok(known.clone());
            }
            self.watch(service);
        }
        let (entries, _) = self.shared.ask(service, None).await?;
        addresses(&entries, service, &self.shared.config.port_key)
    }

    async fn close(&self) -> Result<(), Error> {
        self.watches.lock().abort_all();
        let Some(id) = self.registered.lock().take() else {
            return Ok(());
        };
        self.shared.agent.deregister(&id).await.map_err(|error| {
            Error::new(error.kind(), "failed to deregister consul service").with_source(error)
        })?;
        tracing::info!("deregistered service from consul");
        Ok(())
    }
}
