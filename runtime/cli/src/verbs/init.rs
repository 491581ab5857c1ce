//! `outrigger init` and `uninstall`: Dapr's folder, made from this one program (requirement D1; wire.md §18, layout).
//!
//! Nothing is downloaded and no container is started: `run` needs no `init` at all. It is there for scripts that call
//! it, and for tools that look into `~/.dapr`. What was written is noted with its checksum in the folder itself, so
//! that `uninstall` removes that and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};

use super::{
    Surroundings, checksum,
    cluster::{InstallFlags, RemovalFlags},
};
use crate::{
    console::Status,
    output::{self, TextFormat},
    run::resources,
};

/// The note of what was written.
const NOTE: &str = ".outrigger-init.json";

/// The Configuration written: Dapr's name for it. Dapr's own sends traces to a Zipkin that init would have started.
const CONFIG: &str =
    "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: daprConfig\nspec: {}\n";

/// Write Dapr's folder: configuration, components on embedded stores, daprd
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger init\n\n  # Without components\n  outrigger init --slim\n\n  # Somewhere else than in the home folder\n  outrigger init --runtime-path ./sandbox\n\noutrigger run works without it: state and events are durable on SQLite from the first command on."
)]
pub(super) struct InitFlags {
    /// Only the configuration and daprd, no components
    #[arg(short = 's', long)]
    slim: bool,
    /// The runtime's version: latest, or the one this program serves
    #[arg(long, default_value = "latest")]
    runtime_version: String,
    /// Install into Kubernetes
    #[arg(short = 'k', long, hide = true)]
    kubernetes: bool,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
    /// For containers and downloads, of which there are none; accepted for scripts
    #[arg(long, hide = true)]
    container_runtime: Option<String>,
    /// As above
    #[arg(long, hide = true)]
    network: Option<String>,
    /// As above
    #[arg(long, hide = true)]
    image_registry: Option<String>,
    /// As above
    #[arg(long, hide = true)]
    image_variant: Option<String>,
    /// As above
    #[arg(long, hide = true)]
    from_dir: Option<PathBuf>,
    /// As above
    #[arg(long, hide = true)]
    scheduler_volume: Option<String>,
    /// As above
    #[arg(long, hide = true)]
    scheduler_override_broadcast_host_port: Option<String>,
    /// As above
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    redis_stack: bool,
    #[command(flatten)]
    install: InstallFlags,
}

/// Remove what init wrote
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  # daprd only\n  outrigger uninstall\n\n  # Configuration and components too, where they are still as init wrote them\n  outrigger uninstall --all\n\nState and events stay; their folder is named at the end."
)]
pub(super) struct UninstallFlags {
    /// The configuration and components too
    #[arg(long)]
    all: bool,
    /// Uninstall from Kubernetes
    #[arg(short = 'k', long, hide = true)]
    kubernetes: bool,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
    /// For containers, of which there are none; accepted for scripts
    #[arg(long, hide = true)]
    container_runtime: Option<String>,
    /// As above
    #[arg(long, hide = true)]
    network: Option<String>,
    #[command(flatten)]
    removal: RemovalFlags,
}

/// What init wrote: path below the folder to what it holds, a checksum or the target of a link.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    version: u32,
    files: BTreeMap<PathBuf, String>,
}

/// What shall stand at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Text(String),
    Link(PathBuf),
}

impl Wanted {
    /// What the note says of it.
    fn mark(&self) -> String {
        match self {
            Self::Text(text) => checksum::of_bytes(text.as_bytes()),
            Self::Link(target) => format!("-> {}", target.display()),
        }
    }
}

/// What stands at a path, in the note's words; `None` for nothing.
fn mark_of(path: &Path) -> Result<Option<String>> {
    let context = || format!("cannot read {}", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(context),
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::read_link(path).with_context(context)?;
            Ok(Some(format!("-> {}", target.display())))
        }
        Ok(metadata) if metadata.is_dir() => Ok(Some("a folder".to_owned())),
        Ok(_) => Ok(Some(checksum::of_file(path)?)),
    }
}

pub(super) fn init(flags: &InitFlags, around: &Surroundings) -> Result<ExitCode> {
    if flags.kubernetes {
        bail!(
            "init -k is not served by this version: apply your manifests with kubectl or Helm; init without -k prepares this machine"
        );
    }
    let serves = outrigger_sidecar::RUNTIME_VERSION;
    let wanted = flags.runtime_version.trim_start_matches('v');
    if wanted != "latest" && wanted != serves {
        bail!(
            "--runtime-version {wanted}: this program serves {serves} and downloads no other; say latest or {serves}"
        );
    }
    let given = [
        ("--container-runtime", flags.container_runtime.is_some()),
        ("--network", flags.network.is_some()),
        ("--image-registry", flags.image_registry.is_some()),
        ("--image-variant", flags.image_variant.is_some()),
        ("--from-dir", flags.from_dir.is_some()),
        ("--scheduler-volume", flags.scheduler_volume.is_some()),
        (
            "--scheduler-override-broadcast-host-port",
            flags.scheduler_override_broadcast_host_port.is_some(),
        ),
        ("--redis-stack", flags.redis_stack),
    ];
    let mut without_effect: Vec<&str> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(flag, _)| *flag)
        .collect();
    if flags.output == TextFormat::Text && !without_effect.is_empty() {
        let text = format!(
            "{} has no effect: nothing is downloaded, no container is started",
            without_effect.join(", ")
        );
        around.console.say(Status::Warning, &text);
    }
    let for_kubernetes = flags.install.given();
    if flags.output == TextFormat::Text {
        say_for_kubernetes(&for_kubernetes, around);
    }
    without_effect.extend(for_kubernetes);
    let folder = dapr_folder(around)?;
    let data = around.folders.data()?;
    let this = std::env::current_exe()
        .and_then(|program| program.canonicalize())
        .context("cannot tell where this program is")?;
    let mut wanted = BTreeMap::from([
        (PathBuf::from("bin/daprd"), Wanted::Link(this)),
        (PathBuf::from("config.yaml"), Wanted::Text(CONFIG.to_owned())),
    ]);
    if !flags.slim {
        for (name, text) in resources::default_components(&data) {
            wanted.insert(Path::new("components").join(name), Wanted::Text(text));
        }
    }
    let note = read_note(&folder)?.unwrap_or_default();
    // All is looked at before anything is written.
    for (path, wanted) in &wanted {
        let stands = mark_of(&folder.join(path))?;
        let ours = stands.is_none()
            || stands.as_ref() == Some(&wanted.mark())
            || stands.as_ref() == note.files.get(path);
        if !ours {
            bail!(
                "{} is there and is not ours; nothing was written. Move it away, or choose another folder with --runtime-path",
                folder.join(path).display()
            );
        }
    }
    if !flags.slim {
        resources::create(&data.join("secrets.json"), "{}\n")?;
    }
    let mut files = note.files;
    for (path, wanted) in &wanted {
        place(&folder.join(path), wanted)?;
        files.insert(path.clone(), wanted.mark());
    }
    let note = Note { version: 1, files };
    resources::replace(&folder.join(NOTE), &output::json(&note)?)?;
    match flags.output {
        TextFormat::Text => {
            let text = format!(
                "{} is ready: nothing to download, nothing to start",
                folder.display()
            );
            around.console.say(Status::Success, &text);
            around.console.say(
                Status::Info,
                "next: outrigger run --app-id hello -- <your command>, or outrigger doctor",
            );
        }
        TextFormat::Json => {
            let written: Vec<PathBuf> = wanted.keys().map(|path| folder.join(path)).collect();
            let answer = serde_json::json!({ "folder": folder, "files": written, "runtimeVersion": serves, "withoutEffect": without_effect });
            output::print(output::json(&answer)?.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn place(path: &Path, wanted: &Wanted) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    match wanted {
        Wanted::Text(text) => resources::replace(path, text),
        Wanted::Link(target) => {
            // A link of ours that stands there may lead to an older program.
            let _ = fs::remove_file(path);
            symlink(target, path).with_context(context)
        }
    }
}

pub(super) fn uninstall(flags: &UninstallFlags, around: &Surroundings) -> Result<ExitCode> {
    if flags.kubernetes {
        bail!(
            "uninstall -k is not served by this version; without it, what init wrote on this machine is removed"
        );
    }
    for (flag, given) in [
        ("--container-runtime", flags.container_runtime.is_some()),
        ("--network", flags.network.is_some()),
    ] {
        if given && flags.output == TextFormat::Text {
            let text = format!("{flag} has no effect: no container was started");
            around.console.say(Status::Warning, &text);
        }
    }
    if flags.output == TextFormat::Text {
        say_for_kubernetes(&flags.removal.given(), around);
    }
    let folder = dapr_folder(around)?;
    let Some(mut note) = read_note(&folder)? else {
        bail!(
            "{} was not made by outrigger init; nothing was removed",
            folder.display()
        );
    };
    let (mut removed, mut kept) = (Vec::new(), Vec::new());
    for (path, mark) in note.files.clone() {
        if !flags.all && path != Path::new("bin/daprd") {
            continue;
        }
        let whole = folder.join(&path);
        match mark_of(&whole)? {
            Some(stands) if stands == mark => {
                fs::remove_file(&whole).with_context(|| format!("cannot remove {}", whole.display()))?;
                removed.push(whole);
                note.files.remove(&path);
            }
            Some(_) => kept.push(whole),
            None => {
                note.files.remove(&path);
            }
        }
    }
    if note.files.is_empty() || flags.all {
        fs::remove_file(folder.join(NOTE)).context("cannot remove the note of init")?;
    } else {
        resources::replace(&folder.join(NOTE), &output::json(&note)?)?;
    }
    // Only empty folders go.
    for name in ["bin", "components", ""] {
        let _ = fs::remove_dir(folder.join(name));
    }
    match flags.output {
        TextFormat::Text => {
            for path in &kept {
                let text = format!("{} was changed since init wrote it, and stays", path.display());
                around.console.say(Status::Warning, &text);
            }
            let text = format!(
                "{} files of init removed from {}",
                removed.len(),
                folder.display()
            );
            around.console.say(Status::Success, &text);
            let data = around.folders.data_path();
            if data.is_dir() {
                let text = format!("state and events stay in {}", data.display());
                around.console.say(Status::Info, &text);
            }
        }
        TextFormat::Json => {
            let answer = serde_json::json!({ "folder": folder, "removed": removed, "kept": kept });
            output::print(output::json(&answer)?.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As in `dapr`, these do nothing without `-k`; here that is said.
fn say_for_kubernetes(flags: &[&str], around: &Surroundings) {
    if !flags.is_empty() {
        let text = format!("{} has no effect: it is for Kubernetes", flags.join(", "));
        around.console.say(Status::Warning, &text);
    }
}

fn dapr_folder(around: &Surroundings) -> Result<PathBuf> {
    let folder = around.folders.dapr(around.runtime_path.as_deref());
    let folder = folder.context("there is no home folder: name one with --runtime-path")?;
    Ok(around.working_dir.join(folder))
}

fn read_note(folder: &Path) -> Result<Option<Note>> {
    let path = folder.join(NOTE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let note: Note =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged; remove it", path.display()))?;
    if note.version != 1 {
        bail!("{} is of a newer outrigger; use that one", path.display());
    }
    // A note that somebody changed must not lead out of the folder.
    if let Some(path) = note.files.keys().find(|path| !is_below(path)) {
        bail!(
            "the note of init names {}, which is not in its folder; remove the note",
            path.display()
        );
    }
    Ok(Some(note))
}

/// Whether a path stays below the folder it is joined to.
pub(super) fn is_below(path: &Path) -> bool {
    path.components().next().is_some()
        && path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_are_below() {
        for (path, below) in [
            ("a/b", true),
            ("../a", false),
            ("a/../../b", false),
            ("/a", false),
            ("", false),
        ] {
            assert_eq!(is_below(Path::new(path)), below, "{path}");
        }
    }
}
