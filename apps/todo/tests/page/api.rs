//! User journeys through the gateway's API.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::client::Visitor;
use super::house::House;
use super::until;

fn titles(list: &Value) -> Vec<&str> {
    list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["title"].as_str().unwrap())
        .collect()
}

/// N1, N2, N3: through all services and back; both instances of `tasks` see one list.
#[tokio::test]
async fn a_task_lives_and_everybody_hears() {
    let house = House::open().await;
    let visitor = Visitor::enter(&house.url, "Ada").await;
    let first = until("both instances of tasks are ready", async || {
        let answer = visitor
            .post("/api/tasks", &json!({"title": "  Tea \n time "}))
            .await;
        (answer.status == 201).then_some(answer)
    })
    .await;
    let task = &first.body["task"];
    assert_eq!(task["title"], "Tea time");
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let done = visitor.patch(&path, &json!({"done": true})).await;
    assert_eq!((done.status, &done.body["task"]["done"]), (200, &json!(true)));
    let renamed = visitor.patch(&path, &json!({"title": "Coffee"})).await;
    assert_eq!(renamed.body["rev"], 3);

    let mut instances = BTreeSet::new();
    until("both instances have answered alike", async || {
        let answer = visitor.get("/api/tasks").await;
        assert_eq!(titles(&answer.body), ["Coffee"]);
        instances.insert(answer.headers["x-todo-instance"].to_str().unwrap().to_owned());
        (instances.len() == 2).then_some(())
    })
    .await;
    let removed = visitor.send("DELETE", &path, None, &[]).await.unwrap();
    assert_eq!(removed.body["removed"], json!([task["id"]]));
    assert_eq!(
        visitor.send("DELETE", &path, None, &[]).await.unwrap().status,
        404
    );

    let kinds = ["task.created", "task.completed", "task.updated", "task.deleted"];
    until(
        "the first subscriber has all events, in their order",
        async || {
            let feed = visitor.get("/api/feed").await.body;
            let told: Vec<_> = feed["entries"]
                .as_array()?
                .iter()
                .map(|entry| entry["kind"].clone())
                .collect();
            (told == kinds).then_some(())
        },
    )
    .await;
    until("the second subscriber too", async || {
        let today = visitor.get("/api/stats").await.body["today"].clone();
        (today == json!({"created": 1, "completed": 1, "deleted": 1})).then_some(())
    })
    .await;
    let other = Visitor::enter(&house.url, "bob").await;
    assert!(
        titles(&other.get("/api/tasks").await.body).is_empty(),
        "lists are apart"
    );
}

/// E1.6 and N5: a client that asks again, and a commit whose answer is lost, change nothing twice.
#[tokio::test]
async fn a_repeated_change_happens_once() {
    let house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let body = json!({"title": "Once"});
    let key = [("idempotency-key", "change-1")];
    let first = visitor
        .send("POST", "/api/tasks", Some(&body), &key)
        .await
        .unwrap();
    let again = visitor
        .send("POST", "/api/tasks", Some(&body), &key)
        .await
        .unwrap();
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    // The outbox has sent the first event; from here on only the next change writes.
    until("the first event has arrived", async || {
        (visitor.get("/api/feed").await.body["head"] == 1).then_some(())
    })
    .await;
    house.cluster.lose_state_answers(1);
    visitor.add("Twice?").await;
    assert_eq!(titles(&visitor.get("/api/tasks").await.body), ["Once", "Twice?"]);
    until("each event is in the feed once", async || {
        (visitor.get("/api/feed").await.body["head"] == 2).then_some(())
    })
    .await;
}

/// N5: a change of an old version is 409 with what is there; changes that meet are merged, none is lost.
#[tokio::test]
async fn conflicting_changes_are_told_or_merged() {
    let house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let task = visitor.add("Draft").await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let mine = visitor.patch(&path, &json!({"title": "Mine", "ifRev": 1})).await;
    assert_eq!(mine.status, 200);
    let late = visitor.patch(&path, &json!({"title": "Late", "ifRev": 1})).await;
    assert_eq!(
        (late.status, &late.body["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    assert_eq!(late.body["current"]["title"], "Mine");

    let writers = (0..12).map(|n| {
        let visitor = visitor.clone();
        tokio::spawn(async move { visitor.add(&format!("task {n}")).await["rev"].as_u64().unwrap() })
    });
    let mut revisions = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        revisions.insert(writer.await.unwrap());
    }
    assert_eq!(revisions.len(), 12, "every change has a revision of its own");
    assert_eq!(titles(&visitor.get("/api/tasks").await.body).len(), 13);

    let theme = visitor.patch("/api/preferences", &json!({"theme": "dark"})).await;
    assert_eq!(
        theme.body,
        json!({"theme": "dark", "hideDone": false, "notify": true})
    );
    assert_eq!(
        visitor
            .patch("/api/preferences", &json!({"notify": false}))
            .await
            .body["theme"],
        "dark"
    );
}

/// N5: without its sidecar a service answers 503 with a hint; afterwards everything is as it was.
#[tokio::test]
async fn a_missing_sidecar_is_told_and_nothing_is_lost() {
    let house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    visitor.add("Before").await;
    house.set_sidecar_down("tasks-1", true);
    visitor.add("One instance is enough").await;
    house.set_sidecar_down("tasks-2", true);
    let refused = visitor.post("/api/tasks", &json!({"title": "Refused"})).await;
    assert_eq!(
        (refused.status, &refused.body["error"]["code"]),
        (503, &json!("UNAVAILABLE"))
    );
    assert_eq!(refused.headers["retry-after"], "1");
    house.set_sidecar_down("gateway", true);
    assert_eq!(visitor.get("/api/tasks").await.status, 503);
    let strip = visitor.get("/api/status").await.body;
    assert_eq!(strip["services"][0]["instances"][0]["sidecar"], "down", "{strip}");
    for name in ["gateway", "tasks-1", "tasks-2"] {
        house.set_sidecar_down(name, false);
    }
    assert_eq!(
        titles(&visitor.get("/api/tasks").await.body),
        ["Before", "One instance is enough"]
    );
}

/// N5, E1.9: while the broker is down changes are answered and their events wait, over a crash too.
#[tokio::test]
async fn events_wait_for_the_broker_even_over_a_crash() {
    let mut house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    visitor.add("First").await;
    until("the first event has arrived", async || {
        (visitor.get("/api/feed").await.body["head"] == 1).then_some(())
    })
    .await;
    house.cluster.set_broker_down(true);
    visitor.add("Second").await;
    visitor.add("Third").await;
    let mut stream = visitor.stream(1).await;
    while stream.wait("status").await.data["waiting"] != 2 {}
    house.kill("tasks-1").await;
    house.kill("tasks-2").await;
    house.start("tasks-1").await;
    let unready = visitor.get("/api/tasks").await;
    assert_eq!(unready.status, 503, "not ready before the events have left");
    house.cluster.set_broker_down(false);
    for (number, title) in [("2", "Second"), ("3", "Third")] {
        let event = stream.wait("task").await;
        assert_eq!(
            (event.id.as_str(), &event.data["task"]["title"]),
            (number, &json!(title))
        );
    }
    until("the service is ready", async || {
        (visitor.get("/api/tasks").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(visitor.get("/api/feed").await.body["head"], 3);
}

/// N2: a stream that breaks goes on where it was.
#[tokio::test]
async fn streams_resume_by_number() {
    let mut house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let mut stream = visitor.stream(0).await;
    stream.wait("live").await;
    visitor.add("While connected").await;
    assert_eq!(stream.wait("task").await.id, "1");
    house.stop("gateway").await;
    while stream.next().await.is_some() {}

    house.start("gateway").await;
    // The session outlives the gateway.
    until("the gateway is back", async || {
        (visitor.get("/api/tasks").await.status == 200).then_some(())
    })
    .await;
    visitor.add("While away").await;
    until("it is in the feed", async || {
        (visitor.get("/api/feed").await.body["head"] == 2).then_some(())
    })
    .await;
    let mut stream = visitor.stream(1).await;
    assert_eq!(stream.wait("task").await.data["task"]["title"], "While away");

    // The feed's service goes away and comes back under an open stream.
    house.set_sidecar_down("notifications", true);
    stream.wait("away").await;
    visitor.add("While the feed is away").await;
    house.set_sidecar_down("notifications", false);
    assert_eq!(stream.wait("task").await.id, "3");
    assert!(
        visitor.stream(99).await.wait("reset").await.id == "3",
        "a place that never was"
    );
}

#[tokio::test]
async fn strangers_are_kept_out() {
    let house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let nobody = Visitor::new(&house.url);
    assert_eq!(nobody.get("/api/tasks").await.status, 401);
    assert_eq!(
        nobody.post("/api/session", &json!({"user": "../x"})).await.status,
        422
    );
    let body = json!({"title": "Planted"});
    let other_site = [("origin", "http://evil.example")];
    let planted = visitor
        .send("POST", "/api/tasks", Some(&body), &other_site)
        .await
        .unwrap();
    assert_eq!(planted.status, 403);
    for wrong in [json!({"title": ""}), json!({"title": "x".repeat(201)})] {
        assert_eq!(visitor.post("/api/tasks", &wrong).await.status, 422);
    }
    let page = nobody.send("GET", "/", None, &[]).await.unwrap();
    assert!(
        page.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'self'")
    );
}
