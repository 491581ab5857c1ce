//! Calls by a proxy: names that no resolver knows, so that nothing arrives but by it.

use std::sync::Mutex;

use outrigger_types::Environment;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::*;

const CREDENTIALS: &str = "anna:hush-hush";
/// The same for HTTP.
const BASIC: &str = "proxy-authorization: basic yw5uytpodxnolwh1c2g=";

/// A proxy that leads everything to one server, and what it was asked.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Speaks HTTP; answers 407 to who shows no credentials.
    async fn http(server: SocketAddr) -> Self {
        Self::start(move |mut client: TcpStream| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.ok()?);
            }
            let text = String::from_utf8_lossy(&head).to_lowercase();
            if !text.contains(BASIC) {
                let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                client.write_all(refused).await.ok()?;
                return Some((text, client, None));
            }
            let mut to = TcpStream::connect(server).await.ok()?;
            if text.starts_with("connect ") {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            } else {
                to.write_all(&head).await.ok()?;
            }
            Some((text, client, Some(to)))
        })
        .await
    }

    /// Speaks SOCKS 5 (RFC 1928) with user and password (RFC 1929).
    async fn socks(server: SocketAddr) -> Self {
        Self::start(move |mut client: TcpStream| async move {
            let mut methods = vec![0; usize::from(client.read_u16().await.ok()? & 0xff)];
            client.read_exact(&mut methods).await.ok()?;
            client.write_all(&[5, 2]).await.ok()?;
            client.read_u8().await.ok()?;
            let mut text = String::new();
            for _ in 0..2 {
                text += &word(&mut client).await?;
                text.push(':');
            }
            client.write_all(&[1, 0]).await.ok()?;
            client.read_u32().await.ok()?;
            text += &word(&mut client).await?;
            text += &format!(":{}", client.read_u16().await.ok()?);
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
            let to = TcpStream::connect(server).await.ok()?;
            Some((text, client, Some(to)))
        })
        .await
    }

    async fn start<F, W>(greet: F) -> Self
    where
        F: Fn(TcpStream) -> W + Send + Sync + 'static,
        W: Future<Output = Option<(String, TcpStream, Option<TcpStream>)>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, greet) = (Arc::clone(&heads), Arc::new(greet));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, greet) = (Arc::clone(&seen), Arc::clone(&greet));
                tokio::spawn(async move {
                    if let Some((head, mut client, to)) = greet(client).await {
                        seen.lock().unwrap().push(head);
                        if let Some(mut to) = to {
                            let _ = copy_bidirectional(&mut client, &mut to).await;
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A text with its length before it.
async fn word(client: &mut TcpStream) -> Option<String> {
    let mut word = vec![0; usize::from(client.read_u8().await.ok()?)];
    client.read_exact(&mut word).await.ok()?;
    String::from_utf8(word).ok()
}

async fn open_in(pairs: &[(&str, &str)], variables: &[(&str, &str)]) -> Arc<dyn DynOutputBinding> {
    let spec = Spec {
        name: "h".into(),
        type_name: "bindings.http".into(),
        version: "v1".into(),
        properties: Properties::from_pairs(pairs.iter().copied()),
    };
    let mut host = Host::new("app", "/");
    host.environment = Environment::from_pairs(variables.iter().copied());
    let binding = (HTTP.validate)(&spec).unwrap().run(host).await.unwrap();
    binding.output.clone().unwrap()
}

#[tokio::test]
async fn requests_in_the_clear_name_the_whole_address() {
    let proxy = Proxy::http(server().await).await;
    let address = format!("http://{CREDENTIALS}@{}", proxy.address);
    let binding = open_in(&[("url", "http://service.test/x")], &[("http_proxy", &address)]).await;
    let answer = invoke(&binding, "post", &[], "body").await.unwrap();
    assert_eq!(asked(&answer)["body"], "body");
    assert_eq!(asked(&answer)["headers"]["host"], "service.test");
    let heads = proxy.heads();
    assert!(
        heads[0].starts_with("post http://service.test/x http/1.1\r\n"),
        "{heads:?}"
    );
    assert!(heads[0].contains(BASIC), "{heads:?}");
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let issued = issued();
    let proxy = Proxy::http(tls_server(&issued).await).await;
    let address = format!("{CREDENTIALS}@{}", proxy.address);
    let pairs = [
        ("url", "https://service.test/x"),
        ("MTLSRootCA", &issued.ca),
        ("MTLSClientCert", &issued.certificate),
        ("MTLSClientKey", &issued.key),
    ];
    let binding = open_in(&pairs, &[("HTTPS_PROXY", &address)]).await;
    let answer = asked(&invoke(&binding, "get", &[], "").await.unwrap());
    assert_eq!(answer["uri"], "/x");
    assert!(answer["headers"]["proxy-authorization"].is_null(), "{answer}");
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1);
    assert!(
        heads[0].starts_with("connect service.test:443 http/1.1\r\n"),
        "{heads:?}"
    );
}

#[tokio::test]
async fn socks_proxies_resolve_the_name() {
    let proxy = Proxy::socks(server().await).await;
    let address = format!("socks5://{CREDENTIALS}@{}", proxy.address);
    let binding = open_in(
        &[("url", "http://service.test:81/x")],
        &[("HTTP_PROXY", &address)],
    )
    .await;
    let answer = asked(&invoke(&binding, "get", &[], "").await.unwrap());
    assert_eq!(answer["uri"], "/x");
    assert!(answer["headers"]["proxy-authorization"].is_null(), "{answer}");
    assert_eq!(proxy.heads(), [format!("{CREDENTIALS}:service.test:81")]);
}

#[tokio::test]
async fn loopback_is_never_proxied() {
    let server = server().await;
    let proxy = Proxy::http(server).await;
    let address = format!("http://{}", proxy.address);
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{}/x", server.port());
        let binding = open_in(&[("url", &url)], &[("HTTP_PROXY", &address)]).await;
        invoke(&binding, "get", &[], "").await.unwrap();
    }
    assert!(proxy.heads().is_empty());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_error_without_credentials() {
    let proxy = Proxy::http(server().await).await;
    let address = format!("http://anna:wr0ng-word@{}", proxy.address);
    let binding = open_in(&[("url", "https://service.test/")], &[("HTTPS_PROXY", &address)]).await;
    let error = invoke(&binding, "get", &[], "").await.unwrap_err().error;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = format!("{} {error:?}", error.chain());
    assert!(told.contains(&proxy.address.to_string()), "{told}");
    assert!(!told.contains("wr0ng") && !told.contains("anna"), "{told}");
}
