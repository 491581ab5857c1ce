//! Following the chain.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    chain::{self, Chain},
    file::numbered,
};

/// A chain that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many lines were read.
    pub lines: u64,
    /// Number of the first line; above 1 when older files are gone.
    pub first: u64,
    /// Number of the last line.
    pub last: u64,
    /// Hash of the last line: kept elsewhere, it proves that nothing was cut off the end.
    pub hash: String,
}

/// Where a chain breaks, or why it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A line is not the one that was written there.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// There is nothing to verify.
    #[error("there are no records")]
    Empty,
}

/// Verifies a log with the files put aside beside it, oldest first.
///
/// # Errors
/// At the first line that does not follow from the one before.
pub fn verify_files(path: &Path) -> Result<Verified, Broken> {
    let mut paths: Vec<PathBuf> = (1..)
        .map(|number| numbered(path, number))
        .take_while(|path| path.exists())
        .collect();
    paths.reverse();
    paths.push(path.to_owned());
    let mut state = State::default();
    for path in paths {
        let name = path.display().to_string();
        let file = File::open(&path).map_err(|source| Broken::Read {
            path: name.clone(),
            source,
        })?;
        state.follow(&name, BufReader::new(file))?;
    }
    state.verified()
}

/// Verifies lines; `name` says in errors what they are of.
///
/// # Errors
/// At the first line that does not follow from the one before.
pub fn verify(name: &str, lines: impl BufRead) -> Result<Verified, Broken> {
    let mut state = State::default();
    state.follow(name, lines)?;
    state.verified()
}

#[derive(Default)]
struct State {
    lines: u64,
    first: u64,
    chain: Option<Chain>,
}

impl State {
    fn follow(&mut self, name: &str, lines: impl BufRead) -> Result<(), Broken> {
        for (index, line) in lines.lines().enumerate() {
            let line = line.map_err(|source| Broken::Read {
                path: name.to_owned(),
                source,
            })?;
            let broken = |reason| Broken::Line {
                path: name.to_owned(),
                line: u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1),
                reason,
            };
            let sealed = chain::open(&line).map_err(broken)?;
            match &self.chain {
                // Older files may have been removed on purpose: the first line is taken as it is.
                None => self.first = sealed.sequence,
                Some(chain) if chain.hash != sealed.prev => {
                    return Err(broken("it does not follow from the line before"));
                }
                Some(chain) if chain.sequence + 1 != sealed.sequence => {
                    return Err(broken("its number does not follow from the line before"));
                }
                Some(_) => {}
            }
            self.lines += 1;
            self.chain = Some(Chain {
                sequence: sealed.sequence,
                hash: sealed.hash.to_owned(),
            });
        }
        Ok(())
    }

    fn verified(self) -> Result<Verified, Broken> {
        let chain = self.chain.ok_or(Broken::Empty)?;
        Ok(Verified {
            lines: self.lines,
            first: self.first,
            last: chain.sequence,
            hash: chain.hash,
        })
    }
}
