//! The verbs that talk to a running sidecar, and what holds for all verbs.

use std::{
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{AS_PROGRAM, Home, PATIENCE, Running, eventually, number, this_program};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "an_app_is_invoked_through_its_sidecar",
        an_app_is_invoked_through_its_sidecar,
    ),
    (
        "an_event_is_published_and_delivered",
        an_event_is_published_and_delivered,
    ),
    ("items_are_set_read_and_removed", items_are_set_read_and_removed),
    (
        "what_does_not_run_is_named_with_what_does",
        what_does_not_run_is_named_with_what_does,
    ),
    (
        "components_and_configurations_are_listed",
        components_and_configurations_are_listed,
    ),
    ("every_verb_has_examples", every_verb_has_examples),
    ("completion_scripts_are_valid", completion_scripts_are_valid),
    (
        "a_link_named_dapr_is_the_same_command_line",
        a_link_named_dapr_is_the_same_command_line,
    ),
];

/// An app with a sidecar on the default components.
pub(crate) fn serving(home: &Home, id: &str) -> Running {
    let program = this_program();
    let running = home.start(&[
        "run",
        "--app-id",
        id,
        "--app-port",
        "0",
        "--",
        &program,
        "app",
        "serve",
    ]);
    running.says("You're up and running!");
    let port = number(&home.listed(id, 1, &running)[0], "httpPort");
    eventually(PATIENCE, &running, "the app to answer", || {
        crate::support::invoke(port, id).is_some()
    });
    running
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn an_app_is_invoked_through_its_sidecar() {
    let home = Home::new();
    let id = home.id("invoked");
    let running = serving(&home, &id);
    let data = r#"{"amount": 3, "text": "ä"}"#;
    let (status, text) = home.outrigger(&["invoke", "-a", &id, "-m", "echo", "--data", data]);
    assert!(status.success(), "{text}");
    assert_eq!(text, format!("{data}\n✅  App invoked successfully\n"));
    assert!(!text.contains('\x1b'), "no colours into a pipe: {text:?}");

    std::fs::write(home.path("data.json"), data).unwrap();
    let (_, text) = home.outrigger(&[
        "invoke",
        "-a",
        &id,
        "-m",
        "/echo?x=1",
        "-f",
        "data.json",
        "-o",
        "json",
    ]);
    let answer = json(&text);
    assert_eq!(
        (&answer["status"], &answer["body"]["amount"]),
        (&200.into(), &3.into())
    );

    let (status, text) = home.outrigger(&["invoke", "-a", &id, "-m", "refuse", "-v", "GET"]);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("no coffee here\n") && text.contains("418"),
        "{text}"
    );
    let (status, text) = home.outrigger(&["invoke", "-a", &id, "-m", "echo", "-d", "1", "-f", "data.json"]);
    assert!(
        !status.success() && text.contains("only one of --data and --data-file"),
        "{text}"
    );
    drop(running);
}

fn an_event_is_published_and_delivered() {
    let home = Home::new();
    let id = home.id("published");
    let running = serving(&home, &id);
    let publish = ["publish", "-i", &id, "-p", "pubsub", "-t", "placed"];
    let with = |more: &[&str]| {
        let args: Vec<&str> = publish.iter().chain(more).copied().collect();
        home.outrigger(&args)
    };
    let (status, text) = with(&[
        "--data",
        r#"{"id": 7}"#,
        "--metadata",
        r#"{"ttlInSeconds": "60"}"#,
    ]);
    assert!(status.success(), "{text}");
    assert_eq!(text, "✅  Event published successfully\n");
    running.says(r#""id":7"#);
    let event = r#"{"specversion":"1.0","id":"mine-1","source":"me","type":"placed","data":"whole"}"#;
    let (status, text) = with(&["--data", event, "--output", "json"]);
    assert!(status.success(), "{text}");
    assert_eq!(json(&text)["contentType"], "application/cloudevents+json");
    running.says("mine-1");
    let (status, text) = home.outrigger(&["publish", "-i", &id, "-p", "nowhere", "-t", "placed", "-d", "1"]);
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("nowhere") && text.contains("ERR_PUBSUB_NOT_FOUND"),
        "{text}"
    );
    let (status, text) = with(&["--data", "1", "--metadata", "[]"]);
    assert!(!status.success() && text.contains("JSON object"), "{text}");
}

fn items_are_set_read_and_removed() {
    let home = Home::new();
    let id = home.id("items");
    let _running = serving(&home, &id);
    let state = |words: &[&str]| {
        let mut args = vec!["state", words[0], "--app-id", &id];
        args.extend(&words[1..]);
        home.outrigger(&args)
    };
    let key = "order/1 ü";
    assert!(state(&["set", key, "--data", r#"{"paid":true}"#]).0.success());
    assert_eq!(state(&["get", key]).1, "{\"paid\":true}\n");
    let (_, text) = state(&["get", key, "--output", "json"]);
    let item = json(&text);
    let etag = item["etag"].as_str().unwrap().to_owned();
    assert_eq!(item["value"]["paid"], true);

    assert!(
        state(&["set", key, "--data", "plain text", "--etag", &etag])
            .0
            .success()
    );
    let (status, text) = state(&["set", key, "--data", "2", "--etag", &etag]);
    assert!(!status.success() && text.contains("409"), "{text}");
    assert_eq!(state(&["get", key]).1, "\"plain text\"\n");
    assert!(state(&["set", "short", "-d", "1", "--ttl", "600"]).0.success());
    let (_, text) = state(&["get", "short", "-o", "json"]);
    assert!(json(&text)["ttlExpireTime"].is_string(), "{text}");

    let (status, text) = state(&["delete", key, "--etag", &etag]);
    assert!(!status.success(), "{text}");
    assert!(state(&["delete", key]).0.success());
    let (status, text) = state(&["get", key]);
    assert!(!status.success() && text.contains("there is no"), "{text}");
    let (status, text) = state(&["get", key, "--store", "missing"]);
    assert!(!status.success() && text.contains("missing"), "{text}");
}

fn what_does_not_run_is_named_with_what_does() {
    let home = Home::new();
    let id = home.id("known");
    let _running = serving(&home, &id);
    let (status, text) = home.outrigger(&["invoke", "-a", "no-such-app", "-m", "x"]);
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("no-such-app not found") && text.contains(&id),
        "{text}"
    );
}

fn components_and_configurations_are_listed() {
    let home = Home::new();
    let id = home.id("listed");
    let _running = serving(&home, &id);
    let (status, text) = home.outrigger(&["components", "--output", "json"]);
    assert!(status.success(), "{text}");
    let rows = json(&text);
    let store = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| {
            row["name"] == "statestore" && row["loadedBy"].as_array().unwrap().contains(&id.as_str().into())
        })
        .unwrap_or_else(|| panic!("{text}"));
    assert_eq!(store["type"], "state.sqlite");
    assert!(
        store["source"].as_str().unwrap().contains("statestore.yaml:"),
        "{store}"
    );
    let (_, table) = home.outrigger(&["components", "--name", "statestore", "-o", "list"]);
    assert!(table.starts_with("NAMESPACE  NAME"), "{table}");
    let (_, yaml) = home.outrigger(&["components", "--name", "statestore", "-o", "yaml"]);
    assert!(
        yaml.starts_with("- ") && yaml.contains("\n  name: \"statestore\"\n"),
        "{yaml}"
    );

    let config = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: mine\nspec:\n  tracing:\n    samplingRate: \"1\"\n  metric:\n    enabled: false\n";
    std::fs::write(home.path("config.yaml"), config).unwrap();
    let (status, text) = home.outrigger(&["configurations", "-c", "config.yaml", "-o", "json"]);
    assert!(status.success(), "{text}");
    let row = &json(&text)[0];
    assert_eq!(
        (&row["name"], &row["tracingEnabled"], &row["metricsEnabled"]),
        (&"mine".into(), &true.into(), &false.into())
    );
}

/// The verbs that the help of a command names.
pub(crate) fn verbs_of(help: &str) -> Vec<String> {
    let commands = help.split("Commands:\n").nth(1).unwrap_or("");
    commands
        .lines()
        .take_while(|line| line.starts_with("  "))
        // What stands deeper goes on with the line before.
        .filter(|line| !line[2..].starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

fn every_verb_has_examples() {
    let home = Home::new();
    let (_, help) = home.outrigger(&["--help"]);
    let verbs = verbs_of(&help);
    assert!(verbs.len() >= 10, "{help}");
    for verb in verbs {
        let (status, text) = home.outrigger(&[&verb, "--help"]);
        assert!(status.success() && text.contains("Examples:"), "{verb}: {text}");
        for inner in verbs_of(&text) {
            let (status, text) = home.outrigger(&[&verb, &inner, "--help"]);
            assert!(
                status.success() && text.contains("Examples:"),
                "{verb} {inner}: {text}"
            );
        }
    }
    let (status, text) = home.outrigger(&["invok"]);
    assert_eq!(status.code(), Some(2));
    assert!(text.contains("invoke"), "a wrong verb gets the right one: {text}");
}

fn completion_scripts_are_valid() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let (status, script) = home.outrigger(&["completion", shell]);
        assert!(
            status.success() && script.contains("outrigger"),
            "{shell}: {script}"
        );
        let file = home.path(&format!("completion.{shell}"));
        std::fs::write(&file, script).unwrap();
        let checked = Command::new(shell)
            .arg("-n")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        match checked {
            Ok(output) if shell != "powershell" => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{shell}: {said}");
            }
            _ => println!("skipped: no {shell} here to check its script"),
        }
    }
}

fn a_link_named_dapr_is_the_same_command_line() {
    let home = Home::new();
    let link = home.path("dapr");
    symlink(std::env::current_exe().unwrap(), &link).unwrap();
    let output = Command::new(&link)
        .args(["invoke", "--help"])
        .env(AS_PROGRAM, "1")
        .env("HOME", home.folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("dapr invoke --app-id"),
        "{text}"
    );
    assert!(!text.contains("outrigger"), "{text}");
}
