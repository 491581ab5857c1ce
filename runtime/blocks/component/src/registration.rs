//! How a component type is registered and built.

use std::{fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use outrigger_types::{AppId, ComponentName, Environment, Namespace};

use crate::{Error, Properties};

/// A component as configured, its references and templates already resolved.
#[derive(Debug, Clone)]
pub struct Spec {
    /// `metadata.name`.
    pub name: ComponentName,
    /// `spec.type`, for example `state.sqlite`.
    pub type_name: String,
    /// `spec.version`; empty, `v0` and `v1` all mean the first version.
    pub version: String,
    /// `spec.metadata`.
    pub properties: Properties,
}

/// What surrounds a component instance: the values it would otherwise be tempted to read from the process.
#[derive(Debug, Clone)]
pub struct Host {
    /// The app this sidecar serves.
    pub app_id: AppId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The environment snapshot (`secretstores.local.env` reads it).
    pub environment: Environment,
    /// Relative paths in metadata start here.
    pub base_dir: PathBuf,
}

impl Host {
    /// A host for tests and tools.
    #[must_use]
    pub fn new(app_id: impl Into<AppId>, base_dir: impl Into<PathBuf>) -> Self {
        Self {
            app_id: app_id.into(),
            namespace: Namespace::from("default"),
            environment: Environment::default(),
            base_dir: base_dir.into(),
        }
    }

    /// A path from metadata, made absolute.
    #[must_use]
    pub fn path(&self, text: &str) -> PathBuf {
        self.base_dir.join(text)
    }
}

/// The second phase of building: does the I/O and yields the instance. Cancel-safe: dropping the future undoes
/// what it began.
pub struct Open<I: ?Sized>(Box<dyn FnOnce(Host) -> OpenFuture<I> + Send>);

type OpenFuture<I> = Pin<Box<dyn Future<Output = Result<Arc<I>, Error>> + Send>>;

impl<I: ?Sized> Open<I> {
    /// Runs the opening.
    ///
    /// # Errors
    /// `Unavailable` errors may be tried again with a fresh `validate`; all others are permanent (design D8).
    pub fn run(self, host: Host) -> OpenFuture<I> {
        (self.0)(host)
    }
}

impl<I: ?Sized> fmt::Debug for Open<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// Makes the second phase from an async closure.
pub fn open_with<I, F, Fut>(open: F) -> Open<I>
where
    I: ?Sized,
    F: FnOnce(Host) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Arc<I>, Error>> + Send + 'static,
{
    Open(Box::new(move |host| Box::pin(open(host))))
}

/// The first phase: checks a spec without any I/O and prepares the opening.
pub type Validate<I> = fn(&Spec) -> Result<Open<I>, Error>;

/// One component type of one block; `I` is the block's erased trait, for example `dyn DynStateStore`.
pub struct Registration<I: ?Sized> {
    /// All names of the type, the canonical one first (`state.sqlite`, `state.sqlite3`).
    pub type_names: &'static [&'static str],
    /// Versions it serves; the first one also answers to an absent version.
    pub versions: &'static [&'static str],
    /// The first phase.
    pub validate: Validate<I>,
}

impl<I: ?Sized> Registration<I> {
    /// Whether this registration serves the type and version. `""`, `v0` and `v1` are one version.
    #[must_use]
    pub fn serves(&self, type_name: &str, version: &str) -> bool {
        self.type_names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(type_name))
            && (matches!(version, "" | "v0" | "v1") && self.versions.contains(&"v1")
                || self
                    .versions
                    .iter()
                    .any(|served| served.eq_ignore_ascii_case(version)))
    }
}

impl<I: ?Sized> Clone for Registration<I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I: ?Sized> Copy for Registration<I> {}

impl<I: ?Sized> fmt::Debug for Registration<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("types", &self.type_names)
            .field("versions", &self.versions)
            .finish()
    }
}
