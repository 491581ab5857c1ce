//! Which resources and configuration a sidecar gets when nothing names them (design §2).

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::settings::Shared;
use crate::folders::Folders;

/// What was chosen for one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Resource folders.
    pub(super) resources: Vec<PathBuf>,
    /// The configuration file, if there is one.
    pub(super) config: Option<PathBuf>,
    /// Whether the built-in components are used.
    pub(super) built_in: bool,
}

/// Order: what the flags or the run file say, the app's `.dapr`, `~/.dapr`, and the built-in components only when
/// none of them exists. `dir` is the app's folder.
pub(super) fn choose(shared: &Shared, dir: &Path, folders: &Folders) -> Result<Chosen> {
    let dapr = folders.dapr(shared.runtime_path.as_deref());
    let local = dir.join(".dapr/resources");
    let user = dapr.as_ref().map(|dapr| dapr.join("components"));
    let (resources, built_in) = if !shared.resources_paths.is_empty() {
        (shared.resources_paths.clone(), false)
    } else if local.is_dir() {
        (vec![local], false)
    } else if let Some(user) = user.filter(|user| user.is_dir()) {
        (vec![user], false)
    } else {
        (vec![built_in_components(folders)?], true)
    };
    let config = shared
        .config
        .clone()
        .or_else(|| Some(dir.join(".dapr/config.yaml")).filter(|path| path.is_file()))
        .or_else(|| {
            dapr.map(|dapr| dapr.join("config.yaml"))
                .filter(|path| path.is_file())
        });
    Ok(Chosen {
        resources,
        config,
        built_in,
    })
}

/// What `run` would choose in a folder without flags: resource folders, and the configuration file.
///
/// # Errors
/// When the built-in components cannot be written.
pub(crate) fn of_folder(
    dir: &Path,
    runtime_path: Option<&Path>,
    folders: &Folders,
) -> Result<(Vec<PathBuf>, Option<PathBuf>)> {
    let shared = Shared {
        runtime_path: runtime_path.map(Path::to_owned),
        ..Shared::default()
    };
    let Chosen {
        resources, config, ..
    } = choose(&shared, dir, folders)?;
    Ok((resources, config))
}

/// As [`of_folder`], but nothing is written: without any folder of the user's there is none.
pub(crate) fn look(
    dir: &Path,
    runtime_path: Option<&Path>,
    folders: &Folders,
) -> (Vec<PathBuf>, Option<PathBuf>) {
    let dapr = folders.dapr(runtime_path);
    let user = dapr.as_ref().map(|dapr| dapr.join("components"));
    let built_in = Some(folders.data_path().join("defaults"));
    let resources = [Some(dir.join(".dapr/resources")), user, built_in];
    let config = [
        Some(dir.join(".dapr/config.yaml")),
        dapr.map(|dapr| dapr.join("config.yaml")),
    ];
    (
        resources
            .into_iter()
            .flatten()
            .find(|path| path.is_dir())
            .into_iter()
            .collect(),
        config.into_iter().flatten().find(|path| path.is_file()),
    )
}

/// Writes the built-in components under the data folder; files that are there already are the user's by now.
fn built_in_components(folders: &Folders) -> Result<PathBuf> {
    let data = folders.data()?;
    let folder = data.join("defaults");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    create(&data.join("secrets.json"), "{}\n")?;
    for (name, text) in default_components(&data) {
        create(&folder.join(name), &text)?;
    }
    Ok(folder)
}

/// Names and texts of the files that describe the embedded components, on data in this folder.
pub(crate) fn default_components(data: &Path) -> [(&'static str, String); 4] {
    let in_data = |name: &str| data.join(name).display().to_string();
    [
        (
            "statestore.yaml",
            component(
                "statestore",
                "state.sqlite",
                &[
                    ("connectionString", &in_data("state.db")),
                    ("actorStateStore", "true"),
                ],
            ),
        ),
        (
            "pubsub.yaml",
            component(
                "pubsub",
                "pubsub.sqlite",
                &[("connectionString", &in_data("pubsub.db"))],
            ),
        ),
        (
            "localsecretstore.yaml",
            component(
                "localsecretstore",
                "secretstores.local.file",
                &[("secretsFile", &in_data("secrets.json"))],
            ),
        ),
        (
            "envsecretstore.yaml",
            component("envsecretstore", "secretstores.local.env", &[]),
        ),
    ]
}

fn component(name: &str, kind: &str, metadata: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n"
    );
    if metadata.is_empty() {
        text.push_str("  metadata: []\n");
        return text;
    }
    text.push_str("  metadata:\n");
    for (name, value) in metadata {
        // JSON texts are YAML texts.
        text.push_str(&format!(
            "  - name: {name}\n    value: {}\n",
            serde_json::json!(value)
        ));
    }
    text
}

/// Makes a file unless it exists.
pub(crate) fn create(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        Ok(())
    } else {
        replace(path, text)
    }
}

/// Makes or replaces a file of this user. Written aside and renamed, so that a sidecar started at the same moment
/// never reads half of it.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}.new-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        fs::rename(&aside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_types::Environment;

    fn folders(home: &Path) -> Folders {
        let pairs = [("HOME".to_owned(), home.display().to_string())];
        Folders::of(
            &Environment::from_pairs(pairs),
            rustix::process::getuid().as_raw(),
        )
        .unwrap()
    }

    #[test]
    fn what_is_nearer_wins_and_the_built_in_comes_last() {
        let temporary = tempfile::tempdir().unwrap();
        let (home, app) = (temporary.path().join("home"), temporary.path().join("app"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(&app).unwrap();
        let folders = folders(&home);
        let mut shared = Shared::default();

        let chosen = choose(&shared, &app, &folders).unwrap();
        assert!(chosen.built_in);
        assert_eq!(chosen.config, None);
        let statestore = fs::read_to_string(chosen.resources[0].join("statestore.yaml")).unwrap();
        assert!(statestore.contains("type: state.sqlite") && statestore.contains("state.db"));

        fs::create_dir_all(home.join(".dapr/components")).unwrap();
        fs::write(home.join(".dapr/config.yaml"), "").unwrap();
        let chosen = choose(&shared, &app, &folders).unwrap();
        assert_eq!(
            (chosen.built_in, chosen.resources),
            (false, vec![home.join(".dapr/components")])
        );
        assert_eq!(chosen.config, Some(home.join(".dapr/config.yaml")));

        fs::create_dir_all(app.join(".dapr/resources")).unwrap();
        assert_eq!(
            choose(&shared, &app, &folders).unwrap().resources,
            vec![app.join(".dapr/resources")]
        );

        shared.resources_paths = vec![PathBuf::from("/r")];
        assert_eq!(
            choose(&shared, &app, &folders).unwrap().resources,
            vec![PathBuf::from("/r")]
        );
    }

    #[test]
    fn files_that_exist_are_kept() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.yaml");
        fs::write(&path, "mine").unwrap();
        create(&path, "ours").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
