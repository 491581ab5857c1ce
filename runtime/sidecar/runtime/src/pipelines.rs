//! The middleware pipelines: the Configuration names their handlers, components are looked up by name and type
//! (upstream `pkg/middleware/http`).

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use outrigger_middleware::{Body, Middleware, Next, Pipeline, SharedMiddleware};
use outrigger_resources::configuration::{Configuration, HandlerSpec, PipelineSpec};
use outrigger_sidecar_api::Components;

const LOG: &str = "dapr.middleware.http";
/// What a handler or component without a version is.
const FIRST_VERSION: &str = "v1";

/// Both pipelines of a sidecar. They change with their components while requests run.
pub(crate) struct Pipelines {
    middleware: Arc<Components<SharedMiddleware>>,
    server: (Vec<HandlerSpec>, Arc<Pipeline>),
    app: (Vec<HandlerSpec>, Arc<Pipeline>),
}

impl Pipelines {
    /// Pipelines without handlers until [`Pipelines::rebuild`].
    pub(crate) fn new(
        configuration: &Configuration,
        middleware: Arc<Components<SharedMiddleware>>,
        server: Arc<Pipeline>,
        app: Arc<Pipeline>,
    ) -> Self {
        let handlers =
            |spec: &Option<PipelineSpec>| spec.as_ref().map_or_else(Vec::new, |spec| spec.handlers.clone());
        let spec = &configuration.spec;
        Self {
            middleware,
            server: (handlers(&spec.http_pipeline), server),
            app: (handlers(&spec.app_http_pipeline), app),
        }
    }

    /// Whether the API has handlers in front of it.
    pub(crate) fn guards_api(&self) -> bool {
        !self.server.0.is_empty()
    }

    /// Puts the handlers that there are in place; requests under way keep theirs.
    pub(crate) fn rebuild(&self) {
        for (specs, pipeline) in [&self.server, &self.app] {
            if !specs.is_empty() {
                pipeline.replace(specs.iter().filter_map(|spec| self.handler(spec)).collect());
            }
        }
    }

    /// Says which handlers there are and which not, once.
    pub(crate) fn report(&self) {
        for (name, (specs, _)) in [("server", &self.server), ("app channel", &self.app)] {
            for spec in specs {
                if self.handler(spec).is_some() {
                    tracing::info!(target: LOG, "enabled {} http middleware", spec.log_name());
                } else {
                    // Upstream passes over it without a word.
                    tracing::warn!(
                        target: LOG,
                        "{name} pipeline: there is no middleware component {}: requests pass without it until there is (add a component file of this name and type)",
                        spec.log_name()
                    );
                }
            }
        }
    }

    fn handler(&self, spec: &HandlerSpec) -> Option<SharedMiddleware> {
        if let Some(loaded) = self.middleware.ready(&spec.name) {
            let fits = loaded.type_name == spec.r#type && version(&loaded.version) == version(&spec.version);
            return fits.then(|| Arc::clone(&loaded.instance));
        }
        // What guards the API must not be passed by because its backend is slow.
        self.middleware
            .is_initialising(&spec.name)
            .then(|| Arc::new(Unavailable(spec.log_name())) as SharedMiddleware)
            .or_else(|| outrigger_components::built_in_middleware(&spec.r#type, &spec.name))
    }
}

fn version(text: &str) -> &str {
    if text.is_empty() { FIRST_VERSION } else { text }
}

/// In the place of a component that is not open yet.
#[derive(Debug)]
struct Unavailable(String);

impl Middleware for Unavailable {
    fn handle(&self, _: Request<Body>, _: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async {
            let mut response =
                Response::new(Body::whole(format!("middleware {} is not available yet", self.0)));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        })
    }
}
