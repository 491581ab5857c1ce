//! Keeps the feeds alive: a connection that came back has to be told again what is wanted of it, and one that was
//! given up is made anew.

use std::time::Duration;

use outrigger_kit::CancellationToken;
use outrigger_platform_client::gateway::GatewayClient;

use super::setup::greet;
use super::{Addresses, set_up};
use crate::shapes::Exchange;

/// Where the WebSocket manager tells what became of connections (R6).
const LIFECYCLE: &str = "websocketmanager.lifecycle";
const CONNECTED: &str = "com.virtufin.websocketmanager.lifecycle.connected";
/// The wait after something failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often everything is looked at, told or not.
const LOOK: Duration = Duration::from_secs(5);

/// Sets the pipeline up and keeps it up until `stop`.
pub async fn keep(gateway: GatewayClient, addresses: Addresses, stop: CancellationToken) {
    let work = async {
        let mut told = String::new();
        loop {
            let Err(error) = watch(&gateway, &addresses).await else {
                continue;
            };
            // While services start, the same is said many times.
            let error = error.to_string();
            if error != told {
                tracing::warn!(error, "the pipeline cannot be kept up; trying again");
                told = error;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Sets up, then waits for what happens to connections; returns to look at everything again.
async fn watch(gateway: &GatewayClient, addresses: &Addresses) -> anyhow::Result<()> {
    let mut events = gateway.subscribe([LIFECYCLE]).await?;
    let mut connections = set_up(gateway, addresses).await?;
    let mut look = tokio::time::interval(LOOK);
    look.reset();
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = look.tick() => {
                connections = mended(gateway, addresses, connections).await?;
                continue;
            }
        };
        let Some(event) = event else {
            anyhow::bail!("the gateway ended the stream");
        };
        let is_connected = event
            .metadata
            .iter()
            .any(|(name, value)| matches!(name.as_str(), "ce-type" | "type") && value == CONNECTED);
        // One that was degraded and is well again is the same opening: its exchange knows what it is to send.
        let id = serde_json::from_slice::<serde_json::Value>(&event.data)
            .ok()
            .filter(|data| data["recovered"] != true)
            .and_then(|data| data.get("connection_id")?.as_str().map(str::to_owned));
        if let Some((id, exchange)) =
            id.and_then(|id| connections.get(&id).map(|exchange| (id.clone(), *exchange)))
            && is_connected
        {
            tracing::info!(exchange = exchange.name(), "connected again");
            greet(gateway, addresses, exchange, &id).await?;
        }
    }
}

/// Looks whether a connection was given up, and makes it anew.
async fn mended(
    gateway: &GatewayClient,
    addresses: &Addresses,
    known: std::collections::BTreeMap<String, Exchange>,
) -> anyhow::Result<std::collections::BTreeMap<String, Exchange>> {
    let listed = gateway
        .service("websocketmanager")
        .call("List", serde_json::json!({}))
        .await?;
    let up = |id: &String| {
        listed["connections"].as_array().is_some_and(|all| {
            all.iter()
                .any(|one| one["id"] == id.as_str() && one["status"] != "Disconnected")
        })
    };
    if known.keys().all(up) {
        return Ok(known);
    }
    Ok(set_up(gateway, addresses).await?)
}
