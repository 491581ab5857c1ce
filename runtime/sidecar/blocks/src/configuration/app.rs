//! Updates on their way to an HTTP app.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use outrigger_component::Error;
use outrigger_configuration::{Items, UpdateHandler};
use outrigger_sidecar_api::Body;
use outrigger_sidecar_app_channel::AppChannel;
use outrigger_sidecar_resilience::{ComponentKind, RunError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::http::{ItemDocument, documents};
use crate::call::{Surroundings, app_error, error_text, json_line};

/// What stays as it is in a path; keys may hold slashes, which part segments as upstream.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/')
    .remove(b':');

#[derive(Serialize)]
struct Update<'a> {
    id: &'a str,
    items: BTreeMap<&'a str, ItemDocument<'a>>,
}

/// Posts updates of one subscription to the app, one key at a time and one update after the other: the store waits,
/// so nothing piles up.
pub(super) struct AppUpdates {
    pub(super) app: AppChannel,
    pub(super) around: Surroundings,
    pub(super) store: String,
    pub(super) id: String,
    pub(super) stop: CancellationToken,
}

impl fmt::Debug for AppUpdates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppUpdates")
            .field("store", &self.store)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl UpdateHandler for AppUpdates {
    fn handle(&self, items: Items) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Ok(body) = json_line(&Update {
                id: &self.id,
                items: documents(&items),
            }) else {
                return;
            };
            for key in items.keys() {
                let posted = self.stop.run_until_cancelled(self.post(key, &body)).await;
                match posted {
                    None => return,
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        tracing::error!(
                            target: "dapr.runtime.http",
                            "error sending configuration item to the app: {}", error_text(&error)
                        );
                    }
                }
            }
        })
    }
}

impl AppUpdates {
    async fn post(&self, key: &str, body: &Bytes) -> Result<(), RunError<Error>> {
        let path = format!(
            "/configuration/{}/{}",
            utf8_percent_encode(&self.store, PATH),
            utf8_percent_encode(key, PATH)
        );
        self.around
            .inbound(&self.store, ComponentKind::Configuration)
            .run(|_| async {
                let request = Request::builder()
                    .method(Method::POST)
                    .uri(&path)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Body::whole(body.clone()))
                    .map_err(|error| Error::invalid("cannot form the request").with_source(error))?;
                let response = self.app.send(request).await.map_err(|error| app_error(&error))?;
                match response.status() {
                    StatusCode::OK => Ok(()),
                    status => Err(Error::internal(format!(
                        "error sending configuration item to application, status {}",
                        status.as_u16()
                    ))),
                }
            })
            .await
    }
}
