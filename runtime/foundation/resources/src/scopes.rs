//! Who may use what: apps of a resource, secrets of a store, topics of a pub/sub component.

use std::collections::BTreeSet;

use crate::decode::decode_fields;

/// Whether a resource with these scopes is for an app; no scopes means all apps.
#[must_use]
pub fn in_scope(scopes: &[String], app_id: &str) -> bool {
    scopes.is_empty() || scopes.iter().any(|scope| scope == app_id)
}

/// Which secrets of a store the app may read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretScope {
    /// The store.
    pub store_name: String,
    /// `allow` or `deny` in any case; empty for allow.
    pub default_access: String,
    /// When not empty, only these.
    pub allowed_secrets: Vec<String>,
    /// Not these.
    pub denied_secrets: Vec<String>,
}

decode_fields!(SecretScope {
    "storeName" => store_name,
    "defaultAccess" => default_access,
    "allowedSecrets" => allowed_secrets,
    "deniedSecrets" => denied_secrets,
});

impl SecretScope {
    /// Whether the app may read a secret: the allowed list decides alone when there is one, then the denied
    /// list, then the default.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|listed| listed == name);
        if !self.allowed_secrets.is_empty() {
            return listed(&self.allowed_secrets);
        }
        !listed(&self.denied_secrets) && !self.default_access.eq_ignore_ascii_case("deny")
    }
}

/// Which topics of a pub/sub component an app may use (wire.md §6).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicScopes {
    /// Topics anybody may use; empty for all.
    allowed: BTreeSet<String>,
    /// Topics that need an entry in the app's scope.
    protected: BTreeSet<String>,
    /// The app's topics to publish to; empty when it has no scope.
    publishing: BTreeSet<String>,
    /// The app's topics to subscribe to; empty when it has no scope.
    subscription: BTreeSet<String>,
}

impl TopicScopes {
    /// Reads `publishingScopes`, `subscriptionScopes`, `allowedTopics` and `protectedTopics` from a component's
    /// settings, names in any case.
    pub fn new<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>, app_id: &str) -> Self {
        let mut scopes = Self::default();
        for (name, value) in properties {
            let value = value.replace(' ', "");
            if value.is_empty() {
                continue;
            }
            match name.to_ascii_lowercase().as_str() {
                "publishingscopes" => scopes.publishing = app_topics(&value, app_id),
                "subscriptionscopes" => scopes.subscription = app_topics(&value, app_id),
                "allowedtopics" => scopes.allowed = topics(&value),
                "protectedtopics" => scopes.protected = topics(&value),
                _ => {}
            }
        }
        scopes
    }

    /// Whether the app may publish to a topic.
    #[must_use]
    pub fn may_publish(&self, topic: &str) -> bool {
        self.allows(topic, &self.publishing)
    }

    /// Whether the app may subscribe to a topic.
    #[must_use]
    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.allows(topic, &self.subscription)
    }

    fn allows(&self, topic: &str, scope: &BTreeSet<String>) -> bool {
        if !self.allowed.is_empty() && !self.allowed.contains(topic) {
            return false;
        }
        if scope.is_empty() && !self.protected.contains(topic) {
            return true;
        }
        scope.contains(topic)
    }
}

fn topics(csv: &str) -> BTreeSet<String> {
    csv.split(',').map(str::to_owned).collect()
}

/// The topics of one app in `app=topic1,topic2;app2=…`. An app with an empty list gets the topic of no name, which
/// makes its scope deny everything.
fn app_topics(scopes: &str, app_id: &str) -> BTreeSet<String> {
    scopes
        .split(';')
        .filter_map(|scope| {
            let mut parts = scope.split('=');
            let app = parts.next()?;
            let list = parts.next()?;
            (app == app_id).then_some(list)
        })
        .flat_map(topics)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_app_is_in_scope_when_listed_or_nothing_is() {
        assert!(in_scope(&[], "a"));
        assert!(in_scope(&texts(&["b", "a"]), "a"));
        assert!(!in_scope(&texts(&["A"]), "a"));
    }

    #[test]
    fn secret_scopes_decide_allowed_then_denied_then_default() {
        for (default, allowed, denied, secret, expected) in [
            ("", &[][..], &[][..], "s", true),
            ("deny", &[], &[], "s", false),
            ("DENY", &[], &[], "s", false),
            ("deny", &["s"], &[], "s", true),
            ("deny", &["s"], &["s"], "s", true),
            ("allow", &["t"], &[], "s", false),
            ("allow", &[], &["s"], "s", false),
            ("allow", &[], &["s"], "t", true),
        ] {
            let scope = SecretScope {
                store_name: "store".to_owned(),
                default_access: default.to_owned(),
                allowed_secrets: texts(allowed),
                denied_secrets: texts(denied),
            };
            assert_eq!(scope.allows(secret), expected, "{scope:?} {secret}");
        }
    }

    #[test]
    fn topic_scopes() {
        let scopes = TopicScopes::new(
            [
                ("PublishingScopes", "a = t1, t2 ; b = ; c"),
                ("subscriptionScopes", "b=t3"),
                ("allowedTopics", "t1,t2,t3,p"),
                ("protectedTopics", "p"),
            ],
            "a",
        );
        assert!(scopes.may_publish("t1") && scopes.may_publish("t2"));
        assert!(!scopes.may_publish("t3"), "a has a scope without it");
        assert!(scopes.may_subscribe("t3"), "a has no subscription scope");
        assert!(!scopes.may_subscribe("p"), "protected");
        assert!(!scopes.may_subscribe("other"), "not among the allowed");

        let denied = TopicScopes::new([("publishingScopes", "a=t1;b=")], "b");
        assert!(!denied.may_publish("t1") && !denied.may_publish("t2") && denied.may_subscribe("t1"));
        assert!(
            TopicScopes::new([("publishingScopes", "a=t1;c")], "c").may_publish("x"),
            "no equals sign, no scope"
        );
    }
}
