//! The broker's address and credentials (components-contrib `pubsub/rabbitmq/metadata.go`).

use std::{fmt, time::Duration};

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use outrigger_component::{Error, Properties, SecretString};
use outrigger_types::duration::GoDuration;
use percent_encoding::percent_decode_str;
use url::Url;

/// The heartbeat without `heartBeat` and without one in the URI.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What upstream puts before its configuration errors.
const PREFIX: &str = "rabbitmq pub/sub error:";

/// Where the broker is and who we are there.
#[derive(Clone)]
pub(crate) struct Settings {
    /// With credentials, so it never prints.
    pub(super) uri: AMQPUri,
    pub(super) client_name: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) certificate: Option<(String, SecretString)>,
    /// The longest wait between attempts to connect.
    pub(crate) reconnect_wait: Duration,
}

impl Settings {
    /// Reads `connectionString` (or `host`) or the single parts, TLS, names and times.
    pub(crate) fn parse(properties: &Properties) -> Result<Self, Error> {
        let protocol = properties.non_empty("protocol");
        let text = properties
            .non_empty("connectionString")
            .or_else(|| properties.non_empty("host"));
        let mut uri = match text {
            // The string holds a password: it is not repeated, unlike upstream.
            Some(text) => parse_uri(text)
                .map_err(|reason| invalid(format!("invalid connection string, err: {reason}")))?,
            None => {
                let host = properties.non_empty("hostname").unwrap_or("localhost");
                let scheme = protocol.unwrap_or("amqp");
                let mut uri = parse_uri(&format!("{scheme}://{host}")).map_err(invalid)?;
                if let Some(name) = properties.non_empty("username") {
                    name.clone_into(&mut uri.authority.userinfo.username);
                    if let Some(password) = properties.non_empty("password") {
                        password.clone_into(&mut uri.authority.userinfo.password);
                    }
                }
                uri
            }
        };
        if protocol.is_some_and(|protocol| protocol != uri.scheme.to_string()) {
            return Err(invalid("protocol does not match connection string"));
        }
        let heartbeat = seconds(properties, "heartBeat")?.unwrap_or_else(|| {
            uri.query
                .heartbeat
                .map_or(HEARTBEAT, |seconds| Duration::from_secs(seconds.into()))
        });
        uri.query.heartbeat = Some(u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX));

        let ca = pem(properties, "caCert")?;
        let certificate = pem(properties, "clientCert")?;
        let key = pem(properties, "clientKey")?.map(SecretString::from);
        if properties.truthy("saslExternal") {
            if ca.is_none() || certificate.is_none() || key.is_none() {
                return Err(Error::configuration(
                    "saslExternal can only be set to true, when all these properties are set: caCert, clientCert, clientKey",
                ));
            }
            // Only a certificate can vouch for us, and only TLS shows one.
            if uri.scheme == AMQPScheme::AMQPS {
                uri.query.auth_mechanism = Some(SASLMechanism::External);
            }
        }
        Ok(Self {
            uri,
            client_name: properties.non_empty("clientName").map(str::to_owned),
            ca,
            certificate: certificate.zip(key),
            reconnect_wait: seconds(properties, "reconnectWaitSeconds")?.unwrap_or(Duration::from_secs(3)),
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.uri.authority.host)
            .field("port", &self.uri.authority.port)
            .finish_non_exhaustive()
    }
}

/// A configuration error in upstream's form.
pub(crate) fn invalid(text: impl fmt::Display) -> Error {
    Error::configuration(format!("{PREFIX} {text}"))
}

/// A Go duration, or a number of seconds (kit `metadata/duration.go`); absent or empty is `None`.
fn seconds(properties: &Properties, name: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = properties.non_empty(name) else {
        return Ok(None);
    };
    GoDuration::parse(text)
        .ok()
        .or_else(|| text.parse().ok().map(GoDuration::from_secs))
        .and_then(GoDuration::to_std)
        .map(Some)
        .ok_or_else(|| {
            Error::configuration(format!(
                "metadata field {name:?}: {text:?} is not a duration such as 30s, nor a number of seconds"
            ))
        })
}

fn pem(properties: &Properties, name: &str) -> Result<Option<String>, Error> {
    match properties.non_empty(name) {
        Some(text) if text.contains("-----BEGIN ") => Ok(Some(text.to_owned())),
        Some(_) => Err(invalid(format!("invalid TLS configuration: invalid {name}"))),
        None => Ok(None),
    }
}

/// Reads an AMQP URI as amqp091-go does: no path and `/` are the virtual host `/`, credentials default to `guest`.
/// (lapin's own reading takes `/` for the empty virtual host, and a numeric IPv6 host for localhost.)
fn parse_uri(text: &str) -> Result<AMQPUri, String> {
    if text.contains(' ') {
        return Err("URI must not contain whitespace".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let scheme: AMQPScheme = url
        .scheme()
        .parse()
        .map_err(|_| "AMQP scheme must be either 'amqp://' or 'amqps://'".to_owned())?;
    let decode = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(String::from)
            .map_err(|error| error.to_string())
    };
    let guest = AMQPUserInfo::default();
    let username = match url.username() {
        "" if url.password().is_none() => guest.username,
        name => decode(name)?,
    };
    let password = url.password().map_or(Ok(guest.password), decode)?;
    let host = match url.host_str() {
        None | Some("") => "localhost".to_owned(),
        Some(host) => decode(host.trim_start_matches('[').trim_end_matches(']'))?,
    };
    let vhost = match url.path() {
        "" | "/" => "/".to_owned(),
        path => decode(path.strip_prefix('/').unwrap_or(path))?,
    };
    let number = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.parse::<u16>())
            .transpose()
            .map_err(|error| format!("{name} is not an integer: {error}"))
    };
    let mechanism = url
        .query_pairs()
        .find(|(key, _)| key == "auth_mechanism")
        .map(|(_, value)| value.parse())
        .transpose()?;
    Ok(AMQPUri {
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username, password },
            host,
            port: url.port().unwrap_or_else(|| scheme.default_port()),
        },
        scheme,
        vhost,
        query: AMQPQueryString {
            heartbeat: number("heartbeat")?,
            channel_max: number("channel_max")?,
            auth_mechanism: mechanism,
            ..AMQPQueryString::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::parse(&Properties::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn a_connection_string_is_read_as_amqp091_go_reads_it() {
        let plain = parse(&[("connectionString", "amqp://user:p%40ss@127.0.0.1:5673/")]).unwrap();
        assert_eq!(plain.uri.authority.host, "127.0.0.1");
        assert_eq!(plain.uri.authority.port, 5673);
        assert_eq!(plain.uri.authority.userinfo.password, "p@ss");
        assert_eq!(plain.uri.vhost, "/");
        assert_eq!(plain.uri.query.heartbeat, Some(10));
        assert_eq!(plain.reconnect_wait, Duration::from_secs(3));
        let six = parse(&[("host", "amqps://[::1]/team%2Fa?heartbeat=7")]).unwrap();
        assert_eq!(
            (six.uri.authority.host.as_str(), six.uri.authority.port),
            ("::1", 5671)
        );
        assert_eq!(six.uri.vhost, "team/a");
        assert_eq!(six.uri.query.heartbeat, Some(7));
        assert_eq!(six.uri.authority.userinfo.username, "guest");
    }

    #[test]
    fn single_parts_make_an_address() {
        let parts = parse(&[
            ("hostname", "broker:5999"),
            ("username", "me"),
            ("password", "a/b@c"),
            ("protocol", "amqps"),
            ("heartBeat", "30"),
            ("reconnectWaitSeconds", "1500ms"),
        ])
        .unwrap();
        assert_eq!(parts.uri.scheme, AMQPScheme::AMQPS);
        assert_eq!(parts.uri.authority.port, 5999);
        assert_eq!(parts.uri.authority.userinfo.password, "a/b@c");
        assert_eq!(parts.uri.query.heartbeat, Some(30));
        assert_eq!(parts.reconnect_wait, Duration::from_millis(1500));
        assert_eq!(parse(&[]).unwrap().uri.authority.host, "localhost");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (pairs, text) in [
            (
                vec![("connectionString", "http://me:hidden@host")],
                "amqp:// or amqps://",
            ),
            (vec![("connectionString", "amqp://me:hidden@ host")], "whitespace"),
            (
                vec![
                    ("connectionString", "amqp://me:hidden@host"),
                    ("protocol", "amqps"),
                ],
                "protocol does not match",
            ),
            (vec![("caCert", "hidden")], "invalid caCert"),
            (vec![("saslExternal", "true")], "saslExternal can only be set"),
            (vec![("heartBeat", "soon")], "heartBeat"),
        ] {
            let error = parse(&pairs).unwrap_err().chain();
            assert!(!error.contains("hidden"), "{error}");
            let text = text.replace("amqp:// or amqps://", "AMQP scheme must be");
            assert!(error.contains(&text), "{error}");
        }
        let good = parse(&[("connectionString", "amqp://me:hidden@host")]).unwrap();
        assert!(!format!("{good:?}").contains("hidden"));
    }
}
