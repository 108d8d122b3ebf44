//! The arguments of a task: which there are, and what their values may look like.
//!
//! Values arrive typed from YAML, or as text from `key=value` and templates; both mean the same. Everything that is wrong
//! is told at once.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::cli::state;
use crate::config::ini_text;
use crate::options::{nearest_of, to_bool};
use crate::state::Settings;

/// The modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Module {
    /// A watcher, or a whole desired state if the argument desired is given
    #[value(name = "circus")]
    Circus,
    /// A watcher
    #[value(name = "circus_watcher")]
    Watcher,
    /// A socket that the daemon holds
    #[value(name = "circus_socket")]
    Socket,
    /// A section of the configuration file alone
    #[value(name = "circus_config")]
    Config,
    /// A whole desired state
    #[value(name = "circus_state")]
    State,
    /// What there is; changes nothing
    #[value(name = "circus_info")]
    Info,
}

/// How a run goes about it: `circ state`'s options.
const RUN: [&str; 9] = [
    "config",
    "endpoint",
    "timeout",
    "settle",
    "backup",
    "start_daemon",
    "live",
    "persist",
    "show_secrets",
];
/// Where the Python modules find circ. A binary module is circ itself, and takes the argument so that a playbook fits
/// both.
const EXECUTABLE: &str = "executable";

const WATCHER: [&str; 13] = [
    "name",
    "state",
    "procs",
    "cmd",
    "args",
    "options",
    "env",
    "sockets",
    "unset",
    "restart_on_change",
    "with_env",
    "with_socket",
    "signal",
];
const SOCKET: [&str; 7] = ["name", "state", "host", "port", "path", "options", "unset"];
const CONFIG: [&str; 9] = [
    "config",
    "section",
    "state",
    "options",
    "unset",
    "create",
    "force",
    "backup",
    "show_secrets",
];
const STATE: [&str; 2] = ["desired", "prune"];
const INFO: [&str; 6] = [
    "names",
    "config",
    "endpoint",
    "timeout",
    "live",
    "show_secrets",
];

impl Module {
    /// The module of this name, alone or with its collection (`circ.circus.circus_info`).
    pub fn of_name(name: &str) -> Option<Module> {
        let name = name.rsplit('.').next().unwrap_or(name);
        Module::from_str(name, false).ok()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Module::Circus => "circus",
            Module::Watcher => "circus_watcher",
            Module::Socket => "circus_socket",
            Module::Config => "circus_config",
            Module::State => "circus_state",
            Module::Info => "circus_info",
        }
    }

    /// Every argument that it takes.
    pub fn arguments(self) -> Vec<&'static str> {
        let (own, run): (Vec<&[&str]>, &[&str]) = match self {
            Module::Circus => (vec![&WATCHER, &STATE], &RUN),
            Module::Watcher => (vec![&WATCHER], &RUN),
            Module::Socket => (vec![&SOCKET], &RUN),
            Module::Config => (vec![&CONFIG], &[]),
            Module::State => (vec![&STATE], &RUN),
            Module::Info => (vec![&INFO], &[]),
        };
        own.concat()
            .into_iter()
            .chain(run.iter().copied())
            .chain([EXECUTABLE])
            .collect()
    }
}

/// A task: a module and the arguments that are left to read.
#[derive(Debug)]
pub struct Task {
    /// The module.
    pub module: Module,
    /// `--check`: nothing may change.
    pub check: bool,
    /// `--diff`.
    pub diff: bool,
    arguments: Map<String, Value>,
    problems: Vec<String>,
}

impl Task {
    /// Takes Ansible's own keys apart from the user's. An argument that is null was not given.
    pub fn new(module: Module, mut arguments: Map<String, Value>) -> Task {
        let asked = |key: &str| arguments.get(key).and_then(Value::as_bool) == Some(true);
        let (check, diff) = (asked("_ansible_check_mode"), asked("_ansible_diff"));
        arguments.retain(|key, value| !key.starts_with("_ansible_") && !value.is_null());
        let known = module.arguments();
        let problems = arguments
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .map(|key| {
                let hint = match nearest_of(key, known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("there are {}", known.join(", ")),
                };
                format!("unknown argument {key} of {}; {hint}", module.name())
            })
            .collect();
        Task {
            module,
            check,
            diff,
            arguments,
            problems,
        }
    }

    /// The argument was given.
    pub fn has(&self, key: &str) -> bool {
        self.arguments.contains_key(key)
    }

    /// Adds something that is wrong with the task.
    pub fn refuse(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Fails with everything that is wrong so far.
    pub fn check(&self) -> Result<(), String> {
        match self.problems.is_empty() {
            true => Ok(()),
            false => Err(self.problems.join("; ")),
        }
    }

    /// The argument as it is.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.arguments.get(key)
    }

    /// Text; a number is its digits.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let text = match self.arguments.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        self.or_refuse(key, text, "text")
    }

    /// Text that must be given.
    pub fn needed(&mut self, key: &str) -> String {
        if !self.has(key) {
            self.refuse(format!("{} needs the argument {key}", self.module.name()));
        }
        self.text(key).unwrap_or_default()
    }

    /// One of some words; the first if it is not given.
    pub fn word(&mut self, key: &str, words: &[&'static str]) -> &'static str {
        let first = words.first().copied().unwrap_or_default();
        let Some(value) = self.arguments.get(key) else {
            return first;
        };
        let word = words.iter().copied().find(|word| value == word);
        self.or_refuse(key, word, &format!("one of {}", words.join(", ")))
            .unwrap_or(first)
    }

    /// A truth value, as Ansible writes them.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        let Some(value) = self.arguments.get(key) else {
            return default;
        };
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_lowercase().as_str() {
                "y" | "t" => Some(true),
                "n" | "f" => Some(false),
                text => to_bool(text).ok(),
            },
            Value::Number(number) => match number.as_i64() {
                Some(1) => Some(true),
                Some(0) => Some(false),
                _ => None,
            },
            _ => None,
        };
        self.or_refuse(key, flag, "true or false")
            .unwrap_or(default)
    }

    /// A mapping; text may hold one as JSON or as `key=value, key=value`.
    pub fn table(&mut self, key: &str) -> Map<String, Value> {
        let Some(value) = self.arguments.get(key) else {
            return Map::new();
        };
        let table = match value {
            Value::Object(table) => Some(table.clone()),
            Value::String(text) if text.trim().is_empty() => Some(Map::new()),
            Value::String(text) if text.trim_start().starts_with('{') => {
                serde_json::from_str(text).ok()
            }
            Value::String(text) => text
                .split(',')
                .map(|pair| {
                    let (key, value) = pair.split_once('=')?;
                    Some((key.trim().to_string(), Value::from(value.trim())))
                })
                .collect(),
            _ => None,
        };
        self.or_refuse(key, table, "a mapping").unwrap_or_default()
    }

    /// A list of texts; text may hold one, separated by commas.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.arguments.get(key) else {
            return Vec::new();
        };
        let word = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let list: Option<Vec<String>> = match value {
            Value::Array(items) => items.iter().map(word).collect(),
            Value::String(text) => Some(
                text.split(',')
                    .map(|word| word.trim().to_string())
                    .filter(|word| !word.is_empty())
                    .collect(),
            ),
            other => word(other).map(|word| vec![word]),
        };
        self.or_refuse(key, list, "a list of texts")
            .unwrap_or_default()
    }

    fn seconds(&mut self, key: &str, default: Duration) -> Duration {
        match self.text(key).map(|text| state::seconds(&text)) {
            None => default,
            Some(Ok(duration)) => duration,
            Some(Err(error)) => {
                self.refuse(format!("{key}: {error}"));
                default
            }
        }
    }

    fn or_refuse<T>(&mut self, key: &str, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            let shown = match self.arguments.get(key).map(ini_text) {
                Some(Ok(Some(text))) => format!("{text:?}"),
                _ => "what is given".to_string(),
            };
            self.refuse(format!("{key}: {shown} is not {expected}"));
        }
        value
    }

    /// How the run is to go about it.
    pub fn settings(&mut self) -> Settings {
        let default = Settings::new(state::current_directory(), state::environ());
        Settings {
            config: self.text("config").map(PathBuf::from),
            endpoint: self.text("endpoint"),
            fallback_endpoint: state::fallback_endpoint(),
            check: self.check,
            diff: self.diff,
            live: self.flag("live", true),
            persist: self.flag("persist", true),
            timeout: self.seconds("timeout", default.timeout),
            settle: self.seconds("settle", default.settle),
            backup: self.flag("backup", false),
            start_daemon: self.flag("start_daemon", false),
            show_secrets: self.flag("show_secrets", false),
            interrupt: state::interruption::current(),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(arguments: Value) -> Task {
        let Value::Object(arguments) = arguments else {
            panic!("an object")
        };
        Task::new(Module::Circus, arguments)
    }

    #[test]
    fn text_from_key_value_means_what_yaml_means() {
        let mut typed = task(json!({
            "backup": true, "live": false, "unset": ["a", "b"], "options": {"k": "v", "l": "1"}, "settle": 0.5
        }));
        let mut told = task(json!({
            "backup": "yes", "live": "False", "unset": "a, b", "options": "k=v, l=1", "settle": "0.5"
        }));
        for task in [&mut typed, &mut told] {
            let settings = task.settings();
            assert!(settings.backup && !settings.live);
            assert_eq!(settings.settle, Duration::from_millis(500));
            assert_eq!(task.list("unset"), ["a", "b"]);
            assert_eq!(
                Value::Object(task.table("options")),
                json!({"k": "v", "l": "1"})
            );
            assert_eq!(task.check(), Ok(()));
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut task = task(
            json!({"proces": 1, "zzzz": 1, "backup": "maybe", "timeout": "soon", "unset": {}}),
        );
        task.settings();
        task.list("unset");
        let told = task.check().unwrap_err();
        for part in [
            "unknown argument proces of circus; did you mean procs?",
            "unknown argument zzzz of circus; there are name, state",
            "backup: \"maybe\" is not true or false",
            "timeout: a number of seconds",
            "unset: what is given is not a list of texts",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn check_mode_and_diff_are_ansibles() {
        let task = task(json!({"_ansible_check_mode": true, "_ansible_diff": false, "name": null}));
        assert!(task.check && !task.diff && !task.has("name"));
        assert_eq!(task.check(), Ok(()));
    }
}
