//! The settings of a platform service: the kit's, and what all of them share.

use outrigger_kit::Environment;
use outrigger_kit::settings::{Key, Kind, Settings, SettingsError, standard_keys, usage};

/// What a service is before it is configured.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name, as in `service` of state calls, topics and URNs: `workmanager`.
    pub name: &'static str,
    /// What it is, in one line, for `--help`.
    pub about: &'static str,
    /// The default HTTP port.
    pub http_port: &'static str,
    /// The default gRPC port.
    pub grpc_port: &'static str,
    /// Its own settings.
    pub keys: Vec<Key>,
}

impl Definition {
    /// All settings: those of every service of the kit with this service's ports, those of the platform, its own.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = standard_keys();
        for key in &mut keys {
            match key.name {
                // The sidecar reaches the service by gRPC, so the app's port is that one.
                "HttpPort" => {
                    key.default = Some(self.http_port);
                    key.variables = &["HttpPort", "HTTP_PORT"];
                }
                "GrpcPort" => {
                    key.default = Some(self.grpc_port);
                    key.variables = &["GrpcPort", "GRPC_PORT", "APP_PORT"];
                }
                _ => {}
            }
        }
        keys.extend([
            Key {
                name: "Address",
                flag: "--address",
                variables: &["LISTEN_ADDRESS"],
                default: Some("127.0.0.1"),
                kind: Kind::Text,
                help: "address that the servers listen on",
            },
            Key {
                name: "PlatformBackend",
                flag: "--platform-backend",
                variables: &["PLATFORM_BACKEND"],
                default: Some("sidecar"),
                kind: Kind::OneOf(&["sidecar", "gateway"]),
                help: "who keeps state and passes events on",
            },
            Key {
                name: "ApiHost",
                flag: "--api-host",
                variables: &["VIRTUFIN_API_HOST"],
                default: Some("localhost"),
                kind: Kind::Text,
                help: "host of the gateway",
            },
            Key {
                name: "ApiGrpcPort",
                flag: "--api-grpc-port",
                variables: &["VIRTUFIN_API_GRPC_PORT"],
                default: Some("5002"),
                kind: Kind::Port,
                help: "gRPC port of the gateway",
            },
            Key {
                name: "Instance",
                flag: "--instance",
                variables: &["INSTANCE_ID", "HOSTNAME"],
                default: None,
                kind: Kind::Text,
                help: "name of this instance; random unless set",
            },
            Key {
                name: "SettingsFile",
                flag: "--settings",
                variables: &["SETTINGS_FILE"],
                default: None,
                kind: Kind::Text,
                help: "settings file, JSON or YAML",
            },
        ]);
        keys.extend(self.keys.iter().copied());
        keys
    }

    /// Reads the settings; those in the file that `SettingsFile` names come last before the defaults.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(&self, arguments: Vec<String>, environment: &Environment) -> Result<Settings, SettingsError> {
        let keys = self.keys();
        let first = Settings::load(&keys, arguments.clone(), environment, None)?;
        let settings = match first.get("SettingsFile") {
            None => first,
            Some(file) => Settings::load(&keys, arguments, environment, Some(file.as_ref()))?,
        };
        match settings.arguments.first() {
            None => Ok(settings),
            Some(argument) => Err(SettingsError(vec![format!(
                "{argument:?} is not taken here; try --help"
            )])),
        }
    }

    /// What `--help` prints.
    pub fn help(&self) -> String {
        format!(
            "{}\n\nUsage: {} [flags]\n\nFlags:\n{}",
            self.about,
            self.name,
            usage(&self.keys())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> Definition {
        Definition {
            name: "workmanager",
            about: "Runs workers.",
            http_port: "5101",
            grpc_port: "5102",
            keys: Vec::new(),
        }
    }

    #[test]
    fn ports_are_the_services_own_until_set() {
        let settings = definition().load(Vec::new(), &Environment::new()).unwrap();
        assert_eq!(settings.port("HttpPort"), Some(5101));
        assert_eq!(settings.text("PlatformBackend"), "sidecar");
        let environment = Environment::from([("GRPC_PORT".to_owned(), "9000".to_owned())]);
        let flags = vec!["--http-port".to_owned(), "8000".to_owned()];
        let settings = definition().load(flags, &environment).unwrap();
        assert_eq!(settings.port("HttpPort"), Some(8000));
        assert_eq!(settings.port("GrpcPort"), Some(9000));
    }

    #[test]
    fn mistakes_are_told() {
        let wrong = vec!["--platform-backend=redis".to_owned()];
        let error = definition().load(wrong, &Environment::new()).unwrap_err();
        assert!(error.to_string().contains("one of sidecar, gateway"), "{error}");
        let extra = vec!["start".to_owned()];
        assert!(definition().load(extra, &Environment::new()).is_err());
    }
}
