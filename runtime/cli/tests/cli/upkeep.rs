//! `backup`, `restore`, `init`, `uninstall`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use serde_json::Value;

use crate::{
    support::{Home, PATIENCE, eventually, number},
    verbs::serving,
};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_backup_is_made_while_a_sidecar_writes",
        a_backup_is_made_while_a_sidecar_writes,
    ),
    (
        "a_damaged_backup_is_refused_whole",
        a_damaged_backup_is_refused_whole,
    ),
    (
        "init_writes_daprs_folder_and_uninstall_removes_it",
        init_writes_daprs_folder_and_uninstall_removes_it,
    ),
    (
        "init_overwrites_nothing_of_the_users",
        init_overwrites_nothing_of_the_users,
    ),
];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Writes one item through a sidecar; whether it was acknowledged.
fn put(port: u64, key: &str, value: u64) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())) else {
        return false;
    };
    let body = format!("[{{\"key\":\"{key}\",\"value\":{value}}}]");
    let request = format!(
        "POST /v1.0/state/statestore HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 204")
}

fn a_backup_is_made_while_a_sidecar_writes() {
    let home = Home::new();
    let id = home.id("backed");
    let mut running = serving(&home, &id);
    let port = number(&home.list(&id)[0], "httpPort");
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged = thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                if put(port, &format!("item-{next:06}"), next) {
                    next += 1;
                    written.store(next, Ordering::Relaxed);
                }
            }
        });
        eventually(PATIENCE, &running, "writes", || {
            written.load(Ordering::Relaxed) >= 50
        });
        let before = written.load(Ordering::Relaxed);
        let (status, text) = home.outrigger(&["backup", "-o", "b.tar.gz", "--format", "json"]);
        assert!(status.success(), "{text}");
        let manifest = json(&text)["manifest"].clone();
        let kinds: Vec<&str> = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["kind"].as_str().unwrap())
            .collect();
        assert!(
            kinds.contains(&"database") && kinds.contains(&"resource"),
            "{manifest}"
        );
        // The sidecar went on writing.
        eventually(PATIENCE, &running, "more writes", || {
            written.load(Ordering::Relaxed) > before + 20
        });
        stop.store(true, Ordering::Relaxed);
        before
    });
    let mode = fs::metadata(home.path("b.tar.gz")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Not while the sidecar has the databases open, and not over them without being told to.
    let (status, text) = home.outrigger(&["restore", "b.tar.gz"]);
    assert!(!status.success() && text.contains("--force"), "{text}");
    let (status, text) = home.outrigger(&["restore", "b.tar.gz", "--force"]);
    assert!(!status.success() && text.contains("stop them first"), "{text}");
    assert!(home.outrigger(&["stop", &id]).0.success());
    running.ends();
    let (status, text) = home.outrigger(&["restore", "b.tar.gz", "--dry-run"]);
    assert!(
        status.success() && text.contains("is whole") && text.contains("would replace"),
        "{text}"
    );
    let (status, text) = home.outrigger(&["restore", "b.tar.gz", "--force"]);
    assert!(status.success(), "{text}");

    // All that was acknowledged before the backup is there, without a hole in what came while it ran.
    let (_, keys) = home.outrigger(&["state", "list", "-a", &id]);
    let items: Vec<&str> = keys.lines().filter(|key| key.starts_with("item-")).collect();
    assert!(
        items.len() as u64 >= acknowledged,
        "{} of {acknowledged}",
        items.len()
    );
    for (number, key) in items.iter().enumerate() {
        assert_eq!(*key, format!("item-{number:06}"));
    }
    // The old database stays beside it.
    let kept = fs::read_dir(home.path("data/outrigger")).unwrap().flatten();
    assert!(kept.into_iter().any(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("state.db.before-restore-")
    }));
    // A sidecar takes it.
    let again = serving(&home, &id);
    let (status, text) = home.outrigger(&["state", "get", "-a", &id, "item-000000"]);
    assert!(status.success() && text == "0\n", "{text}");
    drop(again);
}

fn a_damaged_backup_is_refused_whole() {
    let home = Home::new();
    let text = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: s\nspec:\n  type: state.in-memory\n  version: v1\n";
    fs::write(home.path("resources/s.yaml"), text).unwrap();
    let backup = ["backup", "-o", "b.tar.gz", "--resources-path", "resources"];
    let (status, said) = home.outrigger(&backup);
    assert!(status.success(), "{said}");
    let (status, said) = home.outrigger(&backup);
    assert!(!status.success() && said.contains("--force"), "{said}");
    let (status, said) = home.outrigger(&["restore", "b.tar.gz", "--to", "there"]);
    assert!(status.success(), "{said}");
    assert_eq!(
        fs::read_to_string(home.path("there").join("work").join("resources/s.yaml")).unwrap(),
        text
    );
    let (_, said) = home.outrigger(&["restore", "b.tar.gz"]);
    assert!(
        said.contains("0 files restored") && said.contains("1 were as in it"),
        "{said}"
    );

    let mut bytes = fs::read(home.path("b.tar.gz")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(home.path("b.tar.gz"), bytes).unwrap();
    let (status, said) = home.outrigger(&["restore", "b.tar.gz", "--to", "elsewhere"]);
    assert!(!status.success(), "{said}");
    assert!(
        !home.path("elsewhere").exists(),
        "nothing is placed before all is checked"
    );
}

/// All files below a folder with their texts, links with their targets.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if let Ok(target) = fs::read_link(&path) {
            found.insert(name, target.display().to_string());
        } else if path.is_dir() {
            found.extend(
                tree(&path)
                    .into_iter()
                    .map(|(inner, text)| (format!("{name}/{inner}"), text)),
            );
        } else {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn init_writes_daprs_folder_and_uninstall_removes_it() {
    let home = Home::new();
    let (status, text) = home.outrigger(&["init", "--slim", "--container-runtime", "podman"]);
    assert!(
        status.success() && text.contains("--container-runtime has no effect"),
        "{text}"
    );
    let files = tree(&home.path(".dapr"));
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, [".outrigger-init.json", "bin/daprd", "config.yaml"]);
    assert!(files["config.yaml"].contains("name: daprConfig"));
    // Again, and with components now.
    let (status, text) = home.outrigger(&["init"]);
    assert!(status.success(), "{text}");
    let files = tree(&home.path(".dapr"));
    assert!(
        files["components/statestore.yaml"].contains("state.sqlite"),
        "{files:?}"
    );
    assert!(
        files["components/pubsub.yaml"].contains("pubsub.sqlite"),
        "{files:?}"
    );
    let (status, text) = home.outrigger(&["doctor", "--strict"]);
    assert!(status.success(), "{text}");

    let (status, text) = home.outrigger(&["uninstall"]);
    assert!(status.success(), "{text}");
    assert!(!home.path(".dapr/bin").exists() && home.path(".dapr/components/pubsub.yaml").exists());
    let mine = fs::read_to_string(home.path(".dapr/config.yaml")).unwrap() + "# mine\n";
    fs::write(home.path(".dapr/config.yaml"), mine).unwrap();
    let (status, text) = home.outrigger(&["uninstall", "--all"]);
    assert!(
        status.success() && text.contains("was changed since init wrote it"),
        "{text}"
    );
    assert_eq!(
        tree(&home.path(".dapr")).keys().collect::<Vec<_>>(),
        ["config.yaml"]
    );
    let (status, text) = home.outrigger(&["uninstall", "--all"]);
    assert!(
        !status.success() && text.contains("nothing was removed"),
        "{text}"
    );

    let (status, text) = home.outrigger(&["init", "-k"]);
    assert!(!status.success() && text.contains("kubectl"), "{text}");
    let (status, text) = home.outrigger(&["init", "--runtime-version", "1.12.0"]);
    assert!(!status.success() && text.contains("downloads no other"), "{text}");
    let sandbox = home.path("sandbox");
    let (status, text) = home.outrigger(&["init", "--runtime-path", sandbox.to_str().unwrap(), "-o", "json"]);
    assert!(status.success(), "{text}");
    assert_eq!(json(&text)["folder"], sandbox.join(".dapr").to_str().unwrap());
}

fn init_overwrites_nothing_of_the_users() {
    let home = Home::new();
    for (name, make) in [
        (
            "bin/daprd",
            (|path: &Path| fs::write(path, "a real daprd").unwrap()) as fn(&Path),
        ),
        ("bin/daprd", |path| symlink("/opt/dapr/daprd", path).unwrap()),
        ("components/pubsub.yaml", |path| fs::write(path, "mine").unwrap()),
        ("config.yaml", |path| fs::write(path, "mine").unwrap()),
    ] {
        let folder = home.path(".dapr");
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("components")).unwrap();
        make(&folder.join(name));
        let before = tree(&folder);
        let (status, text) = home.outrigger(&["init"]);
        assert!(
            !status.success() && text.contains(name) && text.contains("--runtime-path"),
            "{text}"
        );
        assert_eq!(
            tree(&folder),
            before,
            "nothing is written when something is in the way"
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
