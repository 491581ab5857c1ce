//! `run --detach`: in the background, and healthy when it returns (requirement D5).

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Home, PATIENCE, alive, invoke, number, pause, this_program};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_detached_run_returns_when_app_and_sidecar_are_healthy",
        a_detached_run_returns_when_app_and_sidecar_are_healthy,
    ),
    (
        "a_detached_app_that_fails_fails_the_command",
        a_detached_app_that_fails_fails_the_command,
    ),
    (
        "a_detached_app_that_never_listens_is_ended",
        a_detached_app_that_never_listens_is_ended,
    ),
    ("the_shell_function_runs_an_app", the_shell_function_runs_an_app),
];

fn detach<'a>(app_id: &'a str, more: &[&'a str], app: &[&'a str]) -> Vec<&'a str> {
    let start = ["run", "--detach", "--app-id", app_id, "--app-port", "0"];
    [&start, more, &["--"], app].concat()
}

fn a_detached_run_returns_when_app_and_sidecar_are_healthy() {
    let home = Home::new();
    let id = home.id("detached");
    let program = this_program();
    let began = Instant::now();
    let (status, text) = home.outrigger(&detach(&id, &[], &[&program, "app", "late", "2000"]));
    assert!(status.success(), "{text}");
    assert!(text.contains("up and healthy in the background"), "{text}");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    // At once, without a second try.
    let rows = home.list(&id);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        invoke(number(&rows[0], "httpPort"), &id),
        Some(number(&rows[0], "appPid"))
    );
    let (_, logs) = home.outrigger(&["logs", "--app-id", &id]);
    assert!(logs.contains(&format!("serving as {id}")), "{logs}");
    let processes = ["cliPid", "daprdPid", "appPid"].map(|key| number(&rows[0], key));
    let (status, text) = home.outrigger(&["stop", "--app-id", &id]);
    assert!(status.success(), "{text}");
    let until = Instant::now() + PATIENCE;
    while processes.iter().any(|pid| alive(*pid)) {
        assert!(Instant::now() < until, "{processes:?} still run");
        pause();
    }
}

fn a_detached_app_that_fails_fails_the_command() {
    let home = Home::new();
    let id = home.id("detached-failing");
    let program = this_program();
    for (code, expected) in [("7", 7), ("0", 1)] {
        let (status, text) = home.outrigger(&detach(&id, &[], &[&program, "app", "exit", code]));
        assert_eq!(status.code(), Some(expected), "{text}");
        assert!(
            text.contains("ended before it was healthy") && text.contains("_run_"),
            "{text}"
        );
        assert!(home.list(&id).is_empty(), "nothing is left");
    }
}

fn a_detached_app_that_never_listens_is_ended() {
    let home = Home::new();
    let id = home.id("detached-late");
    let program = this_program();
    let (status, text) = home.outrigger(&detach(&id, &["--wait-timeout", "8"], &[&program, "app", "mute"]));
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("not healthy after 8 s"), "{text}");
    assert!(
        text.contains("said before it was mute"),
        "its last lines are shown: {text}"
    );
    assert!(home.list(&id).is_empty(), "nothing is left");
}

/// `run_dapr_app` of the helpers for scripts, as a script uses it.
fn the_shell_function_runs_an_app() {
    let home = Home::new();
    let id = home.id("scripted");
    let helpers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/ci/dapr.sh");
    let script = |text: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-eu", "-c", &format!(". {helpers}\n{text}")])
            .env("OUTRIGGER", this_program())
            .env("PROGRAM", this_program())
            .env("ID", &id)
            .envs(home.variables())
            .current_dir(home.folder.path());
        let output = shell.output().unwrap();
        let text = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        (output.status.code(), text)
    };
    let (code, text) = script(
        "run_dapr_app $ID 0 $PROGRAM app serve\necho port $(dapr_http_port $ID)\n$OUTRIGGER stop --app-id $ID\n",
    );
    assert_eq!(code, Some(0), "{text}");
    let port = text.lines().find_map(|line| line.strip_prefix("port "));
    assert!(port.is_some_and(|port| port.parse::<u16>().is_ok()), "{text}");
    let (code, text) = script("run_dapr_app $ID 0 $PROGRAM app exit 3\n");
    assert_eq!(code, Some(3), "{text}");
    let (code, text) = script("run_dapr_app $ID 0\n");
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = script("PATH=/nowhere list_grpc_services 127.0.0.1:1\n");
    assert!(
        code == Some(127) && text.contains("go install"),
        "{code:?}: {text}"
    );
}
