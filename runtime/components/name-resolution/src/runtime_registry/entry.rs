//! What a registry file says and how it is named.

use std::{fmt::Write, net::SocketAddr};

use outrigger_name_resolution::Instance;
use outrigger_types::{AppId, Namespace};
use serde::{Deserialize, Serialize};

/// The version of the file format; files of other versions are not read.
pub(super) const VERSION: u32 = 1;

/// A sidecar in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The format's version.
    pub(super) version: u32,
    /// The app.
    pub app_id: AppId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Where peers reach its internal API.
    pub internal_address: SocketAddr,
    /// Its public HTTP port.
    pub http_port: u16,
    /// The sidecar's process.
    pub pid: u32,
    /// Distinguishes instances of one app on this host.
    pub instance_id: String,
}

impl Entry {
    /// The entry of an instance of this process.
    pub(super) fn of(instance: &Instance) -> Self {
        Self {
            version: VERSION,
            app_id: instance.app_id.clone(),
            namespace: instance.namespace.clone(),
            internal_address: instance.internal_address,
            http_port: instance.http_port,
            pid: std::process::id(),
            instance_id: instance.instance_id.clone(),
        }
    }

    /// The first part of its file name.
    pub(super) fn stem(&self) -> Stem {
        Stem::new(&self.namespace, &self.app_id)
    }

    /// Reads a file's content; nothing when it is damaged, of another version or not what its name says.
    pub(super) fn parse(content: &[u8], file_name: &str) -> Option<Self> {
        let entry: Self = serde_json::from_slice(content).ok()?;
        (entry.version == VERSION && entry.stem().names(file_name)).then_some(entry)
    }
}

/// `<namespace>.<app-id>.`, what the file names of all instances of an app begin with. Bytes other than letters,
/// digits, `-` and `_` are written as `%xx`, so that a dot always separates and no name leaves the folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stem(String);

impl Stem {
    pub(super) fn new(namespace: &Namespace, app_id: &AppId) -> Self {
        let mut text = String::with_capacity(namespace.len() + app_id.len() + 2);
        for part in [namespace.as_str(), app_id.as_str()] {
            for byte in part.bytes() {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                    text.push(char::from(byte));
                } else {
                    write!(text, "%{byte:02x}").expect("writing to a string succeeds");
                }
            }
            text.push('.');
        }
        Self(text)
    }

    /// The file name of the `number`th instance in this process.
    pub(super) fn file_name(&self, pid: u32, number: u32) -> String {
        format!("{}{pid}-{number}", self.0)
    }

    /// Whether a file is one of this app's.
    pub(super) fn names(&self, file_name: &str) -> bool {
        file_name.strip_prefix(self.0.as_str()).is_some_and(is_instance)
    }
}

/// Whether a file name is a registry entry's at all.
pub(super) fn is_entry(file_name: &str) -> bool {
    !file_name.starts_with('.') && file_name.splitn(3, '.').nth(2).is_some_and(is_instance)
}

/// `<pid>-<n>`
fn is_instance(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(pid, number)| pid.parse::<u32>().is_ok() && number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder_and_apart() {
        let stem = Stem::new(&"default".into(), &"orders".into());
        assert_eq!(stem.file_name(17, 0), "default.orders.17-0");
        assert!(stem.names("default.orders.17-0") && is_entry("default.orders.17-0"));
        for other in [
            "default.orders2.17-0",
            "default.orders.x-0",
            "default.orders.17",
            "default.orders.",
            ".lock",
            "default",
        ] {
            assert!(!stem.names(other), "{other}");
        }
        let nasty = Stem::new(&"..".into(), &"../a.b/%é".into()).file_name(1, 2);
        assert_eq!(nasty, "%2e%2e.%2e%2e%2fa%2eb%2f%25%c3%a9.1-2");
        assert!(is_entry(&nasty));
        assert_ne!(
            Stem::new(&"a.b".into(), &"c".into()),
            Stem::new(&"a".into(), &"b.c".into())
        );
    }

    #[test]
    fn the_format_is_stable_and_other_versions_are_not_read() {
        let content = r#"{"version":1,"appId":"orders","namespace":"default","internalAddress":"127.0.0.1:50002","httpPort":3500,"pid":17,"instanceId":"17"}"#;
        let entry = Entry::parse(content.as_bytes(), "default.orders.17-0").unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), content);
        assert!(Entry::parse(content.as_bytes(), "default.payments.17-0").is_none());
        assert!(Entry::parse(content.replace(":1,", ":2,").as_bytes(), "default.orders.17-0").is_none());
        assert!(Entry::parse(&content.as_bytes()[..40], "default.orders.17-0").is_none());
    }
}
