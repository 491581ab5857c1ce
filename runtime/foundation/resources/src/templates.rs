//! Templates in metadata values, and a component's settings as its backend gets them (upstream
//! `pkg/runtime/meta`).

use std::collections::BTreeMap;

use crate::kinds::{Component, DynamicValue, NameValue};

/// What templates stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Templates {
    /// For `{appID}`.
    pub app_id: String,
    /// The namespace; `{namespace}` becomes `<namespace>.<appID>`.
    pub namespace: String,
    /// For `{podName}`; empty when unknown.
    pub pod_name: String,
}

/// A template that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to parse metadata: property {property} refers to {{podName}} but podName is not set")]
pub struct TemplateError {
    /// The setting.
    pub property: String,
}

impl Templates {
    /// Fills in one value; `new_id` gives a fresh UUID for every `{uuid}`.
    ///
    /// # Errors
    /// When `{podName}` is used but not known.
    pub fn fill(
        &self,
        property: &str,
        value: &str,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<String, TemplateError> {
        let mut parts = value.split("{uuid}");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(&new_id());
            out.push_str(part);
        }
        if out.contains("{podName}") {
            if self.pod_name.is_empty() {
                return Err(TemplateError {
                    property: property.to_owned(),
                });
            }
            out = out.replace("{podName}", &self.pod_name);
        }
        out = out.replace("{namespace}", &format!("{}.{}", self.namespace, self.app_id));
        Ok(out.replace("{appID}", &self.app_id))
    }

    /// The settings of a component, templates filled in; of equal names the last counts. `strict_sandbox` is the
    /// Configuration's switch for WebAssembly, which such components get as a setting.
    ///
    /// # Errors
    /// When `{podName}` is used but not known.
    pub fn properties(
        &self,
        component: &Component,
        strict_sandbox: bool,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<BTreeMap<String, String>, TemplateError> {
        let mut properties = BTreeMap::new();
        for pair in &component.spec.metadata {
            properties.insert(
                pair.name.clone(),
                self.fill(&pair.name, &pair.value.text(), new_id)?,
            );
        }
        if strict_sandbox && is_wasm(&component.spec.r#type) {
            let name = component
                .spec
                .metadata
                .iter()
                .find(|pair| pair.name.eq_ignore_ascii_case("strictSandbox"))
                .map_or("strictSandbox", |pair| pair.name.as_str());
            properties.insert(name.to_owned(), "true".to_owned());
        }
        Ok(properties)
    }
}

fn is_wasm(r#type: &str) -> bool {
    r#type.ends_with(".wasm")
}

/// Whether a setting mentions `{namespace}`, which makes a pub/sub component prefix its topics (wire.md §6).
#[must_use]
pub fn is_namespace_scoped(metadata: &[NameValue]) -> bool {
    metadata
        .iter()
        .map(|pair| &pair.value)
        .map(DynamicValue::text)
        .any(|text| text.contains("{namespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Templates {
        Templates {
            app_id: "app".to_owned(),
            namespace: "ns".to_owned(),
            pod_name: "pod-1".to_owned(),
        }
    }

    #[test]
    fn fills_every_template() {
        let mut count = 0;
        let mut new_id = || {
            count += 1;
            format!("id{count}")
        };
        let filled = templates()
            .fill(
                "p",
                "{uuid}/{uuid} {podName} {namespace} {appID} {other}",
                &mut new_id,
            )
            .unwrap();
        assert_eq!(filled, "id1/id2 pod-1 ns.app app {other}");
        let unknown = Templates {
            pod_name: String::new(),
            ..templates()
        };
        assert_eq!(
            unknown
                .fill("host", "{podName}", &mut String::new)
                .unwrap_err()
                .to_string(),
            "failed to parse metadata: property host refers to {podName} but podName is not set"
        );
    }

    #[test]
    fn wasm_components_get_the_strict_sandbox() {
        let mut component = Component::default();
        component.spec.r#type = "middleware.http.wasm".to_owned();
        component
            .spec
            .metadata
            .push(NameValue::new("StrictSandbox", "false"));
        let properties = templates()
            .properties(&component, true, &mut String::new)
            .unwrap();
        assert_eq!(
            properties.into_iter().collect::<Vec<_>>(),
            [("StrictSandbox".to_owned(), "true".to_owned())]
        );
    }

    #[test]
    fn a_namespace_template_scopes_the_component() {
        assert!(is_namespace_scoped(&[NameValue::new(
            "consumerID",
            "x-{namespace}"
        )]));
        assert!(!is_namespace_scoped(&[NameValue::new("consumerID", "x-{appID}")]));
    }
}
