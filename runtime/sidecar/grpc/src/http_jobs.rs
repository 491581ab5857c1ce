//! The jobs API over HTTP (upstream `pkg/api/http/jobs.go`).

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, Response, StatusCode};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, Reply, errors, handler};
use outrigger_wire::dapr::proto::{
    internals::v1::JobHttpRequest,
    runtime::v1::{DeleteJobRequest, GetJobRequest, Job, ScheduleJobRequest},
};
use prost::Message as _;
use prost_types::Any;

use crate::{JobScope, JobsApi, http_proto};

const ROUTE: &str = "jobs/{name}";
/// How a value of any kind is named inside an `Any`.
const VALUE_TYPE: &str = "type.googleapis.com/google.protobuf.Value";

struct Jobs {
    api: Arc<dyn JobsApi>,
    scope: JobScope,
}

/// The endpoints of `jobs/{name}` in all versions.
#[must_use]
pub fn endpoints(api: Arc<dyn JobsApi>, scope: JobScope) -> Vec<Endpoint> {
    const POST: &[Method] = &[Method::POST];
    const DELETE: &[Method] = &[Method::DELETE];
    const GET: &[Method] = &[Method::GET];
    let jobs = Arc::new(Jobs { api, scope });
    [("v1.0-alpha1", "v1alpha1"), ("v1.0", "v1")]
        .into_iter()
        .flat_map(|(path, version)| {
            let group = Group {
                name: "jobs",
                version,
            };
            [
                Endpoint::new(
                    POST,
                    path,
                    ROUTE,
                    group,
                    "ScheduleJob",
                    handler(&jobs, Jobs::schedule),
                ),
                Endpoint::new(
                    DELETE,
                    path,
                    ROUTE,
                    group,
                    "DeleteJob",
                    handler(&jobs, Jobs::delete),
                ),
                Endpoint::new(GET, path, ROUTE, group, "GetJob", handler(&jobs, Jobs::get)),
            ]
        })
        .collect()
}

impl Jobs {
    async fn schedule(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let job: JobHttpRequest =
            http_proto::read(&mut request, "dapr.proto.internals.v1.JobHTTPRequest").await?;
        if !job.name.is_empty() {
            let facts = BTreeMap::from([("appID".to_owned(), self.scope.app_id.to_string())]);
            return Err(errors::scheduler::name_in_body(facts));
        }
        let data = Any {
            type_url: VALUE_TYPE.to_owned(),
            value: job.data.map(|data| data.encode_to_vec()).unwrap_or_default(),
        };
        let request = ScheduleJobRequest {
            overwrite: job.overwrite.unwrap_or_default(),
            job: Some(Job {
                name: request.param("name").trim().to_owned(),
                schedule: job.schedule,
                repeats: job.repeats,
                due_time: job.due_time,
                ttl: job.ttl,
                data: Some(data),
                failure_policy: job.failure_policy,
            }),
        };
        self.api.schedule(request).await?;
        Ok(Reply::no_content())
    }

    async fn delete(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        self.api
            .delete(DeleteJobRequest {
                name: request.param("name").to_owned(),
            })
            .await?;
        Ok(Reply::no_content())
    }

    async fn get(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        match self
            .api
            .get(GetJobRequest {
                name: request.param("name").to_owned(),
            })
            .await?
            .job
        {
            Some(job) => http_proto::reply(StatusCode::OK, "dapr.proto.runtime.v1.Job", &job),
            None => Ok(Reply::no_content()),
        }
    }
}
