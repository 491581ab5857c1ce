//! `todo <service>`: one program, six services.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use outrigger_kit::app::termination;
use outrigger_kit::settings::{Key, Kind, Settings, standard_keys, usage};
use outrigger_kit::telemetry::{LogFormat, Options};
use outrigger_kit::{App, CancellationToken, Environment, Telemetry};
use outrigger_todo::instance::Instance;
use outrigger_todo::{app_id, chat, gateway, notifications, preferences, stats, tasks};
use tokio::net::TcpListener;

/// Ports tried after the wanted one before any free one is taken.
const NEAR_PORTS: u16 = 20;

fn keys() -> Vec<Key> {
    let mut keys = standard_keys();
    keys.extend([
        Key {
            name: "PagePort",
            flag: "--page-port",
            variables: &["TODO_PAGE_PORT"],
            default: Some("8080"),
            kind: Kind::Port,
            help: "port of the page (gateway); another free one when it is taken",
        },
        Key {
            name: "PageAddress",
            flag: "--page-address",
            variables: &["TODO_PAGE_ADDRESS"],
            default: Some("127.0.0.1"),
            kind: Kind::Text,
            help: "address that the page listens on (gateway)",
        },
        Key {
            name: "Conversation",
            flag: "--conversation",
            variables: &["TODO_CONVERSATION"],
            default: None,
            kind: Kind::Text,
            help: "conversation component that interprets what is said (chat)",
        },
        Key {
            name: "SettingsFile",
            flag: "--settings",
            variables: &["TODO_SETTINGS"],
            default: None,
            kind: Kind::Text,
            help: "settings file, JSON or YAML",
        },
    ]);
    keys
}

fn help() -> String {
    format!(
        "The Outrigger todo app.\n\nUsage: todo <{}> [flags]\n\nFlags:\n{}",
        app_id::ALL.join("|"),
        usage(&keys())
    )
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty()
        || arguments
            .iter()
            .any(|argument| argument == "--help" || argument == "-h")
    {
        let _ = write!(std::io::stdout(), "{}", help());
        return if arguments.is_empty() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let environment: Environment = std::env::vars().collect();
    let complain = |error: &dyn std::fmt::Display| {
        let _ = writeln!(std::io::stderr(), "todo: {error}");
        ExitCode::FAILURE
    };
    let settings = match load(arguments, &environment) {
        Ok(settings) => settings,
        Err(error) => return complain(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    match runtime.block_on(run(&settings, environment)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}")),
    }
}

fn load(
    arguments: Vec<String>,
    environment: &Environment,
) -> Result<Settings, outrigger_kit::settings::SettingsError> {
    let first = Settings::load(&keys(), arguments.clone(), environment, None)?;
    match first.get("SettingsFile") {
        None => Ok(first),
        Some(file) => Settings::load(&keys(), arguments, environment, Some(file.as_ref())),
    }
}

async fn run(settings: &Settings, mut environment: Environment) -> anyhow::Result<()> {
    let service = match settings.arguments.as_slice() {
        [service] => app_id::ALL
            .into_iter()
            .find(|known| known == service)
            .with_context(|| format!("{service:?} is none of {}", app_id::ALL.join(", ")))?,
        _ => anyhow::bail!("name one service: {}", app_id::ALL.join(", ")),
    };
    if settings.source("DaprHttpPort") != Some(outrigger_kit::settings::Source::Default) {
        environment.insert(
            "DAPR_HTTP_PORT".to_owned(),
            settings.text("DaprHttpPort").to_owned(),
        );
    }
    // The sidecar calls from this host; nobody else has to reach the app port.
    let port = settings.port("HttpPort").unwrap_or_default();
    let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), port))
        .await
        .with_context(|| format!("cannot listen on app port {port}"))?;
    let slot = listener.local_addr()?.port().to_string();
    let instance = Instance::new(service, slot, environment)?
        .components(settings.text("stateStoreName"), settings.text("pubsubName"));
    let telemetry = Telemetry::start(
        &Options {
            service: service.to_owned(),
            instance: instance.name.to_string(),
            level: settings.text("LogLevel").parse().unwrap_or(tracing::Level::INFO),
            format: LogFormat::parse(settings.text("LogFormat")).unwrap_or_default(),
        },
        instance.environment(),
    )?;
    let served = start(settings, service, &instance, listener).await;
    telemetry.shutdown().await;
    served
}

async fn start(
    settings: &Settings,
    service: &str,
    instance: &Instance,
    listener: TcpListener,
) -> anyhow::Result<()> {
    let app = match service {
        app_id::TASKS => tasks::app(instance)?,
        app_id::NOTIFICATIONS => notifications::app(instance)?,
        app_id::PREFERENCES => preferences::app(instance)?,
        app_id::STATS => stats::app(instance)?,
        app_id::CHAT => chat::app(instance, settings.get("Conversation"))?,
        _ => return serve_gateway(settings, instance, listener).await,
    };
    serve(app, listener).await
}

async fn serve(app: App, listener: TcpListener) -> anyhow::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "the app port listens");
    Ok(app.serve(listener, termination()).await?)
}

async fn serve_gateway(
    settings: &Settings,
    instance: &Instance,
    listener: TcpListener,
) -> anyhow::Result<()> {
    let (app, gateway) = gateway::app(instance)?;
    let address: IpAddr = settings
        .text("PageAddress")
        .parse()
        .with_context(|| format!("{:?} is no address", settings.text("PageAddress")))?;
    let page = bind_near(address, settings.port("PagePort").unwrap_or_default()).await?;
    let url = SocketAddr::new(address, page.local_addr()?.port());
    writeln!(std::io::stdout(), "The todo page is at http://{url}/").context("cannot tell the address")?;
    let stopping: CancellationToken = gateway.stopping();
    let watcher = gateway.clone();
    tokio::spawn(async move { watcher.watch().await });
    let routes = gateway.routes();
    let pages = tokio::spawn(async move {
        axum::serve(page, routes)
            .with_graceful_shutdown(stopping.cancelled_owned())
            .await
    });
    serve(app, listener).await?;
    // Streams end by themselves; a browser that holds a request open must not hold up the end.
    match tokio::time::timeout(std::time::Duration::from_secs(5), pages).await {
        Ok(served) => Ok(served??),
        Err(_) => Ok(()),
    }
}

/// Listens on the wanted port, else on one near, else on any free one.
async fn bind_near(address: IpAddr, wanted: u16) -> anyhow::Result<TcpListener> {
    for port in wanted..=wanted.saturating_add(NEAR_PORTS) {
        match TcpListener::bind((address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address}:{port}")),
        }
    }
    TcpListener::bind((address, 0))
        .await
        .context("no free port for the page")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_passed_over() {
        let address = IpAddr::from([127, 0, 0, 1]);
        let taken = TcpListener::bind((address, 0)).await.unwrap();
        let wanted = taken.local_addr().unwrap().port();
        let found = bind_near(address, wanted).await.unwrap();
        assert_ne!(found.local_addr().unwrap().port(), wanted);
    }

    #[test]
    fn ports_out_of_range_are_refused() {
        let wrong = vec!["gateway".to_owned(), "--page-port=70000".to_owned()];
        let error = load(wrong, &Environment::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--page-port must be a port from 1 to 65535, not \"70000\""
        );
    }
}
