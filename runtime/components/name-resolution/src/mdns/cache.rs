//! Who has been heard of, for the apps somebody asked about; no I/O, time is passed in.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use outrigger_name_resolution::Addresses;
use outrigger_types::AppId;
use tokio::{sync::Notify, time::Instant};

use super::message::Sighting;

/// How long an instance is believed after its last word (peer: `addressTTL`).
pub(super) const ADDRESS_LIFE: Duration = Duration::from_secs(60);
/// How long an app nobody asks for is still refreshed.
const INTEREST_LIFE: Duration = Duration::from_secs(600);
/// Most apps a sidecar keeps an eye on; the one unused for longest gives way.
const APP_LIMIT: usize = 1024;
/// Most instances of one app; beyond it the oldest gives way.
const INSTANCE_LIMIT: usize = 256;
/// Pauses before the second and later queries of one browse, as multicast gets lost.
const QUERY_PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// An instance as last heard.
#[derive(Debug)]
struct Heard {
    instance: String,
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    at: Instant,
}

/// An app that was asked for.
#[derive(Debug)]
struct Interest {
    heard: Vec<Heard>,
    used: Instant,
    /// Queries sent in the present series, and when the last one was.
    queries: usize,
    queried: Option<Instant>,
    changed: Arc<Notify>,
}

/// Only apps somebody asked for are kept: a busy network cannot fill the cache, and an instance that died before
/// the first question is never believed alive.
#[derive(Debug, Default)]
pub(super) struct Cache {
    apps: HashMap<AppId, Interest>,
}

impl Cache {
    /// Notes that an app is wanted; the handle wakes when something is heard of it.
    pub(super) fn want(&mut self, app_id: &AppId, now: Instant) -> Arc<Notify> {
        if !self.apps.contains_key(app_id) && self.apps.len() >= APP_LIMIT {
            let oldest = self
                .apps
                .iter()
                .min_by_key(|(_, interest)| interest.used)
                .map(|(app_id, _)| app_id.clone());
            oldest.and_then(|app_id| self.apps.remove(&app_id));
        }
        let interest = self.apps.entry(app_id.clone()).or_insert_with(|| Interest {
            heard: Vec::new(),
            used: now,
            queries: 0,
            queried: None,
            changed: Arc::new(Notify::new()),
        });
        interest.used = now;
        Arc::clone(&interest.changed)
    }

    /// Live addresses of an app: all IPv4 ones, or the IPv6 ones when there is no other (the peer's preference).
    pub(super) fn addresses(&self, app_id: &AppId, now: Instant) -> Addresses {
        let Some(interest) = self.apps.get(app_id) else {
            return Vec::new();
        };
        let live = || {
            interest
                .heard
                .iter()
                .filter(|heard| now < heard.at + ADDRESS_LIFE)
        };
        let v4: Addresses = live()
            .filter_map(|heard| heard.v4)
            .map(|address| address.to_string())
            .collect();
        if v4.is_empty() {
            live()
                .filter_map(|heard| heard.v6)
                .map(|address| address.to_string())
                .collect()
        } else {
            v4
        }
    }

    /// When the next query for an app is due; the caller sends it if that is now. All who wait for one app share
    /// one series of queries.
    pub(super) fn next_query(&self, app_id: &AppId, now: Instant) -> Instant {
        match self.apps.get(app_id) {
            Some(Interest {
                queries,
                queried: Some(queried),
                ..
            }) => *queried + QUERY_PAUSES[queries.saturating_sub(1).min(QUERY_PAUSES.len() - 1)],
            _ => now,
        }
    }

    /// Whether nobody has asked the network for this app yet; notes that somebody does now.
    pub(super) fn first_query(&mut self, app_id: &AppId, now: Instant) -> bool {
        let first = self
            .apps
            .get(app_id)
            .is_some_and(|interest| interest.queried.is_none());
        if first {
            self.queried(app_id, now);
        }
        first
    }

    /// Notes that a query for an app goes out.
    pub(super) fn queried(&mut self, app_id: &AppId, now: Instant) {
        if let Some(interest) = self.apps.get_mut(app_id) {
            let pause = QUERY_PAUSES[QUERY_PAUSES.len() - 1];
            let same_series = interest.queried.is_some_and(|queried| now < queried + pause * 2);
            interest.queries = if same_series { interest.queries + 1 } else { 1 };
            interest.queried = Some(now);
        }
    }

    /// Takes in what a response told.
    pub(super) fn hear(&mut self, sighting: Sighting, now: Instant) {
        let Some(interest) = self.apps.get_mut(&sighting.app_id) else {
            return;
        };
        if sighting.goodbye {
            interest.heard.retain(|heard| heard.instance != sighting.instance);
            return;
        }
        // An address belongs to one process: whoever else announced it is gone.
        let shares = |known: Option<SocketAddr>, told: Option<SocketAddr>| known.is_some() && known == told;
        interest.heard.retain(|heard| {
            heard.instance == sighting.instance
                || !(shares(heard.v4, sighting.v4) || shares(heard.v6, sighting.v6))
        });
        match interest
            .heard
            .iter_mut()
            .find(|heard| heard.instance == sighting.instance)
        {
            Some(heard) => {
                heard.v4 = sighting.v4;
                heard.v6 = sighting.v6;
                heard.at = now;
            }
            None => {
                if interest.heard.len() >= INSTANCE_LIMIT
                    && let Some(oldest) =
                        (0..interest.heard.len()).min_by_key(|&index| interest.heard[index].at)
                {
                    interest.heard.remove(oldest);
                }
                interest.heard.push(Heard {
                    instance: sighting.instance,
                    v4: sighting.v4,
                    v6: sighting.v6,
                    at: now,
                });
            }
        }
        interest.changed.notify_waiters();
    }

    /// Forgets an address that did not answer. A live sidecar returns with its next answer.
    /// Says whether it was known.
    pub(super) fn forget(&mut self, app_id: &AppId, address: &str) -> bool {
        let Some(interest) = self.apps.get_mut(app_id) else {
            return false;
        };
        let before = interest.heard.len();
        let is = |known: Option<SocketAddr>| known.is_some_and(|known| known.to_string() == address);
        interest.heard.retain(|heard| !is(heard.v4) && !is(heard.v6));
        interest.heard.len() < before
    }

    /// Drops what is stale or no longer wanted; what remains is to be asked for again.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<AppId> {
        self.apps.retain(|_, interest| {
            interest.heard.retain(|heard| now < heard.at + ADDRESS_LIFE);
            now < interest.used + INTEREST_LIFE
                && (!interest.heard.is_empty() || now < interest.used + ADDRESS_LIFE)
        });
        self.apps.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(instance: &str, v4: &str) -> Sighting {
        Sighting {
            app_id: "orders".into(),
            instance: instance.into(),
            v4: Some(v4.parse().unwrap()),
            v6: None,
            goodbye: false,
        }
    }

    fn orders() -> AppId {
        "orders".into()
    }

    #[test]
    fn only_wanted_apps_are_kept_and_only_for_their_life() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.hear(sighting("a", "192.0.2.1:1"), now);
        assert!(cache.addresses(&orders(), now).is_empty());
        cache.want(&orders(), now);
        cache.hear(sighting("a", "192.0.2.1:1"), now);
        assert_eq!(cache.addresses(&orders(), now), ["192.0.2.1:1"]);
        assert!(cache.addresses(&orders(), now + ADDRESS_LIFE).is_empty());
        assert_eq!(cache.sweep(now), [orders()]);
        assert!(cache.sweep(now + INTEREST_LIFE).is_empty());
    }

    #[test]
    fn a_new_owner_of_an_address_replaces_the_old_one_and_a_goodbye_removes() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.want(&orders(), now);
        cache.hear(sighting("a", "192.0.2.1:1"), now);
        cache.hear(sighting("b", "192.0.2.1:2"), now);
        cache.hear(sighting("c", "192.0.2.1:1"), now);
        assert_eq!(cache.addresses(&orders(), now), ["192.0.2.1:2", "192.0.2.1:1"]);
        cache.hear(
            Sighting {
                goodbye: true,
                v4: None,
                ..sighting("c", "192.0.2.1:1")
            },
            now,
        );
        assert_eq!(cache.addresses(&orders(), now), ["192.0.2.1:2"]);
        assert!(cache.forget(&orders(), "192.0.2.1:2"));
        assert!(!cache.forget(&orders(), "192.0.2.1:2"));
        assert!(cache.addresses(&orders(), now).is_empty());
    }

    #[test]
    fn a_moved_instance_keeps_one_entry() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.want(&orders(), now);
        cache.hear(sighting("a", "192.0.2.1:1"), now);
        cache.hear(sighting("a", "192.0.2.1:9"), now);
        assert_eq!(cache.addresses(&orders(), now), ["192.0.2.1:9"]);
    }

    #[test]
    fn ipv6_answers_only_without_ipv4() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.want(&orders(), now);
        let v6 = Some("[2001:db8::1]:5".parse().unwrap());
        cache.hear(
            Sighting {
                v4: None,
                v6,
                ..sighting("a", "192.0.2.1:1")
            },
            now,
        );
        assert_eq!(cache.addresses(&orders(), now), ["[2001:db8::1]:5"]);
        cache.hear(sighting("b", "192.0.2.1:1"), now);
        assert_eq!(cache.addresses(&orders(), now), ["192.0.2.1:1"]);
    }

    #[test]
    fn queries_of_one_series_are_spaced_out_and_shared() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.want(&orders(), now);
        assert_eq!(cache.next_query(&orders(), now), now);
        cache.queried(&orders(), now);
        assert_eq!(cache.next_query(&orders(), now), now + QUERY_PAUSES[0]);
        let second = now + QUERY_PAUSES[0];
        cache.queried(&orders(), second);
        assert_eq!(cache.next_query(&orders(), second), second + QUERY_PAUSES[1]);
        let later = now + Duration::from_secs(30);
        assert!(cache.next_query(&orders(), later) <= later);
        cache.queried(&orders(), later);
        assert_eq!(cache.next_query(&orders(), later), later + QUERY_PAUSES[0]);
    }

    #[test]
    fn apps_and_instances_are_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for index in 0..APP_LIMIT + 10 {
            cache.want(
                &format!("app{index}").into(),
                now + Duration::from_millis(index as u64),
            );
        }
        assert_eq!(cache.apps.len(), APP_LIMIT);
        cache.want(&orders(), now + Duration::from_secs(9));
        for index in 0..INSTANCE_LIMIT as u16 + 10 {
            cache.hear(
                sighting(&index.to_string(), &format!("192.0.2.1:{}", index + 1)),
                now,
            );
        }
        assert_eq!(cache.addresses(&orders(), now).len(), INSTANCE_LIMIT);
    }
}
