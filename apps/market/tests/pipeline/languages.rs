//! The same prices in three languages, through one gateway (P1).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use outrigger_market::watch::watch;
use outrigger_platform_client::{Options, gateway::GatewayClient};

use super::running::{Pipeline, programs};
use super::{ALONE, until};

/// Ticks that each client waits for.
const COUNT: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_three_languages_read_the_same_prices() {
    let _alone = ALONE.lock().await;
    let Some(programs) = programs() else { return };
    let pipeline = Pipeline::start(&programs, 20);
    let port = pipeline.port("5002");
    let rust = GatewayClient::new(&Options::local(port)).unwrap();
    until("the Rust client has ticks", async || {
        let report = watch(&rust, Duration::from_secs(1), |_| {}).await;
        (report.ticks > 10).then_some(())
    })
    .await;

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let clients = root.join("apps/market/clients");
    let python = root.join("target/venv-sdks/bin/python");
    if python.exists() {
        reads(
            Command::new(python)
                .arg(clients.join("prices.py"))
                .env("PYTHONPATH", packages(&root))
                .env("VIRTUFIN_API_GRPC_PORT", port.to_string()),
        )
        .await;
    } else {
        println!("skipped: no Python packages; cargo xtask sdks --test installs them");
    }
    let typescript = root.join("sdks/typescript");
    if typescript.join("virtufin-gateway/dist/index.js").exists() {
        reads(
            Command::new("node")
                .arg(clients.join("prices.mjs"))
                .current_dir(typescript)
                .env(
                    "VIRTUFIN_API_GRPC_WEB",
                    format!("http://localhost:{}", pipeline.port("5003")),
                ),
        )
        .await;
    } else {
        println!("skipped: no TypeScript packages; cargo xtask sdks --test builds them");
    }
    pipeline.stop().await;
}

/// The folders of the Python packages, as a search path.
fn packages(root: &Path) -> std::ffi::OsString {
    let folders = std::fs::read_dir(root.join("sdks/python")).unwrap();
    let sources = folders.map(|folder| folder.unwrap().path().join("src"));
    std::env::join_paths(sources.filter(|source| source.is_dir())).unwrap()
}

/// Runs a client until it has read enough; prices of both exchanges are among what it prints.
async fn reads(client: &mut Command) {
    let child = client
        .arg(COUNT.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let pid = child.id();
    let reading = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let Ok(output) = tokio::time::timeout(Duration::from_secs(60), reading).await else {
        super::running::signal("-KILL", pid);
        panic!("{client:?} does not end");
    };
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{client:?}: {}\n{text}", output.status);
    assert!(text.lines().count() >= COUNT, "{text}");
    for name in ["BTCUSDT", "AAPL"] {
        assert!(text.contains(name), "no {name} in:\n{text}");
    }
}
