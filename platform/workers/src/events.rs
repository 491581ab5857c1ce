//! What a worker is given and what becomes of its answer. Pure.

use std::collections::BTreeMap;

use outrigger_kit::Event;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::lock::{Letter, Output};
use crate::names::{
    CORRELATION_ID, DEAD_LETTER_TOPIC, FENCING_TOKEN, REPLY_TOPIC, SOURCE, dead_letter_topic,
};
use crate::outlet::Subject;
use crate::validate;

/// Attributes that a sidecar adds to what it delivers and that are of that delivery alone.
const OF_DELIVERY: &[&str] = &["topic", "pubsubname"];

/// Names an input and a worker. A delivery of the same event to the same worker has the same key, on every instance
/// and after every crash.
pub fn key(input: &Event<Value>, worker: &str) -> String {
    let mut hash = Sha256::new();
    for part in [input.source.as_str(), input.id.as_str(), worker] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// The event as the worker sees it: with the worker's configuration as extension attributes, where neither an
/// attribute nor a field of the data has the name (H1.6), and with the token of its turn (H4.1).
pub fn stamped(input: &Event<Value>, config: &BTreeMap<String, String>, token: Option<u64>) -> Event<Value> {
    let mut event = input.clone();
    for (name, value) in config {
        let in_data = event.data.get(name).is_some();
        if !in_data && !event.extensions.contains_key(name) {
            event.extensions.insert(name.clone(), Value::from(value.as_str()));
        }
    }
    // An attribute of this name from outside is no token.
    event.extensions.remove(FENCING_TOKEN);
    if let Some(token) = token {
        event
            .extensions
            .insert(FENCING_TOKEN.to_owned(), Value::from(token.to_string()));
    }
    event
}

/// What is published for an answer: to the topic that the input (or the configuration) names by `replytopic`, else to
/// the one that is called as the answer's type (H3.1).
///
/// # Errors
/// Why the answer cannot be published, in words for the author of the worker.
pub fn output(
    subject: &Subject,
    config: &BTreeMap<String, String>,
    input: &Event<Value>,
    seen: &Event<Value>,
    mut answer: Event<Value>,
    max_bytes: usize,
) -> Result<Output, String> {
    if answer.kind.is_empty() {
        return Err("the answer has no type".to_owned());
    }
    let reply = seen.extension(REPLY_TOPIC).filter(|topic| !topic.is_empty());
    let topic = reply.unwrap_or(&answer.kind).to_owned();
    validate::topic(&topic).map_err(|error| format!("the answer cannot be published: {error}"))?;
    let key = key(input, &subject.id);
    answer.id = event_id(&key);
    if answer.source.is_empty() {
        answer.source = format!("{SOURCE}/worker/{}", subject.id);
    }
    if answer.time.is_none() {
        answer.time = Some(jiff::Timestamp::now().to_string());
    }
    let attributes = &mut answer.extensions;
    for name in OF_DELIVERY {
        attributes.remove(*name);
    }
    // An answer made from the input carries the order to answer along, which was meant for this worker.
    if attributes.get(REPLY_TOPIC) == seen.extensions.get(REPLY_TOPIC) {
        attributes.remove(REPLY_TOPIC);
    }
    copy(CORRELATION_ID, &input.extensions, attributes);
    if !attributes.contains_key("traceparent") {
        copy("traceparent", &input.extensions, attributes);
    }
    // So that whoever takes outputs can refuse one with a token below the last.
    attributes.remove(FENCING_TOKEN);
    copy(FENCING_TOKEN, &seen.extensions, attributes);
    let event = serde_json::to_value(&answer).map_err(|error| error.to_string())?;
    let length = event.to_string().len();
    if length > max_bytes {
        return Err(format!("the answer has {length} bytes, more than {max_bytes}"));
    }
    Ok(Output {
        key,
        topic,
        event,
        subject: subject.clone(),
        letter: Some(Letter {
            topic: dead_letters(subject, config),
            event: None,
        }),
    })
}

/// What is published when an event is given up: the event itself, with what happened as extension attributes. It goes
/// to `<topic>-dead`, or where the worker's configuration says by `deadlettertopic` (Z38).
pub fn dead_letter(
    subject: &Subject,
    config: &BTreeMap<String, String>,
    input: &Event<Value>,
    reason: &str,
    attempts: u32,
) -> Output {
    Output {
        key: key(input, &subject.id),
        topic: dead_letters(subject, config),
        event: stamped_letter(subject, undelivered(input), reason, attempts),
        subject: subject.clone(),
        letter: None,
    }
}

/// Keeps an output's input beside it, for [`buried`], unless that has more than `max_bytes`.
pub fn keep_input(output: &mut Output, input: &Event<Value>, max_bytes: usize) {
    if let Some(letter) = &mut output.letter {
        letter.event = Some(undelivered(input)).filter(|event| event.to_string().len() <= max_bytes);
    }
}

/// The dead letter that is published in place of an output; `None` if that is one itself.
pub fn buried(output: &Output, reason: &str, attempts: u32) -> Option<Output> {
    let letter = output.letter.as_ref()?;
    let event = letter.event.as_ref().unwrap_or(&output.event).clone();
    let reason = format!("its output to {:?} was not published: {reason}", output.topic);
    Some(Output {
        key: output.key.clone(),
        topic: letter.topic.clone(),
        event: stamped_letter(&output.subject, event, &reason, attempts),
        subject: output.subject.clone(),
        letter: None,
    })
}

fn dead_letters(subject: &Subject, config: &BTreeMap<String, String>) -> String {
    config
        .get(DEAD_LETTER_TOPIC)
        .cloned()
        .unwrap_or_else(|| dead_letter_topic(&subject.topic))
}

/// An event without what its delivery added.
fn undelivered(input: &Event<Value>) -> Value {
    let mut event = input.clone();
    for name in OF_DELIVERY {
        event.extensions.remove(*name);
    }
    serde_json::to_value(&event).unwrap_or_default()
}

fn stamped_letter(subject: &Subject, mut event: Value, reason: &str, attempts: u32) -> Value {
    let reason: String = reason.chars().take(1024).collect();
    for (name, value) in [
        ("deadletterreason", reason),
        ("deadletterworkerid", subject.id.clone()),
        ("deadletterattempts", attempts.to_string()),
        ("deadletterorigin", subject.topic.clone()),
    ] {
        event[name] = Value::from(value);
    }
    event
}

/// A UUID (version 8) of a key.
fn event_id(key: &str) -> String {
    let mut bytes = [0; 16];
    let digest = Sha256::digest(key);
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn copy(name: &str, from: &Map<String, Value>, to: &mut Map<String, Value>) {
    if let Some(value) = from.get(name) {
        to.insert(name.to_owned(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MOST: usize = 10_000;

    fn worker(id: &str) -> Subject {
        Subject {
            id: id.to_owned(),
            group: None,
            topic: "orders".to_owned(),
        }
    }

    fn input() -> Event<Value> {
        let mut event = Event::new("order.placed", "shop", json!({"depth": 7}));
        event.id = "42".to_owned();
        event
    }

    fn with(mut event: Event<Value>, name: &str, value: &str) -> Event<Value> {
        event.extensions.insert(name.to_owned(), json!(value));
        event
    }

    fn answer() -> Event<Value> {
        Event::new("order.priced", "pricer", json!({}))
    }

    #[test]
    fn a_redelivery_gives_the_same_output_id() {
        let id = |input: &Event<Value>, worker: &str| -> String {
            let output = output(
                &super::tests::worker(worker),
                &BTreeMap::new(),
                input,
                input,
                answer(),
                MOST,
            )
            .unwrap();
            output.event["id"].as_str().unwrap().to_owned()
        };
        let again = with(input(), "traceparent", "another");
        assert_eq!(id(&input(), "w"), id(&again, "w"));
        assert_ne!(id(&input(), "w"), id(&input(), "v"));
        let mut other = input();
        other.source = "shop4".to_owned();
        other.id = "2".to_owned();
        assert_ne!(id(&input(), "w"), id(&other, "w"));
    }

    #[test]
    fn the_type_names_the_topic_unless_the_input_does() {
        let topic = |input: &Event<Value>| {
            output(&worker("w"), &BTreeMap::new(), input, input, answer(), MOST)
                .unwrap()
                .topic
        };
        assert_eq!(topic(&input()), "order.priced");
        assert_eq!(topic(&with(input(), "replytopic", "")), "order.priced");
        assert_eq!(topic(&with(input(), "replytopic", "answers")), "answers");
        // What only services publish is not for workers.
        let lifecycle = with(input(), "replytopic", "workmanager.lifecycle");
        assert!(
            output(
                &worker("w"),
                &BTreeMap::new(),
                &lifecycle,
                &lifecycle,
                answer(),
                MOST
            )
            .is_err()
        );
        let mut nameless = answer();
        nameless.kind.clear();
        assert!(output(&worker("w"), &BTreeMap::new(), &input(), &input(), nameless, MOST).is_err());
    }

    #[test]
    fn a_reply_carries_the_correlation_of_its_request_and_invents_none() {
        let request = with(input(), "correlationid", "c-1");
        let reply = output(&worker("w"), &BTreeMap::new(), &request, &request, answer(), MOST).unwrap();
        assert_eq!(reply.event["correlationid"], "c-1");
        let none = output(&worker("w"), &BTreeMap::new(), &input(), &input(), answer(), MOST).unwrap();
        assert_eq!(none.event.get("correlationid"), None);
        assert!(none.event["time"].is_string());
    }

    #[test]
    fn an_answer_made_from_the_input_does_not_carry_its_delivery() {
        let mut request = with(input(), "replytopic", "answers");
        request = with(with(request, "topic", "orders"), "pubsubname", "pubsub");
        let reply = output(
            &worker("w"),
            &BTreeMap::new(),
            &request,
            &request,
            request.clone(),
            MOST,
        )
        .unwrap();
        for name in ["replytopic", "topic", "pubsubname"] {
            assert_eq!(reply.event.get(name), None, "{name}");
        }
        let large = output(&worker("w"), &BTreeMap::new(), &input(), &input(), answer(), 20).unwrap_err();
        assert!(large.contains("more than 20"), "{large}");
    }

    #[test]
    fn configuration_is_stamped_where_nothing_else_says_it() {
        let config = BTreeMap::from([
            ("api_host".to_owned(), "gateway".to_owned()),
            ("depth".to_owned(), "3".to_owned()),
            ("lane".to_owned(), "act".to_owned()),
        ]);
        let seen = stamped(&with(input(), "lane", "hyp"), &config, None);
        assert_eq!(seen.extension("api_host"), Some("gateway"));
        assert_eq!(seen.extension("depth"), None, "the payload says it");
        assert_eq!(seen.extension("lane"), Some("hyp"));
    }

    #[test]
    fn a_token_comes_from_the_lock_alone() {
        let forged = with(input(), "fencingtoken", "99");
        assert_eq!(
            stamped(&forged, &BTreeMap::new(), None).extension("fencingtoken"),
            None
        );
        let seen = stamped(&forged, &BTreeMap::new(), Some(7));
        assert_eq!(seen.extension("fencingtoken"), Some("7"));
        let answer = with(answer(), "fencingtoken", "1");
        let output = output(&worker("w"), &BTreeMap::new(), &forged, &seen, answer, MOST).unwrap();
        assert_eq!(output.event["fencingtoken"], "7");
    }

    #[test]
    fn a_dead_letter_is_the_event_and_what_happened() {
        let letter = |config: &BTreeMap<String, String>| {
            dead_letter(&worker("w"), config, &with(input(), "topic", "orders"), "boom", 4)
        };
        let elsewhere = BTreeMap::from([("deadlettertopic".to_owned(), "graves".to_owned())]);
        assert_eq!(letter(&elsewhere).topic, "graves");
        let letter = letter(&BTreeMap::new());
        assert_eq!(letter.topic, "orders-dead");
        assert_eq!(letter.event["deadletterorigin"], "orders");
        assert_eq!(letter.event["id"], "42");
        assert_eq!(letter.event["data"]["depth"], 7);
        assert_eq!(letter.event["deadletterreason"], "boom");
        assert_eq!(letter.event["deadletterworkerid"], "w");
        assert_eq!(letter.event["deadletterattempts"], "4");
        assert_eq!(letter.event.get("topic"), None);
    }
    #[test]
    fn an_output_that_nobody_takes_becomes_a_letter_with_its_input_if_that_is_small() {
        let request = with(input(), "topic", "orders");
        let mut output = output(&worker("w"), &BTreeMap::new(), &request, &request, answer(), MOST).unwrap();
        assert_eq!(buried(&output, "no", 1).unwrap().event["type"], "order.priced");
        for (most, kind) in [(MOST, "order.placed"), (10, "order.priced")] {
            keep_input(&mut output, &request, most);
            let letter = buried(&output, "no", 4).unwrap();
            assert_eq!(letter.topic, "orders-dead");
            assert_eq!(buried(&letter, "no", 5), None);
            assert_eq!(letter.key, output.key);
            assert_eq!(letter.event["type"], kind);
            assert_eq!(letter.event["deadletterattempts"], "4");
            let reason = letter.event["deadletterreason"].as_str().unwrap();
            assert!(
                reason.contains("\"order.priced\"") && reason.ends_with("no"),
                "{reason}"
            );
            assert_eq!(letter.event.get("topic"), None);
        }
    }
}
