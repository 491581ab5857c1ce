//! When an app and its sidecar count as up, and which of a run do (requirement D5).

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long an app may take for one look at it.
const ANSWER: Duration = Duration::from_secs(2);

/// How to tell that an app is ready: it takes connections, and its health path answers where the sidecar asks that too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppProbe {
    pub(super) host: String,
    pub(super) port: u16,
    /// Only of HTTP apps with health checks.
    pub(super) health_path: Option<String>,
}

impl AppProbe {
    /// Whether the app is ready now.
    pub(super) async fn is_ready(&self) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            let Some(path) = &self.health_path else {
                return Ok(true);
            };
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n\r\n",
                self.host, self.port
            );
            stream.write_all(request.as_bytes()).await?;
            let mut head = [0; 12];
            stream.read_exact(&mut head).await?;
            Ok::<_, std::io::Error>(head.starts_with(b"HTTP/1.") && head[9] == b'2')
        };
        matches!(timeout(ANSWER, asked).await, Ok(Ok(true)))
    }
}

/// The instances of a run that were not healthy yet, by their labels.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<BTreeSet<String>>);

impl Readiness {
    /// None is.
    pub(super) fn of(labels: impl IntoIterator<Item = String>) -> Self {
        Self(Mutex::new(labels.into_iter().collect()))
    }

    /// This one is. One that dies later on is not waited for again: that is what `restart` is for.
    pub(super) fn is_up(&self, label: &str) {
        self.waiting().remove(label);
    }

    /// Those that are not.
    pub(super) fn missing(&self) -> Vec<String> {
        self.waiting().iter().cloned().collect()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_app_is_ready_when_its_health_path_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = |path: Option<&str>| AppProbe {
            host: "127.0.0.1".to_owned(),
            port,
            health_path: path.map(str::to_owned),
        };
        assert!(probe(None).is_ready().await);
        let serve = async {
            // The first connection was the look at the port.
            let _ = listener.accept().await.unwrap();
            for answer in ["HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(&request, b"GET /ready HTTP/");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let look = async {
            let probe = probe(Some("/ready"));
            (probe.is_ready().await, probe.is_ready().await)
        };
        let (seen, ()) = tokio::join!(look, serve);
        assert_eq!(seen, (false, true));
        drop(listener);
        assert!(!probe(None).is_ready().await);
    }
}
