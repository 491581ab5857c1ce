//! `outrigger invoke` (upstream `cmd/invoke.go`, `standalone.Invoke`).

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use http::{Method, header};
use http_body_util::BodyExt as _;

use super::{
    Surroundings,
    payload::{Payload, reason},
    wait_for,
};
use crate::{
    console::Status,
    output::{self, TextFormat},
    sidecar_api::{Call, segment},
    sidecars,
    usage::Usage,
};

/// Call a method of an app through its sidecar
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger invoke --app-id orders --method list --verb GET\n  outrigger invoke -a orders -m orders/7/pay -d '{\"amount\": 3}'\n\n  # From a file, from another program\n  outrigger invoke -a orders -m import -f orders.json\n  cat orders.json | outrigger invoke -a orders -m import -f -\n\n  # Status, content type and body for scripts\n  outrigger invoke -a orders -m list -v GET --output json"
)]
pub(super) struct InvokeFlags {
    /// The id of the app
    #[arg(short = 'a', long)]
    app_id: String,
    /// The method: a path, with a query if need be
    #[arg(short = 'm', long)]
    method: String,
    #[command(flatten)]
    payload: Payload,
    /// The HTTP verb
    #[arg(short = 'v', long, default_value = "POST")]
    verb: String,
    /// Folder of the sidecar's Unix domain sockets
    #[arg(short = 'u', long, value_name = "FOLDER")]
    unix_domain_socket: Option<PathBuf>,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
}

pub(super) fn main(flags: &InvokeFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(invoke(flags, around)).with_context(|| format!("error invoking app {}", flags.app_id))
}

async fn invoke(flags: &InvokeFlags, around: &Surroundings) -> Result<ExitCode> {
    let data = flags.payload.read("invoke")?.unwrap_or_default();
    let verb = Method::from_bytes(flags.verb.to_ascii_uppercase().as_bytes())
        .map_err(|_| Usage::new(format!("{:?} is no HTTP verb", flags.verb)))?;
    let (app_id, api) = sidecars::api_of(
        Some(&flags.app_id),
        flags.unix_domain_socket.as_deref(),
        around.environment.non_empty("DAPR_API_TOKEN"),
    )
    .await?;
    let method = flags.method.trim_start_matches('/');
    let call = Call::new(
        verb,
        &format!("/v1.0/invoke/{}/method/{method}", segment(&app_id)),
    )
    .body("application/json", data);
    if flags.output == TextFormat::Json {
        let (status, headers, body) = api.answer(call).await?;
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        output::print(
            output::json(&serde_json::json!({
                "appId": app_id,
                "method": flags.method,
                "status": status.as_u16(),
                "contentType": content_type,
                "body": serde_json::from_slice(&body)
                    .unwrap_or_else(|_| serde_json::Value::from(String::from_utf8_lossy(&body))),
            }))?
            .as_bytes(),
        )?;
        return Ok(code(status.is_success()));
    }
    let answer = api.send(call).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    // Printed as it comes: an app may stream for as long as it likes.
    let (mut start, mut last) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the answer broke off")?;
        if let Some(bytes) = frame.data_ref() {
            output::print(bytes)?;
            last = bytes.last().copied().or(last);
            let room = 4096_usize.saturating_sub(start.len());
            start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
    if last.is_some_and(|byte| byte != b'\n') {
        output::print(b"\n")?;
    }
    if status.is_success() {
        around.console.say(Status::Success, "App invoked successfully");
    } else {
        let text = format!(
            "error invoking app {app_id}: it answered {status}: {}",
            reason(&start)
        );
        around
            .console
            .say(Status::Failure, text.trim_end_matches([' ', ':']));
    }
    Ok(code(status.is_success()))
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
