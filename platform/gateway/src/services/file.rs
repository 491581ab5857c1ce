//! The file, read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use outrigger_kit::health::HealthEntry;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Service, check, yaml};

/// A services file is some pages of text.
const MAX_SIZE: u64 = 1 << 20;
/// How often the file is looked at. Looking at it, and not a notification, also finds files that are exchanged by
/// links, as Kubernetes does with its volumes.
const LOOK: Duration = Duration::from_millis(500);

/// The services in force. Clones share them.
#[derive(Debug, Clone)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Option<PathBuf>,
    services: ArcSwap<Vec<Arc<Service>>>,
    status: Mutex<FileStatus>,
    /// Counts changes.
    version: watch::Sender<u64>,
}

/// What became of the file when it was last read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Its text, to tell changes by.
    text: String,
    /// What is wrong with it; services before it stay in force.
    pub mistakes: Vec<String>,
}

impl Catalog {
    /// Reads the file once. Without a file there are no services.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn open(path: Option<&Path>) -> Result<Self, Vec<String>> {
        let (text, services) = match path {
            None => (String::new(), Vec::new()),
            Some(path) => {
                let text = read(path).map_err(|mistake| vec![mistake])?;
                let services = parse(path, &text)?;
                (text, services)
            }
        };
        Ok(Self(Arc::new(Inner {
            path: path.map(Path::to_owned),
            services: ArcSwap::from_pointee(services.into_iter().map(Arc::new).collect()),
            status: Mutex::new(FileStatus {
                text,
                mistakes: Vec::new(),
            }),
            version: watch::Sender::new(0),
        })))
    }

    /// All services, in the file's order.
    pub fn services(&self) -> Arc<Vec<Arc<Service>>> {
        self.0.services.load_full()
    }

    /// A service by its name.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.0
            .services
            .load()
            .iter()
            .find(|service| service.name == name)
            .cloned()
    }

    /// Wakes at every change of the services.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// What the file is like.
    pub fn health(&self) -> HealthEntry {
        let status = self.0.status.lock();
        match (&self.0.path, status.mistakes.as_slice()) {
            (None, _) => HealthEntry::healthy("no services file (SERVICES_CONFIG_PATH)"),
            (Some(_), []) => HealthEntry::healthy(format!("{} services", self.services().len())),
            (Some(path), mistakes) => HealthEntry::degraded(format!(
                "{} is not in force, what was read before is: {}",
                path.display(),
                mistakes.join("; ")
            )),
        }
    }

    /// Follows the file until the token is cancelled.
    pub async fn follow(self, stopping: CancellationToken) {
        let Some(path) = self.0.path.clone() else { return };
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let path = path.clone();
            if let Ok(found) = tokio::task::spawn_blocking(move || (read(&path), path)).await {
                self.take(&found.1, found.0);
            }
        }
    }

    /// Puts what was read in force, if it is new and right.
    fn take(&self, path: &Path, found: Result<String, String>) {
        let mut status = self.0.status.lock();
        let outcome = match found {
            Ok(text) if text == status.text => {
                // Right, and put back after it was away; or as wrong as before.
                if status.mistakes.is_empty() || parse(path, &text).is_err() {
                    return;
                }
                parse(path, &text)
            }
            Ok(text) => {
                let outcome = parse(path, &text);
                status.text = text;
                outcome
            }
            Err(mistake) => Err(vec![mistake]),
        };
        match outcome {
            Ok(services) => {
                let services: Vec<_> = services.into_iter().map(Arc::new).collect();
                tracing::info!(services = services.len(), "the services file was read anew");
                status.mistakes.clear();
                self.0.services.store(Arc::new(services));
                drop(status);
                self.0.version.send_modify(|version| *version += 1);
            }
            Err(mistakes) => {
                if mistakes != status.mistakes {
                    tracing::error!(
                        file = %path.display(),
                        mistakes = mistakes.join("; "),
                        "the services file is wrong; what was read before stays in force"
                    );
                }
                status.mistakes = mistakes;
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(|error| problem(&error))?.len();
    if size > MAX_SIZE {
        return Err(problem(&format!("longer than {MAX_SIZE} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| problem(&error))
}

fn parse(path: &Path, text: &str) -> Result<Vec<Service>, Vec<String>> {
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    let value = match extension.to_ascii_lowercase().as_str() {
        "json" => serde_json::from_str(text).map_err(|error| error.to_string()),
        "yaml" | "yml" => yaml::parse(text),
        _ => Err("a services file ends in .json, .yaml or .yml".to_owned()),
    };
    check::services(value.map_err(|mistake| vec![mistake])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_keeps_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services.yaml");
        std::fs::write(&path, "services:\n  - name: a\n").unwrap();
        let catalog = Catalog::open(Some(&path)).unwrap();
        let mut changes = catalog.changes();
        assert!(catalog.service("a").is_some());

        catalog.take(&path, Ok("services: 7".to_owned()));
        assert!(catalog.service("a").is_some());
        let health = catalog.health();
        assert!(health.description.contains("must be a list"), "{health:?}");
        catalog.take(&path, Err("it is gone".to_owned()));
        assert!(catalog.health().description.contains("it is gone"));
        assert!(!changes.has_changed().unwrap());

        catalog.take(&path, Ok("services:\n  - name: b\n".to_owned()));
        assert!(catalog.service("a").is_none() && catalog.service("b").is_some());
        assert!(changes.borrow_and_update().eq(&1));
        assert_eq!(catalog.health(), HealthEntry::healthy("1 services"));
        // The same text again is no change, unless something was wrong in between.
        catalog.take(&path, Ok("services:\n  - name: b\n".to_owned()));
        assert!(!changes.has_changed().unwrap());
        catalog.take(&path, Err("away".to_owned()));
        catalog.take(&path, Ok("services:\n  - name: b\n".to_owned()));
        assert_eq!(catalog.health(), HealthEntry::healthy("1 services"));
    }

    #[test]
    fn the_extension_names_the_format() {
        let right = r#"{"services": [{"name": "a"}]}"#;
        assert!(parse(Path::new("s.json"), right).is_ok());
        assert!(parse(Path::new("s.yml"), right).is_ok());
        assert!(parse(Path::new("s.json"), "services: []").is_err());
        assert!(parse(Path::new("s.toml"), "").is_err());
    }
}
