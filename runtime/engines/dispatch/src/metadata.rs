//! What publishers and subscriptions ask for in metadata.

use outrigger_types::GoDuration;

use crate::Metadata;

/// Metadata that cannot be read; the texts are components-contrib's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The time to live is neither a duration nor an integer.
    #[error("ttl value must be a valid integer: actual is '{0}'")]
    TtlSyntax(String),
    /// The time to live in seconds is not above zero.
    #[error("ttl value must be higher than zero: actual is '{0}'")]
    TtlRange(i64),
    /// `rawPayload` is no Go boolean.
    #[error("rawPayload value must be a valid boolean: actual is '{0}'")]
    RawPayload(String),
}

/// The value of the first of these properties that is there, their case ignored.
#[must_use]
pub fn property<'a>(metadata: &'a Metadata, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        metadata
            .get(*name)
            .or_else(|| {
                metadata
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value)
            })
            .map(String::as_str)
    })
}

/// The time to live a publisher asks for: `ttl` or `ttlInSeconds`, a Go duration (negative ones count as zero) or
/// seconds above zero.
///
/// # Errors
/// When the value is neither; upstream then publishes without expiration.
pub fn ttl(metadata: &Metadata) -> Result<Option<GoDuration>, MetadataError> {
    let Some(text) = property(metadata, &["ttl", "ttlInSeconds"]).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if let Ok(duration) = GoDuration::parse(text) {
        return Ok(Some(duration.max(GoDuration::ZERO)));
    }
    let seconds: i64 = text
        .parse()
        .map_err(|_| MetadataError::TtlSyntax(text.to_owned()))?;
    if seconds <= 0 {
        return Err(MetadataError::TtlRange(seconds));
    }
    Ok(Some(GoDuration::from_secs(seconds)))
}

/// Go's `strconv.ParseBool`.
#[must_use]
pub fn parse_go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether `rawPayload` asks for messages without envelope.
///
/// # Errors
/// When the value is no Go boolean.
pub fn is_raw_payload(metadata: &Metadata) -> Result<bool, MetadataError> {
    match metadata.get("rawPayload").filter(|text| !text.is_empty()) {
        None => Ok(false),
        Some(text) => parse_go_bool(text).ok_or_else(|| MetadataError::RawPayload(text.clone())),
    }
}

/// The `cloudevent.*` properties that replace attributes of a new envelope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides<'a> {
    /// `cloudevent.id`.
    pub id: Option<&'a str>,
    /// `cloudevent.source`.
    pub source: Option<&'a str>,
    /// `cloudevent.type`.
    pub kind: Option<&'a str>,
    /// `cloudevent.subject`.
    pub subject: Option<&'a str>,
    /// `cloudevent.traceid`.
    pub trace_id: Option<&'a str>,
    /// `cloudevent.traceparent`, which beats `cloudevent.traceid`.
    pub trace_parent: Option<&'a str>,
    /// `cloudevent.tracestate`.
    pub trace_state: Option<&'a str>,
}

impl<'a> Overrides<'a> {
    /// Looks for them, case ignored; an exact spelling beats others.
    #[must_use]
    pub fn from_metadata(metadata: &'a Metadata) -> Self {
        const PREFIX: &str = "cloudevent.";
        let mut overrides = Self::default();
        // Most messages have none; then this is all that happens.
        let has_any = metadata.keys().any(|key| starts_with_ignore_case(key, PREFIX));
        if has_any {
            let get = |name| property(metadata, &[name]);
            overrides = Self {
                id: get("cloudevent.id"),
                source: get("cloudevent.source"),
                kind: get("cloudevent.type"),
                subject: get("cloudevent.subject"),
                trace_id: get("cloudevent.traceid"),
                trace_parent: get("cloudevent.traceparent"),
                trace_state: get("cloudevent.tracestate"),
            };
        }
        overrides
    }
}

pub(crate) fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> Metadata {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn times_to_live() {
        let read = |key, value| ttl(&metadata(&[(key, value)]));
        assert_eq!(read("ttlInSeconds", "10"), Ok(Some(GoDuration::from_secs(10))));
        assert_eq!(read("TTLINSECONDS", "10"), Ok(Some(GoDuration::from_secs(10))));
        assert_eq!(read("ttl", "1m"), Ok(Some(GoDuration::from_secs(60))));
        assert_eq!(read("ttl", "-1m"), Ok(Some(GoDuration::ZERO)));
        assert_eq!(
            read("ttl", "0"),
            Ok(Some(GoDuration::ZERO)),
            "a bare 0 is a Go duration"
        );
        assert_eq!(read("ttl", ""), Ok(None));
        assert_eq!(read("ttl", "9223372036854775807"), Ok(Some(GoDuration::MAX)));
        assert_eq!(
            read("ttl", "soon").unwrap_err().to_string(),
            "ttl value must be a valid integer: actual is 'soon'"
        );
        assert_eq!(
            read("ttl", "-3").unwrap_err().to_string(),
            "ttl value must be higher than zero: actual is '-3'"
        );
        assert_eq!(
            ttl(&metadata(&[("ttl", "1s"), ("ttlInSeconds", "9")])),
            Ok(Some(GoDuration::from_secs(1)))
        );
    }

    #[test]
    fn raw_payload() {
        assert_eq!(is_raw_payload(&metadata(&[("rawPayload", "T")])), Ok(true));
        assert_eq!(is_raw_payload(&metadata(&[("rawPayload", "0")])), Ok(false));
        assert_eq!(
            is_raw_payload(&metadata(&[("rawpayload", "true")])),
            Ok(false),
            "its case matters"
        );
        assert_eq!(
            is_raw_payload(&metadata(&[("rawPayload", "yes")]))
                .unwrap_err()
                .to_string(),
            "rawPayload value must be a valid boolean: actual is 'yes'"
        );
    }

    #[test]
    fn overrides() {
        let with = metadata(&[
            ("CloudEvent.ID", "a"),
            ("cloudevent.type", "t"),
            ("cloudevent.TYPE", "u"),
            ("ttl", "1s"),
        ]);
        let found = Overrides::from_metadata(&with);
        assert_eq!((found.id, found.kind, found.source), (Some("a"), Some("t"), None));
        assert_eq!(
            Overrides::from_metadata(&metadata(&[("type", "t")])),
            Overrides::default()
        );
    }
}
