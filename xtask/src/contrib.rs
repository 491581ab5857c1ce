//! Upstream's conformance cases for components, run on ours by the Go module in `tests/contrib-conformance`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Context;
use serde_json::Value;

use crate::{args::Args, repo, services::Services};

/// The module, below the root.
const MODULE: &str = "tests/contrib-conformance";
/// What is written.
const RECORD: &str = "docs/contrib-conformance.md";

/// Cases that the module answers itself, as the page says: they count for nothing.
const OURS_UNASKED: &str = "/supported_algorithms_methods";

/// What the page says about itself.
const ABOUT: &str = "\
`cargo xtask contrib` runs the conformance cases of `github.com/dapr/components-contrib` on our component types, with
upstream's parameters for each ([module](../tests/contrib-conformance), which has the versions). State stores, brokers,
bindings and secret stores are served with `outrigger component serve` and reached through the client that
`github.com/dapr/dapr` has for pluggable components. Locks, configuration stores and crypto providers, for which the
pluggable protocol has no services, are reached through the API of our sidecar. Types that upstream has no parameters for
(`*.sqlite` but state's, `bindings.localstorage`) are run with those of their nearest kin. This page is written by it.

What the way to the components does not carry:

- `keyslike` and `delete-with-prefix`: the pluggable protocol has no methods for them, so their cases are those of a store
  without them. Stores of ours that have them are tested by [our own suite](../runtime/blocks/state/src/suite.rs).
- An error per key of a bulk write: the protocol has one status for all keys. Where the cases ask for it, at writes that
  bring ETags, the module writes key by key, with the same bulk calls. `TestBulkErrorsLoseTheirKeys` shows the same of
  upstream's own store.
- The list of the algorithms of a crypto provider: no API tells it, so the module answers with upstream's. Its cases
  (`supported algorithms methods`) say nothing of ours and are not counted; that algorithms work, the other cases show.
- The context of a subscription to configuration: the cases end it before the first change, after which upstream's own
  stores tell nothing more. The module gives the component's context instead, also in the control.
- `conversation.echo` is not run: its cases speak types of a library that the API does not have.

A case is a leaf of upstream's tree of tests.
";

/// Counts of one component's cases. A case is a leaf of upstream's tree of tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
    /// Why the component as a whole was skipped.
    reason: String,
}

/// `--component NAME` (a part of the type's name), `--control` (upstream's own components where the module has them;
/// nothing is written), `--no-services` (only servers that the environment names), `--profile NAME`.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let component = args.value("--component")?;
    let control = args.switch("--control");
    let no_services = args.switch("--no-services");
    let profile = args.value("--profile")?.unwrap_or_else(|| "dev".to_owned());
    args.finish()?;

    if repo::which("go").is_none() {
        println!("skipped: there is no Go on this machine (https://go.dev/doc/install); nothing was run");
        return Ok(());
    }
    let module = repo::root().join(MODULE);
    if !build(&module)? {
        println!("skipped: the Go modules cannot be fetched here; nothing was run");
        return Ok(());
    }
    let program = repo::build(&profile, &["outrigger"])?.join("outrigger");
    let services = (!no_services).then(Services::start).transpose()?;

    let mut test = Command::new("go");
    test.args(["test", "-count=1", "-timeout=30m", "-json"])
        .current_dir(&module)
        .env("OUTRIGGER_PROGRAM", &program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(component) = &component {
        // The first name is the block's test, the second the component.
        test.arg(format!("-run=/{}", regex_escaped(component)));
    }
    if control {
        test.env("OUTRIGGER_CONTRIB_CONTROL", "1");
    }
    if let Some(services) = &services {
        test.envs(services.variables());
    }
    test.arg(".");
    println!("==> go test {MODULE}");
    let mut child = test.spawn().context("start go")?;
    let out = child.stdout.take().context("the output of go")?;
    let mut tally = Tally::default();
    for line in BufReader::new(out).lines() {
        tally.take(&line?);
    }
    let status = child.wait()?;
    let counts = tally.counts();
    print!("{}", table(&counts));
    anyhow::ensure!(!counts.is_empty(), "no case was run");
    let has_failed = counts.values().any(|count| count.failed > 0);
    anyhow::ensure!(status.success() || has_failed, "the run broke off: {status}");
    if !control && component.is_none() {
        fs::write(repo::root().join(RECORD), record(&counts)).with_context(|| format!("write {RECORD}"))?;
        println!("    wrote {RECORD}");
    }
    anyhow::ensure!(status.success(), "some cases failed");
    Ok(())
}

/// Whether the module's dependencies are there, fetching them where they can be.
fn build(module: &Path) -> anyhow::Result<bool> {
    println!("==> go mod download");
    let fetched = Command::new("go")
        .args(["mod", "download"])
        .current_dir(module)
        .status()
        .context("start go")?;
    Ok(fetched.success())
}

/// The name as a pattern that means only itself.
fn regex_escaped(name: &str) -> String {
    name.replace('.', "\\.")
}

/// Reads the events of `go test -json`.
#[derive(Debug, Default)]
struct Tally {
    /// Outcome by test, a path of names.
    outcomes: BTreeMap<String, String>,
    reasons: BTreeMap<String, String>,
    output: BTreeMap<String, String>,
}

impl Tally {
    fn take(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            println!("{line}");
            return;
        };
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let (test, action) = (text("Test"), text("Action"));
        match action {
            "output" => {
                if let Some((_, reason)) = text("Output").split_once("skipped: ") {
                    self.reasons.insert(test.to_owned(), reason.trim().to_owned());
                }
                let output = self.output.entry(test.to_owned()).or_default();
                // Enough to see why; a log of everything is what `go test -v` is for.
                if output.len() < 8_000 {
                    output.push_str(text("Output"));
                }
            }
            "pass" | "skip" if !test.is_empty() => {
                self.output.remove(test);
                self.outcomes.insert(test.to_owned(), action.to_owned());
            }
            "fail" => {
                if let Some(output) = self.output.remove(test) {
                    println!("--- {test}\n{output}");
                }
                if !test.is_empty() {
                    self.outcomes.insert(test.to_owned(), action.to_owned());
                }
            }
            _ => {}
        }
    }

    /// By component: the second name of a test's path. Tests with others below them are no cases of their own.
    fn counts(&self) -> BTreeMap<String, Count> {
        let mut counts = BTreeMap::<String, Count>::new();
        for (test, outcome) in &self.outcomes {
            if test.contains(OURS_UNASKED) {
                continue;
            }
            let Some(component) = test.split('/').nth(1) else {
                continue;
            };
            let below = format!("{test}/");
            let is_leaf = self
                .outcomes
                .range(below.clone()..)
                .next()
                .is_none_or(|(next, _)| !next.starts_with(&below));
            let count = counts.entry(component.to_owned()).or_default();
            if !is_leaf {
                continue;
            }
            match outcome.as_str() {
                "pass" => count.passed += 1,
                "fail" => count.failed += 1,
                _ => {
                    count.skipped += 1;
                    if test.split('/').count() == 2 {
                        count.reason = self.reasons.get(test).cloned().unwrap_or_default();
                    }
                }
            }
        }
        counts
    }
}

fn table(counts: &BTreeMap<String, Count>) -> String {
    let mut out = String::from("| component | passed | failed | skipped |\n| --- | ---: | ---: | --- |\n");
    for (component, count) in counts {
        let skipped = match (&*count.reason, count.skipped) {
            ("", 0) => "-".to_owned(),
            ("", skipped) => skipped.to_string(),
            (reason, _) => reason.to_owned(),
        };
        let _ = writeln!(
            out,
            "| `{component}` | {} | {} | {skipped} |",
            count.passed, count.failed
        );
    }
    out
}

fn record(counts: &BTreeMap<String, Count>) -> String {
    let (passed, failed) = counts.values().fold((0, 0), |(passed, failed), count| {
        (passed + count.passed, failed + count.failed)
    });
    format!(
        "# Upstream's component cases on our components\n\n{ABOUT}\nCommit {}: {passed} passed, {failed} failed.\n\n{}",
        repo::commit(),
        table(counts)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_counts_and_no_place_of_this_machine() {
        let counts = BTreeMap::from([(
            "state.a".to_owned(),
            Count {
                passed: 3,
                failed: 1,
                ..Count::default()
            },
        )]);
        let page = record(&counts);
        assert!(page.contains(": 3 passed, 1 failed.") && page.contains("| `state.a` | 3 | 1 | - |"));
        let root = repo::root();
        assert!(!page.contains(&*root.to_string_lossy()) && !page.contains("proxy"));
    }

    #[test]
    fn leaves_are_counted_by_component() {
        let mut tally = Tally::default();
        for (test, action) in [
            ("TestState/state.a/get/one", "pass"),
            ("TestState/state.a/get/two", "fail"),
            ("TestState/state.a/get", "fail"),
            ("TestState/state.a", "fail"),
            ("TestState/state.b", "skip"),
            ("TestState", "fail"),
            ("TestCrypto/crypto.c", "pass"),
            ("TestCrypto/crypto.c/Init", "pass"),
            ("TestCrypto/crypto.c/supported_algorithms_methods", "pass"),
            (
                "TestCrypto/crypto.c/supported_algorithms_methods/signature",
                "pass",
            ),
        ] {
            if action == "skip" {
                tally.take(&format!(
                    r#"{{"Action":"output","Test":"{test}","Output":"x: skipped: no server\n"}}"#
                ));
            }
            tally.take(&format!(r#"{{"Action":"{action}","Test":"{test}"}}"#));
        }
        let counts = tally.counts();
        let a = Count {
            passed: 1,
            failed: 1,
            ..Count::default()
        };
        assert_eq!(counts["state.a"], a);
        assert_eq!((counts["crypto.c"].passed, counts["crypto.c"].failed), (1, 0));
        assert_eq!(
            (counts["state.b"].skipped, &*counts["state.b"].reason),
            (1, "no server")
        );
        assert!(table(&counts).contains("| `state.b` | 0 | 0 | no server |"));
    }
}
