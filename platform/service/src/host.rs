//! Runs a service: from arguments to exit code.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use outrigger_kit::app::termination;
use outrigger_kit::settings::{Settings, Source};
use outrigger_kit::telemetry::{LogFormat, Options};
use outrigger_kit::{App, Client, Environment, RetryPolicy, Telemetry};
use outrigger_platform_transcoding::{GrpcUpstream, Transcoder};
use outrigger_platform_wire::descriptor_pool;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::server::{self, Readiness};
use crate::{Backend, Definition};

/// Calls under way may take this long once the service is asked to stop; streams end by themselves.
const GRPC_END: Duration = Duration::from_secs(5);
/// The longest answer over HTTP.
const MAX_MESSAGE: usize = 32 << 20;

/// What a service is made of.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its settings.
    pub settings: Settings,
    /// The process environment.
    pub environment: Environment,
    /// Tells this instance from others of the service.
    pub instance: String,
    /// The sidecar.
    pub client: Client,
    /// State and events.
    pub backend: Backend,
    /// Where its HTTP server listens.
    pub http: SocketAddr,
    /// Where its gRPC server listens.
    pub grpc: SocketAddr,
}

/// A service, made but not running.
#[derive(Debug)]
pub struct Service {
    /// Health checks, recovery steps, background work, routes of its own.
    pub app: App,
    /// Its gRPC services.
    pub grpc: Routes,
    /// Their full names, for reflection, health and REST: `virtufin.WorkManager`.
    pub names: Vec<&'static str>,
    /// Whether their methods are served over HTTP by their rules too. One who has a fallback of its own says no.
    pub rest: bool,
    /// Further routes of the gRPC port, beside the checks; their fallback gets what no service here answers.
    pub beside: Option<Router>,
}

/// Runs a service with the process's arguments and environment until it is asked to stop.
pub fn run<F, Fut>(definition: &Definition, make: F) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<Service>>,
{
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        let _ = write!(std::io::stdout(), "{}", definition.help());
        return ExitCode::SUCCESS;
    }
    let complain = |error: &dyn std::fmt::Display| {
        let _ = writeln!(std::io::stderr(), "{}: {error}", definition.name);
        ExitCode::FAILURE
    };
    let environment: Environment = std::env::vars().collect();
    let settings = match definition.load(arguments, &environment) {
        Ok(settings) => settings,
        Err(error) => return complain(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    // Two providers may be linked in; the first to be asked decides, and this is the one that is tested.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match runtime.block_on(host(definition, settings, environment, make)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}")),
    }
}

async fn host<F, Fut>(
    definition: &Definition,
    settings: Settings,
    mut environment: Environment,
    make: F,
) -> anyhow::Result<()>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = anyhow::Result<Service>>,
{
    for (key, variable) in [
        ("DaprHttpPort", "DAPR_HTTP_PORT"),
        ("DaprGrpcPort", "DAPR_GRPC_PORT"),
    ] {
        if settings.source(key) != Some(Source::Default) {
            environment.insert(variable.to_owned(), settings.text(key).to_owned());
        }
    }
    let address: IpAddr = settings
        .text("Address")
        .parse()
        .with_context(|| format!("{:?} is no address", settings.text("Address")))?;
    let http = listen(address, &settings, "HttpPort").await?;
    let grpc = listen(address, &settings, "GrpcPort").await?;
    let client = Client::builder().environment(environment.clone()).build()?;
    let instance = settings
        .get("Instance")
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let telemetry = Telemetry::start(
        &Options {
            service: definition.name.to_owned(),
            instance: instance.clone(),
            level: settings.text("LogLevel").parse().unwrap_or(tracing::Level::INFO),
            format: LogFormat::parse(settings.text("LogFormat")).unwrap_or_default(),
        },
        &environment,
    )?;
    let context = Context {
        backend: backend(definition, &settings, &environment, &client)?,
        http: http.local_addr()?,
        grpc: grpc.local_addr()?,
        settings,
        environment,
        instance,
        client,
    };
    let served = match make(context).await {
        Ok(service) => serve(service, http, grpc).await,
        Err(error) => Err(error),
    };
    telemetry.shutdown().await;
    served
}

async fn listen(address: IpAddr, settings: &Settings, key: &str) -> anyhow::Result<TcpListener> {
    let port = settings.port(key).unwrap_or_default();
    TcpListener::bind((address, port))
        .await
        .with_context(|| format!("cannot listen on {address}:{port} ({key})"))
}

fn backend(
    definition: &Definition,
    settings: &Settings,
    environment: &Environment,
    client: &Client,
) -> anyhow::Result<Backend> {
    if settings.text("PlatformBackend") != "gateway" {
        return Ok(Backend::sidecar(
            client.clone(),
            settings.text("stateStoreName"),
            settings.text("pubsubName"),
        ));
    }
    let address = format!(
        "http://{}:{}",
        settings.text("ApiHost"),
        settings.text("ApiGrpcPort")
    );
    let channel = tonic::transport::Endpoint::from_shared(address.clone())
        .with_context(|| format!("the gateway's address {address:?}"))?
        .connect_lazy();
    let retry = RetryPolicy::from_environment(environment)?;
    Ok(Backend::gateway(channel, definition.name, retry))
}

/// Serves a service on two listeners until the process is asked to stop.
///
/// # Errors
/// What keeps it from starting or serving.
pub async fn serve(service: Service, http: TcpListener, grpc: TcpListener) -> anyhow::Result<()> {
    serve_until(service, http, grpc, termination()).await
}

/// As [`serve`], until `shutdown` resolves.
///
/// # Errors
/// What keeps it from starting or serving.
pub async fn serve_until(
    service: Service,
    http: TcpListener,
    grpc: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let Service {
        app,
        grpc: services,
        names,
        rest,
        beside,
    } = service;
    let (http_address, grpc_address) = (http.local_addr()?, grpc.local_addr()?);
    let readiness = Readiness::default();
    let stopping = app.stopping();
    let services = server::guarded(services, &readiness);
    let app = if rest {
        let upstream = GrpcUpstream::new(services.clone(), MAX_MESSAGE);
        let routes = Transcoder::new(descriptor_pool(), &names).router(upstream);
        app.routes(server::no_foreign_pages(routes))
    } else {
        app
    };
    let routes = services
        .merge(server::reflection(&names)?)
        .merge(server::health(&names, app.health(), readiness.clone(), stopping.clone()).await)
        .merge(beside.unwrap_or_else(|| Router::new().fallback(server::unknown)));
    let calls = tokio::spawn(server::serve(grpc, server::grpc_only(routes), stopping));
    tracing::info!(http = %http_address, grpc = %grpc_address, "listening");
    // Background work begins when recovery is done.
    let app = app.background(move |finish| async move {
        readiness.set(true);
        tracing::info!("ready");
        finish.cancelled().await;
    });
    app.serve(http, shutdown).await?;
    match tokio::time::timeout(GRPC_END, calls).await {
        Ok(ended) => Ok(ended??),
        Err(_) => {
            tracing::warn!("gRPC calls were still under way at the end of the shutdown time");
            Ok(())
        }
    }
}
