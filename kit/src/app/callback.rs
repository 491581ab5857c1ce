//! The gRPC face of an app: `AppCallback` and `AppCallbackHealthCheck`, for sidecars started with
//! `--app-protocol grpc` (E1.2). It serves on the app's one port, beside HTTP.
//!
//! Each call becomes a request to the app's own routes, so that a service is written once for both protocols.

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use outrigger_wire::dapr::proto::common::v1::{InvokeRequest, InvokeResponse, http_extension::Verb};
use outrigger_wire::dapr::proto::runtime::v1::app_callback_alpha_server::{
    AppCallbackAlpha, AppCallbackAlphaServer,
};
use outrigger_wire::dapr::proto::runtime::v1::app_callback_health_check_server::{
    AppCallbackHealthCheck, AppCallbackHealthCheckServer,
};
use outrigger_wire::dapr::proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use outrigger_wire::dapr::proto::runtime::v1::{
    BindingEventRequest, BindingEventResponse, HealthCheckResponse, JobEventRequest, JobEventResponse,
    ListInputBindingsResponse, ListTopicSubscriptionsResponse, TopicEventBulkRequest, TopicEventBulkResponse,
    TopicEventBulkResponseEntry, TopicEventRequest, TopicEventResponse, TopicRoutes, TopicRule,
    TopicSubscription, topic_event_bulk_request_entry, topic_event_response::TopicEventResponseStatus,
};
use serde_json::{Map, Value};
use tonic::{Response, Status};
use tower::ServiceExt as _;

use super::subscription::Document;
use crate::endpoint::Token;
use crate::event::grpc::{Parts, event};

/// An answer of the app that is longer is an error; gRPC clients refuse it anyway.
const MAX_ANSWER: usize = 32 << 20;

/// The app as the sidecar sees it over gRPC.
#[derive(Clone)]
struct Callback {
    router: Router,
    subscriptions: Document,
    bindings: Vec<String>,
}

/// The routes of both services, to be merged with the app's. `token` is what the sidecar must show.
pub(super) fn routes(
    router: Router,
    subscriptions: Document,
    bindings: Vec<String>,
    token: Option<Token>,
) -> Router {
    let callback = Callback {
        router,
        subscriptions,
        bindings,
    };
    let check = move |request: tonic::Request<()>| match &token {
        None => Ok(request),
        Some(token) => match request.metadata().get("dapr-api-token") {
            Some(given) if token.matches(given.as_bytes()) => Ok(request),
            _ => Err(Status::unauthenticated("the app's API token is missing or wrong")),
        },
    };
    tonic::service::Routes::default()
        .add_service(AppCallbackServer::with_interceptor(
            callback.clone(),
            check.clone(),
        ))
        .add_service(AppCallbackAlphaServer::with_interceptor(callback.clone(), check))
        .add_service(AppCallbackHealthCheckServer::new(callback))
        .into_axum_router()
        .reset_fallback()
}

impl Callback {
    /// Passes a request to the app's routes.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<(StatusCode, http::HeaderMap, Bytes), Status> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        request.headers_mut().extend(headers);
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok((head.status, head.headers, body.to_bytes()))
    }

    /// Delivers one event, as CloudEvents JSON, and reads the verdict as the sidecar does over HTTP (A2.3).
    async fn deliver(&self, path: &str, event: &Map<String, Value>) -> TopicEventResponseStatus {
        let body = serde_json::to_vec(event).unwrap_or_default();
        let json = [(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/cloudevents+json"),
        )];
        match self.ask(Method::POST, path, json, body.into()).await {
            Ok((StatusCode::NOT_FOUND, ..)) => TopicEventResponseStatus::Drop,
            Ok((status, _, body)) if status.is_success() => {
                let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                match answer["status"].as_str() {
                    Some("RETRY") => TopicEventResponseStatus::Retry,
                    Some("DROP") => TopicEventResponseStatus::Drop,
                    _ => TopicEventResponseStatus::Success,
                }
            }
            _ => TopicEventResponseStatus::Retry,
        }
    }
}

#[tonic::async_trait]
impl AppCallback for Callback {
    async fn on_invoke(
        &self,
        request: tonic::Request<InvokeRequest>,
    ) -> Result<Response<InvokeResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        let request = request.into_inner();
        let (verb, query) = match &request.http_extension {
            None => (Verb::Post, ""),
            Some(extension) => (extension.verb(), extension.querystring.as_str()),
        };
        let method = match verb {
            Verb::None | Verb::Post => Method::POST,
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Put => Method::PUT,
            Verb::Delete => Method::DELETE,
            Verb::Connect => Method::CONNECT,
            Verb::Options => Method::OPTIONS,
            Verb::Trace => Method::TRACE,
            Verb::Patch => Method::PATCH,
        };
        let mut path = format!("/{}", request.method.trim_start_matches('/'));
        if !query.is_empty() {
            path = format!("{path}?{query}");
        }
        let mut passed: Vec<(HeaderName, HeaderValue)> = headers
            .iter()
            .filter(|(name, _)| !matches!(**name, header::CONTENT_LENGTH | header::TE | header::CONTENT_TYPE))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Ok(kind) = HeaderValue::from_str(&request.content_type) {
            passed.push((header::CONTENT_TYPE, kind));
        }
        let data = request.data.map(|any| any.value).unwrap_or_default();
        let (status, headers, body) = self.ask(method, &path, passed, data.into()).await?;
        if !status.is_success() {
            return Err(Status::new(
                code(status),
                String::from_utf8_lossy(&body).into_owned(),
            ));
        }
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default();
        Ok(Response::new(InvokeResponse {
            data: Some(prost_types::Any {
                type_url: String::new(),
                value: body.into(),
            }),
            content_type: content_type.to_owned(),
        }))
    }

    async fn list_topic_subscriptions(
        &self,
        _: tonic::Request<()>,
    ) -> Result<Response<ListTopicSubscriptionsResponse>, Status> {
        let subscriptions = self.subscriptions.iter().map(|entry| {
            let rules = entry.rules().map(|(condition, path)| TopicRule {
                r#match: condition.to_owned(),
                path: path.to_owned(),
            });
            TopicSubscription {
                pubsub_name: entry.pubsub().to_owned(),
                topic: entry.topic().to_owned(),
                metadata: entry.metadata().clone().into_iter().collect::<HashMap<_, _>>(),
                routes: Some(TopicRoutes {
                    rules: rules.collect(),
                    default: entry.default_route().unwrap_or_default().to_owned(),
                }),
                dead_letter_topic: entry.dead_letter_topic().unwrap_or_default().to_owned(),
                bulk_subscribe: None,
            }
        });
        Ok(Response::new(ListTopicSubscriptionsResponse {
            subscriptions: subscriptions.collect(),
        }))
    }

    async fn on_topic_event(
        &self,
        request: tonic::Request<TopicEventRequest>,
    ) -> Result<Response<TopicEventResponse>, Status> {
        let request = request.into_inner();
        let parts = Parts {
            id: request.id,
            source: request.source,
            kind: request.r#type,
            content_type: request.data_content_type,
            data: request.data,
            extensions: request.extensions,
        };
        let event = event(parts, &request.pubsub_name, &request.topic);
        let status = self.deliver(&request.path, &event).await;
        Ok(Response::new(TopicEventResponse {
            status: status.into(),
        }))
    }

    async fn list_input_bindings(
        &self,
        _: tonic::Request<()>,
    ) -> Result<Response<ListInputBindingsResponse>, Status> {
        Ok(Response::new(ListInputBindingsResponse {
            bindings: self.bindings.clone(),
        }))
    }

    async fn on_binding_event(
        &self,
        request: tonic::Request<BindingEventRequest>,
    ) -> Result<Response<BindingEventResponse>, Status> {
        let request = request.into_inner();
        let headers = request.metadata.iter().filter_map(|(name, value)| {
            Some((
                HeaderName::try_from(name.as_str()).ok()?,
                HeaderValue::try_from(value.as_str()).ok()?,
            ))
        });
        let path = format!("/{}", request.name.trim_start_matches('/'));
        let (status, ..) = self.ask(Method::POST, &path, headers, request.data).await?;
        if status.is_success() {
            return Ok(Response::new(BindingEventResponse::default()));
        }
        Err(Status::new(code(status), format!("the app answered {status}")))
    }

    async fn on_bulk_topic_event(
        &self,
        request: tonic::Request<TopicEventBulkRequest>,
    ) -> Result<Response<TopicEventBulkResponse>, Status> {
        let request = request.into_inner();
        let mut statuses = Vec::with_capacity(request.entries.len());
        for entry in request.entries {
            use topic_event_bulk_request_entry::Event;
            let parts = match entry.event {
                Some(Event::CloudEvent(event)) => Parts {
                    id: event.id,
                    source: event.source,
                    kind: event.r#type,
                    content_type: event.data_content_type,
                    data: event.data,
                    extensions: event.extensions,
                },
                Some(Event::Bytes(data)) => Parts {
                    id: entry.entry_id.clone(),
                    source: request.pubsub_name.clone(),
                    kind: "com.dapr.event.sent".to_owned(),
                    content_type: entry.content_type,
                    data,
                    extensions: None,
                },
                None => continue,
            };
            let event = event(parts, &request.pubsub_name, &request.topic);
            let status = self.deliver(&request.path, &event).await;
            statuses.push(TopicEventBulkResponseEntry {
                entry_id: entry.entry_id,
                status: status.into(),
            });
        }
        Ok(Response::new(TopicEventBulkResponse { statuses }))
    }

    async fn on_job_event(
        &self,
        request: tonic::Request<JobEventRequest>,
    ) -> Result<Response<JobEventResponse>, Status> {
        let request = request.into_inner();
        let path = format!("/job/{}", request.name);
        let data = request.data.map(|any| any.value).unwrap_or_default();
        let (status, ..) = self.ask(Method::POST, &path, [], data.into()).await?;
        if status.is_success() {
            return Ok(Response::new(JobEventResponse::default()));
        }
        Err(Status::new(code(status), format!("the app answered {status}")))
    }
}

#[tonic::async_trait]
impl AppCallbackAlpha for Callback {
    async fn on_bulk_topic_event_alpha1(
        &self,
        request: tonic::Request<TopicEventBulkRequest>,
    ) -> Result<Response<TopicEventBulkResponse>, Status> {
        self.on_bulk_topic_event(request).await
    }

    async fn on_job_event_alpha1(
        &self,
        request: tonic::Request<JobEventRequest>,
    ) -> Result<Response<JobEventResponse>, Status> {
        self.on_job_event(request).await
    }
}

#[tonic::async_trait]
impl AppCallbackHealthCheck for Callback {
    async fn health_check(&self, _: tonic::Request<()>) -> Result<Response<HealthCheckResponse>, Status> {
        let (status, _, body) = self.ask(Method::GET, "/healthz", [], Bytes::new()).await?;
        if status.is_success() {
            return Ok(Response::new(HealthCheckResponse::default()));
        }
        Err(Status::unavailable(String::from_utf8_lossy(&body).into_owned()))
    }
}

/// The gRPC code of an HTTP status, as Dapr maps them (dapr pkg/messaging/v1/util.go).
fn code(status: StatusCode) -> tonic::Code {
    match status {
        StatusCode::BAD_REQUEST => tonic::Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
        StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
        StatusCode::NOT_FOUND => tonic::Code::NotFound,
        StatusCode::CONFLICT => tonic::Code::AlreadyExists,
        StatusCode::PRECONDITION_FAILED => tonic::Code::FailedPrecondition,
        StatusCode::TOO_MANY_REQUESTS => tonic::Code::ResourceExhausted,
        StatusCode::NOT_IMPLEMENTED => tonic::Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => tonic::Code::DeadlineExceeded,
        status if status.is_server_error() => tonic::Code::Internal,
        _ => tonic::Code::Unknown,
    }
}
