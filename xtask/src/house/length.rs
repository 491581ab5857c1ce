//! Files have one job: at most 600 lines of code before their tests.

use std::{fs, path::Path};

use anyhow::Context;

use crate::repo;

/// From docs/adr/0001: what the trees we learned from stay under, with room for tables.
const LIMIT: usize = 600;

/// Every Rust file that is too long.
pub(crate) fn length() -> anyhow::Result<Vec<String>> {
    let root = repo::root();
    let mut faults = Vec::new();
    for file in repo::files()? {
        // What is generated or a table of cases may be as long as it needs.
        let free = file
            .components()
            .any(|part| part.as_os_str() == "generated" || part.as_os_str() == "tests");
        if free || file.extension() != Some("rs".as_ref()) {
            continue;
        }
        let text = fs::read_to_string(root.join(&file)).with_context(|| file.display().to_string())?;
        faults.extend(fault(&file, &text));
    }
    Ok(faults)
}

fn fault(file: &Path, text: &str) -> Option<String> {
    let lines = code_lines(text);
    (lines > LIMIT).then(|| {
        format!(
            "{}: {lines} lines of code before its tests, {LIMIT} allowed",
            file.display()
        )
    })
}

/// Lines that are neither blank nor comment, up to the file's test module.
fn code_lines(text: &str) -> usize {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_comments_and_blank_lines_do_not_count() {
        assert_eq!(
            code_lines("//! Page.\n\nfn a() {}\n    // why\n#[cfg(test)]\nmod tests {}\n"),
            1
        );
    }

    #[test]
    fn one_line_too_many_is_a_fault() {
        assert!(fault(Path::new("a.rs"), &"x;\n".repeat(LIMIT)).is_none());
        assert!(fault(Path::new("a.rs"), &"x;\n".repeat(LIMIT + 1)).is_some());
    }

    #[test]
    fn this_repository_keeps_its_files_short() {
        assert_eq!(length().unwrap(), Vec::<String>::new());
    }
}
