//! Tests that the pages of requirements name exist: a row says by what it is shown, and a reader has to find it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::Context;

use crate::repo;

/// Pages of requirements begin so.
const PAGES: &str = "docs/requirements";

/// Every test or file that a page names and that is not there.
pub(crate) fn evidence() -> anyhow::Result<Vec<String>> {
    let root = repo::root();
    let mut pages = Vec::new();
    let mut tree = Tree::default();
    for file in repo::files()? {
        let path = file.to_string_lossy().into_owned();
        let is_page = path.starts_with(PAGES) && path.ends_with(".md");
        // Names of cases are text of programs and of upstream's lists.
        let is_code = [".rs", ".py", ".js", ".go", ".yaml"]
            .iter()
            .any(|ending| path.ends_with(ending));
        if !is_page && !is_code {
            tree.add(path, String::new());
            continue;
        }
        let text = fs::read_to_string(root.join(&file)).with_context(|| path.clone())?;
        if is_page {
            pages.push((path, text));
        } else {
            tree.add(path, text);
        }
    }
    Ok(pages
        .iter()
        .flat_map(|(page, text)| faults(page, text, &tree))
        .collect())
}

/// The files of the repository, and the functions of its Rust files.
#[derive(Default)]
struct Tree {
    files: BTreeMap<String, String>,
    functions: BTreeSet<String>,
}

impl Tree {
    fn add(&mut self, path: String, text: String) {
        if path.ends_with(".rs") {
            self.functions.extend(functions(&text).map(str::to_owned));
        }
        self.files.insert(path, text);
    }

    /// Whether there is such a file or folder.
    fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// Whether one file at this path, or below it, has a test of this name.
    fn tests(&self, path: &str, name: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        let mut at = self
            .files
            .iter()
            .filter(|(file, _)| *file == path || file.starts_with(&folder));
        at.any(|(file, text)| match file.ends_with(".rs") {
            true => functions(text).any(|function| matches(function, name)),
            false => text.contains(name),
        })
    }
}

/// A name as the pages write it: `…` stands for more letters at its end.
fn matches(function: &str, name: &str) -> bool {
    match name.strip_suffix('…') {
        Some(beginning) => function.starts_with(beginning),
        None => function == name,
    }
}

fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| {
        let end = rest.find(['(', '<'])?;
        let name = &rest[..end];
        name.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            .then_some(name)
    })
}

/// What a page names in the last column of its tables and the tree does not have.
fn faults(page: &str, text: &str, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let shown = line.trim_end_matches('|').rsplit(" | ").next().unwrap_or("");
        for name in shown.split('`').skip(1).step_by(2) {
            if let Some(fault) = fault(name, tree) {
                faults.push(format!("{page}: {fault}"));
            }
        }
    }
    faults
}

/// What is wrong with one name, if it is that of a test or a file.
fn fault(name: &str, tree: &Tree) -> Option<String> {
    // Commands and media types are no files.
    if name.contains(' ') || name.starts_with("application/") {
        return None;
    }
    if let Some((path, test)) = name.split_once("::")
        && path.contains('/')
    {
        return (!tree.tests(path, test)).then(|| format!("{path} has no test {test}"));
    }
    if name.contains('/') {
        return (!tree.has(name)).then(|| format!("{name} does not exist"));
    }
    let letters = name.trim_end_matches('…');
    let is_test = letters.matches('_').count() >= 2
        && letters
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    let known = || tree.functions.iter().any(|function| matches(function, name));
    (is_test && !known()).then(|| format!("there is no test {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_where_they_are_said_to_be() {
        let mut tree = Tree::default();
        tree.add(
            "kit/tests/a.rs".to_owned(),
            "fn it_works_well() {}\nfn h1_one_thing<T>() {}".to_owned(),
        );
        tree.add("clients/main.py".to_owned(), "@case(\"state.ttl\")".to_owned());
        for right in [
            "it_works_well",
            "h1_one_…",
            "kit/tests/a.rs::it_works_well",
            "kit/tests::it_works_well",
            "kit/tests",
            "clients/main.py::state.ttl",
            "cargo xtask house",
            "application/json",
            "settings.rs",
            "ETag",
        ] {
            assert_eq!(fault(right, &tree), None, "{right}");
        }
        for wrong in [
            "it_works_badly",
            "h2_one_…",
            "kit/tests/a.rs::it_works",
            "kit/src",
            "clients/main.py::state.etag",
        ] {
            assert!(fault(wrong, &tree).is_some(), "{wrong}");
        }
    }

    #[test]
    fn only_the_last_column_is_evidence() {
        let page =
            "| A1 | `no/such/path` | shown | `not_a_test`, `nothing_of_the_kind` |\n`other_words_here`\n";
        assert_eq!(faults("p.md", page, &Tree::default()).len(), 2);
    }

    #[test]
    fn this_repositorys_pages_name_tests_that_exist() {
        assert_eq!(evidence().unwrap(), Vec::<String>::new());
    }
}
