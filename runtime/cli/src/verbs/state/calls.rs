//! `state get`, `set` and `delete`: single items through a sidecar's API.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use super::super::{
    Surroundings,
    payload::{Payload, reason},
    wait_for,
};
use crate::{
    console::Status,
    output::{self, TextFormat},
    sidecar_api::{Call, SidecarApi, segment},
    sidecars,
    usage::refuse,
};

/// Which sidecar and which store.
#[derive(Debug, Args)]
struct Target {
    /// The id of the app; the only one that runs if not given
    #[arg(short = 'a', long)]
    app_id: Option<String>,
    /// The name of the state store
    #[arg(short = 's', long, default_value = "statestore")]
    store: String,
    /// Folder of the sidecar's Unix domain sockets
    #[arg(short = 'u', long, value_name = "FOLDER")]
    unix_domain_socket: Option<PathBuf>,
}

impl Target {
    async fn api(&self, around: &Surroundings) -> Result<SidecarApi> {
        let socket = self.unix_domain_socket.as_deref();
        let token = around.environment.non_empty("DAPR_API_TOKEN");
        let (_, api) = sidecars::api_of(self.app_id.as_deref(), socket, token).await?;
        Ok(api)
    }

    fn item(&self, key: &str) -> String {
        format!("/v1.0/state/{}/{}", segment(&self.store), segment(key))
    }
}

/// Print an item
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state get --app-id orders order-1\n\n  # With its etag\n  outrigger state get -a orders -s statestore order-1 --output json"
)]
pub(super) struct GetFlags {
    /// The key, as the app knows it
    key: String,
    #[command(flatten)]
    target: Target,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
}

/// Write an item
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state set --app-id orders order-1 --data '{\"paid\": true}'\n  outrigger state set -a orders order-1 -f order.json --ttl 3600\n\n  # Only if nobody changed it meanwhile\n  outrigger state set -a orders order-1 -d 2 --etag 7"
)]
pub(super) struct SetFlags {
    /// The key, as the app knows it
    key: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    payload: Payload,
    /// Write only if the item still has this etag
    #[arg(long)]
    etag: Option<String>,
    /// Seconds until the item vanishes
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    ttl: Option<i64>,
}

/// Remove an item
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger state delete --app-id orders order-1\n\n  # Only if nobody changed it meanwhile\n  outrigger state delete -a orders order-1 --etag 7"
)]
pub(super) struct DeleteFlags {
    /// The key, as the app knows it
    key: String,
    #[command(flatten)]
    target: Target,
    /// Remove only if the item still has this etag
    #[arg(long)]
    etag: Option<String>,
}

/// Prints an item. One that is not there leaves with 1.
pub(super) fn get(flags: &GetFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(async {
        let api = flags.target.api(around).await?;
        let (status, headers, body) = api
            .answer(Call::new(Method::GET, &flags.target.item(&flags.key)))
            .await?;
        match status {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => bail!("there is no {:?} in {}", flags.key, flags.target.store),
            _ => bail!("the sidecar answered {status}: {}", reason(&body)),
        }
        match flags.output {
            TextFormat::Text => {
                output::print(&body)?;
                if !body.ends_with(b"\n") {
                    output::print(b"\n")?;
                }
            }
            TextFormat::Json => {
                let text = output::json(&json!({
                    "key": flags.key,
                    "value": serde_json::from_slice(&body)
                        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body))),
                    "etag": text(&headers, "etag"),
                    "ttlExpireTime": text(&headers, "metadata.ttlexpiretime"),
                }))?;
                output::print(text.as_bytes())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Writes an item: data that is JSON as it is, other data as a JSON text.
pub(super) fn set(flags: &SetFlags, around: &Surroundings) -> Result<ExitCode> {
    let Some(data) = flags.payload.read("state set")? else {
        refuse!("nothing to write: give --data or --data-file");
    };
    let value = match serde_json::from_slice(&data) {
        Ok(value) => value,
        Err(_) => Value::from(String::from_utf8(data.to_vec()).map_err(|_| {
            anyhow::anyhow!("the data is neither JSON nor UTF-8 text; put bytes into JSON as base64")
        })?),
    };
    let mut item = json!({ "key": flags.key, "value": value });
    if let Some(etag) = &flags.etag {
        item["etag"] = Value::from(etag.as_str());
        item["options"] = json!({ "concurrency": "first-write" });
    }
    if let Some(ttl) = flags.ttl {
        item["metadata"] = json!({ "ttlInSeconds": ttl.to_string() });
    }
    wait_for(async {
        let api = flags.target.api(around).await?;
        let path = format!("/v1.0/state/{}", segment(&flags.target.store));
        let call = Call::new(Method::POST, &path).body("application/json", json!([item]).to_string());
        let (status, _, body) = api.answer(call).await?;
        if !status.is_success() {
            bail!("the sidecar answered {status}: {}", reason(&body));
        }
        around
            .console
            .say(Status::Success, &format!("{} is written", flags.key));
        Ok(ExitCode::SUCCESS)
    })
}

/// Removes an item; one that is not there is removed already.
pub(super) fn delete(flags: &DeleteFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(async {
        let api = flags.target.api(around).await?;
        let mut call = Call::new(Method::DELETE, &flags.target.item(&flags.key));
        if let Some(etag) = &flags.etag {
            call = call.header(header::IF_MATCH, etag)?;
        }
        let (status, _, body) = api.answer(call).await?;
        if !status.is_success() {
            bail!("the sidecar answered {status}: {}", reason(&body));
        }
        around
            .console
            .say(Status::Success, &format!("{} is removed", flags.key));
        Ok(ExitCode::SUCCESS)
    })
}
