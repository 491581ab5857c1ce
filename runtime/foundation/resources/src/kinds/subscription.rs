//! `Subscription`, both versions in one type.

use std::collections::BTreeMap;

use super::{ObjectMeta, Resource};
use crate::decode::{Decode, decode_fields};

/// A declarative subscription. A v1alpha1 one has its `route` in [`Routes::default`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// Name and namespace.
    pub meta: ObjectMeta,
    /// What to subscribe to and where to deliver.
    pub spec: SubscriptionSpec,
    /// The apps it is for; empty means all.
    pub scopes: Vec<String>,
}

decode_fields!(Subscription {
    "metadata" => meta,
    "spec" => spec,
    "scopes" => scopes,
} ignoring &["apiVersion", "kind"]);

/// What to subscribe to and where to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionSpec {
    /// The pub/sub component.
    pub pubsub_name: String,
    /// The topic.
    pub topic: String,
    /// Settings for the subscription, such as `rawPayload`.
    pub metadata: BTreeMap<String, String>,
    /// Where messages go.
    pub routes: Routes,
    /// Where undeliverable messages go; empty for nowhere.
    pub dead_letter_topic: String,
    /// Whether and how to deliver in bulk.
    pub bulk_subscribe: BulkSubscribe,
}

decode_fields!(SubscriptionSpec {
    "pubsubname" => pubsub_name,
    "topic" => topic,
    "metadata" => metadata,
    "routes" => routes,
    "deadLetterTopic" => dead_letter_topic,
    "bulkSubscribe" => bulk_subscribe,
});

/// Where messages go: the first rule that matches, else the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// Rules in the order they are tried.
    pub rules: Vec<Rule>,
    /// The path when no rule matches; empty for none.
    pub default: String,
}

decode_fields!(Routes { "rules" => rules, "default" => default });

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// A CEL expression over `event`.
    pub r#match: String,
    /// The path.
    pub path: String,
}

decode_fields!(Rule { "match" => r#match, "path" => path });

/// Bulk delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkSubscribe {
    /// Whether messages are delivered in bulk.
    pub enabled: bool,
    /// The most messages in one delivery; 0 for the default.
    pub max_messages_count: i32,
    /// The longest wait for a full delivery, in milliseconds; 0 for the default.
    pub max_await_duration_ms: i32,
}

decode_fields!(BulkSubscribe {
    "enabled" => enabled,
    "maxMessagesCount" => max_messages_count,
    "maxAwaitDurationMs" => max_await_duration_ms,
});

/// The older version, only read.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SubscriptionV1 {
    meta: ObjectMeta,
    spec: SubscriptionSpecV1,
    scopes: Vec<String>,
}

decode_fields!(SubscriptionV1 {
    "metadata" => meta,
    "spec" => spec,
    "scopes" => scopes,
} ignoring &["apiVersion", "kind"]);

#[derive(Debug, Clone, PartialEq, Default)]
struct SubscriptionSpecV1 {
    common: SubscriptionSpec,
    route: String,
}

impl Decode for SubscriptionSpecV1 {
    fn decode(&mut self, node: &crate::yaml::Node, decoder: &mut crate::decode::Decoder) {
        const KNOWN: &[&str] = &[
            "topic",
            "pubsubname",
            "metadata",
            "route",
            "bulkSubscribe",
            "deadLetterTopic",
        ];
        for (key, value) in decoder.fields(node, KNOWN, &[]) {
            decoder.within(key, |decoder| match key {
                "topic" => self.common.topic.decode(value, decoder),
                "pubsubname" => self.common.pubsub_name.decode(value, decoder),
                "metadata" => self.common.metadata.decode(value, decoder),
                "route" => self.route.decode(value, decoder),
                "bulkSubscribe" => self.common.bulk_subscribe.decode(value, decoder),
                _ => self.common.dead_letter_topic.decode(value, decoder),
            });
        }
    }
}

impl From<SubscriptionV1> for Subscription {
    fn from(v1: SubscriptionV1) -> Self {
        let SubscriptionV1 {
            meta,
            spec: SubscriptionSpecV1 { mut common, route },
            scopes,
        } = v1;
        common.routes.default = route;
        Self {
            meta,
            spec: common,
            scopes,
        }
    }
}

impl Resource for Subscription {
    const KIND: &'static str = "Subscription";
    const API_VERSIONS: &'static [&'static str] = &["dapr.io/v2alpha1", "dapr.io/v1alpha1"];

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn scopes(&self) -> &[String] {
        &self.scopes
    }
    fn same_spec(&self, other: &Self) -> bool {
        self.meta.name == other.meta.name && self.spec == other.spec && self.scopes == other.scopes
    }
}
