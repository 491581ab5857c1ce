//! Against the server named by `OUTRIGGER_TEST_VAULT` (token `root`); what needs none runs always.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::Method;
use outrigger_component::{ErrorKind, Host, Metadata, Properties, SecretString, Spec};
use outrigger_http_client::TlsOptions;
use outrigger_secrets::{Secret, SharedSecretStore, suite};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{VAULT, client::Client};

/// The server's address, or a printed reason.
#[allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a test's own")]
fn server() -> Option<String> {
    let address = std::env::var("OUTRIGGER_TEST_VAULT").ok();
    if address.is_none() {
        eprintln!("skipped: OUTRIGGER_TEST_VAULT is not set (cargo xtask services)");
    }
    address
}

async fn try_open(
    pairs: &[(&str, &str)],
    folder: &std::path::Path,
) -> Result<SharedSecretStore, outrigger_component::Error> {
    let spec = Spec {
        name: "vault".into(),
        type_name: "secretstores.hashicorp.vault".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    (VAULT.validate)(&spec)?.run(Host::new("app", folder)).await
}

async fn open(address: &str, prefix: &str, pairs: &[(&str, &str)]) -> SharedSecretStore {
    let basics = [
        ("vaultAddr", address),
        ("vaultToken", "root"),
        ("vaultKVPrefix", prefix),
    ];
    let all: Vec<_> = basics.into_iter().chain(pairs.iter().copied()).collect();
    try_open(&all, ".".as_ref()).await.unwrap()
}

/// A folder of this test alone in the shared server.
fn folder() -> String {
    format!("test-{}", uuid::Uuid::new_v4().simple())
}

async fn call(method: Method, address: &str, path: &str, body: &str) {
    let answer = Client::new(TlsOptions::default())
        .unwrap()
        .call(
            &method,
            &format!("{address}/v1/{path}"),
            &"root".into(),
            Bytes::from(body.to_owned()),
        )
        .await
        .unwrap();
    assert!(answer.status.is_success(), "{path}: {answer:?}");
}

async fn put(address: &str, path: &str, data: &str) {
    call(
        Method::POST,
        address,
        &format!("secret/data/{path}"),
        &format!("{{\"data\": {data}}}"),
    )
    .await;
}

fn plain(secret: &Secret) -> BTreeMap<&str, &str> {
    secret
        .iter()
        .map(|(key, value)| (key.as_str(), value.expose()))
        .collect()
}

fn version(number: &str) -> Metadata {
    Metadata::from([("version_id".to_owned(), number.to_owned())])
}

#[tokio::test]
async fn it_behaves_as_every_store() {
    let Some(address) = server() else { return };
    let prefix = folder();
    put(
        &address,
        &format!("{prefix}/db"),
        r#"{"user": "hunter2", "pass": "hunter3"}"#,
    )
    .await;
    put(&address, &format!("{prefix}/deep/er/key"), r#"{"k": "hunter4"}"#).await;
    // Its name in an address; in the store it is `odd ?#%2F ü`.
    put(
        &address,
        &format!("{prefix}/odd%20%3F%23%252F%20%C3%BC"),
        r#"{"k": "hunter5"}"#,
    )
    .await;
    let pair = |key: &str, value: &str| (key.to_owned(), SecretString::from(value));
    let held = BTreeMap::from([
        (
            "db".to_owned(),
            Secret::from([pair("user", "hunter2"), pair("pass", "hunter3")]),
        ),
        ("deep/er/key".to_owned(), Secret::from([pair("k", "hunter4")])),
        ("odd ?#%2F ü".to_owned(), Secret::from([pair("k", "hunter5")])),
    ]);
    let store = open(&address, &prefix, &[]).await;
    assert!(store.multi_valued());
    suite::run(&store, &held, suite::Absent::NotFound).await;
    assert_eq!(store.all(&Metadata::new()).await.unwrap().len(), 3);
}

#[tokio::test]
async fn versions_are_kept_and_deleted_ones_are_not_found() {
    let Some(address) = server() else { return };
    let prefix = folder();
    for value in ["one", "two"] {
        put(
            &address,
            &format!("{prefix}/v"),
            &format!(r#"{{"k": "{value}"}}"#),
        )
        .await;
    }
    put(&address, &format!("{prefix}/gone"), r#"{"k": "x"}"#).await;
    call(
        Method::DELETE,
        &address,
        &format!("secret/data/{prefix}/gone"),
        "",
    )
    .await;
    let store = open(&address, &prefix, &[]).await;
    for (number, value) in [("0", "two"), ("1", "one"), ("2", "two")] {
        let secret = store.get("v", &version(number)).await.unwrap();
        assert_eq!(plain(&secret), BTreeMap::from([("k", value)]));
    }
    let absent = store.get("v", &version("3")).await.unwrap_err();
    assert_eq!(
        (absent.kind(), absent.to_string().as_str()),
        (
            ErrorKind::NotFound,
            "getSecret v failed secret key or version not exist"
        )
    );
    let deleted = store.get("gone", &Metadata::new()).await.unwrap_err();
    assert_eq!(deleted.kind(), ErrorKind::NotFound);
    let all = store.all(&Metadata::new()).await.unwrap();
    assert!(all.keys().eq(["v"]), "a deleted secret is left out");
}

#[tokio::test]
async fn a_text_is_the_whole_secret_as_json() {
    let Some(address) = server() else { return };
    let prefix = folder();
    put(&address, &format!("{prefix}/t"), r#"{"n": 1, "s": "hunter2"}"#).await;
    let store = open(&address, &prefix, &[("vaultValueType", "text")]).await;
    assert!(!store.multi_valued());
    let secret = store.get("t", &Metadata::new()).await.unwrap();
    assert_eq!(
        plain(&secret),
        BTreeMap::from([("t", r#"{"n":1,"s":"hunter2"}"#)])
    );
    // As several keys it cannot be read: a value is a number. Nothing of it is in the error.
    let map = open(&address, &prefix, &[]).await;
    let error = map.get("t", &Metadata::new()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("couldn't decode response body"),
        "{error}"
    );
    assert!(!error.chain().contains("hunter2"));
}

#[tokio::test]
async fn prefix_engine_and_token_file_are_as_configured() {
    let Some(address) = server() else { return };
    let (prefix, engine) = (folder(), folder());
    call(
        Method::POST,
        &address,
        &format!("sys/mounts/{engine}"),
        r#"{"type": "kv", "options": {"version": "2"}}"#,
    )
    .await;
    call(
        Method::POST,
        &address,
        &format!("{engine}/data/{prefix}/k"),
        r#"{"data": {"a": "b"}}"#,
    )
    .await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    std::fs::write(&file, " root\n").unwrap();
    let store = try_open(
        &[
            ("vaultAddr", &format!("{address}/")),
            ("vaultTokenMountPath", "token"),
            ("vaultKVUsePrefix", "false"),
            ("enginePath", &engine),
        ],
        home.path(),
    )
    .await
    .unwrap();
    let name = format!("{prefix}/k");
    let secret = store.get(&name, &Metadata::new()).await.unwrap();
    assert_eq!(plain(&secret), BTreeMap::from([("a", "b")]));
    assert!(store.all(&Metadata::new()).await.unwrap().keys().eq([&name]));
    // A rotated token is seen.
    std::fs::write(&file, "wrong").unwrap();
    let refused = store.get(&name, &Metadata::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    assert!(
        refused
            .to_string()
            .starts_with("couldn't get successful response, status code 403, body {"),
        "{refused}"
    );
    call(Method::DELETE, &address, &format!("sys/mounts/{engine}"), "").await;
}

#[tokio::test]
async fn an_empty_folder_is_upstreams_error_and_a_step_up_is_refused() {
    let Some(address) = server() else { return };
    let prefix = folder();
    let store = open(&address, &prefix, &[]).await;
    let error = store.all(&Metadata::new()).await.unwrap_err();
    assert!(
        error.to_string().starts_with(
            "list keys couldn't get successful response, status code: 404, status: 404 Not Found, response {"
        ),
        "{error}"
    );
    let other = folder();
    put(&address, &format!("{other}/k"), r#"{"a": "b"}"#).await;
    let up = store.get(&format!("../{other}/k"), &Metadata::new()).await;
    assert_eq!(up.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn metadata_is_checked_in_upstreams_words() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("empty.pem"), "no certificate").unwrap();
    for (pairs, text) in [
        (vec![], "token mount path and token not set"),
        (
            vec![("vaultToken", "t"), ("vaultTokenMountPath", "f")],
            "token mount path and token both set",
        ),
        (
            vec![("vaultToken", "t"), ("vaultValueType", "list")],
            "vault init error, invalid value type list, accepted values are map or text",
        ),
        (
            vec![("vaultTokenMountPath", "absent")],
            "couldn't read vault token from mount path absent err: ",
        ),
        (
            vec![("vaultToken", "t"), ("caPem", "x")],
            "couldn't create client using config: couldn't read PEM",
        ),
        (
            vec![("vaultToken", "t"), ("caCert", "absent.pem")],
            "couldn't create client using config: couldn't read CA file from disk",
        ),
        (
            vec![("vaultToken", "t"), ("caPath", ".")],
            "couldn't create client using config: couldn't read PEM",
        ),
    ] {
        let error = try_open(&pairs, home.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

/// A server with a certificate of its own for the name `vault.test`, and an answer for every request.
async fn secure_server() -> (String, String, tokio::task::JoinHandle<()>) {
    let key = rcgen::generate_simple_self_signed(["vault.test".to_owned()]).unwrap();
    let pem = key.cert.pem();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls_pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
            )
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 4096]).await;
            let body = r#"{"data": {"data": {"k": "v"}}}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (address, pem, task)
}

#[tokio::test]
async fn certificates_are_checked_as_configured() {
    let (address, pem, task) = secure_server().await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("sub")).unwrap();
    std::fs::write(home.path().join("sub/ca.pem"), &pem).unwrap();
    let named = ("tlsServerName", "vault.test");
    for (pairs, trusted) in [
        (vec![("caPem", pem.as_str()), named], true),
        (vec![("caPath", "."), named], true),
        (vec![("caCert", "sub/ca.pem"), named], true),
        (vec![("skipVerify", "true")], true),
        // The address is no name of the certificate's.
        (vec![("caPem", pem.as_str())], false),
        (vec![named], false),
    ] {
        let mut all = vec![("vaultAddr", address.as_str()), ("vaultToken", "t")];
        all.extend(pairs.clone());
        let store = try_open(&all, home.path()).await.unwrap();
        let read = store.get("name", &Metadata::new()).await;
        match read {
            Ok(secret) => assert!(trusted && plain(&secret) == BTreeMap::from([("k", "v")])),
            Err(error) => {
                assert!(!trusted, "{pairs:?}: {}", error.chain());
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(
                    error.chain().starts_with("couldn't get secret: "),
                    "{}",
                    error.chain()
                );
            }
        }
    }
    task.abort();
}

/// A plain server that gives one answer to every request.
async fn plain_server(answer: String) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                // The client may have enough of it before the end.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn answers_and_redirects_are_bounded() {
    let large = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n{}",
        "x".repeat(20_000_000)
    );
    let ring =
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/again\r\nContent-Length: 0\r\n\r\n".to_owned();
    for (answer, kind) in [(large, ErrorKind::Exhausted), (ring, ErrorKind::Unavailable)] {
        let (address, task) = plain_server(answer).await;
        let store = open(&address, "p", &[]).await;
        let error = store.get("name", &Metadata::new()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.chain());
        task.abort();
    }
}

#[tokio::test]
async fn a_redirect_leads_to_the_active_node() {
    let body = r#"{"data": {"data": {"k": "v"}}}"#;
    let (active, first) = plain_server(format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let (standby, second) = plain_server(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nConnection: close\r\nLocation: {active}/v1/secret/data/p/name\r\nContent-Length: 0\r\n\r\n"
    ))
    .await;
    let store = open(&standby, "p", &[]).await;
    let secret = store.get("name", &Metadata::new()).await.unwrap();
    assert_eq!(plain(&secret), BTreeMap::from([("k", "v")]));
    first.abort();
    second.abort();
}
