//! The handler.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use outrigger_component::{Error, Host};
use outrigger_middleware::{Body, BodyNeed, Middleware, Next};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    config::WasmConfig,
    exchange::{BUFFER_RESPONSE, Exchange, MAX_BODY},
    guest::{Guest, Program},
};
use crate::failure;

/// Instances kept for the next request.
const MAX_IDLE: usize = 16;
/// Instances in use, most of them waiting for the next handler; further requests are answered 503.
const MAX_INSTANCES: usize = 256;
/// Guests that compute at the same time.
const MAX_RUNNING: usize = 16;
const CODE: &str = "ERR_MIDDLEWARE";

/// Runs a guest on every request and, where it wants to, on the answer. The request's body is read whole; an answer's
/// only where the guest enabled `buffer_response`.
#[derive(Debug)]
pub struct Wasm {
    name: String,
    program: Arc<Program>,
    idle: Mutex<Vec<Guest>>,
    instances: Semaphore,
    running: Semaphore,
}

impl Wasm {
    /// Loads and compiles the guest, and makes a first instance: what is wrong with it shows now.
    ///
    /// # Errors
    /// When it cannot be loaded or is no handler.
    pub async fn open(config: WasmConfig, host: &Host) -> Result<Self, Error> {
        let wasm = config.load(host).await?;
        let name = config.name.clone();
        let (program, first) = tokio::task::spawn_blocking(move || {
            let program = Program::new(&config, &wasm)?;
            let first = program.instance()?;
            Ok::<_, Error>((program, first))
        })
        .await
        .map_err(|error| Error::internal("wasm: the compilation broke off").with_source(error))??;
        Ok(Self {
            name,
            program: Arc::new(program),
            idle: Mutex::new(vec![first]),
            instances: Semaphore::new(MAX_INSTANCES),
            running: Semaphore::new(MAX_RUNNING),
        })
    }

    /// Runs a guest off the threads that serve connections.
    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, String> + Send + 'static,
    ) -> Result<R, String> {
        let _running = self.running.acquire().await.map_err(|error| error.to_string())?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| error.to_string())?
    }

    async fn exchange(&self, request: Request<Body>, next: Box<dyn Next>) -> Result<Response<Body>, String> {
        let idle = self.idle.lock().pop();
        let program = Arc::clone(&self.program);
        let (mut guest, (goes_on, context)) = self
            .run(move || {
                let mut guest = match idle {
                    Some(guest) => guest,
                    None => program.instance().map_err(|error| error.chain())?,
                };
                let features = guest.features();
                *guest.exchange() = Exchange::of(request, features);
                let outcome = guest.handle_request()?;
                Ok((guest, outcome))
            })
            .await?;
        if !goes_on {
            let response = guest.exchange().take_response();
            self.give_back(guest);
            return Ok(response);
        }
        let request = guest.exchange().take_request();
        let (head, body) = next.run(request).await.into_parts();
        let changes = guest.exchange().features & BUFFER_RESPONSE != 0;
        let (whole, body) = if changes {
            let whole = Limited::new(body, MAX_BODY)
                .collect()
                .await
                .map_err(|error| format!("the answer cannot be read: {error}"))?;
            (whole.to_bytes(), None)
        } else {
            (Bytes::new(), Some(body))
        };
        let shown = head.clone();
        let mut guest = self
            .run(move || {
                guest.exchange().answered(&shown, whole);
                guest.handle_response(context)?;
                Ok(guest)
            })
            .await?;
        let response = match body {
            Some(body) => Response::from_parts(head, body),
            None => {
                let mut response = guest.exchange().take_response();
                *response.extensions_mut() = head.extensions;
                response
            }
        };
        self.give_back(guest);
        Ok(response)
    }

    /// Keeps an instance that ended well; one that failed is never used again.
    fn give_back(&self, mut guest: Guest) {
        *guest.exchange() = Exchange::default();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(guest);
        }
    }
}

impl Middleware for Wasm {
    fn body_need(&self) -> BodyNeed {
        BodyNeed::Request(MAX_BODY)
    }

    fn handle(&self, request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let trace = failure::trace_id(&head);
            let failed = |status, message: &str| {
                failure::answer(status, CODE, &self.name, trace.as_deref(), message, &[])
            };
            let Ok(_instance) = self.instances.try_acquire() else {
                return failed(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many requests are with the guest",
                );
            };
            match self.exchange(Request::from_parts(head, body), next).await {
                Ok(response) => response,
                Err(reason) => {
                    tracing::error!(handler = self.name, "the guest failed: {reason}");
                    failed(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        &format!("the guest failed: {reason}"),
                    )
                }
            }
        })
    }
}
