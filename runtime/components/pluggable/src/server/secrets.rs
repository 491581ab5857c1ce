//! A secret store of ours as a service.

use outrigger_component::SecretString;
use outrigger_secrets::{DynSecretStore, Secret};
use outrigger_wire::dapr::proto::components::v1::{self as pb, secret_store_server::SecretStore};
use tonic::{Request, Response, Status};

use super::instances::Instances;
use crate::{status::status, wire::from_map};

/// Feature of stores whose secrets have several keys.
const MULTI_VALUED: &str = "MULTIPLE_KEY_VALUES_PER_SECRET";

#[derive(Debug)]
pub(super) struct Secrets {
    instances: Instances<dyn DynSecretStore>,
}

impl Secrets {
    pub(super) fn new(instances: Instances<dyn DynSecretStore>) -> Self {
        Self { instances }
    }
}

fn exposed(secret: Secret) -> std::collections::HashMap<String, String> {
    secret
        .into_iter()
        .map(|(key, value): (String, SecretString)| (key, value.expose().to_owned()))
        .collect()
}

#[tonic::async_trait]
impl SecretStore for Secrets {
    async fn init(
        &self,
        request: Request<pb::SecretStoreInitRequest>,
    ) -> Result<Response<pb::SecretStoreInitResponse>, Status> {
        let (caller, _, request) = request.into_parts();
        self.instances.init(&caller, request.metadata).await?;
        Ok(Response::new(pb::SecretStoreInitResponse {}))
    }

    async fn features(
        &self,
        request: Request<pb::FeaturesRequest>,
    ) -> Result<Response<pb::FeaturesResponse>, Status> {
        let multi_valued = self.instances.of(&request)?.multi_valued();
        let features = multi_valued
            .then(|| MULTI_VALUED.to_owned())
            .into_iter()
            .collect();
        Ok(Response::new(pb::FeaturesResponse { features }))
    }

    async fn get(
        &self,
        request: Request<pb::GetSecretRequest>,
    ) -> Result<Response<pb::GetSecretResponse>, Status> {
        let store = self.instances.of(&request)?;
        let request = request.into_inner();
        let found = store.get(&request.key, &from_map(request.metadata)).await;
        let data = exposed(found.map_err(|error| status(&error))?);
        Ok(Response::new(pb::GetSecretResponse { data }))
    }

    async fn bulk_get(
        &self,
        request: Request<pb::BulkGetSecretRequest>,
    ) -> Result<Response<pb::BulkGetSecretResponse>, Status> {
        let store = self.instances.of(&request)?;
        let all = store.all(&from_map(request.into_inner().metadata)).await;
        let data = all
            .map_err(|error| status(&error))?
            .into_iter()
            .map(|(name, secret)| {
                let secrets = exposed(secret);
                (name, pb::SecretResponse { secrets })
            })
            .collect();
        Ok(Response::new(pb::BulkGetSecretResponse { data }))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        // Before the first Init there is only the process to answer for.
        if let Ok(store) = self.instances.of(&request) {
            store.ping().await.map_err(|error| status(&error))?;
        }
        Ok(Response::new(pb::PingResponse {}))
    }
}
