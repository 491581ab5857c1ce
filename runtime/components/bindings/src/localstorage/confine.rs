//! Paths that cannot leave their folder.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Component, Path, PathBuf},
};

/// Folders that may not be served: kernel interfaces and mounted credentials (upstream `bindings/localstorage`;
/// `/run/secrets` is what `/var/run/secrets` resolves to on systems where the one links to the other).
const FORBIDDEN: [&str; 5] = ["/proc", "/sys", "/boot", "/var/run/secrets", "/run/secrets"];

/// More links in one path are a loop.
const MAX_LINKS: usize = 255;

/// Whether a folder, its links resolved, may be served.
pub(super) fn is_allowed(root: &Path) -> bool {
    !FORBIDDEN.iter().any(|forbidden| root.starts_with(forbidden))
}

/// The path of a name below a root, as if the root were the file system's: `..` stops at the root, links are
/// followed inside it only, absolute ones from it. What does not exist is taken as written.
///
/// # Errors
/// When a part cannot be looked at or links form a loop.
pub(super) fn resolve(root: &Path, name: &str) -> io::Result<PathBuf> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    push_front(&mut todo, Path::new(name));
    // Relative to the root; only plain names, none of them a link.
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            done.pop();
            continue;
        }
        done.push(&part);
        let target = match std::fs::symlink_metadata(root.join(&done)) {
            Ok(metadata) if metadata.is_symlink() => std::fs::read_link(root.join(&done))?,
            Ok(_) => continue,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        done.pop();
        if target.is_absolute() {
            done.clear();
        }
        push_front(&mut todo, &target);
    }
    Ok(root.join(done))
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    let parts: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect();
    for part in parts.into_iter().rev() {
        todo.push_front(part);
    }
}
