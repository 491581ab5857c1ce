//! `market page`: sets the pipeline up, keeps it up, and serves the page of live prices.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;

use anyhow::Context as _;
use outrigger_kit::CancellationToken;
use outrigger_kit::app::termination;
use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_market::page::{Gateway, routes};
use outrigger_market::pipeline::{Addresses, keep};
use outrigger_market::shapes::Exchange;
use tokio::net::TcpListener;

use super::{gateway, gateway_keys, key};

/// The exchanges' own services, for `--live`.
const LIVE_BINANCE: &str = "wss://stream.binance.com:9443";
const LIVE_ALPACA: &str = "wss://stream.data.alpaca.markets/v2/iex";

/// Its settings.
pub(crate) fn keys() -> Vec<Key> {
    let mut keys = gateway_keys().to_vec();
    keys.extend([
        key(
            "Address",
            "--address",
            &["MARKET_ADDRESS"],
            Some("127.0.0.1"),
            Kind::Text,
            "address that the page listens on",
        ),
        key(
            "Port",
            "--port",
            &["MARKET_PORT"],
            Some("5300"),
            Kind::Number { min: 0, max: 65_535 },
            "port of the page; 0 is any free one",
        ),
        key(
            "GrpcWebPort",
            "--grpc-web-port",
            &["MARKET_GRPC_WEB_PORT"],
            Some("5003"),
            Kind::Port,
            "the gateway's gRPC-Web port, on the page's own host",
        ),
        key(
            "GrpcWebAddress",
            "--grpc-web-address",
            &["MARKET_GRPC_WEB_ADDRESS"],
            None,
            Kind::Text,
            "the gateway's gRPC-Web address (https://…), where it is on another host",
        ),
        key(
            "Live",
            "--live",
            &["MARKET_LIVE"],
            Some("no"),
            Kind::OneOf(&["yes", "no"]),
            "real exchanges in place of simulated ones; needs the network, and for Alpaca --key and --secret",
        ),
        key(
            "Binance",
            "--binance",
            &["MARKET_BINANCE"],
            Some("ws://127.0.0.1:5301"),
            Kind::Text,
            "address of Binance's streams",
        ),
        key(
            "BinanceSymbols",
            "--binance-symbols",
            &["MARKET_BINANCE_SYMBOLS"],
            Some("BTCUSDT,ETHUSDT"),
            Kind::Text,
            "what is read there; empty: nothing",
        ),
        key(
            "Alpaca",
            "--alpaca",
            &["MARKET_ALPACA"],
            Some("ws://127.0.0.1:5302"),
            Kind::Text,
            "address of Alpaca's stream",
        ),
        key(
            "AlpacaSymbols",
            "--alpaca-symbols",
            &["MARKET_ALPACA_SYMBOLS"],
            Some("AAPL,MSFT"),
            Kind::Text,
            "what is read there; empty: nothing",
        ),
        key(
            "Key",
            "--key",
            &["APCA_API_KEY_ID"],
            Some("key"),
            Kind::Text,
            "Alpaca's key",
        ),
        key(
            "Secret",
            "--secret",
            &["APCA_API_SECRET_KEY"],
            Some("secret"),
            Kind::Text,
            "Alpaca's secret; rather by the variable than by the flag",
        ),
    ]);
    keys
}

fn addresses(settings: &Settings) -> Addresses {
    let live = settings.text("Live") == "yes";
    let mut exchanges = BTreeMap::new();
    let mut symbols = BTreeMap::new();
    for (exchange, name, list, real) in [
        (Exchange::Binance, "Binance", "BinanceSymbols", LIVE_BINANCE),
        (Exchange::Alpaca, "Alpaca", "AlpacaSymbols", LIVE_ALPACA),
    ] {
        let address = if live { real } else { settings.text(name) };
        let wanted: Vec<String> = settings
            .text(list)
            .split(',')
            .map(|symbol| symbol.trim().to_ascii_uppercase())
            .filter(|symbol| !symbol.is_empty())
            .collect();
        if address.is_empty() || wanted.is_empty() {
            continue;
        }
        exchanges.insert(exchange, address.to_owned());
        symbols.insert(exchange, wanted);
    }
    Addresses {
        exchanges,
        symbols,
        credentials: (
            settings.text("Key").to_owned(),
            settings.text("Secret").to_owned(),
        ),
    }
}

/// Serves until the process is asked to stop.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let address: IpAddr = settings
        .text("Address")
        .parse()
        .with_context(|| format!("{:?} is no address", settings.text("Address")))?;
    let port = u16::try_from(super::number(settings, "Port")?)?;
    let listener = TcpListener::bind((address, port))
        .await
        .with_context(|| format!("cannot listen on {address}:{port}"))?;
    let place = match settings.get("GrpcWebAddress") {
        Some(address) => Gateway::At(address.trim_end_matches('/').to_owned()),
        None => Gateway::Beside(settings.port("GrpcWebPort").unwrap_or_default()),
    };
    writeln!(
        std::io::stdout(),
        "The market page is at http://{}/",
        listener.local_addr()?
    )
    .context("cannot tell the address")?;
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(keep(gateway(settings)?, addresses(settings), stop.clone()));
    axum::serve(listener, routes(place))
        .with_graceful_shutdown(termination())
        .await?;
    stop.cancel();
    Ok(keeper.await?)
}
