//! Secret stores without a server: `secretstores.local.file` and `secretstores.local.env` (A4.1).
//!
//! Neither keeps a secret longer than it must and neither ever prints one.

mod env;
mod file;

pub use env::{ENV, EnvConfig, EnvStore};
pub use file::{FILE, FileConfig, FileStore};
