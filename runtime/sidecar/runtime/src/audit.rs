//! The audit log that the Configuration asks for (ours; rows A4.8, B8).

use std::{sync::Arc, time::SystemTime};

use outrigger_resources::configuration::{AuditSpec, Configuration};
use outrigger_telemetry::{
    audit::{
        Audit, AuditActor, AuditDecision, AuditError, AuditOptions, AuditRecord, AuditTarget,
        DEFAULT_MAX_BYTES, DEFAULT_MAX_FILES,
    },
    trace::SpanContext,
};

use crate::{assembly::Assembly, options::SidecarOptions};

/// Opens `spec.logging.audit` and records under which settings the sidecar starts. An instance that takes the place of
/// another goes on with its log: a file has one writer.
///
/// # Errors
/// When the file cannot be opened: a sidecar that has to keep an audit log does not start without.
pub(crate) fn open(
    options: &SidecarOptions,
    configuration: &Configuration,
    before: Option<&Assembly>,
) -> Result<Audit, AuditError> {
    let Some(spec) = spec_of(configuration) else {
        return Ok(Audit::disabled());
    };
    let before = before.filter(|before| {
        before.audit.is_enabled() && spec_of(&before.configuration).is_some_and(|old| old.path == spec.path)
    });
    let audit = match before {
        Some(before) => before.audit.clone(),
        None => create(options, configuration, spec)?,
    };
    for path in &options.config_paths {
        audit.record(&AuditRecord {
            actor: AuditActor::App,
            action: "configuration.load",
            target: &path.to_string_lossy(),
            decision: AuditDecision::Allowed,
            policy: "",
            trace: &SpanContext::default(),
        });
    }
    Ok(audit)
}

fn spec_of(configuration: &Configuration) -> Option<&AuditSpec> {
    let spec = configuration.spec.logging.as_ref()?.audit.as_ref()?;
    (!spec.path.is_empty()).then_some(spec)
}

fn create(
    options: &SidecarOptions,
    configuration: &Configuration,
    spec: &AuditSpec,
) -> Result<Audit, AuditError> {
    let target = if spec.path == "stdout" {
        AuditTarget::Stdout
    } else {
        AuditTarget::File {
            path: options.base_dir.join(&spec.path),
            max_bytes: positive(spec.max_bytes).unwrap_or(DEFAULT_MAX_BYTES),
            max_files: positive(spec.max_files)
                .and_then(|files| usize::try_from(files).ok())
                .unwrap_or(DEFAULT_MAX_FILES),
        }
    };
    let trust_domain = configuration
        .spec
        .access_control
        .as_ref()
        .map(|spec| spec.trust_domain.as_str())
        .filter(|domain| !domain.is_empty())
        .unwrap_or("public");
    let namespace = options.namespace().unwrap_or("default");
    Audit::open(&AuditOptions {
        target,
        app_id: options.app_id.to_string(),
        app: format!("spiffe://{trust_domain}/ns/{namespace}/{}", options.app_id),
        clock: Arc::new(SystemTime::now),
    })
}

fn positive(number: Option<i64>) -> Option<u64> {
    number
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| *number > 0)
}
