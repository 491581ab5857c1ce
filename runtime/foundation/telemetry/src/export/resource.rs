//! The resource that exports belong to: the app id, overridden by the environment
//! (`createOtelResource` in `pkg/runtime/runtime.go`).

use outrigger_types::Environment;

use super::proto;

/// The attribute naming the service.
pub(crate) const SERVICE_NAME: &str = "service.name";

/// Resource attributes in the order of their keys.
#[derive(Debug, Clone)]
pub(crate) struct Resource(Vec<(String, String)>);

impl Resource {
    /// Only the name of the service, which is all that upstream puts beside the environment's.
    pub(crate) fn new(app_id: &str, environment: &Environment) -> Self {
        Self::with(app_id, &[], environment)
    }

    /// The name of the service and more; empty values are left out.
    pub(crate) fn with(app_id: &str, more: &[(&str, &str)], environment: &Environment) -> Self {
        let mut attributes = vec![(SERVICE_NAME.to_owned(), app_id.to_owned())];
        attributes.extend(
            more.iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        let mut set = |key: &str, value: String| match attributes.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => attributes.push((key.to_owned(), value)),
        };
        if let Some(pairs) = environment.non_empty("OTEL_RESOURCE_ATTRIBUTES") {
            for pair in pairs.split(',') {
                // A pair without a value is an error in Go, which then drops only that pair.
                let Some((key, value)) = pair.split_once('=') else {
                    continue;
                };
                let (key, value) = (key.trim(), value.trim());
                if !key.is_empty() {
                    let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                    set(key, value.into_owned());
                }
            }
        }
        if let Some(name) = environment.non_empty("OTEL_SERVICE_NAME") {
            set(SERVICE_NAME, name.to_owned());
        }
        attributes.sort();
        Self(attributes)
    }

    pub(crate) fn attributes(&self) -> &[(String, String)] {
        &self.0
    }

    pub(crate) fn to_proto(&self) -> proto::Resource {
        proto::Resource {
            attributes: self
                .0
                .iter()
                .map(|(key, value)| proto::attribute(key.as_str(), value.as_str()))
                .collect(),
        }
    }

    pub(crate) fn service_name(&self) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == SERVICE_NAME)
            .map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_app_id() {
        let environment = Environment::from_pairs([
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.namespace=production, a=b%20c,broken,service.name=x",
            ),
            ("OTEL_SERVICE_NAME", "mine"),
        ]);
        let resource = Resource::new("app", &environment);
        assert_eq!(resource.service_name(), "mine");
        assert_eq!(
            resource.attributes(),
            [
                ("a".to_owned(), "b c".to_owned()),
                ("service.name".to_owned(), "mine".to_owned()),
                ("service.namespace".to_owned(), "production".to_owned()),
            ]
        );
        assert_eq!(
            Resource::new("app", &Environment::default()).service_name(),
            "app"
        );
    }
}
