//! The todo app's task service twice: by hand on Redis and RabbitMQ, and on the kit beside a sidecar (D6).
//!
//! Both are two services. `tasks`, of which several instances run, keeps lists, tells of each change by an event, and
//! asks `stats` by its name; `stats` counts events, each once. Both answer alike: the rules are the todo app's own
//! ([`outrigger_todo`]), the routes are in [`routes`], and one test sends the same requests to both.
//!
//! What differs is plumbing: the folder `direct` and the folder `kit`. Both do all of this:
//!
//! * a change and its event are committed together, guarded by the version that was read; a repeated change with the
//!   same key happens once; the event leaves after the commit, after a crash on the next start;
//! * every call of a store, a broker or a service has a time limit, retries with back-off, and a circuit breaker;
//! * instances find one another by name and share the load;
//! * a message that was not handled comes again, and is counted once;
//! * a trace goes through requests and events; spans leave by OTLP; log lines;
//! * health tells whether the service can work; an end in order loses nothing.
//!
//! # How lines are counted
//!
//! Every line of every file in the two folders counts, but for empty lines, lines that only hold a comment, and tests.
//! Rust is formatted by the workspace's rustfmt. Files of YAML, which only the kit's folder has, count as well: they
//! say there what is code elsewhere. What both share counts for neither, and neither do libraries, the kit and the
//! sidecar among them.

pub mod direct;
pub mod kit;
pub mod routes;

/// The names of the two services.
pub mod app_id {
    /// Keeps lists.
    pub const TASKS: &str = "tasks";
    /// Counts what happens to tasks.
    pub const STATS: &str = "stats";
}
