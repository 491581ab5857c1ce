//! Starts a program that the operating system confines: the first wall around strangers' code (F4, H6.1).
//!
//! A [`Launcher`] starts the host's own binary again with a hidden first argument ([`ARGUMENT`]); what runs there,
//! [`enter_if_asked`], builds the walls around itself and then becomes the program. So nothing has to happen between
//! a fork and an exec, which no safe code can do.
//!
//! The walls, by the time the program runs:
//! - **Landlock**: no file may be read but those of [`Policy::read`], none written but below [`Policy::scratch`], none
//!   started but the program itself; no signal and no abstract socket leads out.
//! - **seccomp**: a list of the system calls there are; all others fail with `EPERM`. Threads may be started,
//!   processes may not; sockets only if granted. One `execve` is let through, the launcher's own, told apart by the
//!   address of its argument; any other kills the process.
//! - **limits** on memory, processor time, files, threads; a lower priority; no core dumps.
//! - no new privileges, no capabilities, another user where the host is root; a session of its own, an environment
//!   that holds only what the policy says, no descriptor but the first three; the end of the host is its end.
//!
//! What the kernel lacks is a refusal ([`Support`]), unless the policy says otherwise. `docs/sandbox.md` holds what
//! was tried against the walls and what they do not cover.

mod enter;
mod files;
mod identity;
mod launcher;
mod limits;
mod policy;
mod support;
mod syscalls;
mod usage;

pub use enter::{ARGUMENT, EXIT_REFUSED, Refusal, enter, enter_if_asked};
pub use launcher::{Confined, Launcher, Streams};
pub use policy::{Identity, Limits, Network, Policy, WhenMissing};
pub use support::Support;
pub use usage::Usage;
