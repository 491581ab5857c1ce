//! The sidecar's gRPC API, for what HTTP has not: streaming subscriptions, workflows, proxied services.

use http::HeaderValue;
use outrigger_wire::dapr::proto::runtime::v1::dapr_client::DaprClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::Client;
use crate::Error;

/// Messages up to Dapr's default body limit and somewhat more, in both directions.
const MAX_MESSAGE: usize = 32 << 20;

/// The generated client with the API token put into each call.
pub type GrpcClient = DaprClient<InterceptedService<Channel, ApiToken>>;

/// Puts the sidecar's API token, if there is one, into each call.
#[derive(Clone)]
pub struct ApiToken(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiToken(***)")
    }
}

impl Interceptor for ApiToken {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("dapr-api-token", token.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// The sidecar's gRPC API; connects when first used and again when the connection was lost. Clones share the
    /// connection. Errors and retries are the caller's: a stream cannot be repeated by anyone else.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the endpoint cannot be used.
    pub fn grpc(&self) -> Result<GrpcClient, Error> {
        let target = &self.0.grpc_endpoint;
        let wrong =
            |error: &dyn std::fmt::Display| Error::Invalid(format!("gRPC endpoint {target}: {error}"));
        let mut endpoint =
            Endpoint::from_shared(target.as_str().to_owned()).map_err(|error| wrong(&error))?;
        if target.is_tls() {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(|error| wrong(&error))?;
        }
        let token = self
            .0
            .token
            .as_ref()
            .map(HeaderValue::as_bytes)
            .map(MetadataValue::try_from)
            .transpose()
            .map_err(|error| wrong(&error))?;
        Ok(
            DaprClient::with_interceptor(endpoint.connect_lazy(), ApiToken(token))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
    }
}
