//! Whom we trust.

use std::{collections::VecDeque, path::PathBuf};

use outrigger_component::{Error, Host};
use outrigger_http_client::TlsOptions;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::config::Trust;

/// Files of a folder of roots; more are no such folder.
const MAX_FILES: usize = 4096;

/// TLS as configured.
pub(super) async fn options(
    trust: &Trust,
    server_name: Option<&str>,
    host: &Host,
) -> Result<TlsOptions, Error> {
    let mut roots = Vec::new();
    match trust {
        Trust::Anyone => tracing::info!(
            "hashicorp vault: you are using 'skipVerify' to skip server config verify which is unsafe!"
        ),
        Trust::Pem(pem) => add(&mut roots, pem.as_bytes())?,
        Trust::File(file) => add(&mut roots, &read(host.path(file)).await?)?,
        Trust::Folder(folder) => {
            for file in files(host.path(folder)).await? {
                add(&mut roots, &read(file).await?)?;
            }
        }
        Trust::System => {}
    }
    Ok(TlsOptions {
        roots: (!matches!(trust, Trust::Anyone | Trust::System)).then_some(roots),
        server_name: server_name.map(str::to_owned),
        insecure_skip_verify: *trust == Trust::Anyone,
        ..TlsOptions::default()
    })
}

pub(super) fn failed(text: impl Into<String>) -> Error {
    Error::configuration(format!("couldn't create client using config: {}", text.into()))
}

fn add(roots: &mut Vec<u8>, pem: &[u8]) -> Result<(), Error> {
    if !CertificateDer::pem_slice_iter(pem).any(|certificate| certificate.is_ok()) {
        return Err(failed("couldn't read PEM"));
    }
    roots.extend_from_slice(pem);
    roots.push(b'\n');
    Ok(())
}

async fn read(path: PathBuf) -> Result<Vec<u8>, Error> {
    tokio::fs::read(&path)
        .await
        .map_err(|error| failed("couldn't read CA file from disk").with_source(error))
}

/// All files below a folder.
async fn files(folder: PathBuf) -> Result<Vec<PathBuf>, Error> {
    let shown = folder.display().to_string();
    let unreadable =
        |error: std::io::Error| failed(format!("couldn't read certificates at {shown}")).with_source(error);
    let mut folders = VecDeque::from([folder]);
    let mut files = Vec::new();
    while let Some(folder) = folders.pop_front() {
        let mut entries = tokio::fs::read_dir(folder).await.map_err(&unreadable)?;
        while let Some(entry) = entries.next_entry().await.map_err(&unreadable)? {
            // The type of the entry itself: a link to a folder is none, so there are no rings.
            if entry.file_type().await.map_err(&unreadable)?.is_dir() {
                folders.push_back(entry.path());
            } else {
                files.push(entry.path());
            }
            if files.len() + folders.len() > MAX_FILES {
                return Err(failed(format!(
                    "couldn't read certificates at {shown}: too many files"
                )));
            }
        }
    }
    Ok(files)
}
