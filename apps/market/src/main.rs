//! `market <part>`: the parts of the pipeline that are not platform services.

mod parts;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use outrigger_kit::settings::{Key, Settings, standard_keys, usage};
use outrigger_kit::telemetry::{LogFormat, Options};
use outrigger_kit::{Environment, Telemetry};
use parts::{exchange, page, watch};

/// Name, settings and purpose of each part.
type Part = (&'static str, fn() -> Vec<Key>, &'static str);

const PARTS: [Part; 3] = [
    ("exchange", exchange::keys, "a simulated exchange"),
    (
        "page",
        page::keys,
        "sets the pipeline up and serves the page of live prices",
    ),
    ("watch", watch::keys, "measures what arrives through the gateway"),
];

fn keys(part: &Part) -> Vec<Key> {
    let mut keys = standard_keys();
    keys.retain(|key| key.name.starts_with("Log"));
    keys.extend((part.1)());
    keys
}

fn help(part: Option<&Part>) -> String {
    if let Some(part) = part {
        return format!("market {}: {}\n\nFlags:\n{}", part.0, part.2, usage(&keys(part)));
    }
    let parts: String = PARTS
        .iter()
        .map(|(name, _, about)| format!("  {name:<10} {about}\n"))
        .collect();
    format!(
        "The market data pipeline's parts.\n\nUsage: market <part> [flags]\n\nParts:\n{parts}\n`market <part> --help` tells its flags.\n"
    )
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let part = PARTS
        .iter()
        .find(|part| arguments.first().is_some_and(|first| first == part.0));
    let asks_for_help = arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    let Some(part) = part.filter(|_| !asks_for_help) else {
        let _ = write!(std::io::stdout(), "{}", help(part));
        return if asks_for_help {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    };
    arguments.remove(0);
    let environment: Environment = std::env::vars().collect();
    let outcome = Settings::load(&keys(part), arguments, &environment, None)
        .map_err(anyhow::Error::from)
        .and_then(|settings| {
            anyhow::ensure!(
                settings.arguments.is_empty(),
                "{:?} is not taken here; try --help",
                settings.arguments
            );
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("no runtime")?;
            runtime.block_on(run(part.0, &settings, &environment))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "market: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(part: &str, settings: &Settings, environment: &Environment) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(
        &Options {
            service: format!("market-{part}"),
            instance: settings.get("Shape").unwrap_or(part).to_owned(),
            level: settings.text("LogLevel").parse().unwrap_or(tracing::Level::INFO),
            format: LogFormat::parse(settings.text("LogFormat")).unwrap_or_default(),
        },
        environment,
    )?;
    let outcome = match part {
        "exchange" => exchange::run(settings).await,
        "page" => page::run(settings).await,
        _ => watch::run(settings).await,
    };
    telemetry.shutdown().await;
    outcome
}
