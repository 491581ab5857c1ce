//! The archive: a gzipped tar of a manifest and the files it lists.
//!
//! ```text
//! manifest.json     what there is, where it belongs, how long it is, its SHA-256
//! files/0000 …      the files in the manifest's order
//! ```
//!
//! Version 1; readers refuse others. A reader takes nothing that the manifest does not list.

use std::{
    fs::{self, File},
    io::{Read, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use outrigger_components_sqlite::snapshot;
use serde::{Deserialize, Serialize};

use super::{
    super::{checksum, init::is_below},
    roots::Root,
};

/// The format's version.
const VERSION: u32 = 1;

/// Name of the first entry.
const MANIFEST: &str = "manifest.json";

/// Largest manifest read.
const MAX_MANIFEST: u64 = 16 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Database,
    Resource,
    Configuration,
    RunFile,
    Secrets,
}

/// A file to put into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) from: PathBuf,
    pub(super) kind: Kind,
    pub(super) root: Root,
    pub(super) path: PathBuf,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    version: u32,
    program: String,
    pub(super) created: String,
    pub(super) files: Vec<Listed>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    /// The entry's name.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) root: Root,
    /// Below the root.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Copies the files into a folder, databases as they are at one moment; `progress` gets the pages copied.
///
/// # Errors
/// When a file cannot be read or copied.
pub(super) fn stage(sources: &[Source], folder: &Path, progress: &mut dyn FnMut(u64)) -> Result<Manifest> {
    let mut files = Vec::with_capacity(sources.len());
    fs::create_dir(folder.join("files")).context("cannot write the backup")?;
    for (number, source) in sources.iter().enumerate() {
        let name = format!("files/{number:04}");
        let copy = folder.join(&name);
        let from = source.from.display();
        if source.kind == Kind::Database {
            snapshot::copy(&source.from, &copy, &mut |done, _| progress(done))
                .map_err(|error| anyhow::anyhow!("cannot copy {from}: {}", error.chain()))?;
        } else {
            fs::copy(&source.from, &copy).with_context(|| format!("cannot copy {from}"))?;
        }
        files.push(Listed {
            name,
            kind: source.kind,
            root: source.root,
            path: source.path.clone(),
            bytes: fs::metadata(&copy).context("cannot read the copy")?.len(),
            sha256: checksum::of_file(&copy)?,
        });
    }
    Ok(Manifest {
        version: VERSION,
        program: concat!("outrigger ", env!("CARGO_PKG_VERSION")).to_owned(),
        created: jiff::Timestamp::now().to_string(),
        files,
    })
}

/// Writes the archive of a staged folder, aside first: what stands at `path` is always whole.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(manifest: &Manifest, folder: &Path, path: &Path) -> Result<()> {
    let aside = folder.join("archive");
    let context = || format!("cannot write {}", path.display());
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .with_context(context)?;
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let text = serde_json::to_vec_pretty(manifest).context("cannot write the manifest")?;
    append(&mut tar, MANIFEST, text.len() as u64, &text[..]).with_context(context)?;
    for listed in &manifest.files {
        let file = File::open(folder.join(&listed.name)).with_context(context)?;
        append(&mut tar, &listed.name, listed.bytes, file).with_context(context)?;
    }
    let mut file = tar
        .into_inner()
        .and_then(GzEncoder::finish)
        .with_context(context)?;
    file.flush()
        .and_then(|()| file.sync_all())
        .with_context(context)?;
    fs::rename(&aside, path).with_context(context)
}

fn append<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    bytes: u64,
    content: impl Read,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, content)
}

/// Unpacks an archive into a folder and checks every file against the manifest.
///
/// # Errors
/// When it is no archive of ours, of another version, or a file is missing, foreign or damaged.
pub(super) fn read(path: &Path, folder: &Path) -> Result<Manifest> {
    let context = || format!("{} is no backup, or is damaged", path.display());
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut tar = tar::Archive::new(GzDecoder::new(file));
    let mut entries = tar.entries().with_context(context)?;
    let mut first = entries.next().with_context(context)?.with_context(context)?;
    if first.path().with_context(context)? != Path::new(MANIFEST) {
        bail!(
            "{} is no backup: it does not begin with {MANIFEST}",
            path.display()
        );
    }
    let mut text = Vec::new();
    (&mut first)
        .take(MAX_MANIFEST)
        .read_to_end(&mut text)
        .with_context(context)?;
    let manifest: Manifest = serde_json::from_slice(&text).with_context(context)?;
    if manifest.version != VERSION {
        bail!(
            "{} has format version {}; this program reads {VERSION}",
            path.display(),
            manifest.version
        );
    }
    fs::create_dir(folder.join("files")).context("cannot unpack")?;
    let mut listed = manifest.files.iter();
    for entry in entries {
        let mut entry = entry.with_context(context)?;
        let name = entry.path().with_context(context)?.into_owned();
        let Some(wanted) = listed.next().filter(|wanted| Path::new(&wanted.name) == name) else {
            bail!("{}: {} is not in the manifest", path.display(), name.display());
        };
        let is_ours = name.starts_with("files") && is_below(&name) && is_below(&wanted.path);
        if !is_ours || !entry.header().entry_type().is_file() {
            bail!(
                "{}: {} is no file that a backup may hold",
                path.display(),
                name.display()
            );
        }
        // Not `unpack`: neither names, modes nor times of the archive decide anything here.
        let copy = folder.join(&wanted.name);
        let mut target = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&copy)
            .context("cannot unpack")?;
        let written =
            std::io::copy(&mut (&mut entry).take(wanted.bytes + 1), &mut target).with_context(context)?;
        let what = wanted.path.display();
        if written != wanted.bytes || checksum::of_file(&copy)? != wanted.sha256 {
            bail!(
                "{}: {what} is damaged: its checksum is another one",
                path.display()
            );
        }
        if wanted.kind == Kind::Database {
            snapshot::check(&copy)
                .map_err(|error| anyhow::anyhow!("{}: {what}: {}", path.display(), error.chain()))?;
        }
    }
    if let Some(missing) = listed.next() {
        bail!("{}: {} is missing", path.display(), missing.path.display());
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path) -> (Manifest, PathBuf) {
        let source = folder.join("a.yaml");
        fs::write(&source, "kind: Component\n").unwrap();
        let sources = [Source {
            from: source,
            kind: Kind::Resource,
            root: Root::Work,
            path: PathBuf::from("resources/a.yaml"),
        }];
        let staging = folder.join("staging");
        fs::create_dir(&staging).unwrap();
        let manifest = stage(&sources, &staging, &mut |_| ()).unwrap();
        let path = folder.join("backup.tar.gz");
        write(&manifest, &staging, &path).unwrap();
        (manifest, path)
    }

    fn into(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        let temporary = tempfile::tempdir().unwrap();
        let (manifest, path) = made(temporary.path());
        let target = into(temporary.path(), "target");
        assert_eq!(read(&path, &target).unwrap(), manifest);
        let copy = fs::read_to_string(target.join("files/0000")).unwrap();
        assert_eq!(copy, "kind: Component\n");
    }

    #[test]
    fn what_the_manifest_does_not_say_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let (manifest, _) = made(temporary.path());
        let staging = temporary.path().join("staging");
        type Change = (&'static str, fn(&mut Manifest));
        let changed: [Change; 5] = [
            ("version", |manifest| manifest.version = 2),
            ("checksum", |manifest| manifest.files[0].sha256 = "0".repeat(64)),
            ("no file", |manifest| {
                manifest.files[0].path = PathBuf::from("../../etc/passwd")
            }),
            ("no file", |manifest| {
                manifest.files[0].path = PathBuf::from("/etc/passwd")
            }),
            ("missing", |manifest| {
                let again = Listed {
                    name: "files/0001".to_owned(),
                    ..manifest.files[0].clone()
                };
                manifest.files.push(again);
            }),
        ];
        for (number, (reason, change)) in changed.into_iter().enumerate() {
            let mut other = manifest.clone();
            change(&mut other);
            let path = temporary.path().join(format!("{number}.tar.gz"));
            // Written by hand where the writer would not.
            let file = File::create(&path).unwrap();
            let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
            let text = serde_json::to_vec(&other).unwrap();
            append(&mut tar, MANIFEST, text.len() as u64, &text[..]).unwrap();
            let content = fs::read(staging.join("files/0000")).unwrap();
            append(&mut tar, "files/0000", content.len() as u64, &content[..]).unwrap();
            tar.into_inner().unwrap().finish().unwrap();
            let error = read(&path, &into(temporary.path(), &format!("t{number}"))).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{reason}: {error:#}");
        }
        let path = temporary.path().join("noise.tar.gz");
        fs::write(&path, "noise").unwrap();
        assert!(read(&path, &into(temporary.path(), "noise")).is_err());
    }
}
