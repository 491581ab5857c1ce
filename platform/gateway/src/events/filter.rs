//! Which events a `Gateway.Subscribe` stream gets (G10).
//!
//! A filter names services, topics and event types; each empty list stands for all, and an event must fit all three.
//! The scope by which an event fits is told with it: `global`, `<service>`, `<service>/<topic>`, `event-type/<type>` or
//! `event-type/<type>/<service>`.

use std::collections::BTreeSet;

use super::Event;
use crate::services::Catalog;
use crate::state::CHANGES;

const SOURCE: &str = "urn:com.virtufin.";

/// A stream's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Services whose events are wanted.
    pub services: Vec<String>,
    /// Topics.
    pub topics: Vec<String>,
    /// Types.
    pub event_types: Vec<String>,
}

impl Filter {
    /// The topics to read: those named, else the lifecycle topics (R6) of the services named or of all configured ones,
    /// and the changes of state.
    pub fn topics(&self, catalog: &Catalog) -> Vec<String> {
        if !self.topics.is_empty() {
            return self.topics.clone();
        }
        let configured = catalog.services();
        let services: BTreeSet<&str> = if self.services.is_empty() {
            configured.iter().map(|service| service.name.as_str()).collect()
        } else {
            self.services.iter().map(String::as_str).collect()
        };
        services
            .into_iter()
            .map(|service| format!("{service}.lifecycle"))
            .chain([CHANGES.to_owned()])
            .collect()
    }

    /// The scope by which an event fits, if it does.
    pub fn scope(&self, event: &Event) -> Option<String> {
        let service = service(event);
        let fits = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|it| it == found);
        let kind = &event.attributes.kind;
        if !fits(&self.services, service)
            || !fits(&self.topics, &event.topic)
            || !fits(&self.event_types, kind)
        {
            return None;
        }
        Some(
            match (
                self.event_types.is_empty(),
                self.services.is_empty(),
                self.topics.is_empty(),
            ) {
                (false, false, _) => format!("event-type/{kind}/{service}"),
                (false, true, _) => format!("event-type/{kind}"),
                (true, _, false) => format!("{service}/{}", event.topic),
                (true, false, true) => service.to_owned(),
                (true, true, true) => "global".to_owned(),
            },
        )
    }
}

/// Whose event it is: by its source (`urn:com.virtufin.<service>`), else by its topic's first part.
fn service(event: &Event) -> &str {
    event
        .attributes
        .source
        .strip_prefix(SOURCE)
        .or_else(|| event.topic.split('.').next())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn event(topic: &str, source: &str, kind: &str) -> Event {
        Event {
            topic: topic.to_owned(),
            pubsub: "pubsub".to_owned(),
            data: Bytes::new(),
            attributes: outrigger_kit::Event::new(kind, source, Value::Null),
        }
    }

    fn filter(services: &[&str], topics: &[&str], types: &[&str]) -> Filter {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Filter {
            services: own(services),
            topics: own(topics),
            event_types: own(types),
        }
    }

    #[test]
    fn every_scope_has_its_filter() {
        let event = event("orders.lifecycle", "elsewhere", "started");
        for (filter, scope) in [
            (filter(&[], &[], &[]), Some("global")),
            (filter(&["orders"], &[], &[]), Some("orders")),
            (
                filter(&["orders", "x"], &["orders.lifecycle"], &[]),
                Some("orders/orders.lifecycle"),
            ),
            (
                filter(&[], &["orders.lifecycle"], &[]),
                Some("orders/orders.lifecycle"),
            ),
            (filter(&[], &[], &["started"]), Some("event-type/started")),
            (
                filter(&["orders"], &[], &["started"]),
                Some("event-type/started/orders"),
            ),
            (filter(&["x"], &[], &[]), None),
            (filter(&["orders"], &["other"], &[]), None),
            (filter(&["orders"], &[], &["stopped"]), None),
        ] {
            assert_eq!(filter.scope(&event).as_deref(), scope, "{filter:?}");
        }
    }

    #[test]
    fn the_source_says_whose_event_it_is() {
        let event = event(CHANGES, "urn:com.virtufin.orders", "x");
        assert_eq!(
            filter(&["orders"], &[], &[]).scope(&event).as_deref(),
            Some("orders")
        );
    }

    #[test]
    fn text_extensions_are_told_raw_and_others_not_at_all() {
        let mut event = event("t", "s", "k");
        for (name, value) in [
            ("a", json!("text")),
            ("b", json!(7)),
            ("c", json!(true)),
            ("topic", json!("t")),
        ] {
            event.attributes.extensions.insert(name.to_owned(), value);
        }
        let told: Vec<_> = event.extensions().collect();
        assert_eq!(told, [(&"a".to_owned(), "text")]);
        assert_eq!(event.metadata()["a"], "text");
        assert_eq!(event.metadata()["ce-type"], "k");
    }
}
