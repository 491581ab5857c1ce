//! Who may invoke which operation of the app: `spec.accessControl` of the Configuration as a pure engine
//! (wire.md §14; upstream `pkg/acl`, `pkg/config/acl_trie.go`).

mod trie;

use std::collections::HashMap;

use crate::decode::decode_fields;
use trie::Trie;

/// The policies as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessControlSpec {
    /// What happens without a matching policy: `allow` or `deny`; empty for deny, unless the list of policies is
    /// there and empty.
    pub default_action: String,
    /// The app's own trust domain; empty for `public`.
    pub trust_domain: String,
    /// One policy per caller; `None` when not mentioned.
    pub policies: Option<Vec<AppPolicySpec>>,
}

decode_fields!(AccessControlSpec {
    "defaultAction" => default_action,
    "trustDomain" => trust_domain,
    "policies" => policies,
});

/// What one caller may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppPolicySpec {
    /// The caller's app id.
    pub app_id: String,
    /// What happens without a matching operation; empty for the global default.
    pub default_action: String,
    /// The caller's trust domain.
    pub trust_domain: String,
    /// The caller's namespace.
    pub namespace: String,
    /// The operations.
    pub operations: Vec<AppOperation>,
}

decode_fields!(AppPolicySpec {
    "appId" => app_id,
    "defaultAction" => default_action,
    "trustDomain" => trust_domain,
    "namespace" => namespace,
    "operations" => operations,
});

/// An operation and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppOperation {
    /// Its path, with `*` for a run of characters, `/*` for one segment and `/**` for any number.
    pub name: String,
    /// HTTP verbs in upper case, `*` for all.
    pub http_verbs: Vec<String>,
    /// `allow`; anything else denies.
    pub action: String,
}

decode_fields!(AppOperation { "name" => name, "httpVerb" => http_verbs, "action" => action });

/// Policies that lack what they are matched by; fatal at start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid access control spec. missing trustdomain for apps: [{}], missing namespace for apps: [{}], missing app name on at least one of the app policies: {missing_app_id}",
    missing_trust_domain.join(" "), missing_namespace.join(" ")
)]
pub struct InvalidAccessControl {
    /// App ids of policies without trust domain.
    pub missing_trust_domain: Vec<String>,
    /// App ids of policies without namespace.
    pub missing_namespace: Vec<String>,
    /// Whether a policy has no app id.
    pub missing_app_id: bool,
}

/// Who calls, from the caller's SPIFFE id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The trust domain.
    pub trust_domain: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The app id.
    pub app_id: &'a str,
}

/// Whose default or rule decided, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyScope {
    /// The caller's policy.
    App,
    /// The list as a whole.
    Global,
}

impl PolicyScope {
    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Global => "global",
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the call may go on.
    pub allowed: bool,
    /// Whose default or rule decided.
    pub scope: PolicyScope,
}

/// The policies, ready to ask.
#[derive(Debug, Clone)]
pub struct AccessControlList {
    default_action: String,
    trust_domain: String,
    /// Whether the app speaks HTTP: names in any case and verbs count.
    http: bool,
    /// By app id, then namespace.
    policies: HashMap<String, HashMap<String, Policy>>,
}

#[derive(Debug, Clone)]
struct Policy {
    default_action: String,
    trust_domain: String,
    operations: Trie<Operation>,
}

#[derive(Debug, Clone)]
struct Operation {
    verbs: HashMap<String, String>,
    action: String,
}

fn is_allow(action: &str) -> bool {
    action.eq_ignore_ascii_case("allow")
}

impl AccessControlList {
    /// Compiles the policies for an app that speaks HTTP or gRPC; `None` when nothing is said, which allows all.
    ///
    /// # Errors
    /// When a policy lacks app id, trust domain or namespace.
    pub fn new(spec: &AccessControlSpec, http: bool) -> Result<Option<Self>, InvalidAccessControl> {
        let listed = spec.policies.as_deref().unwrap_or_default();
        if spec.trust_domain.is_empty() && spec.default_action.is_empty() && listed.is_empty() {
            return Ok(None);
        }
        let mut invalid = InvalidAccessControl {
            missing_trust_domain: Vec::new(),
            missing_namespace: Vec::new(),
            missing_app_id: false,
        };
        let mut policies: HashMap<String, HashMap<String, Policy>> = HashMap::new();
        for policy in listed {
            invalid.missing_app_id |= policy.app_id.is_empty();
            if policy.trust_domain.is_empty() {
                invalid.missing_trust_domain.push(policy.app_id.clone());
            }
            if policy.namespace.is_empty() {
                invalid.missing_namespace.push(policy.app_id.clone());
            }
            let mut operations = Trie::default();
            for operation in &policy.operations {
                let verbs = operation
                    .http_verbs
                    .iter()
                    .map(|verb| (verb.clone(), operation.action.clone()))
                    .collect();
                let compiled = Operation {
                    verbs,
                    action: operation.action.clone(),
                };
                operations.insert(&normalised(&operation.name, http), compiled);
            }
            let compiled = Policy {
                default_action: policy.default_action.clone(),
                trust_domain: policy.trust_domain.clone(),
                operations,
            };
            policies
                .entry(policy.app_id.clone())
                .or_default()
                .insert(policy.namespace.clone(), compiled);
        }
        if invalid.missing_app_id
            || !invalid.missing_trust_domain.is_empty()
            || !invalid.missing_namespace.is_empty()
        {
            return Err(invalid);
        }
        let default_action = match (spec.default_action.as_str(), &spec.policies) {
            ("", Some(policies)) if policies.is_empty() => "allow".to_owned(),
            ("", _) => "deny".to_owned(),
            (action, _) => action.to_ascii_lowercase(),
        };
        let trust_domain = if spec.trust_domain.is_empty() {
            "public".to_owned()
        } else {
            spec.trust_domain.clone()
        };
        Ok(Some(Self {
            default_action,
            trust_domain,
            http,
            policies,
        }))
    }

    /// The app's own trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Decides on a call. `caller` is `None` when the connection carries no SPIFFE id (a malformed one is denied
    /// before asking). `operation` is the method's path for HTTP, the full method for gRPC; `verb` the HTTP verb
    /// in upper case, `None` when the call has none.
    #[must_use]
    pub fn decide(&self, caller: Option<Caller<'_>>, operation: &str, verb: Option<&str>) -> Decision {
        let global = Decision {
            allowed: is_allow(&self.default_action),
            scope: PolicyScope::Global,
        };
        let Some(caller) = caller else { return global };
        let policy = self
            .policies
            .get(caller.app_id)
            .and_then(|by_namespace| by_namespace.get(caller.namespace));
        let Some(policy) = policy.filter(|policy| policy.trust_domain == caller.trust_domain) else {
            return global;
        };
        let mut scope = PolicyScope::Global;
        let mut action = &self.default_action;
        if !policy.default_action.is_empty() {
            action = &policy.default_action;
            scope = PolicyScope::App;
        }
        if let Some(found) = policy.operations.find(&normalised(operation, self.http)) {
            action = match verb {
                _ if !self.http => &found.action,
                Some(verb) => found
                    .verbs
                    .get(verb)
                    .or_else(|| found.verbs.get("*"))
                    .unwrap_or(action),
                None => &policy.default_action,
            };
        }
        Decision {
            allowed: is_allow(action),
            scope,
        }
    }
}

fn normalised(operation: &str, http: bool) -> String {
    let slash = if operation.starts_with('/') { "" } else { "/" };
    let operation = format!("{slash}{operation}");
    if http { operation.to_lowercase() } else { operation }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str, verbs: &[&str], action: &str) -> AppOperation {
        AppOperation {
            name: name.to_owned(),
            http_verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            action: action.to_owned(),
        }
    }

    fn spec(default: &str, app_default: &str, operations: Vec<AppOperation>) -> AccessControlSpec {
        AccessControlSpec {
            default_action: default.to_owned(),
            trust_domain: "public".to_owned(),
            policies: Some(vec![AppPolicySpec {
                app_id: "app1".to_owned(),
                default_action: app_default.to_owned(),
                trust_domain: "public".to_owned(),
                namespace: "ns1".to_owned(),
                operations,
            }]),
        }
    }

    const APP1: Caller<'_> = Caller {
        trust_domain: "public",
        namespace: "ns1",
        app_id: "app1",
    };

    #[test]
    fn nothing_said_is_no_list() {
        assert!(
            AccessControlList::new(&AccessControlSpec::default(), true)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn default_action_follows_from_what_is_said() {
        let decide = |spec: &AccessControlSpec| {
            AccessControlList::new(spec, true)
                .unwrap()
                .unwrap()
                .decide(None, "/x", Some("GET"))
                .allowed
        };
        assert!(decide(&spec("ALLOW", "", vec![])));
        assert!(!decide(&spec("deny", "", vec![])));
        assert!(!decide(&spec("", "", vec![])));
        let mut only_trust_domain = AccessControlSpec {
            trust_domain: "public".to_owned(),
            ..AccessControlSpec::default()
        };
        assert!(!decide(&only_trust_domain));
        only_trust_domain.policies = Some(Vec::new());
        assert!(decide(&only_trust_domain));
    }

    #[test]
    fn incomplete_policies_are_refused_with_upstreams_text() {
        let mut bad = spec("allow", "", vec![]);
        let policies = bad.policies.as_mut().unwrap();
        policies[0].trust_domain.clear();
        policies.push(AppPolicySpec::default());
        assert_eq!(
            AccessControlList::new(&bad, true).unwrap_err().to_string(),
            "invalid access control spec. missing trustdomain for apps: [app1 ], missing namespace for apps: [], \
             missing app name on at least one of the app policies: true"
        );
    }

    #[test]
    fn only_the_exact_caller_meets_its_policy() {
        let list = AccessControlList::new(&spec("deny", "allow", vec![]), true)
            .unwrap()
            .unwrap();
        for (caller, allowed, scope) in [
            (APP1, true, PolicyScope::App),
            (
                Caller {
                    trust_domain: "other",
                    ..APP1
                },
                false,
                PolicyScope::Global,
            ),
            (
                Caller {
                    namespace: "ns2",
                    ..APP1
                },
                false,
                PolicyScope::Global,
            ),
            (
                Caller {
                    app_id: "app2",
                    ..APP1
                },
                false,
                PolicyScope::Global,
            ),
        ] {
            assert_eq!(
                list.decide(Some(caller), "op", Some("GET")),
                Decision { allowed, scope },
                "{caller:?}"
            );
        }
    }

    #[test]
    fn http_operations_and_verbs() {
        let operations = vec![
            operation("/Op1", &["POST", "PUT"], "allow"),
            operation("op2/*", &["*"], "Allow"),
            operation("/op3/**", &["*"], "allow"),
            operation("/op4/*/end", &["GET"], "allow"),
            operation("/op5", &[], "allow"),
            operation("/op6*", &["*"], "allow"),
            operation("/op1", &["*"], "allow"),
        ];
        let list = AccessControlList::new(&spec("allow", "deny", operations), true)
            .unwrap()
            .unwrap();
        for (name, verb, allowed) in [
            ("/op1", Some("POST"), true),
            ("op1", Some("PUT"), true),
            ("/OP1", Some("POST"), true),
            ("/op1", Some("GET"), false), // the first of two equal names counts, and it has no such verb
            ("/op1", None, false),
            ("/op1/sub", Some("POST"), true), // a name with data ends the search
            ("/op2", Some("GET"), true),
            ("/op2/a", Some("GET"), true),
            ("/op2/a/b", Some("GET"), false),
            ("/op3/a/b/c", Some("DELETE"), true),
            ("/op4/x/end", Some("GET"), false), // a single wildcard in the middle never matches
            ("/op5", Some("GET"), false),
            ("/op6xyz", Some("GET"), true),
            ("/none", Some("GET"), false),
        ] {
            assert_eq!(
                list.decide(Some(APP1), name, verb).allowed,
                allowed,
                "{name} {verb:?}"
            );
        }
    }

    #[test]
    fn grpc_operations_keep_case_and_ignore_verbs() {
        let operations = vec![operation("/pkg.Service/Method", &["POST"], "allow")];
        let list = AccessControlList::new(&spec("deny", "", operations), false)
            .unwrap()
            .unwrap();
        assert!(list.decide(Some(APP1), "/pkg.Service/Method", None).allowed);
        assert!(list.decide(Some(APP1), "pkg.Service/Method", Some("GET")).allowed);
        assert!(!list.decide(Some(APP1), "/pkg.Service/method", None).allowed);
    }
}
