//! A key set, read.

use std::{collections::HashMap, fmt, sync::Arc};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::key::{self, ContentType, Key};

/// More keys than any set has; a longer list is cut off.
const MAX_KEYS: usize = 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Keys by their `kid`. Keys without one cannot be asked for.
#[derive(Clone, Default)]
pub(super) struct Keys(HashMap<String, Arc<Key>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Keys {
    /// Reads a set, or a single key. A key of a kind that nothing here can use is left out and does not spoil the
    /// others.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let document: Value = serde_json::from_slice(text).map_err(|_| "it is not JSON".to_owned())?;
        let single = [document.clone()];
        let listed = match document.get("keys") {
            Some(Value::Array(keys)) => keys.as_slice(),
            Some(_) => return Err("its member \"keys\" is not a list".to_owned()),
            None if document.get("kty").is_some() => &single,
            None => return Err("it has neither keys nor is it one".to_owned()),
        };
        let mut keys = HashMap::with_capacity(listed.len().min(MAX_KEYS));
        for (position, listed) in listed.iter().take(MAX_KEYS).enumerate() {
            let text = Zeroizing::new(listed.to_string());
            match (key::parse(text.as_bytes(), ContentType::Json), listed.get("kid")) {
                (Ok(key), Some(Value::String(id))) => {
                    // Of two keys of one name the first counts, as upstream looks them up.
                    keys.entry(id.clone()).or_insert_with(|| Arc::new(key));
                }
                (Ok(_), _) => tracing::warn!(position, "a key of the set has no kid and cannot be used"),
                (Err(error), _) => tracing::warn!(position, "a key of the set cannot be used: {error}"),
            }
        }
        Ok(Self(keys))
    }

    /// Reads a set that stands in the metadata: in base64 where it decodes, else as it is.
    pub(super) fn parse_inline(text: &str) -> Result<Self, String> {
        match BASE64.decode(text.trim_end_matches('=')) {
            Ok(decoded) => Self::parse(&Zeroizing::new(decoded)),
            Err(_) => Self::parse(text.as_bytes()),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Key>> {
        self.0.get(id).cloned()
    }
}
