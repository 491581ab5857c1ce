//! Secret stores in another process (upstream `pkg/components/secretstores/pluggable.go`).

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use outrigger_component::{Error, Metadata, SecretString, Spec};
use outrigger_secrets::{DynSecretStore, Secret, SecretStore};
use outrigger_wire::dapr::proto::components::v1::{self as pb, secret_store_client::SecretStoreClient};

use super::link::{Link, Wire};
use crate::{
    MAX_MESSAGE,
    status::{error, secret_error},
    wire::to_map,
};

/// Feature of stores whose secrets have several keys.
pub(crate) const MULTI_VALUED: &str = "MULTIPLE_KEY_VALUES_PER_SECRET";

#[derive(Debug)]
struct PluggableSecrets {
    link: Arc<Link>,
    multi_valued: bool,
}

fn client(wire: Wire) -> SecretStoreClient<Wire> {
    SecretStoreClient::new(wire).max_decoding_message_size(MAX_MESSAGE)
}

/// Opens the store that listens at the socket.
pub(crate) async fn open_secrets(socket: PathBuf, spec: Spec) -> Result<Arc<dyn DynSecretStore>, Error> {
    let properties = super::pubsub::properties(&spec);
    let link = Link::open(socket, &spec, properties, |wire, metadata| {
        Box::pin(async move {
            let request = pb::SecretStoreInitRequest {
                metadata: Some(metadata),
            };
            client(wire).init(request).await.map(|_| ())
        })
    })
    .await?;
    let features = client(link.wire().await?)
        .features(pb::FeaturesRequest {})
        .await
        .map_err(|status| error(&status))?
        .into_inner()
        .features;
    Ok(Arc::new(PluggableSecrets {
        link,
        multi_valued: features.iter().any(|feature| feature == MULTI_VALUED),
    }))
}

fn secret(values: std::collections::HashMap<String, String>) -> Secret {
    values
        .into_iter()
        .map(|(key, value)| (key, SecretString::from(value)))
        .collect()
}

impl SecretStore for PluggableSecrets {
    fn multi_valued(&self) -> bool {
        self.multi_valued
    }

    async fn get(&self, name: &str, metadata: &Metadata) -> Result<Secret, Error> {
        let request = pb::GetSecretRequest {
            key: name.to_owned(),
            metadata: to_map(metadata),
        };
        let answer = client(self.link.wire().await?).get(request).await;
        answer
            .map(|answer| secret(answer.into_inner().data))
            .map_err(|status| secret_error(&status))
    }

    async fn all(&self, metadata: &Metadata) -> Result<BTreeMap<String, Secret>, Error> {
        let request = pb::BulkGetSecretRequest {
            metadata: to_map(metadata),
        };
        let answer = client(self.link.wire().await?)
            .bulk_get(request)
            .await
            .map_err(|status| secret_error(&status))?;
        Ok(answer
            .into_inner()
            .data
            .into_iter()
            .map(|(name, values)| (name, secret(values.secrets)))
            .collect())
    }

    async fn ping(&self) -> Result<(), Error> {
        let answer = client(self.link.wire().await?).ping(pb::PingRequest {}).await;
        answer.map(|_| ()).map_err(|status| error(&status))
    }

    async fn close(&self) -> Result<(), Error> {
        self.link.close();
        Ok(())
    }
}
