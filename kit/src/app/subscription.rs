//! The subscriptions that the app tells its sidecar (A2.2).

use std::collections::BTreeMap;

use serde::Serialize;

/// A topic to subscribe to.
#[derive(Debug, Clone)]
pub struct Subscription {
    pubsub: String,
    topic: String,
    path: Option<String>,
    condition: Option<String>,
    dead_letter_topic: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Subscription {
    /// All events of a topic.
    pub fn new(pubsub: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            pubsub: pubsub.into(),
            topic: topic.into(),
            path: None,
            condition: None,
            dead_letter_topic: None,
            metadata: BTreeMap::new(),
        }
    }

    /// Only events for which this CEL expression holds, such as `event.type == "task.created"`. Of several
    /// subscriptions to one topic the first that matches takes the event; one without a condition takes the rest.
    #[must_use]
    pub fn matching(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// The route of the handler; made from the names unless set.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Where messages go that cannot be handled.
    #[must_use]
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = Some(topic.into());
        self
    }

    /// Adds metadata for the pub/sub component.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }
}

/// The body of `GET /dapr/subscribe`.
pub(super) type Document = Vec<Entry>;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    pubsubname: String,
    topic: String,
    routes: Routes,
    #[serde(rename = "deadLetterTopic", skip_serializing_if = "Option::is_none")]
    dead_letter_topic: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

impl Entry {
    pub(super) fn pubsub(&self) -> &str {
        &self.pubsubname
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub(super) fn dead_letter_topic(&self) -> Option<&str> {
        self.dead_letter_topic.as_deref()
    }

    pub(super) fn default_route(&self) -> Option<&str> {
        self.routes.default.as_deref()
    }

    /// Conditions and their routes, in their order.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.routes
            .rules
            .iter()
            .map(|rule| (rule.condition.as_str(), rule.path.as_str()))
    }
}

#[derive(Debug, Clone, Default, Serialize)]
struct Routes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Rule {
    #[serde(rename = "match")]
    condition: String,
    path: String,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions(Document);

impl Subscriptions {
    /// Adds a subscription and returns the route that its handler has to have.
    pub(super) fn add(&mut self, subscription: Subscription) -> String {
        let entry = match self
            .0
            .iter_mut()
            .find(|entry| entry.pubsubname == subscription.pubsub && entry.topic == subscription.topic)
        {
            Some(entry) => entry,
            None => {
                self.0.push(Entry {
                    pubsubname: subscription.pubsub.clone(),
                    topic: subscription.topic.clone(),
                    routes: Routes::default(),
                    dead_letter_topic: None,
                    metadata: BTreeMap::new(),
                });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        let path = subscription.path.unwrap_or_else(|| {
            let nth = entry.routes.rules.len();
            let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let base = format!(
                "/events/{}/{}",
                plain(&subscription.pubsub),
                plain(&subscription.topic)
            );
            if subscription.condition.is_some() {
                format!("{base}/{nth}")
            } else {
                base
            }
        });
        match subscription.condition {
            Some(condition) => entry.routes.rules.push(Rule {
                condition,
                path: path.clone(),
            }),
            None => entry.routes.default = Some(path.clone()),
        }
        entry.dead_letter_topic = subscription.dead_letter_topic.or(entry.dead_letter_topic.take());
        entry.metadata.extend(subscription.metadata);
        path
    }

    pub(super) fn document(&self) -> Document {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_one_topic_become_rules_of_one_entry() {
        let mut all = Subscriptions::default();
        let created = Subscription::new("pubsub", "tasks").matching("event.type == \"task.created\"");
        assert_eq!(all.add(created), "/events/pubsub/tasks/0");
        let rest = Subscription::new("pubsub", "tasks").dead_letter_topic("dead");
        assert_eq!(all.add(rest), "/events/pubsub/tasks");
        assert_eq!(
            serde_json::to_value(all.document()).unwrap(),
            serde_json::json!([{
                "pubsubname": "pubsub", "topic": "tasks", "deadLetterTopic": "dead",
                "routes": {
                    "rules": [{"match": "event.type == \"task.created\"", "path": "/events/pubsub/tasks/0"}],
                    "default": "/events/pubsub/tasks"
                }
            }])
        );
    }
}
