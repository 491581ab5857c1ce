//! Which block a component type belongs to.

use std::fmt;

/// A building block, as the prefix of its component types names it (upstream `pkg/components/category.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// `state.`
    State,
    /// `pubsub.`
    PubSub,
    /// `bindings.`
    Bindings,
    /// `secretstores.`
    SecretStores,
    /// `configuration.`
    Configuration,
    /// `lock.`
    Lock,
    /// `crypto.`
    Crypto,
    /// `conversation.`
    Conversation,
    /// `middleware.`, of which `middleware.http.` is the only kind.
    Middleware,
    /// `nameresolution.`; named in a Configuration, never in a Component.
    NameResolution,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::State,
        Self::PubSub,
        Self::Bindings,
        Self::SecretStores,
        Self::Configuration,
        Self::Lock,
        Self::Crypto,
        Self::Conversation,
        Self::Middleware,
        Self::NameResolution,
    ];

    /// The block of a component type; `None` where there is none (upstream says `incorrect type <type>`). Case
    /// counts, as upstream compares it.
    #[must_use]
    pub fn of(type_name: &str) -> Option<Self> {
        let (prefix, _) = type_name.split_once('.')?;
        Self::ALL.into_iter().find(|category| category.prefix() == prefix)
    }

    /// The prefix, without its dot.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::PubSub => "pubsub",
            Self::Bindings => "bindings",
            Self::SecretStores => "secretstores",
            Self::Configuration => "configuration",
            Self::Lock => "lock",
            Self::Crypto => "crypto",
            Self::Conversation => "conversation",
            Self::Middleware => "middleware",
            Self::NameResolution => "nameresolution",
        }
    }

    /// The full type of a short name: `mdns` → `nameresolution.mdns`.
    #[must_use]
    pub fn type_name(self, short: &str) -> String {
        format!("{}.{short}", self.prefix())
    }

    /// What upstream's messages call a component of this block.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::State => "state store",
            Self::PubSub => "message bus",
            Self::Bindings => "binding",
            Self::SecretStores => "secret store",
            Self::Configuration => "configuration store",
            Self::Lock => "lock store",
            Self::Crypto => "crypto provider",
            Self::Conversation => "conversation",
            Self::Middleware => "HTTP middleware",
            Self::NameResolution => "name resolver",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}
