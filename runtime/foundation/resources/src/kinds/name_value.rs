//! Metadata pairs: a name with a value, a reference to a secret or a reference to an environment variable.

use std::fmt;

use crate::{
    decode::{Decode, Decoder, decode_fields, suspect_change},
    go,
    yaml::{self, Content, Node, Scalar},
};

/// A value of any JSON type, kept as its JSON text. It may be a secret, so `Debug` does not print it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct DynamicValue(String);

impl DynamicValue {
    /// From the text of a secret or environment variable, which is not JSON and is kept as it is.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// From JSON; null is the unset value.
    #[must_use]
    pub fn from_json(value: &serde_json::Value) -> Self {
        if value.is_null() {
            Self::default()
        } else {
            Self(yaml::json_text(value))
        }
    }

    /// Whether there is a value; the empty text in quotes is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The value as components get it: unquoted when it is a quoted text, otherwise the JSON text as it is
    /// (upstream `DynamicValue.String`, which unquotes as Go does and so also `'x'` and backquotes).
    #[must_use]
    pub fn text(&self) -> String {
        go::unquote(&self.0).unwrap_or_else(|| self.0.clone())
    }

    /// The JSON text, or the bare text of a resolved secret; empty when unset.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DynamicValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "<redacted>" } else { "<unset>" })
    }
}

impl Decode for DynamicValue {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        let mut value = serde_json::Value::Null;
        value.decode(node, decoder);
        *self = Self::from_json(&value);
        if let Content::Scalar { value, text } = &node.content
            && !matches!(value, Scalar::String | Scalar::Null)
        {
            suspect_change(node, text, &self.0, decoder);
        }
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretKeyRef {
    /// The secret's name in its store.
    pub name: String,
    /// The key within the secret; empty means the same as the name.
    pub key: String,
}

decode_fields!(SecretKeyRef { "name" => name, "key" => key });

/// A named value, given or referred to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameValue {
    /// The name; components match it without regard to case.
    pub name: String,
    /// The value.
    pub value: DynamicValue,
    /// The secret to take it from.
    pub secret_key_ref: SecretKeyRef,
    /// The environment variable to take it from, when there is no value.
    pub env_ref: String,
}

impl NameValue {
    /// A plain pair.
    #[must_use]
    pub fn new(name: impl Into<String>, value: &str) -> Self {
        let value = DynamicValue::from_json(&serde_json::Value::from(value));
        Self {
            name: name.into(),
            value,
            ..Self::default()
        }
    }
}

impl Decode for NameValue {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        for (key, value) in decoder.fields(node, &["name", "value", "secretKeyRef", "envRef"], &[]) {
            decoder.within(key, |decoder| match key {
                "name" => self.name.decode(value, decoder),
                "value" => self.value.decode(value, decoder),
                "secretKeyRef" => self.secret_key_ref.decode(value, decoder),
                _ => self.env_ref.decode(value, decoder),
            });
        }
        let sources = [
            self.value.is_set(),
            !self.secret_key_ref.name.is_empty(),
            !self.env_ref.is_empty(),
        ];
        if sources.iter().filter(|set| **set).count() > 1 {
            decoder.suspect(
                node.at,
                format!(
                    "{:?} has more than one of value, secretKeyRef and envRef",
                    self.name
                ),
                "keep one; a found secret replaces the value, and envRef counts only without a value",
            );
        }
        if self.secret_key_ref.name.is_empty() && !self.secret_key_ref.key.is_empty() {
            decoder.suspect(
                node.at,
                format!("secretKeyRef of {:?} has no name", self.name),
                "add the secret's name",
            );
        }
    }
}

/// Names given twice, without regard to case: only one of them reaches the component.
pub(crate) fn suspect_repeats(pairs: &[NameValue], node: &Node, decoder: &mut Decoder) {
    let Content::Sequence(nodes) = &node.content else {
        return;
    };
    for (index, pair) in pairs.iter().enumerate() {
        if pair.name.is_empty() {
            continue;
        }
        if pairs[..index]
            .iter()
            .any(|earlier| earlier.name.eq_ignore_ascii_case(&pair.name))
        {
            let at = nodes.get(index).map_or(node.at, |node| node.at);
            decoder.suspect(at, format!("{:?} is given twice", pair.name), "keep one of them");
        }
    }
}
