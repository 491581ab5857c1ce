//! Whom a client trusts and what it shows.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

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

/// The roots that the system trusts; what cannot be read is left out.
#[must_use]
pub fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "a system root was skipped");
    }
    store.add_parsable_certificates(native.certs);
    store
}

impl TlsOptions {
    /// The configuration for rustls. Reading the system's roots takes time and memory: call it when TLS is needed.
    ///
    /// # Errors
    /// When PEM cannot be read or certificate and key do not fit.
    pub fn config(&self) -> Result<ClientConfig, ClientError> {
        let tls = |error: &dyn fmt::Display| ClientError::Tls(error.to_string());
        // The provider is named here so that nobody depends on a process-wide default.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(&error))?;
        let builder = if self.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Believe(provider)))
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
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Tls(error.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// Believes any certificate; the handshake's signature still has to be good.
#[derive(Debug)]
struct Believe(Arc<CryptoProvider>);

impl ServerCertVerifier for Believe {
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
        rustls::crypto::verify_tls12_signature(
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
        rustls::crypto::verify_tls13_signature(
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
