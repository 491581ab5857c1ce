//! The database handle: one writer thread with group commit, a few reader threads, deadlines.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use outrigger_component::{Error, ErrorKind};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::{
    connection::{Settings, failed},
    queue::{Queue, Taken, closed},
};

/// At most this many jobs share a commit: bounds how long the first of them waits for the last.
const WRITE_BATCH: usize = 256;
/// At most this many reads share a snapshot: a long-lived snapshot holds up checkpoints.
const READ_BATCH: usize = 32;
/// Two readers keep a cheap read from waiting behind a scan; more would only compete for two cores' worth of work.
const READERS: usize = 2;
/// After writing this long without a gap, the writer leaves one of [`PAUSE`] for other processes.
const TURN: Duration = Duration::from_millis(20);
/// About the longest wait of those who look for the lock often; a hundredth of the time.
const PAUSE: Duration = Duration::from_micros(200);
/// The first wait for a lock that another process holds; later ones grow to some 64 times it.
const SHORTEST_WAIT: Duration = Duration::from_micros(50);
/// A thread that had nothing to do for this long gives back its memory (readers end altogether).
const IDLE: Duration = Duration::from_secs(10);
/// SQLite needs some tens of KiB; only touched pages count.
const STACK: usize = 512 << 10;

/// A job and the channel its answer takes; erased so that one queue carries all.
trait Job: Send {
    /// Whether nobody waits for the answer any more.
    fn abandoned(&self) -> bool;
    /// Whether the job wants to run outside of a write transaction.
    fn outside(&self) -> bool;
    /// Runs it; `false` means: undo it.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Sends the answer, or this error in its place.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Typed<T, F> {
    work: Option<F>,
    result: Option<Result<T, Error>>,
    sender: oneshot::Sender<Result<T, Error>>,
    outside: bool,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T, Error> + Send> Job for Typed<T, F> {
    fn abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    fn outside(&self) -> bool {
        self.outside
    }

    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        // A panic would take the thread and everybody's database with it.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection)))
            .unwrap_or_else(|_| Err(Error::internal("a database operation panicked")));
        let done = result.is_ok();
        self.result = Some(result);
        done
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            // A job that failed by itself keeps its own error.
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(result), None) => result,
            (None, None) => Err(Error::internal("a database operation was not run")),
        };
        // The caller may be gone; then nobody wants the answer.
        let _ = self.sender.send(result);
    }
}

type AnyJob = Box<dyn Job>;

/// A shared database. Clones share threads; dropping the last one ends them after the waiting jobs.
#[derive(Clone)]
pub(crate) struct Database(Arc<Handle>);

struct Handle {
    writes: Arc<Queue<AnyJob>>,
    readers: Option<Readers>,
    writer: Mutex<Option<JoinHandle<()>>>,
    commits: watch::Receiver<u64>,
    timeout: Duration,
    settings: Settings,
    base_dir: PathBuf,
}

struct Readers {
    queue: Arc<Queue<AnyJob>>,
    threads: Arc<Mutex<usize>>,
    prompt: Arc<Prompt>,
}

/// Connections on which callers read for themselves. Filled by the first reader thread, emptied when idle.
#[derive(Default)]
struct Prompt {
    slots: [Mutex<Slot>; READERS],
    closed: AtomicBool,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Whether it was used since the last look.
    used: bool,
}

impl Prompt {
    /// Runs the job where there is a free connection; `None` when there is none, or a lock was in the way.
    fn run<T>(&self, job: impl Fn(&Connection) -> Result<T, Error>) -> Option<Result<T, Error>> {
        for slot in &self.slots {
            let Some(mut slot) = slot.try_lock() else { continue };
            let Some(connection) = &slot.connection else {
                continue;
            };
            let result = job(connection);
            slot.used = true;
            return match result {
                Err(error) if error.kind() == ErrorKind::Unavailable => None,
                result => Some(result),
            };
        }
        None
    }

    /// Opens what is missing; blocks.
    fn fill(&self, settings: &Settings, base_dir: &Path) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            // Looked at under the lock that `close` takes after it has said so.
            if slot.connection.is_none() && !self.closed.load(Ordering::Acquire) {
                // Without it reads still work by way of the threads.
                *slot = Slot {
                    connection: settings.open_prompt_reader(base_dir).ok(),
                    used: true,
                };
            }
        }
    }

    /// Closes what nobody has used since the last time.
    fn shrink(&self) {
        for slot in &self.slots {
            if let Some(mut slot) = slot.try_lock()
                && !std::mem::take(&mut slot.used)
            {
                slot.connection = None;
            }
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for slot in &self.slots {
            slot.lock().connection = None;
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database on its writer thread and runs `set_up` there (migrations) before anything else.
    pub(crate) async fn open(
        settings: Settings,
        base_dir: &Path,
        set_up: impl FnOnce(&mut Connection) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let writes = Arc::new(Queue::new());
        let (commit_sender, commits) = watch::channel(0);
        let (ready_sender, ready) = oneshot::channel();
        let (thread_queue, thread_settings, thread_dir) =
            (writes.clone(), settings.clone(), base_dir.to_owned());
        let prompt = Arc::new(Prompt::default());
        let thread_prompt = prompt.clone();
        let writer = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .stack_size(STACK)
            .spawn(move || {
                let opened = thread_settings
                    .open_writer(&thread_dir)
                    .and_then(|mut connection| {
                        set_up(&mut connection)?;
                        Ok(connection)
                    });
                match opened {
                    Ok(connection) => {
                        if ready_sender.send(Ok(())).is_ok() {
                            let begin = Begin {
                                sql: thread_settings.transaction_lock.begin(),
                                patience: thread_settings.busy_timeout,
                            };
                            write_loop(&connection, &thread_queue, &commit_sender, &begin, &thread_prompt);
                        }
                    }
                    Err(error) => drop(ready_sender.send(Err(error))),
                }
            })
            .map_err(|error| Error::unavailable("cannot start a database thread").with_source(error))?;
        let readers = (!settings.is_memory()).then(|| Readers {
            queue: Arc::new(Queue::new()),
            threads: Arc::default(),
            prompt,
        });
        let handle = Handle {
            writes,
            readers,
            writer: Mutex::new(Some(writer)),
            commits,
            timeout: settings.timeout,
            settings,
            base_dir: base_dir.to_owned(),
        };
        match ready.await {
            Ok(Ok(())) => Ok(Self(Arc::new(handle))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::internal("the database thread ended while opening")),
        }
    }

    /// Runs a job inside a write transaction that others may share; answers after the commit is on the disk. When
    /// the job answers an error, its own changes are undone and nobody else's. A caller that goes away before the
    /// job began withdraws it. The job must not begin or end transactions (savepoints are fine) and must be short.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (job, answer) = typed(job, false);
        self.0.writes.push(job).await?;
        self.wait(answer).await
    }

    /// Runs a job that only reads, on a snapshot that holds everything acknowledged before the call.
    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let Some(readers) = &self.0.readers else {
            return self.on_writer(job).await;
        };
        let (job, answer) = typed(job, true);
        if !readers.queue.push(job).await? {
            self.start_reader(readers)?;
        }
        self.wait(answer).await
    }

    /// As [`Database::read`], for a few rows found by key: runs on the calling thread when a connection is free.
    ///
    /// Such a read takes some microseconds and, under WAL, waits for nobody; a thread's help costs ten times as
    /// much (measured: 60-90 µs of CPU against 6 on a small virtual machine). Under contention and without WAL the
    /// threads do it.
    pub(crate) async fn read_prompt<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Error> + Send + 'static,
    {
        if let Some(readers) = &self.0.readers
            && let Some(result) = readers.prompt.run(&job)
        {
            return result;
        }
        self.read(job).await
    }

    /// Runs a job on the writer's connection outside of any transaction.
    pub(crate) async fn on_writer<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (job, answer) = typed(job, true);
        self.0.writes.push(job).await?;
        self.wait(answer).await
    }

    /// A number that differs from the last one asked for when somebody else (another process, another component on
    /// the file) has committed since; own writes do not change it. They show in [`Database::commits`].
    pub(crate) async fn data_version(&self) -> Result<i64, Error> {
        self.on_writer(|connection| {
            connection
                .prepare_cached("PRAGMA data_version")
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(|error| failed("cannot read the data version", error))
        })
        .await
    }

    /// Counts this handle's own commits that changed something.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.0.commits.clone()
    }

    /// The path of the database file, `None` in memory.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.0.settings.path(&self.0.base_dir)
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.read(|connection| {
            connection
                .query_row("SELECT 1", [], |_| Ok(()))
                .map_err(|error| failed("the database does not answer", error))
        })
        .await
    }

    /// Finishes waiting jobs, ends the threads and lets go of the file. Idempotent.
    pub(crate) async fn close(&self) {
        self.0.shut();
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
            // A thread that panicked has nothing more to finish.
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.0.timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "context deadline exceeded")),
        }
    }

    fn start_reader(&self, readers: &Readers) -> Result<(), Error> {
        let mut threads = readers.threads.lock();
        if *threads >= READERS {
            return Ok(());
        }
        let (queue, count) = (readers.queue.clone(), readers.threads.clone());
        let (settings, base_dir) = (self.0.settings.clone(), self.0.base_dir.clone());
        let prompt = readers.prompt.clone();
        std::thread::Builder::new()
            .name("sqlite-reader".into())
            .stack_size(STACK)
            .spawn(move || {
                if settings.reads_do_not_wait() {
                    prompt.fill(&settings, &base_dir);
                }
                read_loop(&settings, &base_dir, &queue, &count);
            })
            .map_err(|error| Error::unavailable("cannot start a database thread").with_source(error))?;
        *threads += 1;
        Ok(())
    }
}

impl Handle {
    fn shut(&self) {
        self.writes.close();
        if let Some(readers) = &self.readers {
            readers.queue.close();
            readers.prompt.close();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shut();
    }
}

fn typed<T, F>(work: F, outside: bool) -> (AnyJob, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    (
        Box::new(Typed {
            work: Some(work),
            result: None,
            sender,
            outside,
        }),
        receiver,
    )
}

/// How write transactions begin, and how long they may wait for another process to end its own.
struct Begin {
    sql: &'static str,
    patience: Duration,
}

impl Begin {
    /// SQLite's own waits grow to 100 ms, far longer than our transactions take: several sidecars on one file would
    /// starve one another. These stay short.
    fn run(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        connection.busy_timeout(Duration::ZERO)?;
        let mut result = execute(connection, self.sql);
        if matches!(&result, Err(error) if is_busy(error)) {
            let start = Instant::now();
            let mut attempt = 0u32;
            while start.elapsed() < self.patience && matches!(&result, Err(error) if is_busy(error)) {
                // Processes that begin together should not stay in step.
                let skew = std::process::id()
                    .wrapping_mul(31)
                    .wrapping_add(attempt.wrapping_mul(17))
                    % 8;
                let wait = SHORTEST_WAIT * (8 + skew) / 8 * (1 << (attempt / 4).min(6));
                std::thread::park_timeout(wait);
                attempt += 1;
                result = execute(connection, self.sql);
            }
        }
        connection.busy_timeout(self.patience)?;
        result
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

fn write_loop(
    connection: &Connection,
    queue: &Queue<AnyJob>,
    commits: &watch::Sender<u64>,
    begin: &Begin,
    prompt: &Prompt,
) {
    let mut batch = Vec::new();
    let mut shrunk = true;
    let mut turn = Instant::now();
    loop {
        if queue.is_empty() {
            turn = Instant::now();
        } else if turn.elapsed() >= TURN {
            // SQLite's lock has no queue: who waits for it only looks now and then.
            std::thread::park_timeout(PAUSE);
            turn = Instant::now();
        }
        match queue.take(&mut batch, WRITE_BATCH, IDLE) {
            Taken::Closed => return,
            Taken::Idle => {
                prompt.shrink();
                if !shrunk {
                    // Advice only: when it fails nothing is lost but memory.
                    let _ = connection.execute_batch("PRAGMA shrink_memory");
                    shrunk = true;
                }
            }
            Taken::Jobs => {
                shrunk = false;
                batch.retain(|job| !job.abandoned());
                if let Some(at) = batch.iter().position(|job| job.outside()) {
                    // Rare (polls, in-memory reads): keep the order of the queue around them.
                    let mut rest = std::mem::take(&mut batch).into_iter();
                    let mut run: Vec<AnyJob> = rest.by_ref().take(at).collect();
                    for mut job in rest {
                        if job.outside() {
                            commit_batch(connection, &mut run, commits, begin);
                            job.run(connection);
                            job.answer(None);
                        } else {
                            run.push(job);
                        }
                    }
                    commit_batch(connection, &mut run, commits, begin);
                } else {
                    commit_batch(connection, &mut batch, commits, begin);
                }
            }
        }
    }
}

/// One transaction for all jobs, a savepoint for each when they are several; answers follow the commit.
fn commit_batch(
    connection: &Connection,
    batch: &mut Vec<AnyJob>,
    commits: &watch::Sender<u64>,
    begin: &Begin,
) {
    if batch.is_empty() {
        return;
    }
    let before = connection.total_changes();
    if let Err(error) = begin.run(connection) {
        answer_all(batch, &error);
        return;
    }
    let single = batch.len() == 1;
    let mut outcome = Ok(());
    let mut keep = false;
    for job in batch.iter_mut() {
        outcome = run_in_savepoint(connection, job, single, &mut keep);
        // A failure that ended the transaction (disk full, I/O) has undone everybody's changes.
        if outcome.is_err() || connection.is_autocommit() {
            break;
        }
    }
    if outcome.is_ok() && !connection.is_autocommit() {
        outcome = execute(connection, if keep { "COMMIT" } else { "ROLLBACK" });
    } else if outcome.is_ok() {
        outcome = Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
            None,
        ));
    }
    match outcome {
        Ok(()) => {
            if connection.total_changes() != before && keep {
                commits.send_modify(|count| *count += 1);
            }
            for job in batch.drain(..) {
                job.answer(None);
            }
        }
        Err(error) => {
            if !connection.is_autocommit() {
                // If even this fails the next BEGIN reports it.
                let _ = execute(connection, "ROLLBACK");
            }
            answer_all(batch, &error);
        }
    }
}

fn run_in_savepoint(
    connection: &Connection,
    job: &mut AnyJob,
    single: bool,
    keep: &mut bool,
) -> Result<(), rusqlite::Error> {
    if single {
        *keep = job.run(connection);
        return Ok(());
    }
    execute(connection, "SAVEPOINT job")?;
    if job.run(connection) {
        *keep = true;
    } else if !connection.is_autocommit() {
        execute(connection, "ROLLBACK TO job")?;
    } else {
        return Ok(());
    }
    execute(connection, "RELEASE job")
}

fn answer_all(batch: &mut Vec<AnyJob>, error: &rusqlite::Error) {
    for job in batch.drain(..) {
        let transient = matches!(
            error.sqlite_error_code(),
            Some(
                rusqlite::ErrorCode::DatabaseBusy
                    | rusqlite::ErrorCode::DatabaseLocked
                    | rusqlite::ErrorCode::DiskFull
            )
        );
        let failure = if transient {
            Error::unavailable("cannot commit")
        } else {
            Error::internal("cannot commit")
        };
        // The cause is not cloneable; its text goes to each.
        job.answer(Some(failure.with_source(error.to_string())));
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(sql)?.raw_execute().map(drop)
}

fn read_loop(settings: &Settings, base_dir: &Path, queue: &Queue<AnyJob>, count: &Mutex<usize>) {
    let connection = settings.open_reader(base_dir);
    let mut batch = Vec::new();
    loop {
        match queue.take(&mut batch, READ_BATCH, IDLE) {
            Taken::Closed => break,
            Taken::Idle => {
                let mut threads = count.lock();
                // Looked at under the lock that starts readers: a job pushed since is either seen here or starts one.
                if queue.is_empty() {
                    *threads -= 1;
                    return;
                }
            }
            Taken::Jobs => match &connection {
                Ok(connection) => read_batch(connection, &mut batch),
                Err(error) => {
                    for job in batch.drain(..) {
                        job.answer(Some(
                            Error::new(error.kind(), "cannot open the SQLite database")
                                .with_source(error.chain()),
                        ));
                    }
                    *count.lock() -= 1;
                    return;
                }
            },
        }
    }
    *count.lock() -= 1;
}

/// Several reads share one snapshot: taking it costs file locks. All were asked for before it, so each sees what
/// was acknowledged to its caller.
fn read_batch(connection: &Connection, batch: &mut Vec<AnyJob>) {
    batch.retain(|job| !job.abandoned());
    let shared = batch.len() > 1 && execute(connection, "BEGIN DEFERRED").is_ok();
    for mut job in batch.drain(..) {
        job.run(connection);
        job.answer(None);
    }
    if shared {
        // Nothing was written; a failure shows at the next BEGIN.
        let _ = execute(connection, "COMMIT");
    }
}
