//! The methods of `dapr.proto.runtime.v1.Dapr`: each asks the service of its block.

use std::sync::Arc;

use outrigger_sidecar_api::ApiError;
use outrigger_sidecar_blocks::{ConfigurationStream, CryptoStream};
use outrigger_sidecar_pubsub::TopicEventStream;
use outrigger_sidecar_state::TraceInfo;
use outrigger_telemetry::trace::SpanContext;
use outrigger_wire::dapr::proto::{
    common::v1::InvokeResponse,
    runtime::v1::{dapr_server::Dapr, *},
};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{MetadataKey, MetadataMap},
};

use crate::{
    ActorEvents, GrpcOptions,
    trace_layer::{Note, note, span_of},
};

/// Metadata that asks to end without draining (upstream `pkg/api/universal/shutdown.go`).
const FORCE_SHUTDOWN: &str = "dapr-force-shutdown";

type Answer<T> = Result<Response<T>, Status>;

/// The service over the services of the blocks.
#[derive(Debug, Clone)]
pub(crate) struct Api(Arc<GrpcOptions>);

impl Api {
    pub(crate) fn new(options: GrpcOptions) -> Self {
        Self(Arc::new(options))
    }

    async fn bulk_publish(
        &self,
        request: Request<BulkPublishRequest>,
        full_method: &str,
    ) -> Answer<BulkPublishResponse> {
        note(request.extensions(), || {
            Note::Publish(request.get_ref().topic.clone())
        });
        let span = span_of(request.extensions());
        answer(
            self.0
                .pubsub
                .bulk_publish(request.into_inner(), full_method, &span)
                .await,
        )
    }
}

/// The row of the error table stays with its status, for the count of error codes.
fn answer<T>(result: Result<T, ApiError>) -> Answer<T> {
    result.map(Response::new).map_err(|error| {
        tracing::debug!(target: "dapr.runtime.grpc.api", "{error}");
        let mut status = error.to_status();
        status.set_source(Arc::new(error));
        status
    })
}

/// Lays headers on an answer of either kind.
fn with_headers<T>(mut answer: Answer<T>, headers: Vec<(String, String)>) -> Answer<T> {
    let metadata: &mut MetadataMap = match &mut answer {
        Ok(response) => response.metadata_mut(),
        Err(status) => status.metadata_mut(),
    };
    for (name, value) in headers {
        // What cannot be a header is left out: the message still has it.
        if let (Ok(name), Ok(value)) = (MetadataKey::from_bytes(name.as_bytes()), value.parse()) {
            metadata.append(name, value);
        }
    }
    answer
}

fn trace_info(span: &SpanContext) -> TraceInfo {
    if !span.is_valid() {
        return TraceInfo::default();
    }
    TraceInfo {
        traceparent: span.traceparent().as_str().to_owned(),
        tracestate: span.tracestate().unwrap_or_default().to_owned(),
    }
}

#[tonic::async_trait]
impl Dapr for Api {
    async fn invoke_service(&self, request: Request<InvokeServiceRequest>) -> Answer<InvokeResponse> {
        note(request.extensions(), || {
            let InvokeServiceRequest { id, message } = request.get_ref();
            Note::Invocation(
                id.clone(),
                message
                    .as_ref()
                    .map(|message| message.method.clone())
                    .unwrap_or_default(),
            )
        });
        self.0.invocation.invoke_service(request).await
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Answer<GetStateResponse> {
        note(request.extensions(), || {
            Note::State(request.get_ref().store_name.clone())
        });
        answer(self.0.state.grpc_get(request.into_inner()).await)
    }

    async fn get_bulk_state(&self, request: Request<GetBulkStateRequest>) -> Answer<GetBulkStateResponse> {
        answer(self.0.state.grpc_bulk_get(request.into_inner()).await)
    }

    async fn save_state(&self, request: Request<SaveStateRequest>) -> Answer<()> {
        note(request.extensions(), || {
            Note::State(request.get_ref().store_name.clone())
        });
        answer(self.0.state.grpc_save(request.into_inner()).await)
    }

    async fn query_state_alpha1(&self, request: Request<QueryStateRequest>) -> Answer<QueryStateResponse> {
        answer(self.0.state.grpc_query(request.into_inner()).await)
    }

    async fn delete_state(&self, request: Request<DeleteStateRequest>) -> Answer<()> {
        note(request.extensions(), || {
            Note::State(request.get_ref().store_name.clone())
        });
        answer(self.0.state.grpc_delete(request.into_inner()).await)
    }

    async fn delete_bulk_state(&self, request: Request<DeleteBulkStateRequest>) -> Answer<()> {
        answer(self.0.state.grpc_bulk_delete(request.into_inner()).await)
    }

    async fn execute_state_transaction(
        &self,
        request: Request<ExecuteStateTransactionRequest>,
    ) -> Answer<()> {
        let trace = trace_info(&span_of(request.extensions()));
        answer(self.0.state.grpc_transaction(request.into_inner(), trace).await)
    }

    async fn publish_event(&self, request: Request<PublishEventRequest>) -> Answer<()> {
        note(request.extensions(), || {
            Note::Publish(request.get_ref().topic.clone())
        });
        let span = span_of(request.extensions());
        answer(self.0.pubsub.publish_event(request.into_inner(), &span).await)
    }

    async fn bulk_publish_event_alpha1(
        &self,
        request: Request<BulkPublishRequest>,
    ) -> Answer<BulkPublishResponse> {
        self.bulk_publish(request, "/dapr.proto.runtime.v1.Dapr/BulkPublishEventAlpha1/")
            .await
    }

    async fn bulk_publish_event(&self, request: Request<BulkPublishRequest>) -> Answer<BulkPublishResponse> {
        self.bulk_publish(request, "/dapr.proto.runtime.v1.Dapr/BulkPublishEvent/")
            .await
    }

    type SubscribeTopicEventsAlpha1Stream = TopicEventStream;

    async fn subscribe_topic_events_alpha1(
        &self,
        request: Request<Streaming<SubscribeTopicEventsRequestAlpha1>>,
    ) -> Answer<TopicEventStream> {
        Ok(Response::new(
            self.0.pubsub.subscribe_topic_events(request.into_inner()),
        ))
    }

    async fn invoke_binding(&self, request: Request<InvokeBindingRequest>) -> Answer<InvokeBindingResponse> {
        note(request.extensions(), || {
            Note::Binding(request.get_ref().name.clone())
        });
        let span = span_of(request.extensions());
        let (incoming, _, request) = request.into_parts();
        let outcome = self.0.bindings.grpc_invoke(request, &span, &incoming).await;
        with_headers(answer(outcome.result), outcome.headers)
    }

    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        note(request.extensions(), || {
            Note::Secret(request.get_ref().store_name.clone())
        });
        let span = span_of(request.extensions());
        answer(self.0.secrets.grpc_get(request.into_inner(), &span).await)
    }

    async fn get_bulk_secret(&self, request: Request<GetBulkSecretRequest>) -> Answer<GetBulkSecretResponse> {
        let span = span_of(request.extensions());
        answer(self.0.secrets.grpc_bulk(request.into_inner(), &span).await)
    }

    async fn register_actor_timer(&self, request: Request<RegisterActorTimerRequest>) -> Answer<()> {
        answer(self.0.actors.register_timer(request.into_inner()).await)
    }

    async fn unregister_actor_timer(&self, request: Request<UnregisterActorTimerRequest>) -> Answer<()> {
        answer(self.0.actors.unregister_timer(request.into_inner()).await)
    }

    async fn register_actor_reminder(&self, request: Request<RegisterActorReminderRequest>) -> Answer<()> {
        answer(self.0.actors.register_reminder(request.into_inner()).await)
    }

    async fn unregister_actor_reminder(
        &self,
        request: Request<UnregisterActorReminderRequest>,
    ) -> Answer<()> {
        answer(self.0.actors.unregister_reminder(request.into_inner()).await)
    }

    async fn unregister_actor_reminders_by_type(
        &self,
        request: Request<UnregisterActorRemindersByTypeRequest>,
    ) -> Answer<UnregisterActorRemindersByTypeResponse> {
        answer(
            self.0
                .actors
                .unregister_reminders_by_type(request.into_inner())
                .await,
        )
    }

    async fn list_actor_reminders(
        &self,
        request: Request<ListActorRemindersRequest>,
    ) -> Answer<ListActorRemindersResponse> {
        answer(self.0.actors.list_reminders(request.into_inner()).await)
    }

    async fn get_actor_state(&self, request: Request<GetActorStateRequest>) -> Answer<GetActorStateResponse> {
        answer(self.0.actors.get_state(request.into_inner()).await)
    }

    async fn get_actor_reminder(
        &self,
        request: Request<GetActorReminderRequest>,
    ) -> Answer<GetActorReminderResponse> {
        answer(self.0.actors.get_reminder(request.into_inner()).await)
    }

    async fn execute_actor_state_transaction(
        &self,
        request: Request<ExecuteActorStateTransactionRequest>,
    ) -> Answer<()> {
        answer(self.0.actors.state_transaction(request.into_inner()).await)
    }

    async fn invoke_actor(&self, request: Request<InvokeActorRequest>) -> Answer<InvokeActorResponse> {
        answer(self.0.actors.invoke(request.into_inner()).await)
    }

    type SubscribeActorEventsAlpha1Stream = ActorEvents;

    async fn subscribe_actor_events_alpha1(
        &self,
        request: Request<Streaming<SubscribeActorEventsRequestAlpha1>>,
    ) -> Answer<ActorEvents> {
        self.0
            .actors
            .subscribe_events(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_configuration_alpha1(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Answer<GetConfigurationResponse> {
        answer(self.0.configuration.grpc_get(request.into_inner()).await)
    }

    async fn get_configuration(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Answer<GetConfigurationResponse> {
        answer(self.0.configuration.grpc_get(request.into_inner()).await)
    }

    type SubscribeConfigurationAlpha1Stream = ConfigurationStream;

    async fn subscribe_configuration_alpha1(
        &self,
        request: Request<SubscribeConfigurationRequest>,
    ) -> Answer<ConfigurationStream> {
        answer(self.0.configuration.grpc_subscribe(request.into_inner()).await)
    }

    type SubscribeConfigurationStream = ConfigurationStream;

    async fn subscribe_configuration(
        &self,
        request: Request<SubscribeConfigurationRequest>,
    ) -> Answer<ConfigurationStream> {
        answer(self.0.configuration.grpc_subscribe(request.into_inner()).await)
    }

    async fn unsubscribe_configuration_alpha1(
        &self,
        request: Request<UnsubscribeConfigurationRequest>,
    ) -> Answer<UnsubscribeConfigurationResponse> {
        Ok(Response::new(
            self.0.configuration.grpc_unsubscribe(request.into_inner()).await,
        ))
    }

    async fn unsubscribe_configuration(
        &self,
        request: Request<UnsubscribeConfigurationRequest>,
    ) -> Answer<UnsubscribeConfigurationResponse> {
        Ok(Response::new(
            self.0.configuration.grpc_unsubscribe(request.into_inner()).await,
        ))
    }

    async fn try_lock_alpha1(&self, request: Request<TryLockRequest>) -> Answer<TryLockResponse> {
        answer(self.0.lock.grpc_try_lock(request.into_inner()).await)
    }

    async fn unlock_alpha1(&self, request: Request<UnlockRequest>) -> Answer<UnlockResponse> {
        answer(self.0.lock.grpc_unlock(request.into_inner()).await)
    }

    type EncryptAlpha1Stream = CryptoStream<EncryptResponse>;

    async fn encrypt_alpha1(
        &self,
        request: Request<Streaming<EncryptRequest>>,
    ) -> Answer<CryptoStream<EncryptResponse>> {
        answer(self.0.crypto.grpc_encrypt(request.into_inner()).await)
    }

    type DecryptAlpha1Stream = CryptoStream<DecryptResponse>;

    async fn decrypt_alpha1(
        &self,
        request: Request<Streaming<DecryptRequest>>,
    ) -> Answer<CryptoStream<DecryptResponse>> {
        answer(self.0.crypto.grpc_decrypt(request.into_inner()).await)
    }

    async fn get_metadata(&self, _: Request<GetMetadataRequest>) -> Answer<GetMetadataResponse> {
        Ok(Response::new(self.0.control.get_metadata()))
    }

    async fn set_metadata(&self, request: Request<SetMetadataRequest>) -> Answer<()> {
        self.0.control.set_metadata(request.into_inner());
        Ok(Response::new(()))
    }

    async fn subtle_get_key_alpha1(
        &self,
        request: Request<SubtleGetKeyRequest>,
    ) -> Answer<SubtleGetKeyResponse> {
        answer(self.0.crypto.grpc_subtle_get_key(request.into_inner()).await)
    }

    async fn subtle_encrypt_alpha1(
        &self,
        request: Request<SubtleEncryptRequest>,
    ) -> Answer<SubtleEncryptResponse> {
        answer(self.0.crypto.grpc_subtle_encrypt(request.into_inner()).await)
    }

    async fn subtle_decrypt_alpha1(
        &self,
        request: Request<SubtleDecryptRequest>,
    ) -> Answer<SubtleDecryptResponse> {
        answer(self.0.crypto.grpc_subtle_decrypt(request.into_inner()).await)
    }

    async fn subtle_wrap_key_alpha1(
        &self,
        request: Request<SubtleWrapKeyRequest>,
    ) -> Answer<SubtleWrapKeyResponse> {
        answer(self.0.crypto.grpc_subtle_wrap_key(request.into_inner()).await)
    }

    async fn subtle_unwrap_key_alpha1(
        &self,
        request: Request<SubtleUnwrapKeyRequest>,
    ) -> Answer<SubtleUnwrapKeyResponse> {
        answer(self.0.crypto.grpc_subtle_unwrap_key(request.into_inner()).await)
    }

    async fn subtle_sign_alpha1(&self, request: Request<SubtleSignRequest>) -> Answer<SubtleSignResponse> {
        answer(self.0.crypto.grpc_subtle_sign(request.into_inner()).await)
    }

    async fn subtle_verify_alpha1(
        &self,
        request: Request<SubtleVerifyRequest>,
    ) -> Answer<SubtleVerifyResponse> {
        answer(self.0.crypto.grpc_subtle_verify(request.into_inner()).await)
    }

    async fn start_workflow_alpha1(
        &self,
        request: Request<StartWorkflowRequest>,
    ) -> Answer<StartWorkflowResponse> {
        answer(self.0.workflows.start(request.into_inner()).await)
    }

    async fn get_workflow_alpha1(&self, request: Request<GetWorkflowRequest>) -> Answer<GetWorkflowResponse> {
        answer(self.0.workflows.get(request.into_inner()).await)
    }

    async fn purge_workflow_alpha1(&self, request: Request<PurgeWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.purge(request.into_inner()).await)
    }

    async fn terminate_workflow_alpha1(&self, request: Request<TerminateWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.terminate(request.into_inner()).await)
    }

    async fn pause_workflow_alpha1(&self, request: Request<PauseWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.pause(request.into_inner()).await)
    }

    async fn resume_workflow_alpha1(&self, request: Request<ResumeWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.resume(request.into_inner()).await)
    }

    async fn raise_event_workflow_alpha1(&self, request: Request<RaiseEventWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.raise_event(request.into_inner()).await)
    }

    async fn start_workflow_beta1(
        &self,
        request: Request<StartWorkflowRequest>,
    ) -> Answer<StartWorkflowResponse> {
        answer(self.0.workflows.start(request.into_inner()).await)
    }

    async fn get_workflow_beta1(&self, request: Request<GetWorkflowRequest>) -> Answer<GetWorkflowResponse> {
        answer(self.0.workflows.get(request.into_inner()).await)
    }

    async fn purge_workflow_beta1(&self, request: Request<PurgeWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.purge(request.into_inner()).await)
    }

    async fn terminate_workflow_beta1(&self, request: Request<TerminateWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.terminate(request.into_inner()).await)
    }

    async fn pause_workflow_beta1(&self, request: Request<PauseWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.pause(request.into_inner()).await)
    }

    async fn resume_workflow_beta1(&self, request: Request<ResumeWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.resume(request.into_inner()).await)
    }

    async fn raise_event_workflow_beta1(&self, request: Request<RaiseEventWorkflowRequest>) -> Answer<()> {
        answer(self.0.workflows.raise_event(request.into_inner()).await)
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<()> {
        let force = request
            .metadata()
            .get_all(FORCE_SHUTDOWN)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        self.0.control.shutdown(force);
        Ok(Response::new(()))
    }

    async fn schedule_job_alpha1(&self, request: Request<ScheduleJobRequest>) -> Answer<ScheduleJobResponse> {
        answer(
            self.0
                .jobs
                .schedule(request.into_inner())
                .await
                .map(|()| ScheduleJobResponse {}),
        )
    }

    async fn schedule_job(&self, request: Request<ScheduleJobRequest>) -> Answer<ScheduleJobResponse> {
        answer(
            self.0
                .jobs
                .schedule(request.into_inner())
                .await
                .map(|()| ScheduleJobResponse {}),
        )
    }

    async fn get_job_alpha1(&self, request: Request<GetJobRequest>) -> Answer<GetJobResponse> {
        answer(self.0.jobs.get(request.into_inner()).await)
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<GetJobResponse> {
        answer(self.0.jobs.get(request.into_inner()).await)
    }

    async fn delete_job_alpha1(&self, request: Request<DeleteJobRequest>) -> Answer<DeleteJobResponse> {
        answer(
            self.0
                .jobs
                .delete(request.into_inner())
                .await
                .map(|()| DeleteJobResponse {}),
        )
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Answer<DeleteJobResponse> {
        answer(
            self.0
                .jobs
                .delete(request.into_inner())
                .await
                .map(|()| DeleteJobResponse {}),
        )
    }

    async fn delete_jobs_by_prefix_alpha1(
        &self,
        request: Request<DeleteJobsByPrefixRequestAlpha1>,
    ) -> Answer<DeleteJobsByPrefixResponseAlpha1> {
        let request = DeleteJobsByPrefixRequest {
            name_prefix: request.into_inner().name_prefix,
        };
        answer(
            self.0
                .jobs
                .delete_by_prefix(request)
                .await
                .map(|()| DeleteJobsByPrefixResponseAlpha1 {}),
        )
    }

    async fn delete_jobs_by_prefix(
        &self,
        request: Request<DeleteJobsByPrefixRequest>,
    ) -> Answer<DeleteJobsByPrefixResponse> {
        answer(
            self.0
                .jobs
                .delete_by_prefix(request.into_inner())
                .await
                .map(|()| DeleteJobsByPrefixResponse {}),
        )
    }

    async fn list_jobs_alpha1(&self, _: Request<ListJobsRequestAlpha1>) -> Answer<ListJobsResponseAlpha1> {
        answer(
            self.0
                .jobs
                .list()
                .await
                .map(|listed| ListJobsResponseAlpha1 { jobs: listed.jobs }),
        )
    }

    async fn list_jobs(&self, _: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        answer(self.0.jobs.list().await)
    }

    async fn converse_alpha1(&self, request: Request<ConversationRequest>) -> Answer<ConversationResponse> {
        note(request.extensions(), || {
            Note::Conversation(request.get_ref().name.clone())
        });
        answer(
            self.0
                .conversation
                .grpc_converse_alpha1(request.into_inner())
                .await,
        )
    }

    async fn converse_alpha2(
        &self,
        request: Request<ConversationRequestAlpha2>,
    ) -> Answer<ConversationResponseAlpha2> {
        note(request.extensions(), || {
            Note::Conversation(request.get_ref().name.clone())
        });
        answer(
            self.0
                .conversation
                .grpc_converse_alpha2(request.into_inner())
                .await,
        )
    }
}
