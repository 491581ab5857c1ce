//! Where lines go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// Takes whole lines. Losing a line must never stop the program, so there is no error.
pub trait Sink: Send + Sync {
    /// Writes one line, its newline included.
    fn write_line(&self, line: &[u8]);
}

/// Why a log file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to open log file {path:?}")]
pub struct OpenLogFileError {
    /// The file.
    pub path: PathBuf,
    /// The operating system's reason.
    #[source]
    pub source: io::Error,
}

/// Standard output, or a file opened for appending (mode 0644, made when missing).
///
/// # Errors
/// When the file cannot be opened.
pub fn open(path: Option<&Path>) -> Result<Arc<dyn Sink>, OpenLogFileError> {
    match path {
        None => Ok(Arc::new(Stdout)),
        Some(path) => OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o644)
            .open(path)
            .map(|file| Arc::new(Appending(file)) as Arc<dyn Sink>)
            .map_err(|source| OpenLogFileError {
                path: path.to_owned(),
                source,
            }),
    }
}

struct Stdout;

impl Sink for Stdout {
    fn write_line(&self, line: &[u8]) {
        // Standard output is line buffered: a line that ends here leaves in one write.
        let _ = io::stdout().lock().write_all(line);
    }
}

struct Appending(File);

impl Sink for Appending {
    fn write_line(&self, line: &[u8]) {
        // Appends of one write do not interleave, so no lock is needed.
        let _ = (&self.0).write_all(line);
    }
}

/// Lines kept in memory, for tests. It does not bound itself.
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<Vec<u8>>>);

impl MemorySink {
    /// Everything written so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// Forgets what was written.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Sink for MemorySink {
    fn write_line(&self, line: &[u8]) {
        self.0.lock().extend_from_slice(line);
    }
}
