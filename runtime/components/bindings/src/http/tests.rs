mod proxy;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_bindings::{DynOutputBinding, InvokeError, InvokeRequest, InvokeResponse, suite};
use outrigger_component::{Error, ErrorKind, Host, Metadata, Properties, Spec};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::HTTP;

/// Answers with what it was asked, or as the path says.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if let Some(status) = path.strip_prefix("/status/") {
        let response = Response::builder().status(status.parse::<u16>().unwrap());
        return Ok(response.body(Full::from("no luck")).unwrap());
    }
    if let Some(status) = path.strip_prefix("/redirect/") {
        let response = Response::builder()
            .status(status.parse::<u16>().unwrap())
            .header("location", "../target?x=1");
        return Ok(response.body(Full::default()).unwrap());
    }
    if path == "/loop" {
        return Ok(Response::builder()
            .status(302)
            .header("location", "loop")
            .body(Full::default())
            .unwrap());
    }
    if path == "/silent" {
        std::future::pending::<()>().await;
    }
    let body = body.collect().await.unwrap().to_bytes();
    let headers: serde_json::Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let text = serde_json::json!({
        "method": head.method.as_str(),
        "uri": head.uri.path_and_query().unwrap().as_str(),
        "headers": headers,
        "body": String::from_utf8(body.to_vec()).unwrap(),
    });
    Ok(Response::builder()
        .header("X-Several", "a")
        .header("X-Several", "b")
        .header("content-type", "application/json")
        .body(Full::from(text.to_string()))
        .unwrap())
}

async fn serve_on<S>(stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = server
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_on(stream));
        }
    });
    address
}

async fn open(pairs: &[(&str, &str)]) -> Result<Arc<dyn DynOutputBinding>, Error> {
    let spec = Spec {
        name: "h".into(),
        type_name: "bindings.http".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    let binding = (HTTP.validate)(&spec)?.run(Host::new("app", "/")).await?;
    Ok(binding.output.clone().unwrap())
}

async fn invoke(
    binding: &Arc<dyn DynOutputBinding>,
    operation: &str,
    metadata: &[(&str, &str)],
    data: &str,
) -> Result<InvokeResponse, InvokeError> {
    let metadata: Metadata = metadata
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let request = InvokeRequest {
        data: Bytes::from(data.to_owned()),
        operation: operation.into(),
        metadata,
    };
    binding.invoke(request).await.map(|response| response.unwrap())
}

fn asked(response: &InvokeResponse) -> Value {
    serde_json::from_slice(response.data.as_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn nine_operations_are_eight_verbs() {
    let url = format!("http://{}/base/", server().await);
    let binding = open(&[("url", &url)]).await.unwrap();
    for (operation, method, body) in [
        ("create", "POST", "data"),
        ("post", "POST", "data"),
        ("put", "PUT", "data"),
        ("Patch", "PATCH", "data"),
        ("get", "GET", ""),
        ("delete", "DELETE", ""),
        ("options", "OPTIONS", ""),
        ("trace", "TRACE", ""),
    ] {
        let response = invoke(&binding, operation, &[("path", "//a b?c=d")], "data")
            .await
            .unwrap();
        let asked = asked(&response);
        assert_eq!(
            (asked["method"].as_str(), asked["body"].as_str()),
            (Some(method), Some(body))
        );
        assert_eq!(asked["uri"], "/base/a%20b?c=d");
        let content_type = asked["headers"].get("content-type").and_then(Value::as_str);
        assert_eq!(
            content_type,
            (!body.is_empty()).then_some("application/json; charset=utf-8")
        );
        assert_eq!(asked["headers"]["accept"], "application/json; charset=utf-8");
        assert_eq!(response.metadata["statusCode"], "200");
        assert_eq!(response.metadata["status"], "200 OK");
        assert_eq!(response.metadata["X-Several"], "a, b");
        assert_eq!(response.metadata["Content-Type"], "application/json");
    }
    let response = invoke(&binding, "head", &[], "").await.unwrap();
    assert_eq!(response.data.unwrap(), "");
    let failed = invoke(&binding, "connect", &[], "").await.unwrap_err();
    assert_eq!(failed.error.to_string(), "invalid operation: connect");
    assert_eq!(binding.operations().len(), 9);
}

#[tokio::test]
async fn capital_metadata_trace_context_and_token_are_headers() {
    let url = format!("http://me:pass@{}", server().await);
    let pairs = [
        ("url", url.as_str()),
        ("securityTokenHeader", "X-Token"),
        ("securityToken", "t0k"),
        ("errorIfNot2XX", "no"),
    ];
    let binding = open(&pairs).await.unwrap();
    let metadata = [
        ("Content-Type", "text/plain"),
        ("X-Own", "1"),
        ("lower", "2"),
        ("Traceparent", "mine"),
        ("traceparent", "theirs"),
        ("baggage", "k=v"),
        ("Host", "elsewhere"),
    ];
    let headers = asked(&invoke(&binding, "post", &metadata, "x").await.unwrap())["headers"].clone();
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-own", "1"),
        ("traceparent", "theirs"),
        ("baggage", "k=v"),
        ("x-token", "t0k"),
        ("authorization", "Basic bWU6cGFzcw=="),
    ] {
        assert_eq!(headers[name], value);
    }
    assert!(headers.get("lower").is_none());
    assert!(headers["host"].as_str().unwrap().starts_with("127.0.0.1:"));
    let failed = invoke(&binding, "post", &[("X-Bad", "a\nb")], "")
        .await
        .unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::InvalidRequest);
    assert!(!format!("{binding:?}").contains("t0k"));
}

#[tokio::test]
async fn other_statuses_are_errors_with_their_answer_unless_told_otherwise() {
    let url = format!("http://{}", server().await);
    let binding = open(&[("url", &url)]).await.unwrap();
    let failed = invoke(&binding, "get", &[("path", "status/404")], "")
        .await
        .unwrap_err();
    assert_eq!(failed.error.to_string(), "received status code 404");
    assert_eq!(failed.error.kind(), ErrorKind::Status(404));
    let response = failed.response.unwrap();
    assert_eq!(response.metadata["status"], "404 Not Found");
    assert_eq!(response.data.unwrap(), "no luck");
    let response = invoke(
        &binding,
        "get",
        &[("path", "status/500"), ("errorIfNot2XX", "false")],
        "",
    )
    .await
    .unwrap();
    assert_eq!(response.metadata["statusCode"], "500");
    let binding = open(&[("url", &url), ("errorIfNot2XX", "false")]).await.unwrap();
    assert!(
        invoke(&binding, "get", &[("path", "status/404")], "")
            .await
            .is_ok()
    );
    assert!(
        invoke(
            &binding,
            "get",
            &[("path", "status/404"), ("errorIfNot2XX", "1")],
            ""
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn redirects_are_followed_as_go_does() {
    let url = format!("http://{}", server().await);
    let binding = open(&[("url", &url)]).await.unwrap();
    for (status, method, body) in [
        ("302", "GET", ""),
        ("303", "GET", ""),
        ("307", "PUT", "data"),
        ("308", "PUT", "data"),
    ] {
        let path = format!("redirect/{status}");
        let asked = asked(&invoke(&binding, "put", &[("path", &path)], "data").await.unwrap());
        assert_eq!(
            (asked["method"].as_str(), asked["body"].as_str()),
            (Some(method), Some(body))
        );
        assert_eq!(asked["uri"], "/target?x=1");
    }
    let failed = invoke(&binding, "get", &[("path", "loop")], "")
        .await
        .unwrap_err();
    assert_eq!(failed.error.to_string(), "stopped after 10 redirects");
}

#[tokio::test]
async fn answers_are_bounded_in_time_and_size() {
    let url = format!("http://{}", server().await);
    let binding = open(&[("url", &url), ("maxResponseBodySize", "2")])
        .await
        .unwrap();
    let response = invoke(&binding, "get", &[("path", "status/200")], "")
        .await
        .unwrap();
    assert_eq!(response.data.unwrap(), "no");
    let binding = open(&[("url", &url), ("maxResponseBodySize", "0")])
        .await
        .unwrap();
    assert_eq!(
        invoke(&binding, "get", &[("path", "status/200")], "")
            .await
            .unwrap()
            .data
            .unwrap(),
        "no luck"
    );
    let binding = open(&[("url", &url), ("responseTimeout", "50ms")]).await.unwrap();
    let call = invoke(&binding, "get", &[("path", "silent")], "");
    let failed = tokio::time::timeout(Duration::from_secs(20), call)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (failed.error.kind(), failed.error.message()),
        (ErrorKind::Timeout, "context deadline exceeded")
    );
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
    drop(listener);
    let binding = open(&[("url", &url)]).await.unwrap();
    let failed = invoke(&binding, "get", &[], "").await.unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::Unavailable);
    assert!(!failed.error.chain().contains("secret"));
    for url in ["", "not a url", "ftp://x"] {
        let binding = open(&[("url", url)]).await.unwrap();
        assert_eq!(
            invoke(&binding, "get", &[], "").await.unwrap_err().error.kind(),
            ErrorKind::InvalidRequest
        );
    }
}

#[tokio::test]
async fn metadata_is_checked() {
    for (name, value) in [
        ("maxResponseBodySize", "lots"),
        ("responseTimeout", "soon"),
        ("MTLSRenegotiation", "sometimes"),
        ("MTLSRootCA", "/absent.pem"),
        (
            "MTLSRootCA",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        ),
    ] {
        let error = open(&[("url", "https://localhost"), (name, value)])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{name}");
    }
}

struct Issued {
    ca: String,
    certificate: String,
    key: String,
}

/// An authority and a certificate for `localhost` and `service.test` that serves both sides.
fn issued() -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned(), "service.test".to_owned()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    Issued {
        ca: ca.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// A server that wants a client certificate of the authority.
async fn tls_server(issued: &Issued) -> SocketAddr {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(issued.ca.as_bytes()).unwrap())
        .unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor.accept(stream).await {
                    Ok(stream) => serve_on(stream).await,
                    Err(error) => drop(error),
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn certificates_come_as_text_or_file() {
    let issued = issued();
    let url = format!("https://localhost:{}/x", tls_server(&issued).await.port());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (ca, certificate, key) = (
        file("ca", &issued.ca),
        file("cert", &issued.certificate),
        file("key", &issued.key),
    );
    for (ca, certificate, key) in [
        (&issued.ca, &issued.certificate, &issued.key),
        (&ca, &certificate, &key),
    ] {
        let pairs = [
            ("url", url.as_str()),
            ("MTLSRootCA", ca),
            ("MTLSClientCert", certificate),
            ("MTLSClientKey", key),
        ];
        let binding = open(&pairs).await.unwrap();
        assert_eq!(
            asked(&invoke(&binding, "get", &[], "").await.unwrap())["uri"],
            "/x"
        );
    }
    // No client certificate, and an authority that is not trusted.
    for pairs in [
        vec![("url", url.as_str()), ("MTLSRootCA", &issued.ca)],
        vec![("url", url.as_str())],
    ] {
        let binding = open(&pairs).await.unwrap();
        assert_eq!(
            invoke(&binding, "get", &[], "").await.unwrap_err().error.kind(),
            ErrorKind::Unavailable
        );
    }
}

#[tokio::test]
async fn a_cut_answer_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 Fine By Me\r\ncontent-length: 10\r\n\r\nhalf")
            .await
            .unwrap();
    });
    let binding = open(&[("url", &url)]).await.unwrap();
    assert!(invoke(&binding, "get", &[], "").await.is_err());
}

#[tokio::test]
async fn it_behaves_as_every_output() {
    let url = format!("http://{}", server().await);
    suite::output(&open(&[("url", &url)]).await.unwrap()).await;
}
