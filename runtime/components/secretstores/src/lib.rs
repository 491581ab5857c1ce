//! Secret stores: `secretstores.local.file` and `secretstores.local.env`, which need no server, and
//! `secretstores.hashicorp.vault` (A4.1).
//!
//! None keeps a secret longer than it must and none ever prints one.

mod env;
mod file;
mod vault;

pub use env::{ENV, EnvConfig, EnvStore};
pub use file::{FILE, FileConfig, FileStore};
pub use vault::{VAULT, VaultConfig, VaultStore};
