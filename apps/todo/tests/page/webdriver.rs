//! Just enough of WebDriver over HTTP to drive headless Chromium.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::client::Visitor;
use super::until;

const DRIVERS: [&str; 3] = [
    "chromedriver",
    "/usr/bin/chromedriver",
    "/usr/lib/chromium/chromedriver",
];
/// The key under which WebDriver names elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(crate) struct Browser {
    driver: Child,
    http: Visitor,
    session: String,
    /// Removed when the browser is gone.
    _profile: tempfile::TempDir,
}

/// A window of the browser.
#[derive(Debug, Clone)]
pub(crate) struct Window(String);

impl Browser {
    /// Starts Chromium; `None`, with a printed reason, where it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let mut started = None;
        for driver in DRIVERS {
            let spawned = Command::new(driver)
                .args(["--port=0", "--log-level=SEVERE"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            if let Ok(child) = spawned {
                started = Some(child);
                break;
            }
        }
        let Some(mut driver) = started else {
            println!("skipped: there is no chromedriver (Debian: apt-get install chromium-driver)");
            return None;
        };
        let output = driver.stdout.take().unwrap();
        let port = tokio::task::spawn_blocking(move || {
            BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .find_map(|line| {
                    let (_, port) = line.split_once("started successfully on port ")?;
                    port.trim_end_matches('.').parse::<u16>().ok()
                })
        })
        .await
        .unwrap()
        .expect("chromedriver says its port");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            http: Visitor::new(&format!("http://127.0.0.1:{port}")),
            session: String::new(),
            _profile: profile,
        };
        let folder = browser._profile.path().display().to_string();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1180,820",
            &format!("--user-data-dir={folder}"),
        ];
        let wishes = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
        }}});
        let answer = browser.http.post("/session", &wishes).await;
        let Some(session) = answer.body["value"]["sessionId"].as_str() else {
            println!(
                "skipped: Chromium does not start: {}",
                answer.body["value"]["message"]
            );
            return None;
        };
        browser.session = session.to_owned();
        Some(browser)
    }

    async fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let body = (method == "POST").then_some(body);
        let answer = self
            .http
            .send(method, &path, body, &[])
            .await
            .expect("chromedriver answers");
        assert_eq!(
            answer.status, 200,
            "{method} {path}: {}",
            answer.body["value"]["message"]
        );
        answer.body["value"].clone()
    }

    /// Opens an address in a window of its own; the first is the one the browser came with.
    pub(crate) async fn open(&self, url: &str, first: bool) -> Window {
        let handle = if first {
            self.command("GET", "/window", &json!({})).await
        } else {
            self.command("POST", "/window/new", &json!({"type": "window"}))
                .await["handle"]
                .clone()
        };
        let window = Window(handle.as_str().unwrap().to_owned());
        self.show(&window).await;
        self.command("POST", "/url", &json!({"url": url})).await;
        window
    }

    pub(crate) async fn show(&self, window: &Window) {
        self.command("POST", "/window", &json!({"handle": window.0}))
            .await;
    }

    /// Runs a script in a window; its value is the script's `return`.
    pub(crate) async fn run(&self, window: &Window, script: &str) -> Value {
        self.show(window).await;
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
            .await
    }

    /// Waits until an expression is true in a window.
    pub(crate) async fn wait(&self, window: &Window, expression: &str) {
        let script = format!("return Boolean({expression})");
        let shown = format!("{expression} in the page");
        until(&shown, async || {
            (self.run(window, &script).await == true).then_some(())
        })
        .await;
    }

    /// Types into whatever has the focus. Names of keys are WebDriver's code points.
    pub(crate) async fn keys(&self, window: &Window, keys: &str) {
        self.show(window).await;
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                [
                    json!({"type": "keyDown", "value": key}),
                    json!({"type": "keyUp", "value": key}),
                ]
            })
            .collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.command("POST", "/actions", &body).await;
    }

    pub(crate) async fn click(&self, window: &Window, selector: &str) {
        self.show(window).await;
        let find = json!({"using": "css selector", "value": selector});
        let found = self.command("POST", "/element", &find).await;
        let id = found[ELEMENT].as_str().unwrap().to_owned();
        self.command("POST", &format!("/element/{id}/click"), &json!({}))
            .await;
    }

    /// A picture of a window as PNG.
    pub(crate) async fn picture(&self, window: &Window) -> Vec<u8> {
        self.show(window).await;
        let picture = self.command("GET", "/screenshot", &json!({})).await;
        base64::engine::general_purpose::STANDARD
            .decode(picture.as_str().unwrap())
            .unwrap()
    }

    pub(crate) async fn close(self) {
        let path = format!("/session/{}", self.session);
        let end = self.http.send("DELETE", &path, None, &[]);
        let _ = tokio::time::timeout(Duration::from_secs(5), end).await;
    }
}

impl Drop for Browser {
    /// A failed test comes here with the browser open; chromedriver takes it along when it is asked to end.
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.driver.id().to_string()])
            .status();
        let _ = self.driver.wait();
    }
}
