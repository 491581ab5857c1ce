//! YAML as Go reads it, in the two dialects Dapr uses.
//!
//! Dapr loads components, subscriptions and their kin with `sigs.k8s.io/yaml` (go-yaml v2, then JSON) and the
//! `--config` files with `gopkg.in/yaml.v3`. The two disagree with each other and with YAML 1.2 on what a plain
//! scalar means, so the meaning is decided here (`resolve`) and only the syntax is left to the parser.
//! Every node keeps its place, so that whoever reads it can name the line (design D14).

mod compose;
mod expand;
mod json;
mod quoted;
mod resolve;

pub(crate) use resolve::yaml_1_1_bool;

pub use expand::expand_environment;
pub use json::{json_text, to_json};

/// Documents nested deeper than this are refused; real resources stay below ten.
pub const MAX_DEPTH: usize = 200;

/// Whose rules decide what a scalar, a key or a merge means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `sigs.k8s.io/yaml`: YAML 1.1 booleans (`yes`, `on`, `y`), the last of two equal keys wins.
    GoYamlV2,
    /// `gopkg.in/yaml.v3`: only `true` and `false` are booleans, equal keys are an error, texts stay as written.
    YamlV3,
}

/// A place in a text; both numbers count from 1, 0 means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: Mark,
    /// What it holds.
    pub content: Content,
}

/// What a node holds; aliases are expanded and merge keys applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A scalar: its meaning and the text it was written as (without quotes, escapes resolved).
    Scalar {
        /// The meaning.
        value: Scalar,
        /// The text.
        text: String,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping.
    Mapping(Mapping),
}

/// The meaning of a scalar; a string's characters are the node's text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above `i64::MAX`.
    Uint(u64),
    /// A number with a fraction, or not finite.
    Float(f64),
    /// A text.
    String,
}

/// A mapping, keys unique.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mapping {
    /// The pairs in the order they were written, merged ones last.
    pub entries: Vec<Entry>,
    /// Keys that were written twice: the key, the first place and the later one.
    pub duplicates: Vec<(String, Mark, Mark)>,
}

/// One pair of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, as text.
    pub key: String,
    /// Where the key stands.
    pub at: Mark,
    /// The value.
    pub value: Node,
}

/// A text that is not YAML, or YAML that Go's library refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("yaml: line {}: {message}", at.line)]
pub struct YamlError {
    /// Where.
    pub at: Mark,
    /// What is wrong.
    pub message: String,
}

/// Reads the first document of a text, as Go's `Unmarshal` does; `None` when there is none.
///
/// # Errors
/// When the syntax is broken, an alias has no anchor or contains itself, aliases multiply beyond Go's bound, an
/// explicit tag does not fit, or the nesting passes [`MAX_DEPTH`].
pub fn parse(text: &str, mode: Mode) -> Result<Option<Node>, YamlError> {
    compose::compose(text, mode)
}

/// The first document of a text as JSON; an empty text is `null`.
///
/// # Errors
/// As [`parse`], and in [`Mode::GoYamlV2`] for numbers JSON cannot say (`.inf`, `.nan`).
pub fn parse_json(text: &str, mode: Mode) -> Result<serde_json::Value, YamlError> {
    match parse(text, mode)? {
        Some(node) => to_json(&node, mode),
        None => Ok(serde_json::Value::Null),
    }
}

impl Node {
    /// A tree without places, from JSON; the operator's streams carry resources so.
    #[must_use]
    pub fn from_json(value: &serde_json::Value) -> Self {
        json::from_json(value)
    }

    /// Whether it is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(
            self.content,
            Content::Scalar {
                value: Scalar::Null,
                ..
            }
        )
    }

    /// The value under a key, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Mapping(mapping) => mapping
                .entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }
}
