//! What is wrong or suspicious in a resource file, as data; whoever loads decides what to do with it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::yaml::Mark;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The document or file was left out.
    Skipped,
    /// It was loaded, as Dapr 1.18 loads it, but probably not as meant (design D14).
    Suspicious,
}

/// Something about one place of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Mark,
    /// What.
    pub message: String,
    /// What to do about it; may be empty.
    pub cure: String,
}

/// Something about one place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Line in the file from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column in characters from 1; 0 when it is about the line or file.
    pub column: usize,
    /// What.
    pub message: String,
    /// What to do about it; may be empty.
    pub cure: String,
}

impl Warning {
    /// About a file as a whole.
    pub(crate) fn of_file(severity: Severity, file: &Path, message: String, cure: &str) -> Self {
        Self {
            severity,
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            cure: cure.to_owned(),
        }
    }

    /// A finding in a document that starts after `lines_before` lines of the file.
    pub(crate) fn of_finding(severity: Severity, file: &Path, lines_before: usize, finding: Finding) -> Self {
        let Finding { at, message, cure } = finding;
        let line = if at.line == 0 { 0 } else { at.line + lines_before };
        Self {
            severity,
            file: file.to_owned(),
            line,
            column: at.column,
            message,
            cure,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        write!(f, ": {}", self.message)?;
        if !self.cure.is_empty() {
            write!(f, " ({})", self.cure)?;
        }
        Ok(())
    }
}
