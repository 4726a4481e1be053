//! A headless Chromium, steered over WebDriver as its own driver speaks it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A page of a report is there at once; starting a browser on a busy machine takes its time.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// A browser with one page; both end when it is dropped.
pub(super) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts it with a page of this many pixels, and everything of its own in `scratch`.
    pub(super) fn start(scratch: &Path, (width, height): (u32, u32)) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", scratch)
            .env("TMPDIR", scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium-driver is installed");
        let told = BufReader::new(driver.stdout.take().expect("its output is a pipe"));
        let port = told.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let mut browser =
            Self { driver, port: port.expect("the driver says its port"), session: String::new() };
        let profile = format!("--user-data-dir={}", scratch.join("profile").display());
        let options = json!({"args": ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", profile, "about:blank"]});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}});
        let session = browser.ask("POST", "/session", Some(&wanted));
        browser.session = session["sessionId"].as_str().expect("a session has an id").to_owned();
        // The page itself, whatever frame a window would have.
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        browser
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the driver listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a time that is not 0");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .expect("the driver reads");
        // It leaves the connection open, whatever it is asked: the head says how long the answer is.
        let mut answer = BufReader::new(stream);
        let (mut length, mut head) = (0, Vec::new());
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).expect("the driver answers");
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length is a number");
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).expect("the driver answers");
        let mut answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
        let is_good = head.first().is_some_and(|line| line.starts_with("HTTP/1.1 200"));
        assert!(is_good, "{method} {path}: {answer}");
        answer["value"].take()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{path}", self.session), Some(body))
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Opens a file as a person does who was sent it.
    pub(super) fn open(&self, file: &Path) {
        self.post("url", &json!({"url": format!("file://{}", file.display())}));
    }

    /// Chooses the colours that the system would ask for.
    pub(super) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// What a script of the test answers in the page.
    pub(super) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// What is seen, as PNG.
    pub(super) fn screenshot(&self) -> Vec<u8> {
        let path = format!("/session/{}/screenshot", self.session);
        let shot = self.ask("GET", &path, None);
        STANDARD.decode(shot.as_str().expect("a screenshot is text")).expect("in base64")
    }

    /// What the page wrote to its console, its own faults and those against its policy among it.
    pub(super) fn console(&self) -> Vec<Value> {
        self.log("browser")
    }

    /// Addresses that were asked for since the last time.
    pub(super) fn requests(&self) -> Vec<String> {
        let messages = self.log("performance").into_iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let sent = message["message"]["method"] == "Network.requestWillBeSent";
            sent.then(|| message["message"]["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        messages.collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("se/log", &json!({"type": kind})).as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &format!("/session/{}", self.session), None);
        }
        // Both fail only when it has ended already.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
