//! Metrics settings; `metric` and `metrics` are one setting under two names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use outrigger_types::duration::GoDuration;

use super::OtelSpec;
use crate::decode::decode_fields;

/// The upper bounds of latency buckets in milliseconds when none are configured.
pub const DEFAULT_LATENCY_BUCKETS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0,
    130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0,
    20_000.0, 50_000.0, 100_000.0,
];

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricSpec {
    /// Whether metrics are served; on when not said.
    pub enabled: Option<bool>,
    /// Whether error codes are counted; off when not said.
    pub record_error_codes: Option<bool>,
    /// HTTP metrics.
    pub http: Option<MetricHttp>,
    /// Upper bounds of latency buckets in milliseconds.
    pub latency_distribution_buckets: Option<Vec<i64>>,
    /// Rewriting of label values.
    pub rules: Vec<MetricsRule>,
    /// Push over OTLP (ours).
    pub otel: Option<OtelSpec>,
    /// How often metrics are pushed; a minute when not said (ours).
    pub export_interval: Option<GoDuration>,
}

decode_fields!(MetricSpec {
    "enabled" => enabled,
    "recordErrorCodes" => record_error_codes,
    "http" => http,
    "latencyDistributionBuckets" => latency_distribution_buckets,
    "rules" => rules,
    "otel" => otel,
    "exportInterval" => export_interval,
});

/// HTTP metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricHttp {
    /// Whether paths are labels; on, with a warning, when not said.
    pub increased_cardinality: Option<bool>,
    /// Patterns paths are reduced to.
    pub path_matching: Vec<String>,
    /// Whether the verb is left out; off when not said.
    pub exclude_verbs: Option<bool>,
}

decode_fields!(MetricHttp {
    "increasedCardinality" => increased_cardinality,
    "pathMatching" => path_matching,
    "excludeVerbs" => exclude_verbs,
});

/// Rewriting of one metric's labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricsRule {
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<MetricLabel>,
}

decode_fields!(MetricsRule { "name" => name, "labels" => labels });

/// Rewriting of one label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricLabel {
    /// The label's name.
    pub name: String,
    /// The replacement for values that match the pattern.
    pub regex: BTreeMap<String, String>,
}

decode_fields!(MetricLabel { "name" => name, "regex" => regex });

impl MetricSpec {
    /// Whether metrics are served.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// Whether error codes are counted.
    #[must_use]
    pub fn records_error_codes(&self) -> bool {
        self.record_error_codes.unwrap_or(false)
    }

    /// Whether paths are labels; `None` when not said, which counts as yes and deserves upstream's warning.
    #[must_use]
    pub fn increased_cardinality(&self) -> Option<bool> {
        self.http.as_ref()?.increased_cardinality
    }

    /// Whether the verb is left out.
    #[must_use]
    pub fn excludes_verbs(&self) -> bool {
        self.http
            .as_ref()
            .and_then(|http| http.exclude_verbs)
            .unwrap_or(false)
    }

    /// Patterns paths are reduced to.
    #[must_use]
    pub fn path_matching(&self) -> &[String] {
        self.http.as_ref().map_or(&[], |http| &http.path_matching)
    }

    /// Upper bounds of latency buckets in milliseconds.
    #[must_use]
    pub fn latency_buckets(&self) -> Vec<f64> {
        match &self.latency_distribution_buckets {
            Some(buckets) if !buckets.is_empty() => buckets.iter().map(|bound| *bound as f64).collect(),
            _ => DEFAULT_LATENCY_BUCKETS.to_vec(),
        }
    }

    /// As logs show it: what is said, in the spelling of the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = Map::new();
        let mut say = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown.insert(name.to_owned(), value);
            }
        };
        say("enabled", self.enabled.map(Value::from));
        say("recordErrorCodes", self.record_error_codes.map(Value::from));
        let http = self.http.as_ref().map(|http| {
            let mut shown = Map::new();
            if let Some(increased) = http.increased_cardinality {
                shown.insert("increasedCardinality".to_owned(), increased.into());
            }
            if !http.path_matching.is_empty() {
                shown.insert("pathMatching".to_owned(), http.path_matching.clone().into());
            }
            if let Some(exclude) = http.exclude_verbs {
                shown.insert("excludeVerbs".to_owned(), exclude.into());
            }
            Value::from(shown)
        });
        say("http", http);
        say(
            "latencyDistributionBuckets",
            self.latency_distribution_buckets.clone().map(Value::from),
        );
        let rules: Vec<&str> = self.rules.iter().map(|rule| rule.name.as_str()).collect();
        say("rules", (!rules.is_empty()).then(|| rules.into()));
        Value::from(shown)
    }

    /// Takes over what the other one says.
    pub(super) fn override_with(&mut self, other: &Self) {
        fn take<T: Clone>(place: &mut Option<T>, other: &Option<T>) {
            if other.is_some() {
                place.clone_from(other);
            }
        }
        take(&mut self.enabled, &other.enabled);
        take(&mut self.record_error_codes, &other.record_error_codes);
        take(&mut self.http, &other.http);
        take(
            &mut self.latency_distribution_buckets,
            &other.latency_distribution_buckets,
        );
        take(&mut self.otel, &other.otel);
        take(&mut self.export_interval, &other.export_interval);
        if !other.rules.is_empty() {
            self.rules.clone_from(&other.rules);
        }
    }
}
