//! `Component`.

use outrigger_types::duration::GoDuration;

use super::{Auth, NameValue, ObjectMeta, Resource, name_value::suspect_repeats};
use crate::{
    decode::{Decoder, decode_fields, exact_texts},
    yaml::Node,
};

/// How long a component may take to initialise when its file does not say (upstream `components.go`).
pub const DEFAULT_INIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A component: a building block's backend with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Component {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// Type and settings.
    pub spec: ComponentSpec,
    /// Where its secrets come from.
    pub auth: Auth,
    /// The apps that may use it; empty means all.
    pub scopes: Vec<String>,
}

decode_fields!(Component {
    "metadata" => meta,
    "spec" => spec,
    "auth" => auth,
    "scopes" => scopes via exact_texts,
} ignoring &["apiVersion", "kind"]);

/// Type and settings of a component.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComponentSpec {
    /// The type, such as `state.redis`; its first part is the building block.
    pub r#type: String,
    /// The version, such as `v1`; empty and `v0` mean the first.
    pub version: String,
    /// Whether the sidecar goes on when it fails to initialise.
    pub ignore_errors: bool,
    /// The settings.
    pub metadata: Vec<NameValue>,
    /// How long it may take to initialise, a Go duration; see [`Component::init_timeout`].
    pub init_timeout: String,
}

decode_fields!(ComponentSpec {
    "type" => r#type,
    "version" => version,
    "ignoreErrors" => ignore_errors,
    "metadata" => metadata via decode_metadata,
    "initTimeout" => init_timeout via decode_init_timeout,
});

fn decode_metadata(place: &mut Vec<NameValue>, node: &Node, decoder: &mut Decoder) {
    crate::decode::Decode::decode(place, node, decoder);
    suspect_repeats(place, node, decoder);
}

fn decode_init_timeout(place: &mut String, node: &Node, decoder: &mut Decoder) {
    crate::decode::Decode::decode(place, node, decoder);
    let usable = GoDuration::parse(place).is_ok_and(|timeout| !timeout.is_negative() && !timeout.is_zero());
    if !place.is_empty() && !usable {
        decoder.suspect(
            node.at,
            format!("{place:?} is no duration above zero, so 5s is used"),
            "write for instance 30s",
        );
    }
}

impl Component {
    /// How long it may take to initialise: what its file says, or 5 s when that is nothing, broken or not above
    /// zero.
    #[must_use]
    pub fn init_timeout(&self) -> std::time::Duration {
        GoDuration::parse(&self.spec.init_timeout)
            .ok()
            .and_then(GoDuration::to_std)
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(DEFAULT_INIT_TIMEOUT)
    }

    /// The building block it belongs to: its type up to the first dot.
    #[must_use]
    pub fn category(&self) -> &str {
        self.spec
            .r#type
            .split_once('.')
            .map_or(&self.spec.r#type, |(category, _)| category)
    }
}

impl Resource for Component {
    const KIND: &'static str = "Component";
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
        component_log_name(&self.meta.name, &self.spec.r#type, &self.spec.version)
    }
    fn secret_store(&self) -> &str {
        &self.auth.secret_store
    }
    fn name_values(&self) -> &[NameValue] {
        &self.spec.metadata
    }
    fn name_values_mut(&mut self) -> &mut [NameValue] {
        &mut self.spec.metadata
    }
    fn is_builtin(&self) -> bool {
        self.meta.name == "kubernetes" && self.spec.r#type == "secretstores.kubernetes"
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name
            && self.spec == other.spec
            && self.auth == other.auth
            && self.scopes == other.scopes
    }
}

/// How logs name a component: `name (type/version)`, without the slash when it has no version (upstream
/// `utils.ComponentLogName`).
#[must_use]
pub fn component_log_name(name: &str, r#type: &str, version: &str) -> String {
    let slash = if version.is_empty() { "" } else { "/" };
    format!("{name} ({type}{slash}{version})")
}
