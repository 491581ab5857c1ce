//! The WebSocket manager: connections to the outside.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use outrigger_platform_wire::virtufin::{
    ConnectRequest, ConnectResponse, DisconnectRequest, ListRequest, SendRawRequest, SendRequest,
    StartPublishRequest, StopPublishRequest, TagFilter, WebSocketConnection,
    web_socket_manager_client::WebSocketManagerClient as Stub,
};
use tonic::transport::Channel;

use crate::{
    Error, Options,
    link::{Link, Transport},
    tags::tags,
};

/// How long the service awaits the answer to a message unless told otherwise (I2.3).
pub const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// `virtufin.WebSocketManager`.
#[derive(Debug, Clone)]
pub struct WebSocketManagerClient {
    link: Link,
}

impl WebSocketManagerClient {
    /// A client that connects at its first call. Must be called where a Tokio runtime is.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn new(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::lazy(options)?,
        })
    }

    /// A client over a connection made elsewhere, such as one with TLS; host and port of the options are not looked at.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub fn over(channel: Channel, options: &Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::over(channel, options)?,
        })
    }

    fn stub(&self) -> Stub<Transport> {
        Stub::new(self.link.transport())
    }

    /// Opens a connection to a `ws` or `wss` URL; gives its id and status.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another URL, [`Error::Unavailable`] if nobody is there, else the status of the
    /// service.
    pub async fn connect(&self, request: ConnectRequest) -> Result<ConnectResponse, Error> {
        self.link.unary(self.stub().connect(request)).await
    }

    /// The connections that carry all of these tags; all without one.
    ///
    /// # Errors
    /// The status of the service.
    pub async fn list(&self, filters: Vec<TagFilter>) -> Result<Vec<WebSocketConnection>, Error> {
        let request = ListRequest { filters };
        Ok(self.link.unary(self.stub().list(request)).await?.connections)
    }

    /// Closes a connection.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::FailedPrecondition`] with reason `NOT_OWNER` if another instance has it.
    pub async fn disconnect(&self, id: impl Into<String>) -> Result<(), Error> {
        let request = DisconnectRequest { id: id.into() };
        self.link.unary(self.stub().disconnect(request)).await.map(drop)
    }

    /// Sends a message and gives the one that answers it. `timeout` is how long the service awaits that;
    /// [`SEND_TIMEOUT`] without one.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] without an answer; as [`Self::disconnect`].
    pub async fn send(
        &self,
        id: impl Into<String>,
        message: impl Into<Bytes>,
        content_type: impl Into<String>,
        timeout: Option<Duration>,
    ) -> Result<Bytes, Error> {
        let timeout = timeout.unwrap_or(SEND_TIMEOUT);
        let request = SendRequest {
            id: id.into(),
            message: message.into(),
            // 0 would ask for the service's default.
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1),
            content_type: content_type.into(),
        };
        let answer = self.link.patiently(timeout, self.stub().send(request)).await?;
        Ok(answer.response)
    }

    /// Sends a message as it is.
    ///
    /// # Errors
    /// As [`Self::disconnect`].
    pub async fn send_raw(
        &self,
        id: impl Into<String>,
        message: impl Into<Bytes>,
        content_type: impl Into<String>,
    ) -> Result<(), Error> {
        let request = SendRawRequest {
            id: id.into(),
            message: message.into(),
            content_type: content_type.into(),
        };
        self.link.unary(self.stub().send_raw(request)).await.map(drop)
    }

    /// Has every later message of the connection published to a topic.
    ///
    /// # Errors
    /// As [`Self::disconnect`].
    pub async fn start_publish(&self, id: impl Into<String>, topic: impl Into<String>) -> Result<(), Error> {
        let request = StartPublishRequest {
            id: id.into(),
            topic: topic.into(),
        };
        self.link
            .unary(self.stub().start_publish(request))
            .await
            .map(drop)
    }

    /// Ends that.
    ///
    /// # Errors
    /// As [`Self::disconnect`].
    pub async fn stop_publish(&self, id: impl Into<String>) -> Result<(), Error> {
        let request = StopPublishRequest { id: id.into() };
        self.link.unary(self.stub().stop_publish(request)).await.map(drop)
    }
}

tags!(WebSocketManagerClient, "connection");
