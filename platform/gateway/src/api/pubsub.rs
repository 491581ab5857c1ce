//! `virtufin.Pubsub`.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use outrigger_platform_wire::virtufin::pubsub_server::Pubsub;
use outrigger_platform_wire::virtufin::{
    PublishRequest, PublishResponse, PubsubSubscribeRequest, PubsubSubscribeResponse, UnsubscribeRequest,
    UnsubscribeResponse,
};
use tonic::{Request, Response, Status};

use super::done;
use crate::events::{Hub, Outgoing, Publisher};

/// The header that tells a stream's id before its first event.
const SUBSCRIPTION_ID: &str = "subscription-id";

/// Events over gRPC.
#[derive(Debug, Clone)]
pub struct PubsubApi {
    /// Events out.
    pub publisher: Publisher,
    /// Events in.
    pub hub: Hub,
}

#[tonic::async_trait]
impl Pubsub for PubsubApi {
    type SubscribeStream = BoxStream<'static, Result<PubsubSubscribeResponse, Status>>;

    async fn publish_event(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let request = request.into_inner();
        let event = match request.cloudevent {
            None => Outgoing::from_metadata(request.data, request.metadata)?,
            Some(_) if !request.data.is_empty() => {
                return Err(Status::invalid_argument("data and cloudevent exclude each other"));
            }
            Some(event) => Outgoing::from_cloud_event(event, request.metadata)?,
        };
        self.publisher.publish(&request.topic, event).await?;
        Ok(Response::new(PublishResponse { status: done(None) }))
    }

    async fn subscribe(
        &self,
        request: Request<PubsubSubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let subscription = self.hub.subscribe(&request.into_inner().topics).await?;
        let id = subscription.id().to_owned();
        let header = id.parse().ok();
        let events = subscription.map(move |event| {
            let event = event?;
            Ok(PubsubSubscribeResponse {
                topic: event.topic.clone(),
                data: event.data.clone(),
                metadata: event.metadata(),
                message_id: event.attributes.id.clone(),
                timestamp: event.attributes.time.clone().unwrap_or_default(),
                subscription_id: id.clone(),
            })
        });
        let mut response = Response::new(events.boxed());
        if let Some(id) = header {
            response.metadata_mut().insert(SUBSCRIPTION_ID, id);
        }
        Ok(response)
    }

    async fn unsubscribe(
        &self,
        request: Request<UnsubscribeRequest>,
    ) -> Result<Response<UnsubscribeResponse>, Status> {
        self.hub.unsubscribe(&request.into_inner().subscription_id)?;
        Ok(Response::new(UnsubscribeResponse { status: done(None) }))
    }
}
