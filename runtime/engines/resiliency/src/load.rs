//! From the written resource to checked policies (upstream `DecodeConfiguration`).

use std::{sync::Arc, time::Duration};

use outrigger_engine_expr::Compiler;
use outrigger_types::GoDuration;

use crate::{
    breaker::{BreakerSettings, Trip},
    matching::{PatternError, StatusMatch},
    retry::{BackOffKind, RetryPolicy, pause},
    set::{ActorScope, BuiltIn},
    spec::{CircuitBreakerSpec, RetrySpec},
};

/// Why a resource is not loaded; the texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A timeout is no duration.
    #[error("invalid duration {name:?}, {value}: {reason}")]
    Duration {
        /// Name of the timeout.
        name: String,
        /// What was written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A retry policy or, in upstream's words too, a circuit breaker.
    #[error("invalid retry configuration {name:?}: {} error(s) decoding:\n\n{}", reasons.len(), bullets(reasons))]
    Policy {
        /// Name of the policy.
        name: String,
        /// Everything that is wrong with it.
        reasons: Vec<String>,
    },
    /// A list of status codes.
    #[error(transparent)]
    Matching(#[from] PatternError),
    /// An actor target picks a breaker without saying what shares one.
    #[error("actor circuit breakers must include scope")]
    ScopeMissing,
    /// The scope is neither `type`, `id` nor `both`.
    #[error("unknown circuit breaker scope {0:?}")]
    ScopeUnknown(String),
    /// A cache cannot hold a negative number of breakers.
    #[error("must provide a positive size")]
    CacheSize,
}

fn bullets(reasons: &[String]) -> String {
    reasons
        .iter()
        .map(|reason| format!("* {reason}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Something about a loaded resource that deserves a warning; prints as upstream's log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A built-in policy keeps at least three retries.
    MinimumRetries(String),
    /// A built-in policy that cannot be replaced.
    Protected(String),
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinimumRetries(name) => {
                write!(
                    f,
                    "Attempted override of {name} did not meet minimum retry count, resetting to 3."
                )
            }
            Self::Protected(name) => write!(
                f,
                "Attempted to override protected policy {name} which is not allowed. Ignoring provided policy and using default."
            ),
        }
    }
}

pub(crate) fn timeout(name: &str, value: &str) -> Result<GoDuration, LoadError> {
    GoDuration::parse_millis_or_go(value).map_err(|error| LoadError::Duration {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: error.to_string(),
    })
}

fn field(reasons: &mut Vec<String>, name: &str, text: &str) -> Option<GoDuration> {
    if text.is_empty() {
        return None;
    }
    GoDuration::parse_millis_or_go(text)
        .inspect_err(|_| reasons.push(format!("error decoding '{name}': invalid duration {text:?}")))
        .ok()
}

fn checked<T>(name: &str, reasons: Vec<String>, value: T) -> Result<T, LoadError> {
    if reasons.is_empty() {
        Ok(value)
    } else {
        Err(LoadError::Policy {
            name: name.to_owned(),
            reasons,
        })
    }
}

/// `None` when the name is protected and the policy is to be ignored.
pub(crate) fn retry(
    name: &str,
    spec: &RetrySpec,
    notices: &mut Vec<Notice>,
) -> Result<Option<Arc<RetryPolicy>>, LoadError> {
    let mut reasons = Vec::new();
    let duration = field(&mut reasons, "duration", &spec.duration);
    let max_interval = field(&mut reasons, "maxInterval", &spec.max_interval);
    let exponential = match spec.policy.to_lowercase().as_str() {
        "" | "constant" => false,
        "exponential" => true,
        _ => {
            let policy = &spec.policy;
            reasons.push(format!(
                "error decoding 'policy': invalid PolicyType {policy:?}: unexpected back off policy type: {policy}"
            ));
            false
        }
    };
    checked(name, reasons, ())?;
    let mut max_retries = spec.max_retries.unwrap_or(-1);
    if BuiltIn::is_protected(name) {
        notices.push(Notice::Protected(name.to_owned()));
        return Ok(None);
    }
    if BuiltIn::from_name(name).is_some() && max_retries < 3 {
        notices.push(Notice::MinimumRetries(name.to_owned()));
        max_retries = 3;
    }
    let matching = match &spec.matching {
        Some(lists) => StatusMatch::parse(&lists.http_status_codes, &lists.grpc_status_codes)?,
        None => StatusMatch::default(),
    };
    let kind = if exponential {
        BackOffKind::exponential(max_interval.map_or(Duration::from_secs(60), pause))
    } else {
        BackOffKind::Constant(duration.map_or(Duration::from_secs(5), pause))
    };
    Ok(Some(Arc::new(RetryPolicy {
        kind,
        max_retries: u64::try_from(max_retries).ok(),
        matching,
    })))
}

pub(crate) fn breaker(
    name: &str,
    spec: &CircuitBreakerSpec,
    compiler: &Compiler,
) -> Result<Arc<BreakerSettings>, LoadError> {
    let mut reasons = Vec::new();
    let interval = field(&mut reasons, "interval", &spec.interval);
    let max_requests = u32::try_from(spec.max_requests).unwrap_or_else(|_| {
        reasons.push(format!(
            "cannot parse 'maxRequests', {} overflows uint",
            spec.max_requests
        ));
        0
    });
    let timeout = field(&mut reasons, "timeout", &spec.timeout);
    let trip = if spec.trip.is_empty() {
        Trip::Default
    } else {
        match compiler.compile(&spec.trip) {
            Ok(condition) => Trip::Expr(condition),
            Err(error) => {
                reasons.push(format!(
                    "error decoding 'trip': invalid Expr {:?}: {error}",
                    spec.trip
                ));
                Trip::Default
            }
        }
    };
    let positive = |duration: Option<GoDuration>| duration.map(pause).filter(|d| !d.is_zero());
    checked(
        name,
        reasons,
        Arc::new(BreakerSettings {
            name: name.to_owned(),
            max_requests: max_requests.max(1),
            interval: positive(interval),
            timeout: positive(timeout).unwrap_or(Duration::from_secs(60)),
            trip,
        }),
    )
}

/// The size of a breaker cache, with its default for 0.
pub(crate) fn cache_size(size: i64, default: usize) -> Result<usize, LoadError> {
    if size == 0 {
        return Ok(default);
    }
    usize::try_from(size).map_err(|_| LoadError::CacheSize)
}

pub(crate) fn scope(breaker: &str, scope: &str) -> Result<ActorScope, LoadError> {
    match (breaker, scope) {
        ("", _) => Ok(ActorScope::Type),
        (_, "") => Err(LoadError::ScopeMissing),
        (_, "type") => Ok(ActorScope::Type),
        (_, "id") => Ok(ActorScope::Id),
        (_, "both") => Ok(ActorScope::Both),
        (_, other) => Err(LoadError::ScopeUnknown(other.to_owned())),
    }
}
