//! Counts lines as the crate's first page says.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What a folder holds.
pub(crate) struct Count {
    pub(crate) lines: usize,
    files: Vec<(String, usize)>,
    pub(crate) text: String,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(name, lines)| format!("{name} {lines}"))
            .collect();
        write!(f, "{} lines ({})", self.lines, files.join(", "))
    }
}

/// Counts a folder of this crate.
pub(crate) fn folder(name: &str) -> Count {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut count = Count {
        lines: 0,
        files: Vec::new(),
        text: String::new(),
    };
    for file in files(&root) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = lines(&text, file.extension().is_some_and(|extension| extension == "rs"));
        count.lines += lines;
        let name = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        count.files.push((name, lines));
        count.text.push_str(&text);
    }
    count
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Lines that are neither empty, nor a comment, nor of the tests at the end of a file.
fn lines(text: &str, rust: bool) -> usize {
    let comment = if rust { "//" } else { "#" };
    text.lines()
        .map(str::trim)
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.is_empty() && !line.starts_with(comment))
        .count()
}

#[test]
fn empty_lines_comments_and_tests_do_not_count() {
    let rust = "//! About.\n\nuse a;\n\n/// Says.\nfn b() {} // said\n\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(lines(rust, true), 2);
    assert_eq!(lines("# About.\na: 1\n\nb:\n  - c\n", false), 3);
}
