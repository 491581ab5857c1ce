//! What is said to a command line that is wrong, or that was written for `dapr` and asks for what is not here.

use std::fs;

use crate::{
    support::{Home, this_program},
    verbs::verbs_of,
};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_mistyped_flag_of_run_starts_nothing",
        a_mistyped_flag_of_run_starts_nothing,
    ),
    ("every_verb_leaves_with_2", every_verb_leaves_with_2),
    ("wrong_values_leave_with_2", wrong_values_leave_with_2),
    ("what_fails_leaves_with_1", what_fails_leaves_with_1),
    (
        "verbs_of_dapr_that_are_not_served_say_so",
        verbs_of_dapr_that_are_not_served_say_so,
    ),
    (
        "flags_of_dapr_for_kubernetes_are_told_of",
        flags_of_dapr_for_kubernetes_are_told_of,
    ),
    ("mcp_servers_are_listed", mcp_servers_are_listed),
    (
        "daprd_tells_of_flags_without_effect_once",
        daprd_tells_of_flags_without_effect_once,
    ),
];

fn a_mistyped_flag_of_run_starts_nothing() {
    let home = Home::new();
    let id = home.id("mistyped");
    for args in [
        &["run", "--app-idd", &id, "--", "true"][..],
        &["run", "--app-id", &id, "--app-prot", "3000", "--", "true"],
        &["run", "-z", "--app-id", &id],
    ] {
        let (status, text) = home.outrigger(args);
        assert_eq!(status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains("unexpected argument '-"), "{args:?}: {text}");
    }
    let (_, text) = home.outrigger(&["run", "--app-idd", &id]);
    assert!(text.contains("'--app-id'"), "the nearest flag is named: {text}");
    let begun =
        fs::read_dir(home.path("run")).unwrap().count() + fs::read_dir(home.path("data")).unwrap().count();
    assert_eq!(begun, 0, "nothing was begun");
    // Behind two dashes stands the app's command, whatever it looks like; behind its first word stand its own flags.
    let program = this_program();
    for (args, code) in [
        (&["run", "--app-id", &id, "--", "--app-idd"][..], None),
        (&["run", "--app-id", &id, &program, "app", "exit", "7"], Some(7)),
    ] {
        let (status, text) = home.outrigger(args);
        assert_ne!(status.code(), Some(2), "{text}");
        assert!(code.is_none() || status.code() == code, "{status}: {text}");
    }
}

/// Every verb and every verb below it, by the help itself.
fn all_verbs(home: &Home) -> Vec<Vec<String>> {
    let (_, help) = home.outrigger(&["--help"]);
    let mut all = Vec::new();
    for verb in verbs_of(&help) {
        let (_, help) = home.outrigger(&[&verb, "--help"]);
        for inner in verbs_of(&help) {
            all.push(vec![verb.clone(), inner]);
        }
        all.push(vec![verb]);
    }
    assert!(all.len() > 25, "{all:?}");
    all
}

fn every_verb_leaves_with_2() {
    let home = Home::new();
    for verb in all_verbs(&home) {
        for wrong in ["--no-such-flag", "--log-as-json=perhaps"] {
            let mut args: Vec<&str> = verb.iter().map(String::as_str).collect();
            args.push(wrong);
            let (status, text) = home.outrigger(&args);
            assert_eq!(status.code(), Some(2), "{args:?}: {text}");
            let flag = wrong.split('=').next().unwrap();
            assert!(text.contains(flag), "{args:?}: {text}");
        }
    }
    for verb in ["state", "component", "audit"] {
        for args in [&[verb][..], &[verb, "no-such-verb"]] {
            let (status, text) = home.outrigger(args);
            assert_eq!(status.code(), Some(2), "{args:?}: {text}");
        }
    }
    let (status, text) = home.outrigger(&["daprd", "--no-such-flag"]);
    assert_eq!(status.code(), Some(2), "{text}");
}

fn wrong_values_leave_with_2() {
    let home = Home::new();
    for args in [
        // Of no kind that the flag takes.
        &["run", "--app-port", "http", "--", "true"][..],
        &["run", "--app-port", "70000", "--", "true"],
        &["run", "--metrics-port", "70000", "--", "true"],
        &["run", "--app-protocol", "smtp", "--", "true"],
        &["run", "--log-level", "loud", "--", "true"],
        &["run", "--max-body-size", "lots", "--", "true"],
        &["run", "--read-buffer-size", "lots", "--", "true"],
        &["run", "--restart", "sometimes", "--", "true"],
        &["run", "--instances", "0", "--", "true"],
        &["list", "--output", "xml"],
        &["logs", "-a", "x", "--tail", "all"],
        &["invoke", "-a", "x", "-m", "y", "--verb", "no verb"],
        &["publish", "-i", "x", "-p", "y", "-t", "z", "--metadata", "[]"],
        &["doctor", "--timeout", "never"],
        &["state", "list", "--limit", "few"],
        &["component", "serve", "sqlite"],
        &["component", "serve", "state.sqlite", "--name", "a/b"],
        &["component", "serve", "state.sqlite", "--log-level", "loud"],
        &["completion", "csh"],
        // Missing.
        &["invoke", "-a", "x"],
        &["publish", "-i", "x"],
        &["publish", "-i", "x", "-p", "y", "-t", ""],
        &["logs"],
        &["stop"],
        &["state", "set", "key"],
        &["restore"],
        &["audit", "verify"],
        // Not together.
        &["run", "--external", "redis=127.0.0.1:1", "--", "true"],
        &["invoke", "-a", "x", "-m", "y", "-d", "1", "-f", "data.json"],
        &["state", "export", "--all", "--app-id", "x"],
        &[
            "component",
            "serve",
            "state.sqlite",
            "--name",
            "a",
            "--socket",
            "b",
        ],
        &["init", "--issuer-private-key", "a"],
        &["doctor", "-f", "-"],
    ] {
        let (status, text) = home.outrigger(args);
        assert_eq!(status.code(), Some(2), "{args:?}: {text}");
    }
}

fn what_fails_leaves_with_1() {
    let home = Home::new();
    for args in [
        &["run", "--config", "missing.yaml", "--", "true"][..],
        &["run", "-f", "missing.yaml"],
        &["invoke", "-a", "no-such-app", "-m", "x"],
        &["stop", "-a", "no-such-app"],
        &["logs", "-a", "no-such-app"],
        &["uninstall"],
        &["restore", "missing.tar.gz"],
        &["audit", "verify", "missing.log"],
        &["component", "serve", "lock.sqlite"],
        &["list", "-k"],
    ] {
        let (status, text) = home.outrigger(args);
        assert_eq!(status.code(), Some(1), "{args:?}: {text}");
    }
}

fn verbs_of_dapr_that_are_not_served_say_so() {
    let home = Home::new();
    for (line, instead) in [
        ("status -k", "outrigger doctor"),
        ("status", "outrigger list"),
        ("mtls -k", "DAPR_HOST_IP"),
        ("mtls export -o ./certs", "DAPR_HOST_IP"),
        (
            "mtls renew-certificate -k --valid-until 30 --restart",
            "DAPR_HOST_IP",
        ),
        ("renew-certificate", "DAPR_HOST_IP"),
        ("workflow run --app-id x -x {}", "OUTRIGGER_DAPRD"),
        ("wf list --app-id x", "OUTRIGGER_DAPRD"),
        ("scheduler list --filter all", "OUTRIGGER_DAPRD"),
        ("sched get a/b", "OUTRIGGER_DAPRD"),
        ("annotate -k deployment.yaml", "outrigger run"),
        ("upgrade -k --runtime-version 1.18.0", "outrigger init"),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let (status, text) = home.outrigger(&args);
        assert_eq!(status.code(), Some(1), "{line}: {text}");
        assert!(
            text.contains("is not served by this version")
                && text.contains(instead)
                && text.lines().count() == 1,
            "{line}: {text}"
        );
        let (status, help) = home.outrigger(&[args[0], "--help"]);
        assert!(status.success() && help.contains("Instead:"), "{help}");
    }
    let (_, text) = home.outrigger(&["--log-as-json", "status"]);
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["status"], "failure");
    let (_, help) = home.outrigger(&["--help"]);
    assert!(!help.contains("renew-certificate"), "{help}");
    let (_, script) = home.outrigger(&["completion", "bash"]);
    assert!(
        !script.contains("renew-certificate"),
        "completion offers what is served"
    );
}

fn flags_of_dapr_for_kubernetes_are_told_of() {
    let home = Home::new();
    for verb in ["list", "components", "configurations", "mcpservers"] {
        for flags in [&["-A"][..], &["--all-namespaces=true"], &["--namespace", "shop"]] {
            let args: Vec<&str> = std::iter::once(verb).chain(flags.iter().copied()).collect();
            let output = home.command(&args).args(["--output", "json"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{args:?}: {said}");
            assert!(
                said.contains("has no effect: it is for Kubernetes"),
                "{args:?}: {said}"
            );
            // Standard output is what a program reads.
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(listed.is_array(), "{args:?}: {listed}");
        }
        let (status, text) = home.outrigger(&[verb, "-k", "-A"]);
        assert_eq!(status.code(), Some(1), "{verb}: {text}");
        assert!(text.contains("--kubernetes is not served"), "{verb}: {text}");
    }
    for flags in [&["-k"][..], &["-n", "shop"], &["--pod-name", "x"]] {
        let args: Vec<&str> = ["logs", "-a", "x"].iter().chain(flags).copied().collect();
        let (status, text) = home.outrigger(&args);
        assert_eq!(status.code(), Some(1), "{args:?}: {text}");
        assert!(text.contains("is not served by this version"), "{args:?}: {text}");
    }

    let init = "init --dev --wait --timeout 600 -n dapr-system --enable-mtls=false --enable-ha --set a=b --set c=d --scheduler-volume v --scheduler-override-broadcast-host-port 10.0.0.1:1 --redis-stack --network n";
    let (status, text) = home.outrigger(&init.split(' ').collect::<Vec<_>>());
    assert!(status.success(), "{text}");
    assert!(
        text.contains("--network, --scheduler-volume, --scheduler-override-broadcast-host-port, --redis-stack has no effect: nothing is downloaded"),
        "{text}"
    );
    assert!(
        text.contains("--dev, --wait, --timeout, --namespace, --enable-mtls, --enable-ha, --set has no effect: it is for Kubernetes"),
        "{text}"
    );
    let (status, text) = home.outrigger(&["init", "--dev", "--output", "json"]);
    assert!(status.success(), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["withoutEffect"], serde_json::json!(["--dev"]));
    let (status, text) = home.outrigger(&[
        "uninstall",
        "--all",
        "--dev",
        "-n",
        "dapr-system",
        "--timeout",
        "9",
    ]);
    assert!(status.success(), "{text}");
    assert!(
        text.contains("--dev, --timeout, --namespace has no effect: it is for Kubernetes"),
        "{text}"
    );
}

fn mcp_servers_are_listed() {
    let home = Home::new();
    let text = "apiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata:\n  name: search\nspec:\n  endpoint:\n    streamableHTTP:\n      url: http://127.0.0.1:1/mcp\n      headers:\n      - name: x-key\n        value: not-for-the-terminal\nscopes: [orders]\n---\napiVersion: dapr.io/v1alpha1\nkind: MCPServer\nmetadata:\n  name: files\nspec:\n  endpoint:\n    stdio:\n      command: ./files\n";
    fs::write(home.path("resources/mcp.yaml"), text).unwrap();
    let (status, table) = home.outrigger(&["mcpservers", "--resources-path", "resources"]);
    assert!(status.success(), "{table}");
    assert!(table.starts_with("NAMESPACE  NAME    TRANSPORT"), "{table}");
    let (_, text) = home.outrigger(&["mcpservers", "--resources-path", "resources", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&rows[0]["name"], &rows[0]["transport"], &rows[0]["url"]),
        (&"files".into(), &"stdio".into(), &"./files".into())
    );
    assert_eq!(
        (&rows[1]["transport"], &rows[1]["scopes"]),
        (&"streamable_http".into(), &serde_json::json!(["orders"]))
    );
    assert!(!text.contains("not-for-the-terminal"), "{text}");
    let (_, text) = home.outrigger(&["mcpservers", "--resources-path", "resources", "-n", "SEARCH"]);
    assert!(text.contains("search") && !text.contains("files  "), "{text}");
}

fn daprd_tells_of_flags_without_effect_once() {
    let home = Home::new();
    let id = home.id("warned");
    let plain = "daprd --dapr-http-port 0 --dapr-grpc-port 0 --metrics-port 0 --dapr-listen-addresses 127.0.0.1 --dapr-internal-grpc-listen-address 127.0.0.1 --metrics-listen-address 127.0.0.1 --app-id";
    let mut args: Vec<&str> = plain.split(' ').collect();
    args.push(&id);
    let quiet = home.start(&args);
    quiet.says("dapr initialized. Status: Running");
    assert!(!quiet.text().contains("have no effect"), "{}", quiet.text());
    drop(quiet);
    args.extend([
        "--sentry-address=localhost:1",
        "--scheduler-job-streams",
        "9",
        "-actors-service",
        "a:b",
    ]);
    let warned = home.start(&args);
    warned.says("dapr initialized. Status: Running");
    let text = warned.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("have no effect"))
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    for flag in ["--sentry-address", "--scheduler-job-streams", "--actors-service"] {
        assert!(
            lines[0].contains(flag) && lines[0].contains("level=warning"),
            "{text}"
        );
    }
}
