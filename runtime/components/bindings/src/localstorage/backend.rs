//! The storage.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use outrigger_bindings::{InvokeError, InvokeRequest, InvokeResponse, OutputBinding};
use outrigger_component::{Error, ErrorKind};
use rustix::fs::OFlags;

use super::{confine, payload};

/// Files of a listing; more would be an answer nobody can hold.
const MAX_LISTED: usize = 1_000_000;

/// Writes, reads, lists and removes files below one folder and never outside of it.
#[derive(Debug)]
pub struct LocalStorage {
    /// Absolute, links resolved.
    root: PathBuf,
}

fn absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl LocalStorage {
    /// Makes the folder where it is not there.
    ///
    /// # Errors
    /// When it cannot be one or lies where nothing may be served from.
    pub async fn open(root: &Path) -> Result<Self, Error> {
        let root = root.to_owned();
        blocking(move || {
            Ok(Self {
                root: prepared(&root)?,
            })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("the file operation was interrupted").with_source(error)))
}

/// The links of what exists are resolved before the folder is judged and made.
fn prepared(root: &Path) -> Result<PathBuf, Error> {
    let refused = |text: String| Error::configuration(format!("failed to parse metadata: {text}"));
    let root = std::path::absolute(root)
        .map_err(|error| refused("rootPath is not a path".into()).with_source(error))?;
    let existing = root
        .ancestors()
        .find(|folder| folder.symlink_metadata().is_ok())
        .ok_or_else(|| refused("rootPath has no existing parent".into()))?;
    let resolved = existing
        .canonicalize()
        .map_err(|error| refused("failed to evaluate symlinks in rootPath".into()).with_source(error))?;
    if !resolved.is_dir() {
        return Err(refused(
            "property rootPath represents a file and not a directory".into(),
        ));
    }
    // Nothing exists below, so `..` there can only be resolved by the letters.
    let resolved = confine::resolve(
        Path::new("/"),
        &resolved
            .join(root.strip_prefix(existing).unwrap_or(Path::new("")))
            .to_string_lossy(),
    )
    .map_err(|error| refused("failed to evaluate symlinks in rootPath".into()).with_source(error))?;
    if !confine::is_allowed(&resolved) {
        return Err(refused(
            "property rootPath points to a disallowed location".into(),
        ));
    }
    fs::create_dir_all(&resolved).map_err(|error| {
        Error::configuration(format!(
            "unable to create directory specified by 'rootPath' {}",
            resolved.display()
        ))
        .with_source(error)
    })?;
    Ok(resolved)
}

/// The work of one request, on a thread that may block.
struct Work {
    root: PathBuf,
    name: String,
}

impl Work {
    fn path(&self) -> Result<PathBuf, Error> {
        confine::resolve(&self.root, &self.name).map_err(|error| {
            Error::invalid(format!("error getting absolute path for file {}", self.name)).with_source(error)
        })
    }

    fn create(&self, data: Bytes) -> Result<Bytes, Error> {
        let data = payload::decode(data);
        let path = self.path()?;
        let failed = |what: &str, path: &Path, error: io::Error| {
            Error::internal(format!("error {what} {}", path.display())).with_source(error)
        };
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(|error| failed("creating directory", folder, error))?;
        // Should the name become a link after it was resolved, it is not followed.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(nofollow())
            .open(&path)
            .map_err(|error| failed("creating file", &path, error))?;
        io::Write::write_all(&mut file, &data).map_err(|error| failed("writing to file", &path, error))?;
        let relative = match path.strip_prefix(&self.root) {
            Ok(relative) if relative.as_os_str().is_empty() => OsStr::new("."),
            Ok(relative) => relative.as_os_str(),
            Err(_) => path.as_os_str(),
        };
        json(&serde_json::json!({ "fileName": relative.to_string_lossy() }))
    }

    fn get(&self) -> Result<Bytes, Error> {
        let path = self.path()?;
        let mut file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nofollow())
            .open(&path)
            .map_err(|error| {
                if absent(&error) {
                    Error::new(ErrorKind::NotFound, format!("file not found: {}", path.display()))
                } else {
                    Error::internal(format!("error opening path {}", path.display())).with_source(error)
                }
            })?;
        let mut data = Vec::new();
        io::Read::read_to_end(&mut file, &mut data).map_err(|error| {
            Error::internal(format!("error reading file {}", path.display())).with_source(error)
        })?;
        Ok(data.into())
    }

    fn delete(&self) -> Result<(), Error> {
        let path = self.path()?;
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder {
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|error| {
            let kind = if absent(&error) {
                ErrorKind::NotFound
            } else {
                ErrorKind::Internal
            };
            Error::new(kind, format!("error deleting file {}", path.display())).with_source(error)
        })
    }

    /// All files below a folder, absolute, in the order of their names; `null` where there is none.
    fn list(&self) -> Result<Bytes, Error> {
        let path = self.path()?;
        let metadata = fs::metadata(&path).map_err(|error| {
            let kind = if absent(&error) {
                ErrorKind::NotFound
            } else {
                ErrorKind::Internal
            };
            Error::new(kind, format!("error getting stats for path {}", path.display())).with_source(error)
        })?;
        if !metadata.is_dir() {
            return Err(Error::invalid(format!(
                "unable to list files as the file specified is not a directory: {}",
                path.display()
            )));
        }
        let mut files = Vec::new();
        walk(&path, &mut files).map_err(|error| {
            Error::internal(format!("error listing files in the directory {}", path.display()))
                .with_source(error)
        })?;
        json(&if files.is_empty() {
            serde_json::Value::Null
        } else {
            files.into()
        })
    }
}

fn nofollow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

fn json(value: &serde_json::Value) -> Result<Bytes, Error> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::internal("error encoding response as JSON").with_source(error))
}

/// Links count as files and are not followed. Folders that vanish meanwhile are skipped.
fn walk(root: &Path, files: &mut Vec<String>) -> io::Result<()> {
    let mut todo = vec![(root.to_owned(), true)];
    while let Some((path, is_folder)) = todo.pop() {
        if !is_folder {
            if files.len() == MAX_LISTED {
                return Err(io::Error::other(format!("more than {MAX_LISTED} files")));
            }
            files.push(path.to_string_lossy().into_owned());
            continue;
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if absent(&error) => continue,
            Err(error) => return Err(error),
        };
        let mut below = entries
            .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?.is_dir()))))
            .collect::<io::Result<Vec<_>>>()?;
        below.sort();
        todo.extend(below.into_iter().rev());
    }
    Ok(())
}

impl OutputBinding for LocalStorage {
    fn operations(&self) -> Vec<&str> {
        vec!["create", "get", "list", "delete"]
    }

    async fn invoke(&self, request: InvokeRequest) -> Result<Option<InvokeResponse>, InvokeError> {
        let InvokeRequest {
            data,
            operation,
            metadata,
        } = request;
        let name = match metadata.get("fileName") {
            Some(name) if !name.is_empty() => name.clone(),
            _ if operation == "create" => uuid::Uuid::new_v4().to_string(),
            _ => String::new(),
        };
        let work = Work {
            root: self.root.clone(),
            name,
        };
        let answer = match operation.as_str() {
            "create" => blocking(move || work.create(data)).await?,
            "get" => blocking(move || work.get()).await?,
            "list" => blocking(move || work.list()).await?,
            "delete" => {
                blocking(move || work.delete()).await?;
                return Ok(None);
            }
            _ => return Err(Error::unsupported(format!("unsupported operation {operation}")).into()),
        };
        Ok(Some(InvokeResponse {
            data: Some(answer),
            ..InvokeResponse::default()
        }))
    }
}
