//! `secretKeyRef` and `envRef`: filling a resource's values from secret stores and the environment (requirement
//! A4.5; upstream `pkg/runtime/processor/secret`).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use base64::Engine as _;
use futures::future::BoxFuture;
use outrigger_types::Environment;

use crate::kinds::{DynamicValue, Resource, SecretKeyRef};

/// The secret store that exists without a component in Kubernetes.
pub const BUILTIN_KUBERNETES_STORE: &str = "kubernetes";

/// The variable that lists, separated by blanks, the variables resources may refer to.
const ENV_KEYS: &str = "DAPR_ENV_KEYS";

/// What a secret store answers.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretAnswer {
    /// The secret's keys and values.
    Found(BTreeMap<String, String>),
    /// The store refused or failed; the text is for the log.
    Failed(String),
    /// There is no such store (yet).
    NoStore,
}

impl fmt::Debug for SecretAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(data) => f
                .debug_tuple("Found")
                .field(&data.keys().collect::<Vec<_>>())
                .finish(),
            Self::Failed(reason) => f.debug_tuple("Failed").field(reason).finish(),
            Self::NoStore => f.write_str("NoStore"),
        }
    }
}

/// The secret stores that are there now.
pub trait SecretLookup: Send + Sync {
    /// Reads a secret; `namespace` is the resource's, possibly empty, and goes along as metadata.
    fn secret<'a>(&'a self, store: &'a str, name: &'a str, namespace: &'a str)
    -> BoxFuture<'a, SecretAnswer>;
}

/// How references are resolved.
#[derive(Debug, Clone, Default)]
pub struct ReferenceOptions {
    /// The sidecar's environment.
    pub environment: Environment,
    /// Whether the sidecar runs in Kubernetes: the store is `kubernetes` where a resource names none, and the
    /// operator has already put that store's secrets, in base64, into the values.
    pub kubernetes: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Whether a value was filled in.
    pub updated: bool,
    /// The store that is not there; the resource has to wait for it and be resolved again.
    pub waiting_for: Option<String>,
    /// What to log.
    pub notices: Vec<Notice>,
}

/// Something to log about a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Worth a warning; upstream's text.
    Warning(String),
    /// Worth an error; upstream's text.
    Error(String),
}

impl ReferenceOptions {
    /// The store a resource's secrets come from.
    #[must_use]
    pub fn store_of<'a>(&self, resource: &'a impl Resource) -> &'a str {
        match resource.secret_store() {
            "" if self.kubernetes => BUILTIN_KUBERNETES_STORE,
            store => store,
        }
    }
}

/// Fills in what a resource refers to. A secret that is missing or empty leaves its value unset; a store that is
/// not there ends the work, because the resource will be resolved again.
pub async fn resolve<T: Resource>(
    resource: &mut T,
    options: &ReferenceOptions,
    lookup: &dyn SecretLookup,
) -> Resolution {
    let mut resolver = Resolver {
        store: options.store_of(resource).to_owned(),
        namespace: resource.meta().namespace.clone(),
        subject: format!("{} {}", T::KIND, resource.name()),
        from_operator: options.kubernetes,
        lookup,
        cache: HashMap::new(),
        resolution: Resolution::default(),
    };
    for pair in resource.name_values_mut() {
        if !pair.value.is_set() && !pair.env_ref.is_empty() {
            let name = std::mem::take(&mut pair.env_ref);
            if may_refer_to(&name, &options.environment) {
                pair.value = DynamicValue::from_text(options.environment.get(&name).unwrap_or_default());
            } else {
                let text = format!(
                    "{} references an env variable that isn't allowed: {name}",
                    resolver.subject
                );
                resolver.resolution.notices.push(Notice::Warning(text));
            }
            resolver.resolution.updated = true;
            continue;
        }
        if pair.secret_key_ref.name.is_empty() {
            continue;
        }
        match resolver.value(&pair.secret_key_ref, &pair.value).await {
            Outcome::Value(value) => pair.value = value,
            Outcome::Nothing => {}
            Outcome::Wait => return resolver.resolution,
        }
    }
    for document in resource.tls_documents_mut() {
        let Some(secret) = document.secret().cloned() else {
            continue;
        };
        let current = document.value.clone().unwrap_or_default();
        match resolver.value(&secret, &current).await {
            Outcome::Value(value) => document.value = Some(value),
            Outcome::Nothing => {}
            Outcome::Wait => return resolver.resolution,
        }
    }
    resolver.resolution
}

enum Outcome {
    Value(DynamicValue),
    Nothing,
    Wait,
}

struct Resolver<'a> {
    store: String,
    namespace: String,
    subject: String,
    from_operator: bool,
    lookup: &'a dyn SecretLookup,
    /// Secrets by name, for this resource.
    cache: HashMap<String, BTreeMap<String, String>>,
    resolution: Resolution,
}

impl Resolver<'_> {
    async fn value(&mut self, secret: &SecretKeyRef, current: &DynamicValue) -> Outcome {
        if self.from_operator && self.store == BUILTIN_KUBERNETES_STORE {
            let decoded = base64::engine::general_purpose::STANDARD.decode(current.text());
            let text = decoded
                .map_err(|error| error.to_string())
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "the secret is not UTF-8".to_owned()));
            return match text {
                Ok(text) => self.found(text),
                Err(reason) => self.failed(format!("Error decoding secret: {reason}")),
            };
        }
        if !self.cache.contains_key(&secret.name) {
            match self
                .lookup
                .secret(&self.store, &secret.name, &self.namespace)
                .await
            {
                SecretAnswer::Found(data) => {
                    self.cache.insert(secret.name.clone(), data);
                }
                SecretAnswer::Failed(reason) => {
                    return self.failed(format!("Error getting secret: {reason}"));
                }
                SecretAnswer::NoStore => {
                    let text = format!(
                        "{} references a secret store that isn't loaded: {}",
                        self.subject, self.store
                    );
                    self.resolution.notices.push(Notice::Warning(text));
                    self.resolution.waiting_for = Some(self.store.clone());
                    return Outcome::Wait;
                }
            }
        }
        let key = if secret.key.is_empty() {
            &secret.name
        } else {
            &secret.key
        };
        match self.cache.get(&secret.name).and_then(|data| data.get(key)) {
            Some(value) if !value.is_empty() => {
                let value = value.clone();
                self.found(value)
            }
            _ => Outcome::Nothing,
        }
    }

    fn found(&mut self, text: String) -> Outcome {
        self.resolution.updated = true;
        Outcome::Value(DynamicValue::from_text(text))
    }

    fn failed(&mut self, text: String) -> Outcome {
        self.resolution.notices.push(Notice::Error(text));
        Outcome::Nothing
    }
}

/// Whether a resource may refer to a variable: not to tokens and other variables of Dapr, and when there is a list
/// only to those in it. The name counts in upper case.
#[must_use]
pub fn may_refer_to(name: &str, environment: &Environment) -> bool {
    let name = name.to_uppercase();
    if name.is_empty() || name == "APP_API_TOKEN" || name.starts_with("DAPR_") || name.contains(' ') {
        return false;
    }
    // Upstream looks at the first occurrence in the list only and so misses names that end another; listed is
    // listed here.
    environment
        .non_empty(ENV_KEYS)
        .is_none_or(|list| list.split(' ').any(|listed| listed == name))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::kinds::{Component, HttpEndpoint, NameValue, Tls, TlsDocument};

    #[derive(Default)]
    struct Stores(AtomicUsize);

    impl SecretLookup for Stores {
        fn secret<'a>(
            &'a self,
            store: &'a str,
            name: &'a str,
            namespace: &'a str,
        ) -> BoxFuture<'a, SecretAnswer> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                if store != "vault" {
                    return SecretAnswer::NoStore;
                }
                if name == "broken" {
                    return SecretAnswer::Failed("no route".to_owned());
                }
                let data = [
                    (name, "own"),
                    ("user", "u"),
                    ("pass", "p"),
                    ("ns", namespace),
                    ("empty", ""),
                ];
                SecretAnswer::Found(data.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
            })
        }
    }

    fn secret(name: &str, key: &str) -> NameValue {
        let secret_key_ref = SecretKeyRef {
            name: name.to_owned(),
            key: key.to_owned(),
        };
        NameValue {
            name: key.to_owned(),
            secret_key_ref,
            ..NameValue::default()
        }
    }

    fn env(name: &str) -> NameValue {
        NameValue {
            name: name.to_owned(),
            env_ref: name.to_owned(),
            ..NameValue::default()
        }
    }

    fn component(store: &str, metadata: Vec<NameValue>) -> Component {
        let mut component = Component::default();
        component.meta.name = "c".to_owned();
        component.meta.namespace = "prod".to_owned();
        component.auth.secret_store = store.to_owned();
        component.spec.metadata = metadata;
        component
    }

    fn texts(component: &Component) -> Vec<String> {
        component
            .spec
            .metadata
            .iter()
            .map(|pair| pair.value.text())
            .collect()
    }

    #[tokio::test]
    async fn secrets_fill_values_and_each_is_read_once() {
        let stores = Stores::default();
        let metadata = vec![
            secret("db", "user"),
            secret("db", "pass"),
            secret("db", ""),
            secret("db", "empty"),
            secret("db", "ns"),
        ];
        let mut component = component("vault", metadata);
        let resolution = resolve(&mut component, &ReferenceOptions::default(), &stores).await;
        assert_eq!(texts(&component), ["u", "p", "own", "", "prod"]);
        assert_eq!(
            resolution,
            Resolution {
                updated: true,
                ..Resolution::default()
            }
        );
        assert_eq!(stores.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_missing_store_makes_the_resource_wait() {
        let mut component = component("", vec![secret("db", "user")]);
        let resolution = resolve(&mut component, &ReferenceOptions::default(), &Stores::default()).await;
        assert_eq!(resolution.waiting_for.as_deref(), Some(""));
        let expected = "Component c references a secret store that isn't loaded: ".to_owned();
        assert_eq!(resolution.notices, [Notice::Warning(expected)]);
    }

    #[tokio::test]
    async fn a_failing_secret_is_passed_over() {
        let mut component = component("vault", vec![secret("broken", "user"), secret("db", "user")]);
        let resolution = resolve(&mut component, &ReferenceOptions::default(), &Stores::default()).await;
        assert_eq!(texts(&component), ["", "u"]);
        assert_eq!(
            resolution.notices,
            [Notice::Error("Error getting secret: no route".to_owned())]
        );
    }

    #[tokio::test]
    async fn variables_fill_values_unless_denied() {
        let environment =
            Environment::from_pairs([("GOOD", "g"), ("DAPR_API_TOKEN", "t"), ("APP_API_TOKEN", "t")]);
        let options = ReferenceOptions {
            environment,
            kubernetes: false,
        };
        let mut given = env("GOOD");
        given.value = DynamicValue::from_text("given");
        let metadata = vec![
            env("GOOD"),
            env("DAPR_API_TOKEN"),
            env("app_api_token"),
            env("A B"),
            env("UNSET"),
            given,
        ];
        let mut component = component("", metadata);
        let resolution = resolve(&mut component, &options, &Stores::default()).await;
        assert_eq!(texts(&component), ["g", "", "", "", "", "given"]);
        assert_eq!(resolution.notices.len(), 3);
        let expected = "Component c references an env variable that isn't allowed: DAPR_API_TOKEN".to_owned();
        assert_eq!(resolution.notices[0], Notice::Warning(expected));
    }

    #[test]
    fn a_list_of_variables_is_exhaustive() {
        let environment = Environment::from_pairs([("DAPR_ENV_KEYS", "MY_FOO FOO")]);
        assert!(may_refer_to("foo", &environment) && may_refer_to("MY_FOO", &environment));
        assert!(!may_refer_to("BAR", &environment) && !may_refer_to("MY", &environment));
    }

    #[tokio::test]
    async fn the_operator_sends_secrets_in_base64() {
        let mut pair = secret("db", "user");
        pair.value = DynamicValue::from_json(&"c2VjcmV0".into());
        let mut component = component("", vec![pair]);
        let options = ReferenceOptions {
            kubernetes: true,
            ..ReferenceOptions::default()
        };
        assert!(
            resolve(&mut component, &options, &Stores::default())
                .await
                .updated
        );
        assert_eq!(texts(&component), ["secret"]);
    }

    #[tokio::test]
    async fn tls_documents_of_endpoints_are_filled_too() {
        let mut endpoint = HttpEndpoint::default();
        endpoint.auth.secret_store = "vault".to_owned();
        let secret_key_ref = Some(SecretKeyRef {
            name: "tls".to_owned(),
            key: "pass".to_owned(),
        });
        let document = TlsDocument {
            value: None,
            secret_key_ref,
        };
        endpoint.spec.client_tls = Some(Tls {
            root_ca: Some(document),
            ..Tls::default()
        });
        resolve(&mut endpoint, &ReferenceOptions::default(), &Stores::default()).await;
        let value = endpoint.spec.client_tls.unwrap().root_ca.unwrap().value.unwrap();
        assert_eq!(value.text(), "p");
    }

    #[test]
    fn secrets_do_not_print() {
        let component = component("vault", vec![NameValue::new("password", "hunter2")]);
        assert!(!format!("{component:?}").contains("hunter2"));
        let answer = SecretAnswer::Found([("k".to_owned(), "hunter2".to_owned())].into());
        assert!(!format!("{answer:?}").contains("hunter2"));
    }
}
