//! Services that run elsewhere: where they are, and their addresses in place of their names.

use std::{
    collections::BTreeMap,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Result, bail};

/// How long a server may take to accept a connection.
const ANSWER: Duration = Duration::from_secs(2);

/// Addresses by the name of a service, or by `name:port` where a service has several.
#[derive(Debug, Default)]
pub(super) struct Externals(BTreeMap<String, String>);

impl Externals {
    /// Reads `NAME=HOST:PORT` and `NAME:PORT=HOST:PORT`.
    pub(super) fn parse(pairs: &[String]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for pair in pairs {
            let Some((name, address)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                bail!("invalid --external {pair:?}: write NAME=HOST:PORT");
            };
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                bail!("invalid --external {pair:?}: {address:?} is not HOST:PORT");
            }
            found.insert(name.to_owned(), address.to_owned());
        }
        Ok(Self(found))
    }

    /// The addresses of a service, each once.
    pub(super) fn of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name.split(':').next() == Some(service))
            .map(|(_, address)| address.as_str())
    }

    /// The names that no service of the file has.
    pub(super) fn strangers(&self, known: impl Fn(&str) -> bool) -> Vec<&str> {
        let names = self.0.keys().filter_map(|name| name.split(':').next());
        names.filter(|name| !known(name)).collect()
    }

    /// Puts addresses in place of `service:port`.
    pub(super) fn rewrite(&self, text: &str) -> String {
        let mut rewritten = text.to_owned();
        // A name with its port comes after the name alone, and is what is meant.
        for (name, address) in self.0.iter().rev() {
            rewritten = replace(&rewritten, name, address);
        }
        rewritten
    }

    /// The first `service:port` in a text that a process cannot reach by that name.
    pub(super) fn names<'a>(&'a self, text: &str) -> Option<&'a str> {
        let names = self
            .0
            .iter()
            .filter(|(name, address)| address.split(':').next() != name.split(':').next());
        names
            .map(|(name, _)| name.as_str())
            .find(|name| replace(text, name, "") != text)
    }
}

/// Replaces `name:digits`, or `name` where it has digits already, wherever it is a host of its own.
fn replace(text: &str, name: &str, address: &str) -> String {
    let part_of_name =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let mut replaced = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(at) = text[from..].find(name).map(|at| from + at) {
        let after = &text[at + name.len()..];
        let port = if name.contains(':') {
            (!after.starts_with(|character: char| character.is_ascii_digit())).then_some(0)
        } else {
            after.strip_prefix(':').and_then(|after| {
                let digits = after.len()
                    - after
                        .trim_start_matches(|character: char| character.is_ascii_digit())
                        .len();
                (digits > 0).then_some(1 + digits)
            })
        };
        let alone = !text[..at].ends_with(part_of_name);
        match port.filter(|_| alone) {
            Some(length) => {
                replaced.push_str(&text[from..at]);
                replaced.push_str(address);
                from = at + name.len() + length;
            }
            None => {
                replaced.push_str(&text[from..at + name.len()]);
                from = at + name.len();
            }
        }
    }
    replaced.push_str(&text[from..]);
    replaced
}

/// Whether somebody accepts connections there.
pub(super) fn answers(address: &str) -> bool {
    let Ok(mut found) = address.to_socket_addrs() else {
        return false;
    };
    found.any(|address| TcpStream::connect_timeout(&address, ANSWER).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_the_place_of_names() {
        let pairs = [
            "redis=127.0.0.1:7000",
            "rabbitmq=[::1]:7001",
            "rabbitmq:15672=127.0.0.1:7002",
        ];
        let externals = Externals::parse(&pairs.map(str::to_owned)).unwrap();
        for (text, wanted) in [
            ("redis:6379", "127.0.0.1:7000"),
            ("redis:6379,redis:6380", "127.0.0.1:7000,127.0.0.1:7000"),
            (
                "amqp://guest:guest@rabbitmq:5672/x",
                "amqp://guest:guest@[::1]:7001/x",
            ),
            ("http://rabbitmq:15672/api", "http://127.0.0.1:7002/api"),
            ("redis", "redis"),
            ("myredis:6379 a-redis:1 redis:x", "myredis:6379 a-redis:1 redis:x"),
        ] {
            assert_eq!(externals.rewrite(text), wanted);
        }
        assert_eq!(externals.names("value: redis:6379"), Some("redis"));
        assert_eq!(externals.names("value: localhost:6379"), None);
        assert_eq!(
            externals.strangers(|name| name == "redis"),
            ["rabbitmq", "rabbitmq"]
        );
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for wrong in [
            "redis",
            "=127.0.0.1:1",
            "redis=127.0.0.1",
            "redis=host:0",
            "redis=host:x",
        ] {
            assert!(Externals::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
