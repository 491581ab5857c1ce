//! What every resource has: metadata, a kind, scopes, a way to be compared.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::{
    decode::{Decode, decode_fields},
    kinds::{NameValue, TlsDocument},
};

/// The part of Kubernetes' object metadata that Dapr reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectMeta {
    /// The name.
    pub name: String,
    /// The namespace; empty when the file names none.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The identity Kubernetes gave it; empty on disk.
    pub uid: String,
    /// The version Kubernetes gave it; empty on disk.
    pub resource_version: String,
    /// The generation Kubernetes counts; 0 on disk.
    pub generation: i64,
    /// Where it was read; `None` for what did not come from a file.
    pub origin: Option<Origin>,
}

/// A place in a resource file, for errors that show only when a resource is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Line in the file from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

decode_fields!(ObjectMeta {
    "name" => name,
    "namespace" => namespace,
    "labels" => labels,
    "annotations" => annotations,
    "uid" => uid,
    "resourceVersion" => resource_version,
    "generation" => generation,
} ignoring &[
    "generateName", "selfLink", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "ownerReferences", "finalizers", "managedFields",
]);

/// Which secret store resolves the references of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// The store's component name; empty means the mode's default (`kubernetes` there, none on disk).
    pub secret_store: String,
}

decode_fields!(Auth { "secretStore" => secret_store });

/// A kind of resource. `==` on a resource compares all of it; [`Resource::same_spec`] what hot reload compares.
#[allow(
    private_bounds,
    reason = "decoding is this crate's business; the bound only seals the trait"
)]
pub trait Resource: Decode + Default + Clone + PartialEq + Send + Sync + 'static {
    /// The kind as written in `kind:`.
    const KIND: &'static str;
    /// The apiVersion(s) it is written with; the first is the current one.
    const API_VERSIONS: &'static [&'static str];

    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to fill in.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// The apps that may see it; empty means all.
    fn scopes(&self) -> &[String];

    /// How logs and errors name it; components add type and version.
    fn log_name(&self) -> String {
        self.meta().name.clone()
    }
    /// The secret store its references name; empty for the default.
    fn secret_store(&self) -> &str {
        ""
    }
    /// Its values that may refer to secrets and environment variables.
    fn name_values(&self) -> &[NameValue] {
        &[]
    }
    /// The same, to fill in what they refer to.
    fn name_values_mut(&mut self) -> &mut [NameValue] {
        &mut []
    }
    /// Whether the sidecar brings it along itself, so that no file or stream may delete it.
    fn is_builtin(&self) -> bool {
        false
    }
    /// Its TLS documents that may refer to secrets.
    fn tls_documents_mut(&mut self) -> Vec<&mut TlsDocument> {
        Vec::new()
    }
    /// Whether two resources differ in nothing but Kubernetes' bookkeeping (upstream `differ.AreSame`).
    fn same_spec(&self, other: &Self) -> bool;

    /// The name.
    fn name(&self) -> &str {
        &self.meta().name
    }
    /// Whether an app may see it.
    fn in_scope(&self, app_id: &str) -> bool {
        crate::scopes::in_scope(self.scopes(), app_id)
    }
    /// Whether it is for an app of a namespace (the variable `NAMESPACE`, possibly unset); resources without a
    /// namespace are for all. Upstream's `authorizer` asks this of what the operator streams and reloads bring.
    fn is_for(&self, app_id: &str, namespace: Option<&str>) -> bool {
        let own = &self.meta().namespace;
        let foreign =
            namespace.is_some_and(|namespace| !namespace.is_empty() && !own.is_empty() && own != namespace);
        !foreign && self.in_scope(app_id)
    }
}
