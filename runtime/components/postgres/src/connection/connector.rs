//! Makes connections for the pool, and for who listens on one of its own.

use std::{fmt, future::Future, pin::Pin};

use deadpool_postgres::Connect;
use outrigger_component::{Error, Host};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Settings,
    target::{self, Attempt},
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Knows all ways to a server.
#[derive(Clone)]
pub(crate) struct Connector {
    first: Attempt,
    rest: Vec<Attempt>,
}

impl fmt::Debug for Connector {
    /// Without the ways: a password is among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({} ways)", self.rest.len() + 1)
    }
}

/// A connection of either kind, erased over its stream.
pub(crate) enum Wire {
    /// Not encrypted.
    Plain(Box<Connection<Socket, tokio_postgres::tls::NoTlsStream>>),
    /// Encrypted.
    Tls(Box<Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>>),
}

impl Wire {
    /// Drives the connection until there is something to say.
    pub(crate) fn poll_message(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Self::Plain(connection) => connection.poll_message(cx),
            Self::Tls(connection) => connection.poll_message(cx),
        }
    }

    /// Drives it to its end; notices of the server go to the debug log.
    async fn run(mut self) {
        loop {
            match std::future::poll_fn(|cx| self.poll_message(cx)).await {
                Some(Ok(tokio_postgres::AsyncMessage::Notice(notice))) => {
                    tracing::debug!(severity = notice.severity(), "{}", notice.message());
                }
                Some(Ok(_)) => {}
                // Who waits for an answer learns of it; a connection that nobody uses may come and go.
                Some(Err(error)) => {
                    tracing::debug!(error = crate::error::text(&error), "a connection broke");
                    return;
                }
                None => return,
            }
        }
    }
}

impl Connector {
    /// Reads the certificates; connects nowhere.
    ///
    /// # Errors
    /// Configuration errors.
    pub(crate) async fn new(settings: &Settings, host: &Host) -> Result<Self, Error> {
        let (first, rest) = target::attempts(&settings.keywords, host).await?;
        Ok(Self { first, rest })
    }

    /// Connects. The caller drives the wire.
    ///
    /// # Errors
    /// The failure of the last way that was tried.
    pub(crate) async fn wire(&self) -> Result<(Client, Wire), tokio_postgres::Error> {
        let mut outcome = self.first.connect().await;
        for attempt in &self.rest {
            match outcome {
                Err(error) if (attempt.after)(&error) => outcome = attempt.connect().await,
                _ => {}
            }
        }
        outcome
    }
}

impl Attempt {
    async fn connect(&self) -> Result<(Client, Wire), tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                Ok((client, Wire::Plain(Box::new(connection))))
            }
            Some(tls) => {
                let tls = MakeRustlsConnect::new((**tls).clone());
                let (client, connection) = self.config.connect(tls).await?;
                Ok((client, Wire::Tls(Box::new(connection))))
            }
        }
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _config: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async move {
            let (client, wire) = self.wire().await?;
            Ok((client, tokio::spawn(wire.run())))
        })
    }
}
