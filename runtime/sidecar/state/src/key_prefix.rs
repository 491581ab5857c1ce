//! Key prefixes: who shares keys with whom (A3.7; upstream `pkg/components/state/state_config.go`).

use outrigger_component::Properties;
use outrigger_sidecar_api::{ApiError, errors};
use outrigger_types::StateKey;

const SEPARATOR: &str = "||";

/// `keyPrefix` of a state store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeyPrefix {
    /// `<app-id>||<key>`.
    #[default]
    AppId,
    /// `<store>||<key>`.
    Name,
    /// `<namespace>.<app-id>||<key>`; like `AppId` where no namespace is set.
    Namespace,
    /// The key as it is.
    None,
    /// `<text>||<key>`.
    Custom(String),
}

impl KeyPrefix {
    /// Reads the setting from a component's metadata. Its value is lower-cased, as upstream does.
    ///
    /// # Errors
    /// When a custom prefix holds the separator.
    pub fn from_properties(store: &str, properties: &Properties) -> Result<Self, ApiError> {
        let Some(value) = properties.get("keyPrefix") else {
            return Ok(Self::default());
        };
        let value = value.to_lowercase();
        check(store, &value)?;
        Ok(match value.as_str() {
            "appid" => Self::AppId,
            "name" => Self::Name,
            "namespace" => Self::Namespace,
            "none" => Self::None,
            _ => Self::Custom(value),
        })
    }

    /// The key as the store sees it.
    ///
    /// # Errors
    /// When the app's key holds the separator.
    pub fn apply(
        &self,
        store: &str,
        app_id: &str,
        namespace: Option<&str>,
        key: &str,
    ) -> Result<StateKey, ApiError> {
        check(store, key)?;
        Ok(match self {
            Self::AppId => joined(app_id, key),
            Self::Name => joined(store, key),
            Self::Namespace => match namespace {
                Some(namespace) => joined(&format!("{namespace}.{app_id}"), key),
                None => joined(app_id, key),
            },
            Self::None => StateKey::from(key),
            Self::Custom(prefix) => joined(prefix, key),
        })
    }
}

fn joined(prefix: &str, key: &str) -> StateKey {
    let mut text = String::with_capacity(prefix.len() + SEPARATOR.len() + key.len());
    text.push_str(prefix);
    text.push_str(SEPARATOR);
    text.push_str(key);
    StateKey::from(text)
}

fn check(store: &str, key: &str) -> Result<(), ApiError> {
    if key.contains(SEPARATOR) {
        let message = format!("input key/keyPrefix '{key}' can't contain '{SEPARATOR}'");
        return Err(errors::state::invalid_key(store, key, message));
    }
    Ok(())
}

/// The app's key back from the store's: the second segment, or all of it where there is none.
#[must_use]
pub fn original_key(key: &str) -> &str {
    let mut segments = key.splitn(3, SEPARATOR);
    let first = segments.next().unwrap_or(key);
    segments.next().unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies() {
        let cases = [
            (KeyPrefix::AppId, Some("prod"), "app||k"),
            (KeyPrefix::Name, None, "store||k"),
            (KeyPrefix::Namespace, Some("prod"), "prod.app||k"),
            (KeyPrefix::Namespace, None, "app||k"),
            (KeyPrefix::None, None, "k"),
            (KeyPrefix::Custom("x".to_owned()), None, "x||k"),
        ];
        for (prefix, namespace, wanted) in cases {
            let key = prefix.apply("store", "app", namespace, "k").unwrap();
            assert_eq!(key.as_str(), wanted);
            assert_eq!(original_key(&key), "k");
        }
        let error = KeyPrefix::AppId.apply("store", "app", None, "a||b").unwrap_err();
        assert_eq!(error.message(), "input key/keyPrefix 'a||b' can't contain '||'");
    }

    #[test]
    fn the_setting_is_read_without_case() {
        let properties = Properties::from_pairs([("KEYPREFIX", "None")]);
        assert_eq!(
            KeyPrefix::from_properties("s", &properties).unwrap(),
            KeyPrefix::None
        );
        let properties = Properties::from_pairs([("keyPrefix", "a||b")]);
        assert!(KeyPrefix::from_properties("s", &properties).is_err());
    }
}
