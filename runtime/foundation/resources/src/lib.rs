//! Dapr resource kinds: YAML in Go's two dialects, validation, scopes, references, templating and watching.
//!
//! A sidecar gets its resources from a [`ResourceSource`]: the [`DiskLoader`] reads directories. Everything a file
//! says is kept as typed values ([`kinds`], [`configuration`]); what is wrong or merely suspicious comes back as
//! [`Warning`]s with file, line and cure (design D14). Secrets and environment variables are resolved by
//! [`references`], templates by [`templates`], changes found by [`watch`] and [`diff()`].
//!
//! The crate reads neither the process environment nor the working directory (design D13) and starts no tasks.

pub mod access_control;
pub mod api_rules;
pub mod configuration;
mod decode;
mod deny_list;
mod diff;
mod disk;
mod finding;
mod go;
#[cfg(test)]
mod golden;
pub mod kinds;
pub mod references;
mod scopes;
mod source;
pub mod templates;
pub mod watch;
pub mod yaml;

pub use deny_list::ComponentDenyList;
pub use diff::{Diff, diff};
pub use disk::{DiskLoader, DiskOptions, MAX_FILE_BYTES, Survey, survey};
pub use finding::{Finding, Severity, Warning};
pub use scopes::{SecretScope, TopicScopes, in_scope};
pub use source::{LoadError, ResourceSource, Resources, resource_from_json};
