use std::collections::HashSet;

use super::*;
use crate::run::settings::Shared;

struct Place {
    temporary: tempfile::TempDir,
    folders: Folders,
    environment: Environment,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let home = temporary.path().display().to_string();
        let pairs = [
            ("HOME".to_owned(), home.clone()),
            ("XDG_RUNTIME_DIR".to_owned(), home),
        ];
        let environment = Environment::from_pairs(pairs);
        let folders = Folders::of(&environment, rustix::process::getuid().as_raw()).unwrap();
        Self {
            temporary,
            folders,
            environment,
        }
    }

    fn plan(
        &self,
        apps: Vec<App>,
        run_file: Option<(&Path, &str)>,
    ) -> Result<(Vec<InstancePlan>, Vec<Note>)> {
        let setting = Setting {
            folders: &self.folders,
            environment: &self.environment,
            working_dir: self.temporary.path(),
            daprd: None,
            this_program: Path::new("/proc/self/exe"),
            json_logs: false,
            detached: false,
            run_file,
        };
        plan(apps, setting)
    }
}

fn app(id: &str) -> App {
    App {
        app_id: id.to_owned(),
        command: vec!["run-it".to_owned(), "now".to_owned()],
        ..App::default()
    }
}

fn value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == flag)?;
    args.get(at + 1).map(String::as_str)
}

fn variable<'a>(process: &'a ProcessPlan, name: &str) -> Option<&'a str> {
    process
        .env
        .iter()
        .rev()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn an_app_and_its_sidecar_know_the_same_ports() {
    let place = Place::new();
    let (plans, notes) = place.plan(vec![app("orders")], None).unwrap();
    let [plan] = &plans[..] else { panic!("{plans:?}") };
    let args = &plan.sidecar.args;
    let process = plan.app.as_ref().unwrap();
    for (flag, name) in [
        ("--app-id", "APP_ID"),
        ("--dapr-http-port", "DAPR_HTTP_PORT"),
        ("--dapr-grpc-port", "DAPR_GRPC_PORT"),
        ("--metrics-port", "DAPR_METRICS_PORT"),
    ] {
        assert_eq!(value(args, flag), variable(process, name), "{flag}");
    }
    assert_eq!(value(args, "--app-port"), Some("0"));
    assert_eq!(variable(process, "APP_PORT"), None);
    assert_eq!(variable(process, "APP_CHANNEL_ADDRESS"), Some("127.0.0.1"));
    assert_eq!(variable(process, "APP_PROTOCOL"), Some("http"));
    assert_eq!(process.args, ["-c", "exec \"$@\"", "sh", "run-it", "now"]);
    assert_eq!(plan.sidecar.name, "daprd");
    // Only this machine reaches it, nothing asks for control services that nobody named.
    assert_eq!(
        value(args, "--dapr-internal-grpc-listen-address"),
        Some("127.0.0.1")
    );
    assert_eq!(variable(&plan.sidecar, "DAPR_HOST_IP"), Some("127.0.0.1"));
    assert!(variable(&plan.sidecar, "OUTRIGGER_REGISTRY_DIR").is_some());
    assert_eq!(value(args, "--placement-host-address"), None);
    assert_eq!(value(args, "--scheduler-host-address"), None);
    assert!(
        notes.iter().any(|(_, text)| text.contains("built-in components")),
        "{notes:?}"
    );
}

#[test]
fn every_instance_has_ports_of_its_own() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let tasks = App {
        instances: 3,
        app_port: AppPort::Fixed(port),
        ..app("tasks")
    };
    let (plans, _) = place.plan(vec![tasks], None).unwrap();
    let labels: Vec<&str> = plans.iter().map(|plan| plan.label.as_str()).collect();
    assert_eq!(labels, ["tasks-1", "tasks-2", "tasks-3"]);
    assert!(
        plans
            .iter()
            .all(|plan| value(&plan.sidecar.args, "--app-id") == Some("tasks"))
    );
    assert_eq!(plans[0].app_port, Some(port));
    let mut ports = HashSet::new();
    for plan in &plans {
        for flag in [
            "--app-port",
            "--dapr-http-port",
            "--dapr-grpc-port",
            "--dapr-internal-grpc-port",
            "--metrics-port",
        ] {
            assert!(
                ports.insert(value(&plan.sidecar.args, flag).unwrap().to_owned()),
                "{flag} twice"
            );
        }
        let app = plan.app.as_ref().unwrap();
        assert_eq!(variable(app, "APP_PORT"), value(&plan.sidecar.args, "--app-port"));
    }
}

#[test]
fn a_taken_port_is_named() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = place
        .plan(
            vec![App {
                app_port: AppPort::Fixed(port),
                ..app("a")
            }],
            None,
        )
        .unwrap_err();
    assert!(
        format!("{error:#}").contains(&format!("the app port {port} is in use")),
        "{error:#}"
    );
    let error = place
        .plan(
            vec![App {
                http_port: Some(port),
                ..app("a")
            }],
            None,
        )
        .unwrap_err();
    assert!(
        format!("{error:#}").contains(&format!("Port {port} is not available")),
        "{error:#}"
    );
    // An app that runs already, under a debugger for instance.
    let joined = App {
        app_port: AppPort::Fixed(port),
        command: Vec::new(),
        ..app("a")
    };
    assert!(place.plan(vec![joined], None).is_ok());
}

#[test]
fn flags_are_passed_as_dapr_passes_them() {
    let place = Place::new();
    let resources = place.temporary.path().join("r");
    std::fs::create_dir(&resources).unwrap();
    let config = place.temporary.path().join("config.yaml");
    std::fs::write(&config, "spec: {mtls: {enabled: true}}").unwrap();
    let full = App {
        shared: Shared {
            resources_paths: vec![resources.clone()],
            config: Some(config.clone()),
            placement_host_address: Some("here".to_owned()),
            scheduler_host_address: Some(String::new()),
            enable_app_health_check: true,
            app_health_threshold: 2,
            app_ssl: true,
            env: [("DAPR_API_TOKEN", "s3cret"), ("APP_ID", "mine")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..Shared::default()
        },
        app_channel_address: "localhost".to_owned(),
        ..app("a")
    };
    let (plans, _) = place.plan(vec![full], None).unwrap();
    let args = &plans[0].sidecar.args;
    assert_eq!(value(args, "--placement-host-address"), Some("here:50005"));
    assert_eq!(value(args, "--scheduler-host-address"), None);
    assert_eq!(value(args, "--app-channel-address"), Some("localhost"));
    assert_eq!(value(args, "--app-health-threshold"), Some("2"));
    assert_eq!(value(args, "--app-health-probe-interval"), None);
    assert_eq!(value(args, "--sentry-address"), Some("localhost:50001"));
    assert_eq!(value(args, "--resources-path"), resources.to_str());
    assert_eq!(value(args, "--config"), config.to_str());
    for switch in ["--app-ssl", "--enable-app-health-check", "--enable-mtls"] {
        assert!(args.iter().any(|arg| arg == switch), "{switch}");
    }
    assert_eq!(variable(&plans[0].sidecar, "DAPR_API_TOKEN"), Some("s3cret"));
    let app = plans[0].app.as_ref().unwrap();
    assert_eq!(
        variable(app, "APP_ID"),
        Some("mine"),
        "the run file's variables win"
    );
    assert_eq!(variable(app, "APP_PROTOCOL"), Some("https"));
    assert!(!format!("{:?}", plans[0].api).contains("s3cret"));
}

#[test]
fn run_files_make_log_files_with_daprs_names() {
    let place = Place::new();
    let dir = place.temporary.path().join("web");
    std::fs::create_dir(&dir).unwrap();
    let web = App {
        dir: Some(dir.clone()),
        ..app("web")
    };
    let path = place.temporary.path().join("dapr.yaml");
    let (plans, _) = place.plan(vec![web], Some((&path, "shop"))).unwrap();
    let attribute = |key| {
        plans[0]
            .attributes
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value.clone())
            .unwrap()
    };
    assert_eq!(attribute("runTemplatePath"), path.display().to_string());
    assert_eq!(attribute("runTemplateName"), "shop");
    assert_eq!(attribute("appCommand"), "run-it now");
    for (key, kind) in [("appLogPath", "app"), ("daprdLogPath", "daprd")] {
        let file = PathBuf::from(attribute(key));
        assert!(file.is_file() && file.starts_with(dir.join(".dapr/logs")));
        assert!(
            file.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&format!("web_{kind}_2"))
        );
    }
}

#[test]
fn made_up_ids_are_ids() {
    let id = made_up_id();
    assert!(outrigger_types::AppId::parse(&id).is_ok(), "{id}");
}
