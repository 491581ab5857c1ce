//! What the suite's output says of each case.

use std::collections::HashMap;

/// How a case ended. Only `Pass` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Skip,
    /// The suite never said: it died before, or ran out of time.
    Silent,
}

impl Verdict {
    /// The word in ledgers.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
            Self::Silent => "SILENT",
        }
    }

    /// Reads the word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Pass, Self::Fail, Self::Skip, Self::Silent]
            .into_iter()
            .find(|verdict| verdict.word() == word)
    }
}

/// Reads `--- PASS: Test_Integration/<case>` and `…/<case>/run` from verbose output. A case passes when its body
/// passed and so did its frame: programs must also start and leave as the case expects. A skipped body is a skip even
/// though its frame passes. What still runs when the suite's time is over has failed.
pub(crate) fn verdicts<'a>(output: &str, cases: &'a [String]) -> HashMap<&'a str, Verdict> {
    let mut frames = HashMap::new();
    let mut bodies = HashMap::new();
    for line in output.lines() {
        // Output of the programs under test can stand before it on the same line.
        let Some(at) = line.find("--- ") else { continue };
        let Some((word, name)) = line[at + 4..].split_once(": Test_Integration/") else {
            continue;
        };
        let (Some(verdict), Some((name, _))) = (Verdict::parse(word), name.rsplit_once(" (")) else {
            continue;
        };
        match name.strip_suffix("/run") {
            Some(case) => bodies.insert(case, verdict),
            None => frames.insert(name, verdict),
        };
    }
    for case in hanging(output) {
        frames.insert(case, Verdict::Fail);
    }
    cases
        .iter()
        .filter_map(|case| {
            let frame = frames.get(case.as_str());
            let body = bodies.get(case.as_str());
            let verdict = match (frame, body) {
                (Some(Verdict::Fail), _) | (_, Some(Verdict::Fail)) => Verdict::Fail,
                (Some(Verdict::Skip), _) | (Some(_), Some(Verdict::Skip)) => Verdict::Skip,
                (Some(Verdict::Pass), Some(Verdict::Pass)) => Verdict::Pass,
                _ => return None,
            };
            Some((case.as_str(), verdict))
        })
        .collect()
}

/// The cases that Go lists as running when it gives up.
fn hanging(output: &str) -> impl Iterator<Item = &str> {
    let list = output
        .split_once("panic: test timed out after")
        .map_or("", |(_, rest)| rest);
    let list = list.split_once("running tests:").map_or("", |(_, rest)| rest);
    list.lines().skip(1).map_while(|line| {
        let (name, _) = line
            .trim_start()
            .strip_prefix("Test_Integration")?
            .rsplit_once(" (")?;
        let name = name.trim_start_matches('/');
        Some(match name.split_once("/run/") {
            Some((case, _)) => case,
            None => name.strip_suffix("/run").unwrap_or(name),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(output: &str) -> Option<Verdict> {
        verdicts(output, &["a/b".to_owned()]).get("a/b").copied()
    }

    #[test]
    fn body_and_frame_must_both_pass() {
        let pass = "    \u{16}--- PASS: Test_Integration/a/b (1.00s)\n\u{16}--- PASS: Test_Integration/a/b/run (0.10s)\n";
        assert_eq!(verdict(pass), Some(Verdict::Pass));
        let dirty = "--- PASS: Test_Integration/a/b/run (0.10s)\n--- FAIL: Test_Integration/a/b (1.00s)\n";
        assert_eq!(verdict(dirty), Some(Verdict::Fail));
    }

    #[test]
    fn a_skipped_body_does_not_count() {
        let skip = "--- SKIP: Test_Integration/a/b/run (0.10s)\n--- PASS: Test_Integration/a/b (1.00s)\n";
        assert_eq!(verdict(skip), Some(Verdict::Skip));
    }

    #[test]
    fn what_hangs_has_failed() {
        let hangs = "panic: test timed out after 2m30s\n\trunning tests:\n\t\tTest_Integration (2m)\n\t\tTest_Integration/a/b/run (2m20s)\n\ngoroutine 1\n";
        assert_eq!(verdict(hangs), Some(Verdict::Fail));
    }

    #[test]
    fn half_a_report_is_no_verdict() {
        assert_eq!(verdict("--- PASS: Test_Integration/a/b/run (0.10s)\n"), None);
        assert_eq!(verdict("panic: runtime error\n"), None);
    }

    #[test]
    fn a_verdict_behind_other_output_is_found() {
        let mixed = "log without end--- PASS: Test_Integration/a/b/run (0.10s)\n--- PASS: Test_Integration/a/b (1.00s)";
        assert_eq!(verdict(mixed), Some(Verdict::Pass));
    }
}
