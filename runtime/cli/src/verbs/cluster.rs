//! Flags of `dapr` that mean something in Kubernetes only.
//!
//! `-k` is refused with what to do instead. The others do nothing without `-k` in `dapr` either, so they are taken, and
//! told of: nobody should believe that they narrowed or widened anything.

use anyhow::{Result, bail};
use clap::{ArgAction, Args};

use super::Surroundings;
use crate::console::Status;

/// `-k`, and what chooses among a cluster's namespaces.
#[derive(Debug, Default, Args)]
pub(super) struct ClusterFlags {
    /// List in Kubernetes
    #[arg(short = 'k', long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    kubernetes: bool,
    /// Of all namespaces in Kubernetes
    #[arg(short = 'A', long, hide = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    all_namespaces: bool,
    /// Of one namespace in Kubernetes
    #[arg(long, hide = true)]
    namespace: Option<String>,
}

impl ClusterFlags {
    /// Refuses `-k` and tells of the others. `what` is what is listed here.
    pub(super) fn check(&self, what: &str, around: &Surroundings) -> Result<()> {
        if self.kubernetes {
            bail!(
                "--kubernetes is not served by this version; without it the {what} of this machine are listed"
            );
        }
        let given: Vec<&str> = [
            ("--all-namespaces", self.all_namespaces),
            ("--namespace", self.namespace.is_some()),
        ]
        .iter()
        .filter(|(_, given)| *given)
        .map(|(flag, _)| *flag)
        .collect();
        if !given.is_empty() {
            let text = format!(
                "{} has no effect: it is for Kubernetes; these are the {what} of this machine",
                given.join(", ")
            );
            around.console.remark(Status::Warning, &text);
        }
        Ok(())
    }
}

/// What `dapr init` takes for an installation in Kubernetes.
#[derive(Debug, Default, Args)]
pub(super) struct InstallFlags {
    /// Redis and Zipkin in the cluster
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    dev: Option<bool>,
    /// Wait for the installation
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    wait: Option<bool>,
    /// Seconds to wait
    #[arg(long, hide = true)]
    timeout: Option<u64>,
    /// The namespace of the control plane
    #[arg(short = 'n', long, hide = true)]
    namespace: Option<String>,
    /// mTLS in the cluster
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    enable_mtls: Option<bool>,
    /// Several of each service
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    enable_ha: Option<bool>,
    /// Values of the Helm chart
    #[arg(long, hide = true)]
    set: Vec<String>,
    /// Certificates of the control plane
    #[arg(long, hide = true, requires_all = ["issuer_private_key", "issuer_public_certificate"])]
    ca_root_certificate: Option<String>,
    /// As above
    #[arg(long, hide = true, requires_all = ["ca_root_certificate", "issuer_public_certificate"])]
    issuer_private_key: Option<String>,
    /// As above
    #[arg(long, hide = true, requires_all = ["ca_root_certificate", "issuer_private_key"])]
    issuer_public_certificate: Option<String>,
}

impl InstallFlags {
    /// Those that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        [
            ("--dev", self.dev.is_some()),
            ("--wait", self.wait.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--enable-mtls", self.enable_mtls.is_some()),
            ("--enable-ha", self.enable_ha.is_some()),
            ("--set", !self.set.is_empty()),
            ("--ca-root-certificate", self.ca_root_certificate.is_some()),
            ("--issuer-private-key", self.issuer_private_key.is_some()),
            (
                "--issuer-public-certificate",
                self.issuer_public_certificate.is_some(),
            ),
        ]
        .iter()
        .filter(|(_, given)| *given)
        .map(|(flag, _)| *flag)
        .collect()
    }
}

/// What `dapr uninstall` takes for an installation in Kubernetes.
#[derive(Debug, Default, Args)]
pub(super) struct RemovalFlags {
    /// Redis and Zipkin of the cluster
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    dev: Option<bool>,
    /// Seconds to wait
    #[arg(long, hide = true)]
    timeout: Option<u64>,
    /// The namespace of the control plane
    #[arg(short = 'n', long, hide = true)]
    namespace: Option<String>,
}

impl RemovalFlags {
    /// Those that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        [
            ("--dev", self.dev.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--namespace", self.namespace.is_some()),
        ]
        .iter()
        .filter(|(_, given)| *given)
        .map(|(flag, _)| *flag)
        .collect()
    }
}
