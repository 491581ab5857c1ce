//! Whom a client trusts and what it shows.

use std::sync::Arc;

use outrigger_component::{Error, Host};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::HttpConfig;

/// The PEM parts of the metadata, read from files where they are paths.
pub(super) struct Identity {
    roots: Option<RootCertStore>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Identity {
    pub(super) async fn load(config: &HttpConfig, host: &Host) -> Result<Self, Error> {
        let roots = match &config.root_ca {
            None => None,
            Some(value) => {
                let pem = pem("MTLSRootCA", value, host).await?;
                let mut store = RootCertStore::empty();
                let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
                if store.add_parsable_certificates(certificates).0 == 0 {
                    return Err(Error::configuration("failed to add root certificate to certpool"));
                }
                Some(store)
            }
        };
        let client = match (&config.client_cert, &config.client_key) {
            (Some(certificate), Some(key)) => {
                let certificate = pem("MTLSClientCert", certificate, host).await?;
                let key = pem("MTLSClientKey", key.expose(), host).await?;
                let failed =
                    |error| Error::configuration("failed to load client certificate").with_source(error);
                let chain = CertificateDer::pem_slice_iter(&certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(failed)?;
                Some((chain, PrivateKeyDer::from_pem_slice(&key).map_err(failed)?))
            }
            _ => None,
        };
        Ok(Self { roots, client })
    }

    /// Whether there is anything to check before the first connection.
    pub(super) fn is_plain(&self) -> bool {
        self.roots.is_none() && self.client.is_none()
    }

    /// TLS as configured; the system's roots where none are.
    pub(super) fn config(&self) -> Result<ClientConfig, Error> {
        let roots = self
            .roots
            .clone()
            .unwrap_or_else(outrigger_http_client::system_roots);
        let failed = |error: rustls::Error| {
            Error::configuration("failed to load client certificate").with_source(error)
        };
        // The provider is named here so that nobody depends on a process-wide default.
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots);
        match &self.client {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(failed),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

/// A value that is PEM, or the content of the file that it names.
async fn pem(name: &str, value: &str, host: &Host) -> Result<Vec<u8>, Error> {
    if value.contains("-----BEGIN ") {
        return Ok(value.as_bytes().to_vec());
    }
    tokio::fs::read(host.path(value)).await.map_err(|error| {
        Error::configuration(format!(
            "provided {name:?} value is neither a valid file path or nor a valid pem encoded string"
        ))
        .with_source(error)
    })
}
