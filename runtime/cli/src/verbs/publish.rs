//! `outrigger publish` (upstream `cmd/publish.go`, `standalone.Publish`).

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;

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
    usage::{Usage, refuse},
};

/// Publish an event through an app's sidecar
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  outrigger publish --publish-app-id orders --pubsub pubsub --topic placed --data '{\"id\": 7}'\n\n  # From a file, with metadata\n  outrigger publish -i orders -p pubsub -t placed -f event.json -m '{\"ttlInSeconds\": \"60\"}'\n\n  # A whole CloudEvent is published as it is\n  outrigger publish -i orders -p pubsub -t placed -d '{\"specversion\": \"1.0\", \"id\": \"1\", \"source\": \"me\", \"type\": \"placed\", \"data\": 1}'"
)]
pub(super) struct PublishFlags {
    /// The id of the app that publishes
    #[arg(short = 'i', long)]
    publish_app_id: String,
    /// The name of the pub/sub component
    #[arg(short = 'p', long)]
    pubsub: String,
    /// The topic
    #[arg(short = 't', long)]
    topic: String,
    #[command(flatten)]
    payload: Payload,
    /// Metadata of the event, as a JSON object
    #[arg(short = 'm', long)]
    metadata: Option<String>,
    /// Folder of the sidecar's Unix domain sockets
    #[arg(short = 'u', long, value_name = "FOLDER")]
    unix_domain_socket: Option<PathBuf>,
    /// How to print: text or json
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: TextFormat,
}

pub(super) fn main(flags: &PublishFlags, around: &Surroundings) -> Result<ExitCode> {
    wait_for(publish(flags, around)).with_context(|| format!("error publishing topic {}", flags.topic))
}

async fn publish(flags: &PublishFlags, around: &Surroundings) -> Result<ExitCode> {
    for (flag, value) in [
        ("--publish-app-id", &flags.publish_app_id),
        ("--pubsub", &flags.pubsub),
        ("--topic", &flags.topic),
    ] {
        if value.is_empty() {
            refuse!("{flag} cannot be empty");
        }
    }
    let data = flags.payload.read("publish")?.unwrap_or_default();
    let query = query(flags.metadata.as_deref())?;
    let (_, api) = sidecars::api_of(
        Some(&flags.publish_app_id),
        flags.unix_domain_socket.as_deref(),
        around.environment.non_empty("DAPR_API_TOKEN"),
    )
    .await?;
    let path = format!(
        "/v1.0/publish/{}/{}{query}",
        segment(&flags.pubsub),
        segment(&flags.topic)
    );
    let content_type = content_type(&data);
    let call = Call::new(Method::POST, &path).body(content_type, data);
    let (status, _, body) = api.answer(call).await?;
    if !status.is_success() {
        bail!("the sidecar answered {status}: {}", reason(&body));
    }
    match flags.output {
        TextFormat::Text => around
            .console
            .say(Status::Success, "Event published successfully"),
        TextFormat::Json => output::print(
            output::json(&serde_json::json!({
                "pubsub": flags.pubsub,
                "topic": flags.topic,
                "contentType": content_type,
                "published": true,
            }))?
            .as_bytes(),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `metadata.<name>=<value>` for each pair.
fn query(metadata: Option<&str>) -> Result<String> {
    let Some(text) = metadata.filter(|text| !text.is_empty()) else {
        return Ok(String::new());
    };
    let pairs: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        Usage::new(format!(
            "--metadata must be a JSON object such as '{{\"ttlInSeconds\": \"60\"}}': {error}"
        ))
    })?;
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("metadata.{}={}", segment(name), segment(&value))
        })
        .collect();
    Ok(if pairs.is_empty() {
        String::new()
    } else {
        format!("?{}", pairs.join("&"))
    })
}

/// JSON unless it is a CloudEvent, which is told by the fields upstream looks for.
fn content_type(data: &Bytes) -> &'static str {
    let event: Option<serde_json::Map<String, Value>> = serde_json::from_slice(data).ok();
    let whole = event.is_some_and(|event| {
        ["id", "source", "specversion", "type", "data"]
            .iter()
            .all(|field| event.contains_key(*field))
    });
    if whole {
        "application/cloudevents+json"
    } else {
        "application/json"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_a_query() {
        assert_eq!(query(None).unwrap(), "");
        assert_eq!(query(Some("{}")).unwrap(), "");
        let both = query(Some(r#"{"ttlInSeconds": 60, "a b": "x&y"}"#)).unwrap();
        assert_eq!(both, "?metadata.a%20b=x%26y&metadata.ttlInSeconds=60");
        assert!(
            query(Some("[1]"))
                .unwrap_err()
                .to_string()
                .contains("JSON object")
        );
    }

    #[test]
    fn whole_events_are_told_by_their_fields() {
        let event = br#"{"id":"1","source":"s","specversion":"1.0","type":"t","data":1}"#;
        assert_eq!(
            content_type(&Bytes::from_static(event)),
            "application/cloudevents+json"
        );
        assert_eq!(
            content_type(&Bytes::from_static(b"{\"id\":1}")),
            "application/json"
        );
        assert_eq!(content_type(&Bytes::from_static(b"plain")), "application/json");
    }
}
