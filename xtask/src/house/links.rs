//! Links between the repository's pages lead to files that exist.

use std::{fs, path::Path};

use anyhow::Context;

use crate::repo;

/// Every relative link of a Markdown page that leads nowhere.
pub(crate) fn links() -> anyhow::Result<Vec<String>> {
    let root = repo::root();
    let mut faults = Vec::new();
    for file in repo::files()? {
        if file.extension() != Some("md".as_ref()) {
            continue;
        }
        let text = fs::read_to_string(root.join(&file)).with_context(|| file.display().to_string())?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for target in targets(&text) {
            if !root.join(folder).join(&target).exists() {
                faults.push(format!("{}: {target} does not exist", file.display()));
            }
        }
    }
    Ok(faults)
}

/// The relative targets of `[text](target)`, without their anchors; fenced code is no prose.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let Some(end) = rest.find(')') else { continue };
            let target = rest[..end].split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::targets;

    #[test]
    fn only_relative_links_in_prose_count() {
        let page = "[a](docs/a.md#top) and [b](https://example.com)\n```\n[c](c.md)\n```\n[d](#here)\n";
        assert_eq!(targets(page), ["docs/a.md"]);
    }
}
