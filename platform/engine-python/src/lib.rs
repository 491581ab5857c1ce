//! Runs workers written in Python (`text/x-python`), each in a confined process of its own (H2.1, H6, R7).
//!
//! A worker's code has a function `Process(event: dict) -> dict | None`. Its process is started once and then given
//! event after event over a socket; see `bootstrap.py` for the frames. Up to [`PythonSettings::concurrency`] events
//! run at a time, in threads of the one interpreter, so globals of the code are shared between them (H3.2).
//!
//! A process that does not answer in time, is silent to pings, breaks the protocol, starts too many threads or ends is
//! killed, and the next event starts another one, after a pause that grows while processes keep ending. Events that
//! were under way beside one that timed out run once more in the new process; so an event may be seen twice, as with
//! any delivery of a broker.
//!
//! The first wall is the operating system's (`outrigger_platform_sandbox`), the second the lists of [`Imports`].
//! The host's binary must call `outrigger_platform_sandbox::enter_if_asked` first thing in `main`, or
//! [`PythonSettings::launcher`] must name one that does.

mod factory;
mod frames;
mod imports;
mod interpreter;
mod process;
mod settings;
mod stderr;
mod supervisor;
mod worker;

pub use factory::PythonEngine;
pub use imports::Imports;
pub use settings::PythonSettings;
