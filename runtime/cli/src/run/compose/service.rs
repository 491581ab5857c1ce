//! One service of a Compose file, as far as processes need it.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, bail};
use outrigger_resources::yaml::{Content, Node};

use crate::run::{fields::Fields, settings::Restart};

/// Keys that say something of containers, networks and images, which processes do without.
const CONTAINERS_ONLY: [&str; 17] = [
    "cap_add",
    "cap_drop",
    "container_name",
    "depends_on",
    "expose",
    "hostname",
    "init",
    "labels",
    "networks",
    "platform",
    "ports",
    "pull_policy",
    "read_only",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "user",
];

/// Images whose containers are sidecars: ours, and Dapr's.
const SIDECAR_IMAGES: [&str; 2] = ["outrigger", "daprd"];

/// What a process needs to know of a service.
pub(super) struct Service {
    pub(super) name: String,
    /// Where the file names it.
    pub(super) line: usize,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) mounts: Vec<Mount>,
    /// The service whose network it shares.
    pub(super) beside: Option<String>,
    pub(super) restart: Option<Restart>,
    /// `x-outrigger.program`: what to run instead of the image.
    pub(super) program: Vec<String>,
    /// `x-outrigger.config`: the sidecar's Configuration instead of the one of its command; empty for none.
    pub(super) config: Option<String>,
}

/// A path of this machine that containers see.
pub(super) struct Mount {
    pub(super) source: String,
    pub(super) target: PathBuf,
}

impl Service {
    pub(super) fn read(name: &str, line: usize, node: &Node, warnings: &mut Vec<String>) -> Result<Self> {
        let fields = Fields::of(Some(node), "a service")?;
        for key in CONTAINERS_ONLY {
            let _ = fields.node(key);
        }
        let ours = Fields::of(fields.node("x-outrigger"), "x-outrigger")?;
        let service = Self {
            name: name.to_owned(),
            line,
            image: fields.text("image")?.unwrap_or_default(),
            command: words(fields.node("command"), "command")?,
            environment: environment(fields.node("environment"))?,
            mounts: mounts(fields.node("volumes"))?,
            beside: fields
                .text("network_mode")?
                .and_then(|mode| mode.strip_prefix("service:").map(str::to_owned)),
            restart: fields.text("restart")?.map(|text| restart(&text)).transpose()?,
            program: words(ours.node("program"), "program")?,
            config: ours.text("config")?,
        };
        for (line, key) in fields.unknown() {
            if !key.starts_with("x-") {
                warnings.push(format!(
                    "line {line}: {key:?} of service {name:?} is ignored: it means nothing to processes, or is unknown"
                ));
            }
        }
        for (line, key) in ours.unknown() {
            warnings.push(format!(
                "line {line}: unknown field {key:?} in x-outrigger of service {name:?} is ignored"
            ));
        }
        Ok(service)
    }

    /// Whether its image is a sidecar's.
    pub(super) fn is_sidecar(&self) -> bool {
        let name = self.image.rsplit('/').next().unwrap_or_default();
        let name = name.split(['@', ':']).next().unwrap_or_default();
        SIDECAR_IMAGES.contains(&name)
    }

    /// The path of this machine for one that the container sees.
    pub(super) fn mounted(&self, path: &str) -> Option<String> {
        let seen = PathBuf::from(path);
        let mounts = self.mounts.iter().filter_map(|mount| {
            let rest = seen.strip_prefix(&mount.target).ok()?;
            Some((mount, rest))
        });
        let (mount, rest) = mounts.max_by_key(|(mount, _)| mount.target.components().count())?;
        let rest = rest.to_str()?;
        Some(if rest.is_empty() {
            mount.source.clone()
        } else {
            format!("{}/{rest}", mount.source)
        })
    }
}

fn restart(text: &str) -> Result<Restart> {
    match text.split(':').next() {
        Some("always" | "unless-stopped") => Ok(Restart::Always),
        Some("on-failure") => Ok(Restart::OnFailure),
        Some("no" | "false") => Ok(Restart::Never),
        _ => bail!("invalid restart {text:?}: use always, unless-stopped, on-failure or no"),
    }
}

/// A command as a list, or as one text whose words are parted by spaces.
fn words(node: Option<&Node>, key: &str) -> Result<Vec<String>> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let line = node.at.line;
    match &node.content {
        Content::Sequence(items) => items
            .iter()
            .map(|item| match &item.content {
                Content::Scalar { text, .. } => Ok(text.clone()),
                _ => bail!("line {}: {key} must be a list of texts", item.at.line),
            })
            .collect(),
        Content::Scalar { text, .. } if text.contains(['"', '\'', '\\', '|', ';', '&']) => {
            bail!("line {line}: {key} has words that only a shell understands; write it as a list")
        }
        Content::Scalar { text, .. } => Ok(text.split_whitespace().map(str::to_owned).collect()),
        Content::Mapping(_) => bail!("line {line}: {key} must be a list or a text"),
    }
}

/// A mapping, or a list of `NAME=value`; a name alone is passed on by itself, as our variables are.
fn environment(node: Option<&Node>) -> Result<BTreeMap<String, String>> {
    let Some(node) = node else {
        return Ok(BTreeMap::new());
    };
    match &node.content {
        Content::Mapping(mapping) => {
            let set = mapping.entries.iter().filter(|entry| !entry.value.is_null());
            set.map(|entry| match &entry.value.content {
                Content::Scalar { text, .. } => Ok((entry.key.clone(), text.clone())),
                _ => bail!("line {}: {} must be a text", entry.at.line, entry.key),
            })
            .collect()
        }
        Content::Sequence(_) => Ok(words(Some(node), "environment")?
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()),
        Content::Scalar { .. } => bail!("line {}: environment must be a mapping or a list", node.at.line),
    }
}

/// Folders and files of this machine, in the short and in the long form. Named volumes are the engine's.
fn mounts(node: Option<&Node>) -> Result<Vec<Mount>> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let Content::Sequence(items) = &node.content else {
        bail!("line {}: volumes must be a list", node.at.line);
    };
    let mut found = Vec::new();
    for item in items {
        let (source, target) = match &item.content {
            Content::Scalar { text, .. } => {
                let mut parts = text.split(':');
                match (parts.next(), parts.next()) {
                    (Some(source), Some(target)) => (source.to_owned(), target.to_owned()),
                    _ => continue,
                }
            }
            _ => {
                let fields = Fields::of(Some(item), "a volume")?;
                let part = |key| fields.text(key).map(Option::unwrap_or_default);
                (part("source")?, part("target")?)
            }
        };
        if source.starts_with(['.', '/', '~']) {
            found.push(Mount {
                source,
                target: target.into(),
            });
        }
    }
    Ok(found)
}
