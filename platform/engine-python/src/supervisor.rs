//! The life of one worker: gives events to its process, watches it, replaces it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger_kit::Event;
use outrigger_platform_engine::{EngineError, WorkerContext};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::frames::{self, FromWorker};
use crate::process::{Launch, Process, Said};
use crate::settings::PythonSettings;
use crate::stderr::printable;

/// How often a process is looked at while events run, and while none do.
const LOOK_BUSY: Duration = Duration::from_millis(250);
const LOOK_IDLE: Duration = Duration::from_secs(2);
/// What a process without events may use of a processor for ever: one part in so many.
const IDLE_SHARE: u32 = 10;
/// How often an event is given to a process; a second time if the first one ended through no fault of it.
const ATTEMPTS: u8 = 2;

/// An event on its way.
#[derive(Debug)]
pub(crate) struct Job {
    /// Names it in frames.
    pub(crate) id: u64,
    /// The frame.
    pub(crate) frame: Bytes,
    /// Where its answer goes; closed if nobody waits any more.
    pub(crate) reply: oneshot::Sender<Result<Option<Event<Value>>, EngineError>>,
    /// How often it was given to a process.
    pub(crate) attempts: u8,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Supervisor {
    launch: Arc<Launch>,
    context: WorkerContext,
    code: String,
    jobs: mpsc::Receiver<Job>,
    // Events that a process that ended had, before those in `jobs`.
    again: VecDeque<Job>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Why a process no longer serves.
enum End {
    /// No event will come any more.
    Closed,
    /// It is used up, or was idle and misbehaved; nobody is hurt.
    Replaced,
    /// It failed.
    Failed,
}

struct InFlight {
    job: Job,
    deadline: Instant,
}

/// What is known from looking at a process from time to time.
struct Watch {
    next: Instant,
    cpu: Duration,
    // Processor time without events beyond the share that is free.
    burnt: Duration,
    looked: Instant,
    pinged: Option<Instant>,
    last_word: Instant,
}

impl Supervisor {
    pub(crate) fn new(
        launch: Arc<Launch>,
        context: WorkerContext,
        code: String,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        Self {
            launch,
            context,
            code,
            jobs,
            again: VecDeque::new(),
            failures: 0,
            not_before: None,
        }
    }

    /// Runs until nobody can send events any more.
    pub(crate) async fn run(mut self, first: Process) {
        let mut process = Some(first);
        loop {
            let current = match process.take() {
                Some(current) => current,
                None => match self.replace().await {
                    Some(current) => current,
                    None => return,
                },
            };
            match self.serve(current).await {
                End::Closed => return,
                End::Replaced => {}
                End::Failed => self.note_failure(),
            }
        }
    }

    /// Waits for an event, and for the pause after failures, and starts a process. `None` at the end.
    async fn replace(&mut self) -> Option<Process> {
        loop {
            let job = match self.again.pop_front() {
                Some(job) => job,
                None => self.jobs.recv().await?,
            };
            if job.reply.is_closed() {
                continue;
            }
            if let Some(moment) = self.not_before {
                sleep_until(moment).await;
            }
            match self.launch.start(&self.context, &self.code).await {
                Ok(process) => {
                    self.again.push_front(job);
                    return Some(process);
                }
                Err(error) => {
                    self.note_failure();
                    let _ = job.reply.send(Err(error));
                }
            }
        }
    }

    /// The first failure costs no pause, each further one in a row twice the pause before.
    fn note_failure(&mut self) {
        let settings = &self.launch.settings;
        self.failures = self.failures.saturating_add(1);
        self.not_before = (self.failures > 1).then(|| {
            let doublings = (self.failures - 2).min(16);
            Instant::now() + (settings.first_pause * (1 << doublings)).min(settings.longest_pause)
        });
    }

    async fn serve(&mut self, mut process: Process) -> End {
        let concurrency = self.launch.settings.concurrency.max(1);
        let mut running: HashMap<u64, InFlight> = HashMap::new();
        let mut watch = Watch::new();
        let mut open = true;
        loop {
            while running.len() < concurrency
                && let Some(job) = self.again.pop_front()
            {
                watch.next = watch.next.min(Instant::now() + LOOK_BUSY);
                if let Err(error) = self.give(&process, job, &mut running) {
                    return self.fail(process, running, &error).await;
                }
            }
            if !open && running.is_empty() {
                process.shut_down().await;
                return End::Closed;
            }
            let deadline = running.values().map(|flight| flight.deadline).min();
            tokio::select! {
                said = process.next() => match said {
                    Said::Frame(frame) => {
                        if let Err(why) = self.hear(frame, &mut running, &mut watch) {
                            return self.fail(process, running, &EngineError::Crashed(why)).await;
                        }
                    }
                    Said::Nonsense(why) => return self.fail(process, running, &EngineError::Crashed(why)).await,
                    Said::End => {
                        let error = process.end().await;
                        return self.fail(process, running, &error).await;
                    }
                },
                job = self.jobs.recv(), if open && running.len() < concurrency => match job {
                    Some(job) => self.again.push_back(job),
                    None => open = false,
                },
                () = sleep_until(deadline.unwrap_or(watch.next)), if deadline.is_some() => {
                    return self.time_out(process, running).await;
                }
                () = sleep_until(watch.next) => {
                    if let Some(end) = self.look(&mut process, &running, &mut watch) {
                        return match end {
                            Ok(()) => {
                                process.kill().await;
                                End::Replaced
                            }
                            Err(why) => self.fail(process, running, &EngineError::Crashed(why)).await,
                        };
                    }
                }
            }
        }
    }

    fn give(
        &self,
        process: &Process,
        mut job: Job,
        running: &mut HashMap<u64, InFlight>,
    ) -> Result<(), EngineError> {
        if job.reply.is_closed() {
            return Ok(());
        }
        job.attempts += 1;
        let sent = process.send(job.frame.clone());
        let deadline = Instant::now() + self.launch.settings.timeout;
        running.insert(job.id, InFlight { job, deadline });
        sent
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// If the process may not say that now.
    fn hear(
        &mut self,
        frame: FromWorker,
        running: &mut HashMap<u64, InFlight>,
        watch: &mut Watch,
    ) -> Result<(), String> {
        watch.last_word = Instant::now();
        let (id, answer) = match frame {
            FromWorker::Result { id, cloud_event } => (
                id,
                cloud_event
                    .map(|event| outrigger_platform_engine::answer(event, &self.context.id))
                    .transpose(),
            ),
            FromWorker::Error {
                id: Some(id),
                message,
            } => (id, Err(EngineError::Failed(printable(message.as_bytes())))),
            FromWorker::Pong if watch.pinged.take().is_some() => return Ok(()),
            FromWorker::Pong | FromWorker::Ready | FromWorker::Error { id: None, .. } => {
                return Err("it spoke out of turn".to_owned());
            }
        };
        let flight = id
            .parse()
            .ok()
            .and_then(|id: u64| running.remove(&id))
            .ok_or("it answered an event that it does not have")?;
        self.failures = 0;
        self.not_before = None;
        let _ = flight.job.reply.send(answer);
        Ok(())
    }

    /// Looks at a process: `Ok` if it is to be replaced, `Err` if it fails, with the reason.
    fn look(
        &self,
        process: &mut Process,
        running: &HashMap<u64, InFlight>,
        watch: &mut Watch,
    ) -> Option<Result<(), String>> {
        let settings = &self.launch.settings;
        let now = Instant::now();
        let idle = running.is_empty();
        watch.next = now + if idle { look_idle(settings) } else { LOOK_BUSY };
        // Gone: its socket says so in a moment.
        let usage = process.usage()?;
        if usage.threads > settings.max_threads {
            let (threads, limit) = (usage.threads, settings.max_threads);
            return Some(Err(format!("it had {threads} threads; {limit} are allowed")));
        }
        let used = usage.cpu.saturating_sub(watch.cpu);
        let free = now.duration_since(watch.looked) / IDLE_SHARE;
        (watch.cpu, watch.looked) = (usage.cpu, now);
        watch.burnt = if idle {
            (watch.burnt + used).saturating_sub(free)
        } else {
            Duration::ZERO
        };
        if watch.burnt > settings.idle_cpu {
            return Some(Err("it used a processor while it had no event".to_owned()));
        }
        if idle && usage.cpu > settings.limits.cpu / 2 {
            info!(
                worker = self.context.id,
                "a worker's process has used half its processor time: replaced"
            );
            return Some(Ok(()));
        }
        // While events run their own time is what limits it: code may well compute without letting pings through.
        match watch.pinged {
            Some(sent) if idle && now.duration_since(sent.max(watch.last_word)) > settings.ping_timeout => {
                return Some(Err("it is silent".to_owned()));
            }
            Some(_) => {}
            None if idle && now.duration_since(watch.last_word) >= settings.ping_every => {
                if let Err(error) = process.send(frames::ping()) {
                    return Some(Err(error.to_string()));
                }
                watch.pinged = Some(now);
            }
            None => {}
        }
        None
    }

    /// Ends a process that failed, and with it all events it had.
    async fn fail(&mut self, process: Process, running: HashMap<u64, InFlight>, error: &EngineError) -> End {
        warn!(worker = self.context.id, %error, "a worker's process is ended");
        process.kill().await;
        for flight in running.into_values() {
            let _ = flight.job.reply.send(Err(error.clone()));
        }
        End::Failed
    }

    /// Ends a process with events that take too long. The others it had begin again in the next one.
    async fn time_out(&mut self, process: Process, running: HashMap<u64, InFlight>) -> End {
        warn!(
            worker = self.context.id,
            "a worker does not answer in time: its process is ended"
        );
        process.kill().await;
        let now = Instant::now();
        for flight in running.into_values() {
            if flight.deadline <= now || flight.job.attempts >= ATTEMPTS {
                let timeout = self.launch.settings.timeout;
                let _ = flight.job.reply.send(Err(EngineError::Timeout(timeout)));
            } else {
                self.again.push_back(flight.job);
            }
        }
        End::Failed
    }
}

/// Never so seldom that a ping would be late.
fn look_idle(settings: &PythonSettings) -> Duration {
    let shortest = settings.ping_every.min(settings.ping_timeout);
    LOOK_IDLE.min(shortest).max(Duration::from_millis(10))
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            next: now + LOOK_BUSY,
            cpu: Duration::ZERO,
            burnt: Duration::ZERO,
            looked: now,
            pinged: None,
            last_word: now,
        }
    }
}
