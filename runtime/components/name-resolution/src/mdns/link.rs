//! Multicast sockets: one per network interface and address family.
//!
//! A socket per interface, bound to the group and deaf to groups joined by others, tells by itself where a
//! question came from, so the answer goes out there and nowhere else.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    num::NonZeroU32,
};

use getifaddrs::{InterfaceFlags, getifaddrs};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::UdpSocket;

/// The port of mDNS (RFC 6762 §3).
pub(super) const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Messages stay on the link, and 255 proves it to receivers (RFC 6762 §11).
const HOPS: u32 = 255;
/// Most sockets, for hosts with hundreds of virtual interfaces.
const LINK_LIMIT: usize = 64;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

/// An interface and family to speak on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) index: NonZeroU32,
    pub(super) family: Family,
    /// The interface's first address, which some systems name the interface by.
    source: Option<Ipv4Addr>,
    pub(super) name: String,
}

/// Where mDNS can be spoken: every interface that is up and does multicast, the loopback interface only when
/// there is no other. An empty `only` admits all, otherwise it lists interface names.
///
/// # Errors
/// When the system does not list its interfaces.
pub(super) fn places(only: &[String]) -> io::Result<Vec<Place>> {
    let mut found = BTreeMap::new();
    let mut loopback = BTreeMap::new();
    for interface in getifaddrs()? {
        let Some(index) = interface.index.and_then(NonZeroU32::new) else {
            continue;
        };
        let admitted = only.is_empty() || only.contains(&interface.name);
        if !admitted || !interface.flags.contains(InterfaceFlags::UP) {
            continue;
        }
        let set = if interface.flags.contains(InterfaceFlags::LOOPBACK) {
            &mut loopback
        } else if interface.flags.contains(InterfaceFlags::MULTICAST) {
            &mut found
        } else {
            continue;
        };
        let (family, source) = match interface.address.ip_addr() {
            Some(IpAddr::V4(ip)) => (Family::V4, Some(ip)),
            Some(IpAddr::V6(_)) => (Family::V6, None),
            None => continue,
        };
        set.entry((index, family)).or_insert(Place {
            index,
            family,
            source,
            name: interface.name,
        });
    }
    let mut chosen = if found.is_empty() || !only.is_empty() {
        loopback
    } else {
        BTreeMap::new()
    };
    chosen.append(&mut found);
    Ok(chosen.into_values().take(LINK_LIMIT).collect())
}

/// One open socket.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) place: Place,
    socket: UdpSocket,
    group: SocketAddr,
}

impl Link {
    /// Joins the mDNS group there.
    ///
    /// # Errors
    /// When the port is held exclusively by someone else or the interface refuses multicast.
    pub(super) fn open(place: Place) -> io::Result<Self> {
        let (domain, group) = match place.family {
            Family::V4 => (Domain::IPV4, SocketAddr::from((GROUP_V4, PORT))),
            Family::V6 => (
                Domain::IPV6,
                SocketAddrV6::new(GROUP_V6, PORT, 0, place.index.get()).into(),
            ),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        share_port(&socket)?;
        match place.family {
            Family::V4 => configure_v4(&socket, &place)?,
            Family::V6 => configure_v6(&socket, &place)?,
        }
        socket.bind(&SockAddr::from(bind_address(group, place.family)))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            place,
            socket: UdpSocket::from_std(socket.into())?,
            group,
        })
    }

    /// The next datagram and its sender.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    /// Sends to everybody on the link. Never waits: a full socket buffer loses the datagram as the network may,
    /// and senders repeat themselves anyway.
    pub(super) fn multicast(&self, datagram: &[u8]) {
        self.unicast(datagram, self.group);
    }

    /// Sends to one resolver.
    pub(super) fn unicast(&self, datagram: &[u8], to: SocketAddr) {
        // Past tokio, whose view of a new socket is "not writable" until its driver has run.
        if let Err(error) = SockRef::from(&self.socket).send_to(datagram, &to.into()) {
            tracing::debug!(interface = %self.place.name, %error, "mDNS datagram not sent");
        }
    }
}

/// All sidecars of a host listen on one port.
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    // On Linux SO_REUSEADDR is enough and every socket gets every multicast; SO_REUSEPORT would make us one of a
    // balanced group. The BSDs and macOS need it.
    #[cfg(all(
        unix,
        not(any(
            target_os = "linux",
            target_os = "android",
            target_os = "solaris",
            target_os = "illumos"
        ))
    ))]
    socket.set_reuse_port(true)?;
    Ok(())
}

fn configure_v4(socket: &Socket, place: &Place) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_multicast_all_v4(false)?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(place.index.get()))?;
    socket.set_multicast_if_v4(&place.source.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(HOPS)
}

fn configure_v6(socket: &Socket, place: &Place) -> io::Result<()> {
    socket.set_only_v6(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_multicast_all_v6(false)?;
    socket.join_multicast_v6(&GROUP_V6, place.index.get())?;
    socket.set_multicast_if_v6(place.index.get())?;
    socket.set_multicast_loop_v6(true)?;
    socket.set_multicast_hops_v6(HOPS)
}

/// Binding to the group keeps unicast datagrams of other programs on the port out; Windows only binds to
/// addresses of its own.
fn bind_address(group: SocketAddr, family: Family) -> SocketAddr {
    if cfg!(windows) {
        match family {
            Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)),
        }
    } else {
        group
    }
}
