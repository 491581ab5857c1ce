//! `spec.metrics.rules`: label values rewritten by regular expressions.

use std::collections::HashMap;

use regex::Regex;

use super::MetricsError;

/// One entry of `spec.metrics.rules`: a metric and the labels to rewrite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricRule {
    /// The metric, with or without `dapr_`.
    pub name: String,
    /// The labels and their replacements.
    pub labels: Vec<LabelRule>,
}

/// The rewriting of one label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelRule {
    /// The label's name.
    pub name: String,
    /// Pairs of replacement and pattern, applied in this order.
    pub regex: Vec<(String, String)>,
}

/// All rewritings of one label of one family.
#[derive(Debug, Clone, Default)]
pub(super) struct LabelRewriter(Vec<(Regex, String)>);

impl LabelRewriter {
    pub(super) fn rewrite(&self, value: &str) -> String {
        let mut value = value.to_owned();
        for (pattern, replacement) in &self.0 {
            if let std::borrow::Cow::Owned(replaced) = pattern.replace_all(&value, replacement.as_str()) {
                value = replaced;
            }
        }
        value
    }
}

/// Compiled rules by exposed metric name (without `dapr_`) and label.
#[derive(Debug, Default)]
pub(super) struct Rules(HashMap<(String, String), LabelRewriter>);

impl Rules {
    pub(super) fn compile(rules: &[MetricRule]) -> Result<Self, MetricsError> {
        let mut compiled = HashMap::new();
        for rule in rules {
            // Dapr strips the prefix once and does not tell `/` from `_` (pkg/diagnostics/utils/metrics_utils.go).
            let metric = rule.name.replacen("dapr_", "", 1).replace('/', "_");
            for label in &rule.labels {
                let pairs = label
                    .regex
                    .iter()
                    .map(|(replacement, pattern)| {
                        Regex::new(pattern)
                            .map(|regex| (regex, replacement.clone()))
                            .map_err(|source| MetricsError::Rule {
                                metric: rule.name.clone(),
                                label: label.name.clone(),
                                source: Box::new(source),
                            })
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                compiled.insert((metric.clone(), label.name.clone()), LabelRewriter(pairs));
            }
        }
        Ok(Self(compiled))
    }

    /// One rewriter per label, or nothing when no rule names this metric.
    pub(super) fn rewriters(&self, exposed: &str, labels: &[&str]) -> Vec<LabelRewriter> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let metric = exposed.strip_prefix("dapr_").unwrap_or(exposed);
        let found: Vec<LabelRewriter> = labels
            .iter()
            .map(|label| {
                self.0
                    .get(&(metric.to_owned(), (*label).to_owned()))
                    .cloned()
                    .unwrap_or_default()
            })
            .collect();
        if found.iter().all(|rewriter| rewriter.0.is_empty()) {
            return Vec::new();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str) -> Vec<MetricRule> {
        vec![MetricRule {
            name: "dapr_http_server_request_count".into(),
            labels: vec![LabelRule {
                name: "path".into(),
                regex: vec![("/orders/{id}/$1".into(), pattern.into())],
            }],
        }]
    }

    #[test]
    fn rewrites_the_named_label_of_the_named_metric_only() {
        let rules = Rules::compile(&rule("/orders/[^/]+/(.+)")).unwrap();
        let rewriters = rules.rewriters("dapr_http_server_request_count", &["app_id", "path"]);
        assert_eq!(rewriters[1].rewrite("/orders/12/items"), "/orders/{id}/items");
        assert_eq!(rewriters[0].rewrite("/orders/12/items"), "/orders/12/items");
        assert!(rules.rewriters("dapr_http_server_latency", &["path"]).is_empty());
    }

    #[test]
    fn a_broken_pattern_names_the_metric_and_the_label() {
        let error = Rules::compile(&rule("(")).unwrap_err().to_string();
        assert!(
            error.contains("dapr_http_server_request_count") && error.contains("path"),
            "{error}"
        );
    }
}
