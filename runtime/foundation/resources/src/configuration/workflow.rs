//! Workflow settings.

use outrigger_types::duration::GoDuration;

use crate::decode::decode_fields;

/// Workflows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowSpec {
    /// The most workflow turns at a time in this sidecar; 0 or less for no bound.
    pub max_concurrent_workflow_invocations: i32,
    /// The most activities at a time in this sidecar; 0 or less for no bound.
    pub max_concurrent_activity_invocations: i32,
    /// The most workflow turns at a time in all of them.
    pub global_max_concurrent_workflow_invocations: Option<i32>,
    /// The most activities at a time in all of them.
    pub global_max_concurrent_activity_invocations: Option<i32>,
    /// Bounds of single workflows.
    pub workflow_concurrency_limits: Vec<NamedConcurrencyLimit>,
    /// Bounds of single activities.
    pub activity_concurrency_limits: Vec<NamedConcurrencyLimit>,
    /// How long finished workflows are kept.
    pub state_retention_policy: Option<StateRetentionPolicy>,
}

decode_fields!(WorkflowSpec {
    "maxConcurrentWorkflowInvocations" => max_concurrent_workflow_invocations,
    "maxConcurrentActivityInvocations" => max_concurrent_activity_invocations,
    "globalMaxConcurrentWorkflowInvocations" => global_max_concurrent_workflow_invocations,
    "globalMaxConcurrentActivityInvocations" => global_max_concurrent_activity_invocations,
    "workflowConcurrencyLimits" => workflow_concurrency_limits,
    "activityConcurrencyLimits" => activity_concurrency_limits,
    "stateRetentionPolicy" => state_retention_policy,
});

/// The bound of one workflow or activity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedConcurrencyLimit {
    /// Its name.
    pub name: Option<String>,
    /// The most at a time.
    pub max_concurrent: Option<i32>,
}

decode_fields!(NamedConcurrencyLimit { "name" => name, "maxConcurrent" => max_concurrent });

/// How long finished workflows are kept, by how they ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateRetentionPolicy {
    /// However they ended.
    pub any_terminal: Option<GoDuration>,
    /// Completed.
    pub completed: Option<GoDuration>,
    /// Failed.
    pub failed: Option<GoDuration>,
    /// Terminated.
    pub terminated: Option<GoDuration>,
}

decode_fields!(StateRetentionPolicy {
    "anyTerminal" => any_terminal,
    "completed" => completed,
    "failed" => failed,
    "terminated" => terminated,
});

impl WorkflowSpec {
    /// The most workflow turns at a time in this sidecar.
    #[must_use]
    pub fn max_workflows(&self) -> Option<u32> {
        bound(Some(self.max_concurrent_workflow_invocations))
    }
    /// The most activities at a time in this sidecar.
    #[must_use]
    pub fn max_activities(&self) -> Option<u32> {
        bound(Some(self.max_concurrent_activity_invocations))
    }
    /// The most workflow turns at a time in all sidecars.
    #[must_use]
    pub fn global_max_workflows(&self) -> Option<u32> {
        bound(self.global_max_concurrent_workflow_invocations)
    }
    /// The most activities at a time in all sidecars.
    #[must_use]
    pub fn global_max_activities(&self) -> Option<u32> {
        bound(self.global_max_concurrent_activity_invocations)
    }
}

fn bound(value: Option<i32>) -> Option<u32> {
    value
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| *value > 0)
}
