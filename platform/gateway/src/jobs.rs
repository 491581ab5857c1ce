//! Jobs of services, by the sidecar's jobs API (G6.2).
//!
//! Each cron of the services file is a job named `<service>.<cron>` of the gateway's app. When it is due the sidecar
//! calls `/job/<name>`, and the gateway publishes the event or calls the method. A sidecar without a scheduler refuses
//! them; health says so, and they are tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use bytes::Bytes;
use http::StatusCode;
use outrigger_kit::Client;
use outrigger_kit::health::HealthEntry;
use outrigger_wire::dapr::proto::runtime::v1::app_callback_alpha_server::{
    AppCallbackAlpha, AppCallbackAlphaServer,
};
use outrigger_wire::dapr::proto::runtime::v1::{
    DeleteJobRequest, Job, JobEventRequest, JobEventResponse, ScheduleJobRequest, TopicEventBulkRequest,
    TopicEventBulkResponse,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::api::GatewayApi;
use crate::events::{Outgoing, Publisher};
use crate::services::{Cron, Service};

/// The wait before what the sidecar refused is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// One request to the sidecar.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The jobs. Clones share them.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    api: GatewayApi,
    client: Client,
    publisher: Publisher,
    /// Schedules in force, by the job's name.
    scheduled: Mutex<BTreeMap<String, Cron>>,
    /// Why some are not.
    refusal: Mutex<Option<String>>,
}

impl Jobs {
    /// Jobs that call by this API.
    pub fn new(api: GatewayApi, client: Client, publisher: Publisher) -> Self {
        Self(Arc::new(Inner {
            api,
            client,
            publisher,
            scheduled: Mutex::default(),
            refusal: Mutex::default(),
        }))
    }

    /// How they are.
    pub fn health(&self) -> HealthEntry {
        let wanted = self.wanted().len();
        let scheduled = self.0.scheduled.lock().len();
        match self.0.refusal.lock().as_ref() {
            Some(refusal) if wanted > 0 => HealthEntry::degraded(format!(
                "jobs are unavailable: {scheduled} of {wanted} are scheduled; the sidecar says: {refusal}"
            )),
            _ => HealthEntry::healthy(format!("{scheduled} of {wanted} are scheduled")),
        }
    }

    /// The route that the sidecar calls.
    pub fn routes(&self) -> Router {
        let jobs = self.clone();
        Router::new().route(
            "/job/{name}",
            post(move |Path(name): Path<String>, _: Bytes| {
                let jobs = jobs.clone();
                async move { jobs.due(&name).await }
            }),
        )
    }

    /// The same for a sidecar that calls its app by gRPC.
    pub fn grpc_routes(&self) -> Router {
        Routes::new(AppCallbackAlphaServer::new(self.clone()))
            .into_axum_router()
            .reset_fallback()
    }

    /// Keeps the sidecar's jobs as the services file says, until the token is cancelled.
    pub async fn follow(self, stopping: CancellationToken) {
        let mut changes = self.0.api.backends.catalog().changes();
        loop {
            changes.borrow_and_update();
            let complete = self.schedule().await;
            tokio::select! {
                () = stopping.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if !complete => {}
            }
        }
    }

    fn wanted(&self) -> BTreeMap<String, Cron> {
        let services = self.0.api.backends.catalog().services();
        services
            .iter()
            .flat_map(|service| {
                let named = |cron: &Cron| (name(service, cron), cron.clone());
                service.jobs.crons.iter().map(named).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Schedules what is new or changed, takes back what is gone; tells whether all went well.
    async fn schedule(&self) -> bool {
        let wanted = self.wanted();
        let before = self.0.scheduled.lock().clone();
        let mut refusal = None;
        for name in before.keys().filter(|name| !wanted.contains_key(*name)) {
            match self.delete(name).await {
                Ok(()) => {
                    self.0.scheduled.lock().remove(name);
                }
                Err(status) => refusal = Some(status.message().to_owned()),
            }
        }
        for (name, cron) in wanted {
            if before.get(&name) == Some(&cron) {
                continue;
            }
            match self.add(&name, &cron).await {
                Ok(()) => {
                    self.0.scheduled.lock().insert(name, cron);
                }
                Err(status) => {
                    tracing::warn!(job = name, error = status.message(), "a job is not scheduled");
                    refusal = Some(status.message().to_owned());
                }
            }
        }
        let complete = refusal.is_none();
        *self.0.refusal.lock() = refusal;
        complete
    }

    #[allow(
        deprecated,
        reason = "sidecars of the versions that are spoken with have it under this name"
    )]
    async fn add(&self, name: &str, cron: &Cron) -> Result<(), Status> {
        let mut grpc = self
            .0
            .client
            .grpc()
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut request = tonic::Request::new(ScheduleJobRequest {
            job: Some(Job {
                name: name.to_owned(),
                schedule: Some(cron.schedule.clone()),
                ..Job::default()
            }),
            overwrite: true,
        });
        request.set_timeout(TIMEOUT);
        grpc.schedule_job_alpha1(request).await.map(drop)
    }

    #[allow(
        deprecated,
        reason = "sidecars of the versions that are spoken with have it under this name"
    )]
    async fn delete(&self, name: &str) -> Result<(), Status> {
        let mut grpc = self
            .0
            .client
            .grpc()
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut request = tonic::Request::new(DeleteJobRequest {
            name: name.to_owned(),
        });
        request.set_timeout(TIMEOUT);
        match grpc.delete_job_alpha1(request).await {
            Err(status) if status.code() == Code::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Does what a job is for. One that the file does not have any more is done with.
    async fn due(&self, wanted: &str) -> StatusCode {
        let services = self.0.api.backends.catalog().services();
        let found = services.iter().find_map(|service| {
            let cron = service
                .jobs
                .crons
                .iter()
                .find(|cron| name(service, cron) == wanted)?;
            Some((service, cron))
        });
        let Some((service, cron)) = found else {
            tracing::warn!(job = wanted, "a job was due that the services file does not have");
            return StatusCode::OK;
        };
        let outcome = if cron.topic.is_empty() {
            self.0
                .api
                .invoke_as_json(&service.name, &cron.method, MetadataMap::new(), &cron.data_text())
                .await
                .map(drop)
        } else {
            self.publish(service, cron).await
        };
        match outcome {
            Ok(()) => StatusCode::OK,
            Err(status) => {
                tracing::warn!(job = wanted, error = status.message(), "a job failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    async fn publish(&self, service: &Service, cron: &Cron) -> Result<(), Status> {
        let metadata = BTreeMap::from([
            (
                "ce-source".to_owned(),
                format!("urn:com.virtufin.{}", service.name),
            ),
            ("ce-type".to_owned(), "com.virtufin.gateway.job.due".to_owned()),
            ("ce-subject".to_owned(), format!("job/{}", cron.name)),
        ]);
        let event = Outgoing::from_metadata(cron.data_text().into(), metadata)?;
        self.0.publisher.publish(&cron.topic, event).await
    }
}

#[tonic::async_trait]
impl AppCallbackAlpha for Jobs {
    async fn on_bulk_topic_event_alpha1(
        &self,
        _: tonic::Request<TopicEventBulkRequest>,
    ) -> Result<tonic::Response<TopicEventBulkResponse>, Status> {
        Err(Status::unimplemented("the gateway reads topics by streams"))
    }

    async fn on_job_event_alpha1(
        &self,
        request: tonic::Request<JobEventRequest>,
    ) -> Result<tonic::Response<JobEventResponse>, Status> {
        match self.due(&request.into_inner().name).await {
            StatusCode::OK => Ok(tonic::Response::new(JobEventResponse {})),
            _ => Err(Status::internal("the job failed")),
        }
    }
}

fn name(service: &Service, cron: &Cron) -> String {
    format!("{}.{}", service.name, cron.name)
}
