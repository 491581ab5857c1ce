//! The chat, by its grammar and by a conversation component (N9).

use outrigger_kit::testing::Cluster;
use serde_json::{Value, json};

use super::client::Visitor;
use super::house::House;
use super::until;

async fn say(visitor: &Visitor, text: &str) -> Value {
    until("the chat answers", async || {
        let answer = visitor.post("/api/chat", &json!({"text": text})).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await
}

fn reply(answer: &Value) -> &str {
    answer["reply"].as_str().unwrap()
}

#[tokio::test]
async fn plain_sentences_add_list_finish_and_remind() {
    let house = House::open().await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    assert_eq!(reply(&say(&visitor, "add buy milk").await), "Added: buy milk");
    assert_eq!(
        reply(&say(&visitor, "I need to call Ann").await),
        "Added: call Ann"
    );
    let listed = say(&visitor, "list").await;
    assert_eq!(reply(&listed), "2 tasks to do:\n1. buy milk\n2. call Ann");
    assert_eq!(listed["interpreted"], false);
    let reminded = say(&visitor, "remind me of Ann in 2 hours").await;
    assert_eq!(reply(&reminded), "I will remind you of call Ann in 2 hours.");
    assert_eq!(reply(&say(&visitor, "done 1").await), "Done: buy milk");
    assert_eq!(
        reply(&say(&visitor, "done 7").await),
        "There is no number 7. 1 task to do:\n1. call Ann"
    );
    say(&visitor, "add call Bob").await;
    assert_eq!(
        reply(&say(&visitor, "call is done").await),
        "Which one: call Ann, or call Bob?"
    );
    assert!(reply(&say(&visitor, "sing a song").await).starts_with("I did not understand that."));
    let list = visitor.get("/api/tasks").await.body;
    assert_eq!(list["tasks"][0]["done"], true);
    assert!(list["tasks"][1]["remindAt"].is_i64());
}

#[tokio::test]
async fn a_conversation_component_interprets_where_one_is_set() {
    let cluster = Cluster::new();
    cluster.set_conversation("model", "we are out of milk again", "add buy milk");
    let house = House::open_on(cluster, Some("model")).await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let answer = say(&visitor, "we are out of milk again").await;
    assert_eq!(
        (reply(&answer), &answer["interpreted"]),
        ("Added: buy milk", &json!(true))
    );
    // A component that only repeats what it hears does no harm.
    assert_eq!(reply(&say(&visitor, "list").await), "1 task to do:\n1. buy milk");
}

#[tokio::test]
async fn a_model_that_is_away_is_done_without() {
    let house = House::open_on(Cluster::new(), Some("model")).await;
    let visitor = Visitor::enter(&house.url, "ada").await;
    let answer = say(&visitor, "add buy milk").await;
    assert_eq!(
        (reply(&answer), &answer["interpreted"]),
        ("Added: buy milk", &json!(false))
    );
}
