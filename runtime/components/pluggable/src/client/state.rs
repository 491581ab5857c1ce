//! State stores in another process (upstream `pkg/components/state/pluggable.go`).

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use outrigger_component::Error;
use outrigger_state::{
    Capabilities, DynStateStore, Etag, Item, Operation, Query, QueryItem, QueryResult, ReadOptions,
    StateStore, TtlDialect,
};
use outrigger_types::StateKey;
use outrigger_wire::dapr::proto::components::v1::{
    self as pb, queriable_state_store_client::QueriableStateStoreClient,
    state_store_client::StateStoreClient, transactional_state_operation::Request as Change,
    transactional_state_store_client::TransactionalStateStoreClient,
    transactional_store_multi_max_size_client::TransactionalStoreMultiMaxSizeClient,
};

use tokio::sync::OnceCell;

use super::link::{Link, Wire};
use crate::{
    MAX_MESSAGE, query,
    status::{error, read_error, transaction_error, write_error},
    wire,
};

const LOG: &str = "dapr.runtime.pluggable";

/// A state store behind a socket.
#[derive(Debug)]
struct PluggableState {
    link: Arc<Link>,
    features: Vec<String>,
    capabilities: Capabilities,
    /// Whether the component has a method for the largest transaction.
    tells_limit: bool,
    limit: OnceCell<Option<usize>>,
}

fn client(wire: Wire) -> StateStoreClient<Wire> {
    StateStoreClient::new(wire).max_decoding_message_size(MAX_MESSAGE)
}

/// Opens the store that listens at the socket and offers these services.
pub(crate) async fn open_state(
    socket: PathBuf,
    spec: outrigger_component::Spec,
    services: Arc<BTreeSet<String>>,
) -> Result<Arc<dyn DynStateStore>, Error> {
    let properties = super::pubsub::properties(&spec);
    let link = Link::open(socket, &spec, properties, |wire, metadata| {
        Box::pin(async move {
            let request = pb::InitRequest {
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
    let has = |feature: &str| features.iter().any(|name| name == feature);
    let offers = |service: &str| services.contains(&format!("dapr.proto.components.v1.{service}"));
    let capabilities = Capabilities {
        etag: has("ETAG"),
        transactional: has("TRANSACTIONAL"),
        ttl: has("TTL"),
        query: has("QUERY_API") || offers("QueriableStateStore"),
        // The protocol has no methods for these.
        delete_with_prefix: false,
        keys_like: false,
        ttl_dialect: TtlDialect::Own,
        ..Capabilities::default()
    };
    Ok(Arc::new(PluggableState {
        tells_limit: offers("TransactionalStoreMultiMaxSize"),
        limit: OnceCell::new(),
        link,
        features,
        capabilities,
    }))
}

impl PluggableState {
    /// Runs a change of one kind for many items: the protocol answers for all of them at once.
    async fn change_many(
        &self,
        sets: Vec<pb::SetRequest>,
        deletes: Vec<pb::DeleteRequest>,
    ) -> Result<(), Failure> {
        let mut client = client(self.link.wire().await.map_err(Failure::Link)?);
        let done = if deletes.is_empty() {
            let request = pb::BulkSetRequest {
                items: sets,
                options: Some(pb::BulkSetRequestOptions::default()),
            };
            client.bulk_set(request).await.map(|_| ())
        } else {
            let request = pb::BulkDeleteRequest {
                items: deletes,
                options: Some(pb::BulkDeleteRequestOptions::default()),
            };
            client.bulk_delete(request).await.map(|_| ())
        };
        done.map_err(Failure::Status)
    }
}

/// A failure that stands for several items.
enum Failure {
    Link(Error),
    Status(tonic::Status),
}

impl Failure {
    fn error(&self, of_status: fn(&tonic::Status) -> Error) -> Error {
        match self {
            Self::Link(error) => Error::new(error.kind(), error.chain()),
            Self::Status(status) => of_status(status),
        }
    }
}

impl StateStore for PluggableState {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn features(&self) -> Vec<String> {
        self.features.clone()
    }

    async fn transaction_limit(&self) -> Option<usize> {
        if !self.tells_limit {
            return None;
        }
        let limit = self.limit.get_or_try_init(|| async {
            let wire = self.link.wire().await?;
            let answer = TransactionalStoreMultiMaxSizeClient::new(wire)
                .multi_max_size(pb::MultiMaxSizeRequest {})
                .await
                .map_err(|status| error(&status))?;
            let max = usize::try_from(answer.into_inner().max_size);
            Ok::<_, Error>(max.ok().filter(|max| *max > 0))
        });
        limit.await.copied().unwrap_or_else(|error| {
            tracing::error!(target: LOG, "failed to get multi max size from state store: {}", error.chain());
            None
        })
    }

    async fn get(&self, key: &StateKey, options: &ReadOptions) -> Result<Option<Item>, Error> {
        let answer = client(self.link.wire().await?)
            .get(wire::get(key, options))
            .await
            .map_err(|status| read_error(&status))?
            .into_inner();
        Ok(wire::from_answer(
            answer.data,
            answer.etag,
            &answer.metadata,
            &answer.content_type,
        ))
    }

    async fn get_many(&self, keys: &[StateKey], options: &ReadOptions) -> Vec<Result<Option<Item>, Error>> {
        let request = pb::BulkGetRequest {
            items: keys.iter().map(|key| wire::get(key, options)).collect(),
            options: Some(pb::BulkGetRequestOptions::default()),
        };
        let answer = async {
            let wire = self.link.wire().await.map_err(Failure::Link)?;
            client(wire).bulk_get(request).await.map_err(Failure::Status)
        }
        .await;
        let items = match answer {
            Ok(answer) => answer.into_inner().items,
            Err(failure) => return keys.iter().map(|_| Err(failure.error(read_error))).collect(),
        };
        // Components answer in any order, and may leave out what is not there.
        let items: HashMap<&str, _> = items.iter().map(|item| (item.key.as_str(), item)).collect();
        keys.iter()
            .map(|key| {
                let Some(item) = items.get(key.as_str()) else {
                    return Ok(None);
                };
                if !item.error.is_empty() {
                    return Err(Error::internal(item.error.clone()));
                }
                Ok(wire::from_answer(
                    item.data.clone(),
                    item.etag.clone(),
                    &item.metadata,
                    &item.content_type,
                ))
            })
            .collect()
    }

    async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Option<Etag>>, Error> {
        let count = operations.len();
        let wire = self.link.wire().await?;
        let mut operations: Vec<_> = operations.into_iter().map(wire::operation).collect();
        // One change is a call of its own, which every store has.
        let single = (count == 1)
            .then(|| operations.pop().and_then(|one| one.request))
            .flatten();
        match single {
            Some(Change::Set(request)) => {
                let done = client(wire).set(request).await;
                done.map_err(|status| write_error(&status))?;
            }
            Some(Change::Delete(request)) => {
                let done = client(wire).delete(request).await;
                done.map_err(|status| write_error(&status))?;
            }
            None => {
                let request = pb::TransactionalStateRequest {
                    operations,
                    metadata: Default::default(),
                };
                let done = TransactionalStateStoreClient::new(wire).transact(request).await;
                done.map_err(|status| transaction_error(&status))?;
            }
        }
        // The protocol does not tell new etags.
        Ok(vec![None; count])
    }

    async fn apply_each(&self, operations: Vec<Operation>) -> Vec<Result<Option<Etag>, Error>> {
        let count = operations.len();
        let (mut sets, mut deletes) = (Vec::new(), Vec::new());
        for operation in operations.iter().cloned() {
            match wire::operation(operation).request {
                Some(Change::Set(request)) => sets.push(request),
                Some(Change::Delete(request)) => deletes.push(request),
                None => {}
            }
        }
        if sets.is_empty() || deletes.is_empty() {
            return match self.change_many(sets, deletes).await {
                Ok(()) => (0..count).map(|_| Ok(None)).collect(),
                Err(failure) => (0..count).map(|_| Err(failure.error(write_error))).collect(),
            };
        }
        let mut answers = Vec::with_capacity(count);
        for operation in operations {
            answers.push(StateStore::transact(self, vec![operation]).await.map(|_| None));
        }
        answers
    }

    async fn query(&self, asked: Query, options: ReadOptions) -> Result<QueryResult, Error> {
        let request = pb::QueryRequest {
            query: Some(query::to_wire(&asked)),
            metadata: wire::to_map(&options.metadata),
        };
        let answer = QueriableStateStoreClient::new(self.link.wire().await?)
            .max_decoding_message_size(MAX_MESSAGE)
            .query(request)
            .await
            .map_err(|status| read_error(&status))?
            .into_inner();
        if let Some(item) = answer.items.iter().find(|item| !item.error.is_empty()) {
            return Err(Error::internal(item.error.clone()));
        }
        Ok(QueryResult {
            items: answer
                .items
                .into_iter()
                .map(|item| QueryItem {
                    key: item.key.into(),
                    data: item.data,
                    etag: item.etag.map(|etag| Etag::new(etag.value)),
                })
                .collect(),
            token: answer.token,
            metadata: wire::from_map(answer.metadata),
        })
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
