//! One connection, as the manager sees it. One task reads its socket, writes to it and keeps its machine going; nobody
//! else touches those.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use outrigger_kit::CancellationToken;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use crate::clerk::Clerk;
use crate::dial::{DialError, Dialer};
use crate::events::content_type;
use crate::machine::{Effect, Machine, State};
use crate::outlet::{Counters, Outlet};
use crate::record::Status;
use crate::request::Waiting;
use crate::target::Target;
use crate::task::{Story, Task};

/// What is to be sent and waits for its turn.
pub(crate) const COMMANDS: usize = 256;

/// What those see of a connection who look from outside.
#[derive(Debug, Default)]
pub(crate) struct View {
    status: AtomicU8,
    /// 0 nothing came yet, 1 text, 2 binary.
    last: AtomicU8,
    pub(crate) counters: Arc<Counters>,
}

impl View {
    const ALL: [Status; 6] = [
        Status::Unknown,
        Status::Connecting,
        Status::Connected,
        Status::Reconnecting,
        Status::Disconnected,
        Status::Error,
    ];

    pub(crate) fn status(&self) -> Status {
        let index = usize::from(self.status.load(Ordering::Acquire));
        Self::ALL.get(index).copied().unwrap_or_default()
    }

    /// A message came.
    pub(crate) fn came(&self, is_text: bool) {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        self.last.store(if is_text { 1 } else { 2 }, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, status: Status) {
        let index = Self::ALL.iter().position(|known| *known == status).unwrap_or(0);
        self.status
            .store(u8::try_from(index).unwrap_or(0), Ordering::Release);
    }

    /// Of the last message that came; empty before the first.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.last.load(Ordering::Relaxed) {
            0 => "",
            last => content_type(last == 1),
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// There is no open connection now.
    #[error("the connection is not open")]
    NotOpen,
    /// It broke while the message was written.
    #[error("the message could not be sent: {0}")]
    Broken(String),
}

/// What a connection's task is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Message, oneshot::Sender<Result<(), SendError>>),
    /// With the reason.
    Leave(&'static str),
    Retire,
}

/// The way to a connection's task. When all are dropped, the connection ends.
#[derive(Debug)]
pub(crate) struct Link {
    commands: mpsc::Sender<Command>,
    url: String,
    pub(crate) view: Arc<View>,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) waiting: Arc<Waiting>,
    /// What became of the first attempt to open it.
    tried: Arc<Tried>,
    gone: CancellationToken,
}

/// What became of the first attempt.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    outcome: OnceLock<Result<(), DialError>>,
    decided: CancellationToken,
}

impl Tried {
    /// Later attempts change nothing.
    pub(crate) fn decide(&self, outcome: &Result<(), DialError>) {
        if !self.decided.is_cancelled() {
            let _ = self.outcome.set(outcome.clone());
            self.decided.cancel();
        }
    }
}

/// What a connection's task is made of.
pub(crate) struct Parts {
    pub(crate) target: Target,
    pub(crate) dialer: Dialer,
    pub(crate) machine: (Machine, Vec<Effect>),
    pub(crate) clerk: Clerk,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) view: Arc<View>,
    pub(crate) ping_every: Duration,
    /// A connection that has been open for so long is steady.
    pub(crate) steady_after: Duration,
}

impl Link {
    /// A connection, and its work.
    pub(crate) fn new(parts: Parts) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (machine, effects) = parts.machine;
        let link = Self {
            commands,
            url: parts.target.text.clone(),
            view: parts.view.clone(),
            outlet: parts.outlet.clone(),
            waiting: Arc::default(),
            tried: Arc::default(),
            gone: CancellationToken::new(),
        };
        if machine.state() == State::Over {
            parts.view.set(Status::Disconnected);
        }
        let task = Task {
            story: Story {
                machine,
                view: parts.view,
                clerk: parts.clerk,
            },
            socket: None,
            target: parts.target,
            dialer: parts.dialer,
            stuck: parts.outlet.stuck(),
            outlet: parts.outlet,
            waiting: link.waiting.clone(),
            commands: receiver,
            held: None,
            ping_every: parts.ping_every,
            steady_after: parts.steady_after,
            tried: link.tried.clone(),
            decided: None,
        };
        // Whatever ends the task.
        let at_end = (link.gone.clone().drop_guard(), link.outlet.finish_on_drop());
        let work = async move {
            task.run(effects).await;
            drop(at_end);
        };
        (link, work)
    }

    /// Where it leads.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a message; returns when it is written.
    pub(crate) async fn send(&self, message: Message) -> Result<(), SendError> {
        let (done, outcome) = oneshot::channel();
        let sent = self.commands.send(Command::Send(message, done)).await;
        sent.map_err(|_| SendError::NotOpen)?;
        outcome.await.unwrap_or(Err(SendError::NotOpen))
    }

    /// Closes it because it is not wanted any longer, and says why; returns when it is closed.
    pub(crate) async fn leave(&self, why: &'static str) {
        self.end(Command::Leave(why)).await;
    }

    /// Closes it because somebody else holds it, or the service ends.
    pub(crate) async fn retire(&self) {
        self.end(Command::Retire).await;
    }

    async fn end(&self, command: Command) {
        // A task that is gone takes no commands.
        let _ = self.commands.send(command).await;
        self.gone.cancelled().await;
    }

    /// Waits until what it received before its end has left, or could not within some seconds.
    pub(crate) async fn drained(&self) {
        self.outlet.drained().await;
    }

    /// Waits until the first attempt to open it is decided: what came of it, `None` where it was ended before.
    pub(crate) async fn tried(&self) -> Option<Result<(), DialError>> {
        tokio::select! {
            () = self.tried.decided.cancelled() => {}
            () = self.gone.cancelled() => {}
        }
        self.tried.outcome.get().cloned()
    }

    /// Whether its first attempt failed and nothing came after it.
    pub(crate) fn is_stillborn(&self) -> bool {
        self.view.status() == Status::Disconnected && matches!(self.tried.outcome.get(), Some(Err(_)))
    }
}
