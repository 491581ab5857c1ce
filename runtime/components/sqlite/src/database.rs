//! The database handle: what components call. The threads behind it are in `writer` and `reader`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use outrigger_component::{Error, ErrorKind};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::{
    connection::{Settings, failed},
    job::{AnyJob, Kind, typed},
    queue::{Queue, closed},
    reader::{Prompt, READERS, read_loop},
    turns::Turns,
    writer::{Begin, Writer},
};

/// A thread that had nothing to do for this long gives back its memory (readers end altogether).
pub(crate) const IDLE: Duration = Duration::from_secs(10);
/// SQLite needs some tens of KiB; only touched pages count.
const STACK: usize = 512 << 10;

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
        Self::open_in_turns(settings, base_dir, None, set_up).await
    }

    /// As [`Database::open`], for a file that several processes write often: they line up, and wait for the disk only when
    /// the next one may write already.
    pub(crate) async fn open_in_turns(
        settings: Settings,
        base_dir: &Path,
        turns: Option<Turns>,
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
                let opened =
                    thread_settings
                        .open_writer(&thread_dir)
                        .and_then(|(mut connection, checkpoints)| {
                            set_up(&mut connection)?;
                            Ok((connection, checkpoints))
                        });
                match opened {
                    Ok((connection, checkpoints)) => {
                        if ready_sender.send(Ok(())).is_ok() {
                            let begin = Begin {
                                sql: thread_settings.transaction_lock.begin(),
                                patience: thread_settings.busy_timeout,
                                log: turns.is_some() && thread_settings.syncs_log(),
                            };
                            Writer::new(connection, begin, turns, checkpoints).serve(
                                &thread_queue,
                                &commit_sender,
                                &thread_prompt,
                            );
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
        self.commit(job, Kind::Durable).await
    }

    /// As [`Database::write`], but the answer does not wait for the disk: every other process sees the changes, and
    /// they survive the end of this one; a loss of power may undo them, and whatever came later. The next durable write of
    /// anybody on the file takes them along. For what is done again in that case. Only of [`Database::open_in_turns`].
    pub(crate) async fn write_relaxed<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        self.commit(job, Kind::Relaxed).await
    }

    async fn commit<T, F>(&self, job: F, kind: Kind) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (job, answer) = typed(job, kind);
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
        let (job, answer) = typed(job, Kind::Outside);
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
        let (job, answer) = typed(job, Kind::Outside);
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

#[cfg(test)]
mod tests;
