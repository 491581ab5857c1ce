//! The sidecar's metadata, health and shutdown.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, header};
use serde::Deserialize;

use super::{Call, Client, decode, name};
use crate::Error;

/// What a sidecar says about itself. Fields that this kit does not name are in [`rest`](Self::rest).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The app-id.
    pub id: String,
    /// The runtime's version.
    #[serde(rename = "runtimeVersion")]
    pub runtime_version: String,
    /// The components loaded.
    pub components: Vec<MetadataComponent>,
    /// The subscriptions in force.
    pub subscriptions: Vec<MetadataSubscription>,
    /// Labels set by the app or the tool that started it.
    pub extended: BTreeMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// A loaded component.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MetadataComponent {
    /// Its name.
    pub name: String,
    /// Its type, such as `state.sqlite`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
    /// What it can do.
    pub capabilities: Vec<String>,
}

/// A subscription in force.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MetadataSubscription {
    /// The pub/sub component.
    #[serde(rename = "pubsubname")]
    pub pubsub: String,
    /// The topic.
    pub topic: String,
}

impl Client {
    /// Reads the sidecar's metadata.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn metadata(&self) -> Result<Metadata, Error> {
        let answer = self
            .call(Call::new(Method::GET, "/v1.0/metadata".to_owned()))
            .await?;
        decode("the metadata", &answer.body)
    }

    /// Sets a label in the sidecar's metadata.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn set_metadata(&self, key: &str, value: &str) -> Result<(), Error> {
        let mut call = Call::new(
            Method::PUT,
            format!("/v1.0/metadata/{}", name("metadata key", key)?),
        )
        .header(header::CONTENT_TYPE, "text/plain")?;
        call.body = value.to_owned().into();
        self.call(call).await.map(drop)
    }

    /// One look whether the sidecar is healthy: itself, its components and the app behind it.
    ///
    /// # Errors
    /// [`Error::SidecarUnavailable`] if it is not there, [`Error::Status`] if it is not healthy.
    pub async fn healthy(&self) -> Result<(), Error> {
        self.probe("/v1.0/healthz").await
    }

    /// One look whether the sidecar can be used by its app, which does not ask whether the app is up: right for
    /// the app itself to wait for.
    ///
    /// # Errors
    /// As [`healthy`](Self::healthy).
    pub async fn outbound_healthy(&self) -> Result<(), Error> {
        self.probe("/v1.0/healthz/outbound").await
    }

    /// Waits until the sidecar can be used by its app (E1.9).
    ///
    /// # Errors
    /// [`Error::SidecarUnavailable`] or [`Error::Status`] with what was last seen when the time is over.
    pub async fn wait_for_sidecar(&self, limit: Duration) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now().checked_add(limit);
        loop {
            let Err(error) = self.outbound_healthy().await else {
                return Ok(());
            };
            if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
                return Err(error);
            }
            tokio::time::sleep(WAIT_INTERVAL).await;
        }
    }

    /// Asks the sidecar to shut down.
    ///
    /// # Errors
    /// Those of the sidecar.
    pub async fn shutdown_sidecar(&self) -> Result<(), Error> {
        self.call(Call::new(Method::POST, "/v1.0/shutdown".to_owned()))
            .await
            .map(drop)
    }

    async fn probe(&self, path: &str) -> Result<(), Error> {
        let mut call = Call::new(Method::GET, path.to_owned());
        call.retry = false;
        call.guarded = false;
        call.timeout = Some(PROBE_TIMEOUT);
        self.call(call).await.map(drop)
    }
}

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const WAIT_INTERVAL: Duration = Duration::from_millis(50);
