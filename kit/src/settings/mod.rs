//! Settings of a service: command line, then environment, then file, then default (E1.8).
//!
//! A service lists its keys; [`standard_keys`] has those that every service shares. All mistakes are found before
//! the first one is told. In variables and in files case and underscores of a name do not count (Z7); flags are exact.

mod file;
mod spelling;

use std::collections::BTreeMap;
use std::path::Path;

use crate::Environment;
use spelling::Layer;

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in files and for look-up, such as `DaprHttpPort`. Look-up is exact.
    pub name: &'static str,
    /// Its command line flag, such as `--dapr-http-port`.
    pub flag: &'static str,
    /// Environment variables that set it, the first one that is set counts; after the name they count in files too.
    pub variables: &'static [&'static str],
    /// What it is if nothing sets it.
    pub default: Option<&'static str>,
    /// What values it takes.
    pub kind: Kind,
    /// What it is for, in one line.
    pub help: &'static str,
}

impl Key {
    /// What it is called in files.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.variables.iter().copied())
    }
}

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A port, 1–65535.
    Port,
    /// A whole number in a range.
    Number {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl Kind {
    fn check(self, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().ok();
        match self {
            Self::Text => Ok(()),
            Self::Port => match number() {
                Some(1..=65535) => Ok(()),
                _ => Err("a port from 1 to 65535".to_owned()),
            },
            Self::Number { min, max } => match number() {
                Some(value) if (min..=max).contains(&value) => Ok(()),
                _ => Err(format!("a number from {min} to {max}")),
            },
            Self::OneOf(words) if words.contains(&value) => Ok(()),
            Self::OneOf(words) => Err(format!("one of {}", words.join(", "))),
        }
    }
}

/// The keys that every service shares.
pub fn standard_keys() -> Vec<Key> {
    let port = |name, flag, variables, default, help| Key {
        name,
        flag,
        variables,
        default,
        kind: Kind::Port,
        help,
    };
    let text = |name, flag, variables, default, help| Key {
        name,
        flag,
        variables,
        default: Some(default),
        kind: Kind::Text,
        help,
    };
    vec![
        port(
            "HttpPort",
            "--http-port",
            &["HttpPort", "HTTP_PORT", "APP_PORT"],
            None,
            "port that this service listens on",
        ),
        port(
            "GrpcPort",
            "--grpc-port",
            &["GrpcPort", "GRPC_PORT"],
            None,
            "port for gRPC",
        ),
        port(
            "GrpcWebPort",
            "--grpc-web-port",
            &["GrpcWebPort", "GRPC_WEB_PORT"],
            None,
            "port for gRPC-Web",
        ),
        port(
            "DaprHttpPort",
            "--dapr-http-port",
            &["DaprHttpPort", "DAPR_HTTP_PORT"],
            Some("3500"),
            "HTTP port of the sidecar",
        ),
        port(
            "DaprGrpcPort",
            "--dapr-grpc-port",
            &["DaprGrpcPort", "DAPR_GRPC_PORT"],
            Some("50001"),
            "gRPC port of the sidecar",
        ),
        text(
            "pubsubName",
            "--pubsub-name",
            &["pubsubName", "PUBSUB_NAME"],
            "pubsub",
            "pub/sub component",
        ),
        text(
            "stateStoreName",
            "--state-store-name",
            &["stateStoreName", "STATE_STORE_NAME"],
            "statestore",
            "state store component",
        ),
        Key {
            name: "LogLevel",
            flag: "--log-level",
            variables: &["LogLevel", "LOG_LEVEL"],
            default: Some("info"),
            kind: Kind::OneOf(&["trace", "debug", "info", "warn", "error"]),
            help: "least important messages that are logged",
        },
        Key {
            name: "LogFormat",
            flag: "--log-format",
            variables: &["LogFormat", "LOG_FORMAT"],
            default: Some("text"),
            kind: Kind::OneOf(&["text", "json"]),
            help: "how log lines look",
        },
    ]
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    CommandLine,
    /// A variable.
    Environment,
    /// The settings file.
    File,
    /// Nothing set it.
    Default,
}

/// Checked settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
    /// Arguments that are no flags, in their order.
    pub arguments: Vec<String>,
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads the settings. `arguments` are those after the program's name; `file` is JSON or YAML, one flat mapping.
    ///
    /// # Errors
    /// All mistakes at once; services print them to stderr and leave with exit code 1.
    pub fn load(
        keys: &[Key],
        arguments: impl IntoIterator<Item = String>,
        environment: &Environment,
        file: Option<&Path>,
    ) -> Result<Self, SettingsError> {
        let mut mistakes = Vec::new();
        let mut settings = Self::default();
        let flags = settings.read_arguments(keys, arguments, &mut mistakes);
        let from_file = match file.map(file::read) {
            None => BTreeMap::new(),
            Some(Ok(values)) => values,
            Some(Err(mistake)) => {
                mistakes.push(mistake);
                BTreeMap::new()
            }
        };
        let in_file = Layer::new("the settings file", &from_file);
        let in_environment = Layer::new(
            "the environment",
            environment.iter().filter(|(_, value)| !value.is_empty()),
        );
        let known: Vec<&str> = keys.iter().flat_map(Key::names).collect();
        for name in in_file.unknown(&known) {
            mistakes.push(format!("the settings file has an unknown key {name:?}"));
        }
        for key in keys {
            let mut found = |value: Result<Option<(&str, &str)>, String>| {
                let value = value.unwrap_or_else(|mistake| {
                    mistakes.push(mistake);
                    None
                });
                value.map(|(name, value)| (name.to_owned(), value.to_owned()))
            };
            // Both are looked at, so that what is covered is right too.
            let variable = found(in_environment.find(key.variables.iter().copied()));
            let line = found(in_file.find(key.names()));
            let (origin, value, source) = if let Some(value) = flags.get(key.flag) {
                (key.flag.to_owned(), value.clone(), Source::CommandLine)
            } else if let Some((name, value)) = variable {
                (name, value, Source::Environment)
            } else if let Some((name, value)) = line {
                (name, value, Source::File)
            } else if let Some(value) = key.default {
                (key.name.to_owned(), value.to_owned(), Source::Default)
            } else {
                continue;
            };
            match key.kind.check(&value) {
                Ok(()) => {
                    settings.values.insert(key.name, (value, source));
                }
                Err(expected) => mistakes.push(format!("{origin} must be {expected}, not {value:?}")),
            }
        }
        if mistakes.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError(mistakes))
        }
    }

    fn read_arguments(
        &mut self,
        keys: &[Key],
        arguments: impl IntoIterator<Item = String>,
        mistakes: &mut Vec<String>,
    ) -> BTreeMap<&'static str, String> {
        let mut flags = BTreeMap::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with("--") {
                self.arguments.push(argument);
                continue;
            }
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let Some(key) = keys.iter().find(|key| key.flag == flag) else {
                mistakes.push(format!("unknown flag {flag}"));
                continue;
            };
            match value.or_else(|| arguments.next()) {
                Some(value) => {
                    flags.insert(key.flag, value);
                }
                None => mistakes.push(format!("{flag} needs a value")),
            }
        }
        flags
    }

    /// The value of a key, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// The value of a key; empty if it is not set.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The value of a [`Kind::Port`] key.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.get(name)?.parse().ok()
    }

    /// The value of a [`Kind::Number`] key.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Where the value of a key came from.
    pub fn source(&self, name: &str) -> Option<Source> {
        self.values.get(name).map(|(_, source)| *source)
    }
}

/// The flags as lines for a help text.
pub fn usage(keys: &[Key]) -> String {
    let width = keys.iter().map(|key| key.flag.len()).max().unwrap_or_default();
    keys.iter()
        .map(|key| {
            let default = key
                .default
                .map(|value| format!(" [default: {value}]"))
                .unwrap_or_default();
            format!("  {:width$}  {}{default}\n", key.flag, key.help)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        arguments: &[&str],
        variables: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.yaml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        Settings::load(
            &standard_keys(),
            arguments.iter().map(|text| text.to_string()),
            &variables
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
            file.map(|_| path.as_path()),
        )
    }

    #[test]
    fn each_layer_covers_the_next() {
        let port = |arguments: &[&str], variables: &[(&str, &str)], file| {
            let settings = load(arguments, variables, file).unwrap();
            (
                settings.port("DaprHttpPort").unwrap(),
                settings.source("DaprHttpPort").unwrap(),
            )
        };
        let file = Some("daprHttpPort: 4003\n");
        let variable = &[("DAPR_HTTP_PORT", "4002")];
        assert_eq!(
            port(&["--dapr-http-port", "4001"], variable, file),
            (4001, Source::CommandLine)
        );
        assert_eq!(
            port(&["--dapr-http-port=4001"], variable, file),
            (4001, Source::CommandLine)
        );
        assert_eq!(port(&[], variable, file), (4002, Source::Environment));
        assert_eq!(port(&[], &[], file), (4003, Source::File));
        assert_eq!(
            port(&[], &[], Some(r#"{"DaprHttpPort": 4004}"#)),
            (4004, Source::File)
        );
        assert_eq!(port(&[], &[], None), (3500, Source::Default));
    }

    #[test]
    fn case_and_underscores_of_a_name_do_not_count() {
        for name in ["HttpPort", "HTTP_PORT", "httpPort", "http_port", "APP_PORT"] {
            let in_file = load(&[], &[], Some(&format!("{name}: 38111\n"))).unwrap();
            assert_eq!(in_file.port("HttpPort"), Some(38111), "{name} in a file");
            assert_eq!(in_file.source("HttpPort"), Some(Source::File));
            let variable = load(&[], &[(name, "38112")], Some("HTTP_PORT: 38111\n")).unwrap();
            assert_eq!(variable.port("HttpPort"), Some(38112), "{name} as a variable");
        }
        let json = load(&[], &[], Some(r#"{"PUBSUB_NAME": "broker"}"#)).unwrap();
        assert_eq!(json.text("pubsubName"), "broker");
    }

    #[test]
    fn two_spellings_in_one_place_are_a_mistake_that_names_both() {
        let in_file = load(&[], &[], Some("HTTP_PORT: 1\nHttpPort: 1\n")).unwrap_err();
        let variables = load(&[], &[("LOG_LEVEL", "info"), ("LogLevel", "warn")], None).unwrap_err();
        for (error, names) in [
            (in_file, ["the settings file", "\"HTTP_PORT\"", "\"HttpPort\""]),
            (variables, ["the environment", "\"LOG_LEVEL\"", "\"LogLevel\""]),
        ] {
            assert_eq!(error.0.len(), 1, "{error}");
            for name in names {
                assert!(error.0[0].contains(name), "{name} in {error}");
            }
        }
        // Unset is not set twice, and another variable of the setting is no spelling of it.
        let settings = load(
            &[],
            &[("HttpPort", ""), ("HTTP_PORT", "81"), ("APP_PORT", "82")],
            None,
        );
        assert_eq!(settings.unwrap().port("HttpPort"), Some(81));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = load(
            &["--http-port", "70000", "--colour", "--log-level"],
            &[("DAPR_GRPC_PORT", "0")],
            Some("LogLevel: loud\nshape: round\n"),
        )
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "--http-port must be a port from 1 to 65535",
            "unknown flag --colour",
            "--log-level needs a value",
            "DAPR_GRPC_PORT must be",
            "LogLevel must be one of",
            "unknown key \"shape\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_no_flag_is_kept() {
        let settings = load(&["gateway", "--log-level", "debug"], &[], None).unwrap();
        assert_eq!(settings.arguments, ["gateway"]);
        assert!(usage(&standard_keys()).contains("--pubsub-name"));
    }
}
