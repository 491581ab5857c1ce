use std::{fs, path::PathBuf};

use outrigger_component::{ErrorKind, Host, Metadata, Properties, SecretString, Spec};
use outrigger_secrets::{DynSecretStore, Secret, suite};
use tempfile::TempDir;

use super::FILE;

const DOCUMENT: &str = r#"{
    "redisPassword": "p",
    "port": 6379,
    "on": true,
    "nothing": null,
    "db": {"user": "u", "hosts": ["a", "b"]}
}"#;

async fn open(
    document: &str,
    extra: &[(&str, &str)],
) -> (TempDir, PathBuf, std::sync::Arc<dyn DynSecretStore>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.json");
    fs::write(&path, document).unwrap();
    let mut properties = Properties::from_pairs([("secretsFile", "secrets.json")]);
    for (name, value) in extra {
        properties.insert(*name, *value);
    }
    let store = (FILE.validate)(&spec(properties))
        .unwrap()
        .run(Host::new("app", folder.path()))
        .await
        .unwrap();
    (folder, path, store)
}

fn spec(properties: Properties) -> Spec {
    Spec {
        name: "s".into(),
        type_name: "secretstores.local.file".into(),
        version: "v1".into(),
        properties,
    }
}

fn plain(secret: &Secret) -> Vec<(&str, &str)> {
    secret
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose()))
        .collect()
}

#[tokio::test]
async fn leaves_are_secrets_named_by_their_path() {
    let (_folder, _, store) = open(DOCUMENT, &[]).await;
    let metadata = Metadata::new();
    for (name, value) in [
        ("redisPassword", "p"),
        ("port", "6379"),
        ("on", "true"),
        ("nothing", ""),
        ("db:user", "u"),
        ("db:hosts:1", "b"),
    ] {
        let secret = store.get(name, &metadata).await.unwrap();
        assert_eq!(plain(&secret), [(name, value)]);
    }
    assert!(!store.multi_valued());
    assert_eq!(store.all(&metadata).await.unwrap().len(), 7);
    let error = store.get("db", &metadata).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "secret db not found")
    );
}

#[tokio::test]
async fn the_separator_can_be_chosen() {
    let (_folder, _, store) = open(DOCUMENT, &[("nestedSeparator", ".")]).await;
    assert_eq!(
        plain(&store.get("db.user", &Metadata::new()).await.unwrap()),
        [("db.user", "u")]
    );
}

#[tokio::test]
async fn multi_valued_keeps_top_level_objects_together() {
    let (_folder, _, store) = open(DOCUMENT, &[("multiValued", "true")]).await;
    assert!(store.multi_valued());
    let all = store.all(&Metadata::new()).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["db", "redisPassword"]);
    assert_eq!(
        plain(&all["db"]),
        [("hosts:0", "a"), ("hosts:1", "b"), ("user", "u")]
    );
    assert_eq!(plain(&all["redisPassword"]), [("redisPassword", "p")]);
}

#[tokio::test]
async fn a_rotated_file_is_seen_and_a_broken_one_is_not() {
    let (_folder, path, store) = open(r#"{"a": "1"}"#, &[]).await;
    let metadata = Metadata::new();
    fs::write(&path, r#"{"a": "2"}"#).unwrap();
    assert_eq!(plain(&store.get("a", &metadata).await.unwrap()), [("a", "2")]);
    fs::write(&path, r#"{"a": "#).unwrap();
    assert_eq!(plain(&store.get("a", &metadata).await.unwrap()), [("a", "2")]);
}

#[tokio::test]
async fn a_missing_or_foreign_file_is_a_configuration_error_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.json"), "[\"hunter2\"]").unwrap();
    for file in ["absent.json", "bad.json"] {
        let open = (FILE.validate)(&spec(Properties::from_pairs([("secretsFile", file)]))).unwrap();
        let error = open.run(Host::new("app", folder.path())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(!error.chain().contains("hunter2"));
    }
    let error = (FILE.validate)(&spec(Properties::default())).unwrap_err();
    assert_eq!(error.to_string(), "missing local secrets file in metadata");
}

#[tokio::test]
async fn it_behaves_as_every_store() {
    for (extra, name, key) in [
        ([].as_slice(), "db:user", "db:user"),
        (&[("multiValued", "true")], "db", "user"),
    ] {
        let (_folder, _, store) = open(r#"{"db": {"user": "hunter2"}}"#, extra).await;
        let secret = Secret::from([(key.to_owned(), SecretString::from("hunter2"))]);
        suite::run(
            &store,
            &[(name.to_owned(), secret)].into(),
            suite::Absent::NotFound,
        )
        .await;
    }
}
