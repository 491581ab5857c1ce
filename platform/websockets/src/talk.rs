//! One opening of a connection: what comes on its socket, and what is sent.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::dial::{Socket, failure};
use crate::events::Received;
use crate::link::{COMMANDS, Command, SendError};
use crate::machine::{Failure, Input, Trouble};
use crate::outlet::{Held, Outlet};
use crate::request::Waiting;
use crate::task::Story;

/// Messages that cannot be written for this long break the connection.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Bytes that are written in one go, unless a single message has more.
const WRITE_BYTES: usize = 1 << 20;
/// How long the server may take to answer a goodbye.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(2);
/// No code in the server's goodbye (RFC 6455, 7.1.5).
const NO_CODE: u16 = 1005;

/// One opening of a connection.
pub(crate) struct Talk<'a> {
    stream: SplitStream<Socket>,
    /// Missing while it is written to.
    sink: Option<SplitSink<Socket, Message>>,
    /// Tells this opening from others.
    opening: Arc<str>,
    sequence: u64,
    /// A message for which the outlet has no space. While there is one, nothing is read.
    held: Option<Held>,
    /// Whether anything came since the last ping, and pings since anything came.
    heard: bool,
    unheard: u32,
    /// The server's.
    goodbye: Option<(u16, String)>,
    story: &'a mut Story,
    outlet: &'a Outlet,
    waiting: &'a Waiting,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(
        socket: Socket,
        held: Option<Held>,
        story: &'a mut Story,
        outlet: &'a Outlet,
        waiting: &'a Waiting,
    ) -> Self {
        let (sink, stream) = socket.split();
        Self {
            stream,
            sink: Some(sink),
            heard: true,
            unheard: 0,
            opening: uuid::Uuid::new_v4().to_string().into(),
            sequence: 0,
            held,
            goodbye: None,
            story,
            outlet,
            waiting,
        }
    }

    /// Reads and writes until something happens to the connection. The times: between two pings, and until it is
    /// steady.
    pub(crate) async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        stuck: &mut watch::Receiver<bool>,
        (ping_every, steady_after): (Duration, Duration),
    ) -> Input {
        let steady = tokio::time::sleep(steady_after);
        tokio::pin!(steady);
        let mut is_steady = false;
        let mut pings = tokio::time::interval_at(Instant::now() + ping_every, ping_every);
        pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let says_goodbye = self.goodbye.is_some();
            let happened = tokio::select! {
                message = self.stream.next(), if self.held.is_none() => self.came(message),
                space = async {
                    match &self.held {
                        Some(held) => self.outlet.space(held).await,
                        None => std::future::pending().await,
                    }
                } => {
                    if let (Some(held), Some(space)) = (self.held.take(), space) {
                        self.outlet.put(held, space);
                    }
                    self.heard = true;
                    ControlFlow::Continue(())
                }
                command = commands.recv() => match command {
                    Some(Command::Send(message, done)) => self.send(message, done, commands).await,
                    Some(Command::Leave(why)) => ControlFlow::Break(Input::Leave(why)),
                    Some(Command::Retire) | None => ControlFlow::Break(Input::Retire),
                },
                // A server that said goodbye has to close; one that does not is left.
                () = tokio::time::sleep(CLOSE_TIME), if says_goodbye => self.hear(None),
                () = &mut steady, if !is_steady => {
                    is_steady = true;
                    self.story.note(Input::Steady);
                    ControlFlow::Continue(())
                }
                Ok(()) = stuck.changed() => {
                    let is_stuck = *stuck.borrow_and_update();
                    self.story.note_stuck(is_stuck);
                    ControlFlow::Continue(())
                }
                _ = pings.tick() => {
                    self.ping(ping_every).await
                }
            };
            if let ControlFlow::Break(input) = happened {
                return input;
            }
        }
    }

    /// The open socket, with what had no space.
    pub(crate) fn end(self) -> (Option<Socket>, Option<Held>) {
        let socket = self.sink.and_then(|sink| sink.reunite(self.stream).ok());
        (socket, self.held)
    }

    async fn ping(&mut self, every: Duration) -> ControlFlow<Input> {
        self.unheard = if self.heard || self.held.is_some() {
            0
        } else {
            self.unheard + 1
        };
        self.heard = false;
        if self.unheard >= 2 {
            return ControlFlow::Break(Input::Failed(Failure {
                kind: "timeout",
                message: format!("the server has been silent for {:?}", every * self.unheard),
            }));
        }
        if self.unheard == 1 {
            self.story.note(Input::Troubled(Trouble::Silent));
        }
        let Some(mut sink) = self.sink.take() else {
            return ControlFlow::Continue(());
        };
        let happened = self.write(sink.send(Message::Ping(Bytes::new()))).await;
        self.sink = Some(sink);
        happened
    }

    fn came(&mut self, message: Option<Result<Message, Error>>) -> ControlFlow<Input> {
        self.heard = true;
        if self.unheard > 0 {
            self.unheard = 0;
            self.story.note(Input::Relieved(Trouble::Silent));
        }
        self.hear(message)
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
        let view = &self.story.view;
        view.came(is_text);
        if self.waiting.takes(&payload) {
            view.counters.answers.fetch_add(1, Ordering::Relaxed);
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
        let Some(mut sink) = self.sink.take() else {
            return ControlFlow::Continue(());
        };
        let mut senders = vec![done];
        let mut end = None;
        let writing = async {
            let mut bytes = message.len();
            sink.feed(message).await?;
            while senders.len() < COMMANDS && bytes < WRITE_BYTES {
                match commands.try_recv() {
                    Ok(Command::Send(message, done)) => {
                        senders.push(done);
                        bytes += message.len();
                        sink.feed(message).await?;
                    }
                    Ok(Command::Leave(why)) => {
                        end = Some(Input::Leave(why));
                        break;
                    }
                    Ok(Command::Retire) => {
                        end = Some(Input::Retire);
                        break;
                    }
                    Err(_) => break,
                }
            }
            sink.flush().await
        };
        let happened = self.write(writing).await;
        self.sink = Some(sink);
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

    /// Writes, and reads meanwhile: a server that reads no more before its own words are read would wait for us as we
    /// for it.
    async fn write(&mut self, writing: impl Future<Output = Result<(), Error>>) -> ControlFlow<Input> {
        let limit = tokio::time::sleep(WRITE_TIME);
        tokio::pin!(writing, limit);
        loop {
            let reads = self.held.is_none() && self.goodbye.is_none();
            tokio::select! {
                written = &mut writing => return match written {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => self.hear(Some(Err(error))),
                },
                message = self.stream.next(), if reads => {
                    let happened = self.came(message);
                    if happened.is_break() {
                        return happened;
                    }
                }
                () = &mut limit => return ControlFlow::Break(Input::Failed(Failure {
                    kind: "timeout",
                    message: format!("nothing could be written for {WRITE_TIME:?}"),
                })),
            }
        }
    }
}
