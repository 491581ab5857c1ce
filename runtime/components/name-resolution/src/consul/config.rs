//! The configuration: `spec.nameResolution.configuration` of a Configuration, in upstream's names. As Go reads it, the
//! case of names does not count. Checks and the advanced registration go to the agent as they are written: it reads
//! them in the same way.

use std::time::Duration;

use outrigger_component::{Error, Properties, SecretString};
use outrigger_types::duration::GoDuration;
use serde_json::{Map, Value};

/// The configuration, read.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) client: ClientConfig,
    pub(super) query: QueryConfig,
    pub(super) registration: Option<Registration>,
    /// Withdraw the registration at the end.
    pub(super) deregister: bool,
    /// Where a registration says the sidecar's internal port.
    pub(super) port_key: String,
    /// Watch services that were asked for, instead of asking each time.
    pub(super) use_cache: bool,
}

/// How this sidecar is registered.
#[derive(Debug, Clone)]
pub(super) enum Registration {
    /// By the sidecar's own data.
    Own {
        checks: Vec<Value>,
        tags: Vec<Value>,
        meta: Map<String, Value>,
    },
    /// As the operator wrote it.
    Advanced(Map<String, Value>),
}

/// How the agent is reached; what is not set comes from the environment, as Consul's own tools read it.
#[derive(Debug, Clone, Default)]
pub(super) struct ClientConfig {
    pub(super) address: Option<String>,
    pub(super) scheme: Option<String>,
    pub(super) datacenter: Option<String>,
    pub(super) basic_auth: Option<(String, SecretString)>,
    pub(super) wait_time: Option<Duration>,
    pub(super) token: Option<SecretString>,
    pub(super) token_file: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) ca_path: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) insecure_skip_verify: bool,
}

/// How services are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct QueryConfig {
    pub(super) namespace: Option<String>,
    pub(super) partition: Option<String>,
    pub(super) datacenter: Option<String>,
    pub(super) allow_stale: bool,
    pub(super) require_consistent: bool,
    pub(super) use_cache: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) wait_time: Option<Duration>,
    pub(super) token: Option<SecretString>,
    pub(super) near: Option<String>,
    pub(super) node_meta: Vec<(String, String)>,
    pub(super) relay_factor: Option<u64>,
    pub(super) local_only: bool,
    pub(super) connect: bool,
    pub(super) filter: Option<String>,
}

fn invalid(name: &str, expected: &str) -> Error {
    Error::configuration(format!(
        "error deserializing to configSpec: {name} is not {expected}"
    ))
}

/// An object whose names compare without case.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null())
            .map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(invalid(name, "a text")),
        }
    }

    fn switch(&self, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(_) => Err(invalid(name, "true or false")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        self.get(name)
            .map(|value| value.as_u64().ok_or_else(|| invalid(name, "a whole number")))
            .transpose()
    }

    /// Nanoseconds, as Go's durations are in JSON, or a text such as `5m`.
    fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        let wrong = || invalid(name, "a duration");
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(nanos)) => {
                let nanos = nanos.as_u64().ok_or_else(wrong)?;
                Ok((nanos > 0).then(|| Duration::from_nanos(nanos)))
            }
            Some(Value::String(text)) => GoDuration::parse(text)
                .ok()
                .and_then(GoDuration::to_std)
                .map(Some)
                .ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }

    fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Error> {
        self.get(name)
            .map(|value| value.as_object().ok_or_else(|| invalid(name, "an object")))
            .transpose()
    }
}

/// A property that holds an object or a list; it arrives as JSON text.
fn nested(properties: &Properties, name: &str) -> Result<Option<Value>, Error> {
    match properties.non_empty(name) {
        None => Ok(None),
        Some(text) => serde_json::from_str::<Value>(text)
            .map(|value| Some(value).filter(|value| !value.is_null()))
            .map_err(|_| invalid(name, "an object or a list")),
    }
}

fn object(properties: &Properties, name: &str) -> Result<Option<Map<String, Value>>, Error> {
    match nested(properties, name)? {
        None => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(invalid(name, "an object")),
    }
}

fn list(properties: &Properties, name: &str) -> Result<Vec<Value>, Error> {
    match nested(properties, name)? {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(invalid(name, "a list")),
    }
}

fn texts(name: &str, fields: &Map<String, Value>) -> Result<(), Error> {
    if fields.values().all(Value::is_string) {
        Ok(())
    } else {
        Err(invalid(name, "a map of texts"))
    }
}

impl Config {
    pub(super) fn parse(properties: &Properties) -> Result<Self, Error> {
        let switch = |name: &str| match properties.get(name).unwrap_or_default() {
            "" | "null" | "false" => Ok(false),
            "true" => Ok(true),
            _ => Err(invalid(name, "true or false")),
        };
        let meta = object(properties, "meta")?.unwrap_or_default();
        texts("meta", &meta)?;
        let tags = list(properties, "tags")?;
        if !tags.iter().all(Value::is_string) {
            return Err(invalid("tags", "a list of texts"));
        }
        let checks = list(properties, "checks")?;
        if !checks.iter().all(Value::is_object) {
            return Err(invalid("checks", "a list of objects"));
        }
        // The advanced registration wins over everything else that is about registering.
        let registration = match object(properties, "advancedRegistration")? {
            Some(advanced) => Some(Registration::Advanced(advanced)),
            None if switch("selfRegister")? => Some(Registration::Own { checks, tags, meta }),
            None => None,
        };
        Ok(Self {
            client: match object(properties, "client")? {
                Some(fields) => ClientConfig::parse(&Fields(&fields))?,
                None => ClientConfig::default(),
            },
            query: match object(properties, "queryOptions")? {
                Some(fields) => QueryConfig::parse(&Fields(&fields))?,
                None => QueryConfig {
                    use_cache: true,
                    ..QueryConfig::default()
                },
            },
            registration,
            deregister: switch("selfDeregister")?,
            port_key: properties
                .non_empty("daprPortMetaKey")
                .unwrap_or("DAPR_PORT")
                .to_owned(),
            use_cache: switch("useCache")?,
        })
    }
}

impl ClientConfig {
    fn parse(fields: &Fields<'_>) -> Result<Self, Error> {
        let empty = Map::new();
        let tls = Fields(fields.object("tlsConfig")?.unwrap_or(&empty));
        let basic_auth = match fields.object("httpAuth")? {
            None => None,
            Some(auth) => {
                let auth = Fields(auth);
                Some((
                    auth.text("username")?.unwrap_or_default(),
                    auth.text("password")?.unwrap_or_default().into(),
                ))
            }
        };
        Ok(Self {
            address: fields.text("address")?,
            scheme: fields.text("scheme")?,
            datacenter: fields.text("datacenter")?,
            basic_auth,
            wait_time: fields.duration("waitTime")?,
            token: fields.text("token")?.map(SecretString::from),
            token_file: fields.text("tokenFile")?,
            server_name: tls.text("address")?,
            ca_file: tls.text("caFile")?,
            ca_path: tls.text("caPath")?,
            cert_file: tls.text("certFile")?,
            key_file: tls.text("keyFile")?,
            insecure_skip_verify: tls.switch("insecureSkipVerify")?,
        })
    }
}

impl QueryConfig {
    fn parse(fields: &Fields<'_>) -> Result<Self, Error> {
        let node_meta = match fields.object("nodeMeta")? {
            None => Vec::new(),
            Some(meta) => {
                texts("nodeMeta", meta)?;
                meta.iter()
                    .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                    .collect()
            }
        };
        Ok(Self {
            namespace: fields.text("namespace")?,
            partition: fields.text("partition")?,
            datacenter: fields.text("datacenter")?,
            allow_stale: fields.switch("allowStale")?,
            require_consistent: fields.switch("requireConsistent")?,
            use_cache: fields.switch("useCache")?,
            max_age: fields.duration("maxAge")?,
            stale_if_error: fields.duration("staleIfError")?,
            wait_time: fields.duration("waitTime")?,
            token: fields.text("token")?.map(SecretString::from),
            near: fields.text("near")?,
            node_meta,
            relay_factor: fields.number("relayFactor")?,
            local_only: fields.switch("localOnly")?,
            connect: fields.switch("connect")?,
            filter: fields.text("filter")?,
        })
    }
}
