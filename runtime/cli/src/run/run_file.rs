//! Run files: many apps in one YAML file (wire.md §18; upstream `pkg/runfileconfig`).

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use outrigger_resources::yaml::{self, Content, Mode, Node};

use super::{
    fields::Fields,
    settings::{App, AppPort, Shared},
};
use crate::folders::Folders;

/// The file's name in a folder.
const DEFAULT_NAME: &str = "dapr.yaml";

/// Largest file read.
const MAX_BYTES: u64 = 4 << 20;

/// Most instances of one app.
const MAX_INSTANCES: i64 = 100;

/// A run file, read and resolved: paths are absolute and exist, common settings are in each app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFile {
    /// The file, absolute: `stop -f` finds a run by it.
    pub(crate) path: PathBuf,
    /// Its `name`.
    pub(crate) name: String,
    /// The apps in the file's order.
    pub(crate) apps: Vec<App>,
    /// What looks like a mistake but is none upstream.
    pub(crate) warnings: Vec<String>,
}

/// Finds the run file: a YAML file, a folder with a `dapr.yaml`, or `-` for standard input.
pub(crate) fn locate(path: &Path) -> Result<PathBuf> {
    if path == Path::new("-") {
        return Ok(path.to_owned());
    }
    let metadata =
        std::fs::metadata(path).with_context(|| format!("error getting file info for {}", path.display()))?;
    if metadata.is_dir() {
        let file = path.join(DEFAULT_NAME);
        if !file.exists() {
            bail!("no {DEFAULT_NAME} in the folder {}", path.display());
        }
        return Ok(file);
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Ok(path.to_owned()),
        _ => bail!("file {:?} is not a YAML file", path.display().to_string()),
    }
}

/// The path that a run is found by.
pub(crate) fn absolute(path: &Path, working_dir: &Path) -> PathBuf {
    clean(&working_dir.join(path))
}

/// Reads a located run file.
pub(crate) fn read(path: &Path, working_dir: &Path, folders: &Folders) -> Result<RunFile> {
    let (text, path) = load(path, working_dir)?;
    let root = tree(&text);
    root.and_then(|root| understand(root.as_ref(), &path, folders))
        .with_context(|| format!("run file {}", path.display()))
}

/// Reads a located run file's text, and tells its absolute path.
pub(super) fn load(path: &Path, working_dir: &Path) -> Result<(String, PathBuf)> {
    let mut text = String::new();
    let context = || format!("error in reading the provided app config file {}", path.display());
    if path == Path::new("-") {
        std::io::stdin()
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .with_context(context)?;
    } else {
        std::fs::File::open(path)
            .with_context(context)?
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .with_context(context)?;
    }
    Ok((text, absolute(path, working_dir)))
}

/// The YAML of a run file, or of what takes its place.
pub(super) fn tree(text: &str) -> Result<Option<Node>> {
    yaml::parse(text, Mode::GoYamlV2).context("error in parsing the provided app config file")
}

/// Understands a run file; `path` is absolute.
pub(super) fn understand(root: Option<&Node>, path: &Path, folders: &Folders) -> Result<RunFile> {
    if root.is_some_and(super::compose::is_compose) {
        bail!("this is a Compose file, which only run and stop understand");
    }
    let file = Fields::of(root, "a run file")?;
    if file.integer("version")? == 0 {
        bail!("required field 'version' not found in the provided run template file");
    }
    let name = file.text("name")?.unwrap_or_default();
    let base = path.parent().unwrap_or(Path::new("/"));
    let mut warnings = Vec::new();

    let common_fields = Fields::of(file.node("common"), "common")?;
    let common = shared(&common_fields, base, folders)?;
    note_unknown(&common_fields, "common", &mut warnings);

    let nodes: &[Node] = match file.node("apps").map(|node| (&node.content, node)) {
        None => &[],
        Some((Content::Sequence(nodes), _)) => nodes,
        Some((_, node)) => bail!("line {}: apps must be a list", node.at.line),
    };
    note_unknown(&file, "the run file", &mut warnings);
    let mut apps = Vec::with_capacity(nodes.len());
    for node in nodes {
        let fields = Fields::of(Some(node), "an app")?;
        let mut app = app(&fields, base, folders)?;
        note_unknown(&fields, &format!("app {:?}", app.app_id), &mut warnings);
        local_files(&mut app);
        app.shared.inherit(&common);
        apps.push(app);
    }
    Ok(RunFile {
        path: path.to_owned(),
        name,
        apps,
        warnings,
    })
}

fn note_unknown(fields: &Fields<'_>, place: &str, warnings: &mut Vec<String>) {
    warnings.extend(
        fields
            .unknown()
            .into_iter()
            .map(|(line, key)| format!("line {line}: unknown field {key:?} in {place} is ignored")),
    );
}

/// The app's own `.dapr` comes before the common section.
fn local_files(app: &mut App) {
    let Some(dir) = &app.dir else { return };
    let resources = dir.join(".dapr/resources");
    if app.shared.resources_paths.is_empty() && resources.exists() {
        app.shared.resources_paths = vec![resources];
    }
    let config = dir.join(".dapr/config.yaml");
    if app.shared.config.is_none() && config.exists() {
        app.shared.config = Some(config);
    }
}

fn app(fields: &Fields<'_>, base: &Path, folders: &Folders) -> Result<App> {
    let dir = fields
        .text("appDirPath")?
        .filter(|path| !path.is_empty())
        .ok_or_else(|| anyhow!("required field 'appDirPath' not found in the provided app config file"))?;
    let dir = existing(&dir, base, folders)?;
    let app_id = match fields.text("appID")?.filter(|id| !id.is_empty()) {
        Some(id) => id,
        None => dir
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned(),
    };
    let policy = fields.text("containerImagePullPolicy")?.unwrap_or_default();
    if !matches!(policy.as_str(), "" | "Always" | "Never" | "IfNotPresent") {
        bail!("invalid containerImagePullPolicy: {policy}, allowed values: Always, Never, IfNotPresent");
    }
    // For Kubernetes only, as upstream; known here so that they are no typing errors.
    for key in ["containerImage", "createService"] {
        let _ = fields.node(key);
    }
    let app_port = match fields.number("appPort")? {
        Some(0) => AppPort::Free,
        _ => fields.port("appPort")?.map_or(AppPort::None, AppPort::Fixed),
    };
    let instances = fields.integer("instances")?;
    if !(0..=MAX_INSTANCES).contains(&instances) {
        bail!("app {app_id:?}: instances must be between 1 and {MAX_INSTANCES}");
    }
    Ok(App {
        shared: shared(fields, &dir, folders)?,
        app_id,
        command: fields.texts("command")?,
        app_channel_address: fields.text("appChannelAddress")?.unwrap_or_default(),
        app_port,
        http_port: fields.port("daprHTTPPort")?,
        grpc_port: fields.port("daprGRPCPort")?,
        internal_grpc_port: fields.port("daprInternalGRPCPort")?,
        metrics_port: fields.port("metricsPort")?,
        profile_port: fields.port("profilePort")?,
        unix_domain_socket: fields
            .text("unixDomainSocket")?
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        instances: u16::try_from(instances).unwrap_or(0),
        dir: Some(dir),
    })
}

fn shared(fields: &Fields<'_>, base: &Path, folders: &Folders) -> Result<Shared> {
    let text = |key| fields.text(key).map(Option::unwrap_or_default);
    let path = |key| {
        let path = fields.text(key)?.filter(|path| !path.is_empty());
        path.map(|path| existing(&path, base, folders)).transpose()
    };
    let config = path("configFilePath")?;
    let single = path("resourcesPath")?;
    let runtime_path = path("runtimePath")?;
    let mut resources_paths = Vec::new();
    for entry in fields
        .texts("resourcesPaths")?
        .iter()
        .filter(|path| !path.is_empty())
    {
        resources_paths.push(existing(entry, base, folders)?);
    }
    resources_paths.extend(single);
    let parsed = |key| text(key).map(|text| if text.is_empty() { None } else { Some(text) });
    Ok(Shared {
        config,
        app_protocol: text("appProtocol")?,
        api_listen_addresses: text("apiListenAddresses")?,
        enable_profiling: fields.switch("enableProfiling")?,
        log_level: text("logLevel")?,
        app_max_concurrency: fields.integer("appMaxConcurrency")?,
        placement_host_address: fields.text("placementHostAddress")?,
        scheduler_host_address: fields.text("schedulerHostAddress")?,
        resources_paths,
        app_ssl: fields.switch("appSSL")?,
        max_body_size: text("maxBodySize")?,
        read_buffer_size: text("readBufferSize")?,
        enable_app_health_check: fields.switch("enableAppHealthCheck")?,
        app_health_check_path: text("appHealthCheckPath")?,
        app_health_probe_interval: fields.integer("appHealthProbeInterval")?,
        app_health_probe_timeout: fields.integer("appHealthProbeTimeout")?,
        app_health_threshold: fields.integer("appHealthThreshold")?,
        enable_api_logging: fields.switch("enableApiLogging")?,
        runtime_path,
        env: fields.pairs("env")?,
        sidecar_env: BTreeMap::new(),
        daprd_log_destination: parsed("daprdLogDestination")?
            .map(|text| text.parse())
            .transpose()
            .map_err(anyhow::Error::msg)?,
        app_log_destination: parsed("appLogDestination")?
            .map(|text| text.parse())
            .transpose()
            .map_err(anyhow::Error::msg)?,
        restart: parsed("restart")?
            .map(|text| text.parse())
            .transpose()
            .map_err(anyhow::Error::msg)?,
    })
}

/// A path of the file, absolute: `~/` is the home folder, relative ones start at `base`; it must exist.
pub(super) fn existing(path: &str, base: &Path, folders: &Folders) -> Result<PathBuf> {
    let path = match path.strip_prefix("~/") {
        Some(rest) => folders
            .home()
            .context("there is no home folder for ~")?
            .join(rest),
        None => clean(&base.join(path)),
    };
    if let Err(error) = std::fs::metadata(&path) {
        bail!("error in getting the file info for {}: {error}", path.display());
    }
    Ok(path)
}

/// The path without `.`, `..` and trailing slashes, by its text alone (Go's `filepath.Clean`).
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(test)]
#[path = "run_file_tests.rs"]
mod tests;
