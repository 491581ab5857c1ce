//! What doctor says: findings with a place and a cure.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use outrigger_resources::{Severity as FileSeverity, Warning, kinds::Origin};
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Good to know.
    Info,
    /// Works, but probably not as meant.
    Warning,
    /// Does not work.
    Error,
}

/// One thing that is wrong or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// The part of doctor that found it; stable, for scripts.
    pub(super) check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    pub(super) message: String,
    /// What to do; empty where there is nothing to do.
    pub(super) cure: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, check: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity,
            check,
            file: None,
            line: None,
            message: message.into(),
            cure: String::new(),
        }
    }

    pub(super) fn error(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, check, message)
    }

    pub(super) fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, check, message)
    }

    pub(super) fn info(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, check, message)
    }

    /// With what to do.
    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = cure.into();
        self
    }

    /// In a file; line 0 is the whole of it.
    pub(super) fn in_file(mut self, file: &Path, line: usize) -> Self {
        self.file = Some(file.to_owned());
        self.line = Some(line).filter(|line| *line > 0);
        self
    }

    /// At the place of a resource, if it came from a file.
    pub(super) fn at(self, origin: Option<&Origin>) -> Self {
        match origin {
            Some(origin) => self.in_file(&origin.file, origin.line),
            None => self,
        }
    }

    /// At a setting of a resource: the line of its file that says `name: <name>`.
    pub(super) fn at_setting(self, origin: Option<&Origin>, name: &str) -> Self {
        match origin {
            Some(origin) => {
                let line = line_of(origin, name).unwrap_or(origin.line);
                self.in_file(&origin.file, line)
            }
            None => self,
        }
    }

    /// What the reading of resource files found.
    pub(super) fn of_warning(warning: Warning) -> Self {
        let severity = match warning.severity {
            FileSeverity::Skipped => Severity::Error,
            FileSeverity::Suspicious => Severity::Warning,
        };
        Self::new(severity, "files", warning.message)
            .cure(warning.cure)
            .in_file(&warning.file, warning.line)
    }

    /// The lines printed for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(file) = &self.file {
            let _ = write!(text, "{}", file.display());
            if let Some(line) = self.line {
                let _ = write!(text, ":{line}");
            }
            text.push_str(": ");
        }
        text.push_str(&self.message);
        if !self.cure.is_empty() {
            let _ = write!(text, "\n      → {}", self.cure);
        }
        text
    }
}

/// The line of a setting within the document that a resource stands in.
fn line_of(origin: &Origin, name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(&origin.file).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let inside = origin.line.checked_sub(1)?;
    let start = lines[..inside.min(lines.len())]
        .iter()
        .rposition(|line| line.starts_with("---"))
        .map_or(0, |at| at + 1);
    let end = lines[start..]
        .iter()
        .position(|line| line.starts_with("---"))
        .map_or(lines.len(), |at| start + at);
    let is_name = |line: &str| {
        let line = line
            .trim_start()
            .trim_start_matches("- ")
            .trim_start_matches('{')
            .trim();
        line.strip_prefix("name:").is_some_and(|value| {
            let value = value.split(['#', ',', '}']).next().unwrap_or("").trim();
            value.trim_matches(['"', '\'']).eq_ignore_ascii_case(name)
        })
    };
    let spec = lines[start..end]
        .iter()
        .position(|line| line.starts_with("spec:"))
        .unwrap_or(0);
    let found = lines[start + spec..end].iter().position(|line| is_name(line))?;
    Some(start + spec + found + 1)
}

/// The candidate that is meant, if one is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_in_their_own_document() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let text = "metadata:\n  name: url\nspec:\n  metadata:\n  - name: url\n---\nmetadata:\n  name: b\nspec:\n  metadata:\n  - name: x\n  - name: \"url\" # here\n";
        std::fs::write(&file, text).unwrap();
        let at = |line| Origin {
            file: file.clone(),
            line,
        };
        assert_eq!(line_of(&at(2), "URL"), Some(5));
        assert_eq!(line_of(&at(8), "url"), Some(12));
        assert_eq!(line_of(&at(8), "missing"), None);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let types = ["state.sqlite", "state.redis", "pubsub.redis"];
        assert_eq!(nearest("state.sqlit", types), Some("state.sqlite"));
        assert_eq!(nearest("state.rdeis", types), Some("state.redis"));
        assert_eq!(nearest("bindings.kafka", types), None);
        assert_eq!(nearest("a", ["b"]), Some("b"));
    }
}
