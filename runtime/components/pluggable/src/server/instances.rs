//! The instances that sidecars initialised, by name.

use std::{collections::HashMap, fmt, sync::Arc};

use futures::future::BoxFuture;
use outrigger_bindings::Binding;
use outrigger_component::{Error, Host, Properties, Registration, Spec};
use outrigger_pubsub::DynPubSub;
use outrigger_secrets::DynSecretStore;
use outrigger_state::DynStateStore;
use outrigger_wire::dapr::proto::components::v1::MetadataRequest;
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tonic::{Request, Status, metadata::MetadataMap};

use crate::{INSTANCE_HEADER, status::status};

/// Most instances of one server: each holds connections and files.
const MAX_INSTANCES: usize = 1024;

/// What can be let go of.
pub(super) trait Closable: Send + Sync + 'static {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

impl Closable for dyn DynStateStore {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        DynStateStore::close(self)
    }
}

impl Closable for dyn DynPubSub {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        DynPubSub::close(self)
    }
}

impl Closable for dyn DynSecretStore {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        DynSecretStore::close(self)
    }
}

impl Closable for Binding {
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            if let Some(input) = &self.input {
                input.close().await?;
            }
            match &self.output {
                Some(output) => output.close().await,
                None => Ok(()),
            }
        })
    }
}

/// The instances of one type.
pub(super) struct Instances<I: Closable + ?Sized>(Arc<Inner<I>>);

struct Inner<I: Closable + ?Sized> {
    registration: Registration<I>,
    version: String,
    host: Host,
    open: RwLock<HashMap<String, Entry<I>>>,
    /// Held while one opens: an instance is opened once.
    opening: Mutex<()>,
}

struct Entry<I: ?Sized> {
    properties: HashMap<String, String>,
    instance: Arc<I>,
}

impl<I: Closable + ?Sized> Clone for Instances<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: Closable + ?Sized> fmt::Debug for Instances<I> {
    /// Without settings: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instances").field(&self.0.registration).finish()
    }
}

impl<I: Closable + ?Sized> Instances<I> {
    pub(super) fn new(registration: Registration<I>, version: String, host: Host) -> Self {
        Self(Arc::new(Inner {
            registration,
            version,
            host,
            open: RwLock::default(),
            opening: Mutex::default(),
        }))
    }

    /// The app of the host: the group of subscribers that name none.
    pub(super) fn app_id(&self) -> &str {
        self.0.host.app_id.as_str()
    }

    /// Opens the instance that the call names, unless it is open with the same settings; one with others is closed.
    pub(super) async fn init(
        &self,
        caller: &MetadataMap,
        metadata: Option<MetadataRequest>,
    ) -> Result<(), Status> {
        let name = name(caller)?;
        let properties = metadata.unwrap_or_default().properties;
        let _turn = self.0.opening.lock().await;
        {
            let open = self.0.open.read();
            match open.get(name) {
                Some(entry) if entry.properties == properties => return Ok(()),
                None if open.len() >= MAX_INSTANCES => {
                    return Err(Status::resource_exhausted(format!(
                        "this component serves at most {MAX_INSTANCES} instances"
                    )));
                }
                _ => {}
            }
        }
        let type_name = self
            .0
            .registration
            .type_names
            .first()
            .copied()
            .unwrap_or_default();
        let spec = Spec {
            name: if name.is_empty() { type_name } else { name }.into(),
            type_name: type_name.to_owned(),
            version: self.0.version.clone(),
            properties: Properties::from_pairs(properties.clone()),
        };
        let opening = (self.0.registration.validate)(&spec).map_err(|error| status(&error))?;
        // The old one first: it may hold what the new one needs.
        let old = self.0.open.write().remove(name);
        if let Some(old) = old
            && let Err(error) = old.instance.close().await
        {
            tracing::warn!(target: "dapr.component", "instance {name:?} did not close in order: {}", error.chain());
        }
        let instance = opening
            .run(self.0.host.clone())
            .await
            .map_err(|error| status(&error))?;
        tracing::info!(target: "dapr.component", "instance {name:?} of {type_name} is open");
        let entry = Entry { properties, instance };
        self.0.open.write().insert(name.to_owned(), entry);
        Ok(())
    }

    /// The instance that the call names.
    pub(super) fn of<T>(&self, request: &Request<T>) -> Result<Arc<I>, Status> {
        let name = name(request.metadata())?;
        let open = self.0.open.read();
        let entry = open.get(name).ok_or_else(|| {
            Status::failed_precondition(format!("component {name:?} is not initialised: Init comes first"))
        })?;
        Ok(Arc::clone(&entry.instance))
    }

    /// A setting of the instance that the call names.
    pub(super) fn setting<T>(&self, request: &Request<T>, wanted: &str) -> Option<String> {
        let open = self.0.open.read();
        let entry = open.get(name(request.metadata()).ok()?)?;
        let found = entry
            .properties
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found
            .map(|(_, value)| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// Closes all.
    pub(super) async fn close(&self) {
        let open = std::mem::take(&mut *self.0.open.write());
        for (name, entry) in open {
            if let Err(error) = entry.instance.close().await {
                tracing::warn!(target: "dapr.component", "instance {name:?} did not close in order: {}", error.chain());
            }
        }
    }
}

/// Which instance a call is for; callers without a name share one.
pub(super) fn name(caller: &MetadataMap) -> Result<&str, Status> {
    caller.get(INSTANCE_HEADER).map_or(Ok(""), |name| {
        name.to_str()
            .map_err(|_| Status::invalid_argument(format!("{INSTANCE_HEADER} is not text")))
    })
}
