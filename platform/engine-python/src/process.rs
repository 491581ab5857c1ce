//! One process of one worker: its start, its frames, its end.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use outrigger_platform_engine::{EngineError, WorkerContext};
use outrigger_platform_sandbox::{Confined, EXIT_REFUSED, Launcher, Policy, Usage};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::frames::{self, FromWorker, Load};
use crate::interpreter::Interpreter;
use crate::settings::PythonSettings;
use crate::stderr::{self, LastLines};

/// How long a process that closed its socket, or was killed, may take to be gone.
const END: Duration = Duration::from_secs(2);
/// How long its last words may take to be read once it is gone.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Frames that are read before they are taken.
const FRAMES_AHEAD: usize = 2;
/// Frames above this many bytes are read on a thread of their own, beside the executor.
const LARGE: usize = 128 << 10;

/// What all processes of an engine have in common.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) settings: PythonSettings,
    pub(crate) interpreter: Interpreter,
    pub(crate) launcher: Launcher,
    pub(crate) policy: Policy,
}

/// A process that has loaded the code. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    confined: Confined,
    inbox: mpsc::Receiver<Said>,
    outbox: mpsc::Sender<Bytes>,
    lines: LastLines,
    // Ends when the process does, as the reader of frames does; their writer ends with the outbox.
    stderr: JoinHandle<()>,
}

/// What a process said, or that it says no more.
#[derive(Debug)]
pub(crate) enum Said {
    /// A frame.
    Frame(FromWorker),
    /// Something that is no frame: the process is not to be trusted any further.
    Nonsense(String),
    /// Its end of the socket is closed.
    End,
}

impl Launch {
    /// Starts a process and has it load the code.
    ///
    /// Cancel-safe: the process is killed.
    ///
    /// # Errors
    /// [`EngineError::Load`] in Python's words; [`EngineError::Unavailable`] if the walls cannot be built;
    /// [`EngineError::Timeout`] and [`EngineError::Crashed`] as they are named.
    pub(crate) async fn start(&self, context: &WorkerContext, code: &str) -> Result<Process, EngineError> {
        let limit = self.settings.start_timeout;
        let mut process = self.spawn(context).await?;
        let ready = async {
            process.send(self.first_frame(context, code)?)?;
            match process.next().await {
                Said::Frame(FromWorker::Ready) => Ok(()),
                Said::Frame(FromWorker::Error { id: None, message }) => {
                    Err(EngineError::Load(stderr::printable(message.as_bytes())))
                }
                Said::Frame(_) => Err(EngineError::Crashed("it spoke before it was ready".to_owned())),
                Said::Nonsense(why) => Err(EngineError::Crashed(why)),
                Said::End => Err(process.end().await),
            }
        };
        tokio::time::timeout(limit, ready)
            .await
            .map_err(|_| EngineError::Timeout(limit))??;
        Ok(process)
    }

    async fn spawn(&self, context: &WorkerContext) -> Result<Process, EngineError> {
        let unavailable =
            |error: std::io::Error| EngineError::Unavailable(format!("no process can be started: {error}"));
        let (confined, streams) = self.launcher.start(&self.policy).await.map_err(unavailable)?;
        let (read, write) = streams.control.into_split();
        let codec = || frames::codec(self.settings.frame_limit);
        // Room for all events at a time, a ping and a farewell.
        let (outbox, to_write) = mpsc::channel(self.settings.concurrency + 4);
        // A process that says more than is taken from here waits.
        let (said, inbox) = mpsc::channel(FRAMES_AHEAD);
        let lines = LastLines::default();
        tokio::spawn(write_frames(FramedWrite::new(write, codec()), to_write));
        tokio::spawn(read_frames(FramedRead::new(read, codec()), said));
        let stderr = tokio::spawn(stderr::follow(streams.stderr, context.id.clone(), lines.clone()));
        Ok(Process {
            confined,
            inbox,
            outbox,
            lines,
            stderr,
        })
    }

    fn first_frame(&self, context: &WorkerContext, code: &str) -> Result<Bytes, EngineError> {
        let settings = &self.settings;
        let texts =
            |paths: &[std::path::PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
        let frame = Load {
            name: &frames::file_name(context),
            code,
            imports: &settings.imports,
            readable: texts(&self.interpreter.readable(settings)),
            path: texts(self.interpreter.packages(settings)),
            concurrency: settings.concurrency.max(1),
            limit: settings.frame_limit,
        };
        let frame = serde_json::to_vec(&frame).map_err(|error| EngineError::Load(error.to_string()))?;
        if frame.len() > settings.frame_limit {
            let (size, limit) = (code.len(), settings.frame_limit);
            return Err(EngineError::Load(format!(
                "the code has {size} bytes; less than {limit} are allowed"
            )));
        }
        Ok(frame.into())
    }
}

impl Process {
    /// Puts a frame on its way, without waiting for it to arrive.
    ///
    /// # Errors
    /// [`EngineError::Crashed`] if the process does not read.
    pub(crate) fn send(&self, frame: Bytes) -> Result<(), EngineError> {
        self.outbox
            .try_send(frame)
            .map_err(|_| EngineError::Crashed("it does not read what it is sent".to_owned()))
    }

    /// Waits for what it says next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Said {
        self.inbox.recv().await.unwrap_or(Said::End)
    }

    /// What it uses of the machine; nothing if it is gone.
    pub(crate) fn usage(&self) -> Option<Usage> {
        Usage::of(self.confined.pid).ok()
    }

    /// Waits for its end and says why it came.
    pub(crate) async fn end(&mut self) -> EngineError {
        let status = match tokio::time::timeout(END, self.confined.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return EngineError::Crashed(error.to_string()),
            Err(_) => return EngineError::Crashed("it closed its socket".to_owned()),
        };
        // So that its last words are here, if there are any.
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.stderr).await;
        let last = self.lines.last();
        if status.code() == Some(i32::from(EXIT_REFUSED)) {
            return EngineError::Unavailable(last.unwrap_or_else(|| "the sandbox refused".to_owned()));
        }
        let why = describe(status);
        EngineError::Crashed(match last {
            Some(line) => format!("{why}; its last words: {line}"),
            None => why,
        })
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        let _ = tokio::time::timeout(END, self.confined.child.kill()).await;
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) async fn shut_down(mut self) {
        if self.send(frames::shutdown()).is_ok() {
            let _ = tokio::time::timeout(END, self.confined.child.wait()).await;
        }
        self.kill().await;
    }
}

async fn write_frames(
    mut socket: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
    mut inbox: mpsc::Receiver<Bytes>,
) {
    while let Some(frame) = inbox.recv().await {
        if socket.send(frame).await.is_err() {
            return;
        }
    }
    let _ = socket.into_inner().shutdown().await;
}

/// Reads until the process ends, or says nonsense, or nobody listens. In a task of its own, as a large frame takes
/// longer to read than who waits for it may go without looking at the process.
async fn read_frames(mut socket: FramedRead<OwnedReadHalf, LengthDelimitedCodec>, said: mpsc::Sender<Said>) {
    loop {
        let next = match socket.next().await {
            Some(Ok(body)) => parse(body).await,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Said::Nonsense("it sent a frame that is too large".to_owned())
            }
            Some(Err(_)) | None => return,
        };
        let last = matches!(next, Said::Nonsense(_));
        if said.send(next).await.is_err() || last {
            return;
        }
    }
}

async fn parse(body: BytesMut) -> Said {
    let parsed = if body.len() > LARGE {
        tokio::task::spawn_blocking(move || frames::parse(&body)).await
    } else {
        Ok(frames::parse(&body))
    };
    match parsed {
        Ok(Ok(frame)) => Said::Frame(frame),
        Ok(Err(error)) => Said::Nonsense(format!("it sent what is no frame: {error}")),
        Err(error) => Said::Nonsense(format!("its frame cannot be read: {error}")),
    }
}

fn describe(status: ExitStatus) -> String {
    // Numbers as on every architecture of Linux that there are filters for.
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(31)) => "killed for a forbidden system call (SIGSYS)".to_owned(),
        (None, Some(24)) => "killed at the end of its processor time (SIGXCPU)".to_owned(),
        (None, Some(9)) => "killed (SIGKILL)".to_owned(),
        (None, Some(11)) => "a memory fault (SIGSEGV)".to_owned(),
        (None, Some(6)) => "it aborted (SIGABRT)".to_owned(),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}
