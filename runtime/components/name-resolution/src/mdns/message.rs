//! DNS messages in the form Dapr's sidecars exchange: zeroconf 1.0.0 records over app ids (wire.md §5, A1.1).
//!
//! The service type is the bare app id, not `_name._tcp`, and the instance is `<hostname>:<id>`:
//!
//! ```text
//! orders.local.                       PTR  host:4711.orders.local.
//! host:4711.orders.local.             SRV  0 0 50002 host.local.
//! host:4711.orders.local.             TXT  "orders"
//! host.local.                         A    192.0.2.2
//! _services._dns-sd._udp.local.       PTR  orders.local.
//! ```

use std::{
    net::{IpAddr, SocketAddr},
    str,
};

use hickory_proto::{
    ProtoError,
    op::{Message, MessageType, OpCode, Query},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        domain::Label,
        rdata::{A, AAAA, PTR, SRV, TXT},
    },
};
use outrigger_component::Error;
use outrigger_name_resolution::Instance;
use outrigger_types::AppId;

/// TTL of PTR, SRV and TXT in seconds (zeroconf `server.go`).
const SERVICE_TTL: u32 = 3200;
/// TTL of addresses in seconds, shorter because hosts change networks (RFC 6762 §10).
const ADDRESS_TTL: u32 = 120;
/// Largest TTL towards a resolver that is no mDNS browser (RFC 6762 §6.7).
const LEGACY_TTL: u32 = 10;
/// Largest DNS label in bytes (RFC 1035 §2.3.4).
const LABEL_LIMIT: usize = 63;

/// One announced sidecar.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) app_id: AppId,
    pub(super) address: SocketAddr,
    /// `<appid>.local.`
    service: Name,
    /// `<hostname>:<id>.<appid>.local.`
    instance: Name,
    /// `<hostname>.local.`
    host: Name,
}

/// What a query asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// `_services._dns-sd._udp.local.`
    Types,
    /// `<appid>.local.`
    Browse,
    /// `<hostname>:<id>.<appid>.local.`
    Lookup,
}

impl Service {
    /// The records of an instance.
    ///
    /// # Errors
    /// A configuration error when the app id does not fit into a DNS label or the host has no name.
    pub(super) fn new(hostname: &str, instance: &Instance) -> Result<Self, Error> {
        let app_id = instance.app_id.as_str();
        let service = service_name(app_id).ok_or_else(|| {
            Error::configuration("the app id cannot be announced by mDNS: a DNS label holds 1 to 63 bytes")
                .with_context("app_id", app_id)
        })?;
        let hostname = hostname.trim_matches('.');
        if hostname.is_empty() {
            return Err(Error::configuration("the host has no name to announce by mDNS"));
        }
        if instance.internal_address.port() == 0 {
            return Err(Error::configuration("the internal port is missing"));
        }
        let malformed = |error: ProtoError| {
            Error::configuration("the host name cannot be announced by mDNS")
                .with_context("hostname", hostname)
                .with_source(error)
        };
        let host = domain_name(hostname).map_err(malformed)?;
        // zeroconf writes the instance as text, so a dotted host name becomes several labels and the id ends the last.
        let (parents, last) = hostname
            .rsplit_once('.')
            .map_or((None, hostname), |(parents, last)| (Some(parents), last));
        let own = instance_label(last, &instance.instance_id);
        let labels = parents
            .into_iter()
            .flat_map(|parents| parents.split('.'))
            .filter(|label| !label.is_empty());
        let labels = labels
            .chain([own.as_str()])
            .map(|label| Label::from_raw_bytes(label.as_bytes()));
        let labels = labels.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        let instance_name = Name::from_labels(labels)
            .and_then(|own| own.append_name(&service))
            .map_err(malformed)?;
        Ok(Self {
            app_id: instance.app_id.clone(),
            address: instance.internal_address,
            service,
            instance: instance_name,
            host,
        })
    }

    /// Whether both announce under the same names.
    pub(super) fn same_instance(&self, other: &Self) -> bool {
        self.instance == other.instance
    }

    fn asked(&self, query: &Query) -> Option<Asked> {
        let wants =
            |kinds: &[RecordType]| query.query_type == RecordType::ANY || kinds.contains(&query.query_type);
        if query.name == self.service && wants(&[RecordType::PTR]) {
            Some(Asked::Browse)
        } else if query.name == self.instance && wants(&[RecordType::SRV, RecordType::TXT]) {
            Some(Asked::Lookup)
        } else if wants(&[RecordType::PTR]) && query.name == enumeration_name() {
            Some(Asked::Types)
        } else {
            None
        }
    }

    /// What this service answers to a query, or nothing. `legacy` answers go to one resolver by unicast: they
    /// repeat id and question, live shortly and carry no cache-flush bit (RFC 6762 §6.7).
    pub(super) fn answer(&self, query: &Message, legacy: bool) -> Option<Message> {
        // Probes carry their records as authorities; zeroconf leaves them alone and so do we: names are unique
        // by host and process.
        if !query.authorities.is_empty() {
            return None;
        }
        let mut message = response(if legacy { query.metadata.id } else { 0 });
        for question in &query.queries {
            match self.asked(question) {
                Some(Asked::Types) => push_new(&mut message.answers, self.types_pointer(SERVICE_TTL)),
                Some(Asked::Browse) => {
                    push_new(&mut message.answers, self.pointer(SERVICE_TTL));
                    for record in [
                        self.srv(SERVICE_TTL, false),
                        self.txt(SERVICE_TTL, false),
                        self.host_address(ADDRESS_TTL, false),
                    ] {
                        push_new(&mut message.additionals, record);
                    }
                }
                Some(Asked::Lookup) => self
                    .all_records(SERVICE_TTL, false)
                    .into_iter()
                    .for_each(|record| push_new(&mut message.answers, record)),
                None => continue,
            }
            if legacy {
                message.add_query(question.clone());
            }
        }
        // Known-answer suppression (RFC 6762 §7.1): silence when the asker still holds it for half its life.
        message.answers.retain(|answer| {
            !query.answers.iter().any(|known| {
                known.name == answer.name && known.data == answer.data && known.ttl >= answer.ttl / 2
            })
        });
        if message.answers.is_empty() {
            return None;
        }
        if legacy {
            for record in message.answers.iter_mut().chain(&mut message.additionals) {
                record.ttl = record.ttl.min(LEGACY_TTL);
                record.mdns_cache_flush = false;
            }
        }
        Some(message)
    }

    /// The unsolicited announcement.
    pub(super) fn announcement(&self) -> Message {
        let mut message = response(0);
        message.answers = self.all_records(SERVICE_TTL, true);
        message
    }

    /// The withdrawal: the announcement with TTL 0.
    pub(super) fn goodbye(&self) -> Message {
        let mut message = self.announcement();
        for record in &mut message.answers {
            record.ttl = 0;
        }
        // Other sidecars share the host's address and the type enumeration; they stay.
        message
            .answers
            .retain(|record| record.name == self.instance || record.name == self.service);
        message
    }

    /// SRV, TXT and pointers in zeroconf's order; only what is ours alone flushes caches, and addresses only when
    /// announced.
    fn all_records(&self, ttl: u32, announced: bool) -> Vec<Record> {
        vec![
            self.srv(ttl, true),
            self.txt(ttl, true),
            self.pointer(ttl),
            self.types_pointer(ttl),
            self.host_address(ADDRESS_TTL, announced),
        ]
    }

    fn pointer(&self, ttl: u32) -> Record {
        Record::from_rdata(self.service.clone(), ttl, RData::PTR(PTR(self.instance.clone())))
    }

    fn types_pointer(&self, ttl: u32) -> Record {
        Record::from_rdata(enumeration_name(), ttl, RData::PTR(PTR(self.service.clone())))
    }

    fn srv(&self, ttl: u32, flush: bool) -> Record {
        let data = SRV::new(0, 0, self.address.port(), self.host.clone());
        flushing(
            Record::from_rdata(self.instance.clone(), ttl, RData::SRV(data)),
            flush,
        )
    }

    fn txt(&self, ttl: u32, flush: bool) -> Record {
        let data = TXT::from_bytes(vec![self.app_id.as_bytes()]);
        flushing(
            Record::from_rdata(self.instance.clone(), ttl, RData::TXT(data)),
            flush,
        )
    }

    fn host_address(&self, ttl: u32, flush: bool) -> Record {
        let data = match self.address.ip() {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        flushing(Record::from_rdata(self.host.clone(), ttl, data), flush)
    }
}

/// A sidecar heard of in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) app_id: AppId,
    /// Its full instance name in lower case, which tells instances apart.
    pub(super) instance: String,
    /// Its first IPv4 and first IPv6 address; both absent when it says goodbye.
    pub(super) v4: Option<SocketAddr>,
    pub(super) v6: Option<SocketAddr>,
    pub(super) goodbye: bool,
}

/// The sidecars a response tells of. Records belong together only within one message: all sidecars of a host
/// share its host name but may advertise different addresses, so a cache of addresses by host name, as mDNS
/// usually keeps it, would mix them up.
pub(super) fn sightings(message: &Message) -> Vec<Sighting> {
    let mut found = Vec::new();
    for record in message.all_sections() {
        let RData::SRV(srv) = &record.data else { continue };
        // The first string of TXT is the app id as written; names compare without case, app ids do not.
        let app_id = message.all_sections().find_map(|other| match &other.data {
            RData::TXT(txt) if other.name == record.name => {
                txt.txt_data.first().and_then(|text| str::from_utf8(text).ok())
            }
            _ => None,
        });
        let Some(app_id) = app_id else { continue };
        let is_instance = service_name(app_id)
            .is_some_and(|service| service.zone_of(&record.name) && service != record.name);
        if !is_instance {
            continue;
        }
        let addresses = message
            .all_sections()
            .filter(|other| other.name == srv.target && other.ttl > 0);
        let (mut v4, mut v6) = (None, None);
        for address in addresses {
            match &address.data {
                RData::A(A(ip)) if !ip.is_unspecified() && !ip.is_multicast() => {
                    v4.get_or_insert(SocketAddr::from((*ip, srv.port)));
                }
                RData::AAAA(AAAA(ip)) if !ip.is_unspecified() && !ip.is_multicast() => {
                    v6.get_or_insert(SocketAddr::from((*ip, srv.port)));
                }
                _ => {}
            }
        }
        let goodbye = record.ttl == 0;
        if goodbye || (srv.port != 0 && (v4.is_some() || v6.is_some())) {
            let instance = record.name.to_lowercase().to_ascii();
            found.push(Sighting {
                app_id: app_id.into(),
                instance,
                v4,
                v6,
                goodbye,
            });
        }
    }
    found
}

/// A browse for these apps.
pub(super) fn browse<'a>(app_ids: impl IntoIterator<Item = &'a AppId>) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    for name in app_ids.into_iter().filter_map(|app_id| service_name(app_id)) {
        message.add_query(Query::query(name, RecordType::PTR));
    }
    message
}

/// `<appid>.local.`, or nothing when the app id is no DNS label.
fn service_name(app_id: &str) -> Option<Name> {
    let label = Label::from_raw_bytes(app_id.as_bytes()).ok()?;
    let local = Label::from_raw_bytes(b"local").ok()?;
    Name::from_labels([label, local]).ok()
}

/// Whether an app id can be asked for at all.
pub(super) fn is_askable(app_id: &AppId) -> bool {
    service_name(app_id).is_some()
}

/// `<host>:<id>` in one label. A long host name gives way to the id, which keeps the instances of one host apart.
fn instance_label(host: &str, id: &str) -> String {
    let mut keep = LABEL_LIMIT.saturating_sub(id.len() + 1).min(host.len());
    while !host.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}:{id}", &host[..keep])
}

/// `<hostname>.local.`
fn domain_name(hostname: &str) -> Result<Name, ProtoError> {
    let labels = hostname
        .split('.')
        .chain(["local"])
        .filter(|label| !label.is_empty());
    let labels = labels
        .map(|label| Label::from_raw_bytes(label.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    Name::from_labels(labels)
}

/// The name under which RFC 6763 §9 lists service types.
fn enumeration_name() -> Name {
    let labels: [&[u8]; 4] = [b"_services", b"_dns-sd", b"_udp", b"local"];
    Name::from_labels(labels).expect("four short labels make a name")
}

fn response(id: u16) -> Message {
    let mut message = Message::response(id, OpCode::Query);
    message.metadata.authoritative = true;
    message
}

fn flushing(mut record: Record, flush: bool) -> Record {
    record.dns_class = DNSClass::IN;
    record.mdns_cache_flush = flush;
    record
}

/// Several questions may ask for one record.
fn push_new(records: &mut Vec<Record>, record: Record) {
    if !records.contains(&record) {
        records.push(record);
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
