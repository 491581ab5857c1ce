//! Free ports. The sidecar takes 0 but does not say what it got, so tests choose.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the kernel's ephemeral range and Dapr's stable internal ports, so that only other tests compete.
const FIRST: u16 = 18_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listened on a moment ago and that no other test of this process gets.
pub(crate) fn free() -> u16 {
    // Two runs beside one another start at different places.
    let offset = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset.wrapping_mul(61).wrapping_add(step)) % COUNT;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
