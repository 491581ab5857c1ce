use std::net::TcpListener;

use outrigger_types::Environment;

use super::*;
use crate::run::settings::Restart;

/// A folder with what the files mount.
struct Place {
    temporary: tempfile::TempDir,
    folders: Folders,
    environment: Environment,
    /// Answers in place of a server.
    server: TcpListener,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        for folder in ["resources/more", "home"] {
            fs::create_dir_all(temporary.path().join(folder)).unwrap();
        }
        for file in ["config.yaml", "other.yaml", "todo"] {
            fs::write(temporary.path().join(file), "").unwrap();
        }
        let home = temporary.path().join("home").display().to_string();
        let environment = Environment::from_pairs([("HOME".to_owned(), home)]);
        Self {
            folders: Folders::of(&environment, rustix::process::getuid().as_raw()).unwrap(),
            environment,
            server: TcpListener::bind("127.0.0.1:0").unwrap(),
            temporary,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    fn address(&self) -> String {
        self.server.local_addr().unwrap().to_string()
    }

    fn read(&self, text: &str, externals: &[String]) -> Result<RunFile> {
        let root = run_file::tree(text)?.unwrap();
        assert!(is_compose(&root));
        let around = Around {
            environment: &self.environment,
            folders: &self.folders,
            externals,
            this_program: &self.path("outrigger"),
        };
        read(root, &self.path("compose.yaml"), around)
    }

    fn error(&self, text: &str, externals: &[String]) -> String {
        format!("{:#}", self.read(text, externals).unwrap_err())
    }
}

const EXAMPLE: &str = r#"
name: shop
x-app: &app
  restart: unless-stopped
  networks: [shop]
  environment: &variables
    DAPR_API_TOKEN: ${TOKEN:-change-me}
x-sidecar: &sidecar
  image: ${IMAGES:-}outrigger:latest
  environment:
    REDIS: redis:6379
  volumes:
    - ./resources:/resources:ro
    - type: bind
      source: ./config.yaml
      target: /configuration.yaml
services:
  redis:
    image: redis:7
  tasks:
    <<: *app
    image: shop-tasks
    environment:
      <<: *variables
      DAPR_HTTP_PORT: "3500"
      CACHE: redis://redis:6379/1
    x-outrigger: {program: [todo, tasks]}
  tasks-sidecar:
    <<: *sidecar
    network_mode: service:tasks
    command: ["--app-id", "tasks", "--app-port=8000", "--dapr-internal-grpc-port", "50002",
      "--resources-path", "/resources", "--config", "/configuration.yaml", "--enable-api-logging",
      "--scheduler-host-address", "redis:50006"]
  front:
    image: shop-front
    environment: ["A=b", "PASSED_ON"]
    x-outrigger: {program: ./todo --page}
  front-sidecar:
    image: daprio/daprd:1.18.2
    network_mode: "service:front"
    command: ["./daprd", "-app-id", "front", "-components-path", "/c/more"]
    volumes: ["./resources:/c", "cache:/cache"]
networks: {shop: {}}
volumes: {cache: {}}
"#;

#[test]
fn pairs_become_apps_with_their_sidecars() {
    let place = Place::new();
    let address = place.address();
    let file = place.read(EXAMPLE, &[format!("redis={address}")]).unwrap();
    assert!(file.warnings.is_empty(), "{:?}", file.warnings);
    assert_eq!(
        (file.name.as_str(), file.path),
        ("shop", place.path("compose.yaml"))
    );
    let [tasks, front] = file.apps.as_slice() else {
        panic!("{:?}", file.apps)
    };
    assert_eq!((tasks.app_id.as_str(), tasks.app_port), ("tasks", AppPort::Free));
    assert_eq!(tasks.internal_grpc_port, None, "a free one");
    assert_eq!(
        tasks.command,
        [place.path("todo").display().to_string(), "tasks".to_owned()],
        "beside the runner"
    );
    let env = |name: &str| tasks.shared.env.get(name).map(String::as_str);
    assert_eq!(env("DAPR_API_TOKEN"), Some("change-me"));
    assert_eq!(env("DAPR_HTTP_PORT"), None, "the runner tells it");
    assert_eq!(env("CACHE"), Some(format!("redis://{address}/1").as_str()));
    assert_eq!(tasks.shared.sidecar_env["REDIS"], address);
    assert_eq!(tasks.shared.resources_paths, [place.path("resources")]);
    assert_eq!(tasks.shared.config, Some(place.path("config.yaml")));
    assert_eq!(tasks.shared.scheduler_host_address, Some(address));
    assert_eq!(tasks.shared.restart, Some(Restart::Always));
    assert!(tasks.shared.enable_api_logging);

    assert_eq!((front.app_id.as_str(), front.app_port), ("front", AppPort::None));
    let program = place.path("todo").display().to_string();
    assert_eq!(front.command[1], "--page");
    assert!(front.command[0].ends_with("todo") && front.command[0].len() >= program.len());
    assert_eq!(front.shared.env.len(), 1);
    assert_eq!(front.shared.resources_paths, [place.path("resources/more")]);
}

#[test]
fn a_configuration_can_be_another_one_or_none() {
    let place = Place::new();
    let external = [format!("redis={}", place.address())];
    for (value, wanted) in [("''", None), ("./other.yaml", Some(place.path("other.yaml")))] {
        let text = EXAMPLE.replace(
            "x-sidecar: &sidecar",
            &format!("x-sidecar: &sidecar\n  x-outrigger: {{config: {value}}}"),
        );
        let file = place.read(&text, &external).unwrap();
        assert_eq!(file.apps[0].shared.config, wanted);
    }
}

#[test]
fn services_that_run_elsewhere_have_to_be_there() {
    let place = Place::new();
    let missing = place.error(EXAMPLE, &[]);
    assert!(
        missing.contains(
            "\"redis\" (image redis:7): start it, and say where it is by --external redis=HOST:PORT"
        ),
        "{missing}"
    );
    // Nobody listens where somebody did.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = place.error(EXAMPLE, &[format!("redis={gone}")]);
    assert!(
        silent.contains(&format!("nothing answers at {gone}; start it first")),
        "{silent}"
    );
    let stranger = place.error(EXAMPLE, &["kafka=127.0.0.1:9092".to_owned()]);
    assert!(
        stranger.contains("the Compose file has no such service"),
        "{stranger}"
    );
}

#[test]
fn what_is_not_carried_out_is_told() {
    let place = Place::new();
    let text = EXAMPLE
        .replace(
            "  front:\n",
            "  front:\n    healthchek: {}\n    deploy: {replicas: 2}\n",
        )
        .replace("\"-app-id\"", "\"--trust-domain\", \"x\", \"-app-id\"")
        .replace("networks: {shop", "secretz: {}\nnetworks: {shop")
        .replace("image: shop-front", "image: ${NOWHERE}");
    fs::write(
        place.path("resources/store.yaml"),
        "# redis:1\nvalue: redis:6379\n",
    )
    .unwrap();
    let file = place
        .read(&text, &[format!("redis={}", place.address())])
        .unwrap();
    let told = file.warnings.join("\n");
    for wanted in [
        "\"healthchek\" of service \"front\"",
        "\"deploy\" of service \"front\"",
        "--trust-domain of service \"front-sidecar\"",
        "\"secretz\" of the Compose file",
        "the variable NOWHERE is not set",
        "store.yaml names redis",
    ] {
        assert!(told.contains(wanted), "{wanted} in:\n{told}");
    }
    assert_eq!(file.warnings.len(), 6, "{told}");
}

#[test]
fn faults_name_the_service() {
    let place = Place::new();
    let external = [format!("redis={}", place.address())];
    for (from, to, wanted) in [
        (
            "    x-outrigger: {program: [todo, tasks]}\n",
            "",
            "service \"tasks-sidecar\": which program is \"tasks\"?",
        ),
        (
            "network_mode: service:tasks",
            "network_mode: service:task",
            "which is no service",
        ),
        ("    network_mode: service:tasks\n", "", "is a sidecar of no app"),
        (
            "service:tasks",
            "service:front",
            "two sidecars are beside one service",
        ),
        ("--app-id\", \"tasks\", \"", "", "its command has no --app-id"),
        (
            "\"/resources\", \"--config\"",
            "\"/elsewhere\", \"--config\"",
            "/elsewhere is in the image",
        ),
        (
            "--app-port=8000",
            "--app-port=x",
            "--app-port must be a whole number",
        ),
        ("unless-stopped", "sometimes", "invalid restart \"sometimes\""),
        (
            "${TOKEN:-change-me}",
            "${TOKEN:?set it}",
            "the variable TOKEN is missing: set it",
        ),
        ("./todo --page", "'./todo \"a b\"'", "write it as a list"),
        ("source: ./config.yaml", "source: ./none.yaml", "none.yaml"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = place.error(&EXAMPLE.replace(from, to), &external);
        assert!(error.contains(wanted), "{wanted} in: {error}");
    }
}

/// The file that is shipped: six pairs, nothing ignored, no name in a file.
#[test]
fn the_shipped_file_is_understood() {
    let place = Place::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/compose.yaml");
    let root = run_file::tree(&fs::read_to_string(&path).unwrap())
        .unwrap()
        .unwrap();
    let address = place.address();
    let externals = ["redis", "rabbitmq"].map(|name| format!("{name}={address}"));
    let around = Around {
        environment: &place.environment,
        folders: &place.folders,
        externals: &externals,
        this_program: &place.path("outrigger"),
    };
    let file = read(root, &path, around).unwrap();
    assert!(file.warnings.is_empty(), "{:?}", file.warnings);
    let ids: Vec<_> = file.apps.iter().map(|app| app.app_id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "gateway",
            "tasks",
            "notifications",
            "stats",
            "preferences",
            "chat"
        ]
    );
    for app in &file.apps {
        assert_eq!(app.command[1..], *std::slice::from_ref(&app.app_id));
        let told = &app.shared.sidecar_env;
        assert_eq!(told["REDIS_HOST"], address);
        assert_eq!(told["RABBITMQ_URL"], format!("amqp://guest:guest@{address}"));
        assert_eq!(app.shared.config, None);
    }
}
