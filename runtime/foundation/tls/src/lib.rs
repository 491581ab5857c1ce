//! What every TLS client here begins with.
//!
//! The crypto provider is named in one place, so that nobody depends on a process-wide default; and there is one
//! verifier that takes any certificate ([`AnyCertificate`]), so that one review covers all uses of it.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// The crypto provider of all connections.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The start of a client's configuration: TLS 1.2 and 1.3.
///
/// # Errors
/// When the provider serves neither, which the one here does.
pub fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

/// The roots that the system trusts; what cannot be read is left out. Takes time and memory.
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

/// Takes any certificate, but the server must hold its key: the handshake's signature still has to be good. For what
/// an operator's file asks for by name (`skipVerify`, `sslmode=require`, …) and for the sidecar's own app, as
/// upstream's `InsecureSkipVerify` does.
#[derive(Debug)]
pub struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    /// The verifier.
    #[must_use]
    pub fn verifier() -> Arc<dyn ServerCertVerifier> {
        Arc::new(Self(
            aws_lc_rs::default_provider().signature_verification_algorithms,
        ))
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
