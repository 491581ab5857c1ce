//! Components: types, settings, secrets, and whether their backends answer.

use std::{collections::BTreeSet, time::Duration};

use outrigger_component::{Error, ErrorKind, Registration, Spec};
use outrigger_components::{self as registry, Category};
use outrigger_components_sqlite::snapshot;
use outrigger_resources::{
    kinds::{Component, Resource as _},
    references::{Notice, may_refer_to},
};
use outrigger_types::Environment;

use super::finding::{Finding, nearest};
use crate::workbench::Workbench;

const CHECK: &str = "components";

/// Settings that the sidecar reads itself, whatever the component (upstream `pkg/components/state`,
/// `pkg/runtime/processor`).
const OWN_SETTINGS: &[(Category, &[&str])] = &[
    (
        Category::State,
        &[
            "keyPrefix",
            "actorStateStore",
            "primaryEncryptionKey",
            "secondaryEncryptionKey",
            "outboxPublishPubsub",
            "outboxPublishTopic",
            "outboxPubsub",
            "outboxDiscardWhenMissingState",
        ],
    ),
    (
        Category::PubSub,
        &[
            "publishingScopes",
            "subscriptionScopes",
            "allowedTopics",
            "protectedTopics",
            "consumerID",
            "maxConcurrency",
            "concurrency",
        ],
    ),
    (Category::Bindings, &["direction", "route", "maxConcurrency"]),
];

/// How deep to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Whether backends are opened.
    pub(super) open: bool,
    /// How long each may take.
    pub(super) limit: Duration,
}

/// Examines all components side by side.
pub(super) async fn check(
    components: &[Component],
    bench: &Workbench,
    environment: &Environment,
    depth: Depth,
) -> Vec<Finding> {
    let each = components
        .iter()
        .map(|component| examine(component, components, bench, environment, depth));
    let mut findings: Vec<Finding> = futures::future::join_all(each)
        .await
        .into_iter()
        .flatten()
        .collect();
    findings.extend(actor_stores(components));
    findings
}

async fn examine(
    component: &Component,
    all: &[Component],
    bench: &Workbench,
    environment: &Environment,
    depth: Depth,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let origin = component.meta.origin.as_ref();
    let name = component.log_name();
    references(component, all, environment, &mut findings);
    let Some(category) = Category::of(&component.spec.r#type) else {
        findings.push(unknown_type(component));
        return findings;
    };
    let prepared = match bench.prepare(component).await {
        Ok(prepared) => prepared,
        Err(error) => {
            let cure = "set POD_NAME, or write the value without {podName}";
            findings.push(
                Finding::error(CHECK, format!("{name}: {error}"))
                    .cure(cure)
                    .at(origin),
            );
            return findings;
        }
    };
    for notice in &prepared.notices {
        // Missing stores and refused variables are said above, with their line.
        if let Notice::Error(text) = notice {
            let cure = "correct the secret's name, or add it to the store";
            findings.push(
                Finding::error(CHECK, format!("{name}: {text}"))
                    .cure(cure)
                    .at(origin),
            );
        }
    }
    if prepared.waiting_for.is_some() {
        return findings;
    }
    for pair in &prepared.component.spec.metadata {
        let secret = &pair.secret_key_ref;
        if !secret.name.is_empty() && !pair.value.is_set() && prepared.notices.is_empty() {
            let key = if secret.key.is_empty() {
                &secret.name
            } else {
                &secret.key
            };
            let text = format!("{name}: the secret {:?} has no value under {key:?}", secret.name);
            let cure = format!(
                "add it to the secret store {:?}, or correct secretKeyRef",
                component.auth.secret_store
            );
            findings.push(
                Finding::error(CHECK, text)
                    .cure(cure)
                    .at_setting(origin, &pair.name),
            );
        }
    }
    let spec = &prepared.spec;
    let (limit, open) = (depth.limit, depth.open && !is_local(spec));
    let outcome = match category {
        Category::State => attempt(bench, &registry::state(), spec, open, limit).await,
        Category::PubSub => attempt(bench, &registry::pubsub(), spec, open, limit).await,
        Category::Bindings => attempt(bench, &registry::bindings(), spec, open, limit).await,
        Category::SecretStores => attempt(bench, &registry::secret_stores(), spec, open, limit).await,
        Category::Configuration => attempt(bench, &registry::configuration(), spec, open, limit).await,
        Category::Lock => attempt(bench, &registry::lock(), spec, open, limit).await,
        Category::Crypto => attempt(bench, &registry::crypto(), spec, open, limit).await,
        Category::Conversation => attempt(bench, &registry::conversation(), spec, open, limit).await,
        Category::Middleware => attempt(bench, &registry::middleware(), spec, open, limit).await,
        Category::NameResolution => {
            let text = format!("{name}: a name resolver is no component");
            let cure = "name it in the Configuration, under spec.nameResolution";
            findings.push(Finding::error(CHECK, text).cure(cure).at(origin));
            return findings;
        }
    };
    match &outcome {
        Outcome::UnknownType => findings.push(unknown_type(component)),
        Outcome::Invalid(error) => {
            let text = format!("{name}: {}", error.chain());
            let place = setting_named(error, component).unwrap_or_default();
            let cure = "correct spec.metadata; a sidecar would not start with it";
            findings.push(Finding::error(CHECK, text).cure(cure).at_setting(origin, &place));
        }
        Outcome::Closed(error) => {
            let away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
            let text = format!("{name} does not open: {}", error.chain());
            let cure = if away {
                "start its server or correct its address; --offline leaves this check out"
            } else {
                "correct its settings or its server"
            };
            let finding = if component.spec.ignore_errors {
                Finding::warning("backends", text)
            } else {
                Finding::error("backends", text)
            };
            findings.push(finding.cure(cure).at(origin));
        }
        Outcome::Good => {}
    }
    if !matches!(outcome, Outcome::UnknownType | Outcome::Invalid(_)) {
        unread(component, category, spec, &mut findings);
        if depth.open {
            findings.extend(database(component, spec, bench));
        }
    }
    findings
}

/// How far building a component went.
enum Outcome {
    UnknownType,
    Invalid(Error),
    Closed(Error),
    Good,
}

async fn attempt<I: ?Sized>(
    bench: &Workbench,
    registrations: &[Registration<I>],
    spec: &Spec,
    open: bool,
    limit: Duration,
) -> Outcome {
    let Ok(registration) = registry::find(registrations, &spec.type_name, &spec.version) else {
        return Outcome::UnknownType;
    };
    match (registration.validate)(spec) {
        Err(error) => Outcome::Invalid(error),
        Ok(_) if !open => Outcome::Good,
        Ok(opening) => match bench.finish(opening, limit).await {
            Ok(_) => Outcome::Good,
            Err(error) => Outcome::Closed(error),
        },
    }
}

/// Those whose opening would make files: they are looked at without it.
fn is_local(spec: &Spec) -> bool {
    let name = spec.type_name.to_ascii_lowercase();
    name.contains("sqlite") || name.ends_with(".localstorage")
}

fn database(component: &Component, spec: &Spec, bench: &Workbench) -> Option<Finding> {
    if !spec.type_name.to_ascii_lowercase().contains("sqlite") {
        return None;
    }
    let file = snapshot::database_file(&spec.properties, bench.base_dir()).ok()??;
    let origin = component.meta.origin.as_ref();
    let name = component.log_name();
    if file.exists() {
        let error = snapshot::check(&file).err()?;
        let text = format!("{name}: {}: {}", file.display(), error.chain());
        let cure = "put the file aside, or bring it back with outrigger restore";
        return Some(
            Finding::error("backends", text)
                .cure(cure)
                .at_setting(origin, "connectionString"),
        );
    }
    let folder = file.parent().filter(|folder| !folder.is_dir())?;
    let text = format!("{name}: there is no folder {} for its database", folder.display());
    let cure = format!("mkdir -p {}", folder.display());
    Some(
        Finding::error("backends", text)
            .cure(cure)
            .at_setting(origin, "connectionString"),
    )
}

/// References to secrets and variables that cannot be filled in.
fn references(
    component: &Component,
    all: &[Component],
    environment: &Environment,
    findings: &mut Vec<Finding>,
) {
    let origin = component.meta.origin.as_ref();
    let name = component.log_name();
    let stores: Vec<&str> = all
        .iter()
        .filter(|other| Category::of(&other.spec.r#type) == Some(Category::SecretStores))
        .map(|other| other.name())
        .collect();
    for pair in &component.spec.metadata {
        if !pair.value.is_set() && !pair.env_ref.is_empty() {
            let variable = &pair.env_ref;
            let finding = if !may_refer_to(variable, environment) {
                Finding::error(CHECK, format!("{name}: the variable {variable} may not be referred to"))
                    .cure("choose another name; DAPR_… and APP_API_TOKEN are the sidecar's, and DAPR_ENV_KEYS may limit the rest")
            } else if environment.get(variable).is_none() {
                Finding::warning(CHECK, format!("{name}: the variable {variable} is not set here")).cure(
                    format!("set it where the sidecar starts, for instance: export {variable}=…"),
                )
            } else {
                continue;
            };
            findings.push(finding.at_setting(origin, &pair.name));
        }
        if pair.secret_key_ref.name.is_empty() {
            continue;
        }
        let store = component.auth.secret_store.as_str();
        if store.is_empty() {
            let text = format!(
                "{name}: {:?} refers to a secret, but no secret store is named",
                pair.name
            );
            let cure = match stores.as_slice() {
                [] => "add auth.secretStore and a secret store component".to_owned(),
                names => format!("add auth.secretStore: {}", names.join(" or ")),
            };
            findings.push(
                Finding::error(CHECK, text)
                    .cure(cure)
                    .at_setting(origin, &pair.name),
            );
        } else if !stores.contains(&store) {
            let text = format!("{name}: the secret store {store:?} is not among the components");
            let cure = match nearest(store, stores.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => "add it, or correct auth.secretStore".to_owned(),
            };
            findings.push(
                Finding::error(CHECK, text)
                    .cure(cure)
                    .at_setting(origin, &pair.name),
            );
            return;
        }
    }
}

fn unknown_type(component: &Component) -> Finding {
    let (wanted, version) = (&component.spec.r#type, &component.spec.version);
    let types = types();
    let versions: Vec<&str> = types
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .flat_map(|(_, versions)| versions.iter().copied())
        .collect();
    let finding = if versions.is_empty() {
        let cure = match nearest(wanted, types.iter().map(|(name, _)| *name)) {
            Some(near) => format!("did you mean {near}?"),
            None if wanted.is_empty() => "add spec.type, such as state.sqlite".to_owned(),
            None => {
                let block = wanted.split('.').next().unwrap_or_default();
                let of_block: Vec<&str> = types
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| name.split('.').next() == Some(block))
                    .collect();
                if of_block.is_empty() {
                    "a type begins with its building block, such as state. or pubsub.".to_owned()
                } else {
                    format!("this program has: {}", of_block.join(", "))
                }
            }
        };
        Finding::error(
            CHECK,
            format!("{}: there is no component type {wanted:?}", component.name()),
        )
        .cure(cure)
    } else {
        Finding::error(
            CHECK,
            format!("{}: {wanted} has no version {version:?}", component.name()),
        )
        .cure(format!("write spec.version: {}", versions.join(" or ")))
    };
    finding.at(component.meta.origin.as_ref())
}

/// All component types with their versions.
fn types() -> Vec<(&'static str, &'static [&'static str])> {
    fn of<I: ?Sized>(registrations: Vec<Registration<I>>) -> Vec<(&'static str, &'static [&'static str])> {
        registrations
            .into_iter()
            .flat_map(|one| one.type_names.iter().map(move |name| (*name, one.versions)))
            .collect()
    }
    [
        of(registry::state()),
        of(registry::pubsub()),
        of(registry::bindings()),
        of(registry::secret_stores()),
        of(registry::configuration()),
        of(registry::lock()),
        of(registry::crypto()),
        of(registry::conversation()),
        of(registry::middleware()),
    ]
    .concat()
}

/// The setting that a validation error is about, if it names one in quotes.
fn setting_named(error: &Error, component: &Component) -> Option<String> {
    let text = error.chain();
    let named = |name: &str| {
        ['"', '\''].iter().any(|quote| {
            text.to_lowercase()
                .contains(&format!("{quote}{}{quote}", name.to_lowercase()))
        })
    };
    let mut names = component.spec.metadata.iter().map(|pair| &pair.name);
    names.find(|name| named(name)).cloned()
}

/// Settings that nobody reads: mostly spelling mistakes.
fn unread(component: &Component, category: Category, spec: &Spec, findings: &mut Vec<Finding>) {
    let reads = spec.properties.reads();
    if reads.all {
        return;
    }
    let own = OWN_SETTINGS
        .iter()
        .filter(|(of, _)| *of == category)
        .flat_map(|(_, names)| names.iter().copied());
    let known: BTreeSet<&str> = reads.names.iter().map(String::as_str).chain(own).collect();
    for pair in &component.spec.metadata {
        if known.iter().any(|name| name.eq_ignore_ascii_case(&pair.name)) {
            continue;
        }
        let text = format!(
            "{}: {} does not read {:?}",
            component.name(),
            spec.type_name,
            pair.name
        );
        let cure = match nearest(&pair.name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => "remove it; it has no effect here".to_owned(),
        };
        findings.push(
            Finding::warning(CHECK, text)
                .cure(cure)
                .at_setting(component.meta.origin.as_ref(), &pair.name),
        );
    }
}

/// One store may hold actor state.
fn actor_stores(components: &[Component]) -> Vec<Finding> {
    let stores: Vec<&Component> = components
        .iter()
        .filter(|component| Category::of(&component.spec.r#type) == Some(Category::State))
        .filter(|component| {
            component.spec.metadata.iter().any(|pair| {
                pair.name.eq_ignore_ascii_case("actorStateStore")
                    && outrigger_types::is_truthy(&pair.value.text())
            })
        })
        .collect();
    let disjoint = |one: &Component, other: &Component| {
        !one.scopes.is_empty()
            && !other.scopes.is_empty()
            && !one.scopes.iter().any(|scope| other.scopes.contains(scope))
    };
    stores
        .iter()
        .enumerate()
        .skip(1)
        .filter_map(|(index, store)| {
            let first = stores[..index].iter().find(|first| !disjoint(first, store))?;
            let text = format!(
                "{} and {} are both the store of actors",
                first.name(),
                store.name()
            );
            Some(
                Finding::error(CHECK, text)
                    .cure("leave actorStateStore on one of them, or give them different scopes")
                    .at_setting(store.meta.origin.as_ref(), "actorStateStore"),
            )
        })
        .collect()
}
