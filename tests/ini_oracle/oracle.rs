//! The long-lived Python process that answers how the real Circus reads a file.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::venv;

/// The oracle; it ends when it is dropped.
pub struct Oracle {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ini_oracle/oracle.py");
        let mut child = Command::new(venv().python())
            .arg(script)
            .env("PYTHONUTF8", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle's Python starts");
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Self {
            child,
            requests,
            answers,
        }
    }

    /// One question, one answer: `{"error": …}` where Circus raised.
    pub fn ask(&mut self, request: &Value) -> Value {
        let requests = self.requests.as_mut().expect("the oracle is running");
        writeln!(requests, "{request}").expect("the oracle reads its questions");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the oracle answers");
        serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("the oracle died of {request}: {e}: {line:?}"))
    }

    /// How Circus's parser reads these bytes: section to key to value, `DEFAULT` among them if it
    /// holds anything; `Err` with Python's error where it refuses them.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Value, String> {
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let mut answer = self.ask(&json!({"op": "read", "bytes": text}));
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        let mut sections = answer["sections"].take();
        let defaults = answer["defaults"].take();
        if defaults.as_object().is_some_and(|keys| !keys.is_empty()) {
            sections["DEFAULT"] = defaults;
        }
        Ok(sections)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // Without input it ends by itself.
        self.requests = None;
        let _ = self.child.wait();
    }
}
