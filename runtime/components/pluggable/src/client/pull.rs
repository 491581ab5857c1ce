//! A stream of messages from a component and of answers to it, opened again when it breaks.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use outrigger_component::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Response, Status, Streaming};

use super::link::{Link, Wire};

const LOG: &str = "dapr.runtime.pluggable";
/// How long a new stream may take to be confirmed before it counts as open: grpc-go's servers say nothing at all
/// before their first message.
const CONFIRMATION: Duration = Duration::from_millis(100);
/// First and longest pause between tries to open a broken stream again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the stream stays open for a message after the last answer.
const LINGER: Duration = Duration::from_millis(400);
/// How long the component may take to end the stream after our last answer.
const SETTLE: Duration = Duration::from_secs(1);
/// Answers on their way; the stream's flow control bounds what is behind them.
const ANSWERS: usize = 16;

/// One kind of stream.
pub(super) trait Feed: Send + Sync + 'static {
    /// What the component sends.
    type In: Send + 'static;
    /// What it is told.
    type Out: Send + 'static;

    /// Opens the stream.
    fn open(
        &self,
        wire: Wire,
        answers: ReceiverStream<Self::Out>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self::In>>, Status>>;
    /// What is said first, if anything.
    fn greeting(&self) -> Option<Self::Out>;
    /// Handles a message; `None` leaves it unanswered, so that the component keeps it.
    fn handle(&self, message: Self::In) -> BoxFuture<'_, Option<Self::Out>>;
    /// What a message is told that comes while the stream is ending; `None` leaves it unanswered.
    fn refuse(&self, message: Self::In) -> Option<Self::Out>;
    /// Most messages in flight.
    fn at_once(&self) -> usize;
    /// What it is, for logs.
    fn name(&self) -> &str;
}

/// A running stream. Dropping it ends it without waiting.
#[derive(Debug)]
pub(super) struct Pulling {
    /// Ends the taking of messages.
    stop: CancellationToken,
    /// Ends everything at once.
    abandon: CancellationToken,
    task: TaskTracker,
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.abandon.cancel();
    }
}

impl Pulling {
    /// Opens the stream; returns when it is open or at least was not refused at once.
    ///
    /// # Errors
    /// When the component cannot be reached or refuses.
    pub(super) async fn start<F: Feed>(link: Arc<Link>, feed: F) -> Result<Self, Error> {
        let pulling = Self {
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            task: TaskTracker::new(),
        };
        let wire = link.wire().await?;
        let (opened, is_open) = oneshot::channel();
        let (stop, abandon) = (pulling.stop.clone(), pulling.abandon.clone());
        pulling.task.spawn(async move {
            tokio::select! {
                () = abandon.cancelled() => {}
                () = run(&link, wire, &feed, &stop, opened) => {}
            }
        });
        pulling.task.close();
        match tokio::time::timeout(CONFIRMATION, is_open).await {
            Ok(Ok(Err(status))) => Err(crate::status::error(&status)),
            _ => Ok(pulling),
        }
    }

    /// Takes no further messages; those in flight are finished and answered.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// [`Pulling::stop`], and waits for the end.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.task.wait().await;
    }
}

/// Why a stream is over.
enum Ended {
    /// We wanted it.
    Stopped,
    /// It was refused before its first message.
    Refused(Status),
    /// It broke, or the component ended it.
    Lost(String),
}

async fn run<F: Feed>(
    link: &Link,
    wire: Wire,
    feed: &F,
    stop: &CancellationToken,
    opened: oneshot::Sender<Result<(), Status>>,
) {
    let mut opened = Some(opened);
    let mut next = Some(wire);
    let mut pause = PAUSES.0;
    loop {
        let wire = match next.take() {
            Some(wire) => Ok(wire),
            None => tokio::select! {
                () = stop.cancelled() => return,
                wire = link.wire() => wire,
            },
        };
        let reason = match wire {
            Err(error) => error.chain(),
            Ok(wire) => match one_stream(wire, feed, stop, &mut opened).await {
                Ended::Stopped => return,
                Ended::Refused(status) => match opened.take() {
                    // The caller learns it and there is nothing to keep up.
                    Some(opened) if !opened.is_closed() => {
                        let _ = opened.send(Err(status));
                        return;
                    }
                    _ => crate::status::error(&status).chain(),
                },
                Ended::Lost(reason) => {
                    pause = PAUSES.0;
                    reason
                }
            },
        };
        tracing::warn!(target: LOG, "{} was interrupted, trying again: {reason}", feed.name());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn one_stream<F: Feed>(
    wire: Wire,
    feed: &F,
    stop: &CancellationToken,
    opened: &mut Option<oneshot::Sender<Result<(), Status>>>,
) -> Ended {
    let (answers, outgoing) = mpsc::channel(ANSWERS);
    if let Some(greeting) = feed.greeting() {
        // The channel is empty and has room.
        let _ = answers.try_send(greeting);
    }
    let opening = feed.open(wire, ReceiverStream::new(outgoing));
    let mut messages = tokio::select! {
        () = stop.cancelled() => return Ended::Stopped,
        answer = opening => match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ended::Refused(status),
        },
    };
    if let Some(opened) = opened.take() {
        let _ = opened.send(Ok(()));
    }
    let mut flying = FuturesUnordered::new();
    let ended = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ended::Stopped,
            Some(answer) = flying.next() => {
                if let Some(answer) = answer
                    && answers.send(answer).await.is_err()
                {
                    break Ended::Lost("the component takes no answers".to_owned());
                }
            }
            message = messages.message(), if flying.len() < feed.at_once() => match message {
                Ok(Some(message)) => flying.push(feed.handle(message)),
                Ok(None) => break Ended::Lost("the component ended the stream".to_owned()),
                Err(status) => break Ended::Lost(crate::status::error(&status).chain()),
            },
        }
    };
    let wanted = matches!(ended, Ended::Stopped);
    let was_busy = !flying.is_empty();
    // What the app has begun it also finishes; what comes meanwhile is turned away.
    while !flying.is_empty() {
        tokio::select! {
            Some(answer) = flying.next() => tell(&answers, answer).await,
            Ok(Some(message)) = messages.message(), if wanted => tell(&answers, feed.refuse(message)).await,
            else => break,
        }
    }
    if wanted {
        if was_busy {
            // As upstream does: a component may send the next message on the heels of the last answer.
            let turn_away = async {
                while let Ok(Some(message)) = messages.message().await {
                    tell(&answers, feed.refuse(message)).await;
                }
            };
            let _ = tokio::time::timeout(LINGER, turn_away).await;
        }
        drop(answers);
        // Letting go of the stream now would overtake the last answers.
        let settled = async { while let Ok(Some(_)) = messages.message().await {} };
        let _ = tokio::time::timeout(SETTLE, settled).await;
    }
    ended
}

/// Gives the component an answer, if there is one; a stream that is gone takes none.
async fn tell<T>(answers: &mpsc::Sender<T>, answer: Option<T>) {
    if let Some(answer) = answer {
        let _ = answers.send(answer).await;
    }
}
