//! Identifiers as newtypes.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

/// An identifier that does not follow its syntax.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The id is empty.
    #[error("{kind} is empty")]
    Empty {
        /// Which kind of id.
        kind: &'static str,
    },
    /// The id holds something its kind forbids.
    #[error("{kind} {value:?} is not valid: {reason}")]
    Malformed {
        /// Which kind of id.
        kind: &'static str,
        /// The offending text.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text as it is; the edge has checked it.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
    };
}

id! {
    /// The id an app is known and called by; no dots (Dapr: `--app-id`).
    AppId
}
id! {
    /// A namespace; `default` where none is set.
    Namespace
}
id! {
    /// The name of a component, as in `metadata.name` of its file.
    ComponentName
}
id! {
    /// The name of a pub/sub component.
    PubsubName
}
id! {
    /// A topic, without any namespace prefix.
    Topic
}
id! {
    /// A key as the store sees it, prefix included.
    StateKey
}
id! {
    /// The type of an actor.
    ActorType
}
id! {
    /// The id of an actor within its type.
    ActorId
}

impl AppId {
    /// Checks the syntax that Dapr asks of `--app-id`: not empty, no dots.
    ///
    /// # Errors
    /// When the id is empty or holds a dot, which separates the namespace in invocation targets.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty { kind: "app-id" });
        }
        if text.contains('.') {
            return Err(InvalidId::Malformed {
                kind: "app-id",
                value: text.to_owned(),
                reason: "parameter app-id cannot contain dots",
            });
        }
        Ok(Self::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_id_refuses_dots_and_nothing() {
        assert_eq!(AppId::parse("orders").unwrap().as_str(), "orders");
        assert!(AppId::parse("").is_err());
        assert!(AppId::parse("orders.prod").is_err());
    }
}
