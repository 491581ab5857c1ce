use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use outrigger_engine_resiliency::{Code, ComponentKind, Resource, Verdict};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{PolicyEvent, ResilienceObserver, ResilienceProvider};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure(Verdict);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Retryable for Failure {
    fn verdict(&self) -> Verdict {
        self.0
    }
}

#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl ResilienceObserver for Seen {
    fn loaded(&self, name: &str, namespace: &str) {
        self.0.lock().push(format!("loaded {name} {namespace}"));
    }
    fn executed(&self, event: &PolicyEvent<'_>) {
        self.note("executed", event);
    }
    fn activated(&self, event: &PolicyEvent<'_>) {
        self.note("activated", event);
    }
}

impl Seen {
    fn note(&self, what: &str, event: &PolicyEvent<'_>) {
        let status = event.status.map_or("", |state| state.as_str());
        self.0.lock().push(format!(
            "{what} {} {} {} {status}",
            event.policy.as_str(),
            event.direction.as_str(),
            event.target
        ));
    }
}

fn provider(observer: Option<Arc<Seen>>) -> ResilienceProvider {
    let resource: Resource = serde_json::from_value(json!({
        "metadata": {"name": "r", "namespace": "ns"},
        "spec": {
            "policies": {
                "timeouts": {"t": "1s"},
                "retries": {"r": {"duration": "2s", "maxRetries": 3, "matching": {"httpStatusCodes": "500-599"}}},
                "circuitBreakers": {"c": {"trip": "consecutiveFailures >= 2", "timeout": "30s"}},
            },
            "targets": {
                "apps": {"a": {"retry": "r"}, "slow": {"timeout": "t", "retry": "r"}, "b": {"circuitBreaker": "c"}, "rb": {"retry": "r", "circuitBreaker": "c"}},
                "components": {"store": {"outbound": {"timeout": "t", "circuitBreaker": "c"}, "inbound": {"circuitBreaker": "c"}}},
            },
        },
    }))
    .unwrap();
    ResilienceProvider::from_resources(
        "me",
        &[resource],
        observer.map(|o| o as Arc<dyn ResilienceObserver>),
    )
}

async fn failing(policy: &Policy, verdict: Verdict) -> (Result<(), RunError<Failure>>, u32) {
    let attempts = RefCell::new(0);
    let answer = policy
        .run(|attempt| {
            *attempts.borrow_mut() = attempt;
            async move { Err(Failure(verdict)) }
        })
        .await;
    (answer, attempts.into_inner())
}

#[test]
fn runs_on_any_thread() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    fn movable<T: Send>(_: &T) {}
    let policy = shared(shared(provider(None)).app("rb", "e"));
    movable(&policy.run(|_| async { Ok::<_, Failure>(()) }));
}

#[tokio::test(start_paused = true)]
async fn nothing_applies() {
    let provider = ResilienceProvider::none();
    let policy = provider.app("a", "e");
    assert!(policy.is_none() && !policy.has_retries());
    assert_eq!(failing(&policy, Verdict::Transient).await.1, 1);
    assert!(provider.builtin_service_retries().has_retries() && provider.init_retries().has_retries());
    assert!(ResilienceProvider::disabled().builtin_service_retries().is_none());
    assert!(
        provider
            .component_outbound("s", ComponentKind::Statestore)
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn retries_by_verdict_and_pause() {
    let provider = provider(None);
    let policy = provider.app("a", "e");
    let start = Instant::now();
    assert_eq!(
        failing(&policy, Verdict::Transient).await,
        (Err(RunError::Op(Failure(Verdict::Transient))), 4)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(6));
    assert_eq!(failing(&policy, Verdict::Permanent).await.1, 1);
    assert_eq!(failing(&policy, Verdict::Code(Code::Http(404))).await.1, 1);
    assert_eq!(failing(&policy, Verdict::Code(Code::Http(503))).await.1, 4);
    let answer = policy.run(|attempt| async move {
        if attempt < 3 {
            Err(Failure(Verdict::Transient))
        } else {
            Ok(attempt)
        }
    });
    assert_eq!(answer.await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_has_its_own_timeout() {
    let seen = Arc::new(Seen::default());
    let policy = provider(Some(Arc::clone(&seen))).app("slow", "e");
    let answer: Result<(), RunError<Failure>> = policy.run(|_| std::future::pending()).await;
    assert_eq!(answer, Err(RunError::Timeout));
    assert_eq!(answer.unwrap_err().to_string(), "context deadline exceeded");
    assert_eq!(
        *seen.0.lock(),
        [
            "loaded r ns",
            "executed timeout outbound app_slow ",
            "executed retry outbound app_slow ",
            "activated timeout outbound app_slow ",
            "activated retry outbound app_slow ",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_per_endpoint() {
    let seen = Arc::new(Seen::default());
    let provider = provider(Some(Arc::clone(&seen)));
    for _ in 0..2 {
        assert_eq!(failing(&provider.app("b", "one"), Verdict::Transient).await.1, 1);
    }
    assert_eq!(
        failing(&provider.app("b", "one"), Verdict::Transient).await,
        (Err(RunError::BreakerOpen), 0)
    );
    assert_eq!(failing(&provider.app("b", "two"), Verdict::Transient).await.1, 1);
    let activated = seen
        .0
        .lock()
        .iter()
        .filter(|line| line.starts_with("activated"))
        .cloned()
        .collect::<Vec<_>>();
    assert_eq!(activated, ["activated circuitbreaker outbound app_b open"]);

    // gobreaker reads the wall clock; the engine reads the one given, which tokio's pause moves.
    let before: StdInstant = Instant::now().into_std();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(Instant::now().into_std() > before);
    let policy = provider.app("b", "one");
    assert_eq!(policy.run(|_| async { Ok::<_, Failure>(1) }).await, Ok(1));
    assert_eq!(failing(&policy, Verdict::Transient).await.1, 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_ends_the_retries() {
    let policy = provider(None).app("rb", "e");
    assert_eq!(
        failing(&policy, Verdict::Transient).await,
        (Err(RunError::BreakerOpen), 2)
    );
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_operation_gives_its_permit_back() {
    let provider = provider(None);
    for _ in 0..2 {
        failing(&provider.app("b", "one"), Verdict::Transient)
            .await
            .0
            .unwrap_err();
    }
    tokio::time::advance(Duration::from_secs(31)).await;
    let policy = provider.app("b", "one");
    let abandoned = policy.run(|_| std::future::pending::<Result<(), Failure>>());
    tokio::time::timeout(Duration::from_secs(1), abandoned)
        .await
        .unwrap_err();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(policy.run(|_| async { Ok::<_, Failure>(()) }).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn both_directions_of_a_component_share_a_breaker() {
    let provider = provider(None);
    for _ in 0..2 {
        failing(
            &provider.component_outbound("store", ComponentKind::Statestore),
            Verdict::Transient,
        )
        .await
        .0
        .unwrap_err();
    }
    let inbound = provider.component_inbound("store", ComponentKind::Statestore);
    assert_eq!(
        failing(&inbound, Verdict::Transient).await,
        (Err(RunError::BreakerOpen), 0)
    );
}
