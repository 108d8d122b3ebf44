//! What a plugin is told and what it wants done. Time is seconds on a clock that only goes forward.

use serde_json::{Map, Value};

use super::files::{Command, Stamps};
use super::statsd::Metric;
use crate::wire::CallError;

/// A command for the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The command.
    pub command: &'static str,
    /// Its properties.
    pub properties: Map<String, Value>,
}

impl Call {
    /// A command without properties.
    pub fn new(command: &'static str) -> Self {
        Call {
            command,
            properties: Map::new(),
        }
    }

    /// A command about one watcher.
    pub fn about(command: &'static str, watcher: &str) -> Self {
        Call::new(command).with("name", watcher)
    }

    /// Adds a property.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.properties.insert(key.to_owned(), value.into());
        self
    }

    /// The watcher it is about.
    pub fn watcher(&self) -> Option<&str> {
        self.properties.get("name")?.as_str()
    }
}

/// An event of a watcher.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The watcher as topics name it: in lower case, with underscores for spaces.
    pub watcher: String,
    /// `spawn`, `reap`, `kill`, `stop`, …
    pub action: String,
    /// What it says.
    pub payload: Value,
}

impl Event {
    /// From the frames of a message; none if it is no event of a watcher.
    pub fn read(topic: &[u8], payload: &[u8]) -> Option<Event> {
        let topic = std::str::from_utf8(topic).ok()?;
        let (watcher, action) = topic.strip_prefix("watcher.")?.rsplit_once('.')?;
        Some(Event {
            watcher: watcher.to_owned(),
            action: action.to_owned(),
            payload: serde_json::from_slice(payload).unwrap_or_default(),
        })
    }

    /// The process it is about.
    pub fn pid(&self) -> Option<i64> {
        self.payload.get("process_pid")?.as_i64()
    }
}

/// What came of a look at something outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Looked {
    /// A page: its status and how many milliseconds it took; or why it could not be had.
    Page(Result<(u16, u64), String>),
    /// What a Redis server tells of itself, or why it does not.
    Redis(Result<Vec<(String, String)>, String>),
    /// The files of a watcher's command.
    Files {
        /// The watcher.
        watcher: String,
        /// The files that are there.
        stamps: Stamps,
    },
}

/// What happens to a plugin.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Events are heard from here on; some may have been missed.
    Connected,
    /// An event.
    Event(Event),
    /// A datagram has come.
    Datagram(Vec<u8>),
    /// The time that the plugin wished to be woken at has come.
    Tick,
    /// The answer to a call.
    Reply(Call, Result<Map<String, Value>, CallError>),
    /// What was looked at.
    Looked(Looked),
}

/// Something outside to look at.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// A page.
    Page {
        /// Its address.
        url: String,
        /// Seconds it may take.
        timeout: f64,
    },
    /// A Redis server.
    Redis {
        /// Its address.
        url: String,
        /// Seconds it may take.
        timeout: f64,
    },
    /// The files of a watcher's command.
    Files {
        /// The watcher.
        watcher: String,
        /// Its command.
        command: Command,
    },
}

/// How much somebody should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For who looks for a mistake.
    Debug,
    /// What it does.
    Info,
    /// Something is not as it should be.
    Warning,
}

/// What a plugin wants done, in this order; what comes of one thing is told before the next is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A command for the daemon.
    Call(Call),
    /// A number for statsd.
    Metric(Metric),
    /// A look.
    Look(Look),
    /// A line for the log.
    Log(Level, String),
}

impl Effect {
    /// A line of what it does.
    pub fn info(text: impl Into<String>) -> Effect {
        Effect::Log(Level::Info, text.into())
    }

    /// A line of what is not as it should be.
    pub fn warning(text: impl Into<String>) -> Effect {
        Effect::Log(Level::Warning, text.into())
    }
}

/// What a plugin is to be connected to, besides the control socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// The events of the watchers.
    pub events: bool,
    /// Datagrams that arrive here.
    pub datagrams: Option<std::net::SocketAddr>,
}

/// A plugin: decides, and does nothing itself.
pub trait Plugin {
    /// What it is to be connected to.
    fn wants(&self) -> Wants;
    /// Tells it what happened at `now`, which never goes back.
    fn step(&mut self, now: f64, input: Input) -> Vec<Effect>;
    /// When it wishes to be woken; a time that is over means at once.
    fn wake(&self) -> Option<f64>;
}

/// Something that is done again and again, at equal distances.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    period: f64,
    next: f64,
}

impl Beat {
    /// The first time is one period after `now`.
    pub fn new(now: f64, period: f64) -> Self {
        Beat {
            period,
            next: now + period,
        }
    }

    /// The first time is now.
    pub fn at_once(now: f64, period: f64) -> Self {
        Beat { period, next: now }
    }

    /// When it is time.
    pub fn next(&self) -> f64 {
        self.next
    }

    /// Is it time? Times that were missed are not made up for.
    pub fn is_due(&mut self, now: f64) -> bool {
        if now < self.next {
            return false;
        }
        self.next += self.period;
        if self.next <= now {
            self.next = now + self.period;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_watchers_are_read_and_no_others() {
        let event = Event::read(b"watcher.my.app.reap", br#"{"process_pid": 7}"#).unwrap();
        assert_eq!(
            (event.watcher.as_str(), event.action.as_str(), event.pid()),
            ("my.app", "reap", Some(7))
        );
        assert_eq!(Event::read(b"stat.web", b"{}"), None);
        assert_eq!(Event::read(b"\xff", b"{}"), None);
        assert_eq!(Event::read(b"watcher.a.stop", b"junk").unwrap().pid(), None);
    }

    #[test]
    fn a_beat_that_was_missed_is_not_made_up_for() {
        let mut beat = Beat::new(10.0, 2.0);
        assert!(!beat.is_due(11.9));
        assert!(beat.is_due(12.0));
        assert_eq!(beat.next(), 14.0);
        assert!(beat.is_due(21.0));
        assert_eq!(beat.next(), 23.0);
    }
}
