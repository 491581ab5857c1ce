//! Free ports, held until the process that shall have them starts.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    ops::Range,
};

use anyhow::{Context as _, Result};

/// Lowest port handed out; below are many well-known ones.
const LOWEST: u16 = 20_000;

/// Random picks before the kernel is asked for any port at all.
const PICKS: usize = 200;

/// A port nobody else can take while this lives.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// The port.
    pub(crate) port: u16,
    _listener: TcpListener,
}

/// Hands out ports.
#[derive(Debug)]
pub(crate) struct Ports {
    range: Range<u16>,
    given: HashSet<u16>,
}

impl Ports {
    /// Ports come from below the range the kernel takes client ports from: a restarted sidecar must get its old
    /// port back, and under load some connection of the machine would otherwise have it by then.
    pub(crate) fn new() -> Self {
        let ephemeral = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(32_768);
        Self {
            range: LOWEST..ephemeral,
            given: HashSet::new(),
        }
    }

    /// Marks a port that was asked for by number, so that it is not handed out.
    pub(crate) fn claim(&mut self, port: u16) {
        self.given.insert(port);
    }

    /// Holds some free port.
    pub(crate) fn free(&mut self) -> Result<Reserved> {
        if self.range.len() > 1000 {
            for _ in 0..PICKS {
                let offset = random() % self.range.len() as u64;
                let port = self.range.start + u16::try_from(offset).unwrap_or(0);
                if self.given.contains(&port) {
                    continue;
                }
                if let Ok(listener) = listen(port) {
                    self.given.insert(port);
                    return Ok(Reserved {
                        port,
                        _listener: listener,
                    });
                }
            }
        }
        let listener = listen(0).context("no free port")?;
        let port = listener.local_addr().context("no free port")?.port();
        self.given.insert(port);
        Ok(Reserved {
            port,
            _listener: listener,
        })
    }
}

/// Whether a listener could have the port now.
pub(crate) fn is_free(port: u16) -> bool {
    listen(port).is_ok()
}

/// Binds every address, so that a listener on any single one conflicts; without IPv6 the IPv4 ones.
fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        }
        other => other,
    }
}

/// A random number; only spread matters here.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u8(0);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_held() {
        let mut ports = Ports::new();
        let held: Vec<Reserved> = (0..20).map(|_| ports.free().unwrap()).collect();
        let distinct: HashSet<u16> = held.iter().map(|reserved| reserved.port).collect();
        assert_eq!(distinct.len(), 20);
        assert!(held.iter().all(|reserved| !is_free(reserved.port)));
    }

    #[test]
    fn a_listener_on_loopback_makes_a_port_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
