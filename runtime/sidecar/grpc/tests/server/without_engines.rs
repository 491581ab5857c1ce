//! Actors, workflows and jobs where nothing runs them.

use outrigger_sidecar_api::Body;
use outrigger_sidecar_grpc::{JobScope, absent};
use outrigger_sidecar_http::{HttpService, HttpServiceOptions};
use outrigger_wire::{
    dapr::proto::runtime::v1::*,
    durabletask::{
        CreateInstanceRequest, GetWorkItemsRequest,
        task_hub_sidecar_service_client::TaskHubSidecarServiceClient,
    },
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::Sidecar;

#[tokio::test]
async fn without_engines_the_answers_are_daprs() {
    let sidecar = Sidecar::start(|_| {}).await;
    let mut client = sidecar.client().await;
    let no_placement = (Code::Unavailable, "placement service is not configured");
    let seen = |status: &tonic::Status| (status.code(), status.message().to_owned());
    for status in [
        client
            .invoke_actor(InvokeActorRequest::default())
            .await
            .unwrap_err(),
        client
            .get_actor_state(GetActorStateRequest::default())
            .await
            .unwrap_err(),
        client
            .register_actor_reminder(RegisterActorReminderRequest::default())
            .await
            .unwrap_err(),
        client
            .start_workflow_beta1(StartWorkflowRequest::default())
            .await
            .unwrap_err(),
        client
            .get_workflow_alpha1(GetWorkflowRequest::default())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(seen(&status), (no_placement.0, no_placement.1.to_owned()));
    }
    let reserved = GetActorStateRequest {
        actor_type: "dapr.internal.default.a.workflow".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        client.get_actor_state(reserved).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    let status = client
        .schedule_job(ScheduleJobRequest::default())
        .await
        .unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "Job is empty".to_owned()));
    let job = Job {
        name: "j".to_owned(),
        schedule: Some("@every 1s".to_owned()),
        ..Job::default()
    };
    let status = client
        .schedule_job_alpha1(ScheduleJobRequest {
            job: Some(job),
            overwrite: false,
        })
        .await
        .unwrap_err();
    let text = "failed to schedule job due to: scheduler clients are disabled";
    assert_eq!(seen(&status), (Code::Internal, text.to_owned()));
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DAPR_SCHEDULER_SCHEDULE_JOB");
    assert_eq!(
        (&*info.metadata["appID"], &*info.metadata["namespace"]),
        ("myapp", "default")
    );

    let mut hub = TaskHubSidecarServiceClient::new(sidecar.channel().await);
    hub.hello(()).await.unwrap();
    let status = hub
        .start_instance(CreateInstanceRequest::default())
        .await
        .unwrap_err();
    let text = "failed to create workflow instance: api error: code = Unavailable desc = placement service is not configured";
    assert_eq!(seen(&status), (Code::Unavailable, text.to_owned()));
    let status = hub
        .get_work_items(GetWorkItemsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn without_engines_http_answers_are_daprs() {
    let scope = JobScope {
        app_id: "myapp".into(),
        namespace: "default".into(),
    };
    let service = HttpService::new(absent::endpoints(&scope), HttpServiceOptions::default());
    let call = async |method: &str, path: &str, body: &'static str| {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .body(Body::whole(body))
            .unwrap();
        let response = service.serve(request).await;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let no_placement = (
        400,
        r#"{"errorCode":"ERR_ACTOR_NO_PLACEMENT","message":"placement service is not configured"}"#
            .to_owned(),
    );
    for (method, path, body) in [
        ("PUT", "/v1.0/actors/t/i/method/m", ""),
        ("GET", "/v1.0/actors/t/i/state/k", ""),
        ("POST", "/v1.0/actors/t/i/state", "[]"),
        ("POST", "/v1.0/actors/t/i/reminders/r", "{}"),
        ("DELETE", "/v1.0/actors/t/i/reminders/r", ""),
        ("GET", "/v1.0/actors/t/i/reminders/r", ""),
        ("PUT", "/v1.0/actors/t/i/timers/r", "{}"),
        ("DELETE", "/v1.0/actors/t/i/timers/r", ""),
        ("POST", "/v1.0/workflows/dapr/w/start?instanceID=1", "any"),
        ("GET", "/v1.0-beta1/workflows/dapr/i", ""),
        ("POST", "/v1.0-alpha1/workflows/dapr/i/raiseEvent/e", ""),
        ("POST", "/v1.0/workflows/dapr/i/purge", ""),
    ] {
        assert_eq!(call(method, path, body).await, no_placement, "{method} {path}");
    }
    let (status, body) = call("POST", "/v1.0/actors/t/i/reminders/r", "").await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        r#"{"errorCode":"ERR_MALFORMED_REQUEST","message":"failed deserializing HTTP body: EOF"}"#
    );
    assert_eq!(
        call("GET", "/v1.0/actors/dapr.internal.x/i/state/k", "").await.0,
        403
    );
    for (method, body, status, code) in [
        (
            "POST",
            r#"{"schedule":"@every 1s"}"#,
            500,
            "DAPR_SCHEDULER_SCHEDULE_JOB",
        ),
        (
            "POST",
            r#"{"schedule":"@every 1s","name":"x"}"#,
            400,
            "DAPR_SCHEDULER_JOB_NAME",
        ),
        ("POST", "{}", 400, "DAPR_SCHEDULER_SCHEDULE_EMPTY"),
        ("GET", "", 500, "DAPR_SCHEDULER_GET_JOB"),
        ("DELETE", "", 500, "DAPR_SCHEDULER_DELETE_JOB"),
    ] {
        for version in ["v1.0", "v1.0-alpha1"] {
            let (seen, text) = call(method, &format!("/{version}/jobs/j"), body).await;
            assert_eq!(seen, status, "{text}");
            assert!(text.starts_with(&format!(r#"{{"errorCode":"{code}""#)), "{text}");
        }
    }
}
