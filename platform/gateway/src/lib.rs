#![doc = include_str!("../README.md")]

pub mod api;
pub mod backends;
pub mod cors;
pub mod events;
pub mod jobs;
pub mod rest;
pub mod services;
mod settings;
pub mod state;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use outrigger_kit::health::Scope;
use outrigger_kit::{App, BreakerPolicy, Breakers};
use outrigger_platform_service::server::{self, Readiness};
use outrigger_platform_service::{Context, Service};
use outrigger_platform_transcoding::{GrpcUpstream, LiveRoutes};
use outrigger_platform_wire::virtufin::config_server::ConfigServer;
use outrigger_platform_wire::virtufin::gateway_server::GatewayServer;
use outrigger_platform_wire::virtufin::pubsub_server::PubsubServer;
use outrigger_platform_wire::virtufin::state_server::StateServer;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;

use api::{ConfigApi, GatewayApi, NAMES, PubsubApi, StateApi};
use backends::{Backends, Pool};
use events::{Hub, Publisher};
use jobs::Jobs;
use services::Catalog;
use settings::Chosen;
use state::States;

pub use settings::{GRPC_WEB_PORT, definition};

/// The longest message, either way.
const MAX_MESSAGE: usize = 32 << 20;

/// Makes the gateway; `web` is where it listens for gRPC-Web.
///
/// # Errors
/// All that is wrong with the settings and the services file.
pub async fn make(context: Context, web: TcpListener) -> anyhow::Result<Service> {
    let chosen = Chosen::read(&context.settings)?;
    let client = context.client.clone();
    let catalog = Catalog::open(chosen.services.as_deref())
        .map_err(|mistakes| anyhow::anyhow!("the services file: {}", mistakes.join("\n")))?;
    let (store, pubsub) = (
        context.settings.text("stateStoreName").to_owned(),
        context.settings.text("pubsubName").to_owned(),
    );
    let backends = Arc::new(Backends::new(
        catalog.clone(),
        Pool::new(&context.environment, chosen.channels)?,
        Breakers::new(BreakerPolicy::from_environment(&context.environment)?),
        chosen.times,
    ));
    let publisher = Publisher::new(client.clone(), catalog.clone(), pubsub.clone());
    let hub = Hub::new(publisher.clone(), chosen.streams);
    let states = States::new(client.clone(), catalog.clone(), store.clone(), publisher.clone());
    let api = GatewayApi {
        backends: Arc::clone(&backends),
        hub: hub.clone(),
    };
    let jobs = Jobs::new(api.clone(), client.clone(), publisher.clone());
    let routes = services(
        api.clone(),
        PubsubApi {
            publisher,
            hub: hub.clone(),
        },
        StateApi(states),
        ConfigApi {
            catalog: catalog.clone(),
            pubsub,
            store,
        },
    );

    let app = checks(
        App::new(client).environment(&context.environment)?,
        &catalog,
        &backends,
        &hub,
        &jobs,
    );
    let stopping = app.stopping();
    let live = Arc::new(LiveRoutes::default());
    let readiness = Readiness::default();
    let guarded = server::guarded(routes.clone(), &readiness);
    let rest = rest::routes(
        api,
        GrpcUpstream::new(guarded.clone(), MAX_MESSAGE),
        Arc::clone(&live),
    );
    // The sidecar's calls go by the same port. They are no page's, so the check lets them through, and pages not.
    let app = app.routes(chosen.origins.guard(rest.merge(jobs.routes())));

    let beside = beside(&backends, &jobs);
    let web_routes = guarded
        .merge(server::reflection(&NAMES)?)
        .merge(server::health(&NAMES, app.health(), readiness.clone(), stopping.clone()).await)
        .merge(beside.clone())
        .layer(GrpcWebLayer::new());
    let web_routes = chosen.origins.guard(web_routes);
    let web_address = web.local_addr().context("the gRPC-Web listener")?;
    let keep_alive = chosen.keep_alive;
    let stop = stopping.clone();
    // Accepted from the start, answered `UNAVAILABLE` until ready, as on the other ports.
    let served = tokio::spawn(server::serve_with(web, web_routes, stop, keep_alive));
    let app = app.background(move |finish| async move {
        readiness.set(true);
        tracing::info!(grpc_web = %web_address, "ready");
        let work = async {
            tokio::join!(
                catalog.follow(finish.clone()),
                backends::follow(backends, live, finish.clone()),
                hub.sweep(stopping),
                jobs.follow(finish.clone()),
            )
        };
        work.await;
        match served.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "gRPC-Web is not served"),
            Err(error) => tracing::error!(%error, "the task that serves gRPC-Web failed"),
        }
    });
    Ok(Service {
        app,
        grpc: routes,
        names: NAMES.to_vec(),
        rest: false,
        beside: Some(beside),
    })
}

fn services(gateway: GatewayApi, pubsub: PubsubApi, state: StateApi, config: ConfigApi) -> Routes {
    macro_rules! bounded {
        ($server:expr) => {
            $server
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE)
        };
    }
    Routes::new(bounded!(GatewayServer::new(gateway)))
        .add_service(bounded!(PubsubServer::new(pubsub)))
        .add_service(bounded!(StateServer::new(state)))
        .add_service(bounded!(ConfigServer::new(config)))
}

/// What is answered on the gRPC ports beside the gateway's own services: the sidecar's jobs, and backends.
fn beside(backends: &Arc<Backends>, jobs: &Jobs) -> Router {
    let backends = Arc::clone(backends);
    jobs.grpc_routes()
        .fallback(move |request: Request| backends::forward(Arc::clone(&backends), request))
}

fn checks(app: App, catalog: &Catalog, backends: &Arc<Backends>, hub: &Hub, jobs: &Jobs) -> App {
    let (catalog, hub, jobs) = (catalog.clone(), hub.clone(), jobs.clone());
    let (pool, breakers) = (Arc::clone(backends), Arc::clone(backends));
    app.health_check("services", Scope::Report, move || {
        std::future::ready(catalog.health())
    })
    .health_check("grpc-channel-pool", Scope::Report, move || {
        std::future::ready(pool.pool().health())
    })
    .health_check("breaker", Scope::Report, move || {
        std::future::ready(breakers.breakers().entry())
    })
    .health_check("subscriptions", Scope::Report, move || {
        std::future::ready(hub.health())
    })
    .health_check("jobs", Scope::Report, move || std::future::ready(jobs.health()))
}
