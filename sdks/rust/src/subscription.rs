//! Events as a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use tonic::Streaming;

use crate::Error;

/// Events from the gateway, as they come. It ends when the gateway ends it; an error is its last item. Dropping it ends
/// the subscription.
#[must_use = "a dropped subscription is over"]
pub struct Subscription<T> {
    events: Streaming<T>,
    over: bool,
}

impl<T> Subscription<T> {
    pub(crate) fn new(events: Streaming<T>) -> Self {
        Self { events, over: false }
    }

    /// The next event; `None` when the gateway has ended the stream. Cancel-safe.
    ///
    /// # Errors
    /// What broke the stream. Nothing follows.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        futures::StreamExt::next(self).await.transpose()
    }
}

impl<T> std::fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("over", &self.over).finish()
    }
}

impl<T> Stream for Subscription<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(Pin::new(&mut self.events).poll_next(cx));
        self.over = !matches!(item, Some(Ok(_)));
        Poll::Ready(item.map(|event| event.map_err(Error::from)))
    }
}
