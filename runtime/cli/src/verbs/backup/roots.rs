//! Where files belong: paths are kept relative to a few folders, so that an archive fits another machine or user.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::Surroundings;

/// A folder that paths are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Root {
    /// Our data folder of the user.
    Data,
    /// Dapr's folder of the user.
    Dapr,
    /// The working folder.
    Work,
    /// Anywhere else; the path is absolute but for its first slash.
    Elsewhere,
}

/// The folders of this user and place.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    data: PathBuf,
    dapr: Option<PathBuf>,
    work: PathBuf,
}

impl Roots {
    pub(super) fn of(around: &Surroundings) -> Self {
        Self {
            data: around.folders.data_path().to_owned(),
            dapr: around.folders.dapr(around.runtime_path.as_deref()),
            work: around.working_dir.clone(),
        }
    }

    /// The root of an absolute path, the nearest first, and the rest.
    pub(super) fn split(&self, path: &Path) -> (Root, PathBuf) {
        let known = [
            (Root::Data, Some(&self.data)),
            (Root::Dapr, self.dapr.as_ref()),
            (Root::Work, Some(&self.work)),
        ];
        for (root, folder) in known {
            if let Some(rest) = folder.and_then(|folder| path.strip_prefix(folder).ok()) {
                return (root, rest.to_owned());
            }
        }
        let rest = path.strip_prefix("/").unwrap_or(path);
        (Root::Elsewhere, rest.to_owned())
    }

    /// Where a file goes: below `to`, or where it belongs here. `None` when there is no such folder here.
    pub(super) fn join(&self, root: Root, path: &Path, to: Option<&Path>) -> Option<PathBuf> {
        if let Some(to) = to {
            let name = match root {
                Root::Data => "data",
                Root::Dapr => "dapr",
                Root::Work => "work",
                Root::Elsewhere => "elsewhere",
            };
            return Some(to.join(name).join(path));
        }
        Some(match root {
            Root::Data => self.data.join(path),
            Root::Dapr => self.dapr.as_ref()?.join(path),
            Root::Work => self.work.join(path),
            Root::Elsewhere => Path::new("/").join(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_where_they_belong() {
        let roots = Roots {
            data: PathBuf::from("/home/a/.local/share/outrigger"),
            dapr: Some(PathBuf::from("/home/a/.dapr")),
            work: PathBuf::from("/home/a"),
        };
        for (path, root, rest) in [
            ("/home/a/.local/share/outrigger/state.db", Root::Data, "state.db"),
            ("/home/a/.dapr/components/x.yaml", Root::Dapr, "components/x.yaml"),
            ("/home/a/resources/x.yaml", Root::Work, "resources/x.yaml"),
            ("/srv/x.db", Root::Elsewhere, "srv/x.db"),
        ] {
            let (found, relative) = roots.split(Path::new(path));
            assert_eq!((found, relative.as_path()), (root, Path::new(rest)));
            assert_eq!(roots.join(found, &relative, None).unwrap(), Path::new(path));
        }
        let moved = roots.join(Root::Elsewhere, Path::new("srv/x.db"), Some(Path::new("/to")));
        assert_eq!(moved.unwrap(), Path::new("/to/elsewhere/srv/x.db"));
    }
}
