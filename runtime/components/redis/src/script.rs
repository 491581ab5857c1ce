//! A server-side script that goes by its hash.

use redis::{Cmd, Script};

/// A script, sent as `EVALSHA`, and as `EVAL` to a server that does not know it yet.
#[derive(Debug)]
pub(crate) struct Lua {
    text: &'static str,
    hash: String,
}

impl Lua {
    pub(crate) fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: Script::new(text).get_hash().to_owned(),
        }
    }

    /// `EVALSHA <hash> <keys>`; keys and arguments follow.
    pub(crate) fn by_hash(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.hash.as_str()).arg(keys);
        command
    }

    /// `EVAL <text> <keys>`; the server keeps the script.
    pub(crate) fn in_full(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.text).arg(keys);
        command
    }
}
