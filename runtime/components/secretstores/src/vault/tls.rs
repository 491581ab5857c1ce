//! Whom we trust.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use outrigger_component::{Error, Host};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};

use super::config::Trust;

/// Files of a folder of roots; more are no such folder.
const MAX_FILES: usize = 4096;

/// TLS as configured.
pub(super) async fn config(trust: &Trust, host: &Host) -> Result<ClientConfig, Error> {
    // The provider is named here so that nobody depends on a process-wide default.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up").with_source(error))?;
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anyone => {
            tracing::info!(
                "hashicorp vault: you are using 'skipVerify' to skip server config verify which is unsafe!"
            );
            return Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
                .with_no_client_auth());
        }
        Trust::Pem(pem) => add(&mut roots, pem.as_bytes())?,
        Trust::File(file) => add(&mut roots, &read(host.path(file)).await?)?,
        Trust::Folder(folder) => {
            for file in files(host.path(folder)).await? {
                add(&mut roots, &read(file).await?)?;
            }
        }
        Trust::System => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn failed(text: impl Into<String>) -> Error {
    Error::configuration(format!("couldn't create client using config: {}", text.into()))
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), Error> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    match roots.add_parsable_certificates(certificates).0 {
        0 => Err(failed("couldn't read PEM")),
        _ => Ok(()),
    }
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

/// Takes every certificate; the handshake's signature must still be its own.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
