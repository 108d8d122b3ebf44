//! The events of a daemon, in words.

use std::collections::VecDeque;

use serde_json::{Map, Value};

/// Events that are remembered.
const MOST: usize = 1000;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It goes on.
    Usual,
    /// Somebody did something, or something began.
    Good,
    /// Something went wrong.
    Bad,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// Seconds since the epoch, as the daemon says.
    pub time: f64,
    /// The watcher, as in the topic; empty for what is not about one.
    pub watcher: String,
    /// What happened.
    pub words: String,
    /// Whether to care.
    pub weight: Weight,
}

/// The last events, the newest last.
#[derive(Debug, Default)]
pub struct Happenings {
    all: VecDeque<Happening>,
}

impl Happenings {
    /// Remembers it.
    pub fn push(&mut self, happening: Happening) {
        if self.all.len() >= MOST {
            self.all.pop_front();
        }
        self.all.push_back(happening);
    }

    /// From the newest to the oldest.
    pub fn newest(&self) -> impl Iterator<Item = &Happening> {
        self.all.iter().rev()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// An event's topic and payload taken apart: watcher, action, payload.
pub fn parse(topic: &[u8], payload: &[u8]) -> Option<(String, String, Map<String, Value>)> {
    let topic = std::str::from_utf8(topic).ok()?;
    // a watcher may have a dot in its name
    let (watcher, action) = topic.strip_prefix("watcher.")?.rsplit_once('.')?;
    let payload = match serde_json::from_slice(payload) {
        Ok(Value::Object(payload)) => payload,
        _ => Map::new(),
    };
    Some((watcher.to_string(), action.to_string(), payload))
}

impl Happening {
    /// An event in words; `now` stands in for a time that is missing.
    pub fn told(watcher: &str, action: &str, payload: &Map<String, Value>, now: f64) -> Happening {
        let integer = |key: &str| payload.get(key).and_then(Value::as_i64);
        let text = |key: &str| payload.get(key).and_then(Value::as_str).unwrap_or("?");
        let pid = integer("process_pid").map_or(String::new(), |pid| format!(" pid {pid}"));
        let (words, weight) = match action {
            "spawn" => (format!("started{pid}"), Weight::Good),
            "reap" => match integer("exit_code") {
                None => (format!("ended{pid}"), Weight::Usual),
                Some(0) => (format!("ended{pid} exit 0"), Weight::Usual),
                Some(code) => (format!("ended{pid} {}", exit(code)), Weight::Bad),
            },
            "kill" => (format!("stopping{pid}"), Weight::Usual),
            "start" => ("watcher started".to_string(), Weight::Good),
            "stop" => ("watcher stopped".to_string(), Weight::Usual),
            "reload" => ("reloaded".to_string(), Weight::Good),
            "updated" => ("an option was set".to_string(), Weight::Good),
            "add" => ("watcher added".to_string(), Weight::Good),
            "remove" => ("watcher removed".to_string(), Weight::Usual),
            "hook_success" => (format!("hook {} ran", text("name")), Weight::Usual),
            "hook_failure" => {
                let words = format!("hook {} failed: {}", text("name"), text("error"));
                (words, Weight::Bad)
            }
            // a newer daemon
            other => (format!("{other}{pid}"), Weight::Usual),
        };
        Happening {
            time: payload.get("time").and_then(Value::as_f64).unwrap_or(now),
            watcher: watcher.to_string(),
            words,
            weight,
        }
    }
}

/// How a process ended; a negative number is a signal's.
pub fn exit(code: i64) -> String {
    match code {
        0.. => format!("exit {code}"),
        _ => match SIGNALS.iter().find(|(_, number)| *number == -code) {
            Some((name, _)) => format!("by SIG{name}"),
            None => format!("by signal {}", -code),
        },
    }
}

/// Signals with their numbers on Linux, in the order in which one wants them.
pub const SIGNALS: [(&str, i64); 16] = [
    ("HUP", 1),
    ("TERM", 15),
    ("KILL", 9),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("STOP", 19),
    ("CONT", 18),
    ("TTIN", 21),
    ("TTOU", 22),
    ("WINCH", 28),
    ("ABRT", 6),
    ("ALRM", 14),
    ("SEGV", 11),
    ("PIPE", 13),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_words() {
        for (topic, payload, expected) in [
            (
                "watcher.web.spawn",
                r#"{"process_pid":7,"time":1.5}"#,
                ("web", "started pid 7", Weight::Good, 1.5),
            ),
            (
                "watcher.my.app.reap",
                r#"{"process_pid":7,"time":2,"exit_code":-9}"#,
                ("my.app", "ended pid 7 by SIGKILL", Weight::Bad, 2.0),
            ),
            (
                "watcher.web.reap",
                r#"{"process_pid":7,"exit_code":3}"#,
                ("web", "ended pid 7 exit 3", Weight::Bad, 9.0),
            ),
            (
                "watcher.web.reap",
                r#"{"process_pid":7,"exit_code":null}"#,
                ("web", "ended pid 7", Weight::Usual, 9.0),
            ),
            (
                "watcher.web.hook_failure",
                r#"{"name":"before_start","error":"no"}"#,
                ("web", "hook before_start failed: no", Weight::Bad, 9.0),
            ),
            (
                "watcher.web.new",
                "rubbish",
                ("web", "new", Weight::Usual, 9.0),
            ),
        ] {
            let (watcher, action, payload) = parse(topic.as_bytes(), payload.as_bytes()).unwrap();
            let happening = Happening::told(&watcher, &action, &payload, 9.0);
            let told = (
                happening.watcher.as_str(),
                happening.words.as_str(),
                happening.weight,
                happening.time,
            );
            assert_eq!(told, expected);
        }
        assert_eq!(parse(b"stat.web", b"{}"), None);
        assert_eq!(parse(b"watcher.\xff.spawn", b"{}"), None);
        assert_eq!(exit(-60), "by signal 60");
    }

    #[test]
    fn the_oldest_events_go() {
        let mut happenings = Happenings::default();
        for number in 0..MOST + 5 {
            happenings.push(Happening::told("web", "spawn", &Map::new(), number as f64));
        }
        assert_eq!(happenings.len(), MOST);
        let newest = happenings.newest().next().map(|event| event.time);
        assert_eq!(newest, Some((MOST + 4) as f64));
    }
}
