//! The host's side: starts confined programs.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;

use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::enter::ARGUMENT;
use crate::policy::Policy;

/// Starts confined programs by starting a binary again that calls [`enter_if_asked`](crate::enter_if_asked).
///
/// Clones share one thread: the kernel kills confined programs when the *thread* that started them ends, so it must
/// be one that lives as long as the host wants them to. It ends with the last clone and the last [`Confined`].
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
    requests: mpsc::Sender<Request>,
}

struct Request {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// A confined program that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Confined {
    /// The process: to wait for and to kill.
    pub child: Child,
    /// Its process id, for [`Usage::of`](crate::Usage::of); valid until `child` was waited for.
    pub pid: u32,
    // The thread that started it must not end before it.
    _launcher: Launcher,
}

/// What a program and its host say to each other through. Standard output goes nowhere.
#[derive(Debug)]
pub struct Streams {
    /// The host's end of a pair of Unix stream sockets; the program has the other end as its standard input.
    pub control: UnixStream,
    /// What it writes to standard error.
    pub stderr: ChildStderr,
}

impl Launcher {
    /// A launcher that starts `program`, an absolute path, as a rule of the host's own binary (`/proc/self/exe`).
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(program: impl Into<PathBuf>) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("sandbox-launcher".to_owned())
            .spawn(move || {
                for mut request in inbox {
                    let _runtime = request.runtime.enter();
                    // If nobody waits any more, the child is dropped with the answer, and killed by that.
                    let _ = request.answer.send(request.command.spawn());
                }
            })?;
        Ok(Self {
            program: program.into(),
            requests,
        })
    }

    /// Starts a program behind the policy's walls. That the launcher refused shows as an exit with
    /// [`EXIT_REFUSED`](crate::EXIT_REFUSED) and a line on standard error.
    ///
    /// Cancel-safe: a program that nobody waits for is killed.
    ///
    /// # Errors
    /// If the host's binary cannot be started.
    pub async fn start(&self, policy: &Policy) -> io::Result<(Confined, Streams)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let mut command = Command::new(&self.program);
        command
            .args([OsString::from(ARGUMENT), std::process::id().to_string().into()])
            .arg(serde_json::to_string(policy)?)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let (answer, child) = oneshot::channel();
        let gone = || io::Error::other("the launcher's thread is gone");
        self.requests
            .send(Request {
                command,
                runtime: Handle::current(),
                answer,
            })
            .map_err(|_| gone())?;
        let mut child = child.await.map_err(|_| gone())??;
        let stderr = child.stderr.take().ok_or_else(gone)?;
        let pid = child.id().ok_or_else(gone)?;
        let confined = Confined {
            child,
            pid,
            _launcher: self.clone(),
        };
        Ok((confined, Streams { control, stderr }))
    }
}
