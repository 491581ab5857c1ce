//! The machine: folders, ports, what killed programs left, an installed Dapr.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, FlockOperation, access, flock, statvfs};

use super::finding::Finding;
use crate::{
    folders::Folders,
    ports::is_free,
    run::{
        run_file::RunFile,
        settings::{App, AppPort},
    },
    sidecars::Sidecar,
};

/// Less room than this on the disk of data is worth a word.
const LITTLE_ROOM: u64 = 256 << 20;

/// Longest path of a Unix domain socket on Linux, without its end.
const MAX_SOCKET_PATH: usize = 107;

/// Folders of this user: owned, private, writable, with room.
pub(super) fn folders(folders: &Folders) -> Vec<Finding> {
    const CHECK: &str = "folders";
    let mut findings = Vec::new();
    for (what, path) in [("data", folders.data_path()), ("runtime", folders.runtime_path())] {
        // The nearest that exists is where the rest would be made.
        let existing = path.ancestors().find(|path| path.exists()).unwrap_or(path);
        if access(existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            findings.push(
                Finding::error(
                    CHECK,
                    format!("the {what} folder {} cannot be written", path.display()),
                )
                .cure(format!("make {} writable for this user", existing.display()))
                .in_file(path, 0),
            );
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(path) else {
            continue;
        };
        if metadata.uid() != folders.user() {
            findings.push(
                Finding::error(
                    CHECK,
                    format!("the {what} folder {} belongs to another user", path.display()),
                )
                .cure(format!("remove it, or: chown -R $USER {}", path.display()))
                .in_file(path, 0),
            );
        } else if metadata.permissions().mode() & 0o077 != 0 {
            findings.push(
                Finding::warning(
                    CHECK,
                    format!("other users can enter the {what} folder {}", path.display()),
                )
                .cure(format!("chmod 700 {}", path.display()))
                .in_file(path, 0),
            );
        }
    }
    let data = folders.data_path();
    let existing = data
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if let Ok(disk) = statvfs(existing) {
        let room = disk.f_bavail.saturating_mul(disk.f_frsize);
        if room < LITTLE_ROOM {
            let text = format!("{} MiB are free on the disk of {}", room >> 20, data.display());
            findings.push(
                Finding::warning(CHECK, text)
                    .cure("make room: writes of state and events fail on a full disk")
                    .in_file(data, 0),
            );
        }
    }
    findings
}

/// Entries and sockets of programs that were killed.
pub(super) fn leftovers(folders: &Folders) -> Vec<Finding> {
    const CHECK: &str = "leftovers";
    let mut findings = Vec::new();
    let runtime = folders.runtime_path();
    for path in files(&runtime.join("registry")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        // A running sidecar holds the lock of its entry.
        let stale =
            File::open(&path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_ok());
        if stale {
            findings.push(
                Finding::info(
                    CHECK,
                    format!("the registry entry {name} is of a sidecar that was killed"),
                )
                .cure("nothing to do: it is passed over, and removed when a sidecar of that name starts")
                .in_file(&path, 0),
            );
        }
    }
    for path in files(&runtime.join("runs")) {
        let dead = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(&path)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        if dead {
            findings.push(
                Finding::info(CHECK, "the socket of a run that was killed is still there")
                    .cure("nothing to do: outrigger stop removes it")
                    .in_file(&path, 0),
            );
        }
    }
    findings
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Ports of a run file that are taken or given twice, and Dapr's own default ports.
pub(super) fn ports(run: Option<&RunFile>, sidecars: &[Sidecar]) -> Vec<Finding> {
    const CHECK: &str = "ports";
    let mut findings = Vec::new();
    let mut wanted: BTreeMap<u16, String> = BTreeMap::new();
    for (run, app) in run
        .iter()
        .flat_map(|run| run.apps.iter().map(move |app| (run, app)))
    {
        let running = sidecars.iter().any(|sidecar| {
            sidecar.app_id == app.app_id && Path::new(sidecar.attribute("runTemplatePath")) == run.path
        });
        for (field, port) in fixed_ports(app) {
            let place = format!("{field} of {}", app.app_id);
            if app.instances > 1 {
                let text = format!("{place} is {port} for all {} instances", app.instances);
                findings.push(
                    Finding::error(CHECK, text)
                        .cure(format!("leave {field} out; each instance gets a free one"))
                        .in_file(&run.path, 0),
                );
            }
            match wanted.get(&port) {
                Some(other) => findings.push(
                    Finding::error(CHECK, format!("{place} is {port}, which {other} has already"))
                        .cure(format!("choose another one, or leave {field} out for a free one"))
                        .in_file(&run.path, 0),
                ),
                None if !running && !is_free(port) => findings.push(
                    Finding::error(
                        CHECK,
                        format!("{place} is {port}, which {} has taken", holder(port)),
                    )
                    .cure("end that program, or choose another port")
                    .in_file(&run.path, 0),
                ),
                None => {}
            }
            wanted.insert(port, place);
        }
    }
    for (port, whose) in [
        (3500, "daprd --dapr-http-port"),
        (50001, "daprd --dapr-grpc-port"),
        (9090, "daprd --metrics-port"),
    ] {
        if !is_free(port) {
            findings.push(
                Finding::info(
                    CHECK,
                    format!("{port}, the default of {whose}, is taken by {}", holder(port)),
                )
                .cure("outrigger run chooses free ports; a daprd started by hand needs the flag"),
            );
        }
    }
    findings
}

fn fixed_ports(app: &App) -> Vec<(&'static str, u16)> {
    let app_port = match app.app_port {
        AppPort::Fixed(port) => Some(port),
        _ => None,
    };
    [
        ("appPort", app_port),
        ("daprHTTPPort", app.http_port),
        ("daprGRPCPort", app.grpc_port),
        ("daprInternalGRPCPort", app.internal_grpc_port),
        ("metricsPort", app.metrics_port),
        ("profilePort", app.profile_port),
    ]
    .into_iter()
    .filter_map(|(field, port)| Some((field, port?)))
    .collect()
}

/// The program that listens on a port, as far as this user may see.
fn holder(port: u16) -> String {
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Local address, then state 0A: listening; the inode is the tenth.
            let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice() else {
                continue;
            };
            let listens = local
                .rsplit_once(':')
                .and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
            if listens == Some(port) {
                inodes.insert(format!("socket:[{inode}]"));
            }
        }
    }
    for process in files(Path::new("/proc")) {
        let Some(pid) = process
            .file_name()
            .and_then(|name| name.to_str()?.parse::<u32>().ok())
        else {
            continue;
        };
        let holds = files(&process.join("fd"))
            .iter()
            .any(|link| fs::read_link(link).is_ok_and(|target| inodes.contains(&*target.to_string_lossy())));
        if holds {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            return format!("{} (process {pid})", name.trim_end());
        }
    }
    "another program".to_owned()
}

/// Commands and sockets of a run file.
pub(super) fn commands(run: &RunFile, search_path: &str) -> Vec<Finding> {
    const CHECK: &str = "run-file";
    let mut findings: Vec<Finding> = run
        .warnings
        .iter()
        .map(|text| {
            let line = text
                .strip_prefix("line ")
                .and_then(|rest| rest.split_once(':')?.0.parse().ok())
                .unwrap_or(0);
            Finding::warning(CHECK, text.clone())
                .cure("correct its name, or remove it")
                .in_file(&run.path, line)
        })
        .collect();
    let mut seen: HashMap<&str, ()> = HashMap::new();
    for app in &run.apps {
        if seen.insert(&app.app_id, ()).is_some() {
            findings.push(
                Finding::warning(
                    CHECK,
                    format!("the app id {:?} is given to several apps", app.app_id),
                )
                .cure("use instances: to run one app many times")
                .in_file(&run.path, 0),
            );
        }
        let dir = app.dir.as_deref().unwrap_or(Path::new("."));
        if let Some(program) = app.command.first()
            && !is_program(program, dir, search_path)
        {
            findings.push(
                Finding::error(CHECK, format!("{}: there is no program {program:?}", app.app_id))
                    .cure("install it, or correct the command")
                    .in_file(&run.path, 0),
            );
        }
        if let Some(folder) = &app.unix_domain_socket {
            let socket = crate::sidecar_api::socket_path(&dir.join(folder), &app.app_id, "http");
            if socket.as_os_str().len() > MAX_SOCKET_PATH {
                let text = format!(
                    "{}: the path of its socket is too long: {}",
                    app.app_id,
                    socket.display()
                );
                findings.push(
                    Finding::error(CHECK, text)
                        .cure("choose a shorter folder, such as one below /tmp")
                        .in_file(&run.path, 0),
                );
            }
        }
    }
    findings
}

fn is_program(program: &str, dir: &Path, search_path: &str) -> bool {
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return runs(&dir.join(program));
    }
    std::env::split_paths(search_path).any(|folder| runs(&folder.join(program)))
}

/// An installed Dapr beside us.
pub(super) fn installed(dapr: Option<&Path>, search_path: &str) -> Vec<Finding> {
    const CHECK: &str = "installed-dapr";
    let mut findings = Vec::new();
    let ours = |path: &Path| {
        let this = std::env::current_exe().and_then(|this| this.canonicalize());
        matches!((this, path.canonicalize()), (Ok(this), Ok(other)) if this == other)
    };
    if let Some(dapr) = dapr {
        let daprd = dapr.join("bin/daprd");
        if fs::symlink_metadata(&daprd).is_ok() && !daprd.exists() {
            findings.push(
                Finding::error(CHECK, format!("{} leads nowhere", daprd.display()))
                    .cure("outrigger uninstall, then outrigger init")
                    .in_file(&daprd, 0),
            );
        } else if daprd.exists() && !ours(&daprd) {
            findings.push(
                Finding::info(
                    CHECK,
                    format!("another daprd is installed at {}", daprd.display()),
                )
                .cure("outrigger run starts its own sidecar; the dapr program starts that one")
                .in_file(&daprd, 0),
            );
        }
    }
    for name in ["dapr", "daprd"] {
        let found = std::env::split_paths(search_path)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        if let Some(path) = found.filter(|path| !ours(path)) {
            findings.push(
                Finding::info(
                    CHECK,
                    format!("{name} on the search path is another program: {}", path.display()),
                )
                .cure("call outrigger by its own name, or put a link to it first in PATH")
                .in_file(&path, 0),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let named = holder(listener.local_addr().unwrap().port());
        assert!(
            named.ends_with(&format!("(process {})", std::process::id())),
            "{named}"
        );
        assert_eq!(holder(1), "another program");
    }

    #[test]
    fn programs_are_looked_for_as_a_shell_does() {
        assert!(is_program("sh", Path::new("/"), "/nowhere:/bin"));
        assert!(is_program("bin/sh", Path::new("/"), ""));
        assert!(!is_program("sh", Path::new("/"), "/nowhere"));
        assert!(!is_program("./sh", Path::new("/etc"), "/bin"));
    }
}
