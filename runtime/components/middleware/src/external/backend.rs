//! The handler.

use std::path::PathBuf;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use outrigger_middleware::{Body, BodyNeed, Middleware, Next};
use tokio::sync::Semaphore;

use super::{
    ExternalConfig, Responses,
    protocol::{Changes, Context, Question, Verdict},
    socket::{self, Failure},
};
use crate::failure;

const CODE: &str = "ERR_MIDDLEWARE_EXTERNAL";
/// Bytes of an answer besides its body.
const MAX_HEAD: usize = 256 << 10;

/// Asks a process before a request goes on, and after it where that is wanted.
#[derive(Debug)]
pub struct External {
    config: ExternalConfig,
    socket: PathBuf,
    exchanges: Semaphore,
}

impl External {
    /// A handler at this socket; nobody needs to be there yet.
    #[must_use]
    pub fn new(config: ExternalConfig, socket: PathBuf) -> Self {
        let exchanges = Semaphore::new(config.max_concurrency);
        Self {
            config,
            socket,
            exchanges,
        }
    }

    async fn ask(&self, phase: &'static str, question: &Question<'_>) -> Result<Option<Changes>, Failure> {
        let _exchange = self.exchanges.try_acquire().map_err(|_| Failure {
            status: StatusCode::SERVICE_UNAVAILABLE,
            cause: "too many requests are with the handler".to_owned(),
        })?;
        // A body grows by a third as base64.
        let max_answer = self.config.max_body.div_ceil(3) * 4 + MAX_HEAD;
        socket::ask(&self.socket, phase, question, max_answer, self.config.timeout).await
    }

    async fn run(
        &self,
        context: &Context,
        request: Request<Body>,
        next: Box<dyn Next>,
    ) -> Result<Response<Body>, Failure> {
        let name = &self.config.name;
        let (mut head, mut body) = request.into_parts();
        let shown = self.config.read_body.then(|| body.as_whole().unwrap_or_default());
        let question = context.request(name, &head, shown.as_ref());
        if let Some(changes) = self.ask("/request", &question).await? {
            match changes.of_request(&mut head).map_err(Failure::bad)? {
                Verdict::Answered(response) => return Ok(response),
                Verdict::GoesOn(Some(written)) => body = Body::whole(written),
                Verdict::GoesOn(None) => {}
            }
        }
        let response = next.run(Request::from_parts(head, body)).await;
        let is_seen = match self.config.responses {
            Responses::None => false,
            Responses::Errors => response.status().as_u16() >= 400,
            Responses::All => true,
        };
        if !is_seen {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let mut whole = Limited::new(body, self.config.max_body)
            .collect()
            .await
            .map_err(|error| Failure::bad(format!("the answer behind the handler cannot be read: {error}")))?
            .to_bytes();
        let question = context.response(name, &head, &whole);
        if let Some(changes) = self.ask("/response", &question).await?
            && let Some(written) = changes.of_response(&mut head).map_err(Failure::bad)?
        {
            whole = written;
        }
        Ok(Response::from_parts(head, Body::whole(whole)))
    }
}

impl Middleware for External {
    fn body_need(&self) -> BodyNeed {
        if self.config.read_body {
            BodyNeed::Request(self.config.max_body)
        } else {
            BodyNeed::None
        }
    }

    fn handle(&self, request: Request<Body>, next: Box<dyn Next>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let context = Context::of(&head, failure::trace_id(&head));
            match self.run(&context, Request::from_parts(head, body), next).await {
                Ok(response) => response,
                Err(Failure { status, cause }) => {
                    let name = &self.config.name;
                    tracing::error!(handler = name, "the external handler failed: {cause}");
                    failure::answer(status, CODE, name, context.trace.as_deref(), &cause, &[])
                }
            }
        })
    }
}
