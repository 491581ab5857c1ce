//! The address others reach this host by, and the port that stays the same (wire.md §1).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use outrigger_types::{AppId, Environment};
use sha2::{Digest as _, Sha256};

/// First port of the stable range.
const STABLE_FIRST: u16 = 47_300;
/// Number of ports in the stable range.
const STABLE_COUNT: u16 = 65_535 - STABLE_FIRST;

/// The address to advertise: `DAPR_HOST_IP`, else the address the kernel would use towards the world, else loopback.
/// No packet is sent.
#[must_use]
pub(crate) fn address(environment: &Environment) -> IpAddr {
    if let Some(given) = environment
        .non_empty("DAPR_HOST_IP")
        .and_then(|text| text.parse().ok())
    {
        return given;
    }
    // Documentation addresses: routable in the kernel's eyes, nobody's in truth.
    [("0.0.0.0:0", "192.0.2.1:80"), ("[::]:0", "[2001:db8::1]:80")]
        .into_iter()
        .find_map(|(from, to)| {
            let socket = UdpSocket::bind(from).ok()?;
            socket.connect(to).ok()?;
            let address = socket.local_addr().ok()?.ip();
            (!is_clat(address) && !address.is_unspecified()).then_some(address)
        })
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// 192.0.0.0/29: the near end of a 464XLAT translator, reachable by nobody else.
fn is_clat(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[..3] == [192, 0, 0] && v4.octets()[3] < 8)
}

/// The port that this app gets again when it is started again in the same folder by the same user.
#[must_use]
pub(crate) fn stable_port(app_id: &AppId, folder: &str, user_id: u32, hostname: &str) -> u16 {
    let digest = Sha256::digest(format!("{app_id}|{folder}|{user_id}|{hostname}"));
    let number = u16::from_le_bytes([digest[0], digest[1]]);
    STABLE_FIRST + number % STABLE_COUNT
}

/// What peers are told: the listen address itself where it is loopback, else the host's.
#[must_use]
pub(crate) fn advertised(listen_address: &str, host: IpAddr, port: u16) -> SocketAddr {
    let ip = match listen_address {
        "127.0.0.1" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "::1" | "[::1]" => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        _ => host,
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_port_is_stable_and_in_range() {
        let port = |app: &str| stable_port(&AppId::from(app), "/srv", 1000, "host");
        assert_eq!(port("a"), port("a"));
        assert_ne!(port("a"), port("b"));
        for i in 0..200 {
            assert!((STABLE_FIRST..65_535).contains(&port(&format!("app{i}"))));
        }
    }

    #[test]
    fn the_given_address_wins() {
        let environment = Environment::from_pairs([("DAPR_HOST_IP", "10.1.2.3")]);
        assert_eq!(address(&environment).to_string(), "10.1.2.3");
        assert_eq!(
            advertised("[::1]", address(&environment), 5).to_string(),
            "[::1]:5"
        );
        assert_eq!(advertised("", address(&environment), 5).to_string(), "10.1.2.3:5");
    }
}
