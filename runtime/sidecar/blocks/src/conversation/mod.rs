//! Conversation with language models (A9.9; upstream `pkg/api/universal/conversation.go`).

mod alpha1;
mod alpha2;
mod http;
mod proto;
mod scrub;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
    time::Instant,
};

use arc_swap::ArcSwap;
use outrigger_conversation::{Request, Response, SharedConversation};
use outrigger_sidecar_api::{ApiError, Components, Loaded, errors};
use outrigger_sidecar_resilience::{ComponentKind, ResilienceProvider};
use outrigger_telemetry::Metrics;

use crate::call::{Surroundings, error_text, missing};

pub use scrub::Scrubber;

/// Texts beyond this size are scrubbed off the request's thread.
const SCRUB_INLINE: usize = 16 << 10;

/// What the service needs.
#[derive(Clone)]
pub struct ConversationServiceOptions {
    /// The conversation components.
    pub models: Arc<Components<SharedConversation>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where calls are counted.
    pub metrics: Metrics,
}

impl fmt::Debug for ConversationServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationServiceOptions")
            .finish_non_exhaustive()
    }
}

/// The conversation building block as served to the app.
#[derive(Debug)]
pub struct ConversationService {
    models: Arc<Components<SharedConversation>>,
    around: Surroundings,
    /// Compiled when it is needed first: most sidecars never do.
    scrubber: OnceLock<Arc<Scrubber>>,
}

impl ConversationService {
    /// A service over these components.
    #[must_use]
    pub fn new(options: ConversationServiceOptions) -> Self {
        Self {
            models: options.models,
            around: Surroundings {
                resilience: options.resilience,
                metrics: options.metrics,
            },
            scrubber: OnceLock::new(),
        }
    }

    async fn model(&self, name: &str) -> Result<Arc<Loaded<SharedConversation>>, ApiError> {
        self.models.get(name).await.map_err(|error| {
            missing(
                error,
                errors::conversation_not_found(name),
                errors::conversation_not_found(name),
            )
        })
    }

    async fn converse(
        &self,
        model: &Loaded<SharedConversation>,
        request: Request,
    ) -> Result<Response, ApiError> {
        let began = Instant::now();
        let done = self
            .around
            .outbound(&model.name, ComponentKind::Conversation)
            .run(|_| model.instance.converse(request.clone()))
            .await;
        self.around
            .metrics
            .conversation(&model.name, done.is_ok(), began.elapsed());
        done.map_err(|error| errors::conversation_invoke(&model.name, error_text(&error)))
    }

    /// The text without personal data, if that is wanted.
    async fn scrubbed(&self, name: &str, text: String, wanted: bool) -> Result<String, ApiError> {
        if !wanted {
            return Ok(text);
        }
        let scrubber = Arc::clone(self.scrubber.get_or_init(Arc::default));
        if text.len() <= SCRUB_INLINE {
            return Ok(match scrubber.scrub(&text) {
                Cow::Borrowed(_) => text,
                Cow::Owned(scrubbed) => scrubbed,
            });
        }
        tokio::task::spawn_blocking(move || scrubber.scrub(&text).into_owned())
            .await
            .map_err(|error| errors::conversation_invoke(name, error))
    }
}
