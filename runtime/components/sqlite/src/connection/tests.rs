use super::*;

fn settings(pairs: &[(&str, &str)]) -> Result<Settings, Error> {
    Settings::from_properties(
        &Properties::from_pairs(pairs.iter().copied()),
        Defaults::default(),
    )
}

fn message(pairs: &[(&str, &str)]) -> String {
    settings(pairs).unwrap_err().to_string()
}

#[test]
fn reads_defaults_and_aliases() {
    let read = settings(&[("connectionString", "file:data.db")]).unwrap();
    assert_eq!(read.location, Location::File("data.db".into()));
    assert_eq!(
        (read.timeout, read.busy_timeout, read.wal),
        (DEFAULT_TIMEOUT, DEFAULT_BUSY_TIMEOUT, true)
    );
    assert_eq!(read.synchronous, Synchronous::Full);
    let read = settings(&[
        ("url", "data.db"),
        ("timeoutinseconds", "1200"),
        ("synchronous", "normal"),
    ])
    .unwrap();
    assert_eq!(
        (read.timeout, read.synchronous),
        (Duration::from_secs(1200), Synchronous::Normal)
    );
}

#[test]
fn refuses_what_upstream_refuses() {
    assert_eq!(message(&[]), "missing connection string");
    assert!(message(&[("url", "data.db"), ("timeout", "500ms")]).contains("timeout"));
    for name in ["busy_timeout(1000)", "journal_mode(DELETE)", "foreign_keys(1)"] {
        let text = format!("file:data.db?_pragma={name}");
        assert!(
            message(&[("url", &text)]).starts_with("found forbidden option '_pragma="),
            "{name}"
        );
    }
    assert!(settings(&[("url", "a.db?_pragma=user_version%3B%20drop%20table%20x")]).is_err());
    assert!(settings(&[("url", "file://elsewhere/a.db")]).is_err());
}

#[test]
fn reads_uris() {
    for text in [
        "/x/a b.db",
        "file:/x/a%20b.db",
        "FILE:///x/a%20b.db#f",
        "file://localhost/x/a b.db?cache=private",
    ] {
        assert_eq!(
            settings(&[("url", text)]).unwrap().location,
            Location::File("/x/a b.db".into()),
            "{text}"
        );
    }
    for text in [
        ":memory:",
        "file::memory:?cache=shared",
        ":memory:?_txlock=deferred",
        "file:x?mode=memory&cache=shared",
    ] {
        assert!(settings(&[("url", text)]).unwrap().is_memory(), "{text}");
    }
    let read = settings(&[(
        "url",
        "data.db?mode=ro&_txlock=Deferred&_pragma=mmap_size(0)&_pragma=optimize",
    )])
    .unwrap();
    assert!(!read.wal);
    assert_eq!(read.transaction_lock, TransactionLock::Deferred);
    assert_eq!(
        read.pragmas,
        [
            ("mmap_size".into(), "0".into()),
            ("optimize".into(), String::new())
        ]
    );
}
