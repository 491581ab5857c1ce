//! As much of WASI (preview 1) as a handler's language runtime needs: no files, no arguments, no environment; standard
//! output and error go to the log, waiting ends at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmi::{Caller, Error, Linker, errors::LinkerError};

use super::{
    abi::{read, write},
    guest::State,
};

const MODULE: &str = "wasi_snapshot_preview1";
const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
const SEEKS_NOT: i32 = 70;
/// Longer output of one call is cut off.
const MAX_OUTPUT: usize = 16 * 1024;
/// More random bytes at a time than anybody asks for.
const MAX_RANDOM: u32 = 1 << 20;

/// What a guest sees of the world.
#[derive(Debug)]
pub(super) struct World {
    strict: bool,
    /// The made-up clock, in nanoseconds since 1970: it moves a millisecond whenever somebody looks.
    clock: u64,
    /// The state of the made-up random numbers.
    random: u64,
    /// What was printed in this call.
    output: Vec<u8>,
}

impl World {
    pub(super) fn new(strict: bool) -> Self {
        Self {
            strict,
            clock: since_1970().as_secs().saturating_mul(1_000_000_000),
            random: 42,
            output: Vec::new(),
        }
    }

    fn now(&mut self) -> u64 {
        if self.strict {
            self.clock += 1_000_000;
            self.clock
        } else {
            u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX)
        }
    }

    fn random(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            if self.strict {
                // splitmix64: the same numbers for every guest.
                self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = self.random;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
            } else {
                // A random id has fixed bits in its middle; its ends have none.
                let id = uuid::Uuid::new_v4();
                bytes.extend_from_slice(&id.as_bytes()[..6]);
                bytes.extend_from_slice(&id.as_bytes()[9..]);
            }
        }
        bytes.truncate(length);
        bytes
    }

    /// What was printed since the last time.
    pub(super) fn take_output(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.output)).into_owned()
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(super) fn define(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    nothing(linker)?;
    linker
        .func_wrap(MODULE, "proc_exit", |status: i32| -> Result<(), Error> {
            Err(Error::i32_exit(status))
        })?
        .func_wrap(
            MODULE,
            "clock_res_get",
            |mut caller: Caller<'_, State>, _clock: i32, at: u32| {
                write(&mut caller, at, &1_000_000_u64.to_le_bytes()).map(|()| SUCCESS)
            },
        )?
        .func_wrap(
            MODULE,
            "clock_time_get",
            |mut caller: Caller<'_, State>, _clock: i32, _precision: i64, at: u32| {
                let now = caller.data_mut().world.now();
                write(&mut caller, at, &now.to_le_bytes()).map(|()| SUCCESS)
            },
        )?
        .func_wrap(
            MODULE,
            "random_get",
            |mut caller: Caller<'_, State>, at: u32, length: u32| {
                if length > MAX_RANDOM {
                    return Err(Error::new("too many random bytes at once"));
                }
                let bytes = caller.data_mut().world.random(length as usize);
                write(&mut caller, at, &bytes).map(|()| SUCCESS)
            },
        )?
        .func_wrap(MODULE, "fd_write", print)?
        .func_wrap(MODULE, "poll_oneoff", wait)?;
    Ok(())
}

/// What is not there, politely.
fn nothing(linker: &mut Linker<State>) -> Result<(), LinkerError> {
    let zeros = |mut caller: Caller<'_, State>, count: u32, size: u32| {
        write(&mut caller, count, &[0; 4])?;
        write(&mut caller, size, &[0; 4]).map(|()| SUCCESS)
    };
    linker
        .func_wrap(MODULE, "args_sizes_get", zeros)?
        .func_wrap(MODULE, "environ_sizes_get", zeros)?
        .func_wrap(MODULE, "args_get", |_: i32, _: i32| SUCCESS)?
        .func_wrap(MODULE, "environ_get", |_: i32, _: i32| SUCCESS)?
        .func_wrap(MODULE, "sched_yield", || SUCCESS)?
        .func_wrap(MODULE, "fd_close", |_: i32| SUCCESS)?
        .func_wrap(MODULE, "fd_fdstat_set_flags", |_: i32, _: i32| SUCCESS)?
        .func_wrap(MODULE, "fd_prestat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?
        .func_wrap(MODULE, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| {
            BAD_DESCRIPTOR
        })?
        .func_wrap(MODULE, "fd_seek", |_: i32, _: i64, _: i32, _: i32| SEEKS_NOT)?
        .func_wrap(
            MODULE,
            "fd_fdstat_get",
            |mut caller: Caller<'_, State>, descriptor: i32, at: u32| {
                if !(0..=2).contains(&descriptor) {
                    return Ok(BAD_DESCRIPTOR);
                }
                // A character device with every right.
                let mut stat = [0_u8; 24];
                stat[0] = 2;
                stat[8..].fill(0xff);
                write(&mut caller, at, &stat).map(|()| SUCCESS)
            },
        )?
        .func_wrap(
            MODULE,
            "fd_read",
            |mut caller: Caller<'_, State>, _: i32, _: i32, _: i32, read: u32| {
                write(&mut caller, read, &[0; 4]).map(|()| SUCCESS)
            },
        )?;
    Ok(())
}

fn print(
    mut caller: Caller<'_, State>,
    descriptor: i32,
    vectors: u32,
    count: u32,
    written: u32,
) -> Result<i32, Error> {
    if !matches!(descriptor, 1 | 2) {
        return Ok(BAD_DESCRIPTOR);
    }
    let mut total: u32 = 0;
    for vector in 0..count.min(1024) {
        let entry = read(&caller, vectors.wrapping_add(vector * 8), 8)?;
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
        };
        let (start, length) = (number(&entry[..4]), number(&entry[4..]));
        let text = read(&caller, start, length)?;
        let output = &mut caller.data_mut().world.output;
        let room = MAX_OUTPUT.saturating_sub(output.len());
        output.extend_from_slice(&text[..text.len().min(room)]);
        total = total.saturating_add(length);
    }
    write(&mut caller, written, &total.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Every event has happened: a handler that waits would hold up its request.
fn wait(
    mut caller: Caller<'_, State>,
    subscriptions: u32,
    events: u32,
    count: u32,
    happened: u32,
) -> Result<i32, Error> {
    let count = count.min(64);
    for index in 0..count {
        let subscription = read(&caller, subscriptions.wrapping_add(index * 48), 48)?;
        let mut event = [0_u8; 32];
        event[..8].copy_from_slice(&subscription[..8]);
        event[10] = subscription[8];
        write(&mut caller, events.wrapping_add(index * 32), &event)?;
    }
    write(&mut caller, happened, &count.to_le_bytes())?;
    Ok(SUCCESS)
}
