//! Publishing over HTTP (A2.1, A2.4; wire.md §2).

use std::{borrow::Cow, collections::HashSet, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use outrigger_component::Metadata;
use outrigger_engine_dispatch::is_raw_payload;
use outrigger_pubsub::OutgoingEntry;
use outrigger_sidecar_api::{
    ApiError, ApiRequest, Body, Category, Endpoint, Group, RenderedError, Reply, errors, handler,
};
use outrigger_telemetry::trace::SpanContext;
use serde::Serialize;

use crate::{
    PubsubService, bulk_entries,
    component::Broker,
    publisher::{FailedEntry, Surface},
    service::TraceOf,
};

const METHODS: &[Method] = &[Method::POST, Method::PUT];
const GROUP: Group = Group {
    name: "publish",
    version: "v1",
};
const GROUP_ALPHA: Group = Group {
    name: "publish",
    version: "v1alpha1",
};
/// What both surfaces answer to entries without an id of their own.
pub(crate) const BAD_ENTRY_ID: &str = "entryId is duplicated or not present for entry";
/// The most a header of ours may hold.
const MAX_HEADER: usize = 4096;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BulkReply<'a> {
    failed_entries: Vec<FailedReply<'a>>,
    error_code: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailedReply<'a> {
    entry_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// A publish request that may go on.
struct Target {
    broker: Arc<Broker>,
    topic: String,
    metadata: Metadata,
    is_raw: bool,
}

impl PubsubService {
    /// The endpoints under `publish`.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let bulk = || handler(self, Self::http_bulk_publish);
        // The bulk routes come first: the other one would take `bulk` for a component.
        vec![
            Endpoint::new(
                METHODS,
                "v1.0",
                "publish/bulk/{pubsubname}/*",
                GROUP,
                "BulkPublishEvent",
                bulk(),
            ),
            Endpoint::new(
                METHODS,
                "v1.0-alpha1",
                "publish/bulk/{pubsubname}/*",
                GROUP_ALPHA,
                "BulkPublishEvent",
                bulk(),
            ),
            Endpoint::new(
                METHODS,
                "v1.0",
                "publish/{pubsubname}/*",
                GROUP,
                "PublishEvent",
                handler(self, Self::http_publish),
            ),
        ]
    }

    async fn target(&self, request: &ApiRequest) -> Result<Target, ApiError> {
        let (name, topic) = (request.param("pubsubname"), request.param("*"));
        let metadata = request.query_metadata();
        let facts = || Some(metadata.clone());
        if name.is_empty() {
            return Err(errors::pubsub::name_empty(facts()));
        }
        let broker = self
            .publisher
            .table
            .get(name)
            .await
            .map_err(|_| errors::pubsub::not_found(name, facts()))?;
        if topic.is_empty() {
            return Err(errors::pubsub::topic_empty(name, facts()));
        }
        let is_raw = is_raw_payload(&metadata)
            .map_err(|error| errors::pubsub::metadata_deserialization(name, facts(), error))?;
        Ok(Target {
            broker,
            topic: topic.to_owned(),
            metadata,
            is_raw,
        })
    }

    async fn http_publish(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let target = self.target(&request).await?;
        let (name, topic) = (target.broker.name(), target.topic.as_str());
        let body = request
            .bytes()
            .await
            .map_err(|error| errors::pubsub::publish_message(name, topic, error.message()))?;
        let data = if target.is_raw {
            body
        } else {
            let trace = TraceOf::from(request.head.extensions.get::<SpanContext>());
            let content_type = request.header(header::CONTENT_TYPE.as_str());
            self.envelope(
                &target.broker,
                topic,
                content_type,
                &body,
                &trace,
                &target.metadata,
            )?
        };
        self.publish_counted(&target.broker, topic, data, target.metadata, Surface::Http)
            .await?;
        Ok(Reply::no_content())
    }

    async fn http_bulk_publish(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let target = self.target(&request).await?;
        let Target {
            broker,
            topic,
            metadata,
            ..
        } = &target;
        let name = broker.name();
        let body = request
            .bytes()
            .await
            .map_err(|error| errors::pubsub::unmarshal_events(name, topic, None, error.message()))?;
        let parent = request
            .head
            .extensions
            .get::<SpanContext>()
            .cloned()
            .unwrap_or_default();
        let entries = self.http_entries(&target, &body, request.head.uri.path(), &parent)?;
        let failed = self
            .publish_bulk_counted(broker, topic, entries, metadata, Surface::Http)
            .await?;
        if failed.is_empty() {
            return Ok(Reply::no_content());
        }
        Ok(self.bulk_failure(name, topic, &failed))
    }

    fn http_entries(
        &self,
        target: &Target,
        body: &Bytes,
        path: &str,
        parent: &SpanContext,
    ) -> Result<Vec<OutgoingEntry>, ApiError> {
        let Target {
            broker,
            topic,
            metadata,
            is_raw,
        } = target;
        let (name, app_id) = (broker.name(), self.options.app_id.as_str());
        // Go reads broken UTF-8 as U+FFFD.
        let text = match std::str::from_utf8(body) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(String::from_utf8_lossy(body).into_owned()),
        };
        let incoming = bulk_entries::parse(&text)
            .map_err(|error| errors::pubsub::unmarshal_events(name, topic, self.app_facts(), error))?;
        let mut entries = Vec::with_capacity(incoming.len());
        let mut ids: HashSet<&str> = HashSet::with_capacity(incoming.len());
        for entry in &incoming {
            let data = entry
                .data()
                .map_err(|error| errors::pubsub::marshal_envelope(name, topic, app_id, error))?;
            if entry.id.is_empty() || !ids.insert(&entry.id) {
                return Err(errors::pubsub::marshal_events(name, topic, app_id, BAD_ENTRY_ID));
            }
            // What the entry says stands over what the request says; an entry that says nothing has nothing.
            let metadata = entry
                .metadata
                .as_ref()
                .map_or_else(Metadata::new, |own| lay_over(metadata, own));
            entries.push(OutgoingEntry {
                id: entry.id.as_ref().into(),
                data,
                content_type: Some(entry.content_type.as_ref().to_owned()),
                metadata,
            });
        }
        if !is_raw {
            self.wrap_entries(broker, topic, &mut entries, path, parent)?;
        }
        Ok(entries)
    }

    /// The answer that lists what was not published; the body is in a header too, as upstream has it.
    fn bulk_failure(&self, name: &str, topic: &str, failed: &[FailedEntry]) -> Response<Body> {
        let cause = failed.first().map_or("", |entry| entry.error.as_str());
        let error = errors::pubsub::publish_message(name, topic, cause);
        let reply = BulkReply {
            failed_entries: failed
                .iter()
                .map(|entry| FailedReply {
                    entry_id: &entry.id,
                    error: &entry.error,
                })
                .collect(),
            error_code: "ERR_PUBSUB_PUBLISH_MESSAGE",
        };
        let body = serde_json::to_vec(&reply).unwrap_or_default();
        let mut response = Reply::json_bytes(body.clone());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        let headers = response.headers_mut();
        for (header, value) in [
            ("metadata.responsedata", body.as_slice()),
            ("metadata.error", error.kit_text().as_bytes()),
        ] {
            if value.len() <= MAX_HEADER
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                headers.insert(header, value);
            }
        }
        response.extensions_mut().insert(RenderedError {
            code: error.code().to_owned(),
            category: Category::Pubsub,
        });
        response
    }

    /// Publishes and counts.
    pub(crate) async fn publish_counted(
        &self,
        broker: &Broker,
        topic: &str,
        data: Bytes,
        metadata: Metadata,
        surface: Surface,
    ) -> Result<(), ApiError> {
        let start = Instant::now();
        let outcome = self
            .publisher
            .publish_to(broker, topic, data, None, metadata, surface)
            .await;
        self.options
            .metrics
            .pubsub_egress(broker.name(), topic, outcome.is_ok(), start.elapsed());
        outcome.map_err(|error| error.into_api(broker.name(), topic, &self.options.app_id))
    }

    /// Publishes many and counts.
    pub(crate) async fn publish_bulk_counted(
        &self,
        broker: &Broker,
        topic: &str,
        entries: Vec<OutgoingEntry>,
        metadata: &Metadata,
        surface: Surface,
    ) -> Result<Vec<FailedEntry>, ApiError> {
        let start = Instant::now();
        let outcome = self
            .publisher
            .publish_bulk_to(broker, topic, entries, metadata, surface)
            .await;
        let success = outcome.as_ref().is_ok_and(Vec::is_empty);
        self.options
            .metrics
            .bulk_pubsub_egress(broker.name(), topic, success, start.elapsed());
        outcome.map_err(|error| error.into_api(broker.name(), topic, &self.options.app_id))
    }
}

/// Metadata of a request with an entry's own laid over it.
pub(crate) fn lay_over(request: &Metadata, own: &Metadata) -> Metadata {
    let mut metadata = request.clone();
    metadata.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    metadata
}
