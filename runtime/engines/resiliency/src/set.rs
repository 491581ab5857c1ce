//! All policies of a sidecar, and which of them apply to a target (upstream `pkg/resiliency/resiliency.go`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use outrigger_engine_expr::Compiler;
use outrigger_types::GoDuration;

use crate::{
    breaker::BreakerSettings,
    load::{self, LoadError, Notice},
    matching::StatusMatch,
    retry::{BackOffKind, RetryPolicy},
    spec::{PolicyNames, Resource},
};

/// How many endpoints of an app keep a breaker when the target does not say.
const APP_CACHE: usize = 100;
/// How many actors of a type keep a breaker when the target does not say.
const ACTOR_CACHE: usize = 5000;

/// The retry policies Dapr brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// Calls to other sidecars.
    Service,
    /// Calls to actors.
    Actor,
    /// Delivery of reminders.
    ActorReminder,
    /// Start-up: components, subscriptions.
    Initialization,
    /// Actors whose type has no host yet; cannot be replaced.
    ActorNotFound,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Service,
        Self::Actor,
        Self::ActorReminder,
        Self::Initialization,
        Self::ActorNotFound,
    ];

    /// The reserved name, which a resource may use to replace the policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "DaprBuiltInServiceRetries",
            Self::Actor => "DaprBuiltInActorRetries",
            Self::ActorReminder => "DaprBuiltInActorReminderRetries",
            Self::Initialization => "DaprBuiltInInitializationRetries",
            Self::ActorNotFound => "DaprBuiltInActorNotFoundRetries",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    pub(crate) fn is_protected(name: &str) -> bool {
        name == Self::ActorNotFound.name()
    }

    fn policy(self) -> RetryPolicy {
        match self {
            Self::Service | Self::Actor => RetryPolicy::constant(Duration::from_secs(1), 3),
            Self::ActorNotFound => RetryPolicy::constant(Duration::from_secs(1), 5),
            // Upstream leaves the count of the reminder policy at 0, so it never retries unless replaced.
            Self::ActorReminder => RetryPolicy {
                kind: BackOffKind::exponential(Duration::from_secs(60)),
                max_retries: Some(0),
                matching: StatusMatch::default(),
            },
            Self::Initialization => RetryPolicy {
                kind: BackOffKind::Exponential {
                    initial: Duration::from_millis(500),
                    multiplier: 1.5,
                    randomization: 0.5,
                    max_interval: Duration::from_secs(1),
                    max_elapsed: Duration::from_secs(10),
                },
                max_retries: Some(3),
                matching: StatusMatch::default(),
            },
        }
    }
}

/// The kind of a component, as the names of default policies spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComponentKind {
    /// Bindings.
    Binding,
    /// Configuration stores.
    Configuration,
    /// Conversation.
    Conversation,
    /// Cryptography.
    Crypto,
    /// Locks.
    Lock,
    /// Pub/sub.
    Pubsub,
    /// Secret stores.
    Secretstore,
    /// State stores.
    Statestore,
}

impl ComponentKind {
    /// The spelling in policy names and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binding => "Binding",
            Self::Configuration => "Configuration",
            Self::Conversation => "Conversation",
            Self::Crypto => "Crypto",
            Self::Lock => "Lock",
            Self::Pubsub => "Pubsub",
            Self::Secretstore => "Secretstore",
            Self::Statestore => "Statestore",
        }
    }
}

/// Which way a component call goes, seen from the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the component to the app.
    Inbound,
    /// From the app to the component, or to another app or actor.
    Outbound,
}

impl Direction {
    /// The spelling of metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    const fn in_policy_names(self) -> &'static str {
        match self {
            Self::Inbound => "Inbound",
            Self::Outbound => "Outbound",
        }
    }
}

/// What shares a breaker among actors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ActorScope {
    /// All actors of the type.
    #[default]
    Type,
    /// Each actor has its own.
    Id,
    /// As [`ActorScope::Id`]; upstream reserves it.
    Both,
}

/// The policies that apply to a target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// The limit of one attempt, above zero.
    pub timeout: Option<Duration>,
    /// Retries.
    pub retry: Option<Arc<RetryPolicy>>,
    /// The breaker that instances are made from.
    pub breaker: Option<Arc<BreakerSettings>>,
    /// How many breakers the target keeps (apps and actors).
    pub breaker_cache_size: usize,
    /// What shares a breaker (actors).
    pub actor_scope: ActorScope,
}

impl Resolved {
    /// Whether no policy applies.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.timeout.is_none() && self.retry.is_none() && self.breaker.is_none()
    }
}

#[derive(Debug, Clone)]
struct Target {
    names: PolicyNames,
    cache_size: usize,
    scope: ActorScope,
}

/// Policies and targets of all loaded resources; later resources replace earlier ones name by name.
#[derive(Debug, Clone)]
pub struct PolicySet {
    name: String,
    namespace: String,
    timeouts: HashMap<String, GoDuration>,
    retries: HashMap<String, Arc<RetryPolicy>>,
    breakers: HashMap<String, Arc<BreakerSettings>>,
    apps: HashMap<String, Target>,
    actors: HashMap<String, Target>,
    components: HashMap<String, (PolicyNames, PolicyNames)>,
    compiler: Option<Compiler>,
    has_defaults: bool,
}

impl PolicySet {
    /// Without any policy, not even the built-in ones.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            name: String::new(),
            namespace: String::new(),
            timeouts: HashMap::new(),
            retries: HashMap::new(),
            breakers: HashMap::new(),
            apps: HashMap::new(),
            actors: HashMap::new(),
            components: HashMap::new(),
            compiler: None,
            has_defaults: false,
        }
    }

    /// With the built-in retries only, as a sidecar without Resiliency resources.
    #[must_use]
    pub fn built_in() -> Self {
        let mut set = Self::empty();
        set.retries
            .extend(BuiltIn::ALL.map(|policy| (policy.name().to_owned(), Arc::new(policy.policy()))));
        set
    }

    /// Adds a resource, whole or not at all; the caller has checked its scopes.
    ///
    /// # Errors
    /// When a policy or a target is invalid; the set then keeps what it had, and the caller logs and goes on.
    pub fn load(&mut self, resource: &Resource) -> Result<Vec<Notice>, LoadError> {
        let mut notices = Vec::new();
        let mut next = self.clone();
        let policies = &resource.spec.policies;
        for (name, value) in &policies.timeouts {
            next.timeouts.insert(name.clone(), load::timeout(name, value)?);
        }
        for (name, spec) in &policies.retries {
            if let Some(policy) = load::retry(name, spec, &mut notices)? {
                next.retries.insert(name.clone(), policy);
            }
        }
        for (name, spec) in &policies.circuit_breakers {
            let compiler = next.compiler.get_or_insert_with(Compiler::new);
            next.breakers
                .insert(name.clone(), load::breaker(name, spec, compiler)?);
        }
        let targets = &resource.spec.targets;
        for (name, target) in &targets.apps {
            let cache_size = load::cache_size(target.circuit_breaker_cache_size, APP_CACHE)?;
            next.apps.insert(
                name.clone(),
                Target {
                    names: target.names.clone(),
                    cache_size,
                    scope: ActorScope::Type,
                },
            );
        }
        for (name, target) in &targets.actors {
            let scope = load::scope(&target.names.circuit_breaker, &target.circuit_breaker_scope)?;
            let cache_size = load::cache_size(target.circuit_breaker_cache_size, ACTOR_CACHE)?;
            next.actors.insert(
                name.clone(),
                Target {
                    names: target.names.clone(),
                    cache_size,
                    scope,
                },
            );
        }
        for (name, target) in &targets.components {
            next.components
                .insert(name.clone(), (target.inbound.clone(), target.outbound.clone()));
        }
        next.name.clone_from(&resource.metadata.name);
        next.namespace.clone_from(&resource.metadata.namespace);
        next.has_defaults = next
            .retries
            .keys()
            .chain(next.timeouts.keys())
            .chain(next.breakers.keys())
            .any(|name| name.starts_with("Default") && name.ends_with("Policy"));
        *self = next;
        Ok(notices)
    }

    /// The name of the last loaded resource, which labels every metric.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of the last loaded resource.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether no target can have a policy, the built-in retries aside.
    #[must_use]
    pub fn is_untargeted(&self) -> bool {
        !self.has_defaults && self.apps.is_empty() && self.actors.is_empty() && self.components.is_empty()
    }

    /// A built-in policy, or what replaced it; `None` in an [`PolicySet::empty`] set.
    #[must_use]
    pub fn built_in_policy(&self, policy: BuiltIn) -> Option<&Arc<RetryPolicy>> {
        self.retries.get(policy.name())
    }

    /// Whether a resource names the app as a target.
    #[must_use]
    pub fn targets_app(&self, app_id: &str) -> bool {
        self.apps.contains_key(app_id)
    }

    /// Whether a resource names the actor type as a target.
    #[must_use]
    pub fn targets_actor(&self, actor_type: &str) -> bool {
        self.actors.contains_key(actor_type)
    }

    /// Whether a resource names the component as a target.
    #[must_use]
    pub fn targets_component(&self, name: &str) -> bool {
        self.components.contains_key(name)
    }

    /// The policies of calls to an app.
    #[must_use]
    pub fn app(&self, app_id: &str) -> Resolved {
        self.resolve(self.apps.get(app_id), &["App"])
    }

    /// The policies of calls to an actor; upstream applies retry and breaker before the actor's lock is taken and
    /// the timeout after.
    #[must_use]
    pub fn actor(&self, actor_type: &str) -> Resolved {
        self.resolve(self.actors.get(actor_type), &["Actor"])
    }

    /// The policies of a component in one direction.
    #[must_use]
    pub fn component(&self, name: &str, kind: ComponentKind, direction: Direction) -> Resolved {
        if let Some((inbound, outbound)) = self.components.get(name) {
            return self.named(match direction {
                Direction::Inbound => inbound,
                Direction::Outbound => outbound,
            });
        }
        if !self.has_defaults {
            return Resolved::default();
        }
        let by_direction = format!("Component{}", direction.in_policy_names());
        let by_kind = format!("{}{by_direction}", kind.as_str());
        self.defaults(&[&by_kind, &by_direction, "Component"])
    }

    fn resolve(&self, target: Option<&Target>, levels: &[&str]) -> Resolved {
        match target {
            Some(target) => Resolved {
                breaker_cache_size: target.cache_size,
                actor_scope: target.scope,
                ..self.named(&target.names)
            },
            None => Resolved {
                breaker_cache_size: APP_CACHE,
                ..self.defaults(levels)
            },
        }
    }

    fn named(&self, names: &PolicyNames) -> Resolved {
        Resolved {
            timeout: self
                .timeouts
                .get(&names.timeout)
                .and_then(|timeout| above_zero(*timeout)),
            retry: self.retries.get(&names.retry).cloned(),
            breaker: self.breakers.get(&names.circuit_breaker).cloned(),
            ..Resolved::default()
        }
    }

    /// `Default<Level><Kind>Policy`, the most specific level first and the level-less one last.
    fn defaults(&self, levels: &[&str]) -> Resolved {
        if !self.has_defaults {
            return Resolved::default();
        }
        fn find<'a, T>(policies: &'a HashMap<String, T>, levels: &[&str], kind: &str) -> Option<&'a T> {
            levels
                .iter()
                .chain(&[""])
                .find_map(|level| policies.get(&format!("Default{level}{kind}Policy")))
        }
        Resolved {
            timeout: find(&self.timeouts, levels, "Timeout").and_then(|timeout| above_zero(*timeout)),
            retry: find(&self.retries, levels, "Retry").cloned(),
            breaker: find(&self.breakers, levels, "CircuitBreaker").cloned(),
            ..Resolved::default()
        }
    }
}

/// Go applies a timeout only when it is positive.
fn above_zero(timeout: GoDuration) -> Option<Duration> {
    timeout.to_std().filter(|timeout| !timeout.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value)] // reads better at the call
    fn resource(spec: serde_json::Value) -> Resource {
        serde_json::from_value(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency",
            "metadata": {"name": "mine", "namespace": "prod", "labels": {"a": "b"}}, "spec": spec,
        }))
        .unwrap()
    }

    fn loaded(spec: serde_json::Value) -> PolicySet {
        let mut set = PolicySet::built_in();
        assert_eq!(set.load(&resource(spec)), Ok(vec![]));
        set
    }

    fn error(spec: serde_json::Value) -> String {
        PolicySet::built_in()
            .load(&resource(spec))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn named_policies_of_every_target() {
        let set = loaded(json!({
            "policies": {
                "timeouts": {"t": "500", "neg": "-5s"},
                "retries": {"r": {"policy": "Exponential", "maxInterval": "15s", "maxRetries": 10,
                    "matching": {"httpStatusCodes": "500", "gRPCStatusCodes": "14"}}, "d": {}},
                "circuitBreakers": {"c": {"maxRequests": 2, "interval": "8s", "timeout": "45s", "trip": "requests > 8"}, "plain": null_breaker()},
            },
            "targets": {
                "apps": {"a": {"timeout": "t", "retry": "r", "circuitBreaker": "c", "circuitBreakerCacheSize": 7}, "b": {"timeout": "neg", "retry": "gone"}},
                "actors": {"x": {"timeout": "t", "circuitBreaker": "c", "circuitBreakerScope": "both"}},
                "components": {"store": {"outbound": {"timeout": "t"}, "inbound": {"retry": "d"}}},
            },
        }));
        let app = set.app("a");
        assert_eq!(app.timeout, Some(Duration::from_millis(500)));
        assert_eq!(app.breaker_cache_size, 7);
        let retry = app.retry.unwrap();
        assert_eq!(retry.kind, BackOffKind::exponential(Duration::from_secs(15)));
        assert_eq!(retry.max_retries, Some(10));
        let breaker = app.breaker.unwrap();
        assert_eq!(
            (breaker.max_requests, breaker.interval, breaker.timeout),
            (2, Some(Duration::from_secs(8)), Duration::from_secs(45))
        );
        assert!(
            set.app("b").is_none(),
            "unknown names and negative timeouts apply nothing"
        );
        assert!(set.app("c").is_none() && set.targets_app("b") && !set.targets_app("c"));
        let actor = set.actor("x");
        assert_eq!(
            (actor.actor_scope, actor.breaker_cache_size),
            (ActorScope::Both, 5000)
        );
        let outbound = set.component("store", ComponentKind::Statestore, Direction::Outbound);
        assert!(outbound.timeout.is_some() && outbound.retry.is_none());
        let inbound = set
            .component("store", ComponentKind::Statestore, Direction::Inbound)
            .retry
            .unwrap();
        assert_eq!(
            (inbound.kind, inbound.max_retries),
            (BackOffKind::Constant(Duration::from_secs(5)), None)
        );
        assert_eq!((set.name(), set.namespace()), ("mine", "prod"));
    }

    fn null_breaker() -> serde_json::Value {
        json!({"maxRequests": null, "trip": null})
    }

    #[test]
    fn defaults_from_the_most_specific_level() {
        let set = loaded(json!({
            "policies": {
                "retries": {
                    "DefaultRetryPolicy": {"maxRetries": 1}, "DefaultAppRetryPolicy": {"maxRetries": 2},
                    "DefaultComponentRetryPolicy": {"maxRetries": 3}, "DefaultComponentInboundRetryPolicy": {"maxRetries": 4},
                    "DefaultStatestoreComponentOutboundRetryPolicy": {"maxRetries": 5},
                },
                "timeouts": {"DefaultTimeoutPolicy": "5s", "DefaultActorTimeoutPolicy": "6s"},
            },
            "targets": {"components": {"own": {}}},
        }));
        let retries = |resolved: Resolved| resolved.retry.and_then(|retry| retry.max_retries);
        assert_eq!(retries(set.app("any")), Some(2));
        assert_eq!(retries(set.actor("any")), Some(1));
        assert_eq!(set.actor("any").timeout, Some(Duration::from_secs(6)));
        let component = |kind, direction| retries(set.component("any", kind, direction));
        assert_eq!(component(ComponentKind::Statestore, Direction::Outbound), Some(5));
        assert_eq!(component(ComponentKind::Statestore, Direction::Inbound), Some(4));
        assert_eq!(component(ComponentKind::Pubsub, Direction::Outbound), Some(3));
        assert!(
            set.component("own", ComponentKind::Pubsub, Direction::Outbound)
                .is_none(),
            "a target hides the defaults"
        );
    }

    #[test]
    fn built_ins_and_their_replacement() {
        let mut set = PolicySet::built_in();
        assert!(set.is_untargeted());
        let retries = |set: &PolicySet, policy| set.built_in_policy(policy).unwrap().max_retries;
        assert_eq!(
            BuiltIn::ALL.map(|policy| retries(&set, policy)),
            [Some(3), Some(3), Some(0), Some(3), Some(5)]
        );
        let notices = set
            .load(&resource(json!({"policies": {"retries": {
                "DaprBuiltInServiceRetries": {"maxRetries": 10}, "DaprBuiltInActorRetries": {"duration": "2s"},
                "DaprBuiltInActorNotFoundRetries": {"maxRetries": 100},
            }}})))
            .unwrap();
        assert_eq!(
            notices,
            [
                Notice::Protected(BuiltIn::ActorNotFound.name().into()),
                Notice::MinimumRetries(BuiltIn::Actor.name().into())
            ]
        );
        assert_eq!(
            BuiltIn::ALL.map(|policy| retries(&set, policy)),
            [Some(10), Some(3), Some(0), Some(3), Some(5)]
        );
        assert!(PolicySet::empty().built_in_policy(BuiltIn::Service).is_none());
    }

    #[test]
    fn later_resources_win_and_bad_ones_change_nothing() {
        let mut set = loaded(
            json!({"policies": {"timeouts": {"t": "1s"}}, "targets": {"apps": {"a": {"timeout": "t"}}}}),
        );
        set.load(&resource(json!({"policies": {"timeouts": {"t": "2s"}}})))
            .unwrap();
        assert_eq!(set.app("a").timeout, Some(Duration::from_secs(2)));
        assert!(
            set.load(&resource(
                json!({"policies": {"timeouts": {"t": "3s", "x": "soon"}}})
            ))
            .is_err()
        );
        assert_eq!(set.app("a").timeout, Some(Duration::from_secs(2)));
    }

    #[test]
    fn mistakes_in_upstreams_words() {
        assert_eq!(
            error(json!({"policies": {"timeouts": {"t": "1x"}}})),
            "invalid duration \"t\", 1x: time: unknown unit \"x\" in duration \"1x\""
        );
        assert_eq!(
            error(json!({"policies": {"retries": {"r": {"policy": "linear", "duration": "5x"}}}})),
            "invalid retry configuration \"r\": 2 error(s) decoding:\n\n* error decoding 'duration': invalid duration \"5x\"\n\
             * error decoding 'policy': invalid PolicyType \"linear\": unexpected back off policy type: linear"
        );
        assert!(
            error(json!({"policies": {"circuitBreakers": {"c": {"trip": "consecutiveFailures >"}}}}))
                .contains("'trip'")
        );
        assert_eq!(
            error(json!({"policies": {"retries": {"r": {"matching": {"httpStatusCodes": "1"}}}}})),
            "invalid pattern 1, start code 1 is not valid"
        );
        assert_eq!(
            error(json!({"targets": {"actors": {"x": {"circuitBreaker": "c"}}}})),
            "actor circuit breakers must include scope"
        );
        assert_eq!(
            error(
                json!({"targets": {"actors": {"x": {"circuitBreaker": "c", "circuitBreakerScope": "all"}}}})
            ),
            "unknown circuit breaker scope \"all\""
        );
        assert_eq!(
            error(json!({"targets": {"apps": {"a": {"circuitBreakerCacheSize": -1}}}})),
            "must provide a positive size"
        );
    }

    #[test]
    fn scopes() {
        let mut one = Resource::default();
        assert!(one.in_scope("a"));
        one.scopes = vec!["b".into()];
        assert!(!one.in_scope("a") && one.in_scope("b"));
    }
}
