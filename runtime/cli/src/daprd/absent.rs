//! Flags that the command line of `daprd` has and that change nothing here: what they set up is not there.
//!
//! They are taken, because scripts and operators' templates carry them, and told of once, because nobody should believe
//! in a setting that does nothing.

use std::time::Duration;

use super::flags::DaprdFlags;

const JOBS: &str = "jobs are not served by this version";
const ACTORS: &str = "actors are not served by this version";
const MUTUAL_TLS: &str = "mutual TLS is not served by this version";
const KUBERNETES: &str = "it is for Kubernetes";
const GONE: &str = "Dapr took it out";

/// The flags given with another value than their default, and why they change nothing. A default says what holds
/// anyway, so it is not worth a word.
fn given(flags: &DaprdFlags) -> impl Iterator<Item = (&'static str, &'static str)> {
    let differs = |given: Option<&String>, default: &str| given.is_some_and(|given| given != default);
    [
        ("scheduler-job-streams", JOBS, flags.scheduler_job_streams != 3),
        (
            "actors-disseminate-timeout",
            ACTORS,
            flags.actors_disseminate_timeout.to_std_or_zero() != Duration::from_secs(30),
        ),
        (
            "control-plane-address",
            KUBERNETES,
            !flags.control_plane_address.is_empty(),
        ),
        (
            "control-plane-trust-domain",
            MUTUAL_TLS,
            differs(flags.control_plane_trust_domain.as_ref(), "localhost"),
        ),
        (
            "control-plane-namespace",
            MUTUAL_TLS,
            differs(flags.control_plane_namespace.as_ref(), "default"),
        ),
        ("sentry-address", MUTUAL_TLS, !flags.sentry_address.is_empty()),
        (
            "sentry-request-jwt-audiences",
            MUTUAL_TLS,
            !flags.sentry_request_jwt_audiences.is_empty(),
        ),
        (
            "disable-builtin-k8s-secret-store",
            KUBERNETES,
            flags.disable_builtin_k8s_secret_store,
        ),
        ("reminders-service", GONE, flags.reminders_service.is_some()),
        ("actors-service", GONE, flags.actors_service.is_some()),
    ]
    .into_iter()
    .filter(|(_, _, given)| *given)
    .map(|(flag, reason, _)| (flag, reason))
}

/// One line about all of them; `None` when there are none. `--placement-host-address` and `--scheduler-host-address`
/// are told of by the sidecar itself (`lifecycle/prepare.rs`).
pub(super) fn warning(flags: &DaprdFlags) -> Option<String> {
    let named: Vec<String> = given(flags)
        .map(|(flag, reason)| format!("--{flag} ({reason})"))
        .collect();
    (!named.is_empty()).then(|| format!("these flags have no effect: {}", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn warned(args: &[&str]) -> Option<String> {
        let flags = DaprdFlags::try_parse_from(std::iter::once(&"daprd").chain(args)).unwrap();
        warning(&flags)
    }

    #[test]
    fn flags_without_a_part_to_set_up_are_told_of_in_one_line() {
        let all = [
            "--scheduler-job-streams=4",
            "--actors-disseminate-timeout=8s",
            "--control-plane-address=operator:80",
            "--control-plane-trust-domain=example.org",
            "--control-plane-namespace=dapr-system",
            "--sentry-address=localhost:50001",
            "--sentry-request-jwt-audiences=a,b",
            "--disable-builtin-k8s-secret-store",
            "--reminders-service=x:y",
            "--actors-service=x:y",
        ];
        let line = warned(&all).unwrap();
        for flag in all {
            let name = flag.split('=').next().unwrap();
            assert_eq!(line.matches(name).count(), 1, "{name}: {line}");
            assert!(warned(&[flag]).unwrap().contains(name));
        }
        assert!(!line.contains('\n'));
    }

    #[test]
    fn defaults_are_not_told_of() {
        let defaults = [
            "--scheduler-job-streams=3",
            "--actors-disseminate-timeout=30s",
            "--control-plane-trust-domain=localhost",
            "--control-plane-namespace=default",
            "--sentry-address=",
            "--disable-builtin-k8s-secret-store=false",
            "--hot-reload-reconcile-interval=1s",
        ];
        assert_eq!(warned(&defaults), None);
        assert_eq!(warned(&[]), None);
    }
}
