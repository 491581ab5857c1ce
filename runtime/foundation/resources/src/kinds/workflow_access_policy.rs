//! `WorkflowAccessPolicy`, as written (wire.md §11).

use super::{ObjectMeta, Resource};
use crate::decode::{decode_fields, exact_texts};

/// Who may call which workflows and activities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowAccessPolicy {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// The rules.
    pub spec: WorkflowAccessPolicySpec,
    /// The apps it protects; empty means all.
    pub scopes: Vec<String>,
}

decode_fields!(WorkflowAccessPolicy {
    "metadata" => meta,
    "spec" => spec,
    "scopes" => scopes via exact_texts,
} ignoring &["apiVersion", "kind"]);

/// The rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowAccessPolicySpec {
    /// What is allowed; with no rules nothing is.
    pub rules: Vec<WorkflowAccessPolicyRule>,
}

decode_fields!(WorkflowAccessPolicySpec { "rules" => rules });

/// What some callers may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowAccessPolicyRule {
    /// The callers.
    pub callers: Vec<WorkflowCaller>,
    /// The workflows and what may be done with them.
    pub workflows: Vec<WorkflowRule>,
    /// The activities that may be run.
    pub activities: Vec<ActivityRule>,
}

decode_fields!(WorkflowAccessPolicyRule { "callers" => callers, "workflows" => workflows, "activities" => activities });

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowCaller {
    /// Its app id.
    pub app_id: String,
}

decode_fields!(WorkflowCaller { "appID" => app_id });

/// What may be done with a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkflowRule {
    /// The workflow's name, or a glob.
    pub name: String,
    /// `schedule`, `terminate`, `raise`, `pause`, `resume`, `purge`, `get`, `rerun`.
    pub operations: Vec<String>,
}

decode_fields!(WorkflowRule { "name" => name, "operations" => operations });

/// An activity that may be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActivityRule {
    /// The activity's name, or a glob.
    pub name: String,
}

decode_fields!(ActivityRule { "name" => name });

impl Resource for WorkflowAccessPolicy {
    const KIND: &'static str = "WorkflowAccessPolicy";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v1alpha1"];

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name
            && self.meta.namespace == other.meta.namespace
            && self.spec == other.spec
            && self.scopes == other.scopes
    }
}
