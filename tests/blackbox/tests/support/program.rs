//! Which program is tested, and programs to compare with.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A command that runs our `daprd`.
pub(crate) fn ours() -> (PathBuf, Vec<String>) {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| match std::env::var_os("OUTRIGGER_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    });
    let is_daprd = program.file_stem().is_some_and(|stem| stem == "daprd");
    (
        program.clone(),
        if is_daprd {
            Vec::new()
        } else {
            vec!["daprd".to_owned()]
        },
    )
}

/// The workspace's program of the profile this test was built in. Built anew, because cargo does not know that this
/// package needs it and a stale one would be tested without a word.
fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    if let Some(cargo) = std::env::var_os("CARGO") {
        let built = Command::new(cargo)
            .args([
                "build",
                "--package",
                "outrigger",
                "--bin",
                "outrigger",
                "--profile",
                profile,
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "cannot build the program under test");
    }
    let program = folder.join("outrigger");
    assert!(
        program.exists(),
        "{} is missing: cargo build -p outrigger",
        program.display()
    );
    program
}

/// A reference `daprd`; without one the test is left out and says so.
pub(crate) fn reference(test: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("REFERENCE_DAPRD_DIR") else {
        eprintln!("skipped {test}: REFERENCE_DAPRD_DIR names no folder with a reference daprd");
        return None;
    };
    let program = PathBuf::from(folder).join("daprd");
    assert!(
        program.exists(),
        "REFERENCE_DAPRD_DIR: {} is missing",
        program.display()
    );
    Some(program)
}
