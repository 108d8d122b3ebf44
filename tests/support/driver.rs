//! A long-lived Python process that speaks ZeroMQ for the tests: Circus's own client, raw frames, events.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::venv::venv;

/// An open ZeroMQ socket in a [`Driver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(i64);

/// The Python process. One request at a time; start a second one to talk while a first one waits.
#[derive(Debug)]
pub struct Driver {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts the process.
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/driver.py");
        let mut child = Command::new(venv().python())
            .arg("-B")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start the Python driver {script}: {e}"));
        let stdin = child.stdin.take().expect("the driver's stdin is a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("the driver's stdout is a pipe"));
        Self {
            inner: Mutex::new(Inner {
                child,
                stdin,
                stdout,
            }),
        }
    }

    /// One operation of `driver.py`; a bug there or a dead driver fails the test.
    #[track_caller]
    pub fn ask(&self, message: &Value) -> Value {
        let mut inner = self
            .inner
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut line = message.to_string();
        line.push('\n');
        inner
            .stdin
            .write_all(line.as_bytes())
            .expect("the Python driver takes a request");
        let mut answer = String::new();
        inner
            .stdout
            .read_line(&mut answer)
            .expect("the Python driver answers");
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|e| {
            panic!("the Python driver ended or wrote no JSON to {message}: {e}: {answer:?}")
        });
        assert!(
            answer.get("bug").is_none(),
            "the Python driver failed on {message}: {answer}"
        );
        answer
    }

    /// Sends a command with Circus's own Python client. `Err` is the client's text (`Timed out.`).
    #[track_caller]
    pub fn call(
        &self,
        endpoint: &str,
        command: &str,
        properties: Value,
        timeout: f64,
    ) -> Result<Value, String> {
        reply(self.ask(&json!({
            "op": "call", "endpoint": endpoint, "command": command, "properties": properties, "timeout": timeout})))
    }

    /// Connects a DEALER, the socket of a Circus client.
    #[track_caller]
    pub fn dealer(&self, endpoint: &str) -> Handle {
        self.open("dealer", endpoint, &[])
    }

    /// Subscribes to events; see [`Driver::events_until`] for when the subscription counts.
    #[track_caller]
    pub fn subscribe(&self, endpoint: &str, topics: &[&str]) -> Handle {
        self.open("sub", endpoint, topics)
    }

    /// Connects a socket of another kind: `req`, `router`, `dealer`, `sub`.
    #[track_caller]
    pub fn open(&self, kind: &str, endpoint: &str, topics: &[&str]) -> Handle {
        let answer =
            self.ask(&json!({"op": "open", "kind": kind, "endpoint": endpoint, "topics": topics}));
        Handle(answer["handle"].as_i64().expect("open answers a handle"))
    }

    /// Sends a command on an open dealer and waits for the reply with its id.
    #[track_caller]
    pub fn request(
        &self,
        dealer: Handle,
        command: &str,
        properties: Value,
        timeout: f64,
    ) -> Result<Value, String> {
        reply(self.ask(&json!({
            "op": "request", "handle": dealer.0, "command": command, "properties": properties, "timeout": timeout})))
    }

    /// Sends one message as it is and gives the replies to it; none means the daemon did not answer.
    ///
    /// For a message that may stay unanswered, `probe` sends a harmless command after it, whose answer (and
    /// `grace` more seconds) ends the waiting; without `probe` the first reply or `timeout` does.
    #[track_caller]
    pub fn exchange(
        &self,
        dealer: Handle,
        payload: &[u8],
        probe: bool,
        timeout: f64,
        grace: f64,
    ) -> Vec<String> {
        let answer = self.ask(&json!({
            "op": "exchange", "handle": dealer.0, "payload": base64(payload), "probe": probe, "timeout": timeout,
            "grace": grace}));
        let replies = answer["replies"].as_array().cloned().unwrap_or_default();
        replies
            .iter()
            .map(|r| r.as_str().unwrap_or("").to_string())
            .collect()
    }

    /// Sends raw frames.
    #[track_caller]
    pub fn send(&self, socket: Handle, frames: &[&[u8]]) {
        let frames: Vec<String> = frames.iter().map(|f| base64(f)).collect();
        self.ask(&json!({"op": "send", "handle": socket.0, "frames": frames}));
    }

    /// The next message's frames as text (lossy), or `None` after `timeout` seconds.
    #[track_caller]
    pub fn recv(&self, socket: Handle, timeout: f64) -> Option<Vec<String>> {
        let answer = self.ask(&json!({"op": "recv", "handle": socket.0, "timeout": timeout}));
        let frames = answer.get("frames")?.as_array()?;
        Some(
            frames
                .iter()
                .map(|f| String::from_utf8_lossy(&unbase64(f.as_str().unwrap_or(""))).into_owned())
                .collect(),
        )
    }

    /// Every event since the last call, up to now: `[topic, payload]` in the order of their publication.
    ///
    /// It publishes an event itself (a `set` of `warmup_delay` to 0 on `watcher`, which should be one that never
    /// runs) and reads up to that, so nothing is missed and nothing is waited for. Call it once right after
    /// [`Driver::subscribe`], to know that the subscription has arrived.
    #[track_caller]
    pub fn events_until(
        &self,
        events: Handle,
        dealer: Handle,
        watcher: &str,
    ) -> Vec<(String, Value)> {
        let answer = self.ask(&json!({
            "op": "events_until", "handle": events.0, "control": dealer.0, "watcher": watcher, "timeout": 30}));
        assert!(answer.get("error").is_none(), "reading events: {answer}");
        let list = answer["events"].as_array().cloned().unwrap_or_default();
        list.into_iter()
            .map(|e| (e[0].as_str().unwrap_or("").to_string(), e[1].clone()))
            .collect()
    }

    /// A dealer that keeps at most one unread reply on its own side: what it does not read stays with the daemon.
    #[track_caller]
    pub fn lazy_dealer(&self, endpoint: &str) -> Handle {
        let answer = self.ask(&json!({
            "op": "open", "kind": "dealer", "endpoint": endpoint, "options": {"RCVHWM": 1, "RCVBUF": 4096}}));
        Handle(answer["handle"].as_i64().expect("open answers a handle"))
    }

    /// Sends the same command `count` times, reading nothing; how many could be sent.
    #[track_caller]
    pub fn flood(&self, dealer: Handle, command: &str, properties: Value, count: usize) -> u64 {
        let answer = self.ask(&json!({
            "op": "flood", "handle": dealer.0, "command": command, "properties": properties, "count": count}));
        answer["sent"].as_u64().unwrap_or(0)
    }

    /// Sends one message of `before`, `size` letters and `after`.
    #[track_caller]
    pub fn send_big(&self, dealer: Handle, before: &str, size: usize, after: &str) {
        self.ask(&json!({"op": "send_big", "handle": dealer.0, "before": before, "size": size, "after": after}));
    }

    /// Closes a socket.
    #[track_caller]
    pub fn close(&self, socket: Handle) {
        self.ask(&json!({"op": "close", "handle": socket.0}));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let inner = self
            .inner
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = inner.child.kill();
        let _ = inner.child.wait();
    }
}

fn reply(answer: Value) -> Result<Value, String> {
    match answer.get("reply") {
        Some(reply) => Ok(reply.clone()),
        None => Err(answer["error"].as_str().unwrap_or("no reply").to_string()),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = part
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0u32, |w, b| w << 8 | u32::from(*b));
        for i in 0..4 {
            let symbol = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i > part.len() {
                '='
            } else {
                char::from(symbol)
            });
        }
    }
    out
}

fn unbase64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for symbol in text.bytes().filter(|b| *b != b'=') {
        let value = ALPHABET
            .iter()
            .position(|a| *a == symbol)
            .expect("the driver writes base64");
        word = word << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    out
}
