//! The parts that the program can be.

pub(crate) mod exchange;
pub(crate) mod page;
pub(crate) mod watch;

use anyhow::Context as _;
use outrigger_kit::settings::{Key, Kind, Settings};

fn key(
    name: &'static str,
    flag: &'static str,
    variables: &'static [&'static str],
    default: Option<&'static str>,
    kind: Kind,
    help: &'static str,
) -> Key {
    Key {
        name,
        flag,
        variables,
        default,
        kind,
        help,
    }
}

/// Where the gateway is; page and watch ask for it.
fn gateway_keys() -> [Key; 2] {
    [
        key(
            "ApiHost",
            "--api-host",
            &["VIRTUFIN_API_HOST"],
            Some("localhost"),
            Kind::Text,
            "host of the gateway",
        ),
        key(
            "ApiGrpcPort",
            "--api-grpc-port",
            &["VIRTUFIN_API_GRPC_PORT"],
            Some("5002"),
            Kind::Port,
            "gRPC port of the gateway",
        ),
    ]
}

fn gateway(settings: &Settings) -> anyhow::Result<outrigger_platform_client::gateway::GatewayClient> {
    let options = outrigger_platform_client::Options::gateway()
        .host(settings.text("ApiHost"))
        .port(settings.port("ApiGrpcPort").context("ApiGrpcPort is not set")?);
    Ok(outrigger_platform_client::gateway::GatewayClient::new(&options)?)
}

fn number(settings: &Settings, name: &str) -> anyhow::Result<u64> {
    settings
        .text(name)
        .parse()
        .with_context(|| format!("{name} is no number"))
}
