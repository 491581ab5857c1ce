//! Ports for processes that are told where to listen.
//!
//! Port 0 is better wherever the process says what it got. Where it does not, a port from 0 that was let go is a
//! trap: it is one that the kernel gives to the connections of anybody, and is soon taken.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the kernel's ephemeral range and Dapr's stable internal ports, so that only other tests compete.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// Ports that nobody listened on a moment ago and that this process has not been given for a long time. Processes
/// begin at different places.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if there are not so many.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(251);
    let mut ports = [0; N];
    let mut found = 0;
    for _ in 0..COUNT {
        if found == N {
            break;
        }
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).map_err(io::Error::other)?;
        // Taken on one address is taken: processes may listen on all.
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            ports[found] = port;
            found += 1;
        }
    }
    if found == N {
        Ok(ports)
    } else {
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("there are no {N} free ports"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same_and_none_is_taken() {
        let first = free::<8>().unwrap();
        let listeners = first.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        let second = free::<8>().unwrap();
        assert!(second.iter().all(|port| !first.contains(port)));
        drop(listeners);
    }
}
