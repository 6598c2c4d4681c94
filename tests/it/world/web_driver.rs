//! A real browser: headless Chromium, driven by chromedriver over the `WebDriver` protocol.

use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::admin::until;

/// Key of an element's id (`WebDriver`, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// A running driver and its port. It ends by itself if the port that it was given is taken on the other loopback address.
async fn driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver: scripts/need-packages chromium chromium-driver");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            let port = port.trim_end_matches('.').parse().unwrap();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some((driver, port));
        }
    }
    None
}

/// A browser window with an empty profile.
pub(crate) struct Browser {
    _driver: Child,
    port: u16,
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts it. It takes the certificates of tests.
    pub(crate) async fn start() -> Self {
        let mut tries = 0;
        let (driver, port) = loop {
            if let Some(started) = driver().await {
                break started;
            }
            tries += 1;
            assert!(tries < 10, "chromedriver does not start");
        };
        let profile = TempDir::new().unwrap();
        let mut args: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "acceptInsecureCerts": true, "goog:chromeOptions": { "args": args },
        } } });
        let mut browser = Self { _driver: driver, port, session: String::new(), profile };
        let made = browser.command("POST", "/session", &wanted).await;
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        browser
    }

    /// Asks the driver; gives `value` of a good answer.
    async fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.answer(method, path, body).await;
        assert!(value.get("error").is_none(), "{path}: {value}");
        value
    }

    /// Asks the driver; gives `value` of the answer, which can be an error.
    async fn answer(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        tcp.write_all((head + &body).as_bytes()).await.unwrap();
        let mut stream = BufReader::new(tcp);
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "no answer to {path}");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["value"].take()
    }

    /// Waits until an element's text begins with `wanted`; a page may be on its way.
    pub(crate) async fn shows(&self, selector: &str, wanted: &str) {
        let find = json!({ "using": "css selector", "value": selector });
        until(&format!("{selector}: {wanted}"), async || {
            let found = self.answer("POST", &format!("{}/element", self.session), &find).await;
            let Some(element) = found[ELEMENT].as_str() else { return false };
            let path = format!("{}/element/{element}/text", self.session);
            self.answer("GET", &path, &Value::Null)
                .await
                .as_str()
                .is_some_and(|text| text.starts_with(wanted))
        })
        .await;
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        self.command(method, &format!("{}{path}", self.session), &body).await
    }

    pub(crate) async fn open(&self, url: &str) {
        self.ask("POST", "/url", json!({ "url": url })).await;
    }

    pub(crate) async fn url(&self) -> String {
        self.ask("GET", "/url", Value::Null).await.as_str().unwrap().to_owned()
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.ask("POST", "/element", json!({ "using": "css selector", "value": selector })).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.ask("POST", &format!("/element/{element}/click"), json!({})).await;
    }

    /// Text of an element as a person sees it.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        let text = self.ask("GET", &format!("/element/{element}/text"), Value::Null).await;
        text.as_str().unwrap().to_owned()
    }

    /// Name of an element for a screen reader.
    pub(crate) async fn label(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        let label = self.ask("GET", &format!("/element/{element}/computedlabel"), Value::Null).await;
        label.as_str().unwrap().to_owned()
    }

    /// Value of an expression, or of its promise.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.ask("POST", "/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// A command of the Chrome `DevTools` protocol.
    pub(crate) async fn devtools(&self, command: &str, params: Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", json!({ "cmd": command, "params": params })).await
    }

    /// Width of the window, and the colors that the person prefers.
    pub(crate) async fn look(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Writes a picture of the whole page to `folder`.
    pub(crate) async fn picture(&self, folder: &Path, name: &str) {
        let shot = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let bytes = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Ends the browser, and gives every file of its profile as one heap of bytes.
    pub(crate) async fn quit(self) -> Vec<u8> {
        self.ask("DELETE", "", Value::Null).await;
        let mut all = Vec::new();
        let mut folders = vec![self.profile.path().to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = std::fs::read(path) {
                    all.extend(bytes); // a socket is no file
                }
            }
        }
        all
    }
}
