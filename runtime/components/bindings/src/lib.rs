//! Bindings without a broker: `bindings.cron`, `bindings.http` and `bindings.localstorage` (A5).

mod cron;
mod http;
mod localstorage;

pub use cron::{CRON, Clock, Cron, CronConfig, SystemClock, Zone};
pub use http::{HTTP, HttpBinding, HttpConfig};
pub use localstorage::{LOCAL_STORAGE, LocalStorage, LocalStorageConfig};
