use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, StatusCode};
use outrigger_components_crypto::LOCAL_STORAGE;
use outrigger_crypto::SharedCryptoProvider;
use outrigger_sidecar_api::Body;
use outrigger_sidecar_blocks::{CryptoService, CryptoServiceOptions};
use outrigger_wire::dapr::proto::{
    common::v1::StreamPayload,
    runtime::v1::{
        DecryptRequest, DecryptRequestOptions, EncryptRequest, EncryptRequestOptions, SubtleDecryptRequest,
        SubtleEncryptRequest, SubtleUnwrapKeyRequest, SubtleWrapKeyRequest,
    },
};
use tonic::{Code, Status};

use crate::support::{Answer, call, components, loaded, metrics, open, post, resilience, within};

async fn service() -> (Arc<CryptoService>, tempfile::TempDir) {
    service_with(true).await
}

async fn service_with(subtle: bool) -> (Arc<CryptoService>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("k"), (0..32).collect::<Vec<u8>>()).unwrap();
    let path = folder.path().to_str().unwrap();
    let provider: SharedCryptoProvider = open(LOCAL_STORAGE, folder.path(), &[("path", path)]).await;
    let service = CryptoService::new(CryptoServiceOptions {
        providers: components([loaded("vault", "crypto.dapr.localstorage", &[], provider)]),
        resilience: resilience(),
        metrics: metrics(),
        subtle,
    });
    (Arc::new(service), folder)
}

async fn put(
    service: &Arc<CryptoService>,
    route: &'static str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let mut request = Request::builder().method(Method::PUT).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::whole(body)).unwrap();
    call(
        &service.endpoints(),
        Method::PUT,
        "v1.0-alpha1",
        route,
        &[("name", "vault")],
        request,
    )
    .await
}

const ENCRYPT: &str = "crypto/{name}/encrypt";
const DECRYPT: &str = "crypto/{name}/decrypt";

#[tokio::test]
async fn documents_of_any_length_come_back() {
    let (service, _folder) = service().await;
    // Longer than what is finished before the answer begins.
    for length in [0, 5, 9 << 20] {
        let document = Bytes::from(vec![7; length]);
        let headers = [("dapr-key-name", "k"), ("dapr-key-wrap-algorithm", "aes")];
        let sealed = put(&service, ENCRYPT, &headers, document.clone()).await;
        assert_eq!(sealed.status, StatusCode::OK);
        assert_eq!(sealed.head.headers["content-type"], "application/octet-stream");
        assert!(sealed.body.starts_with(b"dapr.io/enc/v1\n"));
        let opened = put(&service, DECRYPT, &[], sealed.body).await;
        assert!(opened.status == StatusCode::OK && opened.body == document);
    }
}

#[tokio::test]
async fn failures_have_dapr_shapes() {
    let (service, _folder) = service().await;
    let answer = put(&service, ENCRYPT, &[], Bytes::new()).await;
    assert_eq!(
        answer.json()["message"],
        "invalid request: missing header 'dapr-key-name'"
    );
    let answer = put(&service, ENCRYPT, &[("dapr-key-name", "k")], Bytes::new()).await;
    assert_eq!(
        answer.json()["message"],
        "invalid request: missing header 'dapr-key-wrap-algorithm'"
    );
    let answer = put(&service, DECRYPT, &[], Bytes::from_static(b"no document")).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["errorCode"], "ERR_CRYPTO");

    // A change at the very end of a document is found before the answer begins.
    let headers = [("dapr-key-name", "k"), ("dapr-key-wrap-algorithm", "AES")];
    let mut sealed = put(&service, ENCRYPT, &headers, Bytes::from(vec![1; 100_000]))
        .await
        .body
        .to_vec();
    *sealed.last_mut().unwrap() ^= 1;
    let answer = put(&service, DECRYPT, &[], Bytes::from(sealed)).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

fn encryption(component: &str) -> EncryptRequest {
    EncryptRequest {
        options: Some(EncryptRequestOptions {
            component_name: component.to_owned(),
            key_name: "k".to_owned(),
            key_wrap_algorithm: "AES".to_owned(),
            ..Default::default()
        }),
        payload: Some(StreamPayload {
            data: Bytes::from_static(b"hel"),
            seq: 0,
        }),
    }
}

fn chunk(data: &'static [u8], seq: u64) -> EncryptRequest {
    EncryptRequest {
        options: None,
        payload: Some(StreamPayload {
            data: Bytes::from_static(data),
            seq,
        }),
    }
}

fn messages<M: Send + 'static>(
    messages: Vec<M>,
) -> impl futures::Stream<Item = Result<M, Status>> + Send + Unpin + 'static {
    stream::iter(messages.into_iter().map(Ok))
}

#[tokio::test]
async fn grpc_streams_both_ways() {
    let (service, _folder) = service().await;
    let requests = messages(vec![encryption("vault"), chunk(b"lo", 1)]);
    let sealed: Vec<_> = service.grpc_encrypt(requests).await.unwrap().collect().await;
    let mut document = Vec::new();
    for (position, message) in sealed.into_iter().enumerate() {
        let payload = message.unwrap().payload.unwrap();
        assert_eq!(payload.seq, position as u64);
        document.extend_from_slice(&payload.data);
    }
    let options = DecryptRequestOptions {
        component_name: "vault".to_owned(),
        ..Default::default()
    };
    let requests = messages(vec![DecryptRequest {
        options: Some(options),
        payload: Some(StreamPayload {
            data: document.into(),
            seq: 0,
        }),
    }]);
    let opened: Vec<_> = service.grpc_decrypt(requests).await.unwrap().collect().await;
    let opened: Vec<u8> = opened
        .into_iter()
        .flat_map(|message| message.unwrap().payload.unwrap().data)
        .collect();
    assert_eq!(opened, b"hello");
}

#[tokio::test]
async fn grpc_streams_are_checked() {
    let (service, _folder) = service().await;
    let failed = |requests: Vec<EncryptRequest>| {
        let service = Arc::clone(&service);
        async move {
            match service.grpc_encrypt(messages(requests)).await {
                Err(error) => error.to_status(),
                Ok(answer) => answer
                    .filter_map(|message| std::future::ready(message.err()))
                    .next()
                    .await
                    .unwrap(),
            }
        }
    };
    let status = failed(vec![chunk(b"", 0)]).await;
    assert_eq!(
        status.message(),
        "invalid request: first message does not contain the required options"
    );
    let status = failed(vec![encryption("none")]).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "crypto provider none not found")
    );
    let status = failed(vec![encryption("vault"), chunk(b"x", 5)]).await;
    assert_eq!(
        status.message(),
        "failed to perform operation: invalid sequence number received: 5 (expected: 1)"
    );
    let status = failed(vec![encryption("vault"), encryption("vault")]).await;
    assert_eq!(
        status.message(),
        "failed to perform operation: options found in non-leading message"
    );
    assert!(
        failed(vec![])
            .await
            .message()
            .contains("error receiving the first message")
    );
}

#[tokio::test(start_paused = true)]
async fn options_must_come_in_time() {
    let service = CryptoService::new(CryptoServiceOptions {
        providers: components([]),
        resilience: resilience(),
        metrics: outrigger_telemetry::Metrics::disabled(),
        subtle: false,
    });
    let error = within(service.grpc_encrypt(stream::pending::<Result<EncryptRequest, Status>>()))
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.message(),
        "invalid request: error waiting for first message: context deadline exceeded"
    );
}

#[tokio::test]
async fn subtle_operations_are_served() {
    let (service, _folder) = service().await;
    let sealed = service
        .grpc_subtle_encrypt(SubtleEncryptRequest {
            component_name: "vault".to_owned(),
            plaintext: Bytes::from_static(b"hello"),
            algorithm: "A256GCM".to_owned(),
            key_name: "k".to_owned(),
            nonce: Bytes::from_static(&[1; 12]),
            associated_data: Bytes::new(),
        })
        .await
        .unwrap();
    let open = SubtleDecryptRequest {
        component_name: "vault".to_owned(),
        ciphertext: sealed.ciphertext,
        algorithm: "A256GCM".to_owned(),
        key_name: "k".to_owned(),
        nonce: Bytes::from_static(&[1; 12]),
        tag: sealed.tag,
        associated_data: Bytes::new(),
    };
    assert_eq!(
        service.grpc_subtle_decrypt(open.clone()).await.unwrap().plaintext,
        "hello"
    );
    let changed = SubtleDecryptRequest {
        tag: Bytes::from_static(&[0; 16]),
        ..open
    };
    let error = service.grpc_subtle_decrypt(changed).await.unwrap_err();
    assert_eq!(error.message(), "failed to perform operation: failed to decrypt");

    let key = Bytes::from_static(&[9; 32]);
    let wrapped = service
        .grpc_subtle_wrap_key(SubtleWrapKeyRequest {
            component_name: "vault".to_owned(),
            plaintext_key: key.clone(),
            algorithm: "A256KW".to_owned(),
            key_name: "k".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    let unwrapped = service
        .grpc_subtle_unwrap_key(SubtleUnwrapKeyRequest {
            component_name: "vault".to_owned(),
            wrapped_key: wrapped.wrapped_key,
            algorithm: "A256KW".to_owned(),
            key_name: "k".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(unwrapped.plaintext_key, key);

    let body = r#"{"name":"none"}"#;
    let params = [("name", "vault")];
    let route = "subtlecrypto/{name}/getkey";
    let answer = call(
        &service.endpoints(),
        Method::POST,
        "v1.0-alpha1",
        route,
        &params,
        post(body),
    )
    .await;
    assert_eq!(answer.json()["errorCode"], "ERR_CRYPTO_KEY");
}

#[tokio::test]
async fn subtle_operations_are_off_unless_the_feature_is_on() {
    let (service, _folder) = service_with(false).await;
    let error = service
        .grpc_subtle_encrypt(SubtleEncryptRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.message(), "this API is currently not implemented");
    for route in [
        "subtlecrypto/{name}/getkey",
        "subtlecrypto/{name}/encrypt",
        "subtlecrypto/{name}/decrypt",
        "subtlecrypto/{name}/wrapkey",
        "subtlecrypto/{name}/unwrapkey",
        "subtlecrypto/{name}/sign",
        "subtlecrypto/{name}/verify",
    ] {
        let params = [("name", "vault")];
        let answer = call(
            &service.endpoints(),
            Method::POST,
            "v1.0-alpha1",
            route,
            &params,
            post("{}"),
        )
        .await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(answer.json()["errorCode"], "ERR_API_UNIMPLEMENTED");
    }
}
