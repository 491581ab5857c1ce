//! Whole stores: listed, exported, imported, by their component files alone.

use std::fs;

use crate::{support::Home, verbs::serving};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "an_export_comes_back_in_another_store",
        an_export_comes_back_in_another_store,
    ),
    (
        "an_import_that_broke_off_goes_on",
        an_import_that_broke_off_goes_on,
    ),
    (
        "a_store_is_opened_by_the_rules_of_its_file",
        a_store_is_opened_by_the_rules_of_its_file,
    ),
];

/// A folder with one `state.sqlite` named `statestore`.
fn store(home: &Home, name: &str, more: &str) -> String {
    let folder = home.path(name);
    fs::create_dir(&folder).unwrap();
    let database = home.path(&format!("{name}.db"));
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: statestore\nspec:\n  type: state.sqlite\n  version: v1\n  metadata:\n  - name: connectionString\n    value: {:?}\n{more}",
        database.display()
    );
    fs::write(folder.join("statestore.yaml"), text).unwrap();
    folder.display().to_string()
}

/// An export of this many items, as a file of this home.
fn export_of(home: &Home, items: usize) -> String {
    let mut text = String::from(
        "{\"outriggerState\":1,\"store\":\"s\",\"type\":\"state.sqlite\",\"prefix\":\"a||\",\"encrypted\":false}\n",
    );
    for item in 0..items {
        text.push_str(&format!(
            "{{\"key\":\"k-{item:05}\",\"value\":{{\"n\":{item}}}}}\n"
        ));
    }
    text.push_str(&format!("{{\"end\":true,\"items\":{items}}}\n"));
    let file = home.path("made.ndjson");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn an_export_comes_back_in_another_store() {
    let home = Home::new();
    let id = home.id("exported");
    let running = serving(&home, &id);
    for (key, value) in [
        ("order-1", r#"{"paid":true,"n":1.0}"#),
        ("order-2", "[1,2]"),
        ("other", "\"ä\""),
    ] {
        let (status, text) = home.outrigger(&["state", "set", "-a", &id, key, "-d", value]);
        assert!(status.success(), "{text}");
    }
    // The sidecar runs on: the store is shared.
    let (status, text) = home.outrigger(&["state", "list", "-a", &id, "--prefix", "order-"]);
    assert!(status.success(), "{text}");
    assert_eq!(text, "order-1\norder-2\n");
    let (_, all) = home.outrigger(&["state", "list", "--all", "-o", "json"]);
    assert!(all.contains(&format!("{id}||other")), "{all}");
    let (status, text) = home.outrigger(&["state", "export", "-a", &id, "-o", "out.ndjson"]);
    assert!(status.success() && text.contains("3 items"), "{text}");
    let (status, text) = home.outrigger(&["state", "export", "-a", &id, "-o", "out.ndjson"]);
    assert!(!status.success() && text.contains("--force"), "{text}");
    drop(running);

    let other = store(&home, "other", "");
    let import = |more: &[&str]| {
        let mut args = vec![
            "state",
            "import",
            "-a",
            "b",
            "--resources-path",
            &other,
            "-f",
            "out.ndjson",
        ];
        args.extend(more);
        home.outrigger(&args)
    };
    let (status, text) = import(&["--dry-run"]);
    assert!(
        status.success() && text.contains("3 items would be written"),
        "{text}"
    );
    let (status, text) = import(&[]);
    assert!(status.success() && text.contains("3 items written"), "{text}");
    let (status, text) = import(&[]);
    assert!(
        status.success() && text.contains("0 items written") && text.contains("3 kept"),
        "{text}"
    );
    let (status, text) = import(&["--on-conflict", "fail"]);
    assert!(!status.success() && text.contains("is there already"), "{text}");
    let (status, text) = import(&["--on-conflict", "overwrite", "--restart"]);
    assert!(status.success() && text.contains("3 items written"), "{text}");
    assert!(!home.path("out.ndjson.progress").exists());

    // The items are the same, byte for byte; only whose they are has changed.
    let (_, again) = home.outrigger(&["state", "export", "-a", "b", "--resources-path", &other]);
    let items = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        items(&again),
        items(&fs::read_to_string(home.path("out.ndjson")).unwrap())
    );
    assert!(
        again.contains(r#"{"key":"order-1","value":{"n":1,"paid":true}}"#),
        "{again}"
    );
}

fn an_import_that_broke_off_goes_on() {
    let home = Home::new();
    let folder = store(&home, "target", "");
    let file = export_of(&home, 1000);
    let whole = fs::read_to_string(&file).unwrap();
    // A damaged line in the middle of the third batch: what came before is in, the note says so.
    let broken = whole.replacen(
        "{\"key\":\"k-00500\",\"value\":{\"n\":500}}",
        "{\"key\":\"k-00500\",\"value\":{\"n\":5#0}}",
        1,
    );
    fs::write(&file, &broken).unwrap();
    let import = || {
        home.outrigger(&[
            "state",
            "import",
            "-a",
            "a",
            "--resources-path",
            &folder,
            "-f",
            &file,
        ])
    };
    let (status, text) = import();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("line 502"), "{text}");
    let note = fs::read_to_string(format!("{file}.progress")).unwrap();
    assert!(note.contains("\"written\":400"), "{note}");
    fs::write(&file, &whole).unwrap();
    let (status, text) = import();
    assert!(status.success(), "{text}");
    assert!(
        text.contains("going on after line 401") && text.contains("1000 items written"),
        "{text}"
    );
    let (_, keys) = home.outrigger(&["state", "list", "-a", "a", "--resources-path", &folder]);
    assert_eq!(keys.lines().count(), 1000);

    // Without its last line an export is not whole, and says so.
    let cut: String = whole.lines().take(11).map(|line| format!("{line}\n")).collect();
    fs::write(&file, cut).unwrap();
    let (status, text) = import();
    assert!(
        !status.success() && text.contains("broke off after 10 items"),
        "{text}"
    );
}

fn a_store_is_opened_by_the_rules_of_its_file() {
    let home = Home::new();
    let folder = store(&home, "named", "  - name: keyPrefix\n    value: name\n");
    let file = export_of(&home, 3);
    let (status, text) = home.outrigger(&["state", "import", "--resources-path", &folder, "-f", &file]);
    assert!(status.success(), "{text}");
    let list = |more: &[&str]| {
        let mut args = vec!["state", "list", "--resources-path", &folder];
        args.extend(more);
        home.outrigger(&args).1
    };
    assert_eq!(list(&["--all", "--limit", "1"]), "statestore||k-00000\n");
    assert_eq!(list(&[]).lines().count(), 3);
    let apart = store(&home, "apart", "");
    let (status, text) = home.outrigger(&["state", "list", "--resources-path", &apart]);
    assert!(
        !status.success() && text.contains("--app-id") && text.contains("--all"),
        "{text}"
    );
    let (status, text) = home.outrigger(&[
        "state",
        "list",
        "-a",
        "x",
        "-s",
        "nope",
        "--resources-path",
        &apart,
    ]);
    assert!(
        !status.success() && text.contains("there are: statestore"),
        "{text}"
    );
}
