//! TLS towards the servers, as the client library wants it.

use redis::{ClientTlsConfig, ConnectionAddr, TlsCertificates, TlsMode};

use crate::settings::Tls;

/// The address of a server; the certificates come separately.
pub(crate) fn address(host: &str, port: u16, tls: Option<&Tls>) -> ConnectionAddr {
    match tls {
        None => ConnectionAddr::Tcp(host.to_owned(), port),
        Some(tls) => ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: tls.insecure,
            tls_params: None,
        },
    }
}

/// Secure or not, for the clients that build addresses themselves.
pub(crate) fn mode(tls: &Tls) -> TlsMode {
    if tls.insecure {
        TlsMode::Insecure
    } else {
        TlsMode::Secure
    }
}

/// The client's own certificate; servers are checked against the host's trust store.
pub(crate) fn certificates(tls: &Tls) -> TlsCertificates {
    TlsCertificates {
        client_tls: tls.client.as_ref().map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.clone().into_bytes(),
            client_key: key.expose().as_bytes().to_vec(),
        }),
        root_cert: None,
    }
}
