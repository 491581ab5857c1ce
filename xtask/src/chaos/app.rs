//! The app: takes numbered events and remembers when each came, and how often; answers calls with their body.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

/// Marks the number inside an event.
pub(crate) const NUMBER: &str = "\"n\":";
/// What an event takes the app: so that some are under way whenever something goes wrong.
const WORK: Duration = Duration::from_millis(2);
/// The largest body that is read.
const MAX_BODY: usize = 1 << 20;

/// Deliveries of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) first: Instant,
    pub(crate) count: u32,
}

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    pub(crate) by_number: HashMap<u64, Delivery>,
    pub(crate) dead: u64,
}

/// What one instance got to do.
#[derive(Debug, Default)]
struct Done {
    calls: AtomicU64,
    events: AtomicU64,
}

/// An app on a port of its own; it ends with this program.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) port: u16,
    deliveries: Arc<Mutex<Deliveries>>,
    done: Arc<Done>,
}

impl App {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::listen(Arc::default())
    }

    /// Another instance of this app, on another port: what is delivered to it counts as delivered here.
    pub(crate) fn another(&self) -> anyhow::Result<Self> {
        Self::listen(Arc::clone(&self.deliveries))
    }

    /// Calls that this instance answered so far, and events that it took.
    pub(crate) fn done(&self) -> (u64, u64) {
        (
            self.done.calls.load(Ordering::Relaxed),
            self.done.events.load(Ordering::Relaxed),
        )
    }

    fn listen(deliveries: Arc<Mutex<Deliveries>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the sidecar")?;
        let app = Self {
            port: listener.local_addr()?.port(),
            deliveries,
            done: Arc::default(),
        };
        let serving = app.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let app = serving.clone();
                // A sidecar that is killed ends its connections in the middle.
                thread::spawn(move || app.serve(&stream).ok());
            }
        });
        Ok(app)
    }

    /// Looks at what arrived.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Deliveries) -> T) -> T {
        at(&self.deliveries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&self, stream: &TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).context("a request has a path")?.to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let header = header.trim();
                if header.is_empty() {
                    break;
                }
                if let Some((name, value)) = header.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse()?;
                }
            }
            anyhow::ensure!(length <= MAX_BODY, "a body of {length} bytes");
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let (status, answer) = self.answer(&path, &body);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            let mut writer = stream;
            writer.write_all(&[head.as_bytes(), &answer].concat())?;
        }
    }

    fn answer<'a>(&self, path: &str, body: &'a [u8]) -> (&'static str, Cow<'a, [u8]>) {
        let text = |text: &'static str| Cow::Borrowed(text.as_bytes());
        match path {
            "/dapr/subscribe" => (
                "200 OK",
                text(
                    r#"[{"pubsubname":"bus","topic":"numbers","route":"/numbers","deadLetterTopic":"dead"},
                    {"pubsubname":"bus","topic":"dead","route":"/dead"}]"#,
                ),
            ),
            "/echo" => {
                self.done.calls.fetch_add(1, Ordering::Relaxed);
                ("200 OK", Cow::Borrowed(body))
            }
            "/numbers" => {
                self.done.events.fetch_add(1, Ordering::Relaxed);
                thread::sleep(WORK);
                if let Some(number) = number(&String::from_utf8_lossy(body)) {
                    let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
                    deliveries
                        .by_number
                        .entry(number)
                        .and_modify(|delivery| delivery.count += 1)
                        .or_insert_with(|| Delivery {
                            first: Instant::now(),
                            count: 1,
                        });
                }
                ("200 OK", text(r#"{"status":"SUCCESS"}"#))
            }
            "/dead" => {
                self.deliveries
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .dead += 1;
                ("200 OK", text(r#"{"status":"SUCCESS"}"#))
            }
            "/healthz" => ("200 OK", text("{}")),
            _ => ("404 Not Found", text("{}")),
        }
    }
}

/// The number in an event.
fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(NUMBER)?;
    let digits = rest.trim_start();
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn the_number_of_an_event_is_found_in_its_envelope() {
        assert_eq!(
            number(r#"{"id":"9","data":{"n": 17},"topic":"numbers"}"#),
            Some(17)
        );
        assert_eq!(number(r#"{"data":{"n":4}}"#), Some(4));
        assert_eq!(number(r#"{"data":{"m":4}}"#), None);
    }
}
