//! Servers for the tests: the one `OUTRIGGER_TEST_REDIS` names, or one of a test's own.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use outrigger_component::Properties;
use redis::{ToRedisArgs, Value};

use crate::{
    link::{Link, Safety},
    settings::{Purpose, Settings},
};

/// The server for tests that leave it as it is; `None`, said aloud, where there is none.
pub(crate) fn server(test: &str) -> Option<String> {
    let server = std::env::var("OUTRIGGER_TEST_REDIS").ok();
    if server.is_none() {
        report(&format!("skipped: {test} needs OUTRIGGER_TEST_REDIS (host:port)"));
    }
    server
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn report(text: &str) {
    eprintln!("{text}");
}

/// Metadata for one database of a server. Tests run side by side: those that empty their database have one of
/// their own.
pub(crate) fn properties(server: &str, database: u8, pairs: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::from_pairs(pairs.iter().copied());
    properties.insert("redisHost", server);
    properties.insert("redisDB", database.to_string());
    properties
}

/// What a test looks at the server through.
#[derive(Debug, Clone)]
pub(crate) struct Raw(pub(crate) Link);

impl Raw {
    pub(crate) async fn open(server: &str, database: u8) -> Self {
        let settings = Settings::parse(&properties(server, database, &[]), Purpose::Binding).unwrap();
        Self(Link::open(settings).await.unwrap())
    }

    /// The same with an empty database.
    pub(crate) async fn emptied(server: &str, database: u8) -> Self {
        let raw = Self::open(server, database).await;
        raw.run(&["FLUSHDB"]).await;
        raw
    }

    /// The same without this key, for tests that share a database.
    pub(crate) async fn without(server: &str, database: u8, key: &str) -> Self {
        let raw = Self::open(server, database).await;
        raw.run(&["DEL", key]).await;
        raw
    }

    pub(crate) async fn run<A: ToRedisArgs>(&self, words: &[A]) -> Value {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        self.0.command(&command, Safety::Repeatable).await.unwrap()
    }

    /// The texts of an answer, in order.
    pub(crate) async fn texts(&self, words: &[&str]) -> Vec<String> {
        let mut texts = Vec::new();
        flatten(&self.run(words).await, &mut texts);
        texts
    }
}

fn flatten(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, texts)),
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::Int(number) => texts.push(number.to_string()),
        Value::SimpleString(text) => texts.push(text.clone()),
        Value::Okay => texts.push("OK".to_owned()),
        Value::Nil => texts.push("nil".to_owned()),
        other => panic!("{other:?}"),
    }
}

/// A server of a test's own, killed at its end.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) address: String,
    port: u16,
    arguments: Vec<String>,
    child: Child,
}

impl Own {
    /// Starts one in a folder; `None`, said aloud, where there is no program.
    pub(crate) async fn start(test: &str, folder: &Path, arguments: &[&str]) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut all: Vec<String> = ["--dir", &folder.display().to_string(), "--save", ""]
            .map(str::to_owned)
            .into();
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let Some(child) = spawn(port, &all) else {
            report(&format!("skipped: {test} needs the program redis-server"));
            return None;
        };
        let mut own = Self {
            address: format!("127.0.0.1:{port}"),
            port,
            arguments: all,
            child,
        };
        own.answers().await;
        Some(own)
    }

    /// Starts a Sentinel with this file.
    pub(crate) async fn start_sentinel(folder: &Path, file: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let arguments = vec![
            file.display().to_string(),
            "--sentinel".to_owned(),
            "--port".to_owned(),
            port.to_string(),
            "--bind".to_owned(),
            "127.0.0.1".to_owned(),
            "--dir".to_owned(),
            folder.display().to_string(),
        ];
        let mut own = Self {
            address: format!("127.0.0.1:{port}"),
            port,
            child: launch(&arguments)?,
            arguments,
        };
        own.answers().await;
        Some(own)
    }

    async fn answers(&mut self) {
        let settings = Settings::parse(&properties(&self.address, 0, &[]), Purpose::Binding).unwrap();
        let up = async {
            loop {
                match Link::open(settings.clone()).await {
                    Ok(link) if link.ping().await.is_ok() => return,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), up).await.unwrap();
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, on its old port and files.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.port, &self.arguments).unwrap();
        self.answers().await;
    }
}

fn spawn(port: u16, arguments: &[String]) -> Option<Child> {
    let mut all: Vec<String> = ["--port", &port.to_string(), "--bind", "127.0.0.1"]
        .map(str::to_owned)
        .into();
    all.extend_from_slice(arguments);
    launch(&all)
}

fn launch(arguments: &[String]) -> Option<Child> {
    Command::new("redis-server")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
