//! A real gateway beside a real sidecar, for the tests that ask one (A11 to A14).

use std::{fs, process::Command, time::Duration};

use anyhow::Context;

use crate::{
    bench::{
        guard::{Guard, Program},
        http::succeeds,
    },
    process::until,
    repo,
};

/// In-memory components: the tests leave nothing behind.
const COMPONENTS: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: pubsub
spec:
  type: pubsub.in-memory
  version: v1
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: statestore
spec:
  type: state.in-memory
  version: v1
";

/// Both programs, until it is dropped.
pub(super) struct Gateway {
    _gateway: Program,
    _sidecar: Program,
    /// What the tests read.
    pub(super) variables: [(&'static str, String); 2],
}

impl Gateway {
    /// Builds and starts both, and waits until the gateway is ready. Its one backend is itself.
    pub(super) fn start(guard: &Guard) -> anyhow::Result<Self> {
        let programs = repo::build("dev", &["outrigger", "outrigger-platform-gateway"])?;
        let folder = repo::target().join("sdks");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder.join("resources"))?;
        fs::write(folder.join("resources/components.yaml"), COMPONENTS)?;
        let [http, grpc, web, sidecar_http, sidecar_grpc] = outrigger_test_ports::free::<5>()?;
        let services = folder.join("services.json");
        let backend =
            format!(r#"{{"services":[{{"name":"gateway","grpc":{{"host":"127.0.0.1","port":{grpc}}}}}]}}"#);
        fs::write(&services, backend)?;
        let mut command = Command::new(programs.join("outrigger"));
        command
            .args(["daprd", "--app-id", "gateway", "--app-protocol", "grpc"])
            .args(["--app-port", &grpc.to_string()])
            .args(["--dapr-http-port", &sidecar_http.to_string()])
            .args(["--dapr-grpc-port", &sidecar_grpc.to_string()])
            .args(["--dapr-listen-addresses", "127.0.0.1", "--enable-metrics=false"])
            .arg("--resources-path")
            .arg(folder.join("resources"));
        let sidecar = Program::start(guard, "sidecar", &mut command, &folder.join("sidecar.log"))?;
        let mut command = Command::new(programs.join("gateway"));
        command
            .arg("--services")
            .arg(&services)
            .args(["--address", "127.0.0.1"])
            .args(["--http-port", &http.to_string()])
            .args(["--grpc-port", &grpc.to_string()])
            .args(["--grpc-web-port", &web.to_string()])
            .env("DAPR_HTTP_PORT", sidecar_http.to_string())
            .env("DAPR_GRPC_PORT", sidecar_grpc.to_string());
        let mut gateway = Program::start(guard, "gateway", &mut command, &folder.join("gateway.log"))?;
        until("the gateway is ready", Duration::from_secs(30), || {
            gateway.ensure_running()?;
            Ok(succeeds(http, "/health/ready"))
        })
        .with_context(|| format!("see {}", folder.display()))?;
        Ok(Self {
            _gateway: gateway,
            _sidecar: sidecar,
            variables: [
                ("VIRTUFIN_TEST_GATEWAY", format!("127.0.0.1:{grpc}")),
                ("VIRTUFIN_TEST_GATEWAY_WEB", format!("127.0.0.1:{web}")),
            ],
        })
    }
}
