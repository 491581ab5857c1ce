//! Fetching from servers and resolvers that mean ill (F2).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use outrigger_platform_fetch::{AllowedHosts, FetchError, Fetcher, Limits, Refusal, Resolve};
use rustls::RootCertStore;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Answers each name's addresses in turn, the last one for ever.
#[derive(Debug, Default)]
struct Answers {
    names: HashMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Answers {
    fn with(mut self, name: &'static str, answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        self.names.insert(name, answers.iter().map(parse).collect());
        self
    }
}

impl Resolve for Answers {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let at = self.asked.fetch_add(1, Relaxed);
        let answers = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(answers[at.min(answers.len() - 1)].clone())
    }
}

/// A server that answers every request with this text, and counts them.
async fn server(at: &str, answer: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, count) = (answer.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let _ = stream.read(&mut head).await;
                count.fetch_add(1, Relaxed);
                let _ = stream.write_all(answer.as_bytes()).await;
                // Kept open, so that only limits end what has no end.
                let _ = stream.read(&mut head).await;
            });
        }
    });
    (address, requests)
}

fn document(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/x-python\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

fn fetcher(answers: Answers, allowed: &str) -> Fetcher<Answers> {
    let limits = Limits {
        allowed_hosts: AllowedHosts::parse(allowed),
        max_bytes: 1000,
        deadline: Duration::from_secs(5),
        max_redirects: 3,
    };
    Fetcher::with(limits, answers, RootCertStore::empty()).unwrap()
}

fn is_inner(error: &FetchError) -> bool {
    matches!(error, FetchError::Refused(Refusal::Inner { .. }))
}

#[tokio::test]
async fn an_allowed_host_is_fetched() {
    let (address, _) = server("127.0.0.1:0", document("def run(): pass")).await;
    let answers = Answers::default().with("code.test", &[&["127.0.0.1"]]);
    let fetched = fetcher(answers, "code.test")
        .get(&format!("http://code.test:{}/worker.py", address.port()))
        .await
        .unwrap();
    assert_eq!(fetched.bytes, "def run(): pass");
    assert_eq!(fetched.content_type.as_deref(), Some("text/x-python"));
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_and_nobody_is_asked() {
    let (address, requests) = server("127.0.0.1:0", document("secret")).await;
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["10.0.0.1"],
        // One good address does not make up for another.
        &["93.184.215.14", "127.0.0.1"],
    ] {
        let answers = Answers::default().with("evil.test", &[answer]);
        let url = format!("http://evil.test:{}/", address.port());
        let error = fetcher(answers, "").get(&url).await.unwrap_err();
        assert!(is_inner(&error), "{answer:?}: {error}");
        assert!(!error.to_string().contains(answer[0]), "{error}");
    }
    assert_eq!(requests.load(Relaxed), 0);
}

/// DNS rebinding: the first answer is checked, the second would be used.
#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_asked() {
    let (first, asked) = server("127.0.0.1:0", document("first")).await;
    let second = format!("127.0.0.2:{}", first.port());
    let (_, other) = server(&second, document("second")).await;
    let answers = Answers::default().with("rebinding.test", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let fetched = fetcher(answers, "rebinding.test")
        .get(&format!("http://rebinding.test:{}/", first.port()))
        .await
        .unwrap();
    assert_eq!(fetched.bytes, "first");
    assert_eq!((asked.load(Relaxed), other.load(Relaxed)), (1, 0));
}

#[tokio::test]
async fn redirects_are_checked_like_the_first_url() {
    let (inner, requests) = server("127.0.0.1:0", document("secret")).await;
    let inner = inner.port();
    for (location, is_refused) in [
        (format!("http://127.0.0.1:{inner}/"), true),
        (format!("http://inner.test:{inner}/"), true),
        (format!("//0x7f.1:{inner}/"), true),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), true),
        ("file:///etc/passwd".to_owned(), true),
        (format!("http://a@allowed.test:{inner}/"), true),
        (format!("http://allowed.test:{inner}/"), false),
    ] {
        let (address, _) = server("127.0.0.1:0", redirect(&location)).await;
        let answers = Answers::default()
            .with("allowed.test", &[&["127.0.0.1"]])
            .with("inner.test", &[&["127.0.0.1"]]);
        let url = format!("http://allowed.test:{}/", address.port());
        let before = requests.load(Relaxed);
        let outcome = fetcher(answers, "allowed.test").get(&url).await;
        assert_eq!(
            matches!(outcome, Err(FetchError::Refused(_))),
            is_refused,
            "{location}: {outcome:?}"
        );
        assert_eq!(
            requests.load(Relaxed) - before,
            usize::from(!is_refused),
            "{location}"
        );
    }
}

/// The second answer of the resolver is for the second hop, and is checked anew.
#[tokio::test]
async fn a_redirect_to_the_same_name_is_resolved_and_checked_again() {
    let (address, requests) = server("127.0.0.1:0", document("secret")).await;
    let (start, _) = server(
        "127.0.0.1:0",
        redirect(&format!("http://turning.test:{}/", address.port())),
    )
    .await;
    // Only the port of the first server is allowed.
    let allowed = format!("turning.test:{}", start.port());
    let answers = Answers::default().with("turning.test", &[&["127.0.0.1"]]);
    let url = format!("http://turning.test:{}/", start.port());
    let error = fetcher(answers, &allowed).get(&url).await.unwrap_err();
    assert!(is_inner(&error), "{error}");
    assert_eq!(requests.load(Relaxed), 0);
}

#[tokio::test]
async fn redirects_end() {
    let (address, requests) = server("127.0.0.1:0", redirect("/again")).await;
    let answers = Answers::default().with("loop.test", &[&["127.0.0.1"]]);
    let url = format!("http://loop.test:{}/", address.port());
    let error = fetcher(answers, "loop.test").get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Redirects(3)), "{error}");
    assert_eq!(requests.load(Relaxed), 4);
}

#[tokio::test]
async fn documents_have_a_bound() {
    let declared = "HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n".to_owned();
    let endless = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("190\r\n{}\r\n", "x".repeat(400)).repeat(4)
    );
    for answer in [declared, endless] {
        let (address, _) = server("127.0.0.1:0", answer).await;
        let answers = Answers::default().with("large.test", &[&["127.0.0.1"]]);
        let url = format!("http://large.test:{}/", address.port());
        let error = fetcher(answers, "large.test").get(&url).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge(1000)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_left() {
    let (address, _) = server("127.0.0.1:0", String::new()).await;
    let answers = Answers::default().with("silent.test", &[&["127.0.0.1"]]);
    let url = format!("http://silent.test:{}/", address.port());
    let error = fetcher(answers, "silent.test").get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn failures_are_told_apart() {
    let (address, _) = server(
        "127.0.0.1:0",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    )
    .await;
    let answers = || Answers::default().with("there.test", &[&["127.0.0.1"]]);
    let get = async |url: String| {
        fetcher(answers(), "there.test,nowhere.test")
            .get(&url)
            .await
            .unwrap_err()
    };
    let missing = get(format!("http://there.test:{}/", address.port())).await;
    assert!(
        matches!(missing, FetchError::Status(status) if status == 404),
        "{missing}"
    );
    let unknown = get("http://nowhere.test/".to_owned()).await;
    assert!(
        matches!(&unknown, FetchError::Unknown(host) if host == "nowhere.test"),
        "{unknown}"
    );
    // Nobody listens there any more.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let unreachable = get(format!("http://there.test:{}/", closed.port())).await;
    assert!(
        matches!(unreachable, FetchError::Unreachable { .. }),
        "{unreachable}"
    );
    // A server without a certificate is not asked in plain text instead.
    let plain = get(format!("https://there.test:{}/", address.port())).await;
    assert!(matches!(plain, FetchError::Unreachable { .. }), "{plain}");
}

/// A server that tells the request's head on a channel.
async fn listening(answer: String) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let _ = sender.send(String::from_utf8_lossy(&head[..length]).to_ascii_lowercase());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_credential_is_for_its_host_alone() {
    let (end, mut ends) = listening(document("x")).await;
    let (start, mut starts) = listening(redirect(&format!("http://end.test:{}/", end.port()))).await;
    let answers = Answers::default()
        .with("start.test", &[&["127.0.0.1"]])
        .with("end.test", &[&["127.0.0.1"]]);
    let credential = outrigger_platform_fetch::Credential::bearer("s3cret").unwrap();
    assert_eq!(format!("{credential:?}"), "Credential");
    fetcher(answers, "start.test,end.test")
        .get_as(&format!("http://start.test:{}/", start.port()), Some(&credential))
        .await
        .unwrap();
    let asked = starts.recv().await.unwrap();
    assert!(asked.contains("authorization: bearer s3cret"), "{asked}");
    let asked = ends.recv().await.unwrap();
    assert!(!asked.contains("authorization"), "{asked}");
}
