//! The app behind a sidecar: echoes, swallows, and takes events.

use std::{cell::RefCell, io, rc::Rc};

use memchr::memmem;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    clock::{cpu_millis, nanos},
    connection::Connection,
    grpc_app,
    options::Options,
    samples::Samples,
};

/// Marks the moment of sending inside an event; 19 digits follow.
pub(crate) const STAMP: &str = "\"at\":\"";

/// Events that arrived since the last question.
#[derive(Debug, Default)]
struct Deliveries {
    count: u64,
    first: u64,
    last: u64,
    latency: Samples,
}

impl Deliveries {
    fn take(&mut self, body: &[u8]) {
        let now = nanos();
        for at in memmem::find_iter(body, STAMP) {
            let digits = body
                .get(at + STAMP.len()..at + STAMP.len() + 19)
                .unwrap_or_default();
            let sent = std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse::<u64>().ok());
            self.count += 1;
            // An unstamped event is a connection's first: it arrives, but is not measured.
            if let Some(sent) = sent.filter(|sent| *sent > 0) {
                self.latency.add(now.saturating_sub(sent));
            }
            if self.first == 0 {
                self.first = now;
            }
            self.last = now;
        }
    }

    /// What arrived; the next question starts at nothing when `reset`.
    fn report(&mut self, reset: bool) -> Value {
        let mut report = self.latency.percentiles();
        report["delivered"] = json!(self.count);
        report["seconds"] = json!((self.last - self.first) as f64 / 1e9);
        report["first_ns"] = json!(self.first);
        report["last_ns"] = json!(self.last);
        report["cpu_ms"] = json!(cpu_millis());
        if reset {
            self.count = 0;
            self.first = 0;
            self.last = 0;
            self.latency.clear();
        }
        report
    }
}

/// Serves until killed; prints the port first.
pub(crate) async fn serve(options: Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    if options.text("grpc").is_some() {
        return grpc_app::serve(listener).await;
    }
    let subscriptions: Rc<str> = match options.text("subscribe") {
        Some(pubsub) => subscriptions(pubsub).to_string().into(),
        None => "[]".into(),
    };
    let deliveries = Rc::new(RefCell::new(Deliveries::default()));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let (subscriptions, deliveries) = (subscriptions.clone(), deliveries.clone());
                tokio::task::spawn_local(async move {
                    // A sidecar that leaves ends its connections; nobody is left to tell.
                    let _ = connection(stream, &subscriptions, &deliveries).await;
                });
            }
        })
        .await
}

fn subscriptions(pubsub: &str) -> Value {
    json!([
        { "pubsubname": pubsub, "topic": "single", "route": "/single" },
        {
            "pubsubname": pubsub,
            "topic": "bulk",
            "route": "/bulk",
            "bulkSubscribe": { "enabled": true, "maxMessagesCount": 100, "maxAwaitDurationMs": 10 },
        },
    ])
}

async fn connection(
    stream: TcpStream,
    subscriptions: &str,
    deliveries: &RefCell<Deliveries>,
) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    let mut body = Vec::new();
    let mut reply = Vec::new();
    while let Some(head) = connection.head().await? {
        if head.expects_continue {
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let (_, path) = head.request();
        reply.clear();
        if path == "/sink" {
            let bytes = connection.body(head.framing, None).await?;
            answer(&mut reply, 200, json!({ "bytes": bytes }).to_string().as_bytes());
        } else {
            connection.body(head.framing, Some(&mut body)).await?;
            match path {
                "/echo" => answer(&mut reply, 200, &body),
                "/single" => {
                    deliveries.borrow_mut().take(&body);
                    answer(&mut reply, 200, b"");
                }
                "/bulk" => {
                    deliveries.borrow_mut().take(&body);
                    answer(&mut reply, 200, &statuses(&body));
                }
                "/dapr/subscribe" => answer(&mut reply, 200, subscriptions.as_bytes()),
                "/healthz" => answer(&mut reply, 200, b""),
                // Counting is cheap, percentiles are not.
                "/delivered" => {
                    let count = deliveries.borrow().count;
                    answer(&mut reply, 200, count.to_string().as_bytes());
                }
                "/measured" => answer(
                    &mut reply,
                    200,
                    deliveries.borrow_mut().report(false).to_string().as_bytes(),
                ),
                "/measured/reset" => {
                    answer(
                        &mut reply,
                        200,
                        deliveries.borrow_mut().report(true).to_string().as_bytes(),
                    );
                }
                _ => answer(&mut reply, 404, b""),
            }
        }
        connection.send(&reply).await?;
        if head.closes {
            break;
        }
    }
    Ok(())
}

fn answer(reply: &mut Vec<u8>, status: u16, body: &[u8]) {
    let reason = if status == 200 { "OK" } else { "Not Found" };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    reply.extend_from_slice(head.as_bytes());
    reply.extend_from_slice(body);
}

/// Success for every entry of a bulk delivery.
fn statuses(body: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b"\"entryId\":\"";
    let mut reply = b"{\"statuses\":[".to_vec();
    for (index, at) in memmem::find_iter(body, KEY).enumerate() {
        let id = &body[at + KEY.len()..];
        let id = &id[..memchr::memchr(b'"', id).unwrap_or(0)];
        if index > 0 {
            reply.push(b',');
        }
        reply.extend_from_slice(b"{\"entryId\":\"");
        reply.extend_from_slice(id);
        reply.extend_from_slice(b"\",\"status\":\"SUCCESS\"}");
    }
    reply.extend_from_slice(b"]}");
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_gets_a_status() {
        let reply = statuses(br#"{"entries":[{"entryId":"a","event":{}},{"entryId":"b","event":{}}]}"#);
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(
            reply["statuses"][1],
            json!({ "entryId": "b", "status": "SUCCESS" })
        );
    }

    #[test]
    fn deliveries_count_every_stamp() {
        let mut deliveries = Deliveries::default();
        deliveries.take(br#"{"data":{"at":"1000000000000000000"}},{"data":{"at":"1000000000000000001"}}"#);
        deliveries.take(br#"{"data":{"at":"0000000000000000000"}}"#);
        assert_eq!(deliveries.latency.len(), 2);
        assert_eq!(deliveries.report(true)["delivered"], 3);
        assert_eq!(deliveries.report(false)["delivered"], 0);
    }
}
