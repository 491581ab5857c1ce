//! Requests that many tests send.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use outrigger_wire::dapr::proto::{common::v1::*, runtime::v1::*};
use tonic::{Request, client::Grpc};

use crate::support::{Raw, Sidecar};

pub(crate) fn save(key: &str, value: impl Into<Bytes>) -> SaveStateRequest {
    SaveStateRequest {
        store_name: "mystore".to_owned(),
        states: vec![StateItem {
            key: key.to_owned(),
            value: value.into(),
            ..StateItem::default()
        }],
    }
}

pub(crate) fn get(key: &str) -> GetStateRequest {
    GetStateRequest {
        store_name: "mystore".to_owned(),
        key: key.to_owned(),
        ..GetStateRequest::default()
    }
}

/// Sends messages through the proxy by a bidirectional call.
pub(crate) async fn proxied(sidecar: &Sidecar, method: &str, messages: Vec<&'static str>) -> Vec<Bytes> {
    let mut echo = Grpc::new(sidecar.channel().await);
    echo.ready().await.unwrap();
    let mut request = Request::new(stream::iter(
        messages
            .into_iter()
            .map(|text| Bytes::from_static(text.as_bytes())),
    ));
    request
        .metadata_mut()
        .insert("dapr-app-id", "myapp".parse().unwrap());
    let path = PathAndQuery::try_from(format!("/echo.Echo/{method}")).unwrap();
    let answer = echo
        .streaming::<_, _, Bytes, _>(request, path, Raw)
        .await
        .unwrap();
    answer.into_inner().map(Result::unwrap).collect().await
}
