//! The behaviour every binding shows, as tests any crate can run on its bindings.
//!
//! A failed expectation panics, as in any test.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_component::{Error, Retry};
use tokio::sync::Notify;

use crate::{DynInputBinding, DynOutputBinding, Event, EventHandler, InvokeRequest};

/// How long a case waits for an event before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the cases that need no knowledge of the backend.
pub async fn output(binding: &Arc<dyn DynOutputBinding>) {
    let operations = binding.operations();
    assert!(!operations.is_empty(), "an output binding can do something");
    let distinct: BTreeSet<_> = operations.iter().collect();
    assert_eq!(distinct.len(), operations.len(), "no operation is named twice");

    let request = InvokeRequest {
        operation: "outrigger-suite-absent".to_owned(),
        ..InvokeRequest::default()
    };
    let failed = binding
        .invoke(request)
        .await
        .expect_err("an unknown operation is refused");
    assert_eq!(
        failed.error.retry(),
        Retry::Permanent,
        "and trying again does not help"
    );

    binding.close().await.expect("close");
    binding.close().await.expect("closing twice");
}

/// Counts events and answers them.
#[derive(Default)]
struct Counter {
    events: Mutex<usize>,
    came: Notify,
}

impl EventHandler for Counter {
    fn handle(&self, _event: Event) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async {
            *self.events.lock().expect("not poisoned") += 1;
            self.came.notify_one();
            Ok(None)
        })
    }
}

/// Runs the cases of an input binding; `provoke` makes the backend bring at least one event.
pub async fn input<F, Fut>(binding: &Arc<dyn DynInputBinding>, mut provoke: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let counter = Arc::new(Counter::default());
    let count = || *counter.events.lock().expect("not poisoned");
    // Twice: reading stops and begins again when an app turns unhealthy and recovers (A9.8).
    for _ in 0..2 {
        let before = count();
        let reading = binding
            .read(Arc::clone(&counter) as Arc<dyn EventHandler>)
            .await
            .expect("read");
        provoke().await;
        tokio::time::timeout(PATIENCE, async {
            while count() == before {
                counter.came.notified().await;
            }
        })
        .await
        .expect("an event arrives");
        reading.close().await;
        let after = count();
        reading.close().await;
        drop(reading);
        provoke().await;
        assert_eq!(count(), after, "nothing arrives after the close");
    }
    binding.close().await.expect("close");
    assert!(
        binding.read(counter).await.is_err(),
        "a closed binding does not read"
    );
}
