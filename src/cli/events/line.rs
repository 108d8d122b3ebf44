//! One event: what is in it, and how it is printed. Pure.

use serde_json::{Map, Value, json};

use crate::cli::output;
use crate::wire::pytext;

/// An event as it was heard. What this program has to say itself (the daemon is lost, it is back) is one too.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `watcher.NAME.ACTION`, or `circ.ACTION` for what is said here.
    pub topic: String,
    /// What the daemon published with it; a text if that is no JSON.
    pub payload: Value,
}

impl Event {
    /// From the two frames.
    pub fn heard(topic: &[u8], payload: &[u8]) -> Self {
        Event {
            topic: String::from_utf8_lossy(topic).into_owned(),
            payload: serde_json::from_slice(payload)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(payload))),
        }
    }

    /// The daemon has gone away.
    pub fn lost(time: f64, reason: &str) -> Self {
        Event {
            topic: "circ.lost".to_string(),
            payload: json!({"time": time, "reason": reason}),
        }
    }

    /// It is there again; what it published in between, in so many seconds, was not heard.
    pub fn back(time: f64, gap: f64) -> Self {
        Event {
            topic: "circ.back".to_string(),
            payload: json!({"time": time, "gap": gap}),
        }
    }

    /// What happened: the last part of the topic.
    pub fn action(&self) -> &str {
        self.topic
            .rsplit_once('.')
            .map_or(&self.topic, |(_, action)| action)
    }

    /// To which watcher, as topics have its name: in lower case, spaces as underscores.
    pub fn watcher(&self) -> Option<&str> {
        let (name, _) = self.topic.strip_prefix("watcher.")?.rsplit_once('.')?;
        Some(name)
    }

    /// A number of the payload.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.payload.get(key)?.as_i64()
    }

    /// As JSON: topic and payload.
    pub fn to_json(&self) -> Value {
        json!({"topic": self.topic, "payload": self.payload})
    }

    /// As a line: `TIME TOPIC key=value …`, or a JSON object.
    pub fn line(&self, json: bool) -> String {
        if json {
            return self.to_json().to_string();
        }
        let topic = output::plain(&Value::from(self.topic.as_str()));
        let Value::Object(payload) = &self.payload else {
            return format!("{topic} {}", output::plain(&self.payload));
        };
        let mut line = match payload.get("time").and_then(Value::as_f64) {
            Some(time) => format!("{} {topic}", output::utc(time)),
            None => topic,
        };
        for (key, value) in payload.iter().filter(|(key, _)| *key != "time") {
            let text = pytext::text_of(value);
            let text = output::plain(&Value::from(text.as_str()));
            line.push_str(&format!(" {key}={text}"));
        }
        line
    }

    /// The variables that a command which is run for the event gets.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("CIRC_EVENT", self.action().to_string()),
            ("CIRC_TOPIC", self.topic.clone()),
        ];
        if let Some(watcher) = self.watcher() {
            all.push(("CIRC_WATCHER", watcher.to_string()));
        }
        let none = Map::new();
        let payload = self.payload.as_object().unwrap_or(&none);
        let mut put = |name, text: Option<String>| {
            if let Some(text) = text {
                // No variable can hold it.
                all.push((name, text.replace('\0', "")));
            }
        };
        let text = |key: &str| {
            let value = payload.get(key).filter(|value| !value.is_null())?;
            Some(pytext::text_of(value).to_string())
        };
        put("CIRC_TIME", text("time"));
        put("CIRC_PID", text("process_pid"));
        match self.number("exit_code") {
            Some(signal @ ..0) => put("CIRC_SIGNAL", Some((-signal).to_string())),
            code => put("CIRC_EXIT_CODE", code.map(|code| code.to_string())),
        }
        put("CIRC_HOOK", text("name"));
        put("CIRC_ERROR", text("error").or_else(|| text("reason")));
        put("CIRC_GAP", text("gap"));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_as_lines() {
        let payload = br#"{"process_pid": 7, "time": 1795247906.519413, "exit_code": -9}"#;
        assert_eq!(
            Event::heard(b"watcher.web.reap", payload).line(false),
            "2026-11-21T07:58:26.519Z watcher.web.reap process_pid=7 exit_code=-9"
        );
        assert_eq!(
            Event::heard(b"watcher.web.reap", br#"{"time":1.5}"#).line(true),
            r#"{"topic":"watcher.web.reap","payload":{"time":1.5}}"#
        );
        assert_eq!(Event::heard(b"t", b"not json").line(false), "t not json");
        assert_eq!(
            Event::heard(b"t", br#"{"error": "a\u001b[2J\nb"}"#).line(false),
            r"t error=a\u{1b}[2J\nb"
        );
        assert_eq!(
            Event::back(0.0, 2.5).line(false),
            "1970-01-01T00:00:00.000Z circ.back gap=2.5"
        );
    }

    #[test]
    fn a_command_is_told_by_variables() {
        let reap = Event::heard(
            b"watcher.my.app.reap",
            br#"{"process_pid": 7, "time": 1.5, "exit_code": -9}"#,
        );
        assert_eq!(reap.watcher(), Some("my.app"));
        let expected = [
            ("CIRC_EVENT", "reap"),
            ("CIRC_TOPIC", "watcher.my.app.reap"),
            ("CIRC_WATCHER", "my.app"),
            ("CIRC_TIME", "1.5"),
            ("CIRC_PID", "7"),
            ("CIRC_SIGNAL", "9"),
        ];
        assert_eq!(
            reap.variables(),
            expected.map(|(name, text)| (name, text.to_string()))
        );
        let lost = Event::lost(1.0, "gone\0");
        assert_eq!(lost.watcher(), None);
        assert!(
            lost.variables()
                .contains(&("CIRC_ERROR", "gone".to_string()))
        );
    }
}
