//! Trees to typed resources, with the leniency of the Go decoder each dialect stands for.
//!
//! Decoding is in place: what a document does not mention keeps its value, which is how several Configuration
//! files add up (wire.md §14).

use std::collections::BTreeMap;

use outrigger_types::duration::GoDuration;
use serde_json::Value;

use crate::{
    finding::Finding,
    go,
    yaml::{self, Content, Entry, Mark, Mode, Node, Scalar},
};

/// Whose decoder is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `sigs.k8s.io/yaml`: field names in any case, numbers and booleans accepted where a text is wanted.
    SigsYaml,
    /// `gopkg.in/yaml.v3`: exact field names, any scalar accepted as text as it was written.
    YamlV3,
    /// `encoding/json`: field names in any case, types exact. The operator's streams.
    Json,
}

/// The state of one document's decoding.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) dialect: Dialect,
    /// Mistakes Go's decoder refuses the document for.
    pub(crate) errors: Vec<Finding>,
    /// Loaded, but suspicious.
    pub(crate) findings: Vec<Finding>,
    path: Vec<String>,
}

/// A type that can be filled from a tree.
pub(crate) trait Decode {
    /// Takes what the node says; a mistake goes to the decoder and leaves the value.
    fn decode(&mut self, node: &Node, decoder: &mut Decoder);
}

impl Decoder {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            errors: Vec::new(),
            findings: Vec::new(),
            path: Vec::new(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        if self.dialect == Dialect::YamlV3 {
            Mode::YamlV3
        } else {
            Mode::GoYamlV2
        }
    }

    /// Runs with a longer path, for messages.
    pub(crate) fn within<T>(&mut self, step: impl Into<String>, run: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step.into());
        let result = run(self);
        self.path.pop();
        result
    }

    pub(crate) fn suspect(&mut self, at: Mark, message: impl Into<String>, cure: impl Into<String>) {
        let message = self.located(&message.into());
        self.findings.push(Finding {
            at,
            message,
            cure: cure.into(),
        });
    }

    pub(crate) fn fail(&mut self, at: Mark, message: impl Into<String>, cure: impl Into<String>) {
        let message = self.located(&message.into());
        self.errors.push(Finding {
            at,
            message,
            cure: cure.into(),
        });
    }

    /// A value of the wrong type: Go's words in the YAML dialect, the path and ours otherwise.
    pub(crate) fn mismatch(&mut self, node: &Node, wanted: &str) {
        let (tag, text) = describe(node);
        if self.dialect == Dialect::YamlV3 {
            let go_type = match wanted {
                "text" => "string",
                "list" => "[]string",
                "duration" => "time.Duration",
                other => other,
            };
            let shown = match text {
                Some(text) if text.len() > 10 => {
                    let cut = (0..=7).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                    format!(" `{}...`", &text[..cut])
                }
                Some(text) => format!(" `{text}`"),
                None => String::new(),
            };
            let message = format!("cannot unmarshal {tag}{shown} into {go_type}");
            self.errors.push(Finding {
                at: node.at,
                message,
                cure: String::new(),
            });
        } else {
            let found = match tag {
                "!!map" => "a mapping",
                "!!seq" => "a list",
                "!!bool" => "a boolean",
                "!!int" | "!!float" => "a number",
                "!!null" => "nothing",
                _ => "a text",
            };
            self.fail(
                node.at,
                format!("expected a {wanted}, found {found}"),
                "correct the value or remove the field",
            );
        }
    }

    fn located(&self, message: &str) -> String {
        if self.path.is_empty() {
            message.to_owned()
        } else {
            format!("{}: {message}", self.path.join("."))
        }
    }

    /// The known fields of a mapping, in the order Go's decoder takes them; `known` names those of the type,
    /// `ignored` those that are understood but not kept. Null and wrong types give nothing.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        known: &'static [&'static str],
        ignored: &'static [&'static str],
    ) -> Vec<(&'static str, &'n Node)> {
        let mapping = match &node.content {
            Content::Mapping(mapping) => mapping,
            Content::Scalar {
                value: Scalar::Null, ..
            } => return Vec::new(),
            _ => {
                self.mismatch(node, "mapping");
                return Vec::new();
            }
        };
        self.duplicates(&mapping.duplicates);
        if self.dialect == Dialect::YamlV3 && !mapping.duplicates.is_empty() {
            return Vec::new();
        }
        let mut entries: Vec<&Entry> = mapping.entries.iter().collect();
        if self.dialect != Dialect::YamlV3 {
            // JSON objects come out sorted, so of two spellings of one field the later in byte order wins.
            entries.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let mut found = Vec::with_capacity(entries.len());
        for entry in entries {
            let names = || known.iter().chain(ignored);
            let exact = names().find(|name| **name == entry.key);
            let folded = names().find(|name| name.eq_ignore_ascii_case(&entry.key));
            let name = match (exact, folded) {
                (Some(name), _) => name,
                (None, Some(name)) if self.dialect != Dialect::YamlV3 => {
                    self.suspect(
                        entry.at,
                        format!("field {:?} is spelt unlike {name:?}", entry.key),
                        format!("write {name}"),
                    );
                    name
                }
                (None, close) => {
                    let close = close.copied().or_else(|| nearest(&entry.key, known));
                    let cure =
                        close.map_or_else(|| "remove it".to_owned(), |name| format!("did you mean {name}?"));
                    self.suspect(
                        entry.at,
                        format!("unknown field {:?} is ignored", entry.key),
                        cure,
                    );
                    continue;
                }
            };
            if known.contains(name) {
                found.push((*name, &entry.value));
            }
        }
        found
    }

    pub(crate) fn duplicates(&mut self, duplicates: &[(String, Mark, Mark)]) {
        for (key, first, later) in duplicates {
            let line = first.line;
            if self.dialect == Dialect::YamlV3 {
                let message = format!("mapping key {} already defined at line {line}", go::quote(key));
                self.errors.push(Finding {
                    at: *later,
                    message,
                    cure: String::new(),
                });
            } else {
                let message = format!("key {key:?} is already on line {line}; this later one wins");
                self.suspect(*later, message, "keep one of them");
            }
        }
    }
}

fn describe(node: &Node) -> (&'static str, Option<&str>) {
    match &node.content {
        Content::Mapping(_) => ("!!map", None),
        Content::Sequence(_) => ("!!seq", None),
        Content::Scalar { value, text } => {
            let tag = match value {
                Scalar::Null => "!!null",
                Scalar::Bool(_) => "!!bool",
                Scalar::Int(_) | Scalar::Uint(_) => "!!int",
                Scalar::Float(_) => "!!float",
                Scalar::String => "!!str",
            };
            (tag, Some(text))
        }
    }
}

/// A known name one or two edits away.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    if key.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(key, name), *name))
        .filter(|(distance, name)| *distance <= 2 && *distance * 2 < name.len())
        .min()
        .map(|(_, name)| name)
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != cb))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// Implements [`Decode`] for a struct: `"key" => field`, then the keys that are understood but not kept.
macro_rules! decode_fields {
    ($type:ty { $($key:literal => $field:ident $(via $with:path)?),* $(,)? } $(ignoring $ignored:expr)?) => {
        impl $crate::decode::Decode for $type {
            fn decode(&mut self, node: &$crate::yaml::Node, decoder: &mut $crate::decode::Decoder) {
                const KNOWN: &[&str] = &[$($key),*];
                #[allow(unused_mut, unused_assignments, reason = "the list is optional")]
                let mut ignored: &'static [&'static str] = &[];
                $(ignored = $ignored;)?
                for (key, value) in decoder.fields(node, KNOWN, ignored) {
                    decoder.within(key, |decoder| match key {
                        $($key => $crate::decode::decode_fields!(@one self.$field, value, decoder $(, $with)?),)*
                        _ => {}
                    });
                }
            }
        }
    };
    (@one $place:expr, $value:expr, $decoder:expr) => {
        $crate::decode::Decode::decode(&mut $place, $value, $decoder)
    };
    (@one $place:expr, $value:expr, $decoder:expr, $with:path) => {
        $with(&mut $place, $value, $decoder)
    };
}
pub(crate) use decode_fields;

impl Decode for String {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        let Content::Scalar { value, text } = &node.content else {
            return decoder.mismatch(node, "text");
        };
        if *value == Scalar::Null {
            return;
        }
        if *value == Scalar::String || decoder.dialect == Dialect::YamlV3 {
            text.clone_into(self);
            return;
        }
        if decoder.dialect == Dialect::Json {
            return decoder.mismatch(node, "text");
        }
        *self = match value {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Uint(value) => value.to_string(),
            Scalar::Float(value) => go::format_float_g32(*value),
            Scalar::Null | Scalar::String => text.clone(),
        };
        suspect_change(node, text, self, decoder);
    }
}

/// Says so when a plain scalar reaches its reader other than written: `yes` as `true`, `1.10` as `1.1`.
pub(crate) fn suspect_change(node: &Node, written: &str, read: &str, decoder: &mut Decoder) {
    if written != read {
        decoder.suspect(
            node.at,
            format!("{written} is not in quotes and reads as {read}"),
            format!("write \"{written}\" to keep the text"),
        );
    }
}

/// Texts of an embedded Go struct, where `sigs.k8s.io/yaml` does not turn numbers into texts.
pub(crate) fn exact_texts(place: &mut Vec<String>, node: &Node, decoder: &mut Decoder) {
    let dialect = decoder.dialect;
    if dialect == Dialect::SigsYaml {
        decoder.dialect = Dialect::Json;
    }
    place.decode(node, decoder);
    decoder.dialect = dialect;
}

impl Decode for bool {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        match &node.content {
            Content::Scalar {
                value: Scalar::Null, ..
            } => {}
            Content::Scalar {
                value: Scalar::Bool(value),
                ..
            } => *self = *value,
            Content::Scalar {
                value: Scalar::String,
                text,
            } if decoder.dialect == Dialect::YamlV3 => match yaml::yaml_1_1_bool(text) {
                Some(value) => *self = value,
                None => decoder.mismatch(node, "bool"),
            },
            _ => decoder.mismatch(node, "bool"),
        }
    }
}

fn integer(node: &Node, decoder: &Decoder) -> Option<i64> {
    let Content::Scalar { value, .. } = &node.content else {
        return None;
    };
    match value {
        Scalar::Int(value) => Some(*value),
        // yaml.v3 cuts fractions; JSON numbers must be whole, and Go's encoder writes whole floats so.
        Scalar::Float(value) if value.is_finite() && value.abs() < 9.2e18 => {
            (decoder.dialect == Dialect::YamlV3 || (value.fract() == 0.0 && value.abs() < 1e21))
                .then_some(*value as i64)
        }
        _ => None,
    }
}

macro_rules! decode_integer {
    ($($type:ident),*) => {$(
        impl Decode for $type {
            fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
                if node.is_null() {
                    return;
                }
                match integer(node, decoder).and_then(|value| $type::try_from(value).ok()) {
                    Some(value) => *self = value,
                    None => decoder.mismatch(node, stringify!($type)),
                }
            }
        }
    )*};
}
decode_integer!(i32, i64);

impl Decode for GoDuration {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        match &node.content {
            Content::Scalar {
                value: Scalar::Null, ..
            } => {}
            Content::Scalar {
                value: Scalar::String,
                text,
            } => match Self::parse(text) {
                Ok(value) => *self = value,
                Err(_) if decoder.dialect == Dialect::YamlV3 => decoder.mismatch(node, "duration"),
                Err(reason) => decoder.fail(node.at, reason.to_string(), "write for instance 10s"),
            },
            _ => decoder.mismatch(node, "duration"),
        }
    }
}

impl Decode for Value {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        match yaml::to_json(node, decoder.mode()) {
            Ok(value) => *self = value,
            Err(error) => decoder.fail(error.at, error.message, "JSON has no such number"),
        }
    }
}

impl<T: Decode + Default> Decode for Option<T> {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        if node.is_null() {
            *self = None;
        } else {
            self.get_or_insert_default().decode(node, decoder);
        }
    }
}

impl<T: Decode + Default> Decode for Vec<T> {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        match &node.content {
            Content::Scalar {
                value: Scalar::Null, ..
            } => self.clear(),
            Content::Sequence(items) => {
                self.clear();
                for (index, item) in items.iter().enumerate() {
                    // yaml.v3 leaves nulls out of lists; JSON gives the empty value for them.
                    if decoder.dialect == Dialect::YamlV3 && item.is_null() {
                        continue;
                    }
                    let mut value = T::default();
                    let errors = decoder.errors.len();
                    decoder.within(format!("[{index}]"), |decoder| value.decode(item, decoder));
                    if errors == decoder.errors.len() {
                        self.push(value);
                    }
                }
            }
            _ => decoder.mismatch(node, "list"),
        }
    }
}

impl<T: Decode + Default> Decode for BTreeMap<String, T> {
    fn decode(&mut self, node: &Node, decoder: &mut Decoder) {
        match &node.content {
            Content::Scalar {
                value: Scalar::Null, ..
            } => self.clear(),
            Content::Mapping(mapping) => {
                decoder.duplicates(&mapping.duplicates);
                for entry in &mapping.entries {
                    let mut value = T::default();
                    let errors = decoder.errors.len();
                    decoder.within(entry.key.clone(), |decoder| value.decode(&entry.value, decoder));
                    if errors == decoder.errors.len() {
                        self.insert(entry.key.clone(), value);
                    }
                }
            }
            _ => decoder.mismatch(node, "mapping"),
        }
    }
}
