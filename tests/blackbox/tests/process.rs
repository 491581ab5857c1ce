//! The process: flags, exit codes, signals.

use rustix::process::Signal;

use crate::support::sidecar::Launch;

#[tokio::test]
async fn an_unknown_flag_ends_with_2() {
    let mut sidecar = Launch::new("app").args(["--no-such-flag"]).spawn();
    assert_eq!(sidecar.ended().await.code(), Some(2), "{}", sidecar.log());
    assert!(sidecar.log().contains("no-such-flag"), "{}", sidecar.log());
}

#[tokio::test]
async fn a_fatal_error_ends_with_1() {
    for arguments in [
        ["--app-protocol", "carrier-pigeon"],
        ["--mode", "nowhere"],
        ["--log-level", "loud"],
    ] {
        let mut sidecar = Launch::new("app").args(arguments).spawn();
        assert_eq!(
            sidecar.ended().await.code(),
            Some(1),
            "{arguments:?}: {}",
            sidecar.log()
        );
    }
    let mut sidecar = Launch::new("").spawn();
    assert_eq!(sidecar.ended().await.code(), Some(1), "{}", sidecar.log());
    assert!(
        sidecar.log().contains("app-id parameter cannot be empty"),
        "{}",
        sidecar.log()
    );
}

#[tokio::test]
async fn a_component_that_cannot_start_ends_with_1_unless_errors_are_ignored() {
    let mut sidecar = Launch::new("app")
        .component("store", "state.no-such", &[])
        .spawn();
    assert_eq!(sidecar.ended().await.code(), Some(1), "{}", sidecar.log());
    let ignored = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: store\nspec:\n  ignoreErrors: true\n  type: state.no-such\n  version: v1\n  metadata: []\n";
    let mut sidecar = Launch::new("app").resource("store.yaml", ignored).start().await;
    sidecar.assert_alive().await;
}

#[tokio::test]
async fn a_taken_port_ends_with_1() {
    let first = Launch::new("first").start().await;
    let mut second = Launch::new("second")
        .args(["--dapr-grpc-port", &first.grpc.to_string()])
        .spawn();
    assert_eq!(second.ended().await.code(), Some(1), "{}", second.log());
}

#[tokio::test]
async fn a_signal_to_end_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut sidecar = Launch::new("app").start().await;
        sidecar.signal(signal);
        assert_eq!(sidecar.ended().await.code(), Some(0), "{}", sidecar.log());
    }
}

#[tokio::test]
async fn the_shutdown_call_ends_with_0() {
    use crate::support::client::post;
    let mut sidecar = Launch::new("app").start().await;
    let answer = post(&sidecar.url("/v1.0/shutdown"), &serde_json::Value::Null)
        .await
        .unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(sidecar.ended().await.code(), Some(0), "{}", sidecar.log());
}
