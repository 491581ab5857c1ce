//! `secretstores.in-memory`: secrets written in the component itself (ours; D4), for tests and for trying things out.

use std::{collections::BTreeMap, fmt, sync::Arc};

use outrigger_component::{Error, ErrorKind, Metadata, Open, Registration, SecretString, Spec, open_with};

use crate::{DynSecretStore, Secret, SecretStore};

/// `secretstores.in-memory`. Every entry of the metadata is a secret of one value, its name with case.
#[must_use]
pub fn registration() -> Registration<dyn DynSecretStore> {
    Registration {
        type_names: &["secretstores.in-memory"],
        versions: &["v1"],
        validate,
    }
}

fn validate(spec: &Spec) -> Result<Open<dyn DynSecretStore>, Error> {
    let store: MemorySecretStore = spec
        .properties
        .iter()
        .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
        .collect();
    Ok(open_with(async move |_host| {
        Ok(Arc::new(store) as Arc<dyn DynSecretStore>)
    }))
}

/// Secrets of one value each. They never print.
#[derive(Clone, Default)]
pub struct MemorySecretStore(BTreeMap<String, Secret>);

impl FromIterator<(String, SecretString)> for MemorySecretStore {
    fn from_iter<P: IntoIterator<Item = (String, SecretString)>>(pairs: P) -> Self {
        let secret = |(name, value): (String, SecretString)| (name.clone(), Secret::from([(name, value)]));
        Self(pairs.into_iter().map(secret).collect())
    }
}

impl fmt::Debug for MemorySecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretStore for MemorySecretStore {
    async fn get(&self, name: &str, _metadata: &Metadata) -> Result<Secret, Error> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("secret {name} not found")))
    }

    async fn all(&self, _metadata: &Metadata) -> Result<BTreeMap<String, Secret>, Error> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use outrigger_component::{Host, Properties};

    use super::*;
    use crate::{SharedSecretStore, suite};

    #[tokio::test]
    async fn it_behaves_as_every_store() {
        let spec = Spec {
            name: "secrets".into(),
            type_name: "secretstores.in-memory".into(),
            version: "v1".into(),
            properties: Properties::from_pairs([("apiKey", "hush-hush"), ("Other", "quiet-too")]),
        };
        let open = (registration().validate)(&spec).unwrap();
        let store: SharedSecretStore = open.run(Host::new("app", "")).await.unwrap();
        let held = [("apiKey", "hush-hush"), ("Other", "quiet-too")]
            .map(|(name, value)| (name.to_owned(), Secret::from([(name.to_owned(), value.into())])));
        suite::run(&store, &held.into(), suite::Absent::NotFound).await;
    }
}
