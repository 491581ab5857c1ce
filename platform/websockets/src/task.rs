//! The task of one connection: it does what the machine says, and tells it what came of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::clerk::{Clerk, status};
use crate::dial::{DialError, Dialer, Socket};
use crate::link::{Command, SendError, Tried, View};
use crate::machine::{Effect, Failure, Input, Machine, State, Told, Trouble};
use crate::outlet::{Held, Outlet};
use crate::request::Waiting;
use crate::talk::{CLOSE_TIME, Talk};
use crate::target::Target;

/// A connection's machine, and who is told what it says.
pub(crate) struct Story {
    pub(crate) machine: Machine,
    pub(crate) view: Arc<View>,
    pub(crate) clerk: Clerk,
}

impl Story {
    fn tell(&self, told: Told) {
        if let Some(status) = status(&told) {
            self.view.set(status);
        }
        self.clerk.tell(told);
    }

    /// Takes in what changes nothing about the socket.
    pub(crate) fn note(&mut self, input: Input) {
        for effect in self.machine.step(input, 0.0) {
            if let Effect::Tell(told) = effect {
                self.tell(told);
            }
        }
    }

    /// Whether its messages can be published.
    pub(crate) fn note_stuck(&mut self, is_stuck: bool) {
        self.note(if is_stuck {
            Input::Troubled(Trouble::Unpublished)
        } else {
            Input::Relieved(Trouble::Unpublished)
        });
    }
}

pub(crate) struct Task {
    pub(crate) story: Story,
    pub(crate) socket: Option<Socket>,
    pub(crate) target: Target,
    pub(crate) dialer: Dialer,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) stuck: watch::Receiver<bool>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// A message that came just before the connection was lost, and had no space.
    pub(crate) held: Option<Held>,
    pub(crate) ping_every: Duration,
    pub(crate) steady_after: Duration,
    pub(crate) tried: Arc<Tried>,
    /// What came of the attempt before this turn.
    pub(crate) decided: Option<Result<(), DialError>>,
}

/// What a task does between two inputs of its machine.
enum Doing {
    Opening,
    Waiting(Duration),
    Talking,
    Nothing,
}

impl Task {
    pub(crate) async fn run(mut self, effects: Vec<Effect>) {
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
                    Effect::Tell(told) => self.story.tell(told),
                }
            }
            // Only now: whoever waits for this asks for the status next.
            if let Some(outcome) = self.decided.take() {
                self.tried.decide(&outcome);
            }
            let input = match doing {
                Doing::Talking => self.talk().await,
                Doing::Opening => self.open().await,
                Doing::Waiting(wait) => match self.meanwhile(tokio::time::sleep(wait)).await {
                    ControlFlow::Break(input) => input,
                    ControlFlow::Continue(()) => Input::Due,
                },
                Doing::Nothing if self.story.machine.state() == State::Gone => break,
                Doing::Nothing => match self.meanwhile(std::future::pending::<()>()).await {
                    ControlFlow::Break(input) => input,
                    ControlFlow::Continue(()) => Input::Retire,
                },
            };
            if !matches!(input, Input::Leave(_) | Input::Retire) {
                self.socket = self.socket.take().filter(|_| input == Input::Opened);
            }
            if input == Input::Opened {
                let is_stuck = *self.stuck.borrow_and_update();
                self.story.note_stuck(is_stuck);
            }
            effects = self.story.machine.step(input, random());
        }
        if let Some(held) = self.held.take() {
            self.outlet.give_up(held);
        }
    }

    async fn open(&mut self) -> Input {
        let (dialer, target) = (self.dialer.clone(), self.target.clone());
        let dialled = match self.meanwhile(dialer.dial(&target)).await {
            ControlFlow::Break(input) => return input,
            ControlFlow::Continue(dialled) => dialled.map(|socket| self.socket = Some(socket)),
        };
        self.decided = Some(dialled.clone());
        match dialled {
            Ok(()) => Input::Opened,
            Err(DialError::Failed(failure)) => Input::Refused(failure),
            Err(error @ DialError::Refused(_)) => Input::Refused(Failure {
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
                    Some(Command::Leave(why)) => return ControlFlow::Break(Input::Leave(why)),
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
        let mut talk = Talk::new(
            socket,
            self.held.take(),
            &mut self.story,
            &self.outlet,
            &self.waiting,
        );
        let times = (self.ping_every, self.steady_after);
        let input = talk.run(&mut self.commands, &mut self.stuck, times).await;
        (self.socket, self.held) = talk.end();
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

/// From 0 to 1.
fn random() -> f64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    f64::from(u16::from_be_bytes([bytes[0], bytes[1]])) / f64::from(u16::MAX)
}
