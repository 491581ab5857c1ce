//! What a worker writes to standard error: warnings in the host's log, as many as the log can bear.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;
use tokio::time::Instant;
use tracing::warn;

/// Bytes of one line; the rest of a longer one is thrown away.
const LINE: usize = 2048;
/// Within this time at most so many lines are logged, and so many bytes read: a worker that writes faster waits.
const WINDOW: Duration = Duration::from_secs(1);
const LINES: usize = 20;
const BYTES: usize = 256 << 10;
/// Lines kept to say why a process ended.
const KEPT: usize = 5;

/// The last lines of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// The last one, if any.
    pub(crate) fn last(&self) -> Option<String> {
        self.0.lock().back().cloned()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads until the process ends.
pub(crate) async fn follow(mut stderr: ChildStderr, worker: String, kept: LastLines) {
    let mut buffer = vec![0; 16 << 10];
    let mut line = Vec::new();
    let mut window = Window::new();
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        for byte in &buffer[..count] {
            match byte {
                b'\n' => window.say(&worker, &kept, &mut line),
                byte if line.len() < LINE => line.push(*byte),
                _ => {}
            }
        }
        window.read += count;
        if window.read > BYTES {
            tokio::time::sleep_until(window.end).await;
        }
        if Instant::now() >= window.end {
            window.close(&worker);
        }
    }
    if !line.is_empty() {
        window.say(&worker, &kept, &mut line);
    }
    window.close(&worker);
}

struct Window {
    end: Instant,
    lines: usize,
    left_out: usize,
    read: usize,
}

impl Window {
    fn new() -> Self {
        Self {
            end: Instant::now() + WINDOW,
            lines: 0,
            left_out: 0,
            read: 0,
        }
    }

    fn say(&mut self, worker: &str, kept: &LastLines, line: &mut Vec<u8>) {
        if self.lines < LINES {
            self.lines += 1;
            let text = printable(line);
            warn!(worker, line = text, "a worker writes to standard error");
            kept.push(text);
        } else {
            self.left_out += 1;
        }
        line.clear();
    }

    fn close(&mut self, worker: &str) {
        if self.left_out > 0 {
            warn!(worker, lines = self.left_out, "lines of a worker are left out");
        }
        *self = Self::new();
    }
}

/// What a worker says, cut to a length and without what steers a terminal.
pub(crate) fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(2 * LINE)])
        .trim_end()
        .chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cannot_steer_a_terminal() {
        assert_eq!(printable(b"\x1b[2Jhi\xff\r\n"), "\u{fffd}[2Jhi\u{fffd}");
    }
}
