//! Bindings: reminders by a cron binding, and a webhook that hears of them (N4).

use outrigger_kit::testing::Cluster;
use serde_json::json;

use super::client::Visitor;
use super::house::House;
use super::until;

#[tokio::test]
async fn a_reminder_is_told_once_and_the_outside_hears_of_it() {
    let cluster = Cluster::new();
    cluster.add_component("webhook", "bindings.http");
    let house = House::open_on(cluster, None).await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let task = visitor.add("Water the plants").await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let due = visitor.patch(&path, &json!({"remindAt": 1})).await;
    assert_eq!(due.status, 200);
    // The outside is away at first: it hears later, and nothing else waits for it.
    house.cluster.set_bindings_down(true);
    until("both instances are asked and one tells", async || {
        house.read_binding("tasks-1", "reminders").await;
        house.read_binding("tasks-2", "reminders").await;
        let list = visitor.get("/api/tasks").await.body;
        list["tasks"][0].get("remindAt").is_none().then_some(())
    })
    .await;
    until("the feed tells", async || {
        let feed = visitor.get("/api/feed").await.body;
        let kinds: Vec<_> = feed["entries"]
            .as_array()?
            .iter()
            .map(|entry| &entry["kind"])
            .collect();
        (kinds == ["task.created", "task.updated", "task.reminded"]).then_some(())
    })
    .await;
    assert!(house.cluster.binding_calls().is_empty());
    house.cluster.set_bindings_down(false);
    let call = until("the webhook is called", async || {
        house.cluster.binding_calls().into_iter().next()
    })
    .await;
    assert_eq!(
        (call.binding.as_str(), call.operation.as_str()),
        ("webhook", "post")
    );
    assert_eq!(call.data["type"], "task.reminded");
    assert_eq!(call.data["task"]["title"], "Water the plants");
}
