//! The app survives: each of its processes is killed once while somebody writes, then all of it is stopped and
//! started again, and nothing is lost (N2, N5).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::client::Visitor;
use super::running::{Process, Programs, Role, Running, home, resident, signal};
use super::{ALONE, until};

/// Each writer has a list, and a page that looks at it.
const WRITERS: usize = 5;
/// A feed remembers as many: a page that comes back never has to begin anew.
const EACH: usize = 200;
const TODOS: usize = WRITERS * EACH;
const PROCESSES: usize = 14;
/// Written between the all-clear after one kill and the next kill, which then meets writers at work.
const BETWEEN: usize = 10;
/// How long nothing may happen at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may be away: optimised, and otherwise.
const LIMIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_is_killed_once_and_nothing_is_lost() {
    let _alone = ALONE.lock().await;
    if !Path::new("/proc/self/stat").exists() {
        return println!("skipped: processes are found in /proc, which is not here");
    }
    let Some(programs) = Programs::find() else { return };
    let home = home();
    let running = Running::start(&programs, home.path()).await;
    first_todo(&running).await;
    memory(&running, "after the first todo");

    let mut visitors = Vec::new();
    for number in 0..WRITERS {
        let url = running.url().borrow().clone();
        visitors.push(Visitor::enter(&url, &format!("writer-{number}")).await);
    }
    let pace = Semaphore::new(0);
    let accepted = watch::Sender::new(Vec::new());
    let writers = visitors
        .iter()
        .map(|visitor| write(running.url(), visitor.clone(), &pace, &accepted));
    let pages = visitors
        .iter()
        .map(|visitor| look_on(running.url(), visitor.clone()));
    let (absences, written, seen) = tokio::join!(
        kill_each(&running, &pace, accepted.subscribe()),
        join_all(writers),
        join_all(pages),
    );
    memory(&running, "after 1,000 todos and 14 kills");
    for (written, seen) in written.iter().zip(&seen) {
        let amiss: Vec<_> = written.ids.symmetric_difference(seen).collect();
        assert!(
            amiss.is_empty(),
            "shown, but not accepted, or the reverse: {amiss:?}"
        );
        written.all_is_there(&running).await;
    }

    let stopping = Instant::now();
    running.stop().await;
    println!("stopped after {:.2?}", stopping.elapsed());
    let running = Running::start(&programs, home.path()).await;
    for writer in &written {
        writer.all_is_there(&running).await;
    }
    println!("all is there again after {:.2?}", running.began.elapsed());
    running.stop().await;

    let limit = if programs.optimised { LIMIT.0 } else { LIMIT.1 };
    for (role, away) in absences {
        assert!(away <= limit, "{role} was away for {away:?}");
    }
}

/// Tells how long the app takes from nothing to its first todo, and to the notification of it.
async fn first_todo(running: &Running) {
    let visitor = Visitor::enter(&running.url().borrow(), "first").await;
    let key = [("idempotency-key", "first")];
    until("the first todo is taken", async || {
        let body = json!({"title": "Good morning"});
        let answer = visitor.send("POST", "/api/tasks", Some(&body), &key).await?;
        (answer.status == 201).then_some(())
    })
    .await;
    let stored = running.began.elapsed();
    until("its notification has arrived", async || {
        (visitor.get("/api/feed").await.body["head"] == 1).then_some(())
    })
    .await;
    let notified = running.began.elapsed();
    println!("from the start: first todo stored after {stored:.2?}, notified after {notified:.2?}");
    until("all processes are there", async || {
        (running.processes().len() == PROCESSES).then_some(())
    })
    .await;
}

fn memory(running: &Running, when: &str) {
    println!("VmRSS {when}:");
    let mut sum = 0;
    let mut line = |name: &str, pid| {
        let resident = resident(pid).unwrap();
        sum += resident;
        println!("  {name:30} {resident:8} KiB");
    };
    line("outrigger run", running.pid());
    for (role, process) in running.processes() {
        line(&role.to_string(), process.pid);
    }
    println!("  {:30} {sum:8} KiB", "all");
}

/// Kills one process after the other, the next only when the last one is back and the app takes what it is given.
/// Tells how long each was away.
async fn kill_each(
    running: &Running,
    pace: &Semaphore,
    mut accepted: watch::Receiver<Vec<Instant>>,
) -> Vec<(Role, Duration)> {
    let victims: Vec<Role> = running.processes().into_keys().collect();
    assert_eq!(victims.len(), PROCESSES);
    let mut absences = Vec::new();
    let mut due = 0;
    for (turn, role) in victims.into_iter().enumerate() {
        let before = due;
        due = TODOS * (turn + 1) / PROCESSES;
        pace.add_permits(due - before);
        reached(&mut accepted, before + BETWEEN).await;
        let old = running.processes()[&role].clone();
        signal("-KILL", old.pid);
        let (killed, begun) = (Instant::now(), accepted.borrow().len());
        until(&format!("{role} is back"), async || {
            let new = running.processes().remove(&role)?;
            let back = new.pid != old.pid && is_up(running, &role, &new).await;
            back.then_some(())
        })
        .await;
        let away = killed.elapsed();
        let meanwhile = accepted.borrow().len() - begun;
        reached(&mut accepted, due).await;
        println!(
            "killed: {role:30} away for {:5} ms, {meanwhile:3} todos meanwhile, longest stop {:5} ms",
            away.as_millis(),
            longest_stop(&accepted.borrow(), killed).as_millis(),
        );
        absences.push((role, away));
    }
    absences
}

/// Waits until so many todos were accepted.
async fn reached(accepted: &mut watch::Receiver<Vec<Instant>>, count: usize) {
    let enough = accepted.wait_for(|accepted| accepted.len() >= count);
    timeout(PATIENCE, enough)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {count} todos"))
        .unwrap();
}

/// The longest time from a kill on in which no todo was accepted.
fn longest_stop(accepted: &[Instant], killed: Instant) -> Duration {
    let mut last = killed;
    let mut longest = Duration::ZERO;
    for at in accepted.iter().filter(|at| **at > killed) {
        longest = longest.max(*at - last);
        last = *at;
    }
    longest
}

/// A sidecar says it of itself, of an app its sign of life in the strip.
pub(crate) async fn is_up(running: &Running, role: &Role, process: &Process) -> bool {
    if role.sidecar {
        let health = Visitor::new(&process.sidecar_url);
        let answer = health.send("GET", "/v1.0/healthz/outbound", None, &[]).await;
        return answer.is_some_and(|answer| answer.status == 204);
    }
    let visitor = Visitor::new(&running.url().borrow());
    let Some(strip) = visitor.send("GET", "/api/status", None, &[]).await else {
        return false;
    };
    let name = format!("{}-{}", role.app, process.pid);
    let lines = strip.body["services"].as_array().into_iter().flatten();
    lines
        .flat_map(|line| line["instances"].as_array().into_iter().flatten())
        .any(|member| member["instance"] == *name && member["service"] == "up")
}

/// What was accepted of a writer.
struct Written {
    visitor: Visitor,
    ids: BTreeSet<String>,
}

/// Posts todo after todo as `pace` allows, each under its key until it is accepted.
async fn write(
    url: watch::Receiver<String>,
    mut visitor: Visitor,
    pace: &Semaphore,
    accepted: &watch::Sender<Vec<Instant>>,
) -> Written {
    let mut ids = BTreeSet::new();
    for number in 0..EACH {
        pace.acquire().await.unwrap().forget();
        let title = format!("todo {number}");
        let body = json!({"title": title});
        let key = [("idempotency-key", title.as_str())];
        let id = until(&format!("{title} is taken"), async || {
            visitor.url.clone_from(&url.borrow());
            let answer = visitor.send("POST", "/api/tasks", Some(&body), &key).await?;
            // A change that cannot be made now is refused with 503, never otherwise.
            assert!(matches!(answer.status, 201 | 503), "{answer:?}");
            (answer.status == 201).then(|| answer.body["task"]["id"].as_str().unwrap().to_owned())
        })
        .await;
        assert!(ids.insert(id), "an id of its own");
        accepted.send_modify(|accepted| accepted.push(Instant::now()));
    }
    Written { visitor, ids }
}

impl Written {
    /// Each accepted todo is in the list, in the feed and in the counts, once.
    async fn all_is_there(&self, running: &Running) {
        let mut visitor = self.visitor.clone();
        visitor.url.clone_from(&running.url().borrow());
        let answered = async |path: &str| {
            until(path, async || {
                let answer = visitor.send("GET", path, None, &[]).await?;
                (answer.status == 200).then_some(answer.body)
            })
            .await
        };
        let list = answered("/api/tasks").await;
        let tasks = list["tasks"].as_array().unwrap();
        let ids = tasks.iter().map(|task| task["id"].as_str().unwrap().to_owned());
        let lost: Vec<_> = self.ids.difference(&ids.collect()).cloned().collect();
        assert!(lost.is_empty(), "accepted, but not in the list: {lost:?}");
        assert_eq!((tasks.len(), &list["rev"]), (EACH, &json!(EACH)), "each once");
        until("every todo was notified, once", async || {
            (answered("/api/feed").await["head"] == list["rev"]).then_some(())
        })
        .await;
        until("every todo was counted, once", async || {
            let stats = answered("/api/stats").await;
            // Two days, when it is midnight.
            let days = stats["days"].as_object()?.values();
            let created: Option<u64> = days.map(|day| day["created"].as_u64()).sum();
            (created == Some(EACH as u64)).then_some(())
        })
        .await;
    }
}

/// A page as the browser keeps it: whenever its stream ends it opens another one where the last one was. Gives the
/// todos that it has shown.
async fn look_on(url: watch::Receiver<String>, mut visitor: Visitor) -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    let mut lives = 0;
    while shown.len() < EACH {
        let mut stream = until("a live stream", async || {
            visitor.url.clone_from(&url.borrow());
            visitor.try_stream(shown.len() as u64).await
        })
        .await;
        lives += 1;
        while shown.len() < EACH
            && let Some(event) = timeout(PATIENCE, stream.next())
                .await
                .expect("the stream goes on")
        {
            assert_ne!(event.name, "reset", "the feed goes on");
            if event.name == "task" {
                assert!(shown.insert(event.data["task"]["id"].as_str().unwrap().to_owned()));
                assert_eq!(event.id, shown.len().to_string(), "none is missed or repeated");
            }
        }
    }
    assert!(lives > 1, "the gateway was killed, so the stream has ended once");
    shown
}
