use std::fs;

use outrigger_types::Environment;

use super::*;
use crate::run::settings::{LogDestination, Restart};

/// A folder with the apps that the files speak of.
struct Place {
    temporary: tempfile::TempDir,
    folders: Folders,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        for folder in [
            "app/resources",
            "webapp/resources",
            "backend/.dapr/resources",
            "plain",
            "home",
        ] {
            fs::create_dir_all(temporary.path().join(folder)).unwrap();
        }
        for file in [
            "app/config.yaml",
            "webapp/config.yaml",
            "backend/.dapr/config.yaml",
        ] {
            fs::write(temporary.path().join(file), "").unwrap();
        }
        let home = temporary.path().join("home").display().to_string();
        let environment = Environment::from_pairs([("HOME".to_owned(), home)]);
        let folders = Folders::of(&environment, rustix::process::getuid().as_raw()).unwrap();
        Self { temporary, folders }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    fn parse(&self, text: &str) -> Result<RunFile> {
        let root = tree(text)?;
        understand(root.as_ref(), &self.path("dapr.yaml"), &self.folders)
    }

    fn error(&self, text: &str) -> String {
        format!("{:#}", self.parse(text).unwrap_err())
    }
}

/// The shape of upstream's own example: common settings, two apps, paths from two bases.
const EXAMPLE: &str = r#"
version: 1
name: shop
common:
  resourcesPath: ./app/resources
  appProtocol: HTTP
  appHealthProbeTimeout: 10
  env:
    DEBUG: false
    tty: sts
apps:
  - appDirPath: ./webapp/
    resourcesPath: ./resources
    configFilePath: ./config.yaml
    appPort: 8080
    appHealthProbeTimeout: 1
    command: ["python3", "app.py"]
  - appID: backend
    appDirPath: ./backend/
    appProtocol: GRPC
    appPort: 3000
    unixDomainSocket: /tmp/test-socket
    env:
      DEBUG: true
    command: ["./backend"]
"#;

#[test]
fn apps_inherit_what_they_leave_unsaid() {
    let place = Place::new();
    let file = place.parse(EXAMPLE).unwrap();
    assert_eq!((file.name.as_str(), file.warnings.len()), ("shop", 0));
    let [webapp, backend] = &file.apps[..] else {
        panic!("{file:?}")
    };
    assert_eq!(webapp.app_id, "webapp", "the folder's name");
    assert_eq!(webapp.dir, Some(place.path("webapp")));
    assert_eq!(webapp.command, ["python3", "app.py"]);
    assert_eq!(webapp.shared.resources_paths, [place.path("webapp/resources")]);
    assert_eq!(webapp.shared.config, Some(place.path("webapp/config.yaml")));
    assert_eq!(webapp.shared.app_protocol, "HTTP");
    assert_eq!(webapp.shared.app_health_probe_timeout, 1);
    assert_eq!(webapp.app_port, AppPort::Fixed(8080));
    assert_eq!(webapp.shared.env["DEBUG"], "false");
    assert_eq!(webapp.shared.restart, None);

    assert_eq!(backend.shared.app_protocol, "GRPC");
    assert_eq!(backend.shared.app_health_probe_timeout, 10);
    assert_eq!(backend.shared.env["DEBUG"], "true");
    assert_eq!(backend.shared.env["tty"], "sts");
    assert_eq!(
        backend.unix_domain_socket,
        Some(PathBuf::from("/tmp/test-socket"))
    );
    assert_eq!(backend.protocol_variable(), Some("grpc"));
}

#[test]
fn the_nearest_resources_and_configuration_win() {
    let place = Place::new();
    let file = place
        .parse(
            "version: 1
common:
  resourcesPath: ./app/resources
  resourcesPaths: [./app/resources]
  configFilePath: ./app/config.yaml
apps:
  - appDirPath: ./webapp/
    resourcesPath: ./resources
    resourcesPaths: [../backend/.dapr/resources]
  - appDirPath: ./backend/
  - appDirPath: ./plain/
",
        )
        .unwrap();
    let resources = |index: usize| file.apps[index].shared.resources_paths.clone();
    assert_eq!(
        resources(0),
        [
            place.path("backend/.dapr/resources"),
            place.path("webapp/resources")
        ]
    );
    assert_eq!(resources(1), [place.path("backend/.dapr/resources")]);
    assert_eq!(
        file.apps[1].shared.config,
        Some(place.path("backend/.dapr/config.yaml"))
    );
    assert_eq!(
        resources(2),
        [place.path("app/resources"), place.path("app/resources")]
    );
    assert_eq!(file.apps[2].shared.config, Some(place.path("app/config.yaml")));
}

#[test]
fn home_is_expanded() {
    let place = Place::new();
    fs::create_dir_all(place.path("home/shop")).unwrap();
    let file = place.parse("version: 1\napps:\n- appDirPath: ~/shop\n").unwrap();
    assert_eq!(file.apps[0].dir, Some(place.path("home/shop")));
}

#[test]
fn extensions_are_read() {
    let place = Place::new();
    let file = place
        .parse(
            "version: 1
common: {restart: always}
apps:
- {appDirPath: plain, appID: a, instances: 3, appPort: 0}
- {appDirPath: plain, appID: b, restart: on-failure, appPort: -1}
- {appDirPath: plain, appID: c, daprdLogDestination: console, appLogDestination: file, commnd: [x]}
",
        )
        .unwrap();
    let [a, b, c] = &file.apps[..] else {
        panic!("{file:?}")
    };
    assert_eq!(
        (a.instances, a.shared.restart, a.app_port),
        (3, Some(Restart::Always), AppPort::Free)
    );
    assert_eq!(
        (b.shared.restart, b.app_port),
        (Some(Restart::OnFailure), AppPort::None)
    );
    assert_eq!(c.shared.daprd_log_destination, Some(LogDestination::Console));
    assert_eq!(c.shared.app_log_destination, Some(LogDestination::File));
    assert_eq!(
        file.warnings,
        [r#"line 6: unknown field "commnd" in app "c" is ignored"#]
    );
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    for (text, message) in [
        (
            "",
            "required field 'version' not found in the provided run template file",
        ),
        ("apps: []", "required field 'version' not found"),
        (
            "version: 1\napps:\n- appID: a",
            "required field 'appDirPath' not found in the provided app config file",
        ),
        (
            "version: 1\napps:\n- appDirPath: ./nowhere",
            "error in getting the file info for",
        ),
        (
            "version: 1\napps:\n- {appDirPath: plain, appPort: abc}",
            "line 3: appPort must be a whole number",
        ),
        (
            "version: 1\napps:\n- {appDirPath: plain, appPort: 70000}",
            "line 3: appPort must be a port",
        ),
        (
            "version: 1\napps:\n- {appDirPath: plain, restart: sometimes}",
            "invalid restart",
        ),
        (
            "version: 1\napps:\n- {appDirPath: plain, instances: 1000}",
            "instances must be between 1 and 100",
        ),
        (
            "version: 1\napps:\n- {appDirPath: plain, appLogDestination: x}",
            "invalid log destination type: x",
        ),
        (
            "version: 1\napps:\n- {appDirPath: plain, containerImagePullPolicy: Invalid}",
            "invalid containerImagePullPolicy: Invalid, allowed values: Always, Never, IfNotPresent",
        ),
        ("version: [1", "error in parsing the provided app config file"),
    ] {
        let error = place.error(text);
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn files_are_located_as_dapr_does() {
    let place = Place::new();
    fs::write(place.path("dapr.yaml"), "").unwrap();
    fs::write(place.path("run.txt"), "").unwrap();
    assert_eq!(locate(place.temporary.path()).unwrap(), place.path("dapr.yaml"));
    assert_eq!(locate(&place.path("dapr.yaml")).unwrap(), place.path("dapr.yaml"));
    assert_eq!(locate(Path::new("-")).unwrap(), Path::new("-"));
    assert!(
        locate(&place.path("run.txt"))
            .unwrap_err()
            .to_string()
            .contains("is not a YAML file")
    );
    assert!(locate(&place.path("plain")).is_err());
}
