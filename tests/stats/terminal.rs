//! A program on a pseudo-terminal, seen from the outside.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::support::{deadline, venv, wait_for_within};

/// What has been seen so far.
#[derive(Debug, Default, Clone)]
struct Seen {
    pid: i32,
    text: String,
    stopped: usize,
    status: Option<i64>,
}

/// The program and its terminal. Dropping it ends both.
pub struct Terminal {
    driver: Child,
    to_driver: Option<ChildStdin>,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `program` on a terminal of so many rows and columns.
    pub fn run(rows: u16, columns: u16, program: &OsStr, args: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stats/terminal.py");
        let mut driver = Command::new(venv().python())
            .args(["-B", script, &rows.to_string(), &columns.to_string()])
            .arg(program)
            .args(args)
            .env("TERM", "xterm")
            .env_remove("COLUMNS")
            .env_remove("LINES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to_driver = driver.stdin.take();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let told = seen.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let message: Value = serde_json::from_str(&line).unwrap();
                let mut seen = told.lock().unwrap();
                if let Some(pid) = message["pid"].as_i64() {
                    seen.pid = pid as i32;
                }
                if let Some(text) = message["text"].as_str() {
                    seen.text.push_str(text);
                }
                seen.stopped += usize::from(message.get("stopped").is_some());
                seen.status = message["status"].as_i64().or(seen.status);
            }
        });
        Self {
            driver,
            to_driver,
            seen,
            reader: Some(reader),
        }
    }

    fn tell(&mut self, message: Value) {
        let driver = self.to_driver.as_mut().unwrap();
        writeln!(driver, "{message}").unwrap();
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.tell(json!({"keys": keys}));
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        self.tell(json!({"size": [rows, columns]}));
    }

    /// Sends the program a signal.
    pub fn signal(&mut self, number: i32) {
        self.tell(json!({"signal": number}));
    }

    /// Everything the program has written so far.
    pub fn text(&self) -> String {
        self.seen.lock().unwrap().text.clone()
    }

    /// How often the program was stopped.
    pub fn stops(&self) -> usize {
        self.seen.lock().unwrap().stopped
    }

    /// Waits until what has been written behind the first `from` bytes is to the liking of `probe`.
    #[track_caller]
    pub fn wait_text(&self, what: &str, from: usize, mut probe: impl FnMut(&str) -> bool) {
        let found = wait_for_within(deadline(), || {
            let text = self.text();
            text.get(from..).is_some_and(&mut probe).then_some(())
        });
        assert!(found.is_some(), "no {what} in {:?}", self.seen.lock());
    }

    /// Waits until the program has ended: its exit code, negative for a signal.
    #[track_caller]
    pub fn wait_exit(&self) -> i64 {
        let ended = wait_for_within(deadline(), || self.seen.lock().unwrap().status);
        ended.unwrap_or_else(|| panic!("it does not end: {:?}", self.seen.lock()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.to_driver.take());
        let _ = self.driver.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
