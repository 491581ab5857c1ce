//! `plumbing <direct|kit> <tasks|stats>`: one of the two versions, as a program.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context as _, bail};
use outrigger_kit::app::termination;
use outrigger_plumbing::{app_id, direct, kit};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let [version, service] = arguments.as_slice() else {
        bail!("usage: plumbing <direct|kit> <tasks|stats>");
    };
    let service = [app_id::TASKS, app_id::STATS]
        .into_iter()
        .find(|known| known == service)
        .with_context(|| format!("no service {service:?}"))?;
    let port = match environment.get("APP_PORT") {
        Some(port) => port.parse().context("APP_PORT")?,
        None => 0,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    writeln!(
        std::io::stdout(),
        "{service} is at http://{}",
        listener.local_addr()?
    )?;
    match version.as_str() {
        "direct" => direct::run(service, &environment, listener, termination()).await,
        "kit" => kit::run(service, environment, listener, termination()).await,
        other => bail!("no version {other:?}"),
    }
}
