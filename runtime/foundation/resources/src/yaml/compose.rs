//! Parser events to a tree: anchors, merge keys, equal keys and bounds as go-yaml treats them (`decode.go`).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{Content, Entry, MAX_DEPTH, Mapping, Mark, Mode, Node, Scalar, YamlError, quoted, resolve};
use crate::go;

/// Nodes of the document before aliases are expanded, by index.
enum Raw {
    Scalar {
        text: String,
        plain: bool,
        tag: Option<String>,
    },
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
    Alias(usize),
}

type Slot = (Mark, Raw);

pub(super) fn compose(text: &str, mode: Mode) -> Result<Option<Node>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text)?;
    let read = read(text).or_else(|error| {
        if !quoted::complains(&error.message) {
            return Err(error);
        }
        read(&quoted::indented(text)).map_err(|_| error)
    })?;
    let Some((slots, root)) = read else {
        return Ok(None);
    };
    let mut composer = Composer {
        active: vec![false; slots.len()],
        slots: &slots,
        mode,
        made: 0,
        copied: 0,
        copying: 0,
    };
    composer.node(root, 0).map(Some)
}

fn error(at: Mark, message: impl Into<String>) -> YamlError {
    YamlError {
        at,
        message: message.into(),
    }
}

/// libyaml reads printable characters only; the parser here is more generous.
fn check_characters(text: &str) -> Result<(), YamlError> {
    let mut at = Mark { line: 1, column: 1 };
    for c in text.chars() {
        let printable = matches!(c,
            '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
            | '\u{10000}'..);
        if !printable {
            return Err(error(at, "control characters are not allowed"));
        }
        at = if c == '\n' {
            Mark {
                line: at.line + 1,
                column: 1,
            }
        } else {
            Mark {
                column: at.column + 1,
                ..at
            }
        };
    }
    Ok(())
}

/// A collection that is still open: its slot, and for a mapping the key waiting for its value.
struct Open {
    slot: usize,
    key: Option<usize>,
}

fn read(text: &str) -> Result<Option<(Vec<Slot>, usize)>, YamlError> {
    let mut slots: Vec<Slot> = Vec::new();
    let mut anchors: HashMap<usize, usize> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|scan| {
            error(
                mark(scan.marker().line(), scan.marker().col()),
                scan.info().to_owned(),
            )
        })?;
        let at = mark(span.start.line(), span.start.col());
        let (raw, anchor) = match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
            Event::StreamEnd | Event::DocumentEnd => break,
            Event::Alias(anchor) => {
                let target = anchors.get(&anchor).copied();
                (
                    Raw::Alias(target.ok_or_else(|| error(at, "unknown anchor referenced"))?),
                    0,
                )
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (
                    Raw::Scalar {
                        text: text.into_owned(),
                        plain,
                        tag: tag.as_deref().map(short_tag),
                    },
                    anchor,
                )
            }
            Event::SequenceStart(anchor, _) => (Raw::Sequence(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => (Raw::Mapping(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
        };
        let opens = matches!(raw, Raw::Sequence(_) | Raw::Mapping(_));
        let slot = slots.len();
        slots.push((at, raw));
        if anchor != 0 {
            anchors.insert(anchor, slot);
        }
        match open.last_mut() {
            None => root = root.or(Some(slot)),
            Some(parent) => match &mut slots[parent.slot].1 {
                Raw::Sequence(items) => items.push(slot),
                Raw::Mapping(pairs) => match parent.key.take() {
                    None => parent.key = Some(slot),
                    Some(key) => pairs.push((key, slot)),
                },
                Raw::Scalar { .. } | Raw::Alias(_) => {}
            },
        }
        if opens {
            if open.len() >= MAX_DEPTH {
                return Err(error(at, format!("exceeded max depth of {MAX_DEPTH}")));
            }
            open.push(Open { slot, key: None });
        }
    }
    Ok(root.map(|root| (slots, root)))
}

/// The parser counts lines from 1 and columns from 0.
fn mark(line: usize, column: usize) -> Mark {
    Mark {
        line,
        column: column + 1,
    }
}

fn short_tag(tag: &Tag) -> String {
    let full = format!("{}{}", tag.handle, tag.suffix);
    match full.strip_prefix("tag:yaml.org,2002:") {
        Some(suffix) => format!("!!{suffix}"),
        None => full,
    }
}

struct Composer<'a> {
    slots: &'a [Slot],
    /// Anchored nodes being expanded; meeting one again is a cycle.
    active: Vec<bool>,
    mode: Mode,
    /// Nodes made so far, and how many of them through aliases.
    made: u64,
    copied: u64,
    /// How many aliases enclose the node being made.
    copying: u32,
}

impl Composer<'_> {
    fn node(&mut self, slot: usize, depth: usize) -> Result<Node, YamlError> {
        let slots = self.slots;
        let (at, raw) = &slots[slot];
        let at = *at;
        self.made += 1;
        if self.copying > 0 {
            self.copied += 1;
        }
        if self.copied > 100
            && self.made > 1000
            && self.copied as f64 / self.made as f64 > allowed_copies(self.made)
        {
            return Err(error(at, "document contains excessive aliasing"));
        }
        if depth > MAX_DEPTH {
            return Err(error(at, format!("exceeded max depth of {MAX_DEPTH}")));
        }
        let content = match raw {
            Raw::Alias(target) => {
                if self.active[*target] {
                    return Err(error(at, "anchor value contains itself"));
                }
                self.copying += 1;
                let node = self.node(*target, depth + 1)?;
                self.copying -= 1;
                return Ok(node);
            }
            Raw::Scalar { text, plain, tag } => self.scalar(at, text, *plain, tag.as_deref())?,
            Raw::Sequence(items) => {
                self.active[slot] = true;
                let nodes = items
                    .iter()
                    .map(|item| self.node(*item, depth + 1))
                    .collect::<Result<_, _>>()?;
                self.active[slot] = false;
                Content::Sequence(nodes)
            }
            Raw::Mapping(pairs) => {
                self.active[slot] = true;
                let mapping = self.mapping(pairs, depth)?;
                self.active[slot] = false;
                Content::Mapping(mapping)
            }
        };
        Ok(Node { at, content })
    }

    fn scalar(&self, at: Mark, text: &str, plain: bool, tag: Option<&str>) -> Result<Content, YamlError> {
        let (value, replaced) = match tag {
            None if plain => (resolve::implicit(text, self.mode), None),
            Some("!") if plain && self.mode == Mode::YamlV3 => (resolve::implicit(text, self.mode), None),
            None | Some("!") => (Scalar::String, None),
            Some(tag) => resolve::tagged(tag, text, self.mode).map_err(|message| error(at, message))?,
        };
        Ok(Content::Scalar {
            value,
            text: replaced.unwrap_or_else(|| text.to_owned()),
        })
    }

    fn mapping(&mut self, pairs: &[(usize, usize)], depth: usize) -> Result<Mapping, YamlError> {
        let slots = self.slots;
        let mut building = Building::default();
        let mut merges: Vec<usize> = Vec::new();
        for (key, value) in pairs {
            let (at, raw) = &slots[*key];
            if is_merge(raw) {
                match self.mode {
                    // v2 merges where it stands, over what came before; v3 at the end, under everything.
                    Mode::GoYamlV2 => {
                        for entry in self.merged(*at, *value, depth)? {
                            building.set(entry);
                        }
                    }
                    Mode::YamlV3 => {
                        if let Some(first) = merges.first() {
                            building
                                .mapping
                                .duplicates
                                .push(("<<".to_owned(), slots[*first].0, *at));
                        }
                        merges.push(*value);
                    }
                }
                continue;
            }
            let name = self.key(*key, depth)?;
            let value = self.node(*value, depth + 1)?;
            let Some(name) = name else { continue };
            if let Some(first) = building.places.get(&name) {
                building
                    .mapping
                    .duplicates
                    .push((name.clone(), building.mapping.entries[*first].at, *at));
            }
            building.set(Entry {
                key: name,
                at: *at,
                value,
            });
        }
        if let Some(value) = merges.last() {
            for entry in self.merged(slots[*value].0, *value, depth)? {
                if !building.places.contains_key(&entry.key) {
                    building.set(entry);
                }
            }
        }
        Ok(building.mapping)
    }

    /// The pairs of a merge key's value, those that win first.
    fn merged(&mut self, at: Mark, value: usize, depth: usize) -> Result<Vec<Entry>, YamlError> {
        let slots = self.slots;
        let sources: Vec<usize> = match &slots[value].1 {
            Raw::Sequence(items) => items.clone(),
            _ => vec![value],
        };
        let mut building = Building::default();
        for source in sources {
            let node = self.node(source, depth + 1)?;
            let Content::Mapping(mapping) = node.content else {
                return Err(error(
                    at,
                    "map merge requires map or sequence of maps as the value",
                ));
            };
            for entry in mapping.entries {
                if !building.places.contains_key(&entry.key) {
                    building.set(entry);
                }
            }
        }
        Ok(building.mapping.entries)
    }

    /// A key as text; `None` for a key that v3 passes over.
    fn key(&mut self, slot: usize, depth: usize) -> Result<Option<String>, YamlError> {
        let node = self.node(slot, depth + 1)?;
        let Content::Scalar { value, text } = node.content else {
            return Err(error(
                node.at,
                "invalid map key: a list or mapping cannot be a key",
            ));
        };
        if self.mode == Mode::YamlV3 {
            return Ok((value != Scalar::Null).then_some(text));
        }
        Ok(Some(match value {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) if value.is_nan() => ".nan".to_owned(),
            Scalar::Float(value) if value.is_infinite() => {
                if value > 0.0 { ".inf" } else { "-.inf" }.to_owned()
            }
            Scalar::Float(value) => go::format_float_g32(value),
            Scalar::String => text,
            Scalar::Null => return Err(error(node.at, "unsupported map key of type: <nil>")),
            Scalar::Uint(_) => return Err(error(node.at, "unsupported map key of type: uint64")),
        }))
    }
}

/// A mapping being filled, with an index of its keys.
#[derive(Default)]
struct Building {
    mapping: Mapping,
    places: HashMap<String, usize>,
}

impl Building {
    fn set(&mut self, entry: Entry) {
        match self.places.get(&entry.key) {
            Some(place) => self.mapping.entries[*place] = entry,
            None => {
                self.places.insert(entry.key.clone(), self.mapping.entries.len());
                self.mapping.entries.push(entry);
            }
        }
    }
}

fn is_merge(raw: &Raw) -> bool {
    match raw {
        Raw::Scalar { text, plain, tag } => {
            text == "<<" && ((*plain && tag.is_none()) || tag.as_deref() == Some("!!merge"))
        }
        _ => false,
    }
}

/// go-yaml's bound against alias bombs: small documents may come from aliases to 99 %, those of four million
/// nodes to 10 %.
fn allowed_copies(made: u64) -> f64 {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    let made = made as f64;
    if made <= LOW {
        0.99
    } else if made >= HIGH {
        0.10
    } else {
        0.99 - 0.89 * ((made - LOW) / (HIGH - LOW))
    }
}
