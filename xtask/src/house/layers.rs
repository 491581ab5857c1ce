//! Arrows between rooms point down only (ARCHITECTURE.md, "Rooms"; docs/adr/0001).

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context;

use crate::repo;

/// A room, by the folder its crates stand in, and the rooms it may know.
struct Room {
    folder: &'static str,
    knows: &'static [&'static str],
}

/// Read right to left: outrigger → cli → sidecar, control → components → engines, blocks → foundation → wire;
/// apps → kit, sdks → wire. A room also knows itself; cargo already refuses circles.
const ROOMS: &[Room] = &[
    Room {
        folder: "wire",
        knows: &[],
    },
    Room {
        folder: "runtime/foundation",
        knows: &["wire"],
    },
    Room {
        folder: "runtime/blocks",
        knows: &["wire", "runtime/foundation"],
    },
    Room {
        folder: "runtime/engines",
        knows: &["wire", "runtime/foundation", "runtime/blocks"],
    },
    Room {
        folder: "runtime/components",
        knows: &["wire", "runtime/foundation", "runtime/blocks", "runtime/engines"],
    },
    Room {
        folder: "runtime/sidecar",
        knows: &[
            "wire",
            "runtime/foundation",
            "runtime/blocks",
            "runtime/engines",
            "runtime/components",
        ],
    },
    Room {
        folder: "runtime/control",
        knows: &[
            "wire",
            "runtime/foundation",
            "runtime/blocks",
            "runtime/engines",
            "runtime/components",
        ],
    },
    Room {
        folder: "runtime/cli",
        knows: &[
            "wire",
            "runtime/foundation",
            "runtime/blocks",
            "runtime/engines",
            "runtime/components",
            "runtime/sidecar",
            "runtime/control",
        ],
    },
    // The binary hands argv to the command line and does nothing else.
    Room {
        folder: "runtime/outrigger",
        knows: &["runtime/cli"],
    },
    Room {
        folder: "kit",
        knows: &["wire"],
    },
    Room {
        folder: "platform",
        knows: &["kit", "wire"],
    },
    Room {
        folder: "sdks",
        knows: &["wire"],
    },
    Room {
        folder: "apps",
        knows: &["kit", "sdks"],
    },
    // Outside programs that measure or test, and what they share: they know nobody else.
    Room {
        folder: "tests",
        knows: &[],
    },
    Room {
        folder: "xtask",
        knows: &["tests"],
    },
];

/// A crate's manifest, as far as the rule needs it.
struct Manifest {
    path: String,
    package: String,
    dependencies: Vec<String>,
}

/// Every arrow that points up or sideways out of its room.
pub(crate) fn layers() -> anyhow::Result<Vec<String>> {
    let root = repo::root();
    let mut manifests = Vec::new();
    for file in repo::files()? {
        let path = file.to_string_lossy().into_owned();
        if path.ends_with("/Cargo.toml") && !path.starts_with("examples/") {
            let text = fs::read_to_string(root.join(&file)).with_context(|| path.clone())?;
            manifests.push(parse(path, &text));
        }
    }
    Ok(faults(&manifests))
}

fn faults(manifests: &[Manifest]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut home = HashMap::new();
    for manifest in manifests {
        match room(&manifest.path) {
            Some(room) => {
                home.insert(manifest.package.as_str(), room);
            }
            None => faults.push(format!("{}: stands in no room of ARCHITECTURE.md", manifest.path)),
        }
    }
    for manifest in manifests {
        let Some(from) = home.get(manifest.package.as_str()) else {
            continue;
        };
        for dependency in &manifest.dependencies {
            let Some(to) = home.get(dependency.as_str()) else {
                continue;
            };
            if from.folder != to.folder && !from.knows.contains(&to.folder) {
                faults.push(format!(
                    "{} ({}) must not know {dependency} ({})",
                    manifest.package, from.folder, to.folder
                ));
            }
        }
    }
    faults
}

fn room(manifest: &str) -> Option<&'static Room> {
    let folder = Path::new(manifest).parent()?;
    ROOMS.iter().find(|room| folder.starts_with(room.folder))
}

/// Reads the package's name and what it is built with. Development dependencies are free: a test may look anywhere.
fn parse(path: String, text: &str) -> Manifest {
    let mut package = String::new();
    let mut dependencies = Vec::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = header.to_owned();
            // `[dependencies.name]` is a dependency in a section of its own.
            if let Some((table, name)) = header.rsplit_once('.')
                && is_dependencies(table)
            {
                dependencies.push(name.to_owned());
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let key = key.trim();
        if section == "package" && key == "name" {
            package = value.trim().trim_matches('"').to_owned();
        } else if is_dependencies(&section) {
            dependencies.push(key.split('.').next().unwrap_or(key).to_owned());
        }
    }
    Manifest {
        path,
        package,
        dependencies,
    }
}

fn is_dependencies(section: &str) -> bool {
    let table = section.rsplit('.').next().unwrap_or(section);
    table == "dependencies" || table == "build-dependencies"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, package: &str, dependency: &str) -> Manifest {
        parse(
            path.to_owned(),
            &format!("[package]\nname = \"{package}\"\n\n[dependencies]\n{dependency}.workspace = true\n"),
        )
    }

    #[test]
    fn an_arrow_that_points_up_is_a_fault() {
        let block = manifest("runtime/blocks/state/Cargo.toml", "state", "types");
        let types = manifest("runtime/foundation/types/Cargo.toml", "types", "serde");
        assert!(faults(&[block, types]).is_empty());
        let block = manifest("runtime/blocks/state/Cargo.toml", "state", "serde");
        let types = manifest("runtime/foundation/types/Cargo.toml", "types", "state");
        assert_eq!(
            faults(&[block, types]),
            ["types (runtime/foundation) must not know state (runtime/blocks)"]
        );
    }

    #[test]
    fn apps_see_the_kit_only() {
        let app = manifest("apps/todo/Cargo.toml", "todo", "sidecar");
        let sidecar = manifest("runtime/sidecar/runtime/Cargo.toml", "sidecar", "tokio");
        assert_eq!(faults(&[app, sidecar]).len(), 1);
    }

    #[test]
    fn a_crate_outside_the_rooms_is_a_fault() {
        assert_eq!(faults(&[manifest("utils/Cargo.toml", "utils", "serde")]).len(), 1);
    }

    #[test]
    fn development_dependencies_may_look_anywhere() {
        let text = "[package]\nname = \"a\"\n[dev-dependencies]\nb = \"1\"\n[target.'cfg(unix)'.dependencies]\nc.workspace = true\n[dependencies.d]\nversion = \"1\"\n";
        assert_eq!(parse("wire/Cargo.toml".to_owned(), text).dependencies, ["c", "d"]);
    }

    #[test]
    fn this_repository_keeps_its_layers() {
        assert_eq!(layers().unwrap(), Vec::<String>::new());
    }
}
