//! Whom a connection trusts, by libpq's `sslmode`.

use std::{path::Path, sync::Arc};

use outrigger_component::Error;
use outrigger_tls::{AnyCertificate, system_roots};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::conninfo::Keywords;

/// How much of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: encryption only (`allow`, `prefer`, `require` without a root certificate).
    Anyone,
    /// The chain, not the name (`verify-ca`, `require` with a root certificate).
    Chain,
    /// The chain and the name (`verify-full`).
    Full,
}

/// Builds the client side of TLS; reads the certificate files, relative ones from `base_dir`.
///
/// # Errors
/// A configuration error that names the keyword.
pub(super) async fn config(
    keywords: &Keywords,
    trust: Trust,
    base_dir: &Path,
) -> Result<Arc<ClientConfig>, Error> {
    let failed = |error: rustls::Error| Error::configuration("failed to configure TLS").with_source(error);
    let builder = outrigger_tls::client().map_err(failed)?;
    let builder = match trust {
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(AnyCertificate::verifier()),
        Trust::Chain => {
            let roots = roots(keywords, base_dir).await?;
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), outrigger_tls::provider())
                    .build()
                    .map_err(|error| Error::configuration("failed to configure TLS").with_source(error))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAnyName(inner)))
        }
        Trust::Full => builder.with_root_certificates(roots(keywords, base_dir).await?),
    };
    let value = |name: &str| keywords.get(name).filter(|value| !value.is_empty());
    let mut config = match (value("sslcert"), value("sslkey")) {
        (Some(certificate), Some(key)) => {
            let certificate = pem("sslcert", certificate, base_dir).await?;
            let key = pem("sslkey", key, base_dir).await?;
            let unreadable =
                |error| Error::configuration("unable to read the client certificate").with_source(error);
            let chain = CertificateDer::pem_slice_iter(&certificate)
                .collect::<Result<Vec<_>, _>>()
                .map_err(unreadable)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(unreadable)?;
            builder.with_client_auth_cert(chain, key).map_err(failed)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(Error::configuration(
                r#"both "sslcert" and "sslkey" are required"#,
            ));
        }
    };
    config.enable_sni = value("sslsni").is_none_or(|value| value != "0");
    if value("sslnegotiation").is_some_and(|value| value == "direct") {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Arc::new(config))
}

async fn roots(keywords: &Keywords, base_dir: &Path) -> Result<RootCertStore, Error> {
    match keywords.get("sslrootcert").map(String::as_str) {
        None | Some("" | "system") => Ok(system_roots()),
        Some(value) => {
            let mut store = RootCertStore::empty();
            let pem = pem("sslrootcert", value, base_dir).await?;
            let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
            if store.add_parsable_certificates(certificates).0 == 0 {
                return Err(Error::configuration("unable to add CA to cert pool"));
            }
            Ok(store)
        }
    }
}

/// A value that is PEM, or the content of the file that it names.
async fn pem(name: &str, value: &str, base_dir: &Path) -> Result<Vec<u8>, Error> {
    if value.contains("-----BEGIN ") {
        return Ok(value.as_bytes().to_vec());
    }
    tokio::fs::read(base_dir.join(value))
        .await
        .map_err(|error| Error::configuration(format!("unable to read {name}")).with_source(error))
}

/// The chain is checked, the name is not.
#[derive(Debug)]
struct AcceptAnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AcceptAnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is the last thing that is looked at, after the chain.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
