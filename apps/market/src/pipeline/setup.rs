//! Makes the connections and workers of the pipeline, all through the gateway's dynamic calls; what is there already
//! is left as it is, so that it may be run at every start.

use std::collections::BTreeMap;

use base64::Engine as _;
use outrigger_platform_client::gateway::GatewayClient;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MOVING_AVERAGE, TAG, TAG_VALUE, VENUE, messages_topic, results_topic};
use crate::shapes::{self, Exchange};

/// Where the exchanges are, and what is wanted of them.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Base address of each, `ws://host:port` or `wss://host`.
    pub exchanges: BTreeMap<Exchange, String>,
    /// What is traded there.
    pub symbols: BTreeMap<Exchange, Vec<String>>,
    /// Key and secret for Alpaca.
    pub credentials: (String, String),
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A call through the gateway failed.
    #[error("{what}: {source}")]
    Call {
        /// What was asked for.
        what: String,
        /// Why not.
        source: outrigger_platform_client::Error,
    },
    /// An answer is not what it should be.
    #[error("{0}: the answer is not what it should be")]
    Answer(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    id: String,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    status: String,
}

impl Addresses {
    /// Where to connect to; trades of all symbols.
    fn url(&self, exchange: Exchange) -> Option<String> {
        let base = self.exchanges.get(&exchange)?.trim_end_matches('/');
        let streams = |symbols: &[String]| -> Vec<String> {
            symbols
                .iter()
                .map(|symbol| shapes::binance::trades_of(symbol))
                .collect()
        };
        Some(match exchange {
            Exchange::Binance => {
                let symbols = self.symbols.get(&exchange).map_or(&[][..], Vec::as_slice);
                format!("{base}/stream?streams={}", streams(symbols).join("/"))
            }
            Exchange::Alpaca => {
                // The live service has feeds (`/v2/iex`), which the base address names then.
                if base.contains("/v2") {
                    base.to_owned()
                } else {
                    format!("{base}/v2/test")
                }
            }
        })
    }

    /// What has to be said on a connection before anything comes.
    pub(super) fn greetings(&self, exchange: Exchange) -> Vec<String> {
        match exchange {
            Exchange::Binance => Vec::new(),
            Exchange::Alpaca => {
                let symbols = self.symbols.get(&exchange).map_or(&[][..], Vec::as_slice);
                vec![
                    shapes::alpaca::auth(&self.credentials.0, &self.credentials.1),
                    shapes::alpaca::subscribe(symbols, &[]),
                ]
            }
        }
    }
}

/// Makes what is missing. Answers the connections' ids.
///
/// # Errors
/// [`SetupError`]; what was made so far stays and is found the next time.
pub async fn set_up(
    gateway: &GatewayClient,
    addresses: &Addresses,
) -> Result<BTreeMap<String, Exchange>, SetupError> {
    let mut connections = BTreeMap::new();
    for exchange in addresses.exchanges.keys().copied() {
        // Whoever reads comes first.
        worker(gateway, exchange).await?;
        let id = connection(gateway, addresses, exchange).await?;
        connections.insert(id, exchange);
    }
    Ok(connections)
}

async fn worker(gateway: &GatewayClient, exchange: Exchange) -> Result<(), SetupError> {
    let filters = json!({"filters": filters(exchange)});
    let known = call(gateway, "workmanager", "ListWorkers", filters).await?;
    if known["workers"]
        .as_array()
        .is_some_and(|workers| !workers.is_empty())
    {
        return Ok(());
    }
    let code = base64::engine::general_purpose::STANDARD.encode(MOVING_AVERAGE);
    let create = json!({
        "codeSource": {"content": code},
        "mimeType": "text/x-python",
        "topic": messages_topic(exchange),
        "config": {"exchange": exchange.name(), "replytopic": results_topic(exchange)},
        "tags": tags(exchange),
    });
    call(gateway, "workmanager", "CreateWorker", create).await?;
    tracing::info!(exchange = exchange.name(), "created the worker");
    Ok(())
}

async fn connection(
    gateway: &GatewayClient,
    addresses: &Addresses,
    exchange: Exchange,
) -> Result<String, SetupError> {
    let filters = json!({"filters": filters(exchange)});
    let known = call(gateway, "websocketmanager", "List", filters).await?;
    let known: Vec<Connection> = known
        .get("connections")
        .map(Vec::<Connection>::deserialize)
        .transpose()
        .map_err(|_| SetupError::Answer("List".to_owned()))?
        .unwrap_or_default();
    let mut found = None;
    for connection in known {
        if found.is_some() || connection.status == "Disconnected" {
            // Given up after its tries, or one too many: a new one is made.
            call(
                gateway,
                "websocketmanager",
                "Disconnect",
                json!({"id": connection.id}),
            )
            .await?;
        } else {
            found = Some(connection);
        }
    }
    let connection = match found {
        Some(connection) => connection,
        None => {
            let url = addresses
                .url(exchange)
                .ok_or_else(|| SetupError::Answer(exchange.name().to_owned()))?;
            let connect = json!({"url": url, "autoReconnect": true, "tags": tags(exchange)});
            let answer = call(gateway, "websocketmanager", "Connect", connect).await?;
            tracing::info!(exchange = exchange.name(), url, "connected");
            Connection::deserialize(&answer).map_err(|_| SetupError::Answer("Connect".to_owned()))?
        }
    };
    if connection.topic.is_empty() {
        let publish = json!({"id": connection.id, "topic": messages_topic(exchange)});
        call(gateway, "websocketmanager", "StartPublish", publish).await?;
    }
    greet(gateway, addresses, exchange, &connection.id).await?;
    Ok(connection.id)
}

/// Says what has to be said on a new connection. Said twice it does no harm: the exchange refuses the second key and
/// keeps the subscription.
pub(super) async fn greet(
    gateway: &GatewayClient,
    addresses: &Addresses,
    exchange: Exchange,
    id: &str,
) -> Result<(), SetupError> {
    for text in addresses.greetings(exchange) {
        let message = base64::engine::general_purpose::STANDARD.encode(text);
        let send = json!({"id": id, "message": message, "contentType": "application/json"});
        call(gateway, "websocketmanager", "SendRaw", send).await?;
    }
    Ok(())
}

fn tags(exchange: Exchange) -> Value {
    json!({TAG: TAG_VALUE, VENUE: exchange.name()})
}

fn filters(exchange: Exchange) -> Value {
    json!([{"key": TAG, "value": TAG_VALUE}, {"key": VENUE, "value": exchange.name()}])
}

async fn call(
    gateway: &GatewayClient,
    service: &str,
    method: &str,
    request: Value,
) -> Result<Value, SetupError> {
    gateway
        .service(service)
        .call(method, request)
        .await
        .map_err(|source| SetupError::Call {
            what: format!("{service}.{method}"),
            source,
        })
}
