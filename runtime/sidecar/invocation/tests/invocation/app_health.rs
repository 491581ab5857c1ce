//! Calls while the app's health is not known, or bad.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures::FutureExt as _;
use outrigger_sidecar_app_channel::{AppHealth, Protocol};
use tokio::sync::watch;

use crate::{
    Names, Sidecar,
    support::{echo_app, grpc_app, text, watched_channel},
};

#[tokio::test]
async fn a_call_before_the_first_probe_has_ended_waits_for_it() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let app = match protocol {
            Protocol::Grpc => grpc_app().await,
            _ => echo_app().await,
        };
        let (probe, health) = watch::channel(AppHealth::Unknown);
        let channel = watched_channel(app.port, protocol, health);
        let names = Names::default();
        let sidecar = Sidecar::start("callee", &names, None, |mut options| {
            options.app = Arc::new(ArcSwapOption::from_pointee(channel.clone()));
            options
        })
        .await;

        let mut call = Box::pin(sidecar.get("/v1.0/invoke/callee/method/echo"));
        // It has come to wait once somebody beside this test and the channel reads the health.
        while probe.receiver_count() < 2 {
            assert!((&mut call).now_or_never().is_none(), "nothing is decided yet");
            tokio::task::yield_now().await;
        }
        probe.send_replace(AppHealth::Healthy);
        assert!(call.await.status().is_success(), "{protocol}");

        probe.send_replace(AppHealth::Unhealthy {
            reason: String::new(),
        });
        let refused = sidecar.get("/v1.0/invoke/callee/method/echo").await;
        assert_eq!(refused.status(), 500, "{protocol}");
        let body = text(refused).await;
        assert!(body.contains("app is not in a healthy state"), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_first_probe_ends() {
    let (_probe, health) = watch::channel(AppHealth::Unknown);
    let channel = watched_channel(1, Protocol::Http, health);
    assert!(!channel.admits().await);
}
