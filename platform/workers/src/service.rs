//! The manager as `virtufin.WorkManager` (R4), and as a service of its own.

use outrigger_kit::health::Scope;
use outrigger_kit::{App, Error};
use outrigger_platform_engine::Engines;
use outrigger_platform_service::{Context, Definition, Service};
use outrigger_platform_wire::virtufin as proto;
use proto::work_manager_server::{WorkManager, WorkManagerServer};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::code::told;
use crate::error::ManagerError;
use crate::manager::Manager;
use crate::names::SERVICE;
use crate::record::{self, WorkerRecord};
use crate::settings::{KEYS, Options};
use crate::validate;

/// Full name of the gRPC service.
const CONTRACT: &str = "virtufin.WorkManager";
/// What a request may have beside its code, in bytes.
const ROOM: usize = 1 << 20;
/// Most filters of one request.
const MOST_FILTERS: usize = 50;

/// Name, ports (Z6) and settings of the service.
pub fn definition() -> Definition {
    Definition {
        name: SERVICE,
        about: "The worker manager: runs user code that turns events into events.",
        http_port: "5101",
        grpc_port: "5102",
        keys: KEYS.to_vec(),
    }
}

/// Makes the service with these engines.
///
/// # Errors
/// Settings that do not fit; what the TLS library says of its own.
pub fn make(context: Context, engines: Engines) -> anyhow::Result<Service> {
    let options = Options::new(&context.settings).map_err(anyhow::Error::msg)?;
    let manager = Manager::new(context.backend, &context.instance, engines, options)?;
    let recovering = manager.clone();
    let healthy = manager.clone();
    let following = manager.clone();
    let app = App::new(context.client)
        .environment(&context.environment)?
        .health_check("recovery", Scope::Report, move || {
            let manager = healthy.clone();
            async move { manager.recovery().entry().await }
        })
        .recover("workers", move || {
            let manager = recovering.clone();
            async move {
                let recovered = manager.recovery().start().await;
                recovered.map_err(|error| Error::Invalid(error.to_string()))
            }
        })
        .background(move |stop| following.follow(stop));
    Ok(Service {
        app,
        grpc: Routes::new(server(manager)),
        names: vec![CONTRACT],
        rest: true,
        beside: None,
    })
}

/// The gRPC service of a manager. Code has the room that its settings give it.
pub fn server(manager: Manager) -> WorkManagerServer<Api> {
    let room = manager.max_code() + ROOM;
    WorkManagerServer::new(Api(manager)).max_decoding_message_size(room)
}

/// The manager behind its contract.
#[derive(Debug, Clone)]
pub struct Api(Manager);

fn empty(done: Result<(), ManagerError>) -> Result<Response<proto::Empty>, Status> {
    done?;
    Ok(Response::new(proto::Empty {}))
}

#[tonic::async_trait]
impl WorkManager for Api {
    async fn create_worker(
        &self,
        request: Request<proto::CreateWorkerRequest>,
    ) -> Result<Response<proto::CreateWorkerResponse>, Status> {
        let id = self.0.create(request.into_inner()).await?;
        Ok(Response::new(proto::CreateWorkerResponse { id }))
    }

    async fn list_workers(
        &self,
        request: Request<proto::ListWorkersRequest>,
    ) -> Result<Response<proto::ListWorkersResponse>, Status> {
        let filters = request.into_inner().filters;
        if filters.len() > MOST_FILTERS {
            return Err(Status::invalid_argument(format!(
                "at most {MOST_FILTERS} filters"
            )));
        }
        let filters: Vec<_> = filters
            .into_iter()
            .map(|filter| (filter.key, filter.value))
            .collect();
        let workers = self.0.list(&filters).await?;
        Ok(Response::new(proto::ListWorkersResponse {
            workers: workers.into_iter().map(info).collect(),
        }))
    }

    async fn delete_worker(
        &self,
        request: Request<proto::DeleteWorkerRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        empty(self.0.delete(&request.into_inner().id).await)
    }

    async fn start_worker(
        &self,
        request: Request<proto::StartWorkerRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        empty(self.0.start(&request.into_inner().id).await)
    }

    async fn stop_worker(
        &self,
        request: Request<proto::StopWorkerRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        empty(self.0.stop(&request.into_inner().id).await)
    }

    async fn recover_workers(
        &self,
        _: Request<proto::RecoverWorkersRequest>,
    ) -> Result<Response<proto::RecoverWorkersResponse>, Status> {
        let count = self.0.recover().await?;
        Ok(Response::new(proto::RecoverWorkersResponse {
            recovered_count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn get_worker_history(
        &self,
        request: Request<proto::GetWorkerHistoryRequest>,
    ) -> Result<Response<proto::GetWorkerHistoryResponse>, Status> {
        let worker = self.0.worker(&request.into_inner().id).await?;
        let entries = worker.history.into_iter().map(|entry| proto::HistoryEntry {
            code_source: Some(told(&entry.source, &entry.sha256)),
            created_at: entry.created_at,
            sha256: entry.sha256,
        });
        Ok(Response::new(proto::GetWorkerHistoryResponse {
            entries: entries.collect(),
        }))
    }

    async fn load_code_from_content(
        &self,
        request: Request<proto::LoadCodeFromContentRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        let request = request.into_inner();
        let source = proto::CodeSource {
            source: Some(proto::code_source::Source::Content(request.content)),
            credential: None,
            content_sha256: request.content_sha256,
        };
        empty(self.0.load_code(&request.id, Some(source)).await)
    }

    async fn load_code_from_url(
        &self,
        request: Request<proto::LoadCodeFromUrlRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        let request = request.into_inner();
        let source = proto::CodeSource {
            source: Some(proto::code_source::Source::Url(request.url)),
            credential: request.credential,
            content_sha256: request.content_sha256,
        };
        empty(self.0.load_code(&request.id, Some(source)).await)
    }

    async fn load_code(
        &self,
        request: Request<proto::LoadCodeRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        let request = request.into_inner();
        empty(self.0.load_code(&request.id, request.code_source).await)
    }

    async fn set_tag(
        &self,
        request: Request<proto::SetTagRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        let request = request.into_inner();
        validate::tag_key(&request.key)?;
        let changed = self.0.change_tags(&request.id, |tags| {
            if request.value.is_empty() {
                tags.remove(&request.key);
            } else {
                tags.insert(request.key.clone(), request.value.clone());
            }
        });
        empty(changed.await)
    }

    async fn get_tag(
        &self,
        request: Request<proto::GetTagRequest>,
    ) -> Result<Response<proto::GetTagResponse>, Status> {
        let request = request.into_inner();
        let value = self.0.worker(&request.id).await?.tags.remove(&request.key);
        Ok(Response::new(proto::GetTagResponse {
            found: value.is_some(),
            value: value.unwrap_or_default(),
        }))
    }

    async fn set_tags(
        &self,
        request: Request<proto::SetTagsRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        let request = request.into_inner();
        let new: std::collections::BTreeMap<_, _> = request.tags.into_iter().collect();
        empty(self.0.change_tags(&request.id, |tags| *tags = new.clone()).await)
    }

    async fn get_tags(
        &self,
        request: Request<proto::GetTagsRequest>,
    ) -> Result<Response<proto::GetTagsResponse>, Status> {
        let tags = self.0.worker(&request.into_inner().id).await?.tags;
        Ok(Response::new(proto::GetTagsResponse {
            tags: tags.into_iter().collect(),
        }))
    }
}

/// A worker as it is told: no content, no credential.
fn info(worker: WorkerRecord) -> proto::WorkerInfo {
    let status = match worker.status {
        record::Status::Running => proto::WorkerStatus::Running,
        record::Status::Stopped => proto::WorkerStatus::Stopped,
    };
    proto::WorkerInfo {
        code_source: worker.code().map(|entry| told(&entry.source, &entry.sha256)),
        id: worker.id,
        mime_type: worker.mime_type,
        language: worker.language,
        topic: worker.topic,
        group: worker.group.unwrap_or_default(),
        created_at: worker.created_at,
        status: status.into(),
        config: worker.config.into_iter().collect(),
        tags: worker.tags.into_iter().collect(),
    }
}
