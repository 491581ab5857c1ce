//! Whom a client trusts and what it shows.

use std::fmt;

use outrigger_tls::{AnyCertificate, system_roots};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::ClientError;

/// A client certificate chain and its key, both PEM. Never printed.
#[derive(Clone)]
pub struct Identity {
    /// The chain, the client's certificate first.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(***)")
    }
}

/// TLS of a client; the default trusts the system's roots and shows nothing.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// PEM of the roots to trust in place of the system's.
    pub roots: Option<Vec<u8>>,
    /// What to show a server that asks.
    pub identity: Option<Identity>,
    /// The name to ask for and to check in place of the address's host.
    pub server_name: Option<String>,
    /// Believe any certificate. Only where an operator's file says so.
    pub insecure_skip_verify: bool,
}

impl TlsOptions {
    /// The configuration for rustls. Reading the system's roots takes time and memory: call it when TLS is needed.
    ///
    /// # Errors
    /// When PEM cannot be read or certificate and key do not fit.
    pub fn config(&self) -> Result<ClientConfig, ClientError> {
        let tls = |error: &dyn fmt::Display| ClientError::Tls(error.to_string());
        let builder = outrigger_tls::client().map_err(|error| tls(&error))?;
        let builder = if self.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(AnyCertificate::verifier())
        } else {
            builder.with_root_certificates(self.root_store()?)
        };
        let Some(identity) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = CertificateDer::pem_slice_iter(&identity.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| tls(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| tls(&error))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| tls(&error))
    }

    fn root_store(&self) -> Result<RootCertStore, ClientError> {
        let Some(pem) = &self.roots else {
            return Ok(system_roots());
        };
        let mut store = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
        if store.add_parsable_certificates(certificates).0 == 0 {
            return Err(ClientError::Tls(
                "there is no certificate among the roots".to_owned(),
            ));
        }
        Ok(store)
    }
}

/// A configuration for connections in the clear, without roots.
pub(crate) fn no_roots() -> Result<ClientConfig, ClientError> {
    Ok(outrigger_tls::client()
        .map_err(|error| ClientError::Tls(error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}
