//! Lets the task of a connection run after all that have something for it.
//!
//! Requests share connections: to a database, to another sidecar. The task that writes to one is woken by the first
//! request, and tokio runs a task that was just woken before those that were ready earlier. Left alone it writes one
//! request at a time, each with a system call of its own here, and another one at the server, which then answers one at
//! a time as well. A turn later it finds all of them.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

/// Who uses a connection at the moment. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Crowd(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Member(Arc<AtomicUsize>);

impl Crowd {
    /// One more.
    #[must_use]
    pub fn join(&self) -> Member {
        self.0.fetch_add(1, Relaxed);
        Member(Arc::clone(&self.0))
    }

    fn has_company(&self) -> bool {
        self.0.load(Relaxed) > 1
    }

    /// Whether both count the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Runs a connection's future so that, each time it is woken while several use it, whatever else is ready goes first,
/// sockets included. For one user alone there is nothing to wait for, and to give the turn away would wake another of
/// tokio's threads for nothing.
///
/// For tasks of their own that move bytes; not for what a request waits for. Needs tokio's runtime; on others the turn
/// is not given away. As cancel-safe as the future.
pub async fn after_others<F: Future>(crowd: Crowd, future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if crowd.has_company() {
            tokio::task::yield_now().await;
        }
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return output;
        }
        // The future has asked to be woken; until then there is nothing to do.
        let mut woken = false;
        poll_fn(|_| match std::mem::replace(&mut woken, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// How many items a connection's task finds each time it runs, when ten tasks send one each.
    async fn found(crowd: Crowd) -> Vec<usize> {
        let (sender, mut receiver) = mpsc::unbounded_channel::<u32>();
        let connection = async move {
            let mut found = Vec::new();
            let mut items = Vec::new();
            while receiver.recv_many(&mut items, 100).await > 0 {
                found.push(items.len());
                items.clear();
            }
            found
        };
        let connection = tokio::spawn(after_others(crowd, connection));
        // Until it waits.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        for item in 0..10 {
            let sender = sender.clone();
            tokio::spawn(async move { sender.send(item) });
        }
        drop(sender);
        connection.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_ready_together_is_found_together() {
        // From a worker's own thread, where the order of tasks is the scheduler's.
        let crowd = Crowd::default();
        let members = [crowd.join(), crowd.join()];
        let all = tokio::spawn(found(crowd.clone())).await.unwrap();
        assert_eq!(all, [10]);
        drop(members);
        let at_once = tokio::spawn(found(crowd)).await.unwrap();
        assert!(at_once.len() > 1, "{at_once:?}");
    }

    #[tokio::test]
    async fn the_outcome_is_the_futures_own() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(after_others(Crowd::default(), receiver));
        tokio::task::yield_now().await;
        sender.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(7));
    }
}
