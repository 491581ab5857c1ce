use proptest::prelude::*;

use super::*;

/// What daprd 1.18.2 (host `vm`, process 14895, app `orders`, internal port 41002) sent: the second announcement,
/// its answer to a browse with id 0x1234, and its goodbye.
const PEER_ANNOUNCEMENT: &str = "00008000000000050000000008766d3a3134383935066f7264657273056c6f63616c000021800100000c8000\
     1000000000a02a02766d056c6f63616c00c00c0010800100000c800007066f7264657273c015000c000100000c800002c00c095f7365727669\
     636573075f646e732d7364045f756470c01c000c000100000c800002c015c03300018001000000780004c0000202";
const PEER_ANSWER: &str = "123484000000000100000003066f7264657273056c6f63616c00000c000100000c80000b08766d3a3134383935c00cc024002100\
     0100000c80001000000000a02a02766d056c6f63616c00c0240010000100000c800007066f7264657273c04100010001000000780004c0000202";
const PEER_GOODBYE: &str = "00008000000000050000000008766d3a3134383935066f7264657273056c6f63616c0000218001000000000010000000\
     00a02a02766d056c6f63616c0008766d3a3134383935066f7264657273056c6f63616c0000108001000000000007066f7264657273066f7264\
     657273056c6f63616c00000c000100000000001708766d3a3134383935066f7264657273056c6f63616c00095f7365727669636573075f646e\
     732d7364045f756470056c6f63616c00000c000100000000000e066f7264657273056c6f63616c0002766d056c6f63616c0000018001000000\
     000004c0000202";
/// A browse as it sends it, id 0x1234.
const PEER_BROWSE: &str = "123400000001000000000000066f7264657273056c6f63616c00000c0001";
/// Its probe, which asks for nothing.
const PEER_PROBE: &str = "54a90000000100000002000008766d3a3134383935066f7264657273056c6f63616c00000c000108766d3a31343839350\
     66f7264657273056c6f63616c000021000100000c80001000000000a02a02766d056c6f63616c0008766d3a3134383935066f7264657273056\
     c6f63616c000010000100000c800007066f7264657273";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn parsed(hex: &str) -> Message {
    Message::from_vec(&bytes(hex)).unwrap()
}

fn instance(app_id: &str, address: &str, id: &str) -> Instance {
    Instance {
        app_id: app_id.into(),
        namespace: "default".into(),
        internal_address: address.parse().unwrap(),
        http_port: 3500,
        app_port: 0,
        instance_id: id.into(),
    }
}

/// The peer's sidecar as ours.
fn orders() -> Service {
    Service::new("vm", &instance("orders", "192.0.2.2:41002", "14895")).unwrap()
}

fn asking(name: &Name, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name.clone(), kind));
    message
}

#[test]
fn the_announcement_is_the_peers_but_for_the_authority_bit() {
    let mut expected = bytes(PEER_ANNOUNCEMENT);
    // The peer leaves AA out of announcements only; RFC 6762 §18.4 wants it in every response.
    expected[2] = 0x84;
    assert_eq!(orders().announcement().to_vec().unwrap(), expected);
}

#[test]
fn the_answer_to_a_browse_is_the_peers_but_for_the_id() {
    let answer = orders().answer(&parsed(PEER_BROWSE), false).unwrap();
    let mut expected = bytes(PEER_ANSWER);
    // RFC 6762 §18.1: zero in multicast responses.
    expected[..2].copy_from_slice(&[0, 0]);
    assert_eq!(answer.to_vec().unwrap(), expected);
}

#[test]
fn a_browse_is_the_peers_but_for_the_id() {
    let mut expected = bytes(PEER_BROWSE);
    expected[..2].copy_from_slice(&[0, 0]);
    assert_eq!(browse([&"orders".into()]).to_vec().unwrap(), expected);
}

#[test]
fn the_peers_words_are_understood() {
    let here = Sighting {
        app_id: "orders".into(),
        instance: "vm\\:14895.orders.local.".into(),
        v4: Some("192.0.2.2:41002".parse().unwrap()),
        v6: None,
        goodbye: false,
    };
    for hex in [PEER_ANNOUNCEMENT, PEER_ANSWER] {
        assert_eq!(sightings(&parsed(hex)), std::slice::from_ref(&here));
    }
    assert_eq!(
        sightings(&parsed(PEER_GOODBYE)),
        [Sighting {
            v4: None,
            goodbye: true,
            ..here
        }]
    );
    assert!(orders().answer(&parsed(PEER_PROBE), false).is_none());
}

#[test]
fn our_goodbye_withdraws_what_is_ours_alone() {
    let goodbye = orders().goodbye();
    assert!(goodbye.answers.iter().all(|record| record.ttl == 0));
    assert_eq!(goodbye.answers.len(), 3);
    assert!(sightings(&goodbye)[0].goodbye);
}

#[test]
fn lookups_and_the_type_enumeration_are_answered_and_others_are_not() {
    let orders = orders();
    let lookup = orders
        .answer(&asking(&orders.instance, RecordType::SRV), false)
        .unwrap();
    let kinds: Vec<_> = lookup
        .answers
        .iter()
        .map(|record| (record.record_type(), record.mdns_cache_flush))
        .collect();
    let unique = [(RecordType::SRV, true), (RecordType::TXT, true)];
    assert_eq!(kinds[..2], unique);
    assert_eq!(
        kinds[2..],
        [
            (RecordType::PTR, false),
            (RecordType::PTR, false),
            (RecordType::A, false)
        ]
    );
    let types = orders
        .answer(&asking(&enumeration_name(), RecordType::PTR), false)
        .unwrap();
    assert_eq!(types.answers[0].data, RData::PTR(PTR(orders.service.clone())));
    assert!(
        orders
            .answer(
                &asking(&service_name("payments").unwrap(), RecordType::PTR),
                false
            )
            .is_none()
    );
    assert!(
        orders
            .answer(&asking(&orders.service, RecordType::A), false)
            .is_none()
    );
    assert!(
        orders
            .answer(&asking(&service_name("ORDERS").unwrap(), RecordType::ANY), false)
            .is_some()
    );
}

#[test]
fn a_known_answer_is_not_repeated_unless_it_is_old() {
    let orders = orders();
    let mut query = asking(&orders.service, RecordType::PTR);
    query.add_answer(orders.pointer(SERVICE_TTL / 2));
    assert!(orders.answer(&query, false).is_none());
    query.answers[0].ttl -= 1;
    assert!(orders.answer(&query, false).is_some());
}

#[test]
fn a_plain_resolver_gets_its_id_its_question_and_short_lives() {
    let orders = orders();
    let answer = orders
        .answer(&asking(&orders.instance, RecordType::SRV), true)
        .unwrap();
    assert_eq!((answer.metadata.id, answer.queries.len()), (7, 1));
    assert!(
        answer
            .answers
            .iter()
            .all(|record| record.ttl <= LEGACY_TTL && !record.mdns_cache_flush)
    );
}

#[test]
fn sidecars_that_share_a_host_name_keep_their_own_addresses() {
    let local = Service::new("vm", &instance("orders", "127.0.0.1:1", "2")).unwrap();
    let six = Service::new("vm", &instance("orders", "[2001:db8::7]:2", "3")).unwrap();
    assert_eq!(
        sightings(&local.announcement())[0].v4,
        Some("127.0.0.1:1".parse().unwrap())
    );
    let heard = &sightings(&six.announcement())[0];
    assert_eq!(
        (heard.v4, heard.v6),
        (None, Some("[2001:db8::7]:2".parse().unwrap()))
    );
}

#[test]
fn what_does_not_fit_is_no_sighting() {
    // The text names another app than the record's place.
    let mut other = orders().announcement();
    other.answers[1].data = RData::TXT(TXT::new(vec!["payments".into()]));
    assert!(sightings(&other).is_empty());
    // No text, no address, no port.
    let mut bare = orders().announcement();
    bare.answers.remove(1);
    assert!(sightings(&bare).is_empty());
    let mut nowhere = orders().announcement();
    nowhere.answers.pop();
    assert!(sightings(&nowhere).is_empty());
    let mut portless = orders().announcement();
    portless.answers[0].data = RData::SRV(SRV::new(0, 0, 0, orders().host));
    assert!(sightings(&portless).is_empty());
    let mut unspecified = orders().announcement();
    unspecified.answers[4].data = RData::A(A([0, 0, 0, 0].into()));
    assert!(sightings(&unspecified).is_empty());
}

#[test]
fn names_are_made_as_the_peer_makes_them_and_long_hosts_give_way() {
    let dotted = Service::new("host.example.com", &instance("orders", "192.0.2.2:1", "9")).unwrap();
    assert_eq!(dotted.instance.to_ascii(), "host.example.com\\:9.orders.local.");
    assert_eq!(dotted.host.to_ascii(), "host.example.com.local.");
    let long = Service::new(&"h".repeat(63), &instance("orders", "192.0.2.2:1", "123456")).unwrap();
    assert_eq!(
        long.instance.iter().next().unwrap(),
        format!("{}:123456", "h".repeat(56)).as_bytes()
    );
    for (hostname, app_id, address) in [
        ("vm", "a".repeat(64).as_str(), "192.0.2.2:1"),
        ("vm", "", "192.0.2.2:1"),
        ("", "orders", "192.0.2.2:1"),
        ("vm", "orders", "192.0.2.2:0"),
        ("a".repeat(64).as_str(), "orders", "192.0.2.2:1"),
    ] {
        let error = Service::new(hostname, &instance(app_id, address, "1")).unwrap_err();
        assert_eq!(error.kind(), outrigger_component::ErrorKind::Configuration);
    }
    assert!(is_askable(&"a_b c/d".into()) && !is_askable(&"".into()));
}

proptest! {
    #[test]
    fn no_datagram_harms(noise in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..200, base in 0_usize..5) {
        let mut datagram = bytes([PEER_ANNOUNCEMENT, PEER_ANSWER, PEER_GOODBYE, PEER_BROWSE, PEER_PROBE][base]);
        let at = at % datagram.len();
        let end = (at + noise.len() / 8).min(datagram.len());
        datagram.splice(at..end, noise.iter().take(noise.len() / 8).copied());
        for datagram in [&datagram, &noise] {
            if let Ok(message) = Message::from_vec(datagram) {
                sightings(&message);
                for legacy in [false, true] {
                    orders().answer(&message, legacy).map(|answer| answer.to_vec().unwrap());
                }
            }
        }
    }
}
