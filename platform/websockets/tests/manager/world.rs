//! What instances share: an in-memory cluster, and the gateway where everything goes through it.

use std::ops::Deref;

use outrigger_kit::testing::{Cluster, Sidecar};
use outrigger_kit::{Client, Environment, RetryPolicy};
use outrigger_platform_service::host::serve_until;
use outrigger_platform_service::{Backend, Context};
use outrigger_platform_websockets::names;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Endpoint;

pub(crate) struct World {
    cluster: Cluster,
    gateway: Option<Gateway>,
}

struct Gateway {
    /// Where its gRPC is.
    address: String,
    _sidecar: Sidecar,
    _task: AbortOnDropHandle<()>,
}

impl Deref for World {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl World {
    pub(crate) fn by_sidecar() -> Self {
        Self {
            cluster: Cluster::new(),
            gateway: None,
        }
    }

    pub(crate) async fn by_gateway() -> Self {
        let cluster = Cluster::new();
        let sidecar = cluster.sidecar("gateway").await.unwrap();
        let [http, grpc, web] = futures::future::join_all((0..3).map(|_| TcpListener::bind("127.0.0.1:0")))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let environment = Environment::new();
        let client = sidecar.client();
        let arguments = vec!["--log-level=warn".to_owned()];
        let context = Context {
            settings: outrigger_platform_gateway::definition()
                .load(arguments, &environment)
                .unwrap(),
            environment,
            instance: "gateway".to_owned(),
            backend: Backend::sidecar(client.clone(), "statestore", "pubsub"),
            client,
            http: http.local_addr().unwrap(),
            grpc: grpc.local_addr().unwrap(),
        };
        let address = format!("http://{}", context.grpc);
        let service = outrigger_platform_gateway::make(context, web).await.unwrap();
        let task = tokio::spawn(async move {
            serve_until(service, http, grpc, std::future::pending())
                .await
                .unwrap();
        });
        Self {
            cluster,
            gateway: Some(Gateway {
                address,
                _sidecar: sidecar,
                _task: AbortOnDropHandle::new(task),
            }),
        }
    }

    /// As many messages as this world passes on in about the same time: the gateway takes one event at a time.
    pub(crate) fn scaled(&self, messages: usize) -> usize {
        match self.gateway {
            None => messages,
            Some(_) => messages / 20,
        }
    }

    /// State and events for one instance.
    pub(crate) fn backend(&self, client: &Client) -> Backend {
        match &self.gateway {
            None => Backend::sidecar(client.clone(), "statestore", "pubsub"),
            Some(gateway) => {
                let channel = Endpoint::from_shared(gateway.address.clone())
                    .unwrap()
                    .connect_lazy();
                let retry = RetryPolicy::from_environment(&Environment::new()).unwrap();
                Backend::gateway(channel, names::SERVICE, retry)
            }
        }
    }
}
