//! Runs: processes killed and stopped (requirements D1, D5).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{
    Home, PATIENCE, alive, ask, descendants, eventually, invoke, is_guard, number, run_args, send,
    this_program,
};

/// The promise: a killed process is back. A program that is not optimised, beside other tests, only has to come back.
const BACK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_run_ends_with_its_apps_exit_code",
        a_run_ends_with_its_apps_exit_code,
    ),
    (
        "an_app_gets_its_sidecars_ports_and_is_listed",
        an_app_gets_its_sidecars_ports_and_is_listed,
    ),
    ("killed_processes_are_soon_back", killed_processes_are_soon_back),
    (
        "an_app_that_keeps_failing_is_restarted_more_slowly",
        an_app_that_keeps_failing_is_restarted_more_slowly,
    ),
    (
        "nothing_outlives_a_killed_command_line",
        nothing_outlives_a_killed_command_line,
    ),
    (
        "one_app_of_a_run_file_is_stopped_for_good",
        one_app_of_a_run_file_is_stopped_for_good,
    ),
    (
        "a_run_file_is_stopped_and_its_logs_stay",
        a_run_file_is_stopped_and_its_logs_stay,
    ),
    (
        "an_interrupt_ends_a_run_in_order",
        an_interrupt_ends_a_run_in_order,
    ),
];

fn a_run_ends_with_its_apps_exit_code() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("code"), this_program());
    let args = |code: &'static str, program: &'static str| {
        let mut args = run_args(&resources, &id);
        args.extend(["--", program, "app", "exit", code]);
        args
    };
    let program: &'static str = Box::leak(program.into_boxed_str());
    for code in ["7", "0"] {
        let (status, text) = home.outrigger(&args(code, program));
        assert_eq!(status.code(), code.parse().ok(), "{text}");
    }
    let mut missing = run_args(&resources, &id);
    missing.extend(["--", "no-such-program"]);
    let (status, text) = home.outrigger(&missing);
    assert_eq!(status.code(), Some(127), "{text}");
    assert!(text.contains("no-such-program"), "{text}");
}

fn an_app_gets_its_sidecars_ports_and_is_listed() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("single"), this_program());
    let mut args = run_args(&resources, &id);
    args.extend(["--", &program, "app", "environment"]);
    let running = home.start(&args);
    running.says("You're up and running!");
    let row = &home.listed(&id, 1, &running)[0];
    running.says(&format!("== APP == APP_ID={id}\n"));
    running.says(&format!("== APP == DAPR_HTTP_PORT={}\n", row["httpPort"]));
    running.says(&format!("== APP == DAPR_GRPC_PORT={}\n", row["grpcPort"]));
    assert_eq!(number(row, "cliPid"), u64::from(running.child.id()));
    assert!(alive(number(row, "appPid")) && alive(number(row, "daprdPid")));
    assert_eq!(row["appPort"], 0);
    let (_, table) = home.outrigger(&["list"]);
    assert!(table.starts_with("APP ID") && table.contains(&id), "{table}");
}

fn killed_processes_are_soon_back() {
    let home = Home::new();
    let (tasks, id) = (home.id("tasks"), this_program());
    let file = home.run_file(&format!(
        "- {{appDirPath: web, appID: {tasks}, appPort: 0, instances: 2, command: [{id}, app, serve]}}\n"
    ));
    let running = home.start(&["run", "-f", &file]);
    let rows = home.listed(&tasks, 2, &running);
    for row in &rows {
        let port = number(row, "httpPort");
        eventually(PATIENCE, &running, "an answer", || invoke(port, &tasks).is_some());
    }
    // Load while things die.
    let stop = Arc::new(Mutex::new(false));
    let load: Vec<_> = rows
        .iter()
        .map(|row| {
            let (port, tasks, stop) = (number(row, "httpPort"), tasks.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                while !*stop.lock().unwrap() {
                    let _ = invoke(port, &tasks);
                }
            })
        })
        .collect();
    for row in &rows {
        let (http, app) = (number(row, "httpPort"), number(row, "appPort"));
        let victim = number(row, "appPid");
        send(victim, Signal::KILL);
        let app_took = eventually(BACK, &running, "the app", || {
            ask(app, "/pid").is_some_and(|pid| pid != victim)
        });
        let victim = number(row, "daprdPid");
        send(victim, Signal::KILL);
        let sidecar_took = eventually(BACK, &running, "the sidecar", || {
            !alive(victim) && invoke(http, &tasks).is_some()
        });
        println!(
            "back after: app {} ms, sidecar {} ms",
            app_took.as_millis(),
            sidecar_took.as_millis()
        );
    }
    *stop.lock().unwrap() = true;
    load.into_iter().for_each(|thread| thread.join().unwrap());
    for (kind, number) in [("APP", 1), ("DAPRD", 1), ("APP", 2), ("DAPRD", 2)] {
        running.says(&format!("== {kind} - {tasks}-{number} == restarting in "));
    }
    running.says("(exit code 137)");
    // The new processes are known to `list`, and the old ports serve them.
    let again = home.listed(&tasks, 2, &running);
    for row in &rows {
        let same = again
            .iter()
            .find(|other| other["httpPort"] == row["httpPort"])
            .unwrap();
        assert_ne!(same["daprdPid"], row["daprdPid"]);
        eventually(PATIENCE, &running, "the new app's id", || {
            home.list(&tasks).iter().all(|row| alive(number(row, "appPid")))
        });
    }
}

fn an_app_that_keeps_failing_is_restarted_more_slowly() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("failing"), this_program());
    let mut args = run_args(&resources, &id);
    args.extend(["--restart", "on-failure", "--", &program, "app", "exit", "3"]);
    let running = home.start(&args);
    let waits = || -> Vec<u64> {
        let text = running.text();
        let news = text
            .lines()
            .filter_map(|line| line.strip_prefix("== APP == restarting in "));
        news.map(|rest| rest.strip_suffix("ms (exit code 3)").unwrap().parse().unwrap())
            .collect()
    };
    eventually(PATIENCE, &running, "three restarts", || waits().len() >= 3);
    let waits = waits();
    assert!(waits[0] <= 120 && waits[1] >= 160 && waits[2] >= 320, "{waits:?}");
}

fn nothing_outlives_a_killed_command_line() {
    let home = Home::new();
    let (id, program) = (home.id("family"), this_program());
    let file = home.run_file(&format!(
        "- {{appDirPath: web, appID: {id}, command: [{program}, app, family]}}\n"
    ));
    let running = home.start(&["run", "-f", &file]);
    home.listed(&id, 1, &running);
    let cli = u64::from(running.child.id());
    // The guard, the sidecar, the app and its child.
    let mut family = BTreeSet::new();
    eventually(PATIENCE, &running, "the family", || {
        family = descendants(cli);
        family.len() == 4
    });
    // A killed guard is replaced and knows what to guard.
    let guard = *family.iter().find(|pid| is_guard(**pid)).unwrap();
    send(guard, Signal::KILL);
    eventually(BACK, &running, "a new guard", || {
        family = descendants(cli);
        family.len() == 4 && family.iter().any(|pid| *pid != guard && is_guard(*pid))
    });
    // The command line does one thing at a time: when it answers, the new guard has been told whom to guard. It is asked
    // by its socket, as for any app.
    let (status, text) = home.outrigger(&["stop", "--app-id", "no-app-of-this-run"]);
    assert!(!status.success(), "{text}");
    running.signal(Signal::KILL);
    eventually(PATIENCE, &running, "the end of all", || {
        !family.iter().any(|pid| alive(*pid))
    });
    assert!(home.list(&id).is_empty());
}

fn one_app_of_a_run_file_is_stopped_for_good() {
    let home = Home::new();
    let (one, other, program) = (home.id("one"), home.id("other"), this_program());
    let line = |id: &str| format!("- {{appDirPath: web, appID: {id}, command: [{program}, app, park]}}\n");
    let file = home.run_file(&format!("{}{}", line(&one), line(&other)));
    let mut running = home.start(&["run", "-f", &file]);
    let row = home.listed(&one, 1, &running).remove(0);
    home.listed(&other, 1, &running);
    let (status, text) = home.outrigger(&["stop", "--app-id", &one]);
    assert!(
        status.success() && text.contains(&format!("app stopped successfully: {one}")),
        "{text}"
    );
    for key in ["appPid", "daprdPid"] {
        assert!(
            !alive(number(&row, key)),
            "{key} of {row} lives:\n{}",
            running.text()
        );
    }
    assert!(home.list(&one).is_empty());
    assert_eq!(home.list(&other).len(), 1);
    let (status, text) = home.outrigger(&["stop", "--app-id", &one]);
    assert!(
        !status.success() && text.contains("couldn't find app id"),
        "{text}"
    );
    // The last app takes the command line with it.
    let (status, text) = home.outrigger(&["stop", &other]);
    assert!(status.success(), "{text}");
    assert_eq!(running.ends().code(), Some(0), "{}", running.text());
}

fn a_run_file_is_stopped_and_its_logs_stay() {
    let home = Home::new();
    let (id, program) = (home.id("web"), this_program());
    let file = home.run_file(&format!(
        "- appDirPath: web\n  appID: {id}\n  env: {{GREETING: hello there}}\n  command: [{program}, app, environment]\n"
    ));
    let mut running = home.start(&["run", "-f", &file]);
    let row = home.listed(&id, 1, &running).remove(0);
    // A sidecar learns of its app's process first, then of the file.
    eventually(PATIENCE, &running, "the run file is listed", || {
        let row = home.list(&id).remove(0);
        row["runTemplatePath"] == file.as_str() && row["runTemplateName"] == "shop"
    });
    running.says(&format!("== APP - {id} == GREETING=hello there\n"));
    assert!(
        !running.text().contains("level=info"),
        "the sidecar's lines go to its file:\n{}",
        running.text()
    );
    let (status, text) = home.outrigger(&["logs", "--app-id", &id]);
    assert!(
        status.success() && text.contains("GREETING=hello there") && text.contains("level=info"),
        "{text}"
    );

    let (_, lines) = home.outrigger(&["logs", "--app-id", &id, "--source", "app", "--output", "json"]);
    let greeted = lines.lines().any(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["line"]
            .as_str()
            .is_some_and(|line| line.ends_with("GREETING=hello there"))
    });
    assert!(greeted, "{lines}");

    let (status, text) = home.outrigger(&["stop", "-f", &file, "--output", "json"]);
    assert!(status.success(), "{text}");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0]["stopped"],
        true
    );
    assert_eq!(running.ends().code(), Some(0), "{}", running.text());
    assert!(!alive(number(&row, "appPid")) && !alive(number(&row, "daprdPid")));
    let (status, text) = home.outrigger(&["logs", "--app-id", &id, "--source", "app", "--tail", "10"]);
    assert!(
        status.success() && text.contains("GREETING=hello there"),
        "{text}"
    );
    assert!(!home.outrigger(&["stop", "-f", &file]).0.success());
}

fn an_interrupt_ends_a_run_in_order() {
    let home = Home::new();
    let (resources, id, program) = (home.path("resources"), home.id("interrupt"), this_program());
    let mut args = run_args(&resources, &id);
    args.extend(["--restart", "always", "--", &program, "app", "family"]);
    let mut running = home.start(&args);
    let row = home.listed(&id, 1, &running).remove(0);
    let family = descendants(u64::from(running.child.id()));
    running.signal(Signal::INT);
    assert_eq!(running.ends().code(), Some(0), "{}", running.text());
    eventually(PATIENCE, &running, "the end of all", || {
        !family.iter().any(|pid| alive(*pid))
    });
    let text = running.text();
    let place = |words: &str| {
        text.find(words)
            .unwrap_or_else(|| panic!("{words} not in:\n{text}"))
    };
    assert!(place("shutting down") < place("Exited App") && place("Exited App") < place("Exited Dapr"));
    assert!(!alive(number(&row, "daprdPid")));
}
