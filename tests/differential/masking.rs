//! What two runs can never share is masked: pids, times, measured numbers, ports, directories. Structure, counts
//! and order stay.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Names what is particular to one daemon, in the order it was first seen.
#[derive(Debug, Default)]
pub struct Mask {
    /// Texts of this site (its directory, its endpoints) and what stands for them.
    texts: Vec<(String, String)>,
    /// Numbers of this site (its ports) and what stands for them.
    numbers: Vec<(i64, String)>,
    pids: BTreeMap<i64, String>,
    workers: usize,
    fds: Vec<i64>,
}

/// Keys whose value is a pid or a list of pids.
const PID_KEYS: [&str; 7] = [
    "pid",
    "process_pid",
    "pids",
    "started",
    "kept",
    "stopped",
    "process",
];

/// Keys whose value is measured; what kind of value it is stays visible.
const MEASURED: [&str; 9] = [
    "time",
    "started",
    "create_time",
    "age",
    "cpu",
    "mem",
    "mem_info1",
    "mem_info2",
    "ctime",
];

impl Mask {
    /// `daemon` is the daemon's own pid.
    pub fn new(daemon: i32) -> Self {
        Self {
            pids: BTreeMap::from([(i64::from(daemon), "<daemon>".to_string())]),
            ..Self::default()
        }
    }

    /// Replaces a text wherever it stands.
    pub fn text(&mut self, real: impl Into<String>, name: &str) {
        self.texts.push((real.into(), name.to_string()));
    }

    /// Replaces a number wherever it is a value, and in texts.
    pub fn number(&mut self, real: u16, name: &str) {
        self.numbers.push((i64::from(real), name.to_string()));
        self.text(real.to_string(), name);
    }

    /// Begins a step: the pids that run now get these names, those of former steps are forgotten. What one daemon
    /// does differently then shows in that step alone.
    pub fn begin(&mut self, running: impl IntoIterator<Item = (i64, String)>) {
        self.pids.retain(|_, name| name == "<daemon>");
        self.pids.extend(running);
        self.workers = 0;
    }

    /// The name of a pid; one that is new in this step is named by the order of first appearance.
    pub fn pid(&mut self, pid: i64) -> String {
        if let Some(name) = self.pids.get(&pid) {
            return name.clone();
        }
        self.workers += 1;
        let name = format!("new#{}", self.workers);
        self.pids.insert(pid, name.clone());
        name
    }

    /// The name of a descriptor: the order of first appearance.
    fn fd(&mut self, fd: i64) -> String {
        let at = self
            .fds
            .iter()
            .position(|known| *known == fd)
            .unwrap_or_else(|| {
                self.fds.push(fd);
                self.fds.len() - 1
            });
        format!("fd#{}", at + 1)
    }

    /// A reply or an event's payload, masked.
    pub fn value(&mut self, value: &Value) -> Value {
        self.at("", value)
    }

    fn at(&mut self, key: &str, value: &Value) -> Value {
        match value {
            Value::Object(map) => self.object(map),
            Value::Array(list) => list.iter().map(|v| self.at(key, v)).collect(),
            Value::Number(n) if PID_KEYS.contains(&key) && n.is_i64() => match n.as_i64() {
                // Numbers that a test made up are no pids.
                Some(pid) if pid > 1 && pid != 999_999 => json!(self.pid(pid)),
                _ => value.clone(),
            },
            // Descriptor numbers are each daemon's own; which is lower stays visible.
            Value::Number(n) if key == "fd" => match n.as_i64() {
                Some(fd) => json!(self.fd(fd)),
                None => value.clone(),
            },
            Value::Number(n) if MEASURED.contains(&key) => {
                json!(if n.is_f64() { "<float>" } else { "<int>" })
            }
            Value::Number(n) => match self
                .numbers
                .iter()
                .find(|(real, _)| Some(*real) == n.as_i64())
            {
                Some((_, name)) => json!(name),
                None => value.clone(),
            },
            Value::String(text) if MEASURED.contains(&key) && text != "N/A" => json!("<text>"),
            // How a daemon itself was called is its own affair.
            Value::String(text) if key == "tb" && !text.is_empty() => json!("<traceback>"),
            Value::String(text) => json!(self.words(text)),
            Value::Bool(_) | Value::Null => value.clone(),
        }
    }

    fn object(&mut self, map: &Map<String, Value>) -> Value {
        let daemon = map
            .get("pid")
            .and_then(Value::as_i64)
            .is_some_and(|p| self.pid(p) == "<daemon>");
        let masked = map.iter().map(|(key, value)| {
            let name = match key.parse::<i64>() {
                Ok(pid) => self.pid(pid),
                Err(_) => key.clone(),
            };
            let value = match key.as_str() {
                "cmdline" if daemon => json!("<the daemon's own>"),
                _ => self.at(key, value),
            };
            (name, value)
        });
        Value::Object(masked.collect())
    }

    /// A text without what is particular to this site.
    fn words(&self, text: &str) -> String {
        let mut out = text.to_string();
        for (real, name) in &self.texts {
            out = out.replace(real, name);
        }
        for (pid, name) in &self.pids {
            out = replace_number(&out, &pid.to_string(), name);
        }
        out
    }
}

/// Replaces a number in a text where it stands alone.
fn replace_number(text: &str, number: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(number) {
        let (before, after) = (&rest[..at], &rest[at + number.len()..]);
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let last = before.chars().last().or_else(|| out.chars().last());
        let alone = !digit(last) && !digit(after.chars().next());
        out.push_str(before);
        out.push_str(if alone { name } else { number });
        rest = after;
    }
    out + rest
}

#[test]
fn what_is_masked_keeps_its_structure() {
    let mut mask = Mask::new(77);
    mask.number(5555, "<control>");
    let reply = json!({"status": "ok", "time": 1.5, "pids": [9, 8], "info": {"8": {"pid": 8, "mem": 0, "cpu": "N/A"}},
        "reason": "5555 and 9 but not 99", "port": 5555, "started": 2.5, "process": 999_999});
    let masked = mask.value(&reply);
    assert_eq!(
        masked,
        json!({"status": "ok", "time": "<float>", "pids": ["new#1", "new#2"],
            "info": {"new#2": {"pid": "new#2", "mem": "<int>", "cpu": "N/A"}},
            "reason": "<control> and new#1 but not 99", "port": "<control>", "started": "<float>", "process": 999_999})
    );
    assert_eq!(
        mask.value(&json!({"started": [7, 8]})),
        json!({"started": ["new#3", "new#2"]})
    );
    assert_eq!(
        mask.value(&json!({"pid": 77, "cmdline": "x"})),
        json!({"pid": "<daemon>", "cmdline": "<the daemon's own>"})
    );
}
