//! A Chromium without a window, driven through ChromeDriver as the WebDriver standard has it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{deadline, need, wait_for_within};

/// One browser with one window. It ends with this value.
pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None`: it is not installed here, which has been said (in CI that is a failure).
    pub fn start(width: u32, height: u32) -> Option<Browser> {
        let program = need("chromedriver", "chromium-driver")?;
        let chromium: PathBuf = need("chromium", "chromium")?;
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // its own group, so that whatever it leaves can be ended
            .process_group(0)
            .spawn()
            .unwrap();
        let out = driver.stdout.take().unwrap();
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("chromedriver says its port");
        // what it says later is not waited for
        std::thread::spawn(move || lines.for_each(drop));
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(deadline()))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut browser = Browser {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            agent: config.into(),
            _profile: profile,
        };
        let arguments = [
            "--headless=new".to_string(),
            "--no-sandbox".to_string(),
            "--disable-gpu".to_string(),
            "--disable-dev-shm-usage".to_string(),
            "--disable-quic".to_string(),
            "--no-first-run".to_string(),
            "--no-proxy-server".to_string(),
            "--disable-background-networking".to_string(),
            "--disable-component-update".to_string(),
            "--disable-sync".to_string(),
            "--hide-scrollbars".to_string(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
        }}});
        let started = browser.send("POST", "", &wanted);
        let id = started["sessionId"]
            .as_str()
            .expect("a session")
            .to_string();
        browser.session = format!("{}/{id}", browser.session);
        browser.size(width, height);
        Some(browser)
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (ok, value) = self.try_send(method, path, body);
        assert!(ok, "{method} {path} {body}: {value}");
        value
    }

    fn try_send(&self, method: &str, path: &str, body: &Value) -> (bool, Value) {
        let url = format!("{}{path}", self.session);
        let answer = match method {
            "GET" => self.agent.get(&url).call(),
            "DELETE" => self.agent.delete(&url).call(),
            _ => self
                .agent
                .post(&url)
                .header("Content-Type", "application/json")
                .send(body.to_string()),
        };
        let mut answer = answer.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
        let text = answer.body_mut().read_to_string().unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        (answer.status().is_success(), value["value"].take())
    }

    pub fn size(&self, width: u32, height: u32) {
        self.send(
            "POST",
            "/window/rect",
            &json!({"width": width, "height": height}),
        );
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.send("POST", "/url", &json!({"url": url}));
    }

    /// What a script in the page returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.send(
            "POST",
            "/execute/sync",
            &json!({"script": script, "args": []}),
        )
    }

    /// What an asynchronous function body returns.
    #[track_caller]
    pub fn run_async(&self, body: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {body} }})().then(done, (error) => done(`${{error}}`));"
        );
        self.send(
            "POST",
            "/execute/async",
            &json!({"script": script, "args": []}),
        )
    }

    /// Waits until a script returns something that is true.
    #[track_caller]
    pub fn until(&self, what: &str, script: &str) -> Value {
        let seen = wait_for_within(deadline(), || {
            let value = self.run(&format!("return ({script})"));
            let empty = value.is_null() || value == json!(false) || value == json!("");
            (!empty).then_some(value)
        });
        seen.unwrap_or_else(|| {
            panic!(
                "never: {what}\n{}\n{:?}",
                self.run("return document.body.innerText"),
                self.complaints()
            )
        })
    }

    #[track_caller]
    fn find(&self, css: &str) -> String {
        let asked = json!({"using": "css selector", "value": css});
        let found = wait_for_within(deadline(), || {
            let (ok, value) = self.try_send("POST", "/element", &asked);
            let id = value.as_object()?.values().next()?.as_str()?.to_string();
            ok.then_some(id)
        });
        found
            .unwrap_or_else(|| panic!("no {css} in {}", self.run("return document.body.innerText")))
    }

    /// Clicks as a person would: on what is in sight, when it is there.
    #[track_caller]
    pub fn click(&self, css: &str) {
        let mut last = Value::Null;
        let clicked = wait_for_within(deadline(), || {
            let id = self.find(css);
            let (ok, value) = self.try_send("POST", &format!("/element/{id}/click"), &json!({}));
            last = value;
            ok.then_some(())
        });
        assert!(clicked.is_some(), "{css}: {last}");
    }

    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        let id = self.find(css);
        self.send("POST", &format!("/element/{id}/clear"), &json!({}));
        self.send(
            "POST",
            &format!("/element/{id}/value"),
            &json!({"text": text}),
        );
    }

    /// The picture of the window, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let text = self.send("GET", "/screenshot", &Value::Null);
        let text = text.as_str().unwrap_or_default().to_string();
        decode(&text)
    }

    /// Errors and warnings of the page since the last question: broken scripts, violated policies.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.send("POST", "/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().cloned().unwrap_or_default();
        lines
            .iter()
            .filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING")
            .map(|line| line["message"].as_str().unwrap_or_default().to_string())
            .collect()
    }
}

/// Base64, as WebDriver sends pictures.
fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.bytes().filter_map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let value = group.iter().fold(0, |sum, digit| sum << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&value.to_be_bytes()[1..group.len()]);
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self
            .agent
            .delete(&self.session)
            .config()
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .call();
        let group = Pid::from_raw(self.driver.id() as i32);
        let _ = killpg(group, Signal::SIGTERM);
        let gone = wait_for_within(Duration::from_secs(5), || {
            matches!(self.driver.try_wait(), Ok(Some(_))).then_some(())
        });
        if gone.is_none() {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.driver.wait();
        }
    }
}
