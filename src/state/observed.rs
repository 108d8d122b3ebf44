//! What is there: the file's side and the daemon's side of one watcher.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::options::{self, Key, Kind, WatcherOptions};

/// The status of a watcher that starts at the next connection (`on_demand`).
pub const WAITING: &str = "waiting";

/// Both sides, as far as they were looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// The file; none without `--config`.
    pub file: Option<FileSide>,
    /// The daemon; none with `--no-live`.
    pub daemon: Option<DaemonSide>,
}

/// What the configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSide {
    /// The configuration file's name, as given.
    pub path: String,
    /// The watcher as the configuration makes it: variables replaced, defaults filled in. None if it has no section.
    pub watcher: Option<WatcherOptions>,
    /// The name of its section, or of the one that it would get.
    pub section: String,
    /// The keys that the watcher's section states, in their order.
    pub stated: Vec<String>,
    /// The variables that `[env]` and `[env:…]` give the watcher.
    pub environment: Map<String, Value>,
    /// The variables that the watcher's own section `[env:NAME]` states; none if there is no such section.
    pub own_env: Option<Vec<String>>,
}

/// What a running daemon says.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonSide {
    /// Where it was asked.
    pub endpoint: String,
    /// The watcher; none if the daemon has none of that name.
    pub watcher: Option<LiveWatcher>,
    /// It can be told to read single sections of the very file that is managed here: circ's daemon can.
    pub rereads: bool,
}

/// A watcher in a daemon.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LiveWatcher {
    /// The reply to `options`, and what else of interest the daemon told when it was asked for.
    pub options: Map<String, Value>,
    /// The reply to `status`: active, starting, stopping, stopped, or [`WAITING`].
    pub status: String,
    /// The reply to `list`: the pids of its workers.
    pub pids: Vec<i64>,
    /// Options that this daemon took with `set` and did not change.
    pub ignores_set: BTreeSet<String>,
    /// It may wait for a connection, and this daemon tells that apart from being stopped.
    pub tells_waiting: bool,
}

impl LiveWatcher {
    /// The value of an option, of an entry of a mapping option, or of a variable (`env.NAME`); none if the daemon does
    /// not tell it.
    pub fn get(&self, key: &str) -> Option<Value> {
        if let Some(name) = key.strip_prefix("env.") {
            return self.options.get("env")?.get(name).cloned();
        }
        match options::find(key) {
            Some((spec, part)) => {
                let name = match spec.kind {
                    Kind::Stream => format!("{}_conf", spec.name),
                    _ => spec.name.to_string(),
                };
                let whole = self.options.get(&name)?;
                Some(match part {
                    Key::Whole => whole.clone(),
                    // Not told by a circusd: see `live`.
                    Key::Entry("class") if spec.kind == Kind::Stream => match whole.get("class") {
                        None if whole.as_object().is_some_and(|conf| !conf.is_empty()) => {
                            return None;
                        }
                        class => class.cloned().unwrap_or(Value::Null),
                    },
                    Key::Entry(entry) => whole.get(entry).cloned().unwrap_or(Value::Null),
                })
            }
            None => self.options.get(key).cloned(),
        }
    }

    /// The whole environment of its workers.
    pub fn environment(&self) -> Map<String, Value> {
        let env = self.options.get("env").and_then(Value::as_object);
        env.cloned().unwrap_or_default()
    }

    /// How many workers it should have, in the daemon's own view.
    pub fn numprocesses(&self) -> u64 {
        self.options
            .get("numprocesses")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// Workers run, or are on their way.
    pub fn has_workers(&self) -> bool {
        self.is_running() && self.status != WAITING
    }

    /// It is not stopped.
    pub fn is_running(&self) -> bool {
        self.status != "stopped"
    }

    fn flag(&self, key: &str) -> bool {
        self.options
            .get(key)
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    /// At most one worker.
    pub fn is_singleton(&self) -> bool {
        self.flag("singleton")
    }

    /// A reload sends SIGHUP and replaces nobody.
    pub fn sends_hup(&self) -> bool {
        self.flag("send_hup")
    }

    /// Its workers need not be there: they wait for a connection, or are not replaced when they are done.
    pub fn may_rightly_be_gone(&self) -> bool {
        self.flag("on_demand") || self.options.get("respawn") == Some(&Value::Bool(false))
    }

    /// All that the daemon tells, laid over `base`, which supplies what it does not tell.
    pub fn as_options(&self, base: &WatcherOptions) -> WatcherOptions {
        let mut result = base.clone();
        for (key, value) in &self.options {
            // A value of a daemon that the table cannot take stays as in the base.
            let _ = result.put(key, value.clone());
        }
        for key in ["stdout_stream.class", "stderr_stream.class"] {
            // Not told, see `get`.
            if let (None, Some(class)) = (self.get(key), base.get(key).filter(|c| !c.is_null())) {
                let _ = result.put(key, class.clone());
            }
        }
        result
    }
}
