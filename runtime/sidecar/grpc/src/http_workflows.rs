//! Workflow management over HTTP (upstream `pkg/api/http/workflow.go`). The component of the path names nothing.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Endpoint, Group, errors, handler};
use outrigger_wire::dapr::proto::runtime::v1::{
    GetWorkflowRequest, PauseWorkflowRequest, PurgeWorkflowRequest, RaiseEventWorkflowRequest,
    ResumeWorkflowRequest, StartWorkflowRequest, TerminateWorkflowRequest,
};

use crate::{WorkflowsApi, http_proto};

struct Workflows(Arc<dyn WorkflowsApi>);

/// The endpoints of `workflows/*` in all versions.
#[must_use]
pub fn endpoints(api: Arc<dyn WorkflowsApi>) -> Vec<Endpoint> {
    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];
    let this = Arc::new(Workflows(api));
    [
        ("v1.0-alpha1", "v1alpha1"),
        ("v1.0-beta1", "v1beta1"),
        ("v1.0", "v1"),
    ]
    .into_iter()
    .flat_map(|(path, version)| {
        let group = Group {
            name: "workflows",
            version,
        };
        let post = |route, name, handler| Endpoint::new(POST, path, route, group, name, handler);
        [
            Endpoint::new(
                GET,
                path,
                "workflows/{workflowComponent}/{instanceID}",
                group,
                "GetWorkflow",
                handler(&this, Workflows::get),
            ),
            post(
                "workflows/{workflowComponent}/{instanceID}/raiseEvent/{eventName}",
                "RaiseEventWorkflow",
                handler(&this, Workflows::raise_event),
            ),
            // One placeholder name per place: upstream's `workflowName` stands where instances are named elsewhere.
            post(
                "workflows/{workflowComponent}/{instanceID}/start",
                "StartWorkflow",
                handler(&this, Workflows::start),
            ),
            post(
                "workflows/{workflowComponent}/{instanceID}/pause",
                "PauseWorkflow",
                handler(&this, Workflows::pause),
            ),
            post(
                "workflows/{workflowComponent}/{instanceID}/resume",
                "ResumeWorkflow",
                handler(&this, Workflows::resume),
            ),
            post(
                "workflows/{workflowComponent}/{instanceID}/terminate",
                "TerminateWorkflow",
                handler(&this, Workflows::terminate),
            ),
            post(
                "workflows/{workflowComponent}/{instanceID}/purge",
                "PurgeWorkflow",
                handler(&this, Workflows::purge),
            ),
        ]
    })
    .collect()
}

fn component(request: &ApiRequest) -> String {
    request.param("workflowComponent").to_owned()
}

fn instance(request: &ApiRequest) -> String {
    request.param("instanceID").to_owned()
}

impl Workflows {
    async fn start(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let started = self
            .0
            .start(StartWorkflowRequest {
                // Whatever the app posts is the input.
                input: request.bytes().await?,
                workflow_component: component(&request),
                workflow_name: instance(&request),
                instance_id: request.query_value("instanceID").unwrap_or_default(),
                ..StartWorkflowRequest::default()
            })
            .await?;
        http_proto::reply(
            StatusCode::ACCEPTED,
            "dapr.proto.runtime.v1.StartWorkflowResponse",
            &started,
        )
    }

    async fn get(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        http_proto::read::<GetWorkflowRequest>(&mut request, "dapr.proto.runtime.v1.GetWorkflowRequest")
            .await?;
        let message = GetWorkflowRequest {
            instance_id: instance(&request),
            workflow_component: component(&request),
        };
        let found = self.0.get(message).await?;
        if found.properties.is_empty() {
            return Err(errors::workflow::instance_not_found(&found.instance_id));
        }
        http_proto::reply(
            StatusCode::OK,
            "dapr.proto.runtime.v1.GetWorkflowResponse",
            &found,
        )
    }

    async fn raise_event(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let event_data = request.bytes().await?;
        let message = RaiseEventWorkflowRequest {
            event_data,
            instance_id: instance(&request),
            workflow_component: component(&request),
            event_name: request.param("eventName").to_owned(),
        };
        self.0.raise_event(message).await?;
        Ok(http_proto::accepted())
    }

    async fn pause(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        http_proto::read::<PauseWorkflowRequest>(&mut request, "dapr.proto.runtime.v1.PauseWorkflowRequest")
            .await?;
        let message = PauseWorkflowRequest {
            instance_id: instance(&request),
            workflow_component: component(&request),
        };
        self.0.pause(message).await?;
        Ok(http_proto::accepted())
    }

    async fn resume(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        http_proto::read::<ResumeWorkflowRequest>(
            &mut request,
            "dapr.proto.runtime.v1.ResumeWorkflowRequest",
        )
        .await?;
        let message = ResumeWorkflowRequest {
            instance_id: instance(&request),
            workflow_component: component(&request),
        };
        self.0.resume(message).await?;
        Ok(http_proto::accepted())
    }

    async fn terminate(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        http_proto::read::<TerminateWorkflowRequest>(
            &mut request,
            "dapr.proto.runtime.v1.TerminateWorkflowRequest",
        )
        .await?;
        let message = TerminateWorkflowRequest {
            instance_id: instance(&request),
            workflow_component: component(&request),
        };
        self.0.terminate(message).await?;
        Ok(http_proto::accepted())
    }

    async fn purge(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        http_proto::read::<PurgeWorkflowRequest>(&mut request, "dapr.proto.runtime.v1.PurgeWorkflowRequest")
            .await?;
        let message = PurgeWorkflowRequest {
            instance_id: instance(&request),
            workflow_component: component(&request),
        };
        self.0.purge(message).await?;
        Ok(http_proto::accepted())
    }
}
