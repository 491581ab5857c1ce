//! A state store opened by its component file, and the keys of one app in it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use outrigger_components::{self as registry, Category};
use outrigger_resources::{kinds::Resource as _, survey};
use outrigger_sidecar_state::KeyPrefix;
use outrigger_state::{KeyPage, KeyPattern, SharedStateStore};
use outrigger_types::StateKey;

use super::super::Surroundings;
use crate::workbench::{Place, Workbench, component_named};

/// How long a store may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Keys asked for at a time.
const PAGE: u32 = 1000;

/// What separates a prefix from the app's key.
const SEPARATOR: &str = "||";

/// Which store, whose keys.
#[derive(Debug, Args)]
pub(super) struct StoreFlags {
    /// The id of the app whose keys are meant
    #[arg(short = 'a', long)]
    app_id: Option<String>,
    /// Keys of all apps, as the store has them
    #[arg(long, conflicts_with = "app_id")]
    all: bool,
    /// The name of the state store
    #[arg(short = 's', long, default_value = "statestore")]
    pub(super) store: String,
    /// Folder of resource files; may be repeated. What `run` would use if not given
    #[arg(long, value_delimiter = ',')]
    resources_path: Vec<PathBuf>,
}

/// An open store with its rule for keys.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) instance: SharedStateStore,
    pub(super) name: String,
    pub(super) type_name: String,
    /// Whether the sidecar encrypts what it writes there.
    pub(super) encrypted: bool,
    /// What stands before each key of the app; `None` with `--all`.
    pub(super) prefix: Option<String>,
}

impl StoreFlags {
    /// Opens the store.
    ///
    /// # Errors
    /// When there is none of that name, it does not open, or nothing says whose keys are meant.
    pub(super) async fn open(&self, around: &Surroundings) -> Result<Store> {
        let place = Place::of(
            &self.resources_path,
            None,
            &around.working_dir,
            around.runtime_path.as_deref(),
            &around.folders,
        )?;
        let found = survey(&place.resources);
        if let Some(error) = found.unreadable.into_iter().next() {
            return Err(error).context("cannot read the resource folder");
        }
        let component = component_named(&found.components, Category::State, &self.store, &place)?;
        if component.spec.r#type.eq_ignore_ascii_case("state.in-memory") {
            bail!(
                "{} keeps its items inside the sidecar's process; use state get",
                component.spec.r#type
            );
        }
        let mut bench = Workbench::new(self.app_id.as_deref(), &around.working_dir, &around.environment);
        bench.open_secret_stores(&found.components, OPEN_LIMIT).await;
        let prepared = bench.prepare(component).await?;
        if let Some(store) = prepared.waiting_for {
            bail!(
                "{} needs the secret store {store:?}, which is not there",
                component.log_name()
            );
        }
        let rule = KeyPrefix::from_properties(component.name(), &prepared.spec.properties)
            .map_err(|error| anyhow::anyhow!("{}: {}", component.log_name(), error.message()))?;
        let prefix = if self.all {
            None
        } else {
            Some(self.prefix(component.name(), &rule, bench.namespace())?)
        };
        let instance = bench
            .open(&registry::state(), &prepared.spec, OPEN_LIMIT)
            .await
            .map_err(|error| anyhow::anyhow!("cannot open {}: {}", component.log_name(), error.chain()))?;
        let encrypted = component
            .spec
            .metadata
            .iter()
            .any(|pair| pair.name == "primaryEncryptionKey" && !pair.secret_key_ref.name.is_empty());
        Ok(Store {
            instance,
            name: component.name().to_owned(),
            type_name: component.spec.r#type.clone(),
            encrypted,
            prefix,
        })
    }

    fn prefix(&self, store: &str, rule: &KeyPrefix, namespace: Option<&str>) -> Result<String> {
        let app_id = match (&self.app_id, rule) {
            (Some(app_id), _) => app_id.as_str(),
            (None, KeyPrefix::AppId | KeyPrefix::Namespace) => {
                bail!(
                    "the keys of {store} are kept apart by app: say whose with --app-id, or --all for every key"
                )
            }
            (None, _) => "",
        };
        let key = rule
            .apply(store, app_id, namespace, "")
            .map_err(|error| anyhow::anyhow!("{}", error.message()))?;
        Ok(key.to_string())
    }
}

impl Store {
    /// Whether keys can be listed.
    ///
    /// # Errors
    /// When they cannot, with what to do.
    pub(super) fn must_list(&self) -> Result<()> {
        if self.instance.capabilities().keys_like {
            return Ok(());
        }
        bail!(
            "{} ({}) cannot list its keys; use the tools of its server, or state get for single items",
            self.name,
            self.type_name
        )
    }

    /// A page of the keys that begin so, as the store has them.
    pub(super) async fn keys(&self, prefix: &str, token: Option<String>) -> Result<KeyPage> {
        let whole = format!("{}{prefix}", self.prefix.as_deref().unwrap_or_default());
        let pattern = KeyPattern {
            like: format!("{}%", escaped(&whole)),
            page_size: Some(PAGE),
            token,
        };
        let page = self.instance.keys(pattern).await;
        page.map_err(|error| anyhow::anyhow!("cannot list the keys of {}: {}", self.name, error.chain()))
    }

    /// The key as the app knows it.
    pub(super) fn apps_key<'a>(&self, key: &'a str) -> &'a str {
        self.prefix
            .as_deref()
            .and_then(|prefix| key.strip_prefix(prefix))
            .unwrap_or(key)
    }

    /// The key as the store has it.
    ///
    /// # Errors
    /// When the app's key holds the separator: its sidecar would never find it again.
    pub(super) fn stores_key(&self, key: &str) -> Result<StateKey> {
        match &self.prefix {
            Some(_) if key.contains(SEPARATOR) => {
                bail!("the key {key:?} holds {SEPARATOR}; import it with --all")
            }
            Some(prefix) => Ok(StateKey::from(format!("{prefix}{key}"))),
            None => Ok(StateKey::from(key)),
        }
    }
}

/// The text as a pattern that matches just it.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_only_what_they_say() {
        let like = outrigger_state::Like::new(&format!("{}%", escaped("a_b%c\\||")));
        assert!(like.matches("a_b%c\\||key"));
        assert!(!like.matches("aXb%c\\||key"));
    }
}
