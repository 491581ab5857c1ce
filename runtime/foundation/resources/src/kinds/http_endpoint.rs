//! `HTTPEndpoint`.

use super::{Auth, DynamicValue, NameValue, ObjectMeta, Resource, SecretKeyRef};
use crate::decode::{decode_fields, exact_texts};

/// A named address outside Dapr that can be invoked like an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpEndpoint {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// Address, headers and TLS.
    pub spec: HttpEndpointSpec,
    /// Where its secrets come from.
    pub auth: Auth,
    /// The apps that may use it; empty means all.
    pub scopes: Vec<String>,
}

decode_fields!(HttpEndpoint {
    "metadata" => meta,
    "spec" => spec,
    "auth" => auth,
    "scopes" => scopes via exact_texts,
} ignoring &["apiVersion", "kind"]);

/// Address, headers and TLS of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpEndpointSpec {
    /// The address, scheme included.
    pub base_url: String,
    /// Headers added to every request.
    pub headers: Vec<NameValue>,
    /// TLS towards the endpoint.
    pub client_tls: Option<Tls>,
}

decode_fields!(HttpEndpointSpec { "baseUrl" => base_url, "headers" => headers, "clientTLS" => client_tls });

/// TLS towards an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Trusted roots, PEM.
    pub root_ca: Option<TlsDocument>,
    /// The client certificate, PEM.
    pub certificate: Option<TlsDocument>,
    /// Its key, PEM.
    pub private_key: Option<TlsDocument>,
    /// `Never`, `OnceAsClient` or `FreelyAsClient`.
    pub renegotiation: Option<String>,
}

decode_fields!(Tls {
    "rootCA" => root_ca,
    "certificate" => certificate,
    "privateKey" => private_key,
    "renegotiation" => renegotiation,
});

/// A PEM document, given or in a secret store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsDocument {
    /// The document.
    pub value: Option<DynamicValue>,
    /// Where it is.
    pub secret_key_ref: Option<SecretKeyRef>,
}

decode_fields!(TlsDocument { "value" => value, "secretKeyRef" => secret_key_ref });

impl TlsDocument {
    /// The secret it refers to, when it names one.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretKeyRef> {
        self.secret_key_ref
            .as_ref()
            .filter(|secret| !secret.name.is_empty())
    }
}

impl Resource for HttpEndpoint {
    const KIND: &'static str = "HTTPEndpoint";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn log_name(&self) -> String {
        format!("{} ({})", self.meta.name, self.spec.base_url)
    }
    fn secret_store(&self) -> &str {
        &self.auth.secret_store
    }
    fn name_values(&self) -> &[NameValue] {
        &self.spec.headers
    }
    fn name_values_mut(&mut self) -> &mut [NameValue] {
        &mut self.spec.headers
    }
    fn tls_documents_mut(&mut self) -> Vec<&mut TlsDocument> {
        let Some(tls) = &mut self.spec.client_tls else {
            return Vec::new();
        };
        [&mut tls.root_ca, &mut tls.certificate, &mut tls.private_key]
            .into_iter()
            .flatten()
            .collect()
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name
            && self.spec == other.spec
            && self.auth == other.auth
            && self.scopes == other.scopes
    }
}
