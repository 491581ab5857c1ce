//! One connection: the thin shell around its state machine. One task reads the socket, writes to it and keeps its
//! machine going; nobody else touches it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use outrigger_kit::CancellationToken;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::clerk::{Clerk, status};
use crate::dial::{DialError, Dialer, Socket, failure};
use crate::events::{Received, content_type};
use crate::machine::{Effect, Failure, Input, Machine, State};
use crate::outlet::{Counters, Held, Outlet};
use crate::record::Status;
use crate::request::Waiting;
use crate::target::Target;

/// What is to be sent and waits for its turn.
const COMMANDS: usize = 256;
/// A message that cannot be written for this long breaks the connection.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long the server may take to answer a goodbye.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// No code in the server's goodbye (RFC 6455, 7.1.5).
const NO_CODE: u16 = 1005;

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

    fn set(&self, status: Status) {
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

#[derive(Debug)]
enum Command {
    Send(Message, oneshot::Sender<Result<(), SendError>>),
    Leave,
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
    /// Set when the first attempt of a restored connection is decided.
    tried: CancellationToken,
    gone: CancellationToken,
}

/// How a connection's task begins.
pub(crate) enum Start {
    /// With an open socket.
    Opened(Box<Socket>),
    /// With an attempt to open one.
    Restored,
    /// Closed for good.
    Over,
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
}

impl Link {
    /// A connection, and its work.
    pub(crate) fn new(parts: Parts, start: Start) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (machine, effects) = parts.machine;
        let link = Self {
            commands,
            url: parts.target.text.clone(),
            view: parts.view.clone(),
            outlet: parts.outlet.clone(),
            waiting: Arc::default(),
            tried: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let task = Task {
            machine,
            socket: match start {
                Start::Opened(socket) => Some(*socket),
                Start::Restored | Start::Over => None,
            },
            target: parts.target,
            dialer: parts.dialer,
            clerk: parts.clerk,
            outlet: parts.outlet,
            view: parts.view,
            waiting: link.waiting.clone(),
            commands: receiver,
            held: None,
            ping_every: parts.ping_every,
            tried: link.tried.clone(),
        };
        if task.machine.state() == State::Over {
            task.view.set(Status::Disconnected);
        }
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

    /// Closes it because the user wants to; returns when it is closed.
    pub(crate) async fn leave(&self) {
        self.end(Command::Leave).await;
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

    /// Waits until the first attempt of a restored connection is decided.
    pub(crate) async fn tried(&self) {
        tokio::select! {
            () = self.tried.cancelled() => {}
            () = self.gone.cancelled() => {}
        }
    }
}

struct Task {
    machine: Machine,
    socket: Option<Socket>,
    target: Target,
    dialer: Dialer,
    clerk: Clerk,
    outlet: Arc<Outlet>,
    view: Arc<View>,
    waiting: Arc<Waiting>,
    commands: mpsc::Receiver<Command>,
    /// A message that came just before the connection was lost, and had no space.
    held: Option<Held>,
    ping_every: Duration,
    tried: CancellationToken,
}

/// What a task does between two inputs of its machine.
enum Doing {
    Opening,
    Waiting(Duration),
    Talking,
    Nothing,
}

impl Task {
    async fn run(mut self, effects: Vec<Effect>) {
        let mut effects = effects;
        loop {
            let mut doing = if self.socket.is_some() {
                Doing::Talking
            } else {
                Doing::Nothing
            };
            for effect in effects {
                match effect {
                    Effect::Open => doing = Doing::Opening,
                    Effect::Wait(wait) => doing = Doing::Waiting(wait),
                    Effect::Close => self.close().await,
                    Effect::Tell(told) => {
                        self.view.set(status(&told));
                        self.clerk.tell(told);
                    }
                }
            }
            let input = match doing {
                Doing::Talking => self.talk().await,
                Doing::Opening => self.open().await,
                Doing::Waiting(wait) => match self.meanwhile(tokio::time::sleep(wait)).await {
                    ControlFlow::Break(input) => input,
                    ControlFlow::Continue(()) => Input::Due,
                },
                Doing::Nothing if self.machine.state() == State::Gone => break,
                Doing::Nothing => match self.meanwhile(std::future::pending::<()>()).await {
                    ControlFlow::Break(input) => input,
                    ControlFlow::Continue(()) => Input::Retire,
                },
            };
            if !matches!(input, Input::Leave | Input::Retire) {
                self.socket = self.socket.take().filter(|_| input == Input::Opened);
            }
            if matches!(doing, Doing::Opening) {
                self.tried.cancel();
            }
            effects = self.machine.step(input, random());
        }
        if let Some(held) = self.held.take() {
            self.outlet.give_up(held);
        }
    }

    async fn open(&mut self) -> Input {
        let (dialer, target) = (self.dialer.clone(), self.target.clone());
        match self.meanwhile(dialer.dial(&target)).await {
            ControlFlow::Break(input) => input,
            ControlFlow::Continue(Ok(socket)) => {
                self.socket = Some(socket);
                Input::Opened
            }
            ControlFlow::Continue(Err(DialError::Failed(failure))) => Input::Refused(failure),
            ControlFlow::Continue(Err(error @ DialError::Refused(_))) => Input::Refused(Failure {
                kind: "refused",
                message: error.to_string(),
            }),
        }
    }

    /// Waits for something without an open socket, and for commands.
    async fn meanwhile<T>(&mut self, something: impl Future<Output = T>) -> ControlFlow<Input, T> {
        tokio::pin!(something);
        loop {
            tokio::select! {
                outcome = &mut something => return ControlFlow::Continue(outcome),
                command = self.commands.recv() => match command {
                    Some(Command::Send(_, done)) => {
                        let _ = done.send(Err(SendError::NotOpen));
                    }
                    Some(Command::Leave) => return ControlFlow::Break(Input::Leave),
                    Some(Command::Retire) | None => return ControlFlow::Break(Input::Retire),
                },
            }
        }
    }

    /// Reads and writes until something happens to the connection.
    async fn talk(&mut self) -> Input {
        let Some(socket) = self.socket.take() else {
            return Input::Failed(Failure {
                kind: "protocol",
                message: "there is no socket".to_owned(),
            });
        };
        let mut talk = Talk {
            socket,
            opening: uuid::Uuid::new_v4().to_string().into(),
            sequence: 0,
            held: self.held.take(),
            goodbye: None,
            view: &self.view,
            outlet: &self.outlet,
            waiting: &self.waiting,
        };
        let input = talk.run(&mut self.commands, self.ping_every).await;
        self.held = talk.held;
        self.socket = Some(talk.socket);
        // Whoever waits for an answer would wait in vain.
        self.waiting.give_up();
        input
    }

    async fn close(&mut self) {
        let Some(mut socket) = self.socket.take() else {
            return;
        };
        let farewell = async {
            let frame = CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            };
            socket.close(Some(frame)).await?;
            // Until the server has said goodbye too.
            while let Some(message) = socket.next().await {
                message?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = timeout(CLOSE_TIME, farewell).await {
            tracing::debug!(%error, "a connection did not close in order");
        }
    }
}

/// One opening of a connection.
struct Talk<'a> {
    socket: Socket,
    /// Tells this opening from others.
    opening: Arc<str>,
    sequence: u64,
    /// A message for which the outlet has no space. While there is one, nothing is read.
    held: Option<Held>,
    /// The server's.
    goodbye: Option<(u16, String)>,
    view: &'a View,
    outlet: &'a Outlet,
    waiting: &'a Waiting,
}

impl Talk<'_> {
    async fn run(&mut self, commands: &mut mpsc::Receiver<Command>, ping_every: Duration) -> Input {
        let mut pings = tokio::time::interval_at(Instant::now() + ping_every, ping_every);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut heard, mut unheard) = (true, 0);
        loop {
            let says_goodbye = self.goodbye.is_some();
            let happened = tokio::select! {
                message = self.socket.next(), if self.held.is_none() => {
                    heard = true;
                    self.hear(message)
                }
                space = async {
                    match &self.held {
                        Some(held) => self.outlet.space(held).await,
                        None => std::future::pending().await,
                    }
                } => {
                    if let (Some(held), Some(space)) = (self.held.take(), space) {
                        self.outlet.put(held, space);
                    }
                    heard = true;
                    ControlFlow::Continue(())
                }
                command = commands.recv() => match command {
                    Some(Command::Send(message, done)) => self.send(message, done, commands).await,
                    Some(Command::Leave) => ControlFlow::Break(Input::Leave),
                    Some(Command::Retire) | None => ControlFlow::Break(Input::Retire),
                },
                // A server that said goodbye has to close; one that does not is left.
                () = tokio::time::sleep(CLOSE_TIME), if says_goodbye => self.hear(None),
                _ = pings.tick() => {
                    unheard = if heard || self.held.is_some() { 0 } else { unheard + 1 };
                    heard = false;
                    if unheard >= 2 {
                        ControlFlow::Break(Input::Failed(Failure {
                            kind: "timeout",
                            message: format!("the server has been silent for {:?}", ping_every * unheard),
                        }))
                    } else {
                        let ping = self.socket.send(Message::Ping(Bytes::new()));
                        let written = timeout(WRITE_TIME, ping).await;
                        self.written(written)
                    }
                }
            };
            if let ControlFlow::Break(input) = happened {
                return input;
            }
        }
    }

    fn hear(&mut self, message: Option<Result<Message, Error>>) -> ControlFlow<Input> {
        match message {
            Some(Ok(Message::Text(text))) => {
                self.receive(Bytes::from(text), true);
                ControlFlow::Continue(())
            }
            Some(Ok(Message::Binary(bytes))) => {
                self.receive(bytes, false);
                ControlFlow::Continue(())
            }
            // The library answers pings, and goodbyes, when it is asked for the next message.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => ControlFlow::Continue(()),
            Some(Ok(Message::Close(frame))) => {
                self.goodbye = Some(frame.map_or((NO_CODE, String::new()), |frame| {
                    (frame.code.into(), frame.reason.to_string())
                }));
                ControlFlow::Continue(())
            }
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                let (code, reason) = self.goodbye.take().unwrap_or((NO_CODE, String::new()));
                ControlFlow::Break(Input::Closed(code, reason))
            }
            Some(Err(error)) => ControlFlow::Break(match self.goodbye.take() {
                // Some servers say goodbye and do not wait for the answer.
                Some((code, reason)) => Input::Closed(code, reason),
                None => Input::Failed(failure(&error)),
            }),
        }
    }

    fn receive(&mut self, payload: Bytes, is_text: bool) {
        let counters = &self.view.counters;
        counters.received.fetch_add(1, Ordering::Relaxed);
        self.view
            .last
            .store(if is_text { 1 } else { 2 }, Ordering::Relaxed);
        if self.waiting.takes(&payload) {
            counters.answers.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some(route) = self.outlet.route() else {
            return;
        };
        self.sequence += 1;
        let received = Received {
            payload,
            is_text,
            at: Timestamp::now(),
            sequence: self.sequence,
        };
        self.held = self.outlet.offer(route, received, &self.opening).err();
    }

    /// Writes a message and those that wait behind it, all at once.
    async fn send(
        &mut self,
        message: Message,
        done: oneshot::Sender<Result<(), SendError>>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> ControlFlow<Input> {
        let mut senders = vec![done];
        let mut end = None;
        let written = timeout(WRITE_TIME, async {
            self.socket.feed(message).await?;
            while senders.len() < COMMANDS {
                match commands.try_recv() {
                    Ok(Command::Send(message, done)) => {
                        senders.push(done);
                        self.socket.feed(message).await?;
                    }
                    Ok(Command::Leave) => {
                        end = Some(Input::Leave);
                        break;
                    }
                    Ok(Command::Retire) => {
                        end = Some(Input::Retire);
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.socket.flush().await
        })
        .await;
        let happened = self.written(written);
        let outcome = match &happened {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Input::Failed(failure)) => Err(SendError::Broken(failure.message.clone())),
            ControlFlow::Break(_) => Err(SendError::NotOpen),
        };
        for done in senders {
            let _ = done.send(outcome.clone());
        }
        match end {
            Some(input) => ControlFlow::Break(input),
            None => happened,
        }
    }

    fn written(
        &mut self,
        outcome: Result<Result<(), Error>, tokio::time::error::Elapsed>,
    ) -> ControlFlow<Input> {
        match outcome {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(error)) => self.hear(Some(Err(error))),
            Err(_) => ControlFlow::Break(Input::Failed(Failure {
                kind: "timeout",
                message: format!("nothing could be written for {WRITE_TIME:?}"),
            })),
        }
    }
}

/// From 0 to 1.
fn random() -> f64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    f64::from(u16::from_be_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX)
}
