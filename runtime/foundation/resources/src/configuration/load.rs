//! Loading: `--config` files onto one set of defaults, or the operator's JSON.

use std::path::{Path, PathBuf};

use outrigger_types::Environment;

use super::{Configuration, Features, MetricSpec, OtelSpec, TracingSpec};
use crate::{
    access_control::AccessControlSpec,
    decode::{Decode as _, Decoder, Dialect},
    finding::{Severity, Warning},
    scopes::SecretScope,
    yaml::{self, Mark, Mode, Node, YamlError},
};

/// Why there is no configuration; fatal at start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file cannot be read.
    #[error("{operation} {}: {}", path.display(), io_text(source))]
    Read {
        /// What was tried, in Go's words.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML.
    #[error(transparent)]
    Syntax(#[from] YamlError),
    /// Values of the wrong type; the text is go-yaml's.
    #[error("yaml: unmarshal errors:\n{}", lines(.0))]
    Types(Vec<(Mark, String)>),
    /// The operator's JSON has values of the wrong type.
    #[error("json: {0}")]
    Json(String),
    /// Two secret scopes name one store.
    #[error("{0} storeName is repeated in secrets configuration")]
    RepeatedStore(String),
    /// A secret scope's default is neither allow nor deny.
    #[error("defaultAccess {0} can be either allow or deny")]
    DefaultAccess(String),
}

fn lines(errors: &[(Mark, String)]) -> String {
    errors
        .iter()
        .map(|(at, text)| format!("  line {}: {text}", at.line))
        .collect::<Vec<_>>()
        .join("\n")
}

pub(crate) fn io_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// A configuration and what was suspicious in its files.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedConfiguration {
    /// The configuration.
    pub configuration: Configuration,
    /// What was suspicious.
    pub warnings: Vec<Warning>,
}

impl Configuration {
    /// What holds when no file says otherwise: metrics on, OTLP over TLS, everybody may invoke.
    #[must_use]
    pub fn defaults() -> Self {
        let mut configuration = Self::default();
        let spec = &mut configuration.spec;
        let otel = OtelSpec {
            is_secure: Some(true),
            ..OtelSpec::default()
        };
        spec.tracing = Some(TracingSpec {
            otel: Some(otel),
            ..TracingSpec::default()
        });
        spec.metric = Some(MetricSpec {
            enabled: Some(true),
            ..MetricSpec::default()
        });
        spec.access_control = Some(AccessControlSpec {
            default_action: "allow".to_owned(),
            trust_domain: "public".to_owned(),
            ..AccessControlSpec::default()
        });
        configuration
    }

    /// Reads `--config` files in order onto the defaults: what a later file mentions wins field by field. With
    /// no files it is the defaults.
    ///
    /// # Errors
    /// When a file cannot be read, is not YAML or has values of the wrong type, or the secret scopes contradict
    /// themselves.
    pub fn load<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
        environment: &Environment,
    ) -> Result<LoadedConfiguration, ConfigurationError> {
        let mut configuration = Self::defaults();
        let mut warnings = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let read = |operation| {
                let path = path.to_owned();
                move |source| ConfigurationError::Read {
                    operation,
                    path,
                    source,
                }
            };
            std::fs::metadata(path).map_err(read("stat"))?;
            let bytes = std::fs::read(path).map_err(read("read"))?;
            warnings.extend(configuration.apply(path, &bytes, environment)?);
        }
        configuration.finish()?;
        Ok(LoadedConfiguration {
            configuration,
            warnings,
        })
    }

    /// Applies one file's text after replacing `$VAR`s. Lines are counted after the replacement.
    fn apply(
        &mut self,
        path: &Path,
        bytes: &[u8],
        environment: &Environment,
    ) -> Result<Vec<Warning>, ConfigurationError> {
        let text = std::str::from_utf8(bytes).map_err(|_| YamlError {
            at: Mark::default(),
            message: "invalid UTF-8".to_owned(),
        })?;
        let text = yaml::expand_environment(text, environment);
        let Some(node) = yaml::parse(&text, Mode::YamlV3)? else {
            return Ok(Vec::new());
        };
        let mut decoder = Decoder::new(Dialect::YamlV3);
        self.decode(&node, &mut decoder);
        if !decoder.errors.is_empty() {
            let errors = decoder
                .errors
                .into_iter()
                .map(|finding| (finding.at, finding.message))
                .collect();
            return Err(ConfigurationError::Types(errors));
        }
        let mut findings = decoder.findings;
        for (field, wanted) in [("kind", "Configuration"), ("apiVersion", "dapr.io/v1alpha1")] {
            if let Some(node) = node.get(field)
                && let yaml::Content::Scalar { text, .. } = &node.content
                && text != wanted
            {
                findings.push(crate::finding::Finding {
                    at: node.at,
                    message: format!(
                        "{field} is {text:?}, but the file is read as a Configuration all the same"
                    ),
                    cure: format!("write {field}: {wanted}"),
                });
            }
        }
        Ok(findings
            .into_iter()
            .map(|finding| Warning::of_finding(Severity::Suspicious, path, 0, finding))
            .collect())
    }

    /// Reads the operator's JSON onto the defaults.
    ///
    /// # Errors
    /// When it has values of the wrong type, or the secret scopes contradict themselves.
    pub fn from_operator(json: &serde_json::Value) -> Result<Self, ConfigurationError> {
        let mut configuration = Self::defaults();
        let mut decoder = Decoder::new(Dialect::Json);
        configuration.decode(&Node::from_json(json), &mut decoder);
        if let Some(error) = decoder.errors.into_iter().next() {
            return Err(ConfigurationError::Json(error.message));
        }
        configuration.finish()?;
        Ok(configuration)
    }

    /// The features that are on; `forced` are those the build switches on.
    pub fn features<'a>(&self, forced: impl IntoIterator<Item = &'a str>) -> Features {
        Features::new(&self.spec.features, forced)
    }

    fn finish(&mut self) -> Result<(), ConfigurationError> {
        if let Some(secrets) = &self.spec.secrets {
            for (index, scope) in secrets.scopes.iter().enumerate() {
                let SecretScope {
                    store_name,
                    default_access,
                    ..
                } = scope;
                if secrets.scopes[..index]
                    .iter()
                    .any(|earlier| earlier.store_name == *store_name)
                {
                    return Err(ConfigurationError::RepeatedStore(store_name.clone()));
                }
                let fits = ["", "allow", "deny"]
                    .iter()
                    .any(|access| default_access.eq_ignore_ascii_case(access));
                if !fits {
                    return Err(ConfigurationError::DefaultAccess(default_access.clone()));
                }
            }
        }
        if let Some(metrics) = self.spec.metrics.clone() {
            self.spec.metric.get_or_insert_default().override_with(&metrics);
        }
        Ok(())
    }
}
