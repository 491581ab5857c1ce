//! The sidecars that run on this machine, found as `dapr list` finds them: processes named `daprd`, their arguments,
//! their metadata (wire.md §18; upstream `pkg/standalone/list.go`).

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};

use crate::sidecar_api::{Address, LoadedComponent, SidecarApi};

/// Clock ticks per second of the times in `/proc`; Linux fixed it for every architecture it reports to programs.
const TICKS: u64 = 100;

/// Longest wait for one sidecar's metadata.
const METADATA_LIMIT: Duration = Duration::from_secs(2);

/// A sidecar process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sidecar {
    pub(crate) pid: u32,
    pub(crate) app_id: String,
    pub(crate) http_port: u16,
    pub(crate) grpc_port: u16,
    /// Zero for an app that listens on none.
    pub(crate) app_port: u16,
    pub(crate) metrics_enabled: bool,
    /// Bytes.
    pub(crate) max_body_size: i64,
    /// Bytes.
    pub(crate) read_buffer_size: i64,
    pub(crate) created: SystemTime,
    /// Attributes its metadata carries; empty when it does not answer.
    pub(crate) attributes: BTreeMap<String, String>,
    /// The components it has open; `None` when it does not answer.
    pub(crate) components: Option<Vec<LoadedComponent>>,
    /// `--resources-path`, or the deprecated `--components-path`; relative ones start at its working folder.
    pub(crate) resources_paths: Vec<PathBuf>,
    /// `--config`.
    pub(crate) config_paths: Vec<PathBuf>,
    /// Its HTTP API.
    pub(crate) api: SidecarApi,
}

impl Sidecar {
    /// An attribute, empty when there is none.
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// A process id among the attributes; zero when there is none.
    pub(crate) fn process(&self, key: &str) -> u32 {
        self.attribute(key).parse().unwrap_or(0)
    }
}

/// Looks for sidecars, in the order they were started.
pub(crate) async fn list() -> Vec<Sidecar> {
    let boot = boot_time();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut asked = tokio::task::JoinSet::new();
    for mut sidecar in pids.filter_map(|pid| process(pid, boot)) {
        asked.spawn(async move {
            let metadata = tokio::time::timeout(METADATA_LIMIT, sidecar.api.metadata()).await;
            if let Ok(Ok(metadata)) = metadata {
                sidecar.attributes = metadata.extended;
                sidecar.components = Some(metadata.components);
            }
            sidecar
        });
    }
    let mut sidecars = asked.join_all().await;
    sidecars.sort_by_key(|sidecar| (sidecar.created, sidecar.pid));
    sidecars
}

/// Reads one process; `None` when it is no sidecar with an app id.
fn process(pid: u32, boot: SystemTime) -> Option<Sidecar> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let name = std::fs::read_to_string(folder.join("comm")).ok()?;
    if !name.trim_end().eq_ignore_ascii_case("daprd") {
        return None;
    }
    let flags = flags(&std::fs::read(folder.join("cmdline")).ok()?);
    let flag = |name: &str| {
        flags
            .get(name)
            .and_then(|values| values.last())
            .map(String::as_str)
    };
    let number = |name, default| flag(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let app_id = flag("app-id").filter(|id| !id.is_empty())?.to_owned();
    let http_port = number("dapr-http-port", 3500);
    let bytes = |name, default| flag(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    // The token of a sidecar of this user is readable to this user.
    let token = variable(&folder, "DAPR_API_TOKEN");
    let socket = flag("unix-domain-socket").map(Path::new);
    let api = SidecarApi::new(Address::of(http_port, socket, &app_id), token);
    let working_dir = std::fs::read_link(folder.join("cwd")).unwrap_or_default();
    let paths = |names: &[&str]| {
        let values = names
            .iter()
            .find_map(|name| flags.get(*name))
            .into_iter()
            .flatten();
        values
            .flat_map(|value| value.split(','))
            .filter(|path| !path.is_empty())
            .map(|path| working_dir.join(path))
            .collect()
    };
    Some(Sidecar {
        pid,
        http_port,
        grpc_port: number("dapr-grpc-port", 50001),
        app_port: number("app-port", 0),
        metrics_enabled: !matches!(
            flag("enable-metrics"),
            Some("false" | "f" | "F" | "FALSE" | "False" | "0")
        ),
        max_body_size: bytes("max-body-size", 4 << 20),
        read_buffer_size: bytes("read-buffer-size", 4 << 10),
        created: boot + started(&folder)?,
        attributes: BTreeMap::new(),
        components: None,
        resources_paths: paths(&["resources-path", "components-path"]),
        config_paths: paths(&["config"]),
        api,
        app_id,
    })
}

/// The API of an app's sidecar: by its socket folder where that is given, else the running one of that id. Without
/// an id the only one that runs is meant.
///
/// # Errors
/// When there is none, or no way to tell which.
pub(crate) async fn api_of(
    app_id: Option<&str>,
    socket: Option<&Path>,
    token: Option<&str>,
) -> Result<(String, SidecarApi)> {
    if let Some(folder) = socket {
        let Some(app_id) = app_id else {
            bail!("--unix-domain-socket needs the app's id beside it");
        };
        let address = Address::of(0, Some(folder), app_id);
        return Ok((
            app_id.to_owned(),
            SidecarApi::new(address, token.map(str::to_owned)),
        ));
    }
    let mut running = list().await;
    if running.is_empty() {
        bail!("no sidecar runs on this machine; start one with: outrigger run --app-id <id> -- <command>");
    }
    let mut ids: Vec<String> = running.iter().map(|sidecar| sidecar.app_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let wanted = match app_id {
        Some(id) => id.to_owned(),
        None if ids.len() == 1 => ids[0].clone(),
        None => bail!(
            "several sidecars run ({}); say which one with --app-id",
            ids.join(", ")
        ),
    };
    match running.iter().position(|sidecar| sidecar.app_id == wanted) {
        Some(at) => Ok((wanted, running.swap_remove(at).api)),
        None => bail!(
            "app id {wanted} not found; what runs: {} (see outrigger list)",
            ids.join(", ")
        ),
    }
}

/// `--x y`, `--x=y` and bare `--x` of a command line, with one or two dashes.
fn flags(command_line: &[u8]) -> HashMap<String, Vec<String>> {
    let words: Vec<String> = command_line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let mut rest = words.iter().skip(1).peekable();
    while let Some(word) = rest.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = rest.next_if(|next| !next.starts_with("--")).cloned();
                (flag, value.unwrap_or_default())
            }
        };
        found.entry(name.to_owned()).or_default().push(value);
    }
    found
}

fn variable(folder: &Path, name: &str) -> Option<String> {
    let variables = std::fs::read(folder.join("environ")).ok()?;
    variables.split(|byte| *byte == 0).find_map(|pair| {
        let value = std::str::from_utf8(pair)
            .ok()?
            .strip_prefix(name)?
            .strip_prefix('=')?;
        Some(value.to_owned())
    })
}

/// Time from boot to the start of a process.
fn started(folder: &Path) -> Option<Duration> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // Field 22; the name before may hold spaces and brackets.
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * (1000 / TICKS)))
}

fn boot_time() -> SystemTime {
    let seconds = std::fs::read_to_string("/proc/stat").ok().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("btime ")?.parse().ok())
    });
    UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_every_spelling() {
        let line = b"daprd\0--app-id\0a b\0--dapr-http-port=1\0--enable-api-logging\0--app-max-concurrency\0-1\0-app-port\x002\0--log-as-json\0";
        let found = flags(line);
        let get = |name: &str| {
            found
                .get(name)
                .and_then(|values| values.last())
                .map(String::as_str)
        };
        assert_eq!(get("app-id"), Some("a b"));
        assert_eq!(get("dapr-http-port"), Some("1"));
        assert_eq!(get("enable-api-logging"), Some(""));
        assert_eq!(get("app-max-concurrency"), Some("-1"));
        assert_eq!(get("app-port"), Some("2"));
    }

    #[test]
    fn a_process_started_after_boot() {
        assert!(started(Path::new("/proc/self")).unwrap() > Duration::ZERO);
        assert!(boot_time() > UNIX_EPOCH);
    }
}
