//! Publishing over gRPC (A2.1, A2.4; wire.md §3).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use outrigger_component::Metadata;
use outrigger_engine_dispatch::{field, is_raw_payload};
use outrigger_pubsub::OutgoingEntry;
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_telemetry::trace::SpanContext;
use outrigger_wire::dapr::proto::runtime::v1::{
    BulkPublishRequest, BulkPublishResponse, PublishEventRequest,
};

use crate::{
    PubsubService,
    component::Broker,
    publish_http::{BAD_ENTRY_ID, lay_over},
    publisher::Surface,
    service::TraceOf,
};

impl PubsubService {
    async fn grpc_target(
        &self,
        name: &str,
        topic: &str,
        metadata: &Metadata,
    ) -> Result<(Arc<Broker>, bool), ApiError> {
        // An empty map is an absent one on the wire.
        let facts = || (!metadata.is_empty()).then(|| metadata.clone());
        if name.is_empty() {
            return Err(errors::pubsub::name_empty(facts()));
        }
        let broker = self
            .publisher
            .table
            .get(name)
            .await
            .map_err(|_| errors::pubsub::not_found(name, None))?;
        if topic.is_empty() {
            return Err(errors::pubsub::topic_empty(name, facts()));
        }
        let is_raw = is_raw_payload(metadata)
            .map_err(|error| errors::pubsub::metadata_deserialization(name, facts(), error))?;
        Ok((broker, is_raw))
    }

    /// `PublishEvent`. `span` is the context of the call's span.
    ///
    /// # Errors
    /// As the API's table says: unknown component, empty names, forbidden topic, broken envelope, refused by the
    /// broker.
    pub async fn publish_event(
        &self,
        request: PublishEventRequest,
        span: &SpanContext,
    ) -> Result<(), ApiError> {
        let mut metadata = sorted(request.metadata);
        let (broker, is_raw) = self
            .grpc_target(&request.pubsub_name, &request.topic, &metadata)
            .await?;
        let trace = TraceOf::from(Some(span));
        let data = if is_raw {
            metadata.insert(field::TRACE_ID.to_owned(), trace.parent().to_owned());
            metadata.insert(field::TRACE_STATE.to_owned(), trace.state.to_owned());
            request.data
        } else {
            self.envelope(
                &broker,
                &request.topic,
                &request.data_content_type,
                &request.data,
                &trace,
                &metadata,
            )?
        };
        self.publish_counted(&broker, &request.topic, data, metadata, Surface::Grpc)
            .await
    }

    /// `BulkPublishEvent` and its alpha. `full_method` names the spans of the entries
    /// (`/dapr.proto.runtime.v1.Dapr/BulkPublishEvent/`).
    ///
    /// # Errors
    /// As [`PubsubService::publish_event`]; also when any entry fails, because upstream then gives no list.
    pub async fn bulk_publish(
        &self,
        request: BulkPublishRequest,
        full_method: &str,
        span: &SpanContext,
    ) -> Result<BulkPublishResponse, ApiError> {
        let metadata = sorted(request.metadata);
        let (name, topic) = (request.pubsub_name.as_str(), request.topic.as_str());
        let (broker, is_raw) = self.grpc_target(name, topic, &metadata).await?;
        let mut ids: HashSet<&str> = HashSet::with_capacity(request.entries.len());
        if !request
            .entries
            .iter()
            .all(|entry| !entry.entry_id.is_empty() && ids.insert(&entry.entry_id))
        {
            return Err(errors::pubsub::marshal_events(
                name,
                topic,
                &self.options.app_id,
                BAD_ENTRY_ID,
            ));
        }
        drop(ids);
        let mut entries: Vec<OutgoingEntry> = request
            .entries
            .into_iter()
            .map(|entry| OutgoingEntry {
                id: entry.entry_id.into(),
                data: entry.event,
                content_type: Some(entry.content_type),
                metadata: if entry.metadata.is_empty() {
                    Metadata::new()
                } else {
                    lay_over(&metadata, &sorted(entry.metadata))
                },
            })
            .collect();
        if !is_raw {
            self.wrap_entries(&broker, topic, &mut entries, full_method, span)?;
        }
        let failed = self
            .publish_bulk_counted(&broker, topic, entries, &metadata, Surface::Grpc)
            .await?;
        match failed.first() {
            None => Ok(BulkPublishResponse::default()),
            Some(first) => Err(errors::pubsub::publish_message(name, topic, &first.error)),
        }
    }
}

fn sorted(metadata: HashMap<String, String>) -> Metadata {
    metadata.into_iter().collect()
}
