//! Both versions answer the same requests alike, and the one on the kit has at most half of the plumbing (D6).

#![allow(
    clippy::print_stdout,
    reason = "why a test was skipped, and what was counted, is shown by cargo"
)]

mod count;
mod requests;
mod versions;

use serde_json::json;

use versions::{ByHand, InMemory, Processes, Version};

/// What the requests are answered with: the version in memory is the measure, as it needs nothing from outside.
async fn measure() -> Vec<String> {
    let version = InMemory::start().await;
    let transcript = requests::ordinary(&version.tasks(), "ada").await;
    version.stop().await;
    transcript
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_hand_and_on_the_kit_answer_alike() {
    let wanted = measure().await;
    assert!(wanted.len() > 15, "{wanted:#?}");
    let Some(version) = ByHand::start().await else {
        return;
    };
    let found = requests::ordinary(&version.tasks(), "ada").await;
    assert_eq!(found, wanted);
    version.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_kit_beside_real_sidecars_it_answers_alike() {
    let Some(version) = Processes::start().await else {
        return;
    };
    let wanted = measure().await;
    let user = uuid::Uuid::new_v4().simple().to_string();
    let found = requests::ordinary(&version.tasks(), &user).await;
    assert_eq!(found, wanted);
    version.stop().await;
}

/// While `stats` is away its caller answers 503, changes are taken, and their events arrive later, once.
async fn survives(mut version: impl Version) {
    let tasks = version.tasks();
    let user = "bob";
    assert_eq!(tasks[0].add(user, "Before").await.status, 201);
    let one = json!({"created": 1, "completed": 0, "deleted": 0});
    tasks[0].counted(user, &one).await;
    version.stop_stats().await;
    let refused = tasks[0].get(&format!("/users/{user}/overview")).await;
    assert_eq!((refused.status, refused.retry_after), (503, true), "{refused:?}");
    assert_eq!(tasks[1].add(user, "While it is away").await.status, 201);
    version.start_stats().await;
    let two = json!({"created": 2, "completed": 0, "deleted": 0});
    tasks[0].counted(user, &two).await;
    tasks[1].counted(user, &two).await;
    version.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_hand_it_survives_the_other_service() {
    let Some(version) = ByHand::start().await else {
        return;
    };
    survives(version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_kit_it_survives_the_other_service() {
    survives(InMemory::start().await).await;
}

/// A caller's trace reaches the events that the request makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_hand_a_trace_goes_on_in_events() {
    let Some(version) = ByHand::start().await else {
        return;
    };
    let mut events = version.listen().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let body = json!({"title": "Traced"});
    // In a process of its own: a process has one telemetry, and here the versions share one.
    let (process, tasks) = version.another();
    tasks.ready().await;
    let answer = tasks
        .send(
            "POST",
            "/users/ada/tasks",
            Some(&body),
            &[("traceparent", &parent)],
        )
        .await;
    assert_eq!(answer.status, 201);
    let event = events.next().await;
    assert_eq!(
        (&event["type"], &event["subject"]),
        (&json!("task.created"), &json!("ada"))
    );
    let told = event["traceparent"].as_str().unwrap();
    assert!(told.contains(trace) && told != parent, "{told}");
    drop(process);
    version.stop().await;
}

#[test]
fn the_kit_halves_the_plumbing() {
    let (by_hand, on_the_kit) = (count::folder("src/direct"), count::folder("src/kit"));
    println!("plumbing by hand: {by_hand}");
    println!("plumbing on the kit: {on_the_kit}");
    let share = 100 * on_the_kit.lines / by_hand.lines;
    println!("the second is {share} % of the first");
    assert!(by_hand.lines > 0 && on_the_kit.lines > 0);
    assert!(2 * on_the_kit.lines <= by_hand.lines, "D6 asks for 50 % at most");
    assert!(!by_hand.text.contains("outrigger_kit"), "it is by hand");
}
