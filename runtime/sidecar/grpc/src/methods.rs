//! The methods of `dapr.proto.runtime.v1.Dapr` and the groups that allow and deny lists name them by (upstream
//! `pkg/api/grpc/endpoints.go`).

use outrigger_resources::api_rules::{ApiSpec, GrpcApiRules};

macro_rules! groups {
    ($($group:literal: $($method:literal)+;)+) => {
        /// Every group with the full names of its methods.
        const GROUPS: &[(&str, &[&str])] = &[
            $(($group, &[$(concat!("/dapr.proto.runtime.v1.Dapr/", $method)),+]),)+
        ];
    };
}

groups! {
    "invoke.v1": "InvokeService";
    "state.v1": "GetState" "GetBulkState" "SaveState" "DeleteState" "DeleteBulkState" "ExecuteStateTransaction";
    "state.v1alpha1": "QueryStateAlpha1";
    "publish.v1": "PublishEvent" "BulkPublishEvent";
    "publish.v1alpha1": "BulkPublishEventAlpha1";
    "bindings.v1": "InvokeBinding";
    "secrets.v1": "GetSecret" "GetBulkSecret";
    "actors.v1": "RegisterActorTimer" "UnregisterActorTimer" "RegisterActorReminder" "GetActorReminder"
        "UnregisterActorReminder" "UnregisterActorRemindersByType" "ListActorReminders" "GetActorState"
        "ExecuteActorStateTransaction" "InvokeActor";
    "actors.v1alpha1": "SubscribeActorEventsAlpha1";
    "metadata.v1": "GetMetadata" "SetMetadata";
    "configuration.v1alpha1": "GetConfigurationAlpha1" "SubscribeConfigurationAlpha1"
        "UnsubscribeConfigurationAlpha1";
    "configuration.v1": "GetConfiguration" "SubscribeConfiguration" "UnsubscribeConfiguration";
    "lock.v1alpha1": "TryLockAlpha1";
    "unlock.v1alpha1": "UnlockAlpha1";
    "subtlecrypto.v1alpha1": "SubtleGetKeyAlpha1" "SubtleEncryptAlpha1" "SubtleDecryptAlpha1" "SubtleSignAlpha1"
        "SubtleVerifyAlpha1" "SubtleWrapKeyAlpha1" "SubtleUnwrapKeyAlpha1";
    "crypto.v1alpha1": "EncryptAlpha1" "DecryptAlpha1";
    "workflows.v1alpha1": "StartWorkflowAlpha1" "GetWorkflowAlpha1" "TerminateWorkflowAlpha1"
        "RaiseEventWorkflowAlpha1" "PurgeWorkflowAlpha1" "PauseWorkflowAlpha1" "ResumeWorkflowAlpha1";
    "workflows.v1beta1": "StartWorkflowBeta1" "GetWorkflowBeta1" "TerminateWorkflowBeta1" "RaiseEventWorkflowBeta1"
        "PurgeWorkflowBeta1" "PauseWorkflowBeta1" "ResumeWorkflowBeta1";
    "jobs.v1alpha1": "ScheduleJobAlpha1" "DeleteJobAlpha1" "GetJobAlpha1" "DeleteJobsByPrefixAlpha1"
        "ListJobsAlpha1";
    "jobs.v1": "ScheduleJob" "DeleteJob" "GetJob" "DeleteJobsByPrefix" "ListJobs";
    "shutdown.v1": "Shutdown";
    "subscribe.v1alpha1": "SubscribeTopicEventsAlpha1";
    "conversation.v1alpha1": "ConverseAlpha1";
    "conversation.v1alpha2": "ConverseAlpha2";
}

/// Invocation by `InvokeService`; its answers carry no trace context of their own.
pub(crate) const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";

/// The rules of `spec.api` for gRPC.
#[must_use]
pub fn api_rules(spec: &ApiSpec) -> GrpcApiRules {
    GrpcApiRules::new(spec, |group| {
        GROUPS
            .iter()
            .find(|(name, _)| *name == group)
            .map_or(&[][..], |(_, methods)| *methods)
    })
}

/// Who serves a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A method of the Dapr service.
    Dapr(Shape),
    /// The durable task protocol.
    TaskHub(Shape),
    /// Reflection, by version.
    ReflectionV1,
    /// The version that older tools speak.
    ReflectionV1Alpha,
    /// Everything else: an app.
    Proxy,
}

/// How many messages go each way; metrics and traces of the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One and one.
    Unary,
    /// Anything else.
    Stream,
}

impl Route {
    /// The route of a path. A method that a known service does not have is an app's, as in grpc-go.
    pub(crate) fn of(path: &str) -> Self {
        const STREAMS: [&str; 6] = [
            "SubscribeTopicEventsAlpha1",
            "SubscribeActorEventsAlpha1",
            "SubscribeConfiguration",
            "SubscribeConfigurationAlpha1",
            "EncryptAlpha1",
            "DecryptAlpha1",
        ];
        if let Some(method) = path.strip_prefix("/dapr.proto.runtime.v1.Dapr/") {
            if !GROUPS.iter().any(|(_, methods)| methods.contains(&path)) {
                return Self::Proxy;
            }
            return Self::Dapr(if STREAMS.contains(&method) {
                Shape::Stream
            } else {
                Shape::Unary
            });
        }
        match path {
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => Self::ReflectionV1,
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Self::ReflectionV1Alpha,
            "/TaskHubSidecarService/GetWorkItems" => Self::TaskHub(Shape::Stream),
            _ if path
                .strip_prefix("/TaskHubSidecarService/")
                .is_some_and(|method| TASK_HUB.contains(&method)) =>
            {
                Self::TaskHub(Shape::Unary)
            }
            _ => Self::Proxy,
        }
    }

    pub(crate) fn is_unary(self) -> bool {
        matches!(self, Self::Dapr(Shape::Unary) | Self::TaskHub(Shape::Unary))
    }
}

/// The unary methods of `TaskHubSidecarService`.
const TASK_HUB: [&str; 16] = [
    "Hello",
    "StartInstance",
    "GetInstance",
    "WaitForInstanceStart",
    "WaitForInstanceCompletion",
    "RaiseEvent",
    "TerminateInstance",
    "SuspendInstance",
    "ResumeInstance",
    "PurgeInstances",
    "CompleteActivityTask",
    "CompleteOrchestratorTask",
    "CompleteWorkflowTask",
    "RerunWorkflowFromEvent",
    "ListInstanceIDs",
    "GetInstanceHistory",
];

#[cfg(test)]
mod tests {
    use super::*;
    use outrigger_resources::api_rules::ApiRule;
    use outrigger_wire::descriptor_pool;

    #[test]
    fn the_table_is_the_services_method_list() {
        for (service, wanted) in [
            ("dapr.proto.runtime.v1.Dapr", Route::Dapr as fn(Shape) -> Route),
            ("TaskHubSidecarService", Route::TaskHub as fn(Shape) -> Route),
        ] {
            let service = descriptor_pool().get_service_by_name(service).unwrap();
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let streams = method.is_client_streaming() || method.is_server_streaming();
                let shape = if streams { Shape::Stream } else { Shape::Unary };
                assert_eq!(Route::of(&path), wanted(shape), "{path}");
            }
        }
        let service = descriptor_pool()
            .get_service_by_name("dapr.proto.runtime.v1.Dapr")
            .unwrap();
        assert_eq!(
            GROUPS.iter().map(|(_, methods)| methods.len()).sum::<usize>(),
            service.methods().count()
        );
        assert_eq!(Route::of("/dapr.proto.runtime.v1.Dapr/NoSuch"), Route::Proxy);
        assert_eq!(Route::of("/my.Service/GetState"), Route::Proxy);
    }

    #[test]
    fn rules_name_groups() {
        let rule = ApiRule {
            name: "state".to_owned(),
            version: "v1".to_owned(),
            protocol: "grpc".to_owned(),
        };
        let rules = api_rules(&ApiSpec {
            allowed: vec![rule],
            denied: vec![],
        });
        assert!(rules.allows("/dapr.proto.runtime.v1.Dapr/GetState"));
        assert!(!rules.allows("/dapr.proto.runtime.v1.Dapr/QueryStateAlpha1"));
        assert!(rules.allows("/my.Service/GetState"));
    }
}
