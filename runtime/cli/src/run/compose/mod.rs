//! A Compose file as a run file: the same pairs of app and sidecar, as processes (requirement D2).
//!
//! A service whose image is a sidecar's and that shares the network of another service is that service's sidecar. The
//! other one is an app; `x-outrigger: {program: [...]}` says what to run instead of its image. All other services are
//! to run already: `--external NAME=HOST:PORT` says where, and takes the place of `NAME:port` in variables and flags.
//! Each pair gets loopback ports of its own, and finds the others by the registry of this machine.

mod externals;
mod service;
mod variables;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use outrigger_resources::yaml::{Content, Node};
use outrigger_types::Environment;

use self::{externals::Externals, service::Service};
use super::{
    fields::Fields,
    run_file::{self, RunFile},
    settings::{App, AppPort, Shared},
};
use crate::folders::Folders;

/// The runner chooses ports and addresses by itself.
const CHOSEN_HERE: [&str; 9] = [
    "app-channel-address",
    "dapr-grpc-port",
    "dapr-http-port",
    "dapr-internal-grpc-listen-address",
    "dapr-internal-grpc-port",
    "dapr-listen-addresses",
    "metrics-listen-address",
    "metrics-port",
    "profile-port",
];

/// Variables that tell an app its ports, which the runner sets.
const TOLD_HERE: [&str; 5] = [
    "APP_PORT",
    "DAPR_GRPC_ENDPOINT",
    "DAPR_GRPC_PORT",
    "DAPR_HTTP_ENDPOINT",
    "DAPR_HTTP_PORT",
];

/// What reading a Compose file needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) environment: &'a Environment,
    pub(super) folders: &'a Folders,
    /// `--external`.
    pub(super) externals: &'a [String],
    /// Programs are looked for beside this one first.
    pub(super) this_program: &'a Path,
}

/// Whether a file is Compose's: it has `services`, and no `apps`.
pub(super) fn is_compose(root: &Node) -> bool {
    root.get("services").is_some() && root.get("apps").is_none()
}

/// Understands a Compose file; `path` is absolute. Checks that what runs elsewhere answers.
pub(super) fn read(mut root: Node, path: &Path, around: Around<'_>) -> Result<RunFile> {
    let mut unset = Vec::new();
    variables::interpolate(&mut root, around.environment, &mut unset)?;
    let mut warnings: Vec<String> = unset
        .iter()
        .map(|name| format!("the variable {name} is not set: it is replaced by nothing"))
        .collect();
    let base = path.parent().unwrap_or(Path::new("/"));
    let file = Fields::of(Some(&root), "a Compose file")?;
    for key in ["networks", "version", "volumes"] {
        let _ = file.node(key);
    }
    let folder = base
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let name = file.text("name")?.unwrap_or_else(|| folder.to_owned());
    let services = services(&file, &mut warnings)?;
    for (line, key) in file.unknown() {
        if !key.starts_with("x-") {
            warnings.push(format!("line {line}: {key:?} of the Compose file is ignored"));
        }
    }
    if base.join(".env").exists() {
        warnings.push(".env is not read: variables come from the environment alone".to_owned());
    }
    let externals = Externals::parse(around.externals)?;
    let strangers = externals.strangers(|name| services.contains_key(name));
    if let Some(stranger) = strangers.first() {
        bail!("--external {stranger}: the Compose file has no such service");
    }
    let mut apps = Vec::new();
    for sidecar in services.values().filter(|service| service.is_sidecar()) {
        let beside = sidecar.beside.as_deref().with_context(|| {
            format!(
                "service {:?} is a sidecar of no app: give it network_mode \"service:APP\"",
                sidecar.name
            )
        })?;
        let app = services.get(beside).with_context(|| {
            format!(
                "service {:?} is beside {beside:?}, which is no service",
                sidecar.name
            )
        })?;
        let pair = pair(app, sidecar, base, &externals, around, &mut warnings);
        apps.push((
            app.line,
            pair.with_context(|| format!("service {:?}", sidecar.name))?,
        ));
    }
    // In the file's order.
    apps.sort_by_key(|(line, _)| *line);
    if let Some(twice) = apps.windows(2).find(|two| two[0].0 == two[1].0) {
        bail!(
            "two sidecars are beside one service: {:?} and {:?}",
            twice[0].1.app_id,
            twice[1].1.app_id
        );
    }
    reachable(&services, &externals)?;
    Ok(RunFile {
        path: path.to_owned(),
        name,
        apps: apps.into_iter().map(|(_, app)| app).collect(),
        warnings,
    })
}

fn services(file: &Fields<'_>, warnings: &mut Vec<String>) -> Result<BTreeMap<String, Service>> {
    let Some(node) = file.node("services") else {
        return Ok(BTreeMap::new());
    };
    let Content::Mapping(mapping) = &node.content else {
        bail!("line {}: services must be a mapping", node.at.line);
    };
    let read = mapping.entries.iter().map(|entry| {
        let service = Service::read(&entry.key, entry.at.line, &entry.value, warnings)
            .with_context(|| format!("service {:?}", entry.key))?;
        Ok((entry.key.clone(), service))
    });
    read.collect()
}

/// Every service that is neither a sidecar nor has one is to answer where it is said to be.
fn reachable(services: &BTreeMap<String, Service>, externals: &Externals) -> Result<()> {
    let paired = |name: &str| {
        services
            .values()
            .any(|service| service.is_sidecar() && service.beside.as_deref() == Some(name))
    };
    let mut missing = Vec::new();
    for service in services.values() {
        if service.is_sidecar() || paired(&service.name) {
            continue;
        }
        let name = &service.name;
        if !service.program.is_empty() {
            bail!(
                "service {name:?} has a program and no sidecar: give it one, with network_mode \"service:{name}\""
            );
        }
        let mut addresses = externals.of(name).peekable();
        if addresses.peek().is_none() {
            missing.push(format!(
                "{name:?} (image {}): start it, and say where it is by --external {name}=HOST:PORT",
                service.image
            ));
        }
        for address in addresses.filter(|address| !externals::answers(address)) {
            missing.push(format!("{name:?}: nothing answers at {address}; start it first"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "services that the runner does not start are missing:\n  {}",
        missing.join("\n  ")
    )
}

/// An app and its sidecar.
fn pair(
    app: &Service,
    sidecar: &Service,
    base: &Path,
    externals: &Externals,
    around: Around<'_>,
    warnings: &mut Vec<String>,
) -> Result<App> {
    let (program, arguments) = app.program.split_first().with_context(|| {
        format!(
            "which program is {:?}? Its image {} is not run; say it by x-outrigger: {{program: [...]}}",
            app.name, app.image
        )
    })?;
    let mut command = vec![program_path(program, base, around.this_program)];
    command.extend(arguments.iter().chain(&app.command).cloned());
    let rewritten = |variables: &BTreeMap<String, String>| {
        let pairs = variables.iter();
        pairs
            .map(|(name, value)| (name.clone(), externals.rewrite(value)))
            .collect::<BTreeMap<_, _>>()
    };
    let mut env = rewritten(&app.environment);
    env.retain(|name, _| !TOLD_HERE.contains(&name.as_str()));
    let mut pair = App {
        command,
        dir: Some(base.to_owned()),
        shared: Shared {
            env,
            sidecar_env: rewritten(&sidecar.environment),
            restart: app.restart.or(sidecar.restart),
            ..Shared::default()
        },
        ..App::default()
    };
    let mut config = None;
    for (flag, value) in flags(&sidecar.command)? {
        let value = externals.rewrite(&value);
        let here = |value: &str| {
            let source = sidecar.mounted(value).with_context(|| {
                format!("--{flag} {value} is in the image: mount a folder or file of this machine there")
            })?;
            run_file::existing(&source, base, around.folders)
        };
        match flag.as_str() {
            "resources-path" | "components-path" => pair.shared.resources_paths.push(here(&value)?),
            "config" if sidecar.config.is_none() => config = Some(here(&value)?),
            "config" => {}
            known if CHOSEN_HERE.contains(&known) => {}
            _ => flag_of_app(&mut pair, &flag, value, sidecar, warnings)?,
        }
    }
    if pair.app_id.is_empty() {
        bail!("its command has no --app-id");
    }
    pair.shared.config = match sidecar.config.as_deref() {
        None => config,
        Some("") => None,
        Some(path) => Some(run_file::existing(path, base, around.folders)?),
    };
    for folder in &pair.shared.resources_paths {
        named_in(folder, externals, warnings);
    }
    Ok(pair)
}

/// Flags that mean the same to a process.
fn flag_of_app(
    pair: &mut App,
    flag: &str,
    value: String,
    sidecar: &Service,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let number = || {
        let number = value.parse::<i64>();
        number.map_err(|_| anyhow!("--{flag} must be a whole number, not {value:?}"))
    };
    let switch = || match value.as_str() {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(anyhow!("--{flag} must be true or false, not {value:?}")),
    };
    let shared = &mut pair.shared;
    match flag {
        // Its own port in each network; on one machine a free one.
        "app-port" => {
            pair.app_port = if number()? > 0 {
                AppPort::Free
            } else {
                AppPort::None
            };
        }
        "app-max-concurrency" => shared.app_max_concurrency = number()?,
        "app-health-probe-interval" => shared.app_health_probe_interval = number()?,
        "app-health-probe-timeout" => shared.app_health_probe_timeout = number()?,
        "app-health-threshold" => shared.app_health_threshold = number()?,
        "app-ssl" => shared.app_ssl = switch()?,
        "enable-api-logging" => shared.enable_api_logging = switch()?,
        "enable-app-health-check" => shared.enable_app_health_check = switch()?,
        "app-id" => pair.app_id = value,
        "app-protocol" => shared.app_protocol = value,
        "app-health-check-path" => shared.app_health_check_path = value,
        "log-level" => shared.log_level = value,
        "max-body-size" => shared.max_body_size = value,
        "read-buffer-size" => shared.read_buffer_size = value,
        "placement-host-address" => shared.placement_host_address = Some(value),
        "scheduler-host-address" => shared.scheduler_host_address = Some(value),
        _ => warnings.push(format!(
            "the flag --{flag} of service {:?} is ignored",
            sidecar.name
        )),
    }
    Ok(())
}

/// Flags with their values; a switch has an empty one. The program's own name may come first, as in Dapr's files.
fn flags(command: &[String]) -> Result<Vec<(String, String)>> {
    let mut words = command.iter().peekable();
    words.next_if(|word| !word.starts_with('-'));
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            bail!("{word:?} in its command is no flag");
        };
        let (flag, value) = match flag.split_once('=') {
            Some((flag, value)) => (flag, value.to_owned()),
            None => (
                flag,
                words
                    .next_if(|next| !next.starts_with('-') || next.parse::<i64>().is_ok())
                    .cloned()
                    .unwrap_or_default(),
            ),
        };
        found.push((flag.to_owned(), value));
    }
    Ok(found)
}

/// A path starts at the file's folder; a name is looked for beside this program, then by the shell.
fn program_path(program: &str, base: &Path, this_program: &Path) -> String {
    if program.contains('/') {
        return base.join(program).display().to_string();
    }
    let here = fs::canonicalize(this_program).unwrap_or_else(|_| PathBuf::from(this_program));
    let beside = here.with_file_name(program);
    if beside.is_file() {
        beside.display().to_string()
    } else {
        program.to_owned()
    }
}

/// Files are not rewritten: one that names a service cannot reach it.
fn named_in(folder: &Path, externals: &Externals, warnings: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<_> = entries.map_while(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let yaml = file
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        let Some(text) = yaml.then(|| fs::read_to_string(&file).ok()).flatten() else {
            continue;
        };
        let comment = |line: &&str| line.trim_start().starts_with('#');
        if let Some(name) = text
            .lines()
            .filter(|line| !comment(line))
            .find_map(|line| externals.names(line))
        {
            let warning = format!(
                "{} names {name}, which processes do not know by that name: take it from a variable, by envRef",
                file.display()
            );
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
}

#[cfg(test)]
mod tests;
