//! The record: one row per case in `docs/conformance/results.tsv`, and the page made of it, `docs/conformance.md`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    fs,
    path::PathBuf,
};

use anyhow::Context;

use super::{
    plan::{Case, group},
    verdict::Verdict,
};
use crate::repo;

/// The last word on a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// Runs that passed, of all runs.
    pub(crate) passed: u32,
    pub(crate) runs: u32,
    /// Times a failure was run again.
    pub(crate) retries: u32,
    /// The commit it was measured at.
    pub(crate) commit: String,
}

/// What was measured, for the head of the page.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) ours: String,
    pub(crate) foreign: Vec<String>,
    pub(crate) runs: u32,
    pub(crate) retries: u32,
}

const COLUMNS: &str = "# case\tverdict\tpassed\truns\tretries\tcommit";

fn results_path() -> PathBuf {
    repo::root().join("docs/conformance/results.tsv")
}

fn page_path() -> PathBuf {
    repo::root().join("docs/conformance.md")
}

/// Takes the new outcomes into the record: a partial run leaves the other rows as they are.
pub(crate) fn update(cases: &[Case], fresh: &BTreeMap<String, Outcome>, head: &Head) -> anyhow::Result<()> {
    let mut outcomes = match fs::read_to_string(results_path()) {
        Ok(text) => parse(&text),
        Err(_) => BTreeMap::new(),
    };
    outcomes.extend(
        fresh
            .iter()
            .map(|(name, outcome)| (name.clone(), outcome.clone())),
    );
    outcomes.retain(|name, _| cases.iter().any(|case| case.name == *name));
    let reasons = fs::read_to_string(page_path())
        .map(|page| reasons(&page))
        .unwrap_or_default();
    fs::write(results_path(), rows(&outcomes)).context("write docs/conformance/results.tsv")?;
    fs::write(page_path(), page(cases, &outcomes, &reasons, head)).context("write docs/conformance.md")
}

fn parse(text: &str) -> BTreeMap<String, Outcome> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next()?.to_owned();
            Some((
                name,
                Outcome {
                    verdict: Verdict::parse(fields.next()?)?,
                    passed: fields.next()?.parse().ok()?,
                    runs: fields.next()?.parse().ok()?,
                    retries: fields.next()?.parse().ok()?,
                    commit: fields.next()?.to_owned(),
                },
            ))
        })
        .collect()
}

fn rows(outcomes: &BTreeMap<String, Outcome>) -> String {
    let mut text = format!("{COLUMNS}\n");
    for (name, outcome) in outcomes {
        let Outcome {
            verdict,
            passed,
            runs,
            retries,
            commit,
        } = outcome;
        let _ = writeln!(
            text,
            "{name}\t{}\t{passed}\t{runs}\t{retries}\t{commit}",
            verdict.word()
        );
    }
    text
}

/// The hand-written last column of the list of misses.
fn reasons(page: &str) -> HashMap<String, String> {
    page.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [name, _, _, reason] = cells.as_slice() else {
                return None;
            };
            let reason = reason.trim().trim_end_matches('|').trim();
            (!reason.is_empty()).then(|| (name.trim_end_matches('`').to_owned(), reason.to_owned()))
        })
        .collect()
}

/// Passed and total of the measured cases.
pub(crate) fn tally<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> (usize, usize) {
    outcomes.fold((0, 0), |(passed, total), outcome| {
        (passed + usize::from(outcome.verdict == Verdict::Pass), total + 1)
    })
}

fn page(
    cases: &[Case],
    outcomes: &BTreeMap<String, Outcome>,
    reasons: &HashMap<String, String>,
    head: &Head,
) -> String {
    let mut text = String::new();
    let (passed, total) = tally(outcomes.values());
    let _ = writeln!(
        text,
        "# Conformance ledger\n\n\
         The peer's own black-box integration suite, at tag v1.18.2, run against our programs. Written by\n\
         `cargo xtask conformance`; only the reasons in the list of misses are written by hand, and kept.\n\
         A case counts when it says PASS in every run: its body, and the start and exit of its programs. A skip does not count.\n\
         One row per case: [results.tsv](conformance/results.tsv); the stages: [stages.tsv](conformance/stages.tsv).\n\n\
         **{passed} of {total} measured cases pass; the suite has {} cases.**\n",
        cases.len()
    );
    let _ = writeln!(text, "| Last run | |\n| --- | --- |");
    let _ = writeln!(text, "| Measured | {}, commit {} |", head.date, head.commit);
    let _ = writeln!(text, "| Ours | {} |", head.ours);
    let foreign = if head.foreign.is_empty() {
        "none".to_owned()
    } else {
        head.foreign.join(", ")
    };
    let _ = writeln!(text, "| Foreign programs that took part | {foreign} |");
    let _ = writeln!(text, "| Runs per case | {} |", head.runs);
    let retried = outcomes.values().filter(|outcome| outcome.retries > 0).count();
    let _ = writeln!(
        text,
        "| Retries of a failed case | at most {}; {retried} cases took one |\n",
        head.retries
    );

    let stages: BTreeSet<u8> = cases
        .iter()
        .filter(|case| outcomes.contains_key(&case.name))
        .map(|case| case.stage)
        .collect();
    let mut groups: BTreeMap<&str, BTreeMap<u8, (usize, usize)>> = BTreeMap::new();
    let mut sums: BTreeMap<u8, (usize, usize)> = BTreeMap::new();
    for case in cases {
        let Some(outcome) = outcomes.get(&case.name) else {
            continue;
        };
        let (passed, total) = tally(std::iter::once(outcome));
        for cell in [
            groups
                .entry(group(&case.name))
                .or_default()
                .entry(case.stage)
                .or_default(),
            sums.entry(case.stage).or_default(),
        ] {
            cell.0 += passed;
            cell.1 += total;
        }
    }
    let columns = |cells: &BTreeMap<u8, (usize, usize)>| {
        stages.iter().fold(String::new(), |mut row, stage| {
            let _ = match cells.get(stage) {
                Some((passed, total)) => write!(row, " {passed}/{total} |"),
                None => write!(row, " |"),
            };
            row
        })
    };
    text.push_str("## Groups\n\n| group |");
    for stage in &stages {
        let _ = write!(text, " stage {stage} |");
    }
    let _ = writeln!(text, "\n| --- |{}", " ---: |".repeat(stages.len()));
    for (group, cells) in &groups {
        let _ = writeln!(text, "| {group} |{}", columns(cells));
    }
    let _ = writeln!(text, "| **all** |{}\n", columns(&sums));

    text.push_str("## Misses\n\n| case | stage | verdict | reason |\n| --- | ---: | --- | --- |\n");
    for case in cases {
        let Some(outcome) = outcomes
            .get(&case.name)
            .filter(|outcome| outcome.verdict != Verdict::Pass)
        else {
            continue;
        };
        let mut verdict = outcome.verdict.word().to_owned();
        if outcome.passed > 0 {
            let _ = write!(verdict, " ({} of {} runs passed)", outcome.passed, outcome.runs);
        }
        let known = if outcome.verdict == Verdict::Skip {
            "the suite skips it by itself"
        } else {
            ""
        };
        let reason = reasons.get(&case.name).map_or(known, String::as_str);
        let _ = writeln!(
            text,
            "| `{}` | {} | {verdict} | {reason} |",
            case.name, case.stage
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            verdict,
            passed: u32::from(verdict == Verdict::Pass),
            runs: 1,
            retries: 0,
            commit: "abc".to_owned(),
        }
    }

    fn head() -> Head {
        Head {
            commit: "abc".to_owned(),
            date: "2026-11-21".to_owned(),
            ours: "daprd".to_owned(),
            foreign: vec!["placement 1.18.2".to_owned()],
            runs: 1,
            retries: 0,
        }
    }

    #[test]
    fn rows_survive_the_file() {
        let outcomes = BTreeMap::from([("a/b".to_owned(), outcome(Verdict::Skip))]);
        assert_eq!(parse(&rows(&outcomes)), outcomes);
    }

    #[test]
    fn reasons_survive_a_new_page() {
        let cases = [
            Case {
                name: "daprd/state/x".to_owned(),
                stage: 1,
            },
            Case {
                name: "ports/y".to_owned(),
                stage: 1,
            },
        ];
        let outcomes = BTreeMap::from([
            ("daprd/state/x".to_owned(), outcome(Verdict::Fail)),
            ("ports/y".to_owned(), outcome(Verdict::Pass)),
        ]);
        let known = HashMap::from([("daprd/state/x".to_owned(), "a reason, in words".to_owned())]);
        let page = page(&cases, &outcomes, &known, &head());
        assert_eq!(reasons(&page), known);
        assert!(page.contains("| daprd/state | 0/1 |"), "{page}");
        assert!(page.contains("**1 of 2 measured cases pass"), "{page}");
        assert!(!page.contains("`ports/y`"), "{page}");
    }
}
