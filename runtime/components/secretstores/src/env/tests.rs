use outrigger_component::{Metadata, Properties, SecretString};
use outrigger_secrets::{Secret, SecretStore, SharedSecretStore, suite};
use outrigger_types::Environment;

use super::{EnvConfig, EnvStore};

fn store(prefix: &str) -> EnvStore {
    let environment = Environment::from_pairs([
        ("PLAIN", "1"),
        ("MY_KEY", "2"),
        ("MY_", "no name left"),
        ("APP_API_TOKEN", "token"),
        ("dapr_api_token", "token"),
        ("DAPR_X", "token"),
    ]);
    EnvStore::new(
        EnvConfig::parse(&Properties::from_pairs([("prefix", prefix)])),
        environment,
    )
}

#[tokio::test]
async fn one_variable_is_a_secret_of_its_own_name() {
    let secret = store("").get("PLAIN", &Metadata::new()).await.unwrap();
    assert_eq!(secret["PLAIN"].expose(), "1");
    let secret = store("MY_").get("KEY", &Metadata::new()).await.unwrap();
    assert_eq!(secret["KEY"].expose(), "2");
}

#[tokio::test]
async fn absent_and_own_variables_read_as_empty() {
    for (prefix, name) in [
        ("", "ABSENT"),
        ("", "APP_API_TOKEN"),
        ("", "app_api_token"),
        ("", "DAPR_X"),
        ("DAPR_", "X"),
        ("", "dapr_api_token"),
    ] {
        let secret = store(prefix).get(name, &Metadata::new()).await.unwrap();
        assert_eq!(secret[name].expose(), "", "{prefix}{name}");
    }
}

#[tokio::test]
async fn bulk_leaves_out_own_variables_and_cuts_the_prefix() {
    let all = store("").all(&Metadata::new()).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["MY_", "MY_KEY", "PLAIN"]);
    let all = store("MY_").all(&Metadata::new()).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["KEY"]);
    assert_eq!(all["KEY"]["KEY"].expose(), "2");
}

#[tokio::test]
async fn it_behaves_as_every_store() {
    let store: SharedSecretStore = std::sync::Arc::new(store(""));
    let secret = Secret::from([("MY_KEY".to_owned(), SecretString::from("2"))]);
    suite::run(
        &store,
        &[("MY_KEY".to_owned(), secret)].into(),
        suite::Absent::Empty,
    )
    .await;
}
