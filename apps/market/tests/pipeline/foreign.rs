//! The same programs beside sidecars of another maker: a real daprd, alone and in one mesh with ours (D12).
//!
//! `REFERENCE_DAPRD_DIR` names the folder of the daprd; state and events are on Redis, which both have.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outrigger_market::watch::watch;
use outrigger_platform_client::{Options, gateway::GatewayClient};

use super::running::{programs, signal};
use super::{ALONE, until};

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        signal("-TERM", self.0.id());
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Process {
    let started = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
    Process(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

fn ports<const N: usize>() -> [String; N] {
    outrigger_test_ports::free()
        .unwrap()
        .map(|port: u16| port.to_string())
}

/// Whose sidecar a service gets.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Reference,
    Ours,
}

struct Stage {
    programs: PathBuf,
    reference: PathBuf,
    home: tempfile::TempDir,
    processes: Vec<Process>,
}

impl Stage {
    fn find() -> Option<Self> {
        let programs = programs()?;
        let (Some(reference), Ok(redis)) = (
            std::env::var_os("REFERENCE_DAPRD_DIR"),
            std::env::var("OUTRIGGER_TEST_REDIS"),
        ) else {
            println!("skipped: REFERENCE_DAPRD_DIR names no folder of a daprd, or there is no Redis for it");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        // What is in Redis from other runs is not ours.
        let mark = uuid::Uuid::new_v4().simple().to_string();
        for (name, kind, more) in [
            ("statestore", "state.redis", "keyPrefix"),
            ("pubsub", "pubsub.redis", "consumerID"),
        ] {
            let value = if more == "keyPrefix" {
                mark.clone()
            } else {
                "{appID}".to_owned()
            };
            let text = format!(
                "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n  \
                 metadata:\n    - name: redisHost\n      value: {redis}\n    - name: redisPassword\n      value: \"\"\n    \
                 - name: {more}\n      value: \"{value}\"\n"
            );
            std::fs::write(home.path().join(format!("{name}.yaml")), text).unwrap();
        }
        Some(Self {
            programs,
            reference: PathBuf::from(reference),
            home,
            processes: Vec::new(),
        })
    }

    /// Starts a service and its sidecar; ids of apps carry a mark, as others may resolve names on this machine too.
    fn service(&mut self, maker: Maker, app_id: &str, program: &str, grpc: &str, variables: &[(&str, &str)]) {
        let [http, dapr_http, dapr_grpc, internal, metrics] = ports();
        let mut sidecar = match maker {
            Maker::Reference => Command::new(self.reference.join("daprd")),
            Maker::Ours => {
                let mut command = Command::new(self.programs.join("outrigger"));
                command.arg("daprd");
                command
            }
        };
        sidecar
            .args(["--app-id", app_id, "--app-port", grpc, "--app-protocol", "grpc"])
            .args(["--dapr-http-port", &dapr_http, "--dapr-grpc-port", &dapr_grpc])
            .args(["--dapr-internal-grpc-port", &internal, "--metrics-port", &metrics])
            .args(["--log-level", "error", "--resources-path"])
            .arg(self.home.path())
            .env("OUTRIGGER_REGISTRY_DIR", self.home.path().join("registry"))
            .current_dir(self.home.path());
        self.processes.push(start(&mut sidecar));
        let mut service = Command::new(self.programs.join(program));
        service
            .env("HTTP_PORT", http)
            .env("GRPC_PORT", grpc)
            .env("DAPR_HTTP_PORT", dapr_http)
            .env("DAPR_GRPC_PORT", dapr_grpc)
            .env("OTEL_SDK_DISABLED", "true")
            .env("LOG_LEVEL", "warn")
            .envs(variables.iter().copied())
            .current_dir(self.home.path());
        self.processes.push(start(&mut service));
    }

    /// The whole pipeline; answers the gateway's gRPC port.
    fn pipeline(&mut self, gateway_beside: Maker) -> String {
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let [sockets, workers, gateway, web, page, binance, alpaca] = ports();
        let ids = ["websocketmanager", "workmanager"].map(|name| format!("{name}-{mark}"));
        let services = format!(
            "services:\n  - name: websocketmanager\n    daprAppId: {}\n    grpc: {{reflectionEnabled: true}}\n  \
             - name: workmanager\n    daprAppId: {}\n    grpc: {{reflectionEnabled: true}}\n",
            ids[0], ids[1]
        );
        let file = self.home.path().join("services.yml");
        std::fs::write(&file, services).unwrap();
        self.service(Maker::Reference, &ids[0], "websocketmanager", &sockets, &[]);
        self.service(Maker::Reference, &ids[1], "workmanager", &workers, &[]);
        let variables = [
            ("GRPC_WEB_PORT", web.as_str()),
            ("SERVICES_CONFIG_PATH", file.to_str().unwrap()),
        ];
        self.service(
            gateway_beside,
            &format!("gateway-{mark}"),
            "gateway",
            &gateway,
            &variables,
        );
        let market = self.programs.join("market");
        for (shape, port) in [("binance", &binance), ("alpaca", &alpaca)] {
            let exchange = &mut Command::new(&market);
            exchange
                .args(["exchange", "--shape", shape, "--rate", "25", "--port", port])
                .env("OTEL_SDK_DISABLED", "true");
            self.processes.push(start(exchange));
        }
        let keeper = &mut Command::new(&market);
        keeper
            .args(["page", "--port", &page, "--api-grpc-port", &gateway])
            .env("MARKET_BINANCE", format!("ws://127.0.0.1:{binance}"))
            .env("MARKET_ALPACA", format!("ws://127.0.0.1:{alpaca}"))
            .env("OTEL_SDK_DISABLED", "true");
        self.processes.push(start(keeper));
        gateway
    }
}

async fn runs(gateway_beside: Maker) {
    let _alone = ALONE.lock().await;
    let Some(mut stage) = Stage::find() else { return };
    assert!(
        Path::new(&stage.reference).join("daprd").exists(),
        "there is no daprd in {}",
        stage.reference.display()
    );
    let port = stage.pipeline(gateway_beside).parse().unwrap();
    let client = GatewayClient::new(&Options::local(port)).unwrap();
    until("results come", async || {
        let report = watch(&client, Duration::from_secs(1), |_| {}).await;
        (report.ticks > 20).then_some(())
    })
    .await;
    let report = watch(&client, Duration::from_secs(5), |_| {}).await;
    println!("{report:?}");
    assert!(report.ticks > 100, "{report:?}");
    assert_eq!(report.missing, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_programs_run_beside_a_real_daprd() {
    runs(Maker::Reference).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_beside_ours_reaches_services_beside_a_real_daprd() {
    runs(Maker::Ours).await;
}
