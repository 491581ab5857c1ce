//! The behaviour every secret store shows, as a test any crate can run on its store.
//!
//! A failed expectation panics, as in any test.

use std::collections::BTreeMap;

use outrigger_component::{ErrorKind, Metadata};

use crate::{Secret, SharedSecretStore};

/// What a store says of a secret that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// An error of kind `NotFound`.
    NotFound,
    /// One empty value, where the backend cannot tell absence from emptiness (`secretstores.local.env`).
    Empty,
}

/// Runs all cases on a store that holds these secrets; it may hold others.
pub async fn run(store: &SharedSecretStore, held: &BTreeMap<String, Secret>, absent: Absent) {
    let metadata = Metadata::new();
    assert!(!held.is_empty(), "the suite needs a secret to look for");

    let all = store.all(&metadata).await.expect("bulk read");
    for (name, secret) in held {
        assert!(
            store.get(name, &metadata).await.expect("read") == *secret,
            "{name} reads as it was put"
        );
        assert!(
            all.get(name) == Some(secret),
            "{name} is in the bulk answer, and the same"
        );
    }
    if !store.multi_valued() {
        // Callers address the value by the secret's name (A4.5).
        for (name, secret) in &all {
            assert!(secret.keys().eq([name]), "{name} has one key, its own name");
        }
    }

    let name = "outrigger-suite-absent";
    match (absent, store.get(name, &metadata).await) {
        (Absent::NotFound, answer) => {
            assert_eq!(
                answer.expect_err("an absent secret is an error").kind(),
                ErrorKind::NotFound
            );
        }
        (Absent::Empty, answer) => {
            let secret = answer.expect("an absent secret is empty");
            assert!(secret.len() == 1 && secret[name].expose().is_empty());
        }
    }

    // No value in what logs may print (A4.8, B7).
    let printed = format!("{store:?} {all:?}");
    for secret in held
        .values()
        .flat_map(BTreeMap::values)
        .filter(|secret| secret.expose().len() > 3)
    {
        assert!(!printed.contains(secret.expose()), "a value is printed");
    }

    store.ping().await.expect("ping");
    store.close().await.expect("close");
    store.close().await.expect("closing twice");
}
