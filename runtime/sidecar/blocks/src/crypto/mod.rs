//! Cryptography (A9.9; upstream `pkg/api/http/crypto.go`, `pkg/api/grpc/crypto.go`, `pkg/api/universal/crypto.go`).
//!
//! Documents stream through the scheme `dapr.io/enc/v1` in bounded memory. Subtle operations (single keys, small
//! messages) are behind the feature [`SUBTLE_CRYPTO`]: upstream builds them under a tag of that name only, and its
//! releases answer 501.

mod grpc;
mod guarded;
mod http;
mod subtle;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use outrigger_crypto::SharedCryptoProvider;
use outrigger_sidecar_api::{ApiError, Components, errors};
use outrigger_sidecar_resilience::ResilienceProvider;
use outrigger_telemetry::Metrics;

use crate::call::{Surroundings, missing};

pub use grpc::CryptoStream;
use guarded::Guarded;

/// The preview feature of a Configuration that switches the subtle operations on. The name is the one under which
/// upstream's own builds with them report it in their metadata.
pub const SUBTLE_CRYPTO: &str = "_SubtleCrypto";

/// What the service needs.
#[derive(Clone)]
pub struct CryptoServiceOptions {
    /// The crypto components.
    pub providers: Arc<Components<SharedCryptoProvider>>,
    /// Policies; replaced when Resiliency resources change.
    pub resilience: Arc<ArcSwap<ResilienceProvider>>,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// Whether the subtle operations are served ([`SUBTLE_CRYPTO`]).
    pub subtle: bool,
}

impl fmt::Debug for CryptoServiceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CryptoServiceOptions").finish_non_exhaustive()
    }
}

/// The cryptography building block as served to the app.
#[derive(Debug)]
pub struct CryptoService {
    providers: Arc<Components<SharedCryptoProvider>>,
    around: Surroundings,
    subtle: bool,
}

impl CryptoService {
    /// A service over these components.
    #[must_use]
    pub fn new(options: CryptoServiceOptions) -> Self {
        Self {
            providers: options.providers,
            around: Surroundings {
                resilience: options.resilience,
                metrics: options.metrics,
            },
            subtle: options.subtle,
        }
    }

    /// As [`CryptoService::provider`], for subtle operations.
    async fn subtle_provider(&self, name: &str) -> Result<Guarded, ApiError> {
        if !self.subtle {
            return Err(errors::api_unimplemented());
        }
        self.provider(name).await
    }

    /// A component with its policy and metrics laid around it.
    async fn provider(&self, name: &str) -> Result<Guarded, ApiError> {
        if self.providers.is_empty() {
            return Err(errors::crypto_providers_not_configured());
        }
        if name.is_empty() {
            return Err(errors::bad_request("missing component name"));
        }
        let loaded = self.providers.get(name).await.map_err(|error| {
            missing(
                error,
                errors::crypto_providers_not_configured(),
                errors::crypto_provider_not_found(name),
            )
        })?;
        Ok(Guarded::new(loaded, self.around.clone()))
    }
}
