//! Policies by target.

use std::{fmt, sync::Arc};

use outrigger_engine_resiliency::{
    ActorScope, BuiltIn, ComponentKind, Direction, PolicySet, Resolved, Resource, RetryPolicy,
};

use crate::{
    breakers::{Breaker, Caches, ComponentBreakers},
    observer::{PolicyEvent, PolicyKind, ResilienceObserver},
};

/// Hands out policies by target and keeps the breakers. A changed Resiliency resource makes a new provider;
/// operations under way keep their policy (A8.6). Cheap to clone.
#[derive(Debug, Clone)]
pub struct ResilienceProvider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: PolicySet,
    observer: Option<Arc<dyn ResilienceObserver>>,
    apps: Caches,
    actors: Caches,
    components: ComponentBreakers,
    /// By [`BuiltIn`]: every invocation asks for one, so they are made once.
    built_in: [Policy; BuiltIn::ALL.len()],
}

impl ResilienceProvider {
    /// The built-in retries and nothing else: a sidecar without Resiliency resources.
    #[must_use]
    pub fn none() -> Self {
        Self::from_set(PolicySet::built_in(), None)
    }

    /// No policy at all, not even the built-in ones.
    #[must_use]
    pub fn disabled() -> Self {
        Self::from_set(PolicySet::empty(), None)
    }

    /// From the resources that an app sees; those out of its scope are passed over, invalid ones are logged and
    /// skipped.
    pub fn from_resources(
        app_id: &str,
        resources: &[Resource],
        observer: Option<Arc<dyn ResilienceObserver>>,
    ) -> Self {
        let mut set = PolicySet::built_in();
        for resource in resources.iter().filter(|resource| resource.in_scope(app_id)) {
            let name = &resource.metadata.name;
            tracing::info!(target: "dapr.runtime", "Loading Resiliency configuration: {name}");
            match set.load(resource) {
                Ok(notices) => {
                    for notice in notices {
                        tracing::warn!(target: "dapr.runtime", "{notice}");
                    }
                    if let Some(observer) = &observer {
                        observer.loaded(name, &resource.metadata.namespace);
                    }
                }
                Err(error) => {
                    tracing::error!(target: "dapr.runtime", "Could not read resiliency policy {name}: {error}");
                }
            }
        }
        Self::from_set(set, observer)
    }

    /// From policies that are already checked.
    #[must_use]
    pub fn from_set(set: PolicySet, observer: Option<Arc<dyn ResilienceObserver>>) -> Self {
        let built_in = BuiltIn::ALL.map(|policy| {
            // Built-in policies are not measured upstream.
            Policy(set.built_in_policy(policy).map(|retry| {
                Arc::new(Applied {
                    name: policy.name().into(),
                    timeout: None,
                    retry: Some(Arc::clone(retry)),
                    breaker: None,
                    metrics: None,
                })
            }))
        });
        Self(Arc::new(Inner {
            built_in,
            set,
            observer,
            apps: Caches::default(),
            actors: Caches::default(),
            components: ComponentBreakers::default(),
        }))
    }

    /// The policies themselves.
    #[must_use]
    pub fn policies(&self) -> &PolicySet {
        &self.0.set
    }

    /// Whether a resource names the app: if not, service invocation falls back to
    /// [`ResilienceProvider::builtin_service_retries`].
    #[must_use]
    pub fn targets_app(&self, app_id: &str) -> bool {
        self.0.set.targets_app(app_id)
    }

    /// Whether a resource names the actor type.
    #[must_use]
    pub fn targets_actor(&self, actor_type: &str) -> bool {
        self.0.set.targets_actor(actor_type)
    }

    /// Calls to an app; each endpoint (upstream's `<app>:<method>` key or address) has a breaker of its own.
    #[must_use]
    pub fn app(&self, app_id: &str, endpoint: &str) -> Policy {
        let resolved = self.0.set.app(app_id);
        if resolved.is_none() {
            return Policy::none();
        }
        let breaker = resolved.breaker.as_ref().map(|template| {
            self.0
                .apps
                .get(app_id, endpoint, resolved.breaker_cache_size, template)
        });
        let name = format!("endpoint[{app_id}, {endpoint}]");
        self.policy(
            name,
            format!("app_{app_id}"),
            Direction::Outbound,
            resolved,
            breaker,
        )
    }

    /// Calls to an actor before its lock is taken: retries and breaker, no timeout.
    #[must_use]
    pub fn actor_pre_lock(&self, actor_type: &str, id: &str) -> Policy {
        let resolved = Resolved {
            timeout: None,
            ..self.0.set.actor(actor_type)
        };
        if resolved.is_none() {
            return Policy::none();
        }
        let breaker = resolved.breaker.as_ref().map(|template| {
            let size = resolved.breaker_cache_size;
            match resolved.actor_scope {
                ActorScope::Type => self.0.actors.get(actor_type, actor_type, size, template),
                ActorScope::Id | ActorScope::Both => {
                    self.0
                        .actors
                        .get(actor_type, &format!("{actor_type}-{id}"), size, template)
                }
            }
        });
        self.actor(actor_type, id, resolved, breaker)
    }

    /// Calls to an actor while its lock is held: the timeout only.
    #[must_use]
    pub fn actor_post_lock(&self, actor_type: &str, id: &str) -> Policy {
        let resolved = Resolved {
            retry: None,
            breaker: None,
            ..self.0.set.actor(actor_type)
        };
        if resolved.is_none() {
            return Policy::none();
        }
        self.actor(actor_type, id, resolved, None)
    }

    fn actor(&self, actor_type: &str, id: &str, resolved: Resolved, breaker: Option<Arc<Breaker>>) -> Policy {
        let name = format!("actor[{actor_type}, {id}]");
        self.policy(
            name,
            format!("actor_{actor_type}"),
            Direction::Outbound,
            resolved,
            breaker,
        )
    }

    /// From the sidecar to a component.
    #[must_use]
    pub fn component_outbound(&self, name: &str, kind: ComponentKind) -> Policy {
        self.component(name, kind, Direction::Outbound)
    }

    /// From a component to the app.
    #[must_use]
    pub fn component_inbound(&self, name: &str, kind: ComponentKind) -> Policy {
        self.component(name, kind, Direction::Inbound)
    }

    fn component(&self, name: &str, kind: ComponentKind, direction: Direction) -> Policy {
        let resolved = self.0.set.component(name, kind, direction);
        if resolved.is_none() {
            return Policy::none();
        }
        let breaker = resolved
            .breaker
            .as_ref()
            .map(|template| self.0.components.get(name, template));
        let suffix = match direction {
            Direction::Inbound => "input",
            Direction::Outbound => "output",
        };
        let policy_name = format!("component[{name}] {suffix}");
        self.policy(
            policy_name,
            format!("{}_{name}", kind.as_str()),
            direction,
            resolved,
            breaker,
        )
    }

    /// The retries of service invocation for apps that no resource names.
    #[must_use]
    pub fn builtin_service_retries(&self) -> Policy {
        self.built_in(BuiltIn::Service)
    }

    /// The retries of start-up: component initialisation, asking the app for its subscriptions.
    #[must_use]
    pub fn init_retries(&self) -> Policy {
        self.built_in(BuiltIn::Initialization)
    }

    /// A built-in policy by name, or what replaced it.
    #[must_use]
    pub fn built_in(&self, policy: BuiltIn) -> Policy {
        self.0.built_in[policy as usize].clone()
    }

    /// An applied policy; `executed` is counted here, once per operation, as upstream does.
    fn policy(
        &self,
        name: String,
        target: String,
        direction: Direction,
        resolved: Resolved,
        breaker: Option<Arc<Breaker>>,
    ) -> Policy {
        let metrics = self.0.observer.as_ref().map(|_| Metrics {
            provider: self.clone(),
            direction,
            target,
        });
        let applied = Applied {
            name: name.into(),
            timeout: resolved.timeout,
            retry: resolved.retry,
            breaker,
            metrics,
        };
        if let Some(metrics) = &applied.metrics {
            for policy in applied.kinds() {
                metrics.record(policy, applied.status(policy), |observer, event| {
                    observer.executed(event)
                });
            }
        }
        Policy(Some(Arc::new(applied)))
    }
}

impl Default for ResilienceProvider {
    fn default() -> Self {
        Self::none()
    }
}

/// What applies to one operation, perhaps nothing. Ask the provider for one per operation: asking is what the
/// `resiliency/count` metric counts.
#[derive(Debug, Clone, Default)]
pub struct Policy(pub(crate) Option<Arc<Applied>>);

impl Policy {
    /// Nothing applies.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether nothing applies.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an attempt may be repeated, so that the request has to be kept for it.
    #[must_use]
    pub fn has_retries(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|applied| applied.retry.as_ref().is_some_and(|retry| retry.has_retries()))
    }
}

#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) name: Box<str>,
    pub(crate) timeout: Option<std::time::Duration>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    pub(crate) breaker: Option<Arc<Breaker>>,
    metrics: Option<Metrics>,
}

impl Applied {
    fn kinds(&self) -> impl Iterator<Item = PolicyKind> {
        [
            self.timeout.map(|_| PolicyKind::Timeout),
            self.retry.as_ref().map(|_| PolicyKind::Retry),
            self.breaker.as_ref().map(|_| PolicyKind::CircuitBreaker),
        ]
        .into_iter()
        .flatten()
    }

    fn status(&self, policy: PolicyKind) -> Option<outrigger_engine_resiliency::State> {
        self.breaker
            .as_ref()
            .filter(|_| policy == PolicyKind::CircuitBreaker)
            .map(|breaker| breaker.state())
    }

    pub(crate) fn activated(&self, policy: PolicyKind) {
        if let Some(metrics) = &self.metrics {
            metrics.record(policy, self.status(policy), |observer, event| {
                observer.activated(event)
            });
        }
    }
}

struct Metrics {
    provider: ResilienceProvider,
    direction: Direction,
    target: String,
}

impl Metrics {
    fn record(
        &self,
        policy: PolicyKind,
        status: Option<outrigger_engine_resiliency::State>,
        to: impl FnOnce(&dyn ResilienceObserver, &PolicyEvent<'_>),
    ) {
        let inner = &self.provider.0;
        if let Some(observer) = &inner.observer {
            let event = PolicyEvent {
                name: inner.set.name(),
                namespace: inner.set.namespace(),
                policy,
                direction: self.direction,
                target: &self.target,
                status,
            };
            to(observer.as_ref(), &event);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("direction", &self.direction)
            .field("target", &self.target)
            .finish()
    }
}
