//! Components come, change and go.

use std::{os::unix::fs::symlink, time::Duration};

use outrigger_sidecar::Exit;

use crate::support::{PLAIN, Running, component};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_added_changed_and_removed() {
    let running = Running::start(None, &[], PLAIN).await;
    let item = r#"[{"key":"k","value":1}]"#;
    assert_eq!(running.ask("POST", "/v1.0/state/store", item).await.status, 500);

    running.write("store.yaml", &component("store", "state.in-memory", &[]));
    running
        .until("POST", "/v1.0/state/store", item, |answer| answer.status == 204)
        .await;

    // Another prefix is another store: the new one is empty.
    let named = component("store", "state.in-memory", &[("keyPrefix", "name")]);
    running.write("store.yaml", &named);
    running
        .until("GET", "/v1.0/state/store/k", "", |answer| answer.status == 204)
        .await;
    assert_eq!(running.ask("POST", "/v1.0/state/store", item).await.status, 204);

    std::fs::remove_file(running.file("store.yaml")).unwrap();
    running
        .until("GET", "/v1.0/state/store/k", "", |answer| answer.status == 500)
        .await;
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_waits_for_its_secret_store_opens_with_it() {
    let mut waiting = component("store", "state.in-memory", &[]);
    waiting = waiting.replace(
        "  metadata:\n---",
        "  metadata:\n  - name: keyPrefix\n    secretKeyRef:\n      name: prefix\n      key: prefix\nauth:\n  secretStore: secrets\n---",
    );
    let running = Running::start(None, &[("store.yaml", &waiting)], PLAIN).await;
    running.until_metadata("state.in-memory", false).await;
    running.write(
        "secrets.yaml",
        &component("secrets", "secretstores.local.env", &[]),
    );
    running.until_metadata("state.in-memory", true).await;
    assert_eq!(running.stop().await, Exit::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_ends_the_sidecar_unless_it_may_be_ignored() {
    let running = Running::start(None, &[], PLAIN).await;
    let broken = component("store", "state.sqlite", &[("busyTimeout", "soon")]);
    let ignored = broken.replace("  version: v1\n", "  version: v1\n  ignoreErrors: true\n");
    running.write("broken.yaml", &ignored);
    running.write("good.yaml", &component("good", "state.in-memory", &[]));
    running.until_metadata("\"good\"", true).await;
    running.until_metadata("state.sqlite", false).await;

    running.write("broken.yaml", &broken);
    let exit = running.sidecar.wait().await;
    let Exit::Failed(error) = exit else {
        panic!("{exit:?}")
    };
    assert!(
        error.starts_with("process component store error: [INIT_COMPONENT_FAILURE]"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_ends_the_sidecar() {
    let running = Running::start(None, &[], PLAIN).await;
    let twice = component("a", "state.in-memory", &[]) + &component("a", "pubsub.in-memory", &[]);
    running.write("twice.yaml", &twice);
    let exit = running.sidecar.wait().await;
    let Exit::Failed(error) = exit else {
        panic!("{exit:?}")
    };
    assert_eq!(
        error,
        "failed to load resources from disk: duplicate definition of Component name a (pubsub.in-memory/v1) with existing a (state.in-memory/v1)"
    );
}

/// A folder that is a link changes when the link does, which no watch on the folder tells: so does a mounted
/// ConfigMap. Reading the files every `--hot-reload-reconcile-interval` finds it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_watch_cannot_see_is_found_at_the_next_interval() {
    let running = Running::start_with(None, &[], PLAIN, |options| {
        options.hot_reload_reconcile = Duration::from_millis(50);
        let link = options.base_dir.join("linked");
        symlink(options.base_dir.join("resources"), &link).unwrap();
        options.resources_paths = vec![link];
    })
    .await;
    let next = running.folder().join("next");
    std::fs::create_dir(&next).unwrap();
    std::fs::write(
        next.join("store.yaml"),
        component("store", "state.in-memory", &[]),
    )
    .unwrap();
    let draft = running.folder().join("linked.draft");
    symlink(&next, &draft).unwrap();
    std::fs::rename(&draft, running.folder().join("linked")).unwrap();
    running.until_metadata("state.in-memory", true).await;
    assert_eq!(running.stop().await, Exit::Stopped);
}
