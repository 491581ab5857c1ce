//! Language model components: `conversation.echo` (A9.9).

mod echo;

pub use echo::{ECHO, Echo};
