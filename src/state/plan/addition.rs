//! What an `add` command says.

use serde_json::{Map, Value};

use super::super::observed::Observed;
use super::super::values::{limit_value, same};
use crate::options::{self, Kind, WatcherOptions};

/// What an `add` command says.
#[derive(Debug, Clone, PartialEq)]
pub struct Addition {
    /// The watcher's name.
    pub name: String,
    /// The command.
    pub cmd: String,
    /// Its arguments.
    pub args: Value,
    /// All other options that are not at their default.
    pub options: Map<String, Value>,
    /// Start it too; false for a watcher that was stopped.
    pub start: bool,
}

impl Addition {
    /// What `add` must say for the watcher to be as `target`.
    pub(super) fn of_target(target: &WatcherOptions, seen: &Observed, start: bool) -> Addition {
        Addition::of_options(
            target,
            seen.file.as_ref().map(|file| &file.environment),
            start,
        )
    }

    /// The same with these variables for an environment, or the options' own.
    pub(super) fn of_options(
        target: &WatcherOptions,
        environment: Option<&Map<String, Value>>,
        start: bool,
    ) -> Addition {
        let defaults = WatcherOptions::ini_defaults(&target.name);
        let mut sent = Map::new();
        for (key, value) in target.values() {
            let Some(spec) = options::spec(key) else {
                continue;
            };
            // autostart is about the daemon's own start.
            if matches!(key.as_str(), "cmd" | "args" | "autostart") {
                continue;
            }
            match spec.kind {
                Kind::Env => {
                    let env = environment.or(value.as_object());
                    if let Some(env) = env.filter(|env| !env.is_empty()) {
                        sent.insert(key.clone(), Value::Object(env.clone()));
                    }
                }
                Kind::Limits => {
                    for (limit, number) in value.as_object().into_iter().flatten() {
                        sent.insert(format!("rlimit_{limit}"), limit_value(number));
                    }
                }
                _ if value.is_null() || same(key, Some(value), defaults.get(key)) => {}
                _ => {
                    sent.insert(key.clone(), value.clone());
                }
            }
        }
        Addition {
            name: target.name.clone(),
            cmd: target.cmd().to_string(),
            args: match target.args() {
                Value::String(text) if text.is_empty() => Value::Null,
                other => other.clone(),
            },
            options: sent,
            start,
        }
    }
}
