//! A state store of ours as a service.

use outrigger_component::Error;
use outrigger_state::{DynStateStore, Operation, ReadOptions};
use outrigger_types::StateKey;
use outrigger_wire::dapr::proto::components::v1::{
    self as pb, queriable_state_store_server::QueriableStateStore, state_store_server::StateStore,
    transactional_state_operation::Request as Change,
    transactional_state_store_server::TransactionalStateStore,
    transactional_store_multi_max_size_server::TransactionalStoreMultiMaxSize,
};
use tonic::{Request, Response, Status};

use super::instances::Instances;
use crate::{query, status::status, wire};

/// Features that the protocol has no methods for: whoever is told of them would call in vain.
const UNSERVED: [&str; 2] = ["DELETE_WITH_PREFIX", "KEYS_LIKE"];

#[derive(Debug, Clone)]
pub(super) struct State {
    instances: Instances<dyn DynStateStore>,
}

impl State {
    pub(super) fn new(instances: Instances<dyn DynStateStore>) -> Self {
        Self { instances }
    }
}

/// The error of many operations: the first one's, as the protocol has one answer for all.
fn all<T>(answers: Vec<Result<T, Error>>) -> Result<(), Status> {
    answers
        .into_iter()
        .find_map(Result::err)
        .map_or(Ok(()), |error| Err(status(&error)))
}

fn read_options(request: &pb::GetRequest) -> ReadOptions {
    ReadOptions {
        consistency: wire::from_consistency(request.consistency),
        metadata: wire::from_map(request.metadata.clone()),
    }
}

#[tonic::async_trait]
impl StateStore for State {
    async fn init(&self, request: Request<pb::InitRequest>) -> Result<Response<pb::InitResponse>, Status> {
        let (caller, _, request) = request.into_parts();
        self.instances.init(&caller, request.metadata).await?;
        Ok(Response::new(pb::InitResponse {}))
    }

    async fn features(
        &self,
        request: Request<pb::FeaturesRequest>,
    ) -> Result<Response<pb::FeaturesResponse>, Status> {
        let mut features = self.instances.of(&request)?.features();
        features.retain(|feature| !UNSERVED.contains(&feature.as_str()));
        Ok(Response::new(pb::FeaturesResponse { features }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let store = self.instances.of(&request)?;
        let operation = wire::from_delete(request.into_inner());
        store
            .transact(vec![operation])
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(pb::DeleteResponse {}))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let store = self.instances.of(&request)?;
        let request = request.into_inner();
        let options = read_options(&request);
        let item = store
            .get(&request.key.into(), &options)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(item.map_or_else(
            pb::GetResponse::default,
            |item| pb::GetResponse {
                etag: wire::to_etag(item.etag.as_ref()),
                metadata: wire::item_metadata(&item),
                content_type: wire::content_type(&item.value),
                data: item.value.into_bytes(),
            },
        )))
    }

    async fn set(&self, request: Request<pb::SetRequest>) -> Result<Response<pb::SetResponse>, Status> {
        let store = self.instances.of(&request)?;
        let dialect = store.capabilities().ttl_dialect;
        let operation = wire::from_set(request.into_inner(), dialect).map_err(|error| status(&error))?;
        store
            .transact(vec![operation])
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(pb::SetResponse {}))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        // Before the first Init there is only the process to answer for.
        if let Ok(store) = self.instances.of(&request) {
            store.ping().await.map_err(|error| status(&error))?;
        }
        Ok(Response::new(pb::PingResponse {}))
    }

    async fn bulk_delete(
        &self,
        request: Request<pb::BulkDeleteRequest>,
    ) -> Result<Response<pb::BulkDeleteResponse>, Status> {
        let store = self.instances.of(&request)?;
        let operations = request.into_inner().items.into_iter().map(wire::from_delete);
        all(store.apply_each(operations.collect()).await)?;
        Ok(Response::new(pb::BulkDeleteResponse {}))
    }

    async fn bulk_get(
        &self,
        request: Request<pb::BulkGetRequest>,
    ) -> Result<Response<pb::BulkGetResponse>, Status> {
        let store = self.instances.of(&request)?;
        let asked = request.into_inner().items;
        let alike = asked
            .windows(2)
            .all(|pair| pair[0].metadata == pair[1].metadata && pair[0].consistency == pair[1].consistency);
        let answers = match asked.first() {
            None => Vec::new(),
            Some(first) if alike => {
                let keys: Vec<StateKey> = asked.iter().map(|item| item.key.as_str().into()).collect();
                store.get_many(&keys, &read_options(first)).await
            }
            Some(_) => {
                let mut answers = Vec::with_capacity(asked.len());
                for item in &asked {
                    answers.push(store.get(&item.key.as_str().into(), &read_options(item)).await);
                }
                answers
            }
        };
        let items = asked
            .into_iter()
            .zip(answers)
            .map(|(asked, answer)| match answer {
                Ok(None) => pb::BulkStateItem {
                    key: asked.key,
                    ..pb::BulkStateItem::default()
                },
                Ok(Some(item)) => pb::BulkStateItem {
                    key: asked.key,
                    etag: wire::to_etag(item.etag.as_ref()),
                    error: String::new(),
                    metadata: wire::item_metadata(&item),
                    content_type: wire::content_type(&item.value),
                    data: item.value.into_bytes(),
                },
                Err(error) => pb::BulkStateItem {
                    key: asked.key,
                    error: error.chain(),
                    ..pb::BulkStateItem::default()
                },
            })
            .collect();
        Ok(Response::new(pb::BulkGetResponse { items }))
    }

    async fn bulk_set(
        &self,
        request: Request<pb::BulkSetRequest>,
    ) -> Result<Response<pb::BulkSetResponse>, Status> {
        let store = self.instances.of(&request)?;
        let dialect = store.capabilities().ttl_dialect;
        let operations: Result<Vec<Operation>, Error> = request
            .into_inner()
            .items
            .into_iter()
            .map(|set| wire::from_set(set, dialect))
            .collect();
        all(store
            .apply_each(operations.map_err(|error| status(&error))?)
            .await)?;
        Ok(Response::new(pb::BulkSetResponse {}))
    }
}

#[tonic::async_trait]
impl TransactionalStateStore for State {
    async fn transact(
        &self,
        request: Request<pb::TransactionalStateRequest>,
    ) -> Result<Response<pb::TransactionalStateResponse>, Status> {
        let store = self.instances.of(&request)?;
        let capabilities = store.capabilities();
        if !capabilities.transactional {
            return Err(status(&Error::unsupported(
                "the state store does not support transactions",
            )));
        }
        let request = request.into_inner();
        let mut operations = Vec::with_capacity(request.operations.len());
        for mut operation in request.operations {
            // Metadata of the request is that of every operation that does not say otherwise.
            let own = match &mut operation.request {
                Some(Change::Set(set)) => Some(&mut set.metadata),
                Some(Change::Delete(delete)) => Some(&mut delete.metadata),
                None => None,
            };
            if let Some(own) = own {
                for (name, value) in &request.metadata {
                    own.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            operations.push(match operation.request {
                Some(Change::Set(set)) => {
                    wire::from_set(set, capabilities.ttl_dialect).map_err(|error| status(&error))?
                }
                Some(Change::Delete(delete)) => wire::from_delete(delete),
                None => return Err(Status::invalid_argument("an operation is neither set nor delete")),
            });
        }
        if !operations.is_empty() {
            store.transact(operations).await.map_err(|error| status(&error))?;
        }
        Ok(Response::new(pb::TransactionalStateResponse {}))
    }
}

#[tonic::async_trait]
impl QueriableStateStore for State {
    async fn query(&self, request: Request<pb::QueryRequest>) -> Result<Response<pb::QueryResponse>, Status> {
        let store = self.instances.of(&request)?;
        let request = request.into_inner();
        let asked = query::from_wire(request.query.unwrap_or_default()).map_err(|error| status(&error))?;
        let options = ReadOptions {
            metadata: wire::from_map(request.metadata),
            ..ReadOptions::default()
        };
        let found = store
            .query(asked, options)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(pb::QueryResponse {
            items: found
                .items
                .into_iter()
                .map(|item| pb::QueryItem {
                    key: item.key.to_string(),
                    data: item.data,
                    etag: wire::to_etag(item.etag.as_ref()),
                    ..pb::QueryItem::default()
                })
                .collect(),
            token: found.token,
            metadata: wire::to_map(&found.metadata),
        }))
    }
}

#[tonic::async_trait]
impl TransactionalStoreMultiMaxSize for State {
    async fn multi_max_size(
        &self,
        request: Request<pb::MultiMaxSizeRequest>,
    ) -> Result<Response<pb::MultiMaxSizeResponse>, Status> {
        let max = self.instances.of(&request)?.capabilities().max_transaction;
        // -1 is no bound, as in components-contrib.
        let max_size = max.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX));
        Ok(Response::new(pb::MultiMaxSizeResponse { max_size }))
    }
}
