//! Writes down and tells what happens to one connection, in the order in which it happened (I7), beside the socket:
//! neither a slow state store nor a broker that is away holds up messages.

use std::sync::Arc;

use jiff::Timestamp;
use outrigger_platform_service::Backend;
use tokio::sync::mpsc;

use crate::events;
use crate::link::View;
use crate::machine::Told;
use crate::names::LIFECYCLE_TOPIC;
use crate::record::Status;
use crate::registry::Registry;

/// News that wait to be told; a connection has a few in a second at most.
const WAITING: usize = 256;

/// One thing that happened.
#[derive(Debug)]
struct News {
    told: Told,
    at: Timestamp,
}

/// To whom a connection says what happened.
#[derive(Debug, Clone)]
pub(crate) struct Clerk {
    sender: mpsc::Sender<News>,
    id: String,
}

impl Clerk {
    /// A clerk, and its work, which ends when nobody can tell it anything any more.
    pub(crate) fn new(
        registry: Arc<Registry>,
        backend: Backend,
        id: String,
        url: String,
        view: Arc<View>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut receiver) = mpsc::channel::<News>(WAITING);
        let clerk = Self {
            sender,
            id: id.clone(),
        };
        let work = async move {
            while let Some(News { told, at }) = receiver.recv().await {
                let written = registry
                    .update(&id, |record| {
                        // Until it was open once, its record is of no use to anybody but whoever makes it.
                        if record.was_never_open() && told != Told::Connected {
                            return;
                        }
                        if let Some(status) = status(&told) {
                            record.status = status;
                        }
                        if told == Told::Connected {
                            record.connected_at = record.connected_at.max(Some(at));
                        }
                        record.last_heartbeat = record.last_heartbeat.max(Some(at));
                        view.content_type().clone_into(&mut record.content_type);
                    })
                    .await;
                if let Err(error) = written {
                    tracing::warn!(connection = id, %error, "a connection's state could not be written down");
                }
                // Best effort: the connection goes on either way (I7).
                let event = events::lifecycle(&told, &id, &url, registry.instance(), at);
                if let Err(error) = backend.publish(LIFECYCLE_TOPIC, &event).await {
                    tracing::warn!(connection = id, kind = event.kind, %error, "a lifecycle event could not be published");
                }
            }
        };
        (clerk, work)
    }

    /// Takes news. Never waits.
    pub(crate) fn tell(&self, told: Told) {
        let news = News {
            told,
            at: Timestamp::now(),
        };
        if let Err(error) = self.sender.try_send(news) {
            tracing::warn!(connection = self.id, %error, "too much happens to be told");
        }
    }
}

/// The status that goes with news, where it changes.
pub(crate) fn status(told: &Told) -> Option<Status> {
    Some(match told {
        Told::Registered => Status::Connecting,
        Told::Connected => Status::Connected,
        Told::Reconnecting(_) => Status::Reconnecting,
        Told::Closed(_) => Status::Disconnected,
        Told::Failed(_) => Status::Error,
        Told::Connecting(_) | Told::Degraded(_) | Told::Recovered => return None,
    })
}
