//! The lines of many processes on one output and in their files.
//!
//! One thread writes, so that a paused terminal stops the processes that print (their pipes fill up, as they would
//! without us) but never the supervision.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::{mpsc, watch},
    time::timeout,
};

use crate::console::{Console, Status};

/// Lines waiting to be written.
const QUEUE: usize = 1024;

/// Longer lines are cut into pieces.
const MAX_LINE: usize = 64 * 1024;

/// How long news may wait for a paused terminal before it is dropped.
const PATIENCE: Duration = Duration::from_millis(250);

/// Foreground colours of the prefixes, by turns: bright blue (the peer's), then others that read on dark and light.
const COLOURS: [&str; 6] = ["94", "95", "36", "33", "32", "35"];

/// Where the lines of one process go and how they are marked.
#[derive(Debug)]
pub(crate) struct Source {
    prefix: String,
    colour: usize,
    marked: Marked,
    console: bool,
    file: Option<Mutex<File>>,
}

/// Which lines carry the source's name; news always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// None: a lone sidecar's lines stay as they are.
    Nowhere,
    /// On the console, where many sources meet.
    Console,
    /// In the file as well, as upstream writes an app's lines.
    Everywhere,
}

impl Source {
    /// Marked lines get `== name == ` in front; `turn` chooses the colour.
    pub(crate) fn new(
        name: &str,
        turn: usize,
        marked: Marked,
        console: bool,
        file: Option<File>,
    ) -> Arc<Self> {
        let prefix = format!("== {name} == ");
        Arc::new(Self {
            prefix,
            colour: turn % COLOURS.len(),
            marked,
            console,
            file: file.map(Mutex::new),
        })
    }
}

enum Message {
    Line(Arc<Source>, Vec<u8>),
    News(Arc<Source>, String),
    Status(Status, String),
}

/// The way in.
#[derive(Debug, Clone)]
pub(crate) struct Mux {
    queue: mpsc::Sender<Message>,
    closed: watch::Receiver<bool>,
}

impl Mux {
    /// Starts the writer. The handle ends when every clone of the mux is gone.
    pub(crate) fn start(console: Console) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let (closing, closed) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("log-mux".to_owned())
            .spawn(move || write(console, inbox, &closing))?;
        Ok((Self { queue, closed }, thread))
    }

    /// A line of a process, without its end.
    async fn line(&self, source: &Arc<Source>, text: Vec<u8>) {
        let _ = self.queue.send(Message::Line(Arc::clone(source), text)).await;
    }

    /// News about a process, in its place among its lines; shown even when its lines only go to a file.
    pub(crate) async fn news(&self, source: &Arc<Source>, text: String) {
        let _ = timeout(PATIENCE, self.queue.send(Message::News(Arc::clone(source), text))).await;
    }

    /// A status line.
    pub(crate) async fn status(&self, status: Status, text: impl Into<String>) {
        let _ = timeout(PATIENCE, self.queue.send(Message::Status(status, text.into()))).await;
    }

    /// Returns when nobody reads the output any more.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        if closed.wait_for(|closed| *closed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Passes on what a process prints until it closes its end.
    pub(crate) async fn pump(self, source: Arc<Source>, mut output: impl AsyncRead + Unpin) {
        let mut pending = Vec::new();
        let mut chunk = vec![0; 8 * 1024];
        loop {
            let read = match output.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            for piece in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                pending.extend_from_slice(piece);
                if pending.ends_with(b"\n") {
                    pending.pop();
                    if pending.ends_with(b"\r") {
                        pending.pop();
                    }
                } else if pending.len() < MAX_LINE {
                    continue;
                }
                self.line(&source, std::mem::take(&mut pending)).await;
            }
        }
        if !pending.is_empty() {
            self.line(&source, pending).await;
        }
    }
}

fn write(console: Console, mut inbox: mpsc::Receiver<Message>, closing: &watch::Sender<bool>) {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut output = io::BufWriter::new(stdout);
    let mut gone = false;
    while let Some(first) = inbox.blocking_recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            let written = one(console, terminal, &mut output, message);
            gone = gone || written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
            next = inbox.try_recv().ok();
        }
        gone = gone
            || output
                .flush()
                .is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if gone {
            closing.send_replace(true);
        }
    }
    let _ = output.flush();
}

fn one(console: Console, terminal: bool, output: &mut impl io::Write, message: Message) -> io::Result<()> {
    let (source, text, shown, in_console, in_file) = match message {
        Message::Status(status, text) => return output.write_all(console.line(status, &text).as_bytes()),
        Message::News(source, text) => (source, text.into_bytes(), true, true, true),
        Message::Line(source, text) => {
            let marked = source.marked;
            let shown = source.console;
            (
                source,
                text,
                shown,
                marked != Marked::Nowhere,
                marked == Marked::Everywhere,
            )
        }
    };
    if let Some(file) = &source.file {
        // Files hold text, not colours (upstream's log writer strips them too).
        let mut line = if in_file {
            source.prefix.clone().into_bytes()
        } else {
            Vec::new()
        };
        line.extend(without_colours(&text));
        line.push(b'\n');
        // A full disk must not end the run; the console still has the line.
        let _ = file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .write_all(&line);
    }
    if !shown {
        return Ok(());
    }
    if in_console && console.colour() {
        write!(
            output,
            "\x1b[{};1m{}\x1b[0m",
            COLOURS[source.colour], source.prefix
        )?;
    } else if in_console {
        output.write_all(source.prefix.as_bytes())?;
    }
    if terminal {
        output.write_all(&text)?;
    } else {
        output.write_all(&without_colours(&text))?;
    }
    output.write_all(b"\n")
}

/// Drops the sequences that set colours (`ESC [ digits and semicolons m`).
fn without_colours(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(escape) = rest.iter().position(|byte| *byte == 0x1b) {
        plain.extend_from_slice(&rest[..escape]);
        rest = &rest[escape..];
        let sequence = rest
            .strip_prefix(b"\x1b[")
            .and_then(|tail| {
                tail.iter()
                    .position(|byte| !(byte.is_ascii_digit() || *byte == b';'))
                    .map(|end| (tail, end))
            })
            .filter(|(tail, end)| tail[*end] == b'm');
        rest = match sequence {
            Some((tail, end)) => &tail[end + 1..],
            None => {
                plain.push(0x1b);
                &rest[1..]
            }
        };
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_are_dropped() {
        assert_eq!(
            without_colours(b"\x1b[31;1mred\x1b[0m and \x1b[2K \x1b"),
            b"red and \x1b[2K \x1b"
        );
        assert_eq!(without_colours(b"plain"), b"plain");
    }

    #[test]
    fn files_hold_prefixed_plain_lines() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a.log");
        let source = Source::new(
            "APP - a",
            0,
            Marked::Everywhere,
            true,
            Some(File::create(&path).unwrap()),
        );
        let console = Console::new(false, &outrigger_types::Environment::default());
        let mut output = Vec::new();
        let message = Message::Line(Arc::clone(&source), b"\x1b[31mhello\x1b[0m".to_vec());
        one(console, false, &mut output, message).unwrap();
        assert_eq!(output, b"== APP - a == hello\n");
        assert_eq!(std::fs::read(path).unwrap(), output);
    }

    #[test]
    fn a_source_for_files_only_still_shows_news() {
        let source = Source::new("DAPRD", 0, Marked::Console, false, None);
        let console = Console::new(false, &outrigger_types::Environment::default());
        let mut output = Vec::new();
        one(
            console,
            false,
            &mut output,
            Message::Line(Arc::clone(&source), b"quiet".to_vec()),
        )
        .unwrap();
        one(
            console,
            false,
            &mut output,
            Message::News(source, "restarting in 100ms".to_owned()),
        )
        .unwrap();
        assert_eq!(output, b"== DAPRD == restarting in 100ms\n");
    }
}
