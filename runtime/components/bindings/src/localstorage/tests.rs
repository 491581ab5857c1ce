use std::{fs, os::unix::fs::symlink, sync::Arc};

use bytes::Bytes;
use outrigger_bindings::{DynOutputBinding, InvokeRequest, suite};
use outrigger_component::{Error, ErrorKind, Host, Metadata, Properties, Spec};
use tempfile::TempDir;

use super::LOCAL_STORAGE;

fn spec(root: &str) -> Spec {
    Spec {
        name: "files".into(),
        type_name: "bindings.localstorage".into(),
        version: "v1".into(),
        properties: Properties::from_pairs([("rootPath", root)]),
    }
}

async fn try_open(base: &TempDir, root: &str) -> Result<Arc<dyn DynOutputBinding>, Error> {
    let binding = (LOCAL_STORAGE.validate)(&spec(root))?
        .run(Host::new("app", base.path()))
        .await?;
    Ok(binding.output.clone().unwrap())
}

async fn open() -> (TempDir, Arc<dyn DynOutputBinding>) {
    let base = tempfile::tempdir().unwrap();
    let storage = try_open(&base, "files/below").await.unwrap();
    (base, storage)
}

async fn invoke(
    storage: &Arc<dyn DynOutputBinding>,
    operation: &str,
    name: &str,
    data: &str,
) -> Result<Option<String>, Error> {
    let metadata = Metadata::from([("fileName".to_owned(), name.to_owned())]);
    let request = InvokeRequest {
        data: Bytes::from(data.to_owned()),
        operation: operation.into(),
        metadata,
    };
    let response = storage.invoke(request).await.map_err(|failed| failed.error)?;
    Ok(response.map(|response| String::from_utf8(response.data.unwrap().to_vec()).unwrap()))
}

#[tokio::test]
async fn files_come_and_go() {
    let (base, storage) = open().await;
    let root = base.path().canonicalize().unwrap().join("files/below");
    assert_eq!(invoke(&storage, "list", "", "").await.unwrap().unwrap(), "null");
    let answer = invoke(&storage, "create", "a/b.txt", "\"hello!\"").await.unwrap();
    assert_eq!(answer.unwrap(), r#"{"fileName":"a/b.txt"}"#);
    invoke(&storage, "create", "c.txt", "aGVsbG8=").await.unwrap();
    assert_eq!(
        invoke(&storage, "get", "a/b.txt", "").await.unwrap().unwrap(),
        "hello!"
    );
    assert_eq!(
        invoke(&storage, "get", "c.txt", "").await.unwrap().unwrap(),
        "hello"
    );
    let listed: Vec<String> =
        serde_json::from_str(&invoke(&storage, "list", "", "").await.unwrap().unwrap()).unwrap();
    assert_eq!(
        listed,
        ["a/b.txt", "c.txt"].map(|name| root.join(name).display().to_string())
    );
    assert_eq!(invoke(&storage, "delete", "a/b.txt", "").await.unwrap(), None);
    let error = invoke(&storage, "get", "a/b.txt", "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.chain(),
        format!("file not found: {}", root.join("a/b.txt").display())
    );
    assert!(invoke(&storage, "delete", "a/b.txt", "").await.is_err());
    let error = invoke(&storage, "list", "c.txt", "").await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("unable to list files as the file specified is not a directory: ")
    );
}

#[tokio::test]
async fn a_file_without_a_name_gets_one() {
    let (_base, storage) = open().await;
    let request = InvokeRequest {
        operation: "create".into(),
        data: Bytes::from_static(b"x"),
        metadata: Metadata::new(),
    };
    let data = storage.invoke(request).await.unwrap().unwrap().data.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&data).unwrap();
    let name = answer["fileName"].as_str().unwrap();
    assert_eq!(name.len(), 36);
    assert_eq!(invoke(&storage, "get", name, "").await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn nothing_leaves_the_folder() {
    let (base, storage) = open().await;
    let root = base.path().join("files/below");
    fs::write(base.path().join("outside"), "secret").unwrap();
    symlink("../../outside", root.join("relative")).unwrap();
    symlink(base.path().join("outside"), root.join("absolute")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    for name in [
        "../../outside",
        "/../../outside",
        "relative",
        "absolute",
        "slash/etc/passwd",
        "loop",
        "../../../../etc/passwd",
    ] {
        assert!(invoke(&storage, "get", name, "").await.is_err(), "{name}");
    }
    for name in ["../escaped", "relative", "slash/made", "a/../../../escaped2"] {
        invoke(&storage, "create", name, "new!").await.unwrap();
        assert_eq!(
            invoke(&storage, "get", name, "").await.unwrap().unwrap(),
            "new!",
            "{name}"
        );
    }
    for inside in ["escaped", "outside", "made", "escaped2"] {
        assert!(root.join(inside).is_file(), "{inside}");
    }
    assert_eq!(fs::read_to_string(base.path().join("outside")).unwrap(), "secret");
    assert!(!base.path().join("escaped").exists() && !base.path().join("files/escaped").exists());
}

#[tokio::test]
async fn some_folders_are_refused() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("file"), "").unwrap();
    symlink("/proc", base.path().join("link")).unwrap();
    for (root, expected) in [
        (
            "",
            "failed to parse metadata: property rootPath must not be empty",
        ),
        (
            "file",
            "failed to parse metadata: property rootPath represents a file and not a directory",
        ),
        (
            "/proc",
            "failed to parse metadata: property rootPath points to a disallowed location",
        ),
        (
            "/sys/kernel/x",
            "failed to parse metadata: property rootPath points to a disallowed location",
        ),
        (
            "link/self",
            "failed to parse metadata: property rootPath points to a disallowed location",
        ),
        (
            "/tmp/../proc/self",
            "failed to parse metadata: property rootPath points to a disallowed location",
        ),
    ] {
        let error = try_open(&base, root).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Configuration, expected),
            "{root}"
        );
    }
}

#[tokio::test]
async fn other_operations_are_unsupported() {
    let (_base, storage) = open().await;
    assert_eq!(storage.operations(), ["create", "get", "list", "delete"]);
    let error = invoke(&storage, "copy", "x", "").await.unwrap_err();
    assert_eq!(error.to_string(), "unsupported operation copy");
}

#[tokio::test]
async fn it_behaves_as_every_output() {
    let (_base, storage) = open().await;
    suite::output(&storage).await;
}
