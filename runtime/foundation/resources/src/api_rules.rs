//! Which of Dapr's APIs a sidecar serves: `spec.api` of the Configuration (wire.md §14).

use std::collections::BTreeSet;

use crate::decode::decode_fields;

/// Allowed and denied APIs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiSpec {
    /// When not empty, only these.
    pub allowed: Vec<ApiRule>,
    /// Not these.
    pub denied: Vec<ApiRule>,
}

decode_fields!(ApiSpec { "allowed" => allowed, "denied" => denied });

/// One API of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiRule {
    /// The group, such as `state`, or for HTTP the beginning of a route.
    pub name: String,
    /// `v1`, `v1alpha1` …, or for HTTP the version of a path, such as `v1.0`.
    pub version: String,
    /// `http` or `grpc`.
    pub protocol: String,
}

decode_fields!(ApiRule { "name" => name, "version" => version, "protocol" => protocol });

/// The rules of the HTTP API, ready to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpApiRules {
    allowed: BTreeSet<String>,
    denied: BTreeSet<String>,
}

impl HttpApiRules {
    /// The HTTP rules of a configuration; the protocol counts in any case.
    #[must_use]
    pub fn new(spec: &ApiSpec) -> Self {
        let keys = |rules: &[ApiRule]| {
            rules
                .iter()
                .filter(|rule| rule.protocol.eq_ignore_ascii_case("http"))
                .map(|rule| format!("{}/{}", rule.version, rule.name))
                .collect()
        };
        Self {
            allowed: keys(&spec.allowed),
            denied: keys(&spec.denied),
        }
    }

    /// Whether a route is served. `group` is its group with the group's version, such as `("state", "v1")`;
    /// `version` and `route` are those of the path, such as `v1.0` and `state/{storeName}`. Routes that are
    /// always served (health) are not asked about.
    #[must_use]
    pub fn allows(&self, group: Option<(&str, &str)>, version: &str, route: &str) -> bool {
        let path = format!("{version}/{route}");
        let matches = |rules: &BTreeSet<String>| {
            group.is_some_and(|(name, version)| rules.contains(&format!("{version}/{name}")))
                || rules.iter().any(|rule| path.starts_with(rule.as_str()))
        };
        !matches(&self.denied) && (self.allowed.is_empty() || matches(&self.allowed))
    }
}

/// The rules of the gRPC API, ready to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrpcApiRules {
    allowed: BTreeSet<String>,
    denied: BTreeSet<String>,
}

impl GrpcApiRules {
    /// The gRPC rules of a configuration, protocol exactly `grpc`. `methods` are the full method names of a group
    /// such as `state.v1`; rules for groups it does not know count for nothing, not even as an allow list.
    pub fn new<'a>(spec: &ApiSpec, methods: impl Fn(&str) -> &'a [&'a str]) -> Self {
        let set = |rules: &[ApiRule]| {
            rules
                .iter()
                .filter(|rule| rule.protocol == "grpc")
                .flat_map(|rule| methods(&format!("{}.{}", rule.name, rule.version)))
                .map(|method| (*method).to_owned())
                .collect()
        };
        Self {
            allowed: set(&spec.allowed),
            denied: set(&spec.denied),
        }
    }

    /// Whether there are no rules, so that nothing needs to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }

    /// Whether a method such as `/dapr.proto.runtime.v1.Dapr/GetState` is served. Only methods of
    /// `dapr.proto.runtime.*` are subject to rules.
    #[must_use]
    pub fn allows(&self, full_method: &str) -> bool {
        !full_method.starts_with("/dapr.proto.runtime.")
            || (!self.denied.contains(full_method)
                && (self.allowed.is_empty() || self.allowed.contains(full_method)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, version: &str, protocol: &str) -> ApiRule {
        ApiRule {
            name: name.to_owned(),
            version: version.to_owned(),
            protocol: protocol.to_owned(),
        }
    }

    #[test]
    fn http_rules_match_groups_and_path_prefixes() {
        let state = Some(("state", "v1"));
        let allow = |rules: Vec<ApiRule>| {
            HttpApiRules::new(&ApiSpec {
                allowed: rules,
                denied: Vec::new(),
            })
        };
        let deny = |rules: Vec<ApiRule>| {
            HttpApiRules::new(&ApiSpec {
                allowed: Vec::new(),
                denied: rules,
            })
        };
        assert!(allow(vec![]).allows(state, "v1.0", "state/{storeName}"));
        assert!(allow(vec![rule("state", "v1", "HTTP")]).allows(state, "v1.0", "state/{storeName}"));
        assert!(allow(vec![rule("state", "v1.0", "http")]).allows(state, "v1.0", "state/{storeName}"));
        assert!(!allow(vec![rule("publish", "v1", "http")]).allows(state, "v1.0", "state/{storeName}"));
        assert!(
            allow(vec![rule("publish", "v1", "grpc")]).allows(state, "v1.0", "state/x"),
            "other protocol"
        );
        assert!(!deny(vec![rule("state/x", "v1.0", "http")]).allows(None, "v1.0", "state/x/y"));
        let both = HttpApiRules::new(&ApiSpec {
            allowed: vec![rule("state", "v1", "http")],
            denied: vec![rule("state", "v1", "http")],
        });
        assert!(!both.allows(state, "v1.0", "state/x"), "deny goes first");
    }

    #[test]
    fn grpc_rules_match_methods_of_groups() {
        const GET: &str = "/dapr.proto.runtime.v1.Dapr/GetState";
        const PUBLISH: &str = "/dapr.proto.runtime.v1.Dapr/PublishEvent";
        let methods = |group: &str| match group {
            "state.v1" => &[GET][..],
            _ => &[],
        };
        let rules = GrpcApiRules::new(
            &ApiSpec {
                allowed: vec![rule("state", "v1", "grpc")],
                denied: vec![],
            },
            methods,
        );
        assert!(rules.allows(GET) && !rules.allows(PUBLISH) && rules.allows("/my.Service/Call"));
        let none = GrpcApiRules::new(
            &ApiSpec {
                allowed: vec![rule("state", "v1", "GRPC"), rule("nope", "v1", "grpc")],
                denied: vec![],
            },
            methods,
        );
        assert!(none.is_empty() && none.allows(PUBLISH));
        let denied = GrpcApiRules::new(
            &ApiSpec {
                allowed: vec![],
                denied: vec![rule("state", "v1", "grpc")],
            },
            methods,
        );
        assert!(!denied.allows(GET) && denied.allows(PUBLISH));
    }
}
