//! What an app answers to an event beside "done": state to save, output bindings to call.

use std::fmt;

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use outrigger_bindings::InvokeRequest;
use outrigger_component::Metadata;
use outrigger_sidecar_api::ApiError;
use outrigger_wire::dapr::proto::{
    common::v1::{Etag, StateItem, StateOptions},
    runtime::v1::{BindingEventResponse, SaveStateRequest, binding_event_response::BindingEventConcurrency},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::BindingsService;

/// Output bindings called at once for one event.
const PARALLEL: usize = 16;

/// Saves the state of an app's answer: the state block, as the wiring puts it here.
pub trait AppState: fmt::Debug + Send + Sync + 'static {
    /// Saves items as the app itself would.
    fn save(&self, request: SaveStateRequest) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// An app's answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    store: String,
    states: Vec<StateItem>,
    to: Vec<String>,
    data: Bytes,
    parallel: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AnswerDocument {
    store_name: Option<String>,
    state: Option<Vec<ItemDocument>>,
    to: Option<Vec<String>>,
    data: Option<Box<RawValue>>,
    concurrency: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ItemDocument {
    key: String,
    #[serde(default)]
    value: Option<Box<RawValue>>,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    options: Option<OptionsDocument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OptionsDocument {
    concurrency: String,
    consistency: String,
}

impl From<OptionsDocument> for StateOptions {
    fn from(options: OptionsDocument) -> Self {
        Self {
            concurrency: match options.concurrency.as_str() {
                "first-write" => 1,
                "last-write" => 2,
                _ => 0,
            },
            consistency: match options.consistency.as_str() {
                "eventual" => 1,
                "strong" => 2,
                _ => 0,
            },
        }
    }
}

impl From<ItemDocument> for StateItem {
    fn from(item: ItemDocument) -> Self {
        Self {
            key: item.key,
            value: item.value.map_or_else(Bytes::new, |value| {
                Bytes::from(Box::<str>::from(value).into_string())
            }),
            etag: item.etag.map(|value| Etag { value }),
            metadata: item.metadata.unwrap_or_default().into_iter().collect(),
            options: item.options.map(StateOptions::from),
        }
    }
}

impl Answer {
    /// From the body of an HTTP app; any other body asks for nothing.
    pub(super) fn from_body(body: &[u8]) -> Self {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Self::default();
        }
        let Ok(document) = serde_json::from_slice::<AnswerDocument>(body) else {
            return Self::default();
        };
        Self {
            store: document.store_name.unwrap_or_default(),
            states: document
                .state
                .unwrap_or_default()
                .into_iter()
                .map(StateItem::from)
                .collect(),
            to: document.to.unwrap_or_default(),
            data: document.data.map_or_else(
                || Bytes::from_static(b"null"),
                |data| Bytes::from(Box::<str>::from(data).into_string()),
            ),
            parallel: document.concurrency.as_deref() == Some("parallel"),
        }
    }

    /// From the message of a gRPC app.
    pub(super) fn from_message(message: BindingEventResponse) -> Self {
        Self {
            parallel: message.concurrency() == BindingEventConcurrency::Parallel,
            store: message.store_name,
            states: message.states,
            to: message.to,
            data: message.data,
        }
    }

    /// Does what the app asks for. The event is taken all the same when that fails, as upstream.
    pub(super) async fn carry_out(
        self,
        binding: &str,
        outputs: &BindingsService,
        state: Option<&dyn AppState>,
    ) {
        if !self.states.is_empty() && !self.store.is_empty() {
            let request = SaveStateRequest {
                store_name: self.store,
                states: self.states,
            };
            let saved = match state {
                Some(state) => state.save(request).await.map_err(|error| error.to_string()),
                None => Err("the state API is not served here".to_owned()),
            };
            if let Err(error) = saved {
                tracing::error!(
                    target: "dapr.runtime.processor.binding",
                    "error saving state from app response to binding {binding}: {error}"
                );
            }
        }
        let call = |name: String| {
            let request = InvokeRequest {
                data: self.data.clone(),
                operation: "create".to_owned(),
                metadata: Metadata::new(),
            };
            async move {
                outputs.invoke(&name, request).await.inspect_err(|error| {
                    tracing::error!(
                        target: "dapr.runtime.processor.binding",
                        "error executing app response: {error}"
                    );
                })
            }
        };
        if self.parallel {
            stream::iter(self.to)
                .map(call)
                .buffer_unordered(PARALLEL)
                .for_each(|_| async {})
                .await;
        } else {
            for name in self.to {
                if call(name).await.is_err() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_ask_for_something() {
        for body in [&b""[..], b"ok", b"[1]", b"\"x\"", b"{\"to\":1}", b"{"] {
            let answer = Answer::from_body(body);
            assert!(answer.to.is_empty() && answer.states.is_empty());
        }
        let answer = Answer::from_body(
            br#" {"storeName":"s","state":[{"key":"k","value":{"a":1}}],"to":["a","b"],"data":{"x":2},"concurrency":"parallel"}"#,
        );
        assert_eq!(answer.store, "s");
        assert_eq!(&answer.states[0].value[..], br#"{"a":1}"#);
        assert_eq!(answer.to, ["a", "b"]);
        assert_eq!(&answer.data[..], br#"{"x":2}"#);
        assert!(answer.parallel);
    }
}
