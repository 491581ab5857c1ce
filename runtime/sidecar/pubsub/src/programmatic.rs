//! Asks the app what it subscribes to (A2.2; upstream `pkg/runtime/pubsub/subscriptions.go`).

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use outrigger_component::Metadata;
use outrigger_engine_routing::RuleError;
use outrigger_sidecar_api::Body;
use outrigger_sidecar_app_channel::{AppChannel, GrpcApp};
use outrigger_sidecar_resilience::{Policy, Retry, Retryable};
use outrigger_types::AppId;
use outrigger_wire::dapr::proto::runtime::v1::TopicSubscription;
use serde_json::{Map, Value};
use tonic::Code;

use crate::{
    manager::SubscriptionKind,
    subscription::{Draft, Spec},
};

/// A list larger than this is refused.
const MAX_LIST: usize = 16 << 20;
const NONE: &str = "user app did not subscribe to any topic";

/// Why the app's subscriptions are not known.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The app did not answer.
    #[error("{0}")]
    App(String),
    /// It answered what cannot be read.
    #[error("error getting topics from app: {0}")]
    Answer(String),
    /// A rule is not valid CEL.
    #[error("{0}")]
    Rule(#[from] RuleError),
}

impl Retryable for AskError {
    fn verdict(&self) -> Retry {
        match self {
            Self::App(_) => Retry::Transient,
            Self::Answer(_) | Self::Rule(_) => Retry::Permanent,
        }
    }
}

/// Asks under a policy of retries.
pub(crate) async fn ask(app: &AppChannel, app_id: &AppId, policy: &Policy) -> Result<Vec<Spec>, AskError> {
    let answer = match app.grpc() {
        Some(grpc) => {
            let grpc = &grpc;
            policy.run(|_| ask_grpc(grpc)).await
        }
        None => policy.run(|_| ask_http(app, app_id)).await,
    };
    answer.map_err(|error| {
        let text = error.to_string();
        let error = error.into_op().unwrap_or(AskError::App(text));
        tracing::error!(target: "dapr.runtime.processor.subscription", "error getting topic list from app: {error}");
        error
    })
}

async fn ask_http(app: &AppChannel, app_id: &AppId) -> Result<Vec<Spec>, AskError> {
    let request = Request::builder()
        .method(Method::GET)
        .uri("/dapr/subscribe")
        .header("dapr-app-id", app_id.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::Empty)
        .map_err(|error| AskError::App(error.to_string()))?;
    let response = app
        .send(request)
        .await
        .map_err(|error| AskError::App(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_LIST)
        .collect()
        .await
        .map_err(|error| AskError::App(error.to_string()))?
        .to_bytes();
    match status {
        StatusCode::OK => from_json(&body),
        StatusCode::NOT_FOUND => {
            tracing::debug!(target: "dapr.runtime.processor.subscription", "{NONE}");
            Ok(Vec::new())
        }
        status => {
            let code = status.as_u16();
            tracing::error!(target: "dapr.runtime.processor.subscription", "app returned http status code {code} from subscription endpoint");
            Ok(Vec::new())
        }
    }
}

fn from_json(body: &[u8]) -> Result<Vec<Spec>, AskError> {
    if body.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let answer = |error: String| AskError::Answer(error);
    let value: Value = serde_json::from_slice(body).map_err(|error| answer(error.to_string()))?;
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        other => return Err(answer(mismatch(&other, "[]pubsub.SubscriptionJSON"))),
    };
    let mut specs = Vec::with_capacity(items.len());
    for item in &items {
        let fields = match item {
            Value::Null => continue,
            Value::Object(fields) => fields,
            other => return Err(answer(mismatch(other, "pubsub.SubscriptionJSON"))),
        };
        let draft = draft(fields).map_err(answer)?;
        if draft.rules.is_empty() {
            tracing::warn!(target: "dapr.runtime.processor.subscription", "topic {} has an empty routes. removing from subscriptions list", draft.topic);
            continue;
        }
        specs.push(Spec::new(SubscriptionKind::Programmatic, draft)?);
    }
    Ok(specs)
}

fn draft(fields: &Map<String, Value>) -> Result<Draft, String> {
    let mut draft = Draft {
        pubsub: string(fields, "pubsubname")?,
        topic: string(fields, "topic")?,
        dead_letter: string(fields, "deadLetterTopic")?,
        ..Draft::default()
    };
    if let Some(pairs) = object(fields, "metadata")? {
        draft.metadata = pairs
            .keys()
            .map(|key| Ok((key.clone(), text(&pairs[key], "metadata")?)))
            .collect::<Result<Metadata, String>>()?;
    }
    let routes = object(fields, "routes")?;
    if let Some(rules) = routes
        .and_then(|routes| field(routes, "rules"))
        .filter(|rules| !rules.is_null())
    {
        let rules = rules
            .as_array()
            .ok_or_else(|| mismatch(rules, "[]*pubsub.RuleJSON"))?;
        for rule in rules {
            let Some(rule) = rule.as_object() else {
                return Err(mismatch(rule, "pubsub.RuleJSON"));
            };
            draft.rules.push((string(rule, "match")?, string(rule, "path")?));
        }
    }
    let default = routes.map_or(Ok(String::new()), |routes| string(routes, "default"))?;
    let route = string(fields, "route")?;
    if let Some(path) = [default, route].into_iter().find(|path| !path.is_empty()) {
        draft.rules.push((String::new(), path));
    }
    if let Some(bulk) = object(fields, "bulkSubscribe")? {
        draft.bulk_enabled = match field(bulk, "enabled") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(enabled)) => *enabled,
            Some(other) => return Err(mismatch(other, "bool")),
        };
        draft.max_messages = number(bulk, "maxMessagesCount")?;
        draft.max_wait_ms = number(bulk, "maxAwaitDurationMs")?;
    }
    Ok(draft)
}

/// Go takes names of fields in any case; apps exist that send `pubsubName`.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).or_else(|| {
        fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

fn object<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match field(fields, name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(mismatch(other, name)),
    }
}

fn string(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    field(fields, name).map_or(Ok(String::new()), |value| text(value, name))
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("{} of {name}", mismatch(other, "string"))),
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<i32, String> {
    match field(fields, name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value
            .as_i64()
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| mismatch(value, "int32")),
    }
}

fn mismatch(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go value of type {wanted}")
}

async fn ask_grpc(app: &GrpcApp) -> Result<Vec<Spec>, AskError> {
    let subscriptions = match app.callback().list_topic_subscriptions(()).await {
        Ok(response) => response.into_inner().subscriptions,
        Err(status) if status.code() == Code::Unimplemented => {
            tracing::info!(target: "dapr.runtime.processor.subscription", "pubsub subscriptions: gRPC app does not implement ListTopicSubscriptions");
            Vec::new()
        }
        Err(status) => {
            return Err(AskError::App(format!(
                "rpc error: code = {:?} desc = {}",
                status.code(),
                status.message()
            )));
        }
    };
    if subscriptions.is_empty() {
        tracing::debug!(target: "dapr.runtime.processor.subscription", "{NONE}");
    }
    subscriptions.into_iter().map(from_proto).collect()
}

fn from_proto(subscription: TopicSubscription) -> Result<Spec, AskError> {
    let bulk = subscription.bulk_subscribe.unwrap_or_default();
    let routes = subscription.routes.unwrap_or_default();
    let mut rules: Vec<_> = routes
        .rules
        .into_iter()
        .map(|rule| (rule.r#match, rule.path))
        .collect();
    // Apps that name no route get everything, with an empty path.
    if !routes.default.is_empty() || rules.is_empty() {
        rules.push((String::new(), routes.default));
    }
    let draft = Draft {
        pubsub: subscription.pubsub_name,
        topic: subscription.topic,
        metadata: subscription.metadata.into_iter().collect(),
        rules,
        dead_letter: subscription.dead_letter_topic,
        bulk_enabled: bulk.enabled,
        max_messages: bulk.max_messages_count,
        max_wait_ms: bulk.max_await_duration_ms,
    };
    Ok(Spec::new(SubscriptionKind::Programmatic, draft)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_in_any_case() {
        let specs = from_json(
            br#"[{"pubsubname":"p","topic":"a","route":"/a"},
                 {"pubsubName":"p","Topic":"b","deadLetterTopic":"dead","metadata":{"rawPayload":"true"},
                  "routes":{"rules":[{"match":"event.type == \"x\"","path":"x"}],"default":"rest"},
                  "bulkSubscribe":{"enabled":true,"maxMessagesCount":5,"maxAwaitDurationMs":40}},
                 {"pubsubname":"p","topic":"none"}, null]"#,
        )
        .unwrap();
        assert_eq!(specs.len(), 2);
        assert_eq!(specs[0].paths[0].as_str(), "/a");
        let second = &specs[1];
        assert_eq!(
            (second.pubsub.as_str(), second.dead_letter.as_deref()),
            ("p", Some("dead"))
        );
        assert_eq!(second.is_raw, Ok(true));
        assert_eq!(second.rules.len(), 2);
        assert_eq!(second.bulk.unwrap().max_messages, 5);
        assert!(from_json(b" ").unwrap().is_empty());
        assert!(matches!(from_json(b"{}"), Err(AskError::Answer(_))));
        assert!(matches!(
            from_json(br#"[{"topic":"a","routes":{"rules":[{"match":"nope(","path":"x"}]}}]"#),
            Err(AskError::Rule(_))
        ));
    }

    #[test]
    fn grpc_apps_without_routes_get_everything() {
        let spec = from_proto(TopicSubscription {
            topic: "a".into(),
            ..TopicSubscription::default()
        })
        .unwrap();
        assert_eq!(spec.rules.iter().collect::<Vec<_>>(), [(None, "")]);
    }
}
