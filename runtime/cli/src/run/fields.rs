//! Typed values out of a YAML mapping, by yaml.v2's rules: a text takes any scalar as it is written, numbers and
//! switches take only their kind, null is "not said".

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Result, anyhow};
use outrigger_resources::yaml::{Content, Mapping, Node, Scalar};

/// A mapping being read; remembers which keys were asked for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    mapping: Option<&'a Mapping>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    /// Null is an empty mapping.
    pub(super) fn of(node: Option<&'a Node>, what: &str) -> Result<Self> {
        let mapping = match node.map(|node| (&node.content, node)) {
            None => None,
            Some((Content::Mapping(mapping), _)) => Some(mapping),
            Some((_, node)) if node.is_null() => None,
            Some((_, node)) => return Err(anyhow!("line {}: {what} must be a mapping", node.at.line)),
        };
        Ok(Self {
            mapping,
            asked: RefCell::default(),
        })
    }

    /// The value of a key, unless it is null.
    pub(super) fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().insert(key);
        let entry = self.mapping?.entries.iter().rfind(|entry| entry.key == key)?;
        (!entry.value.is_null()).then_some(&entry.value)
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>> {
        self.node(key).map(|node| text(node, key)).transpose()
    }

    pub(super) fn integer(&self, key: &'static str) -> Result<i64> {
        Ok(self.number(key)?.unwrap_or(0))
    }

    /// A port: zero and negative ones are "not said".
    pub(super) fn port(&self, key: &'static str) -> Result<Option<u16>> {
        match self.number(key)? {
            None | Some(..=0) => Ok(None),
            Some(number) => u16::try_from(number)
                .map(Some)
                .map_err(|_| wrong(self.node(key), key, "a port (1 to 65535)")),
        }
    }

    pub(super) fn number(&self, key: &'static str) -> Result<Option<i64>> {
        let Some(node) = self.node(key) else {
            return Ok(None);
        };
        match &node.content {
            Content::Scalar {
                value: Scalar::Int(number),
                ..
            } => Ok(Some(*number)),
            _ => Err(wrong(Some(node), key, "a whole number")),
        }
    }

    pub(super) fn switch(&self, key: &'static str) -> Result<bool> {
        let Some(node) = self.node(key) else {
            return Ok(false);
        };
        match &node.content {
            Content::Scalar {
                value: Scalar::Bool(value),
                ..
            } => Ok(*value),
            _ => Err(wrong(Some(node), key, "true or false")),
        }
    }

    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<String>> {
        match self.node(key).map(|node| (&node.content, node)) {
            None => Ok(Vec::new()),
            Some((Content::Sequence(items), _)) => items.iter().map(|item| text(item, key)).collect(),
            Some((_, node)) => Err(wrong(Some(node), key, "a list")),
        }
    }

    pub(super) fn pairs(&self, key: &'static str) -> Result<BTreeMap<String, String>> {
        match self.node(key).map(|node| (&node.content, node)) {
            None => Ok(BTreeMap::new()),
            Some((Content::Mapping(mapping), _)) => mapping
                .entries
                .iter()
                .map(|entry| {
                    Ok((
                        entry.key.clone(),
                        if entry.value.is_null() {
                            String::new()
                        } else {
                            text(&entry.value, &entry.key)?
                        },
                    ))
                })
                .collect(),
            Some((_, node)) => Err(wrong(Some(node), key, "a mapping")),
        }
    }

    /// Keys nobody asked for, with their lines: loaded without complaint upstream, a typing error more often than not.
    pub(super) fn unknown(&self) -> Vec<(usize, String)> {
        let asked = self.asked.borrow();
        let entries = self.mapping.map_or(&[][..], |mapping| &mapping.entries);
        entries
            .iter()
            .filter(|entry| !asked.contains(entry.key.as_str()))
            .map(|entry| (entry.at.line, entry.key.clone()))
            .collect()
    }
}

fn text(node: &Node, key: &str) -> Result<String> {
    match &node.content {
        Content::Scalar { text, .. } => Ok(text.clone()),
        _ => Err(wrong(Some(node), key, "a text")),
    }
}

fn wrong(node: Option<&Node>, key: &str, wanted: &str) -> anyhow::Error {
    anyhow!(
        "line {}: {key} must be {wanted}",
        node.map_or(0, |node| node.at.line)
    )
}
