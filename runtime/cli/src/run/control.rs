//! The socket by which `stop` reaches a running `run`: stopping one of several apps by a signal to its sidecar
//! would only make the sidecar restart.
//!
//! Lines in, one line out: `info` gives [`Info`] as JSON, `state` gives [`RunState`], `stop <app id>` stops the app and
//! answers `stopped`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::readiness::Readiness;

/// Longest line.
const MAX_LINE: u64 = 64 * 1024;

const STOPPED: &str = "stopped";
const UNKNOWN: &str = "unknown app";

/// How long a request may take to arrive; a stop takes longer, up to the graces.
const READ_LIMIT: Duration = Duration::from_secs(2);

/// How long `stop` waits for an answer: both graces and some.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What a run is.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// Process id of the command line.
    pub(crate) cli_pid: u32,
    /// The run file, for `run -f`.
    pub(crate) run_template_path: Option<PathBuf>,
    /// The app ids.
    pub(crate) apps: Vec<String>,
}

/// How far a run is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunState {
    /// The app ids.
    pub(super) apps: Vec<String>,
    /// The instances that were not healthy yet.
    pub(super) missing: Vec<String>,
}

/// A wish to stop an app; the answer says whether the run has such an app.
pub(super) type StopRequest = (String, oneshot::Sender<bool>);

/// The socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens in the folder.
    pub(super) fn listen(
        folder: &Path,
        info: Info,
        readiness: Arc<Readiness>,
        stops: mpsc::Sender<StopRequest>,
    ) -> Result<Self> {
        let path = folder.join(format!("{}.sock", info.cli_pid));
        // Left by a dead process that had our id.
        let _ = std::fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One at a time is enough for a person at a keyboard, but a stop must not hold up a list.
                tokio::spawn(serve(stream, info.clone(), Arc::clone(&readiness), stops.clone()));
            }
        });
        Ok(Self { path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(
    mut stream: UnixStream,
    info: Info,
    readiness: Arc<Readiness>,
    stops: mpsc::Sender<StopRequest>,
) {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read.take(MAX_LINE));
    if !matches!(timeout(READ_LIMIT, read.read_line(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let answer = match line.trim_end().split_once(' ') {
        None if line.trim_end() == "info" => serde_json::to_string(&info).unwrap_or_default(),
        None if line.trim_end() == "state" => {
            let state = RunState {
                missing: readiness.missing(),
                apps: info.apps,
            };
            serde_json::to_string(&state).unwrap_or_default()
        }
        Some(("stop", app_id)) => {
            let (done, stopped) = oneshot::channel();
            let known = stops.send((app_id.to_owned(), done)).await.is_ok() && stopped.await.unwrap_or(true);
            if known { STOPPED } else { UNKNOWN }.to_owned()
        }
        _ => "unknown request".to_owned(),
    };
    let _ = write.write_all(format!("{answer}\n").as_bytes()).await;
}

/// The runs of this user that answer, with their sockets. Dead sockets are removed.
pub(crate) async fn runs(folder: &Path) -> Vec<(Info, PathBuf)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return found;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "sock") {
            continue;
        }
        match ask(&path, "info", READ_LIMIT).await {
            Ok(answer) => {
                if let Ok(info) = serde_json::from_str(&answer) {
                    found.push((info, path));
                }
            }
            Err(error) => {
                let refused = error
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
                if refused {
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
    }
    found
}

/// How far the run is that listens there.
pub(super) async fn state(socket: &Path) -> Result<RunState> {
    let answer = ask(socket, "state", READ_LIMIT).await?;
    serde_json::from_str(&answer).context("the run's state is not readable")
}

/// Stops an app of a run; returns when it is stopped, with whether the run had it.
pub(crate) async fn stop(socket: &Path, app_id: &str) -> Result<bool> {
    match ask(socket, &format!("stop {app_id}"), STOP_LIMIT).await?.as_str() {
        // A command line that stopped its last app may be gone before it answers.
        STOPPED | "" => Ok(true),
        UNKNOWN => Ok(false),
        other => bail!("the run does not understand: {other}"),
    }
}

async fn ask(socket: &Path, request: &str, limit: Duration) -> Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.take(MAX_LINE).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    Ok(timeout(limit, exchange)
        .await
        .context("the run does not answer")??
        .trim_end()
        .to_owned())
}
