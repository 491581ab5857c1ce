//! The hidden entry: builds the walls around this process and becomes the program.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use crate::policy::{Policy, WhenMissing};
use crate::support::{LEAST_LANDLOCK, Support};
use crate::{files, identity, limits, syscalls};

/// The first argument by which a host's binary is asked to become a confined program.
pub const ARGUMENT: &str = "__sandbox";

/// The exit code of a launcher that refused; the reason is on its standard error.
pub const EXIT_REFUSED: u8 = 125;

/// Why no program was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The arguments are not a launcher's.
    #[error("the sandbox was asked in a way it does not know: {0}")]
    Request(String),
    /// The kernel lacks a wall, and the policy does not go without.
    #[error("the kernel cannot confine programs: {0}")]
    Missing(Support),
    /// A wall could not be built.
    #[error("{wall} cannot be set up: {why}")]
    Wall {
        /// Which.
        wall: &'static str,
        /// In the kernel's words.
        why: String,
    },
    /// The program could not be started.
    #[error("{program} cannot be started: {why}")]
    Start {
        /// Which.
        program: String,
        /// In the kernel's words.
        why: io::Error,
    },
}

/// For the first lines of a host's `main`: if the arguments (without the program's name) ask for a sandbox, becomes
/// the program, or says on standard error why not and answers the exit code. `None` if they ask for something else.
pub fn enter_if_asked(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if args.next()? != ARGUMENT {
        return None;
    }
    let refusal = match parse(args) {
        Ok((parent, policy)) => match enter(&policy, parent) {
            Ok(never) => match never {},
            Err(refusal) => refusal,
        },
        Err(refusal) => refusal,
    };
    #[expect(clippy::print_stderr, reason = "the host reads it there")]
    {
        eprintln!("{refusal}");
    }
    Some(ExitCode::from(EXIT_REFUSED))
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<(u32, Policy), Refusal> {
    let mut next = |what: &str| {
        args.next()
            .and_then(|arg| arg.into_string().ok())
            .ok_or_else(|| Refusal::Request(format!("{what} is missing")))
    };
    let parent = next("the host's process id")?
        .parse()
        .map_err(|_| Refusal::Request("the host's process id is no number".to_owned()))?;
    let policy = serde_json::from_str(&next("the policy")?)
        .map_err(|error| Refusal::Request(format!("the policy: {error}")))?;
    Ok((parent, policy))
}

/// Builds the walls around this process and becomes the program. To be called before there are further threads:
/// walls stand around the calling thread, and others would see it become another user.
///
/// # Errors
/// Returns only if the program was not started; some walls may stand by then, so that the caller can only end.
pub fn enter(policy: &Policy, parent: u32) -> Result<Infallible, Refusal> {
    let wall = |wall: &'static str| {
        move |why: io::Error| Refusal::Wall {
            wall,
            why: why.to_string(),
        }
    };
    let weaker = policy.when_missing == WhenMissing::GoWithout;
    let mut support = Support::of_this_kernel();
    if !weaker && !support.is_enough() {
        return Err(Refusal::Missing(support));
    }
    close_descriptors().map_err(wall("the list of descriptors"))?;
    // Fails only if it is the leader of one already, which is as good.
    let _ = rustix::process::setsid();
    identity::assume(policy.identity).map_err(wall("the user"))?;
    identity::die_with(parent).map_err(wall("the bond to the host"))?;
    // All that is needed later is made now: behind the limits memory may be scarce.
    let program = text(policy.program.as_os_str().as_bytes())?;
    let mut args = vec![program.clone()];
    for arg in &policy.args {
        args.push(text(arg.as_bytes())?);
    }
    let mut env = Vec::new();
    for (name, value) in &policy.env {
        env.push(text(format!("{name}={value}").as_bytes())?);
    }
    let filters = syscalls::filters(policy, program.as_ptr().addr()).map_err(|error| Refusal::Wall {
        wall: "seccomp",
        why: error.to_string(),
    })?;
    support.landlock = files::confine(policy).map_err(|error| Refusal::Wall {
        wall: "Landlock",
        why: error.to_string(),
    })?;
    if !weaker && support.landlock < LEAST_LANDLOCK {
        return Err(Refusal::Missing(support));
    }
    limits::apply(policy).map_err(wall("a limit"))?;
    for filter in &filters {
        if let Err(error) = seccompiler::apply_filter(filter)
            && !weaker
        {
            return Err(Refusal::Wall {
                wall: "seccomp",
                why: error.to_string(),
            });
        }
    }
    let Err(errno) = nix::unistd::execve(&program, &args, &env);
    Err(Refusal::Start {
        program: policy.program.display().to_string(),
        why: io::Error::from(errno),
    })
}

fn text(bytes: &[u8]) -> Result<CString, Refusal> {
    CString::new(bytes).map_err(|_| Refusal::Request("a zero byte in an argument".to_owned()))
}

/// Closes all descriptors but the first three. The host's own close at exec; those it inherited itself may not.
fn close_descriptors() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // The folder's own descriptor is in the list, and closed by now.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}
