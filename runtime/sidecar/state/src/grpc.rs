//! The gRPC surface (wire.md §3, State).

use std::collections::HashMap;

use bytes::Bytes;
use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_engine_dispatch::go_json::{self, Numbers};
use outrigger_sidecar_api::{ApiError, Category, errors};
use outrigger_sidecar_resilience::RunError;
use outrigger_state::{Concurrency, Consistency, Etag, Expect, Operation, ReadOptions, Value, WriteOptions};
use outrigger_wire::dapr::proto::{
    common::v1::{
        StateItem, StateOptions,
        state_options::{StateConcurrency, StateConsistency},
    },
    runtime::v1::{
        BulkStateItem, DeleteBulkStateRequest, DeleteStateRequest, ExecuteStateTransactionRequest,
        GetBulkStateRequest, GetBulkStateResponse, GetStateRequest, GetStateResponse, QueryStateItem,
        QueryStateRequest, QueryStateResponse, SaveStateRequest,
    },
};
use tonic::Code;

use crate::{
    StateService, TraceInfo, original_key,
    service::{Store, error_text, item_metadata, or_own},
};

impl StateService {
    /// `GetState`.
    ///
    /// # Errors
    /// Rows of the state table.
    pub async fn grpc_get(&self, request: GetStateRequest) -> Result<GetStateResponse, ApiError> {
        let store = self.store(&request.store_name, "").await?;
        let key = self.key(&store, &request.key)?;
        let options = ReadOptions {
            consistency: consistency(request.consistency),
            metadata: metadata(request.metadata),
        };
        let item = self.read(&store, &key, &options).await.map_err(|error| {
            or_own(&error, || {
                errors::state::get_failed(&request.key, store.name(), error_text(&error)).with_error_info()
            })
        })?;
        Ok(
            item.map_or_else(GetStateResponse::default, |item| GetStateResponse {
                etag: item
                    .etag
                    .as_ref()
                    .map(|etag| etag.as_str().to_owned())
                    .unwrap_or_default(),
                metadata: item_metadata(&item)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                data: item.value.into_bytes(),
            }),
        )
    }

    /// `GetBulkState`.
    ///
    /// # Errors
    /// Rows of the state table; errors of single keys stay with their items.
    pub async fn grpc_bulk_get(
        &self,
        request: GetBulkStateRequest,
    ) -> Result<GetBulkStateResponse, ApiError> {
        let store = self.store(&request.store_name, "").await?;
        let keys = request
            .keys
            .iter()
            .map(|key| self.key(&store, key))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Ok(GetBulkStateResponse::default());
        }
        let options = ReadOptions {
            metadata: metadata(request.metadata),
            ..ReadOptions::default()
        };
        let answers = self.read_many(&store, &keys, &options).await.map_err(|error| {
            or_own(&error, || {
                ApiError::new(
                    "ERR_STATE_BULK_GET",
                    Category::State,
                    http::StatusCode::INTERNAL_SERVER_ERROR,
                    Code::Unknown,
                    error_text(&error),
                )
            })
        })?;
        let items = keys
            .iter()
            .zip(answers)
            .map(|(key, answer)| {
                let mut entry = BulkStateItem {
                    key: original_key(key).to_owned(),
                    ..BulkStateItem::default()
                };
                match answer {
                    Ok(None) => {}
                    Ok(Some(item)) => {
                        entry.etag = item
                            .etag
                            .as_ref()
                            .map(|etag| etag.as_str().to_owned())
                            .unwrap_or_default();
                        entry.metadata = item_metadata(&item)
                            .into_iter()
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect();
                        entry.data = item.value.into_bytes();
                    }
                    Err(error) => entry.error = error.chain(),
                }
                entry
            })
            .collect();
        Ok(GetBulkStateResponse { items })
    }

    /// `SaveState`.
    ///
    /// # Errors
    /// Rows of the state table.
    pub async fn grpc_save(&self, request: SaveStateRequest) -> Result<(), ApiError> {
        let store = self.store(&request.store_name, "").await?;
        if request.states.is_empty() {
            return Ok(());
        }
        let mut operations = Vec::with_capacity(request.states.len());
        for item in request.states {
            if item.key.is_empty() {
                return Err(ApiError::new(
                    "ERR_STATE_SAVE",
                    Category::State,
                    http::StatusCode::BAD_REQUEST,
                    Code::InvalidArgument,
                    "state key cannot be empty",
                )
                .with_error_info());
            }
            operations.push(self.set(&store, item, true)?);
        }
        self.write_each(&store, operations, "set").await.map_err(|error| {
            or_own(&error, || {
                errors::state::save_failed(store.name(), error_text(&error))
                    .with_codes(http::StatusCode::INTERNAL_SERVER_ERROR, code(&error))
                    .with_error_info()
            })
        })
    }

    /// `DeleteState`.
    ///
    /// # Errors
    /// Rows of the state table.
    pub async fn grpc_delete(&self, request: DeleteStateRequest) -> Result<(), ApiError> {
        let store = self.store(&request.store_name, "").await?;
        let item = StateItem {
            key: request.key.clone(),
            etag: request.etag,
            metadata: request.metadata,
            options: request.options,
            ..StateItem::default()
        };
        let operation = self.delete(&store, item)?;
        self.write_each(&store, vec![Ok(operation)], "delete")
            .await
            .map_err(|error| {
                or_own(&error, || {
                    errors::state::delete_failed(&request.key, error_text(&error))
                        .with_codes(http::StatusCode::INTERNAL_SERVER_ERROR, code(&error))
                        .with_error_info()
                })
            })
    }

    /// `DeleteBulkState`.
    ///
    /// # Errors
    /// Rows of the state table.
    pub async fn grpc_bulk_delete(&self, request: DeleteBulkStateRequest) -> Result<(), ApiError> {
        let store = self.store(&request.store_name, "").await?;
        let operations = request
            .states
            .into_iter()
            .map(|item| self.delete(&store, item).map(Ok))
            .collect::<Result<Vec<_>, ApiError>>()?;
        if operations.is_empty() {
            return Ok(());
        }
        self.write_each(&store, operations, "bulk_delete")
            .await
            .map_err(|error| {
                or_own(&error, || {
                    errors::state::bulk_delete_failed(store.name(), error_text(&error))
                        .with_codes(http::StatusCode::INTERNAL_SERVER_ERROR, code(&error))
                        .with_error_info()
                })
            })
    }

    /// `ExecuteStateTransaction`.
    ///
    /// # Errors
    /// Rows of the state table.
    pub async fn grpc_transaction(
        &self,
        request: ExecuteStateTransactionRequest,
        trace: TraceInfo,
    ) -> Result<(), ApiError> {
        let store = self.store(&request.store_name, "").await?;
        let capabilities = store.loaded.instance.capabilities();
        if !capabilities.transactional {
            return Err(errors::state::transactions_not_supported(store.name()));
        }
        let mut operations = Vec::with_capacity(request.operations.len());
        for operation in request.operations {
            let item = operation.request.unwrap_or_default();
            operations.push(match operation.operation_type.as_str() {
                "upsert" => self
                    .set(&store, item, false)?
                    .map_err(|error| errors::state::transaction_failed(error.chain()).with_error_info())?,
                "delete" => self.delete(&store, item)?,
                other => {
                    self.key(&store, &item.key)?;
                    return Err(errors::state::operation_not_supported(other)
                        .with_codes(http::StatusCode::INTERNAL_SERVER_ERROR, Code::Unimplemented)
                        .with_error_info());
                }
            });
        }
        if operations.is_empty() {
            return Ok(());
        }
        let limit = store.loaded.instance.transaction_limit().await;
        if let Some(max) = limit.filter(|max| operations.len() > *max) {
            return Err(errors::state::too_many_operations(
                store.name(),
                operations.len(),
                max,
            ));
        }
        self.transact(&store, operations, trace)
            .await?
            .map_err(|error| errors::state::transaction_failed(error_text(&error)).with_error_info())?;
        Ok(())
    }

    /// `QueryStateAlpha1`.
    ///
    /// # Errors
    /// Rows of the state table.
    pub async fn grpc_query(&self, request: QueryStateRequest) -> Result<QueryStateResponse, ApiError> {
        let found = self
            .run_query(
                &request.store_name,
                request.query.as_bytes(),
                metadata(request.metadata),
                "",
            )
            .await?;
        if found.items.is_empty() {
            return Ok(QueryStateResponse::default());
        }
        Ok(QueryStateResponse {
            results: found
                .items
                .into_iter()
                .map(|item| QueryStateItem {
                    key: original_key(&item.key).to_owned(),
                    data: item.data,
                    etag: item.etag.map(|etag| etag.as_str().to_owned()).unwrap_or_default(),
                    error: String::new(),
                })
                .collect(),
            token: found.token,
            metadata: found.metadata.into_iter().collect(),
        })
    }

    /// Outer error: the request is refused; inner error: the operation would fail.
    fn set(
        &self,
        store: &Store,
        item: StateItem,
        json_by_metadata: bool,
    ) -> Result<Result<Operation, Error>, ApiError> {
        let key = self.key(store, &item.key)?;
        let metadata = metadata(item.metadata);
        let is_json = json_by_metadata
            && metadata
                .get("contentType")
                .is_some_and(|kind| kind == "application/json");
        let plain = item.value.clone();
        let dialect = store.loaded.instance.capabilities().ttl_dialect;
        let value = if is_json {
            let mut out = Vec::with_capacity(item.value.len());
            if let Err(error) = go_json::transcode(&item.value, Numbers::Doubles, &mut out) {
                return Err(ApiError::new(
                    "ERR_STATE_SAVE",
                    Category::State,
                    http::StatusCode::INTERNAL_SERVER_ERROR,
                    Code::Unknown,
                    error.to_string(),
                ));
            }
            Value::Json(Bytes::from(out))
        } else {
            Value::Binary(item.value)
        };
        Ok(Self::sealed(store, value, |_| plain.to_vec()).and_then(|value| {
            Ok(Operation::Set {
                key,
                value,
                expect: expect(item.etag.map(|etag| etag.value), item.options.as_ref(), true),
                ttl: dialect.read(&metadata)?,
                options: WriteOptions {
                    consistency: options_consistency(item.options.as_ref()),
                    concurrency: options_concurrency(item.options.as_ref()),
                    metadata,
                },
            })
        }))
    }

    fn delete(&self, store: &Store, item: StateItem) -> Result<Operation, ApiError> {
        Ok(Operation::Delete {
            key: self.key(store, &item.key)?,
            expect: expect(item.etag.map(|etag| etag.value), item.options.as_ref(), false),
            options: WriteOptions {
                consistency: options_consistency(item.options.as_ref()),
                concurrency: options_concurrency(item.options.as_ref()),
                metadata: metadata(item.metadata),
            },
        })
    }
}

fn metadata(map: HashMap<String, String>) -> Metadata {
    map.into_iter().collect()
}

fn consistency(value: i32) -> Consistency {
    match StateConsistency::try_from(value) {
        Ok(StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(StateConsistency::ConsistencyStrong) => Consistency::Strong,
        _ => Consistency::Unspecified,
    }
}

fn options_consistency(options: Option<&StateOptions>) -> Consistency {
    options.map_or(Consistency::Unspecified, |options| {
        consistency(options.consistency)
    })
}

fn options_concurrency(options: Option<&StateOptions>) -> Concurrency {
    match options.map(|options| StateConcurrency::try_from(options.concurrency)) {
        Some(Ok(StateConcurrency::ConcurrencyFirstWrite)) => Concurrency::FirstWrite,
        Some(Ok(StateConcurrency::ConcurrencyLastWrite)) => Concurrency::LastWrite,
        _ => Concurrency::Unspecified,
    }
}

fn expect(etag: Option<String>, options: Option<&StateOptions>, set: bool) -> Expect {
    let first_write =
        options.is_some_and(|options| options.concurrency == StateConcurrency::ConcurrencyFirstWrite as i32);
    match etag.filter(|etag| !etag.is_empty() || !set) {
        Some(etag) => Expect::Match(Etag::new(etag)),
        None if set && first_write => Expect::Absent,
        None => Expect::Any,
    }
}

fn code(error: &RunError<Error>) -> Code {
    match error {
        RunError::Op(error) => match error.kind() {
            ErrorKind::EtagMismatch => Code::Aborted,
            ErrorKind::EtagInvalid => Code::InvalidArgument,
            _ => Code::Internal,
        },
        _ => Code::Internal,
    }
}
