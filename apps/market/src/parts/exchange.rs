//! `market exchange`: a simulated exchange.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use outrigger_kit::CancellationToken;
use outrigger_kit::app::termination;
use outrigger_kit::settings::{Key, Kind, Settings};
use outrigger_market::exchanges::{Exchange, Options};
use outrigger_market::shapes;

use super::{key, number};

/// Its settings.
pub(crate) fn keys() -> Vec<Key> {
    let number = |min, max| Kind::Number { min, max };
    vec![
        key(
            "Shape",
            "--shape",
            &["EXCHANGE_SHAPE"],
            Some("binance"),
            Kind::OneOf(&["binance", "alpaca"]),
            "whose messages are spoken",
        ),
        key(
            "Address",
            "--address",
            &["EXCHANGE_ADDRESS"],
            Some("127.0.0.1"),
            Kind::Text,
            "address to listen on",
        ),
        key(
            "Port",
            "--port",
            &["EXCHANGE_PORT"],
            Some("0"),
            number(0, 65_535),
            "port to listen on; 0 is any free one",
        ),
        key(
            "Rate",
            "--rate",
            &["EXCHANGE_RATE"],
            Some("10"),
            number(1, 1_000_000),
            "trades per second, of all symbols together",
        ),
        key(
            "Symbols",
            "--symbols",
            &["EXCHANGE_SYMBOLS"],
            None,
            Kind::Text,
            "what is traded, with commas (BTCUSDT,ETHUSDT; AAPL,MSFT)",
        ),
        key(
            "Seed",
            "--seed",
            &["EXCHANGE_SEED"],
            Some("1"),
            number(0, u64::MAX),
            "decides the prices",
        ),
        key(
            "Key",
            "--key",
            &["EXCHANGE_KEY"],
            Some("key"),
            Kind::Text,
            "the key that clients of alpaca send",
        ),
        key(
            "Secret",
            "--secret",
            &["EXCHANGE_SECRET"],
            Some("secret"),
            Kind::Text,
            "the secret that clients of alpaca send",
        ),
        key(
            "SymbolLimit",
            "--symbol-limit",
            &["EXCHANGE_SYMBOL_LIMIT"],
            Some("30"),
            number(1, 10_000),
            "symbols that a client of alpaca may subscribe",
        ),
        key(
            "PingSeconds",
            "--ping-seconds",
            &["EXCHANGE_PING_SECONDS"],
            Some("20"),
            number(1, 3_600),
            "how often clients are pinged",
        ),
        key(
            "ConnectionSeconds",
            "--connection-seconds",
            &["EXCHANGE_CONNECTION_SECONDS"],
            Some("86400"),
            number(1, 604_800),
            "how long a connection lasts at most; short, to see clients come back",
        ),
    ]
}

/// Trades until the process is asked to stop.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let address: IpAddr = settings
        .text("Address")
        .parse()
        .with_context(|| format!("{:?} is no address", settings.text("Address")))?;
    let port = u16::try_from(number(settings, "Port")?)?;
    let options = options(settings)?;
    let shape = options.shape;
    let exchange = Exchange::bind(SocketAddr::new(address, port), options)
        .await
        .with_context(|| format!("cannot listen on {address}:{port}"))?;
    let path = match shape {
        shapes::Exchange::Binance => "/ws",
        shapes::Exchange::Alpaca => "/v2/test",
    };
    writeln!(
        std::io::stdout(),
        "The {} exchange is at ws://{}{path}",
        shape.name(),
        exchange.address()?
    )
    .context("cannot tell the address")?;
    let closing = CancellationToken::new();
    let trading = tokio::spawn(exchange.run(closing.clone()));
    termination().await;
    closing.cancel();
    Ok(trading.await?)
}

fn options(settings: &Settings) -> anyhow::Result<Options> {
    let shape = shapes::Exchange::named(settings.text("Shape")).context("no such exchange")?;
    let symbols = settings.get("Symbols").unwrap_or(match shape {
        shapes::Exchange::Binance => "BTCUSDT,ETHUSDT",
        shapes::Exchange::Alpaca => "AAPL,MSFT",
    });
    let symbols: Vec<String> = symbols
        .split(',')
        .map(|symbol| symbol.trim().to_ascii_uppercase())
        .filter(|symbol| !symbol.is_empty())
        .collect();
    for symbol in &symbols {
        // They stand in JSON and in names of streams as they are.
        let is_plain = symbol
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        anyhow::ensure!(is_plain && symbol.len() <= 32, "{symbol:?} is no symbol");
    }
    anyhow::ensure!(!symbols.is_empty(), "there is nothing to trade");
    let mut options = Options::new(shape, symbols, number(settings, "Rate")?);
    options.seed = number(settings, "Seed")?;
    options.account.key = settings.text("Key").to_owned();
    options.account.secret = settings.text("Secret").to_owned();
    options.account.symbol_limit = usize::try_from(number(settings, "SymbolLimit")?)?;
    options.ping_every = Duration::from_secs(number(settings, "PingSeconds")?);
    options.connection_life = Duration::from_secs(number(settings, "ConnectionSeconds")?);
    Ok(options)
}
