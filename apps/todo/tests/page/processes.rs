//! The whole app as processes: services hang and are killed under a page that looks on.

use std::process::Command;

use serde_json::{Value, json};

use super::browser;
use super::client::Visitor;
use super::running::{Programs, Running, home, signal};
use super::webdriver::Browser;
use super::{ALONE, until};

/// The process ids of an app's services, from the names of its instances.
fn pids(strip: &Value, app: &str) -> Vec<String> {
    let services = strip["services"].as_array().unwrap();
    let line = services.iter().find(|line| line["app"] == app).unwrap();
    let instances = line["instances"].as_array().unwrap().iter();
    instances
        .filter_map(|member| {
            member["instance"]
                .as_str()?
                .rsplit_once('-')?
                .1
                .parse::<u32>()
                .ok()
        })
        .map(|pid| pid.to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_stopped_and_killed_and_nothing_is_lost() {
    let _alone = ALONE.lock().await;
    let Some(programs) = Programs::find() else { return };
    let home = home();
    let running = Running::start(&programs, home.path()).await;
    let url = running.url().borrow().clone();
    let visitor = Visitor::enter(&url, "me").await;
    until(
        "two instances of tasks and one of the others are up",
        async || {
            let strip = visitor.get("/api/status").await.body;
            let up = |app: &str, count| pids(&strip, app).len() == count;
            (up("tasks", 2) && up("notifications", 1) && up("stats", 1)).then_some(())
        },
    )
    .await;
    until("tasks answers", async || {
        (visitor.get("/api/tasks").await.status == 200).then_some(())
    })
    .await;

    // The first event takes as long as the start of its subscribers; later ones are measured.
    let early = Visitor::enter(&url, "early").await;
    early.add("Good morning").await;
    until("the first event has arrived", async || {
        (early.get("/api/feed").await.body["head"] == 1).then_some(())
    })
    .await;

    if let Some(browser) = Browser::start().await {
        let (one, two) = browser::two_windows(&browser, &url).await;
        browser::windows_stay_in_step(&browser, &one, &two).await;
        // A service that hangs: red, counted, and then everything arrives.
        let strip = visitor.get("/api/status").await.body;
        let hung = pids(&strip, "notifications").remove(0);
        signal("-STOP", &hung);
        browser::add(&browser, &one, "Pick up the parcel").await;
        browser
            .wait(
                &one,
                "document.querySelector('[data-app=notifications]').dataset.state === 'down'",
            )
            .await;
        browser
            .wait(&one, "document.querySelector('#waiting').dataset.count === '1'")
            .await;
        if let Ok(folder) = std::env::var("TODO_PICTURES") {
            std::fs::write(format!("{folder}/processes.png"), browser.picture(&one).await).unwrap();
        }
        signal("-CONT", &hung);
        browser
            .wait(&two, "document.querySelectorAll('#list .task').length === 4")
            .await;
        browser
            .wait(&one, "document.querySelector('#waiting').dataset.count === '0'")
            .await;
        browser.close().await;
    }

    // Services are killed while somebody writes: what was answered 201 is there, and its event arrives once.
    let before = visitor.get("/api/tasks").await.body["rev"].as_u64().unwrap();
    let mut wanted = Vec::new();
    for round in 0..12 {
        if round % 3 == 1 {
            let strip = visitor.get("/api/status").await.body;
            let app = ["tasks", "notifications", "stats", "tasks"][round / 3];
            if let Some(pid) = pids(&strip, app).first() {
                let _ = Command::new("kill").args(["-KILL", pid]).status();
            }
        }
        let title = format!("round {round}");
        let body = json!({"title": title});
        let key = [("idempotency-key", title.as_str())];
        until("the task is taken", async || {
            let answer = visitor.send("POST", "/api/tasks", Some(&body), &key).await?;
            (answer.status == 201).then_some(())
        })
        .await;
        wanted.push(title);
    }
    let list = visitor.get("/api/tasks").await.body;
    let titles: Vec<_> = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["title"])
        .collect();
    assert_eq!(
        list["rev"].as_u64().unwrap() - before,
        12,
        "each change once: {titles:?}"
    );
    assert!(
        wanted
            .iter()
            .all(|title| titles.iter().any(|found| *found == title))
    );
    until("every event has arrived, once", async || {
        let feed = visitor.get("/api/feed").await;
        (feed.status == 200 && feed.body["head"] == list["rev"]).then_some(())
    })
    .await;
    until("and has been counted", async || {
        let stats = visitor.get("/api/stats").await;
        let created = stats.body["today"]["created"].as_u64()?;
        (created == titles.len() as u64).then_some(())
    })
    .await;
}
