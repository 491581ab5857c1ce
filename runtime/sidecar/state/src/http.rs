//! The HTTP surface (wire.md §2, State).

mod shapes;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use outrigger_component::{Error, ErrorKind, Metadata};
use outrigger_engine_dispatch::go_json::{self, Numbers};
use outrigger_sidecar_api::{ApiError, ApiRequest, Body, Category, Endpoint, Group, Reply, errors, handler};
use outrigger_sidecar_resilience::RunError;
use outrigger_state::{
    Concurrency, Consistency, Etag, Expect, Item, Operation, ReadOptions, Value, WriteOptions,
};
use serde_json::value::RawValue;

use self::shapes::{BulkGet, SetOptions, SetRequest, Transaction};
use crate::{
    StateService, TraceInfo, go_value,
    service::{Store, error_text, item_metadata, own_answer},
};

const GROUP: Group = Group {
    name: "state",
    version: "v1",
};
const ALPHA: Group = Group {
    name: "state",
    version: "v1alpha1",
};
const GET: &[Method] = &[Method::GET];
const DELETE: &[Method] = &[Method::DELETE];
const WRITE: &[Method] = &[Method::POST, Method::PUT];

impl StateService {
    /// The endpoints of the state API.
    #[must_use]
    pub fn endpoints(self: &Arc<Self>) -> Vec<Endpoint> {
        let endpoint =
            |methods, route, name, handler| Endpoint::new(methods, "v1.0", route, GROUP, name, handler);
        vec![
            endpoint(
                GET,
                "state/{storeName}/{key}",
                "GetState",
                handler(self, Self::http_get),
            ),
            endpoint(
                WRITE,
                "state/{storeName}",
                "SaveState",
                handler(self, Self::http_save),
            ),
            endpoint(
                DELETE,
                "state/{storeName}/{key}",
                "DeleteState",
                handler(self, Self::http_delete),
            ),
            endpoint(
                WRITE,
                "state/{storeName}/bulk",
                "GetBulkState",
                handler(self, Self::http_bulk_get),
            ),
            endpoint(
                WRITE,
                "state/{storeName}/transaction",
                "ExecuteStateTransaction",
                handler(self, Self::http_transaction),
            ),
            Endpoint::new(
                WRITE,
                "v1.0-alpha1",
                "state/{storeName}/query",
                ALPHA,
                "QueryStateAlpha1",
                handler(self, Self::http_query),
            ),
        ]
    }

    async fn http_store(&self, request: &ApiRequest) -> Result<Store, ApiError> {
        self.store(request.param("storeName"), &self.options.app_id).await
    }

    /// A key of the HTTP surface: upstream wraps the refusal once more there.
    fn http_key(&self, store: &Store, key: &str, named: &str) -> Result<outrigger_types::StateKey, ApiError> {
        self.key(store, key)
            .map_err(|error| errors::state::invalid_key(store.name(), named, error.kit_text()))
    }

    async fn http_get(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.http_store(&request).await?;
        let key = request.param("key");
        let stored_key = self.http_key(&store, key, key)?;
        let options = ReadOptions {
            consistency: consistency(&request.query_value("consistency").unwrap_or_default())
                .unwrap_or_default(),
            metadata: request.query_metadata(),
        };
        let item = self.read(&store, &stored_key, &options).await.map_err(|error| {
            let (status, text) = status_of(&error);
            errors::state::get_failed(key, store.name(), text).with_codes(status, tonic::Code::Internal)
        })?;
        let Some(item) = item else {
            return Ok(Reply::no_content());
        };
        let metadata = item_metadata(&item);
        let etag = item.etag.clone();
        let mut response = Reply::json_bytes(item.value.into_bytes());
        let headers = response.headers_mut();
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag.as_str()).ok()) {
            headers.insert(header::ETAG, etag);
        }
        if let Some((name, value)) = metadata
            && let (Ok(name), Ok(value)) = (
                HeaderName::try_from(format!("metadata.{name}")),
                HeaderValue::from_str(&value),
            )
        {
            headers.insert(name, value);
        }
        Ok(response)
    }

    async fn http_save(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.http_store(&request).await?;
        let body = request
            .bytes()
            .await
            .map_err(|error| malformed(strip_prefix(error.message())))?;
        let items: Vec<Option<SetRequest>> =
            go_json::decode(&body, &shapes::ITEMS).map_err(|error| malformed(&error))?;
        if items.is_empty() {
            return Ok(Reply::no_content());
        }
        let metadata = request.query_metadata();
        let mut operations = Vec::with_capacity(items.len());
        for item in items {
            let item = item.unwrap_or_default();
            if item.key.is_empty() {
                return Err(malformed("\"key\" is a required field"));
            }
            let key = self.http_key(&store, &item.key, &item.key)?;
            let save_failed = |error: Error| save_error(&store, &RunError::Op(error));
            let value =
                Self::sealed(&store, json_value(&item.value)?, encrypted_text).map_err(save_failed)?;
            let metadata = overlay(item.metadata, &metadata);
            operations.push(set(&store, key, value, item.etag, &item.options, metadata));
        }
        self.write_each(&store, operations, "set")
            .await
            .map_err(|error| save_error(&store, &error))?;
        Ok(Reply::no_content())
    }

    async fn http_delete(self: Arc<Self>, request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.http_store(&request).await?;
        let key = request.param("key");
        let stored_key = self.http_key(&store, key, key)?;
        let options = SetOptions {
            concurrency: request.query_value("concurrency").unwrap_or_default(),
            consistency: request.query_value("consistency").unwrap_or_default(),
        };
        // Presence matters: an empty header is an etag that matches nothing.
        let etag = request
            .head
            .headers
            .get(header::IF_MATCH)
            .map(|etag| etag.to_str().unwrap_or("").to_owned());
        let failed = |error: &RunError<Error>| {
            let (status, text) = status_of(error);
            errors::state::delete_failed(key, text).with_codes(status, tonic::Code::Internal)
        };
        let operation = delete(stored_key, etag, &options, request.query_metadata())
            .map_err(|error| failed(&RunError::Op(error)))?;
        self.write_each(&store, vec![Ok(operation)], "delete")
            .await
            .map_err(|error| failed(&error))?;
        Ok(Reply::no_content())
    }

    async fn http_bulk_get(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.http_store(&request).await?;
        let body = request
            .bytes()
            .await
            .map_err(|error| errors::malformed_request(strip_prefix(error.message())))?;
        let asked: BulkGet = go_json::decode(&body, &shapes::BULK_GET).map_err(errors::malformed_request)?;
        let asked_keys = asked.keys.unwrap_or_default();
        let keys = asked_keys
            .iter()
            .map(|key| self.http_key(&store, key, key))
            .collect::<Result<Vec<_>, _>>()?;
        let mut out = vec![b'['];
        if !keys.is_empty() {
            let options = ReadOptions {
                metadata: overlay(asked.metadata, &request.query_metadata()),
                ..ReadOptions::default()
            };
            let answers = self.read_many(&store, &keys, &options).await.map_err(|error| {
                let (status, text) = status_of(&error);
                ApiError::new(
                    "ERR_STATE_BULK_GET",
                    Category::State,
                    status,
                    tonic::Code::Internal,
                    text,
                )
            })?;
            for (i, (key, answer)) in keys.iter().zip(answers).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_bulk_item(&mut out, crate::original_key(key), answer);
            }
        }
        out.extend_from_slice(b"]\n");
        Ok(Reply::json_bytes(out))
    }

    async fn http_transaction(self: Arc<Self>, mut request: ApiRequest) -> Result<Response<Body>, ApiError> {
        let store = self.http_store(&request).await?;
        let capabilities = store.loaded.instance.capabilities();
        if !capabilities.transactional {
            return Err(errors::state::transactions_not_supported(store.name()));
        }
        let body = request
            .bytes()
            .await
            .map_err(|error| errors::malformed_request(strip_prefix(error.message())))?;
        let asked: Transaction =
            go_json::decode(&body, &shapes::TRANSACTION).map_err(errors::malformed_request)?;
        let asked_operations = asked.operations.unwrap_or_default();
        if asked_operations.is_empty() {
            return Ok(Reply::no_content());
        }
        let metadata = request.query_metadata();
        let failed = |error: Error| errors::state::transaction_failed(error.chain());
        let mut operations = Vec::with_capacity(asked_operations.len());
        for asked in asked_operations {
            let asked = asked.unwrap_or_default();
            let operation = asked.operation;
            if !matches!(operation.as_str(), "upsert" | "delete") {
                return Err(errors::state::operation_not_supported(operation));
            }
            let SetRequest {
                key,
                value,
                etag,
                metadata: own,
                options,
            } = shapes::request(asked.request.as_deref()).map_err(errors::malformed_request)?;
            let metadata = overlay(own, &metadata);
            operations.push(match operation.as_str() {
                "upsert" => {
                    let key = self.http_key(&store, &key, "")?;
                    let value =
                        Self::sealed(&store, json_value(&value)?, encrypted_text).map_err(|error| {
                            errors::state::save_failed(store.name(), error.chain())
                                .with_codes(StatusCode::BAD_REQUEST, tonic::Code::Internal)
                        })?;
                    set(&store, key, value, etag, &options, metadata).map_err(failed)?
                }
                _ => {
                    let key = self.http_key(&store, &key, "")?;
                    delete(key, etag, &options, metadata).map_err(failed)?
                }
            });
        }
        let limit = store.loaded.instance.transaction_limit().await;
        if let Some(max) = limit.filter(|max| operations.len() > *max) {
            return Err(errors::state::too_many_operations(
                store.name(),
                operations.len(),
                max,
            ));
        }
        let trace = trace_info(&request);
        self.transact(&store, operations, trace)
            .await?
            .map_err(|error| errors::state::transaction_failed(error_text(&error)))?;
        Ok(Reply::no_content())
    }
}

/// The trace context of a request, as the server's tracing layer left it in the headers.
fn trace_info(request: &ApiRequest) -> TraceInfo {
    TraceInfo {
        traceparent: request.header("traceparent").to_owned(),
        tracestate: request.header("tracestate").to_owned(),
    }
}

/// Upstream reports a failed body read of these routes by the reader's own words.
fn strip_prefix(message: &str) -> &str {
    message
        .strip_prefix("failed to read request body: ")
        .unwrap_or(message)
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(
        "ERR_MALFORMED_REQUEST",
        Category::Common,
        StatusCode::BAD_REQUEST,
        tonic::Code::InvalidArgument,
        message,
    )
}

/// The value as upstream's components would store it: read as Go reads JSON (numbers as doubles), written as Go
/// writes it.
fn json_value(raw: &RawValue) -> Result<Value, ApiError> {
    let mut out = Vec::with_capacity(raw.get().len());
    go_json::transcode(raw.get().as_bytes(), Numbers::Doubles, &mut out)
        .map_err(|error| malformed(&error.to_string()))?;
    Ok(Value::Json(Bytes::from(out)))
}

/// What is encrypted of a JSON value: the text that Go's `%v` gives.
fn encrypted_text(value: &Value) -> Vec<u8> {
    match serde_json::from_slice::<serde_json::Value>(value.bytes()) {
        Ok(json) => go_value::format(&json).into_bytes(),
        Err(_) => value.bytes().to_vec(),
    }
}

/// Metadata of the item under metadata of the query, which wins.
fn overlay(own: Option<Metadata>, query: &Metadata) -> Metadata {
    match own {
        None => query.clone(),
        Some(mut own) => {
            own.extend(query.iter().map(|(name, value)| (name.clone(), value.clone())));
            own
        }
    }
}

fn consistency(text: &str) -> Result<Consistency, Error> {
    match text {
        "" => Ok(Consistency::Unspecified),
        "eventual" => Ok(Consistency::Eventual),
        "strong" => Ok(Consistency::Strong),
        other => Err(Error::invalid(format!(
            "unrecognized consistency model '{other}'"
        ))),
    }
}

/// Unknown words have been refused by [`expect`].
fn concurrency(text: &str) -> Concurrency {
    match text {
        "first-write" => Concurrency::FirstWrite,
        "last-write" => Concurrency::LastWrite,
        _ => Concurrency::Unspecified,
    }
}

fn expect(etag: Option<String>, concurrency: &str, absent: bool) -> Result<Expect, Error> {
    match concurrency {
        "" | "first-write" | "last-write" => {}
        other => {
            return Err(Error::invalid(format!(
                "unrecognized concurrency model '{other}'"
            )));
        }
    }
    // An etag counts whatever the model; without one, first-write means insert only.
    Ok(match etag.filter(|etag| !etag.is_empty() || !absent) {
        Some(etag) => Expect::Match(Etag::new(etag)),
        None if absent && concurrency == "first-write" => Expect::Absent,
        None => Expect::Any,
    })
}

fn set(
    store: &Store,
    key: outrigger_types::StateKey,
    value: Value,
    etag: Option<String>,
    options: &SetOptions,
    metadata: Metadata,
) -> Result<Operation, Error> {
    Ok(Operation::Set {
        key,
        value,
        expect: expect(etag, &options.concurrency, true)?,
        ttl: store.loaded.instance.capabilities().ttl_dialect.read(&metadata)?,
        options: WriteOptions {
            consistency: consistency(&options.consistency)?,
            concurrency: concurrency(&options.concurrency),
            metadata,
        },
    })
}

fn delete(
    key: outrigger_types::StateKey,
    etag: Option<String>,
    options: &SetOptions,
    metadata: Metadata,
) -> Result<Operation, Error> {
    Ok(Operation::Delete {
        key,
        expect: expect(etag, &options.concurrency, false)?,
        options: WriteOptions {
            consistency: consistency(&options.consistency)?,
            concurrency: concurrency(&options.concurrency),
            metadata,
        },
    })
}

fn status_of(error: &RunError<Error>) -> (StatusCode, String) {
    // A component that decides its answer decides the status; the words around its text stay the sidecar's.
    let own = own_answer(error).and_then(|answer| StatusCode::from_u16(answer.http).ok());
    let status = match error {
        _ if own.is_some() => own.unwrap_or_default(),
        RunError::Op(error) => match error.kind() {
            ErrorKind::EtagMismatch => StatusCode::CONFLICT,
            ErrorKind::EtagInvalid => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error_text(error))
}

fn save_error(store: &Store, error: &RunError<Error>) -> ApiError {
    let (status, text) = status_of(error);
    errors::state::save_failed(store.name(), text).with_codes(status, tonic::Code::Internal)
}

/// One entry of a bulk answer, fields in upstream's order, absent ones left out.
fn push_bulk_item(out: &mut Vec<u8>, key: &str, answer: Result<Option<Item>, Error>) {
    out.extend_from_slice(b"{\"key\":");
    go_json::write_string(key.as_bytes(), out);
    match answer {
        Ok(None) => {}
        Ok(Some(item)) => {
            let mut data = Vec::new();
            match go_json::transcode(item.value.bytes(), Numbers::Verbatim, &mut data) {
                Ok(()) if data.is_empty() => {}
                Ok(()) => {
                    out.extend_from_slice(b",\"data\":");
                    out.extend_from_slice(&data);
                }
                // Bytes that are no JSON cannot stand in a JSON answer; upstream answers nothing at all then.
                Err(error) => {
                    out.extend_from_slice(b",\"error\":");
                    go_json::write_string(
                        format!("the value is not JSON ({error}); read it by itself").as_bytes(),
                        out,
                    );
                }
            }
            if let Some(etag) = &item.etag {
                out.extend_from_slice(b",\"etag\":");
                go_json::write_string(etag.as_str().as_bytes(), out);
            }
            if let Some((name, value)) = item_metadata(&item) {
                out.extend_from_slice(b",\"metadata\":");
                let metadata = BTreeMap::from([(name, value)]);
                out.extend_from_slice(&serde_json::to_vec(&metadata).unwrap_or_else(|_| b"{}".to_vec()));
            }
        }
        Err(error) => {
            out.extend_from_slice(b",\"error\":");
            go_json::write_string(error.chain().as_bytes(), out);
        }
    }
    out.push(b'}');
}
