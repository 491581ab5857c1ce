//! Request and reply over publish and subscribe (E2.8).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use outrigger_platform_wire::virtufin::{PublishRequest, PubsubSubscribeResponse};

use super::GatewayClient;
use crate::Error;

/// The extension attribute by which a reply is known.
pub const CORRELATION_ID: &str = "correlationid";

/// An event that asks for another one.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where it is published.
    pub topic: String,
    /// Where the reply is awaited.
    pub reply_topic: String,
    /// Its data.
    pub data: Bytes,
    /// Its attributes and extensions, as in [`PublishRequest::metadata`]; the correlation id is set here.
    pub metadata: BTreeMap<String, String>,
    /// How long the reply is awaited, from the time the event is published.
    pub timeout: Duration,
}

impl Ask {
    /// How long a reply is awaited unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// An event with data and nothing else.
    pub fn new(topic: impl Into<String>, reply_topic: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            reply_topic: reply_topic.into(),
            data: data.into(),
            metadata: BTreeMap::new(),
            timeout: Self::TIMEOUT,
        }
    }
}

impl GatewayClient {
    /// Publishes an event with a fresh correlation id and gives the first event on the reply topic that carries the same
    /// one. The subscription stands before the event is published, so that no reply is too early; events for others are
    /// passed over. Dropping the future ends the subscription.
    ///
    /// # Errors
    /// [`Error::NoReply`] when the time is over, [`Error::Unavailable`] if the gateway ends the subscription before, else
    /// what publishing or subscribing came to.
    pub async fn publish_with_result(&self, ask: Ask) -> Result<PubsubSubscribeResponse, Error> {
        let correlation_id = uuid::Uuid::new_v4().to_string();
        let Ask {
            topic,
            reply_topic,
            data,
            mut metadata,
            timeout,
        } = ask;
        metadata.insert(CORRELATION_ID.to_owned(), correlation_id.clone());
        let mut replies = self.subscribe([reply_topic.as_str()]).await?;
        let request = PublishRequest {
            topic,
            data,
            metadata,
            cloudevent: None,
        };
        // A reply may be there before the publisher's acknowledgement is; the stream keeps it.
        self.publish_event(request).await?;
        let reply = async {
            while let Some(event) = replies.next().await? {
                if event.metadata.get(CORRELATION_ID) == Some(&correlation_id) {
                    return Ok(event);
                }
            }
            let message = "the gateway ended the subscription before a reply came";
            Err(Error::of_name("UNAVAILABLE", message.to_owned()))
        };
        match tokio::time::timeout(timeout, reply).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::NoReply {
                topic: reply_topic,
                correlation_id,
                waited: timeout,
            }),
        }
    }
}
