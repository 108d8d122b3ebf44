//! The daemon's side: what it says, and commands to it. Everything goes over the wire, as any client's calls do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::interrupt::Interrupt;
use super::observed::{DaemonSide, LiveWatcher, WAITING};
use crate::options;
use crate::wire::{Client, ClientError, Endpoint, command};

/// How long to wait before a command is sent again that another command kept out.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How long a question may take; a command may take as long as the run has left.
const QUESTION_TIME: Duration = Duration::from_secs(5);

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No reply came.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon answered with an error.
    #[error("the daemon at {endpoint} refused `{command}`: {reason}")]
    Refused {
        /// Which daemon.
        endpoint: String,
        /// The command.
        command: String,
        /// The daemon's words.
        reason: String,
    },
    /// The run was asked to end before this was sent, or while Circus's lock kept it out.
    #[error("interrupted by {0}")]
    Interrupted(String),
    /// Circus does one thing at a time, and did another one until the deadline.
    #[error(
        "the daemon at {endpoint} was busy until the deadline: `{command}` got \"{reason}\"; \
         run again, or with a longer --timeout"
    )]
    Busy {
        /// Which daemon.
        endpoint: String,
        /// The command.
        command: String,
        /// The daemon's words.
        reason: String,
    },
}

impl LiveError {
    /// There is no daemon at the endpoint.
    pub fn nobody_listens(&self) -> bool {
        matches!(self, LiveError::Client(ClientError::Unreachable { .. }))
    }

    /// A watcher is not there that was there a moment ago, or the other way round.
    pub fn is_overtaken(&self) -> bool {
        let LiveError::Refused { reason, .. } = self else {
            return false;
        };
        reason.contains("already exist")
            || reason.contains("program ") && reason.contains(" not found")
    }

    /// The command was accepted and may still be carried out: nothing must be undone behind its back.
    pub fn may_still_happen(&self) -> bool {
        matches!(self, LiveError::Client(error) if error.may_still_happen())
    }
}

/// How a watcher is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Condition {
    /// active, starting, stopping, stopped.
    pub status: String,
    /// Whether it would say [`WAITING`].
    pub tells_waiting: bool,
    /// What keeps its workers from running, in the daemon's words.
    pub trouble: Option<String>,
    /// How its last worker ended that did so by itself: pid, code, signal, lived, stderr.
    pub last_exit: Option<Map<String, Value>>,
}

/// A connection to a daemon, with the run's deadline.
pub struct Live {
    client: Client,
    deadline: Instant,
    /// Options that the reply to `options` does not list and that are asked for one by one.
    unlisted: Vec<&'static str>,
    /// It reads single sections of the managed file when it is told to.
    rereads: bool,
    /// Whether it is circ's own, once that was asked.
    is_circ: Option<bool>,
    interrupt: Interrupt,
    /// What is sent now is sent although the run was asked to end.
    finishing: bool,
}

/// What circ's daemon says of itself; circusd knows no such question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The configuration file that it runs.
    pub config: PathBuf,
    /// Its process.
    pub pid: i64,
}

impl Live {
    /// Connects. A refused connection is told at once. Orders that have not begun when the run is asked to end are not
    /// sent; when it is asked again, nothing is waited for.
    pub fn connect(
        endpoint: &Endpoint,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<Live, LiveError> {
        let mut client = Client::connect(endpoint, left(deadline).min(QUESTION_TIME))?;
        if let Some(again) = interrupt.again() {
            client.abandon_on(again);
        }
        Ok(Live {
            client,
            deadline,
            unlisted: Vec::new(),
            rereads: false,
            is_circ: None,
            interrupt: interrupt.clone(),
            finishing: false,
        })
    }

    /// An error if the run was asked to end; but not within [`Live::finishing`].
    pub fn go_on(&self) -> Result<(), LiveError> {
        match self.interrupt.asked() {
            Some(by) if !self.finishing => Err(LiveError::Interrupted(by.to_string())),
            _ => Ok(()),
        }
    }

    /// What must not stop half way, or takes back: it goes on although the run was asked to end.
    pub fn finishing<T>(&mut self, what: impl FnOnce(&mut Live) -> T) -> T {
        let before = std::mem::replace(&mut self.finishing, true);
        let result = what(self);
        self.finishing = before;
        result
    }

    /// It reads single sections of the managed file when it is told to, each time all of them or none.
    pub fn rereads(&self) -> bool {
        self.rereads
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        self.client.endpoint().to_string()
    }

    /// Who answers; none for a circusd.
    pub fn identity(&mut self) -> Result<Option<Identity>, LiveError> {
        match self.ask("identity", Map::new()) {
            Ok(reply) => Ok(Some(Identity {
                config: PathBuf::from(
                    reply
                        .get("config")
                        .and_then(Value::as_str)
                        .unwrap_or_default(),
                ),
                pid: reply.get("pid").and_then(Value::as_i64).unwrap_or_default(),
            })),
            Err(LiveError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// From now on it is known to read single sections of the managed file.
    pub fn can_reread(&mut self) {
        self.rereads = true;
    }

    /// The sockets that the daemon holds, by their names in lower case.
    pub fn sockets(&mut self) -> Result<BTreeMap<String, Map<String, Value>>, LiveError> {
        let reply = self.ask("listsockets", Map::new())?;
        let sockets = reply.get("sockets").and_then(Value::as_array);
        Ok(sockets
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .filter_map(|info| {
                let name = info.get("name")?.as_str()?.to_lowercase();
                Some((name, info.clone()))
            })
            .collect())
    }

    /// The options of the daemon itself.
    pub fn global_options(&mut self) -> Result<Map<String, Value>, LiveError> {
        Ok(options_of(&self.ask("globaloptions", Map::new())?))
    }

    /// From now on observations also ask for those of these options that `options` does not list. circ tells them,
    /// circusd does not.
    pub fn ask_for(&mut self, keys: &[String]) {
        for spec in keys.iter().filter_map(|key| options::spec(key)) {
            if !spec.listed && !self.unlisted.contains(&spec.name) {
                self.unlisted.push(spec.name);
            }
        }
    }

    /// When the run must be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Asks a question: nothing in the daemon changes.
    pub fn ask(
        &mut self,
        name: &str,
        properties: Map<String, Value>,
    ) -> Result<Map<String, Value>, LiveError> {
        self.call(name, properties, QUESTION_TIME)
    }

    /// Sends a command and waits until it is carried out.
    pub fn order(
        &mut self,
        name: &str,
        mut properties: Map<String, Value>,
    ) -> Result<Map<String, Value>, LiveError> {
        properties.insert("waiting".into(), Value::Bool(true));
        self.call(name, properties, Duration::MAX)
    }

    fn call(
        &mut self,
        name: &str,
        properties: Map<String, Value>,
        at_most: Duration,
    ) -> Result<Map<String, Value>, LiveError> {
        loop {
            let message = command::message(name, properties.clone());
            let reply = self
                .client
                .call_within(message, left(self.deadline).min(at_most))?;
            let Some(reason) = refusal(&reply) else {
                return Ok(reply.as_object().cloned().unwrap_or_default());
            };
            let endpoint = self.client.endpoint().to_string();
            let command = name.to_string();
            if !is_busy(&reason) {
                return Err(LiveError::Refused {
                    endpoint,
                    command,
                    reason,
                });
            }
            if Instant::now() + BUSY_PAUSE >= self.deadline {
                return Err(LiveError::Busy {
                    endpoint,
                    command,
                    reason,
                });
            }
            self.go_on()?;
            std::thread::sleep(BUSY_PAUSE);
        }
    }

    /// What the daemon has under this name, in any case.
    pub fn observe(&mut self, name: &str) -> Result<DaemonSide, LiveError> {
        let known = self.names()?.contains(&name.to_lowercase());
        self.observe_known(name, known)
    }

    /// The names of all watchers, in lower case.
    pub fn names(&mut self) -> Result<BTreeSet<String>, LiveError> {
        let listed = self.ask("list", Map::new())?;
        let names = listed.get("watchers").and_then(Value::as_array);
        Ok(names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_lowercase)
            .collect())
    }

    /// As [`Live::observe`], for a caller that has the names.
    pub fn observe_known(&mut self, name: &str, known: bool) -> Result<DaemonSide, LiveError> {
        match self.observe_listed(name, known) {
            // Somebody may have removed it after the names were asked.
            Err(LiveError::Refused { .. }) if !self.names()?.contains(&name.to_lowercase()) => {
                self.observe_listed(name, false)
            }
            seen => seen,
        }
    }

    fn observe_listed(&mut self, name: &str, known: bool) -> Result<DaemonSide, LiveError> {
        let endpoint = self.client.endpoint().to_string();
        if !known {
            return Ok(DaemonSide {
                endpoint,
                watcher: None,
                rereads: false,
            });
        }
        let mut options = options_of(&self.ask("options", named(name))?);
        for key in self.unlisted.clone() {
            let mut properties = named(name);
            properties.insert("keys".into(), json!([key]));
            match self.ask("get", properties) {
                Ok(reply) => options.extend(options_of(&reply)),
                Err(LiveError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.tell_classes(&mut options)?;
        let condition = self.condition(name)?;
        Ok(DaemonSide {
            endpoint,
            rereads: self.rereads,
            watcher: Some(LiveWatcher {
                options,
                status: condition.status,
                tells_waiting: condition.tells_waiting,
                pids: self.pids(name)?,
                ..LiveWatcher::default()
            }),
        })
    }

    /// A stream without a class: circusd takes the class out of what it tells once it has made the stream, so it says
    /// nothing about it. In circ's daemon there is none then, which is told as null.
    fn tell_classes(&mut self, options: &mut Map<String, Value>) -> Result<(), LiveError> {
        for key in ["stdout_stream_conf", "stderr_stream_conf"] {
            let Some(Value::Object(conf)) = options.get_mut(key) else {
                continue;
            };
            if conf.is_empty() || conf.contains_key("class") {
                continue;
            }
            let is_circ = match self.is_circ {
                Some(known) => known,
                None => self.identity()?.is_some(),
            };
            self.is_circ = Some(is_circ);
            if is_circ {
                conf.insert("class".into(), Value::Null);
            }
        }
        Ok(())
    }

    /// As [`Live::observe`], but waits until the watcher is neither on its way up nor down: what is to be done is not
    /// known before. After the deadline it is told as it is.
    pub fn observe_at_rest(&mut self, name: &str, known: bool) -> Result<DaemonSide, LiveError> {
        loop {
            let side = self.observe_known(name, known)?;
            let moving = side
                .watcher
                .as_ref()
                .is_some_and(|watcher| matches!(watcher.status.as_str(), "stopping" | "starting"));
            if !moving || Instant::now() + BUSY_PAUSE >= self.deadline {
                return Ok(side);
            }
            self.go_on()?;
            std::thread::sleep(BUSY_PAUSE);
        }
    }

    /// The watcher's status: active, starting, stopping, stopped, and of circ's daemon [`WAITING`].
    pub fn status(&mut self, name: &str) -> Result<String, LiveError> {
        Ok(self.condition(name)?.status)
    }

    /// The watcher's status, and what keeps its workers from running if the daemon tells that (circ does).
    pub fn condition(&mut self, name: &str) -> Result<Condition, LiveError> {
        let reply = self.ask("status", named(name))?;
        let text = |key: &str| reply.get(key).and_then(Value::as_str).map(str::to_string);
        Ok(Condition {
            tells_waiting: reply.contains_key("waiting"),
            // circ tells apart what circus calls stopped
            status: match reply.get("waiting") {
                Some(Value::Bool(true)) => WAITING.to_string(),
                _ => text("status").unwrap_or_default(),
            },
            trouble: text("trouble"),
            last_exit: reply.get("last_exit").and_then(Value::as_object).cloned(),
        })
    }

    /// The pids of the watcher's living workers, in order.
    pub fn pids(&mut self, name: &str) -> Result<Vec<i64>, LiveError> {
        let reply = self.ask("list", named(name))?;
        let mut pids: Vec<i64> = reply
            .get("pids")
            .and_then(Value::as_array)
            .map(|pids| pids.iter().filter_map(Value::as_i64).collect())
            .unwrap_or_default();
        pids.sort_unstable();
        Ok(pids)
    }

    /// The age of the youngest worker in seconds; none if the daemon does not tell all ages.
    pub fn youngest(&mut self, name: &str) -> Result<Option<f64>, LiveError> {
        let reply = self.ask("stats", named(name))?;
        let info = reply.get("info").and_then(Value::as_object);
        Ok(info.and_then(youngest_of))
    }

    /// The same for every watcher, by names in lower case.
    pub fn all_youngest(&mut self) -> Result<BTreeMap<String, f64>, LiveError> {
        let reply = self.ask("stats", Map::new())?;
        let infos = reply.get("infos").and_then(Value::as_object);
        Ok(infos
            .into_iter()
            .flatten()
            .filter_map(|(name, info)| Some((name.to_lowercase(), youngest_of(info.as_object()?)?)))
            .collect())
    }
}

/// The age of the youngest of some processes; none if it is not told of all of them.
fn youngest_of(info: &Map<String, Value>) -> Option<f64> {
    let ages: Option<Vec<f64>> = info
        .values()
        .map(|process| process.get("age").and_then(Value::as_f64))
        .collect();
    ages.and_then(|ages| ages.into_iter().reduce(f64::min))
}

fn options_of(reply: &Map<String, Value>) -> Map<String, Value> {
    let options = reply.get("options").and_then(Value::as_object);
    options.cloned().unwrap_or_default()
}

/// The properties of a message about one watcher.
pub fn named(name: &str) -> Map<String, Value> {
    match json!({"name": name}) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn left(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    // In tenths of a second, because a person reads it in an error message. A moment is left even at the deadline: a
    // call with no time at all could tell nothing.
    let tenths = left.as_millis().div_ceil(100).clamp(1, 36_000_000);
    Duration::from_millis(u64::try_from(tenths).unwrap_or(1) * 100)
}

/// The reason of an error reply. (`status` is also where the reply to `status` has its answer.)
fn refusal(reply: &Value) -> Option<String> {
    if reply.get("status").and_then(Value::as_str) != Some("error") {
        return None;
    }
    let reason = reply
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or("no reason given");
    // Circus prefixes some reasons with the whole message; what counts comes after it.
    let short = match reason.strip_prefix("command b'") {
        Some(rest) => rest.rsplit_once("}': ").map_or(reason, |(_, why)| why),
        None => reason,
    };
    Some(short.trim().to_string())
}

/// Circus's one global lock.
fn is_busy(reason: &str) -> bool {
    reason.contains("arbiter is already running") || reason.contains("arbiter is restarting")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_without_the_message_it_is_about() {
        let reply = json!({"status": "error",
            "reason": "command b'{\"command\": \"set\", \"properties\": {}}': 'x' isn't a valid user name"});
        assert_eq!(
            refusal(&reply).as_deref(),
            Some("'x' isn't a valid user name")
        );
        assert_eq!(refusal(&json!({"status": "stopped"})), None);
        assert!(is_busy("arbiter is already running watcher_incr command"));
    }
}
