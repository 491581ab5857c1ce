//! `market exchange`: a simulated exchange.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use outrigger_kit::app::termination;
use outrigger_kit::settings::{Key, Kind, Settings, standard_keys, usage};
use outrigger_kit::telemetry::{LogFormat, Options as TelemetryOptions};
use outrigger_kit::{CancellationToken, Environment, Telemetry};
use outrigger_market::exchanges::{Exchange, Options};
use outrigger_market::shapes;

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

fn keys() -> Vec<Key> {
    let number = |min, max| Kind::Number { min, max };
    let mut keys = standard_keys();
    keys.retain(|key| key.name.starts_with("Log"));
    keys.extend([
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
    ]);
    keys
}

fn help() -> String {
    format!(
        "The market data pipeline's parts.\n\nUsage: market exchange [flags]\n\nFlags:\n{}",
        usage(&keys())
    )
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asks_for_help = arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    if arguments.is_empty() || asks_for_help {
        let _ = write!(std::io::stdout(), "{}", help());
        return if asks_for_help {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let environment: Environment = std::env::vars().collect();
    let outcome = Settings::load(&keys(), arguments, &environment, None)
        .map_err(anyhow::Error::from)
        .and_then(|settings| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("no runtime")?;
            runtime.block_on(run(&settings, &environment))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "market: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: &Settings, environment: &Environment) -> anyhow::Result<()> {
    match settings.arguments.as_slice() {
        [part] if part == "exchange" => {}
        _ => anyhow::bail!("name one part: exchange"),
    }
    let telemetry = Telemetry::start(
        &TelemetryOptions {
            service: "market-exchange".to_owned(),
            instance: settings.text("Shape").to_owned(),
            level: settings.text("LogLevel").parse().unwrap_or(tracing::Level::INFO),
            format: LogFormat::parse(settings.text("LogFormat")).unwrap_or_default(),
        },
        environment,
    )?;
    let outcome = exchange(settings).await;
    telemetry.shutdown().await;
    outcome
}

async fn exchange(settings: &Settings) -> anyhow::Result<()> {
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

fn number(settings: &Settings, name: &str) -> anyhow::Result<u64> {
    settings
        .text(name)
        .parse()
        .with_context(|| format!("{name} is no number"))
}
