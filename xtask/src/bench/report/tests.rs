use std::collections::BTreeSet;

use super::*;
use crate::bench::{guard::Guard, metrics::Failure, scenario::SCENARIOS};

fn plan() -> Plan {
    Plan {
        load: "load".into(),
        work: "work".into(),
        build: "profile `fast`".to_owned(),
        rounds: 1,
        seconds: 1.0,
        rest: 1.0,
        upload: 1 << 20,
        only: None,
        soak: 20.0,
        reference: true,
        engines: crate::bench::Engines::default(),
        guard: Guard::start().unwrap(),
    }
}

fn measured() -> Measured {
    let mut measured = Measured::default();
    measured.add(
        "ours",
        vec![
            ("call_cpu_us", 60.0),
            ("memory_per_second", 9000.0),
            ("sqlite_per_second", 4000.0),
            ("publish_rate_p99_ms", 1.0),
            ("deliver_rate_p99_ms", 2.0),
        ],
    );
    measured.add("daprd", vec![("call_cpu_us", 300.0)]);
    measured
}

/// Judges the target of a row, or with a label.
fn verdict(measured: &Measured, targets: &[Target], name: &str) -> (String, String) {
    let target = targets
        .iter()
        .find(|target| target.row == name || target.label.starts_with(name))
        .unwrap();
    judge(&plan(), measured, Progress::Done, target)
}

#[test]
fn a_share_is_held_against_the_reference() {
    let (values, verdict) = verdict(&measured(), BUDGETS, "invocation over HTTP");
    assert_eq!(values, "60.0 of 300.0 µs: 0.200 (≤ 0.333)");
    assert_eq!(verdict, "pass");
}

#[test]
fn a_share_without_the_reference_is_a_number_without_a_verdict() {
    let mut measured = Measured::default();
    measured.add("ours", vec![("event_cpu_us", 40.0)]);
    let mut plan = plan();
    plan.reference = false;
    let target = BUDGETS
        .iter()
        .find(|target| target.parts[0].key == "event_cpu_us");
    assert_eq!(
        judge(&plan, &measured, Progress::Done, target.unwrap()),
        (
            "40.0 µs".to_owned(),
            "**not measured** (no reference was given)".to_owned()
        )
    );
}

#[test]
fn every_part_must_hold() {
    let (values, verdict) = verdict(&measured(), ASKED, "A10.5");
    assert_eq!(values, "memory 9000 /s (≥ 5,000); SQLite 4000 /s (≥ 5,000)");
    assert_eq!(verdict, "**fail**: SQLite");
    assert_eq!(super::tests::verdict(&measured(), ASKED, "A10.3").1, "pass");
}

#[test]
fn what_was_not_measured_never_passes_and_says_why() {
    let mut measured = Measured::default();
    measured.fail(Failure {
        side: "ours",
        scenario: "calls",
        round: 1,
        error: "no | answer\nat all".to_owned(),
    });
    let (values, verdict) = verdict(&measured, ASKED, "A10.1");
    assert_eq!(values, "–");
    assert_eq!(
        verdict,
        "**not measured**: plaintext (ours failed: no / answer at all); **not measured**: with mTLS (sentry is not there yet)"
    );
    let mut plan = plan();
    plan.only = Some(vec!["calls".to_owned()]);
    let (_, verdict) = judge(&plan, &measured, Progress::Done, &ASKED[1]);
    assert_eq!(
        verdict,
        "**not measured**: set in memory, get in memory, set on SQLite, get on SQLite (left out by --only)"
    );
    let (_, verdict) = judge(&super::tests::plan(), &measured, Progress::After(1, 9), &ASKED[1]);
    assert!(verdict.ends_with("(the run has not come to it)"), "{verdict}");
}

#[test]
fn a_number_without_mutual_tls_passes_for_plaintext_only() {
    let mut measured = Measured::default();
    measured.add("ours", vec![("call_rate_added_p99_ms", 0.5)]);
    let (values, verdict) = verdict(&measured, ASKED, "A10.1");
    assert_eq!(values, "plaintext 0.50 ms (< 10)");
    assert_eq!(
        verdict,
        "pass: plaintext; **not measured**: with mTLS (sentry is not there yet)"
    );
}

#[test]
fn a_round_that_failed_is_named_beside_the_numbers_of_the_others() {
    let mut measured = measured();
    measured.fail(Failure {
        side: "ours",
        scenario: "events",
        round: 2,
        error: "ended".to_owned(),
    });
    let (_, verdict) = verdict(&measured, ASKED, "A10.3");
    assert_eq!(
        verdict,
        "pass; a round of `events` failed, see [the end](#failed)"
    );
}

#[test]
fn an_unfinished_run_says_so() {
    let head = Head {
        place: String::new(),
        sides: String::new(),
    };
    let text = page(&head, &plan(), &measured(), Progress::After(3, 17));
    assert!(text.contains("after 3 of 17 measurements"));
    assert!(!page(&head, &plan(), &measured(), Progress::Done).contains("Unfinished"));
}

#[test]
fn nine_numbers_lead_the_page_and_every_scenario_is_one_that_runs() {
    assert_eq!(ASKED.len(), 9);
    let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    for part in ASKED.iter().chain(BUDGETS).flat_map(|target| target.parts) {
        assert!(names.contains(part.scenario), "{}", part.scenario);
        assert!(
            ROWS.iter().any(|(key, _)| *key == part.key),
            "{} is not in the table beside the reference",
            part.key
        );
    }
}
