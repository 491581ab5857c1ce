//! Which cases to run: the list of stages, a stage, a pattern.

use std::{collections::BTreeMap, fs};

use anyhow::Context;

use crate::repo;

/// A case of the suite, and the first stage at which all it starts exists here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) stage: u8,
}

/// The cases that one process of the suite runs: a panic in one must not take many others along.
const BATCH: usize = 60;

/// Reads `docs/conformance/stages.tsv`.
pub(crate) fn cases() -> anyhow::Result<Vec<Case>> {
    let path = repo::root().join("docs/conformance/stages.tsv");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, stage) = line
                .split_once('\t')
                .with_context(|| format!("no stage: {line}"))?;
            let stage = stage
                .trim()
                .parse()
                .with_context(|| format!("no stage: {line}"))?;
            Ok(Case {
                name: name.to_owned(),
                stage,
            })
        })
        .collect()
}

/// The group a case is counted under: the first two folders of its package.
pub(crate) fn group(case: &str) -> &str {
    let package = case.rsplit_once('/').map_or(case, |(package, _)| package);
    match package.match_indices('/').nth(1) {
        Some((at, _)) => &package[..at],
        None => package,
    }
}

/// The chosen cases by group, in batches.
pub(crate) fn batches(cases: &[Case]) -> Vec<(String, Vec<String>)> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for case in cases {
        groups
            .entry(group(&case.name))
            .or_default()
            .push(case.name.clone());
    }
    groups
        .into_iter()
        .flat_map(|(group, names)| {
            names
                .chunks(BATCH)
                .map(|batch| (group.to_owned(), batch.to_vec()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The part of regular expressions that case names need: alternatives by `|`, anchors `^` and `$`, and `.*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    pattern.split('|').any(|alternative| {
        let (start, rest) = match alternative.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, alternative),
        };
        let (end, rest) = match rest.strip_suffix('$') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let parts: Vec<&str> = rest.split(".*").collect();
        let mut left = name;
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            if index == 0 && start {
                match left.strip_prefix(part) {
                    Some(behind) if !(last && end) || behind.is_empty() => left = behind,
                    _ => return false,
                }
            } else if last && end {
                return left.ends_with(part);
            } else {
                match left.find(part) {
                    Some(at) => left = &left[at + part.len()..],
                    None => return false,
                }
            }
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_two_folders_of_the_package() {
        assert_eq!(group("daprd/state/http/ttl"), "daprd/state");
        assert_eq!(group("daprd/actors/empty"), "daprd/actors");
        assert_eq!(group("ports/daprd"), "ports");
    }

    #[test]
    fn patterns_anchor_alternate_and_span() {
        assert!(matches("^daprd/state/", "daprd/state/http/ttl"));
        assert!(!matches("^state", "daprd/state/http/ttl"));
        assert!(matches("ports|state.*ttl$", "daprd/state/http/ttl"));
        assert!(!matches("^daprd/state$", "daprd/state/http"));
        assert!(matches("^daprd/state$", "daprd/state"));
        assert!(matches(".*", "anything"));
    }

    #[test]
    fn large_groups_are_cut_into_batches() {
        let cases: Vec<Case> = (0..BATCH + 1)
            .map(|index| Case {
                name: format!("a/b/{index}"),
                stage: 1,
            })
            .collect();
        let batches = batches(&cases);
        assert_eq!(batches.len(), 2);
        assert!(batches.iter().all(|(group, _)| group == "a/b"));
    }

    #[test]
    fn the_committed_list_reads() {
        let cases = cases().unwrap();
        assert_eq!(cases.len(), 1246);
        assert_eq!(cases.iter().filter(|case| case.stage == 1).count(), 185);
    }
}
