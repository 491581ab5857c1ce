//! Turns at a file that several processes write.
//!
//! SQLite's lock has no queue: who finds it taken looks again after a while, and under load a look rarely falls into
//! the moment between two transactions of others. Here writers stand in line before they ask for it. The line is a
//! pair of advisory `flock`s, which wake who waits: the *place* is held by the one that is next, the *turn* by the one
//! that writes. Whoever writes lines up behind the place, so nobody goes twice while another waits. A process that dies
//! is out of the line at once.
//!
//! A courtesy only: SQLite's lock keeps the data whole, and a writer whose turn does not come in time (somebody was
//! stopped in the middle of theirs) goes on without.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Nobody lines up for this long after a turn did not come.
const WITHOUT: Duration = Duration::from_secs(5);
/// The thread that waits for locks ends when it has had nothing to wait for this long.
const IDLE: Duration = Duration::from_secs(10);
/// It calls nothing that needs more.
const STACK: usize = 64 << 10;

/// The line before one file, as one of its writers sees it.
pub(crate) struct Turns {
    line: Arc<Line>,
    without_until: Option<Instant>,
}

/// The turn; dropping it lets the next one go.
pub(crate) struct Turn<'a>(&'a Line);

struct Line {
    place: File,
    turn: File,
    state: Mutex<State>,
    /// The state has changed in a way that somebody waits for.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the waiting thread is to do, or does.
    errand: Option<Errand>,
    /// Whether somebody still wants what it brings.
    wanted: bool,
    /// It has brought the turn.
    granted: bool,
    /// The waiting thread is there.
    running: bool,
    /// The locks do not work here.
    broken: bool,
    closed: bool,
}

/// What the waiting thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// The place, then the turn.
    Place,
    /// The turn; the place is ours.
    Turn,
}

impl Turns {
    /// Opens the line whose lock files are in `folder`, which is made, for its owner alone, if need be.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let file = |name: &str| {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(folder.join(name))
        };
        Ok(Self {
            line: Arc::new(Line {
                place: file("place")?,
                turn: file("turn")?,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            without_until: None,
        })
    }

    /// Waits for the turn, `patience` at most; `None` to go on without.
    pub(crate) fn take(&mut self, patience: Duration) -> Option<Turn<'_>> {
        if self.without_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        self.without_until = None;
        let line = &self.line;
        let mut state = line.state.lock();
        if state.broken {
            return None;
        }
        // While the thread waits the locks are its own: both of us go by the same files.
        if state.errand.is_none() {
            state.errand = match line.ask() {
                Ok(None) => return Some(Turn(line)),
                Ok(errand) => errand,
                Err(error) => {
                    state.fail(&error);
                    return None;
                }
            };
        }
        state.wanted = true;
        if !state.running {
            let thread = line.clone();
            let started = std::thread::Builder::new()
                .name("sqlite-turns".into())
                .stack_size(STACK)
                .spawn(move || thread.wait_for_locks());
            if let Err(error) = started {
                line.forgo(&mut state);
                state.fail(&error);
                return None;
            }
            state.running = true;
        }
        line.changed.notify_all();
        let late = line
            .changed
            .wait_while_for(&mut state, |state| !state.granted && !state.broken, patience)
            .timed_out();
        state.wanted = false;
        if std::mem::take(&mut state.granted) {
            return Some(Turn(line));
        }
        if late {
            tracing::debug!("the turn at the database does not come: going on without");
            self.without_until = Some(Instant::now() + WITHOUT);
        }
        None
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.line.state.lock().closed = true;
        self.line.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Fails only where taking it would have failed.
        let _ = self.0.turn.unlock();
    }
}

impl State {
    fn fail(&mut self, error: &io::Error) {
        tracing::warn!(%error, "no turns at the database: under load its writers may wait for one another for long");
        self.broken = true;
    }
}

impl Line {
    /// Takes the turn if it is free and nobody is before us; else answers what to wait for.
    fn ask(&self) -> io::Result<Option<Errand>> {
        if !taken(self.place.try_lock())? {
            return Ok(Some(Errand::Place));
        }
        if !taken(self.turn.try_lock())? {
            return Ok(Some(Errand::Turn));
        }
        self.place.unlock()?;
        Ok(None)
    }

    /// Leaves the line while no thread waits.
    fn forgo(&self, state: &mut State) {
        if state.errand.take() == Some(Errand::Turn) {
            // Fails only where taking it would have failed.
            let _ = self.place.unlock();
        }
    }

    /// The waiting thread: only here a lock is waited for, since that has no time limit.
    fn wait_for_locks(&self) {
        let mut state = self.state.lock();
        loop {
            let Some(errand) = state.errand else {
                let idle = |state: &mut State| state.errand.is_none() && !state.closed;
                let late = self.changed.wait_while_for(&mut state, idle, IDLE).timed_out();
                if state.errand.is_none() && (late || state.closed) {
                    state.running = false;
                    return;
                }
                continue;
            };
            parking_lot::MutexGuard::unlocked(&mut state, || self.fetch(errand))
                .unwrap_or_else(|error| state.fail(&error));
            state.errand = None;
            if state.wanted && !state.broken {
                state.granted = true;
            } else {
                let _ = self.turn.unlock();
            }
            self.changed.notify_all();
        }
    }

    fn fetch(&self, errand: Errand) -> io::Result<()> {
        if errand == Errand::Place {
            retry(|| self.place.lock())?;
        }
        let turn = retry(|| self.turn.lock());
        self.place.unlock()?;
        turn
    }
}

/// Whether a lock was free.
fn taken(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A signal may end a wait early.
fn retry(lock: impl Fn() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Long enough that only a fault ends it.
    const LONG: Duration = Duration::from_secs(60);

    fn wait_until(what: impl Fn() -> bool) {
        let started = Instant::now();
        while !what() {
            assert!(started.elapsed() < LONG);
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_waits_goes_before_who_comes_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Turns::open(folder.path()).unwrap();
        let mut two = Turns::open(folder.path()).unwrap();
        let looker = File::open(folder.path().join("place")).unwrap();
        let (sender, order) = mpsc::channel();
        for round in 0..50 {
            std::thread::scope(|scope| {
                let first = one.take(LONG).unwrap();
                let sender = sender.clone();
                let two = &mut two;
                scope.spawn(move || {
                    let turn = two.take(LONG).unwrap();
                    sender.send(round).unwrap();
                    drop(turn);
                });
                wait_until(|| match looker.try_lock() {
                    Ok(()) => {
                        looker.unlock().unwrap();
                        false
                    }
                    Err(_) => true,
                });
                drop(first);
                let again = one.take(LONG).unwrap();
                assert_eq!(
                    order.try_recv(),
                    Ok(round),
                    "the other one had no turn in between"
                );
                drop(again);
            });
        }
    }

    #[test]
    fn a_turn_that_does_not_come_is_gone_without_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Turns::open(folder.path()).unwrap();
        let mut two = Turns::open(folder.path()).unwrap();
        let mut three = Turns::open(folder.path()).unwrap();
        let stuck = one.take(LONG).unwrap();
        assert!(two.take(Duration::from_millis(10)).is_none());
        let started = Instant::now();
        assert!(two.take(LONG).is_none());
        assert!(started.elapsed() < LONG, "nobody lines up again at once");
        drop(stuck);
        // The thread of the second one gets it, finds that nobody wants it and passes it on.
        assert!(three.take(LONG).is_some());
    }

    #[test]
    fn a_line_that_is_left_lets_others_pass() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Turns::open(folder.path()).unwrap();
        let mut two = Turns::open(folder.path()).unwrap();
        let stuck = one.take(LONG).unwrap();
        assert!(two.take(Duration::from_millis(10)).is_none());
        drop(two);
        drop(stuck);
        assert!(one.take(LONG).is_some());
    }
}
