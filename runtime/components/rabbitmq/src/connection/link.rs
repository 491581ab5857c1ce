//! A connection that is made when it is needed and made again when it broke.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel, Connection, ConnectionProperties,
    tcp::AMQPUriTcpExt as _,
    uri::{AMQPScheme, AMQPUri},
};
use outrigger_component::{Error, ErrorKind};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Settings, tls};
use crate::error::failed;

/// For the connection and the broker's hello; amqp091-go allows the same for the dial alone.
const CONNECT: Duration = Duration::from_secs(30);

/// A good-bye that the broker does not answer ends nevertheless.
const GOODBYE: Duration = Duration::from_secs(5);

/// One connection to the broker, or none for the moment.
#[derive(Debug)]
pub(crate) struct Link {
    settings: Settings,
    current: Mutex<Option<Arc<Connection>>>,
    closed: CancellationToken,
}

impl Link {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            current: Mutex::new(None),
            closed: CancellationToken::new(),
        }
    }

    /// A new channel, over a new connection when the old one is gone.
    ///
    /// # Errors
    /// `Closed` after [`Link::close`]; `Unavailable` when the broker does not answer; `Configuration` when TLS material
    /// is unusable. One attempt: who calls it decides about another.
    pub(crate) async fn channel(&self) -> Result<Channel, Error> {
        let connection = self.connection().await?;
        connection
            .create_channel()
            .await
            .map_err(|error| failed("cannot open a channel", error))
    }

    /// The longest wait between attempts.
    pub(crate) fn reconnect_wait(&self) -> Duration {
        self.settings.reconnect_wait
    }

    /// Whether the broker is connected, or can be.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut current = self.current.lock().await;
        if self.is_closed() {
            return Err(closed());
        }
        if let Some(connection) = current.as_ref().filter(|old| old.status().connected()) {
            return Ok(connection.clone());
        }
        *current = None;
        let connection = tokio::select! {
            // Closing does not wait for a broker that does not answer.
            () = self.closed.cancelled() => return Err(closed()),
            dialled = tokio::time::timeout(CONNECT, self.dial()) => {
                dialled.map_err(|_| Error::unavailable("the broker does not answer"))??
            }
        };
        tracing::info!(host = %self.settings.uri.authority.host, "connected to RabbitMQ");
        Ok(current.insert(Arc::new(connection)).clone())
    }

    async fn dial(&self) -> Result<Connection, Error> {
        let uri = self.settings.uri.clone();
        let mut properties = ConnectionProperties::default();
        if let Some(name) = &self.settings.client_name {
            properties = properties.with_connection_name(name.as_str().into());
        }
        let connector = match uri.scheme {
            AMQPScheme::AMQPS => Some(tls::connector(&self.settings)?),
            AMQPScheme::AMQP => None,
        };
        let runtime = lapin::runtime::default_runtime()
            .map_err(|error| Error::internal("no runtime for the connection").with_source(error))?;
        Connection::connector(
            uri,
            runtime,
            async move |uri: AMQPUri, runtime| {
                let plain = AMQPUri {
                    scheme: AMQPScheme::AMQP,
                    ..uri.clone()
                };
                let stream = plain.connect_async(&runtime).await?;
                Ok(match &connector {
                    Some(connector) => stream.into_rustls(connector, &uri.authority.host).await?,
                    None => stream,
                })
            },
            properties,
        )
        .await
        .map_err(|error| failed("cannot connect to the broker", error))
    }

    /// Ends the connection for good. Idempotent.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        if let Some(connection) = self.current.lock().await.take()
            && connection.status().connected()
        {
            let goodbye = connection.close(200, "OK".into());
            if !matches!(tokio::time::timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
                tracing::debug!("the broker did not take leave");
            }
        }
    }

    /// Whether [`Link::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }
}

/// What a closed component answers (upstream's words).
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "component is closed")
}

#[cfg(test)]
mod tests {
    use outrigger_component::Properties;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn closing_does_not_wait_for_a_silent_broker() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("amqp://127.0.0.1:{}", silent.local_addr().unwrap().port());
        let properties = Properties::from_pairs([("connectionString", uri.as_str())]);
        let link = Arc::new(Link::new(Settings::parse(&properties).unwrap()));
        let dialling = tokio::spawn({
            let link = link.clone();
            async move { link.connection().await.map(drop) }
        });
        // It has been reached, and waits for the answer.
        let _held = silent.accept().await.unwrap();
        tokio::time::timeout(GOODBYE, link.close()).await.unwrap();
        assert_eq!(dialling.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(link.channel().await.unwrap_err().kind(), ErrorKind::Closed);
    }
}
