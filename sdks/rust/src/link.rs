//! A connection to a service, and what every call over it has in common.

use std::{future::Future, time::Duration};

use tonic::{
    Request, Response, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{API_VERSION_HEADER, Error, Options};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection with streams that is silent for this long is asked whether it lives, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What generated stubs run over.
pub(crate) type Transport = InterceptedService<Channel, Stamp>;

/// Adds what every call carries.
#[derive(Clone)]
pub(crate) struct Stamp(MetadataMap);

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut().as_mut();
        for (name, value) in self.0.as_ref() {
            metadata.insert(name.clone(), value.clone());
        }
        Ok(request)
    }
}

/// A service that is called.
#[derive(Clone)]
pub(crate) struct Link {
    transport: Transport,
    timeout: Duration,
    address: String,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.address).finish()
    }
}

impl Link {
    /// Connects at the first call. Must be called where a Tokio runtime is.
    pub(crate) fn lazy(options: &Options) -> Result<Self, Error> {
        let address = options.address();
        let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| Error::Options {
            what: format!("address {address:?}"),
            why: error.to_string(),
        })?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_lazy();
        Self::over(channel, options)
    }

    /// Over a connection made elsewhere, such as one with TLS.
    pub(crate) fn over(channel: Channel, options: &Options) -> Result<Self, Error> {
        let mut stamp = MetadataMap::new();
        let version = (API_VERSION_HEADER.to_owned(), options.api_version.clone());
        for (name, value) in std::iter::once(&version).chain(&options.metadata) {
            let wrong = |why: String| Error::Options {
                what: format!("metadata {name:?}"),
                why,
            };
            let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map_err(|error| wrong(error.to_string()))?;
            let value = MetadataValue::try_from(value.as_str()).map_err(|error| wrong(error.to_string()))?;
            stamp.insert(key, value);
        }
        Ok(Self {
            transport: InterceptedService::new(channel, Stamp(stamp)),
            timeout: options.timeout,
            address: options.address(),
        })
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// Awaits a unary call for as long as one may take.
    pub(crate) async fn unary<A>(
        &self,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Error> {
        self.within(self.timeout, call).await
    }

    /// Awaits a call that the service itself may let take `patience`.
    pub(crate) async fn patiently<A>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Error> {
        self.within(self.timeout.saturating_add(patience), call).await
    }

    async fn within<A>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Error> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Error::late(&format!("no answer from {}", self.address), limit)),
        }
    }
}
