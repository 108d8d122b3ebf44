//! Listening to the daemon: its event socket is found and followed, and found again when it was lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::wire::client::Followed;
use crate::wire::{Client, Endpoint, command, follow};

/// How long the daemon may take to answer where it publishes.
const QUESTION: Duration = Duration::from_secs(5);
/// Pauses between two attempts to find the daemon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Times of events further off than that are of another clock.
const BELIEVABLE: f64 = 5.0;

/// Ends the listening, from another thread.
#[derive(Debug, Default)]
pub struct Stop {
    set: AtomicBool,
    notify: Notify,
}

impl Stop {
    /// Ends it.
    pub fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }
}

/// What is heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The daemon is there and is being listened to.
    Connected,
    /// It is not, or is no longer; the reason.
    Lost(String),
    /// An event.
    Event(Sign),
}

/// An event of a watcher.
#[derive(Debug, Clone, PartialEq)]
pub struct Sign {
    /// The whole topic, for people.
    pub topic: String,
    /// The watcher's name, as topics have it.
    pub about: String,
    /// Somebody's order, rather than a worker that came or went.
    pub order: bool,
    /// How long ago it happened, in seconds.
    pub age: f64,
}

/// Follows the events of the daemon until `stop` is set. `control` tells its control endpoint, each time anew:
/// the configuration may have changed.
pub fn listen(
    control: impl Fn() -> Result<Endpoint, String>,
    stop: &Stop,
    mut tell: impl FnMut(Heard),
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let outcome = control()
            .and_then(|control| publisher(&control))
            .and_then(|publisher| {
                follow(
                    &publisher,
                    QUESTION,
                    &stop.notify,
                    |followed| match followed {
                        Followed::Connected => {
                            pause = FIRST_PAUSE;
                            tell(Heard::Connected);
                        }
                        Followed::Event(topic, payload) => {
                            if let Some(sign) = read(topic, payload, wall_clock()) {
                                tell(Heard::Event(sign));
                            }
                        }
                    },
                )
                .map_err(|error| error.to_string())
            });
        if stop.is_set() {
            return;
        }
        let reason = outcome.err();
        tell(Heard::Lost(reason.unwrap_or_else(|| {
            "the daemon closed its event socket".to_string()
        })));
        wait(&stop.notify, pause);
        if stop.is_set() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits, unless `stop` is notified meanwhile.
fn wait(stop: &Notify, pause: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    match runtime {
        Ok(runtime) => {
            // Which of the two it was does not matter here.
            let _ = runtime.block_on(async { tokio::time::timeout(pause, stop.notified()).await });
        }
        Err(_) => std::thread::sleep(pause),
    }
}

/// Where the daemon publishes its events, in its own words.
fn publisher(control: &Endpoint) -> Result<Endpoint, String> {
    let mut client = Client::connect(control, QUESTION).map_err(|error| error.to_string())?;
    let mut properties = Map::new();
    properties.insert("option".into(), Value::from("pubsub_endpoint"));
    let reply = client
        .call(command::message("globaloptions", properties))
        .map_err(|error| error.to_string())?;
    let text = reply
        .pointer("/options/pubsub_endpoint")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("{control} does not say where it publishes events"))?;
    text.parse::<Endpoint>()
        .map(Endpoint::reachable)
        .map_err(|error| format!("{control} publishes events at an unusable address: {error}"))
}

/// The event that these frames are; none for topics of others.
fn read(topic: &[u8], payload: &[u8], now: f64) -> Option<Sign> {
    let topic = std::str::from_utf8(topic).ok()?;
    let (about, action) = topic.strip_prefix("watcher.")?.rsplit_once('.')?;
    let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
    let time = payload.get("time").and_then(Value::as_f64);
    // A worker's start is told with the worker's own birth, which some clocks give only roughly.
    let time = time.filter(|_| action != "spawn");
    let age = time.map_or(0.0, |time| now - time);
    Some(Sign {
        about: about.to_string(),
        order: matches!(
            action,
            "start" | "stop" | "add" | "remove" | "updated" | "kill"
        ),
        age: if (0.0..BELIEVABLE).contains(&age) {
            age
        } else {
            0.0
        },
        topic: topic.to_string(),
    })
}

fn wall_clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let sign = read(
            b"watcher.my.app.kill",
            br#"{"process_pid": 3, "time": 99.5}"#,
            100.0,
        )
        .unwrap();
        assert_eq!((sign.about.as_str(), sign.order), ("my.app", true));
        assert!((sign.age - 0.5).abs() < 1e-9);
        let age = |payload: &str| {
            read(b"watcher.a.reap", payload.as_bytes(), 100.0)
                .unwrap()
                .age
        };
        for payload in [r#"{"time": 10}"#, r#"{"time": 101}"#, "{}", "junk"] {
            assert_eq!(age(payload), 0.0, "{payload}");
        }
        assert!(!read(b"watcher.a.reap", b"{}", 1.0).unwrap().order);
        assert_eq!(read(b"plugin.a", b"{}", 1.0), None);
        assert_eq!(read(b"\xff\xfe", b"{}", 1.0), None);
    }
}
