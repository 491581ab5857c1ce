//! When things fire: cron expressions, repeats and due times as pure functions.
//!
//! * [`cron`]: the dialect of robfig/cron v3 that Dapr's scheduler and `bindings.cron` share (kit `cron`).
//! * [`calendar`]: adding calendar periods the way Go's `AddDate` does.
//! * [`point`]: due times and times to live (kit `time`, go-etcd-cron).
//! * [`reminder`]: reminders and timers of actors, tick by tick.
//! * [`job`]: jobs of the scheduler, trigger by trigger.
//!
//! No clock is read and no time zone file opened here: the present and the zones come in as arguments.

pub mod calendar;
pub mod cron;
pub mod job;
pub mod point;
pub mod reminder;
