//! The same programs on real servers: Redis with RabbitMQ, PostgreSQL with Redis (N1–N5). What a user does works, and
//! goes on while processes are killed.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Stream, Visitor};
use super::running::{Programs, Running, compose_home, furnished, signal};
use super::survival::is_up;
use super::{ALONE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_rabbitmq_carry_the_app() {
    let (Some(redis), Some(rabbitmq)) = (server("OUTRIGGER_TEST_REDIS"), server("OUTRIGGER_TEST_RABBITMQ"))
    else {
        return;
    };
    let addresses = [
        ("localhost:6379", redis.as_str()),
        ("amqp://guest:guest@localhost:5672", rabbitmq.as_str()),
    ];
    journey(profile("redis-rabbitmq", &addresses)).await;
}

/// D2: what Compose starts as containers, our runner starts as processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_compose_file_runs_as_processes() {
    let (Some(redis), Some(rabbitmq)) = (server("OUTRIGGER_TEST_REDIS"), server("OUTRIGGER_TEST_RABBITMQ"))
    else {
        return;
    };
    let rabbitmq = rabbitmq
        .rsplit_once('@')
        .unwrap()
        .1
        .trim_end_matches('/')
        .to_owned();
    let externals = [format!("redis={redis}"), format!("rabbitmq={rabbitmq}")];
    let flags = externals
        .into_iter()
        .flat_map(|external| ["--external".to_owned(), external]);
    journey(Place {
        home: compose_home(),
        file: "compose.yaml",
        flags: flags.collect(),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_and_redis_carry_the_app() {
    let (Some(postgres), Some(redis)) = (server("OUTRIGGER_TEST_POSTGRES"), server("OUTRIGGER_TEST_REDIS"))
    else {
        return;
    };
    let addresses = [
        (
            "host=localhost port=5432 user=postgres password=postgres database=postgres",
            postgres.as_str(),
        ),
        ("localhost:6379", redis.as_str()),
    ];
    journey(profile("postgresql", &addresses)).await;
}

/// Where a real server is.
fn server(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        println!("skipped: {variable} is not set; cargo xtask services starts the servers");
    }
    found
}

/// What is started.
struct Place {
    home: tempfile::TempDir,
    file: &'static str,
    flags: Vec<String>,
}

impl Place {
    async fn start(&self, programs: &Programs) -> Running {
        Running::start_with(programs, self.home.path(), self.file, &self.flags).await
    }
}

fn profile(name: &str, addresses: &[(&str, &str)]) -> Place {
    Place {
        home: furnished(&format!("{name}.yaml"), &format!("profiles/{name}"), addresses),
        file: "dapr.yaml",
        flags: Vec::new(),
    }
}

/// All that a user does, before and after processes are killed and over a restart of the whole.
async fn journey(place: Place) {
    let _alone = ALONE.lock().await;
    let Some(programs) = Programs::find() else { return };
    let running = place.start(&programs).await;
    subscribers_are_there(&running).await;
    // The servers are not this test's alone.
    let user = uuid::Uuid::new_v4().simple().to_string();
    let visitor = Visitor::enter(&running.url().borrow(), &user).await;
    let mut told = Told {
        stream: until("a live stream", async || visitor.try_stream(0).await).await,
        count: 0,
    };
    a_user_is_served(&visitor, &mut told).await;

    for (app, sidecar) in [
        ("notifications", false),
        ("notifications", true),
        ("tasks", true),
        ("tasks", false),
    ] {
        survives(&running, app, sidecar, &visitor, &mut told).await;
    }
    let before = until("the list", async || list(&visitor).await).await;
    running.stop().await;

    let running = place.start(&programs).await;
    let visitor = Visitor::enter(&running.url().borrow(), &user).await;
    let after = until("the list is there again", async || list(&visitor).await).await;
    assert_eq!(before, after, "the servers have kept it");
    until("each event was counted once", async || {
        let stats = visitor.send("GET", "/api/stats", None, &[]).await?;
        // Two days, when it is midnight.
        let days = stats.body["days"].as_object()?.values();
        let created: Option<u64> = days.map(|day| day["created"].as_u64()).sum();
        (created? == after["tasks"].as_array()?.len() as u64).then_some(())
    })
    .await;
    running.stop().await;
}

/// RabbitMQ drops what comes before a queue was ever bound: on the very first start an early event may miss its
/// subscribers. From the first that has arrived on, all do.
async fn subscribers_are_there(running: &Running) {
    until("both subscribers have heard of a task", async || {
        let user = uuid::Uuid::new_v4().simple().to_string();
        let visitor = Visitor::enter(&running.url().borrow(), &user).await;
        add(&visitor, "Good morning").await;
        let heard = async {
            loop {
                let (feed, stats) = (visitor.get("/api/feed").await, visitor.get("/api/stats").await);
                if feed.body["head"] == 1 && stats.body["today"]["created"] == 1 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), heard).await.ok()
    })
    .await;
}

async fn list(visitor: &Visitor) -> Option<Value> {
    let answer = visitor.send("GET", "/api/tasks", None, &[]).await?;
    (answer.status == 200).then_some(answer.body)
}

/// What the live stream has shown.
struct Told {
    stream: Stream,
    count: u64,
}

impl Told {
    /// The next event is this one, with the next number: none is missed and none is repeated.
    async fn expect(&mut self, kind: &str, title: &str) {
        let event = self.stream.wait("task").await;
        self.count += 1;
        assert_eq!(
            (event.id, &event.data["kind"], &event.data["task"]["title"]),
            (self.count.to_string(), &json!(kind), &json!(title))
        );
    }
}

async fn a_user_is_served(visitor: &Visitor, told: &mut Told) {
    let task = add(visitor, "Buy milk").await;
    told.expect("task.created", "Buy milk").await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let renamed = visitor.patch(&path, &json!({"title": "Buy oat milk"})).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    told.expect("task.updated", "Buy oat milk").await;
    let late = visitor.patch(&path, &json!({"title": "Late", "ifRev": 1})).await;
    assert_eq!(late.status, 409, "{late:?}");
    assert_eq!(visitor.patch(&path, &json!({"remindAt": 1})).await.status, 200);
    told.expect("task.updated", "Buy oat milk").await;
    told.expect("task.reminded", "Buy oat milk").await;
    assert_eq!(visitor.patch(&path, &json!({"done": true})).await.status, 200);
    told.expect("task.completed", "Buy oat milk").await;

    let reply = until("the chat answers", async || {
        let answer = visitor.post("/api/chat", &json!({"text": "add call Ann"})).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(reply["reply"], "Added: call Ann");
    told.expect("task.created", "call Ann").await;

    let list = list(visitor).await.unwrap();
    let shown = |at: usize| {
        (
            list["tasks"][at]["title"].clone(),
            list["tasks"][at]["done"].clone(),
        )
    };
    assert_eq!(list["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(shown(0), (json!("Buy oat milk"), json!(true)));
    assert_eq!(shown(1), (json!("call Ann"), json!(false)));
    until("both are counted", async || {
        let today = visitor.get("/api/stats").await.body["today"].clone();
        (today == json!({"created": 2, "completed": 1, "deleted": 0})).then_some(())
    })
    .await;
    let theme = visitor.patch("/api/preferences", &json!({"theme": "dark"})).await;
    assert_eq!((theme.status, &theme.body["theme"]), (200, &json!("dark")));
}

/// Kills a process, adds a task while it is away, and waits until it is back and everything has arrived, once.
async fn survives(running: &Running, app: &str, sidecar: bool, visitor: &Visitor, told: &mut Told) {
    let (role, old) = until("the process is there", async || {
        let mut processes = running.processes().into_iter();
        processes.find(|(role, _)| role.app == app && role.sidecar == sidecar)
    })
    .await;
    let title = format!("after the end of {role}");
    signal("-KILL", old.pid);
    add(visitor, &title).await;
    until(&format!("{role} is back"), async || {
        let new = running.processes().remove(&role)?;
        (new.pid != old.pid && is_up(running, &role, &new).await).then_some(())
    })
    .await;
    told.expect("task.created", &title).await;
}

/// Adds a task under a key, until it is taken.
async fn add(visitor: &Visitor, title: &str) -> Value {
    let body = json!({"title": title});
    until(&format!("{title:?} is taken"), async || {
        let key = [("idempotency-key", title)];
        let answer = visitor.send("POST", "/api/tasks", Some(&body), &key).await?;
        assert!(matches!(answer.status, 201 | 503), "{answer:?}");
        (answer.status == 201).then(|| answer.body["task"].clone())
    })
    .await
}
