//! Events on the publishing socket: two frames, the topic `watcher.NAME.ACTION` and a JSON object.

use serde_json::{Map, Value, json};

/// What happened to a watcher. Every time is seconds since the epoch.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A process was started; `time` is when.
    Spawn { pid: i32, time: f64 },
    /// A process is gone. `exit_code` is its status, negative for a signal, `None` when nobody knows.
    Reap {
        pid: i32,
        time: f64,
        exit_code: Option<i32>,
    },
    /// A signal was sent to a process.
    Kill { pid: i32, time: f64 },
    /// The watcher is up.
    Start { time: f64 },
    /// The watcher is down.
    Stop { time: f64 },
    /// The watcher was reloaded.
    Reload { time: f64 },
    /// An option was set.
    Updated { time: f64 },
    /// The watcher was added.
    Add { time: f64 },
    /// The watcher was removed.
    Remove { time: f64 },
    /// A hook ran.
    HookSuccess { hook: String, time: f64 },
    /// A hook raised.
    HookFailure {
        hook: String,
        time: f64,
        error: String,
    },
}

impl Event {
    /// The last part of the topic.
    pub fn action(&self) -> &'static str {
        match self {
            Event::Spawn { .. } => "spawn",
            Event::Reap { .. } => "reap",
            Event::Kill { .. } => "kill",
            Event::Start { .. } => "start",
            Event::Stop { .. } => "stop",
            Event::Reload { .. } => "reload",
            Event::Updated { .. } => "updated",
            Event::Add { .. } => "add",
            Event::Remove { .. } => "remove",
            Event::HookSuccess { .. } => "hook_success",
            Event::HookFailure { .. } => "hook_failure",
        }
    }

    /// The topic under which this is published for the watcher called `watcher`.
    pub fn topic(&self, watcher: &str) -> String {
        format!("watcher.{}.{}", resource_name(watcher), self.action())
    }

    /// The second frame, keys in circus's order.
    pub fn payload(&self) -> Value {
        match self {
            Event::Spawn { pid, time } | Event::Kill { pid, time } => {
                json!({"process_pid": pid, "time": time})
            }
            Event::Reap {
                pid,
                time,
                exit_code,
            } => json!({"process_pid": pid, "time": time, "exit_code": exit_code}),
            Event::Start { time }
            | Event::Stop { time }
            | Event::Reload { time }
            | Event::Updated { time }
            | Event::Add { time }
            | Event::Remove { time } => json!({"time": time}),
            Event::HookSuccess { hook, time } => json!({"name": hook, "time": time}),
            Event::HookFailure { hook, time, error } => {
                let mut payload = Map::new();
                payload.insert("name".into(), json!(hook));
                payload.insert("time".into(), json!(time));
                payload.insert("error".into(), json!(error));
                Value::Object(payload)
            }
        }
    }
}

/// The name of a watcher in topics and environment: lower case, spaces as underscores.
pub fn resource_name(watcher: &str) -> String {
    watcher.to_lowercase().replace(' ', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_payloads() {
        let event = Event::Reap {
            pid: 7,
            time: 2.5,
            exit_code: Some(-9),
        };
        assert_eq!(event.topic("My App"), "watcher.my_app.reap");
        assert_eq!(
            event.payload().to_string(),
            r#"{"process_pid":7,"time":2.5,"exit_code":-9}"#
        );
        let event = Event::HookFailure {
            hook: "before_start".into(),
            time: 1.0,
            error: "no".into(),
        };
        assert_eq!(
            event.payload().to_string(),
            r#"{"name":"before_start","time":1.0,"error":"no"}"#
        );
    }
}
