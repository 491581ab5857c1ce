//! Whom we trust and what we show.

use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use outrigger_component::Error;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::Settings;

/// TLS as configured: `caCert` replaces the system's roots, as upstream's pool does.
pub(super) fn connector(settings: &Settings) -> Result<RustlsConnector, Error> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(pem) => {
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(Error::configuration("unable to load CA certificate"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let failed = || Error::configuration("unable to load client certificate and key pair");
    // The provider is named here so that nobody depends on a process-wide default.
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots);
    let config = match &settings.certificate {
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| failed().with_source(error))?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|error| failed().with_source(error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed().with_source(error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(RustlsConnector::from(config))
}
