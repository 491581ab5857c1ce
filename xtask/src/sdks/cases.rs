//! Every case of `sdks/cases.json` has a test in every language it is asked of, and a comment there names it (E2.9).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::Context;
use serde_json::Value;

use crate::repo;

/// Where a language's tests stand and how a case and a test look there.
struct Language {
    name: &'static str,
    folders: &'static [&'static str],
    extension: &'static str,
    comment: &'static str,
    /// Whether a line begins a test whose name is in the language's form.
    test: fn(&str) -> bool,
    /// Lines between the comment and the test.
    between: &'static [&'static str],
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "rust",
        folders: &["sdks/rust/tests", "platform/core/tests"],
        extension: "rs",
        comment: "// ",
        test: |line| name(line, &["fn ", "async fn "], '('),
        between: &["#["],
    },
    Language {
        name: "python",
        folders: &["sdks/python/tests"],
        extension: "py",
        comment: "# ",
        test: |line| name(line, &["def test_", "async def test_"], '('),
        between: &["@"],
    },
    Language {
        name: "typescript",
        folders: &["sdks/typescript/tests"],
        extension: "ts",
        comment: "// ",
        test: |line| line.starts_with("it(\""),
        between: &[],
    },
];

/// Gaps, ids that no list has, and comments without a test.
pub(crate) fn faults() -> anyhow::Result<Vec<String>> {
    let wanted = wanted(&fs::read_to_string(repo::root().join("sdks/cases.json")).context("cases.json")?)?;
    let mut faults = Vec::new();
    for language in LANGUAGES {
        let mut found = BTreeMap::new();
        for file in repo::files()? {
            let path = file.to_string_lossy().into_owned();
            let ours = language
                .folders
                .iter()
                .any(|folder| path.starts_with(&format!("{folder}/")));
            if !ours || file.extension() != Some(language.extension.as_ref()) {
                continue;
            }
            let text = fs::read_to_string(repo::root().join(&file)).with_context(|| path.clone())?;
            faults.extend(scan(language, &path, &text, &mut found));
        }
        faults.extend(compare(language.name, &wanted, &found));
    }
    Ok(faults)
}

/// Ids and the languages they are asked of.
fn wanted(text: &str) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let list: Value = serde_json::from_str(text).context("cases.json")?;
    let mut wanted = BTreeMap::new();
    for part in ["published", "ours"] {
        for case in list[part]
            .as_array()
            .with_context(|| format!("cases.json has no {part}"))?
        {
            let id = case["id"].as_str().context("a case has no id")?.to_owned();
            let languages = case["languages"]
                .as_array()
                .with_context(|| format!("{id} has no languages"))?;
            let languages = languages
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            anyhow::ensure!(
                wanted.insert(id.clone(), languages).is_none(),
                "cases.json has {id} twice"
            );
        }
    }
    Ok(wanted)
}

/// Collects the cases of a file; a comment that no test follows is a fault.
fn scan(language: &Language, path: &str, text: &str, found: &mut BTreeMap<String, String>) -> Option<String> {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    for (number, line) in lines.iter().enumerate() {
        let Some(id) = line.strip_prefix(language.comment).filter(|id| is_id(id)) else {
            continue;
        };
        let next = lines[number + 1..]
            .iter()
            .find(|line| !language.between.iter().any(|between| line.starts_with(between)));
        if !next.is_some_and(|next| (language.test)(next)) {
            return Some(format!("{path}:{}: no test follows {id}", number + 1));
        }
        found.insert(id.to_owned(), path.to_owned());
    }
    None
}

fn compare(
    language: &str,
    wanted: &BTreeMap<String, BTreeSet<String>>,
    found: &BTreeMap<String, String>,
) -> Vec<String> {
    let missing = wanted
        .iter()
        .filter(|(id, languages)| languages.contains(language) && !found.contains_key(*id))
        .map(|(id, _)| format!("{language}: no test of {id}"));
    let unknown = found
        .iter()
        .filter(|(id, _)| !wanted.contains_key(*id))
        .map(|(id, path)| format!("{path}: {id} is not in sdks/cases.json"));
    missing.chain(unknown).collect()
}

/// A letter and a number, such as `A8`.
fn is_id(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|letter| letter.is_ascii_uppercase())
        && !chars.as_str().is_empty()
        && chars.as_str().bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a line begins with one of the words and goes on with a name in snake case.
fn name(line: &str, words: &[&str], end: char) -> bool {
    words.iter().any(|word| {
        line.strip_prefix(word)
            .and_then(|rest| rest.split_once(end))
            .is_some_and(|(name, _)| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(name: &str) -> &'static Language {
        LANGUAGES.iter().find(|language| language.name == name).unwrap()
    }

    #[test]
    fn a_comment_and_the_test_behind_it_are_a_case() {
        let mut found = BTreeMap::new();
        let rust = "// A1\n#[test]\nfn snake_case() {}\n// A2\n#[tokio::test]\nasync fn another_one() {}\n";
        assert_eq!(scan(language("rust"), "a.rs", rust, &mut found), None);
        let python = "# A3\n@pytest.mark.x\nasync def test_it(a):\n# A note\n";
        assert_eq!(scan(language("python"), "a.py", python, &mut found), None);
        let typescript = "  // A4\n  it(\"does\", () => {});\n";
        assert_eq!(scan(language("typescript"), "a.ts", typescript, &mut found), None);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["A1", "A2", "A3", "A4"]);
        for (name, text) in [
            ("rust", "// A1\nfn CamelCase() {}"),
            ("python", "# A1\ndef helper():"),
            ("typescript", "// A1\ntest(\"x\")"),
            ("rust", "// A1"),
        ] {
            let fault = scan(language(name), "a", text, &mut found);
            assert_eq!(fault.as_deref(), Some("a:1: no test follows A1"), "{text}");
        }
    }

    #[test]
    fn gaps_and_unknown_ids_are_faults() {
        let list = r#"{"published":[{"id":"A1","languages":["rust","python"]},{"id":"A2","languages":["python"]}],"ours":[]}"#;
        let wanted = wanted(list).unwrap();
        let found = BTreeMap::from([("A9".to_owned(), "a.rs".to_owned())]);
        assert_eq!(
            compare("rust", &wanted, &found),
            ["rust: no test of A1", "a.rs: A9 is not in sdks/cases.json"]
        );
    }

    #[test]
    fn this_repository_has_a_test_of_every_case() {
        assert_eq!(faults().unwrap(), Vec::<String>::new());
    }
}
