//! Bindings without a broker: `bindings.cron`, `bindings.http` and `bindings.localstorage` (A5).

mod http;
mod localstorage;

pub use http::{HTTP, HttpBinding, HttpConfig};
pub use localstorage::{LOCAL_STORAGE, LocalStorage, LocalStorageConfig};
