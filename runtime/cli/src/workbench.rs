//! Components opened outside a sidecar, for tools: chosen folders, secrets filled in, templates applied.
//!
//! What a sidecar of the app would get is what a tool gets; only nothing here retries, waits or serves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use outrigger_component::{Error, ErrorKind, Host, Open, Properties, Registration, Spec};
use outrigger_components::{self as registry, Category};
use outrigger_resources::{
    kinds::{Component, Resource as _},
    references::{Notice, ReferenceOptions, SecretAnswer, SecretLookup, resolve},
    templates::Templates,
};
use outrigger_secrets::SharedSecretStore;
use outrigger_types::{AppId, Environment, Namespace};

use crate::{folders::Folders, run};

/// Whose components, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The resource folders.
    pub(crate) resources: Vec<PathBuf>,
    /// The Configuration files.
    pub(crate) configs: Vec<PathBuf>,
}

impl Place {
    /// The folders named, else the ones that `run` would choose in this working folder.
    ///
    /// # Errors
    /// When the built-in components are asked for and cannot be written.
    pub(crate) fn of(
        named: &[PathBuf],
        config: Option<&Path>,
        working_dir: &Path,
        runtime_path: Option<&Path>,
        folders: &Folders,
    ) -> Result<Self> {
        let absolute = |path: &Path| working_dir.join(path);
        if !named.is_empty() {
            return Ok(Self {
                resources: named.iter().map(|path| absolute(path)).collect(),
                configs: config.map(absolute).into_iter().collect(),
            });
        }
        let (resources, found) = run::resources::of_folder(working_dir, runtime_path, folders)?;
        Ok(Self {
            resources,
            configs: config.map(absolute).or(found).into_iter().collect(),
        })
    }
}

/// Opens components of one app.
#[derive(Debug)]
pub(crate) struct Workbench {
    host: Host,
    templates: Templates,
    references: ReferenceOptions,
    secrets: BTreeMap<String, SharedSecretStore>,
}

/// A component's settings with references and templates filled in, and what was said on the way.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) spec: Spec,
    pub(crate) component: Component,
    pub(crate) notices: Vec<Notice>,
    /// The secret store that it needs and that is not there.
    pub(crate) waiting_for: Option<String>,
}

/// The app id that stands in where none is given.
const NOBODY: &str = "outrigger";

impl Workbench {
    /// A bench without secret stores.
    pub(crate) fn new(app_id: Option<&str>, working_dir: &Path, environment: &Environment) -> Self {
        let app_id = app_id.unwrap_or(NOBODY);
        let namespace = environment.non_empty("NAMESPACE").unwrap_or_default().to_owned();
        Self {
            host: Host {
                app_id: AppId::from(app_id),
                namespace: Namespace::from(if namespace.is_empty() {
                    "default"
                } else {
                    &namespace
                }),
                environment: environment.clone(),
                base_dir: working_dir.to_owned(),
            },
            templates: Templates {
                app_id: app_id.to_owned(),
                namespace,
                pod_name: environment.get("POD_NAME").unwrap_or_default().to_owned(),
            },
            references: ReferenceOptions {
                environment: environment.clone(),
                kubernetes: false,
            },
            secrets: BTreeMap::new(),
        }
    }

    /// Relative paths in metadata start here.
    pub(crate) fn base_dir(&self) -> &Path {
        &self.host.base_dir
    }

    /// `NAMESPACE`, if it is set.
    pub(crate) fn namespace(&self) -> Option<&str> {
        Some(self.templates.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }

    /// Opens the secret stores among the components, those first that others need. What fails is left out: whoever
    /// refers to it will hear of it.
    pub(crate) async fn open_secret_stores(&mut self, components: &[Component], limit: Duration) {
        let mut left: Vec<&Component> = components
            .iter()
            .filter(|component| Category::of(&component.spec.r#type) == Some(Category::SecretStores))
            .collect();
        loop {
            let before = left.len();
            let mut waiting = Vec::new();
            for component in left {
                let Ok(prepared) = self.prepare(component).await else {
                    continue;
                };
                if prepared.waiting_for.is_some() {
                    waiting.push(component);
                    continue;
                }
                if let Ok(store) = self.open(&registry::secret_stores(), &prepared.spec, limit).await {
                    self.secrets.insert(component.name().to_owned(), store);
                }
            }
            if waiting.is_empty() || waiting.len() == before {
                return;
            }
            left = waiting;
        }
    }

    /// Fills in a component's references and templates.
    ///
    /// # Errors
    /// When a template has no value.
    pub(crate) async fn prepare(&self, component: &Component) -> Result<Prepared> {
        let mut component = component.clone();
        let resolution = resolve(&mut component, &self.references, self).await;
        let mut new_id = || format!("{:032x}", crate::ports::random());
        let properties = self.templates.properties(&component, false, &mut new_id)?;
        Ok(Prepared {
            spec: Spec {
                name: component.name().into(),
                type_name: component.spec.r#type.clone(),
                version: component.spec.version.clone(),
                properties: Properties::from_pairs(properties).watched(),
            },
            component,
            notices: resolution.notices,
            waiting_for: resolution.waiting_for,
        })
    }

    /// Validates and opens.
    ///
    /// # Errors
    /// The component's own, or a timeout.
    pub(crate) async fn open<I: ?Sized>(
        &self,
        registrations: &[Registration<I>],
        spec: &Spec,
        limit: Duration,
    ) -> Result<Arc<I>, Error> {
        let registration = registry::find(registrations, &spec.type_name, &spec.version)?;
        self.finish((registration.validate)(spec)?, limit).await
    }

    /// Runs an opening, within a limit.
    ///
    /// # Errors
    /// The component's own, or a timeout.
    pub(crate) async fn finish<I: ?Sized>(&self, open: Open<I>, limit: Duration) -> Result<Arc<I>, Error> {
        match tokio::time::timeout(limit, open.run(self.host.clone())).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("no answer within {} s", limit.as_secs()),
            )),
        }
    }
}

impl SecretLookup for Workbench {
    fn secret<'a>(
        &'a self,
        store: &'a str,
        name: &'a str,
        namespace: &'a str,
    ) -> BoxFuture<'a, SecretAnswer> {
        Box::pin(async move {
            let Some(instance) = self.secrets.get(store) else {
                return SecretAnswer::NoStore;
            };
            let metadata = BTreeMap::from([("namespace".to_owned(), namespace.to_owned())]);
            match instance.get(name, &metadata).await {
                Ok(secret) => SecretAnswer::Found(
                    secret
                        .into_iter()
                        .map(|(key, value)| (key, value.expose().to_owned()))
                        .collect(),
                ),
                Err(error) => SecretAnswer::Failed(error.chain()),
            }
        })
    }
}

/// The component of a name and block.
///
/// # Errors
/// When there is none, with the names there are.
pub(crate) fn component_named<'a>(
    components: &'a [Component],
    category: Category,
    name: &str,
    place: &Place,
) -> Result<&'a Component> {
    let of_block = || {
        components
            .iter()
            .filter(|component| Category::of(&component.spec.r#type) == Some(category))
    };
    if let Some(found) = of_block().find(|component| component.name() == name) {
        return Ok(found);
    }
    let names: Vec<&str> = of_block().map(|component| component.name()).collect();
    let folders: Vec<String> = place
        .resources
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let known = if names.is_empty() {
        "there is none at all".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    bail!(
        "no {} {name:?} in {}; {known} (name another folder with --resources-path)",
        category.noun(),
        folders.join(", ")
    )
}
