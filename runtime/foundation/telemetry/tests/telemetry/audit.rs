//! The audit log: its lines, its chain, rotation, restarts, overload (rows A4.8, B8).

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use outrigger_telemetry::{
    audit::{
        Audit, AuditActor, AuditDecision, AuditError, AuditOptions, AuditRecord, AuditTarget, Broken, verify,
        verify_files,
    },
    trace::SpanContext,
};

fn options(path: &Path, max_bytes: u64, max_files: usize) -> AuditOptions {
    AuditOptions {
        target: AuditTarget::File {
            path: path.to_owned(),
            max_bytes,
            max_files,
        },
        app_id: "orders".into(),
        app: "spiffe://public/ns/default/orders".into(),
        clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_763_720_000)),
    }
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(10)
}

fn access(audit: &Audit, name: &str) {
    audit.record(&AuditRecord {
        actor: AuditActor::App,
        action: "secret.get",
        target: name,
        decision: AuditDecision::Allowed,
        policy: "",
        trace: &SpanContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .unwrap(),
    });
}

/// A new folder with a log of so many records.
async fn log_of(records: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let audit = Audit::open(&options(&path, 1 << 20, 3)).unwrap();
    for index in 0..records {
        access(&audit, &format!("vault/{index}"));
    }
    audit.shutdown(soon()).await;
    (folder, path)
}

#[tokio::test]
async fn a_line_says_who_did_what_and_ends_with_the_chain() {
    let (_folder, path) = log_of(1).await;
    let text = fs::read_to_string(&path).unwrap();
    let zeros = "0".repeat(64);
    let fields = format!(
        r#"{{"seq":1,"time":"2025-11-21T10:13:20Z","app_id":"orders","actor":"spiffe://public/ns/default/orders","action":"secret.get","target":"vault/0","decision":"allowed","policy":"","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","prev":"{zeros}","hash":""#
    );
    assert!(text.starts_with(&fields), "{text}");
    assert!(text.ends_with("\"}\n"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_verifier_finds_every_changed_missing_added_or_moved_line() {
    let (_folder, path) = log_of(5).await;
    let text = fs::read_to_string(&path).unwrap();
    let whole = verify("log", text.as_bytes()).unwrap();
    assert_eq!((whole.lines, whole.first, whole.last), (5, 1, 5));
    let lines: Vec<&str> = text.lines().collect();
    let broken_at = |lines: &[&str]| match verify("log", lines.join("\n").as_bytes()) {
        Err(Broken::Line { line, .. }) => Some(line),
        _ => None,
    };
    let changed = lines[2].replace("allowed", "denied ");
    let other_number = lines[2].replace("\"seq\":3", "\"seq\":9");
    assert_eq!(broken_at(&[lines[0], lines[1], &changed, lines[3]]), Some(3));
    assert_eq!(broken_at(&[lines[0], lines[1], &other_number]), Some(3));
    assert_eq!(broken_at(&[lines[0], lines[2]]), Some(2));
    assert_eq!(broken_at(&[lines[0], lines[1], lines[1]]), Some(3));
    assert_eq!(broken_at(&[lines[1], lines[0]]), Some(2));
    assert_eq!(broken_at(&[lines[0], "{}"]), Some(2));
    assert!(matches!(verify("log", io::empty()), Err(Broken::Empty)));
    // A log whose end was cut off verifies: the hash of the last line, kept elsewhere, tells.
    assert_ne!(
        verify("log", lines[..4].join("\n").as_bytes()).unwrap().hash,
        whole.hash
    );
}

#[tokio::test]
async fn the_chain_goes_on_after_restarts_rotation_and_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    // About three lines per file, of which two are kept beside the current one.
    let options = options(&path, 1_300, 2);
    for round in 0..4 {
        let audit = Audit::open(&options).unwrap();
        for index in 0..3 {
            access(&audit, &format!("vault/{round}-{index}"));
        }
        audit.shutdown(soon()).await;
    }
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 3, "rotation is bounded");
    let verified = verify_files(&path).unwrap();
    assert_eq!(verified.last, 12);
    assert!(verified.first > 1, "the oldest file is gone");

    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"seq\":13,\"ti").unwrap();
    let audit = Audit::open(&options).unwrap();
    access(&audit, "vault/after");
    audit.shutdown(soon()).await;
    assert_eq!(verify_files(&path).unwrap().last, 14);
    let all = fs::read_to_string(&path).unwrap();
    let rotated = fs::read_to_string(folder.path().join("audit.log.1")).unwrap();
    assert!(format!("{rotated}{all}").contains("audit.recovered"));
}

#[tokio::test]
async fn two_processes_cannot_share_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let first = Audit::open(&options(&path, 1 << 20, 3)).unwrap();
    assert!(matches!(
        Audit::open(&options(&path, 1 << 20, 3)),
        Err(AuditError::InUse { .. })
    ));
    first.shutdown(soon()).await;
    Audit::open(&options(&path, 1 << 20, 3)).unwrap();
    assert!(matches!(
        Audit::open(&options(&folder.path().join("no/such/folder"), 1 << 20, 3)),
        Err(AuditError::Open { .. })
    ));
}

/// Far more than the disk takes: the queue is bounded, and what it could not take is told.
#[tokio::test]
async fn a_flood_costs_records_and_says_so_but_never_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let audit = Audit::open(&options(&path, u64::MAX, 3)).unwrap();
    let began = SystemTime::now();
    let many = "x".repeat(2_000);
    for _ in 0..100_000 {
        access(&audit, &many);
    }
    assert!(began.elapsed().unwrap() < Duration::from_secs(10));
    audit.shutdown(soon()).await;
    let text = fs::read_to_string(&path).unwrap();
    verify("log", text.as_bytes()).unwrap();
    let written = text.lines().filter(|line| line.contains("secret.get")).count();
    let lost: usize = text
        .lines()
        .filter(|line| line.contains("audit.lost"))
        .filter_map(|line| {
            line.split("\"target\":\"")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum();
    // The last ones may have been lost after the last line.
    assert!(
        written + lost <= 100_000 && written >= 8_192,
        "{written} written, {lost} lost"
    );
    assert!(written == 100_000 || lost > 0);
}
