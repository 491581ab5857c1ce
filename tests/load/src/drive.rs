//! The generator: the same request over a few connections, as fast as they are answered or at a steady rate.

use std::{cell::Cell, rc::Rc, time::Duration};

use anyhow::Context;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    app::STAMP,
    clock::nanos,
    connection::Connection,
    options::Options,
    seen::{Seen, Start},
};

/// The executor's timer is this coarse; a request later than that was held up by the peer, and its wait counts.
const TIMER: Duration = Duration::from_millis(2);

/// Stands for a key in a path or a body, where requests go over many keys.
const KEY: &str = "{key}";
/// Digits of such a key: as long as what stands for it, so that no length changes.
const KEY_DIGITS: usize = KEY.len();

/// A request as bytes, and where its moments of sending and its keys stand.
#[derive(Debug, Clone)]
struct Request {
    bytes: Vec<u8>,
    stamps: Vec<usize>,
    keys: Vec<usize>,
    /// How many keys there are; none when the request is always the same.
    key_count: u64,
}

impl Request {
    /// Head and body of every request of this run.
    fn build(options: &Options) -> anyhow::Result<Self> {
        let body = match options.number("event-bytes", 0_usize)? {
            0 => options.text("body").unwrap_or("").to_owned(),
            bytes => match options.number("batch", 0_usize)? {
                0 => event(bytes),
                batch => bulk(bytes, batch),
            },
        };
        let method = options.text("method").unwrap_or("GET");
        let (path, target) = (options.required("path")?, options.required("target")?);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {target}\r\n");
        for header in options.all("header") {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if method != "GET" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.push_str(&body);
        let stamps = memchr::memmem::find_iter(head.as_bytes(), STAMP)
            .map(|at| at + STAMP.len())
            .collect();
        let key_count = options.number("keys", 0_u64)?;
        anyhow::ensure!(
            key_count <= 10_u64.pow(KEY_DIGITS as u32),
            "--keys {key_count} is more than {KEY_DIGITS} digits can name"
        );
        let keys = match key_count {
            0 => Vec::new(),
            _ => memchr::memmem::find_iter(head.as_bytes(), KEY).collect(),
        };
        Ok(Self {
            bytes: head.into_bytes(),
            stamps,
            keys,
            key_count,
        })
    }

    /// Writes the key of the request of this number.
    fn key(&mut self, number: u64) {
        if self.keys.is_empty() {
            return;
        }
        let digits = format!("{:0KEY_DIGITS$}", number % self.key_count);
        for at in &self.keys {
            self.bytes[*at..*at + KEY_DIGITS].copy_from_slice(digits.as_bytes());
        }
    }

    /// Writes the moment of sending into the events.
    fn stamp(&mut self) {
        if self.stamps.is_empty() {
            return;
        }
        let digits = format!("{:019}", nanos());
        for at in &self.stamps {
            self.bytes[*at..*at + 19].copy_from_slice(digits.as_bytes());
        }
    }
}

/// An event of exactly so many bytes, as JSON, with its stamp and a filling.
fn event(bytes: usize) -> String {
    let bare = format!("{{{STAMP}{}\",\"pad\":\"\"}}", "0".repeat(19));
    let pad = "x".repeat(bytes.saturating_sub(bare.len()));
    format!("{{{STAMP}{}\",\"pad\":\"{pad}\"}}", "0".repeat(19))
}

/// A bulk publish of so many events.
fn bulk(bytes: usize, batch: usize) -> String {
    let event = event(bytes);
    let entries: Vec<String> = (0..batch)
        .map(|id| format!("{{\"entryId\":\"{id}\",\"event\":{event},\"contentType\":\"application/json\"}}"))
        .collect();
    format!("[{}]", entries.join(","))
}

/// Runs and prints what was seen.
pub(crate) async fn drive(options: Options) -> anyhow::Result<()> {
    let mut request = Request::build(&options)?;
    request.key(0);
    let target = options.required("target")?.to_owned();
    let connections = options.number("connections", 1_u32)?.max(1);
    let seconds = options.number("seconds", 1.0_f64)?;
    let rate = options.number("rate", 0.0_f64)?;
    // The first request of a connection pays for name resolution and pools: it is not part of the measurement.
    let mut warm = Vec::new();
    for _ in 0..connections {
        let mut connection = connect(&target).await?;
        let status = exchange(&mut connection, &request.bytes).await?;
        anyhow::ensure!(
            (200..300).contains(&status),
            "the first request is answered with {status}"
        );
        warm.push(connection);
    }
    let start = Start::now();
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    // Requests are handed out in turn, so that a held-up connection does not hold up the rate.
    let turn = Rc::new(Cell::new(0_u64));
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = warm
        .into_iter()
        .map(|connection| {
            let work = run(
                connection,
                request.clone(),
                target.clone(),
                begun,
                until,
                rate,
                turn.clone(),
            );
            local.spawn_local(work)
        })
        .collect();
    local.await;
    let mut total = Seen::default();
    for task in tasks {
        total.add(task.await.context("a connection's task died")?);
    }
    println!("{}", total.report(&start, connections));
    Ok(())
}

async fn run(
    mut connection: Connection,
    mut request: Request,
    target: String,
    begun: Instant,
    until: Instant,
    rate: f64,
    turn: Rc<Cell<u64>>,
) -> Seen {
    let mut seen = Seen::default();
    loop {
        let mut from = Instant::now();
        let number = turn.get();
        turn.set(number + 1);
        if rate > 0.0 {
            let due = begun + Duration::from_secs_f64(number as f64 / rate);
            if due >= until {
                return seen;
            }
            sleep_until(due).await;
            let now = Instant::now();
            from = if now - due > TIMER { due } else { now };
        } else if from >= until {
            return seen;
        }
        request.stamp();
        request.key(number);
        match exchange(&mut connection, &request.bytes).await {
            Ok(status) if (200..300).contains(&status) => {
                seen.success(from.elapsed());
            }
            Ok(status) => seen.failure(format!("status {status}")),
            Err(error) => {
                seen.failure(format!("{error:#}"));
                match connect(&target).await {
                    Ok(fresh) => connection = fresh,
                    Err(_) => return seen,
                }
            }
        }
    }
}

async fn connect(target: &str) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| format!("connect to {target}"))?;
    Ok(Connection::new(stream)?)
}

/// Sends a request and reads the whole answer.
async fn exchange(connection: &mut Connection, request: &[u8]) -> anyhow::Result<u16> {
    connection.send(request).await?;
    let head = connection.head().await?.context("closed before the answer")?;
    connection.body(head.framing, None).await?;
    anyhow::ensure!(!head.closes, "the connection is closed after the answer");
    Ok(head.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(texts: &[&str]) -> Options {
        Options::parse(texts.iter().map(|text| (*text).to_owned())).unwrap()
    }

    #[test]
    fn an_event_has_the_size_asked_for() {
        assert_eq!(event(100).len(), 100);
        serde_json::from_str::<serde_json::Value>(&event(100)).unwrap();
    }

    #[test]
    fn requests_go_over_the_keys_in_turn() {
        let options = options(&["--target", "h:1", "--path", "/state/{key}", "--keys", "10"]);
        let mut request = Request::build(&options).unwrap();
        for (number, expected) in [(0, "/state/00000 "), (12, "/state/00002 ")] {
            request.key(number);
            assert!(String::from_utf8_lossy(&request.bytes).contains(expected));
        }
    }

    #[test]
    fn a_bulk_request_is_stamped_in_every_event() {
        let options = options(&[
            "--target",
            "h:1",
            "--path",
            "/b",
            "--method",
            "POST",
            "--event-bytes",
            "60",
            "--batch",
            "3",
        ]);
        let mut request = Request::build(&options).unwrap();
        assert_eq!(request.stamps.len(), 3);
        request.stamp();
        let text = String::from_utf8(request.bytes).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body[2]["event"]["at"].as_str().unwrap().starts_with('1'));
    }
}
