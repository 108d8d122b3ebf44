//! The options of one watcher, whichever door they came in by.

use super::streams::StreamSpec;
use super::values::{parse_kind, py_repr};
use super::{
    Default, Key, Kind, Map, OptionSpec, Value, WATCHER_OPTIONS, find, to_bool, to_signum,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which sockets a watcher's workers get as systemd hands them over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenFds {
    /// None.
    None,
    /// Those that the command names, or all if it names none.
    Used,
    /// These, in this order; in lower case.
    Named(Vec<String>),
}

impl ListenFds {
    /// What a text asks for.
    pub fn of(text: &str) -> ListenFds {
        match to_bool(text) {
            Ok(true) => ListenFds::Used,
            Ok(false) => ListenFds::None,
            Err(_) => ListenFds::Named(
                text.split(|c: char| c == ',' || c.is_whitespace())
                    .filter(|name| !name.is_empty())
                    .map(str::to_lowercase)
                    .collect(),
            ),
        }
    }
}

/// An option whose value cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct OptionError {
    /// The option.
    pub key: String,
    /// What is wrong with the value, and what was expected.
    pub reason: String,
}

impl OptionError {
    /// An error for `key`.
    pub fn new(key: &str, reason: impl Into<String>) -> Self {
        OptionError {
            key: key.to_string(),
            reason: reason.into(),
        }
    }
}

/// The options of one watcher as JSON values, one for every row of the table, and the unknown keys as they were given.
#[derive(Debug, Clone, PartialEq)]
pub struct WatcherOptions {
    /// The name as configured; commands find it in any case.
    pub name: String,
    /// Shared by all copies until one of them changes.
    values: Arc<Map<String, Value>>,
    /// Keys the table does not know, kept and returned by `options`.
    extra: Arc<Map<String, Value>>,
}

impl WatcherOptions {
    /// The defaults of a watcher section.
    pub fn ini_defaults(name: &str) -> Self {
        Self::with_defaults(name, |default| match default {
            Default::Text(text) => Value::from(text),
            Default::EmptyMap => Value::Object(Map::new()),
            other => scalar(other),
        })
    }

    fn with_defaults(name: &str, fill: impl Fn(Default) -> Value) -> Self {
        WatcherOptions {
            name: name.to_string(),
            values: Arc::new(
                WATCHER_OPTIONS
                    .iter()
                    .map(|spec| (spec.name.to_string(), fill(spec.default)))
                    .collect(),
            ),
            extra: Arc::default(),
        }
    }

    /// A watcher as `add` describes it; `environ` is the daemon's environment (for copy_env), `cwd` its directory.
    ///
    /// The options must have passed [`super::check_wire`].
    pub fn from_add(
        name: &str,
        cmd: &str,
        args: &Value,
        options: &Map<String, Value>,
        environ: &BTreeMap<String, String>,
        cwd: &str,
    ) -> Result<Self, OptionError> {
        let mut this = Self::with_defaults(name, |default| match default {
            Default::Text(_) | Default::EmptyMap => Value::Null,
            other => scalar(other),
        });
        this.put("cmd", Value::from(cmd))?;
        this.put("args", args.clone())?;
        // circus's constructor has 0. where its file reader has 0
        this.put("warmup_delay", Value::from(0.0))?;
        this.put("rlimits", Value::Object(Map::new()))?;
        this.put("hooks", Value::Object(Map::new()))?;
        for (key, value) in options {
            this.put(key, value.clone())?;
        }
        if this.copy_env() {
            let mut env: Map<String, Value> = environ
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect();
            if let Some(given) = this.env() {
                env.extend(given.clone());
            }
            this.put("env", Value::Object(env))?;
        } else if this.bool("copy_path") {
            return Err(OptionError::new(
                "copy_path",
                "needs copy_env = True as well",
            ));
        }
        if this.working_dir().is_empty() {
            this.put("working_dir", Value::from(cwd))?;
        }
        this.check_rules()?;
        Ok(this)
    }

    /// Refuses a singleton of several workers.
    pub fn check_singleton(&self) -> Result<(), OptionError> {
        if self.singleton() && self.numprocesses() > 1 {
            return Err(OptionError::new(
                "numprocesses",
                format!(
                    "{} workers asked for, but the watcher is a singleton and has one at most",
                    self.numprocesses()
                ),
            ));
        }
        Ok(())
    }

    /// Refuses what cannot stand together: a singleton of several workers, a stream that lacks something.
    pub fn check_rules(&self) -> Result<(), OptionError> {
        self.check_singleton()?;
        for (name, conf) in [
            ("stdout_stream", self.stdout_stream()),
            ("stderr_stream", self.stderr_stream()),
        ] {
            if let Some(Err(error)) = conf.map(StreamSpec::read) {
                let key = format!("{name}.{}", error.key);
                return Err(OptionError::new(&key, error.reason));
            }
        }
        Ok(())
    }

    /// Takes one key of a watcher section, as text. Keys the table does not know are kept as text.
    pub fn set_ini(&mut self, key: &str, text: &str) -> Result<(), OptionError> {
        // Some reasons name the key by themselves; the error does it for all.
        let prefix = format!("{key}: ");
        let error =
            |reason: String| OptionError::new(key, reason.strip_prefix(&prefix).unwrap_or(&reason));
        let Some((spec, part)) = find(key) else {
            let value = if key == "check_flapping" {
                Value::from(to_bool(text).map_err(error)?)
            } else {
                Value::from(text)
            };
            Arc::make_mut(&mut self.extra).insert(key.to_string(), value);
            return Ok(());
        };
        let value = match (spec.kind, part) {
            (Kind::Limits, Key::Entry(_)) if text.is_empty() => Value::from(-1),
            (Kind::Limits, Key::Entry(_)) => parse_kind(Kind::Int, key, text).map_err(error)?,
            (Kind::Hooks, Key::Entry(_)) => hook_entry(text).map_err(error)?,
            (Kind::Stream, Key::Entry(_)) => Value::from(text),
            (Kind::Limits | Kind::Hooks | Kind::Stream | Kind::Env, _) => {
                // circus reads these keys as free text and overwrites or ignores them
                Arc::make_mut(&mut self.extra).insert(key.to_string(), Value::from(text));
                return Ok(());
            }
            (Kind::Seconds, _) => match text.trim().parse::<i64>() {
                Ok(whole) if spec.name == "warmup_delay" => Value::from(whole),
                _ => parse_kind(Kind::Seconds, key, text).map_err(error)?,
            },
            (Kind::Signal, _) => to_signum(&Value::from(text))
                .map(Value::from)
                .map_err(|_| {
                    error(format!(
                        "{} is no signal; a number or a name such as TERM is expected",
                        py_repr(text)
                    ))
                })?,
            (kind, _) => parse_kind(kind, key, text).map_err(error)?,
        };
        if spec.kind == Kind::Count && value.as_i64().is_some_and(|n| n < 0 || n > i32::MAX as i64)
            || spec.kind == Kind::Seconds && value.as_f64().is_some_and(|n| n < 0.0)
        {
            return Err(error(format!(
                "{} is not allowed: a number from 0 upwards is expected",
                text.trim()
            )));
        }
        self.put(key, value)
    }

    /// Sets an option, or one entry of a mapping option, to a JSON value.
    pub fn put(&mut self, key: &str, value: Value) -> Result<(), OptionError> {
        match find(key) {
            None => {
                Arc::make_mut(&mut self.extra).insert(key.to_string(), value);
            }
            Some((spec, Key::Whole)) => {
                let value = normalize(spec, value)?;
                if spec.kind == Kind::Hooks && !value.is_object() {
                    return Ok(());
                }
                let value = match value {
                    Value::Object(hooks) if spec.kind == Kind::Hooks => hook_entries(hooks)?,
                    other => other,
                };
                Arc::make_mut(&mut self.values).insert(spec.name.to_string(), value);
            }
            Some((spec, Key::Entry(entry))) => {
                let value = match spec.kind {
                    Kind::Limits if value.is_null() => Value::from(-1),
                    Kind::Hooks => hook_value(key, value)?,
                    _ => value,
                };
                let slot = Arc::make_mut(&mut self.values)
                    .entry(spec.name.to_string())
                    .or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(map) = slot {
                    map.insert(entry.to_string(), value);
                }
            }
        }
        Ok(())
    }

    /// Changes an option at run time, as `set` does: seconds become numbers with a fraction, as in circus.
    pub fn change(&mut self, key: &str, value: Value) -> Result<(), OptionError> {
        let seconds = matches!(find(key), Some((spec, Key::Whole)) if spec.kind == Kind::Seconds);
        match (value.as_f64().filter(|_| seconds), value) {
            (Some(number), _) => self.put(key, Value::from(number)),
            // circus sets each of them and leaves the others as they are
            (None, Value::Object(hooks)) if key == "hooks" => hooks
                .into_iter()
                .try_for_each(|(name, value)| self.put(&format!("hooks.{name}"), value)),
            (None, value) => self.put(key, value),
        }
    }

    /// The value of an option, of an entry of a mapping option, or of an unknown key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match find(key) {
            Some((spec, Key::Whole)) => self.values.get(spec.name),
            Some((spec, Key::Entry(entry))) => self.values.get(spec.name)?.get(entry),
            None => self.extra.get(key),
        }
    }

    /// The reply to `options`: circus's keys and the unknown ones, sorted.
    pub fn listed(&self) -> Map<String, Value> {
        let mut pairs: Vec<(String, Value)> = self
            .extra
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for spec in WATCHER_OPTIONS.iter().filter(|spec| spec.listed) {
            let name = match spec.kind {
                Kind::Stream => format!("{}_conf", spec.name),
                _ => spec.name.to_string(),
            };
            let value = self.values.get(spec.name).cloned().unwrap_or(Value::Null);
            pairs.push((name, value));
        }
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.into_iter().collect()
    }

    /// Every value of the table, by name.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The keys the table does not know.
    pub fn extra(&self) -> &Map<String, Value> {
        &self.extra
    }

    /// The keys in which two watchers differ, mapping options as a whole.
    pub fn differing(&self, other: &WatcherOptions) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for (mine, theirs) in [(&self.values, &other.values), (&self.extra, &other.extra)] {
            if Arc::ptr_eq(mine, theirs) {
                continue;
            }
            for (key, value) in mine.iter() {
                if theirs.get(key) != Some(value) {
                    keys.push(key.clone());
                }
            }
            for key in theirs.keys().filter(|key| !mine.contains_key(*key)) {
                keys.push(key.clone());
            }
        }
        keys
    }

    fn value(&self, key: &str) -> &Value {
        self.values.get(key).unwrap_or(&Value::Null)
    }

    fn text(&self, key: &str) -> &str {
        self.value(key).as_str().unwrap_or("")
    }

    fn bool(&self, key: &str) -> bool {
        self.value(key).as_bool().unwrap_or(false)
    }

    fn number(&self, key: &str) -> f64 {
        self.value(key).as_f64().unwrap_or(0.0)
    }

    fn count(&self, key: &str) -> u32 {
        let number = self.value(key).as_u64().unwrap_or(0);
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// The command line.
    pub fn cmd(&self) -> &str {
        self.text("cmd")
    }
    /// Arguments appended to the command: null, a text or a list.
    pub fn args(&self) -> &Value {
        self.value("args")
    }
    /// Whether the command runs through /bin/sh.
    pub fn shell(&self) -> bool {
        self.bool("shell")
    }
    /// Arguments of that shell: null, a text or a list.
    pub fn shell_args(&self) -> &Value {
        self.value("shell_args")
    }
    /// File to execute in place of the command's first word; empty if not set.
    pub fn executable(&self) -> &str {
        self.text("executable")
    }
    /// Directory of the workers; empty if not set.
    pub fn working_dir(&self) -> &str {
        self.text("working_dir")
    }
    /// User, as given: null, a number or a name.
    pub fn uid(&self) -> &Value {
        self.value("uid")
    }
    /// Group, as given: null, a number or a name.
    pub fn gid(&self) -> &Value {
        self.value("gid")
    }
    /// Environment of the workers, complete.
    pub fn env(&self) -> Option<&Map<String, Value>> {
        self.value("env").as_object()
    }
    /// Whether the daemon's environment is copied.
    pub fn copy_env(&self) -> bool {
        self.bool("copy_env")
    }
    /// Whether PYTHONPATH is handed on.
    pub fn copy_path(&self) -> bool {
        self.bool("copy_path")
    }
    /// Root of a virtualenv; empty if not set.
    pub fn virtualenv(&self) -> &str {
        self.text("virtualenv")
    }
    /// How many workers to keep running.
    pub fn numprocesses(&self) -> u32 {
        self.count("numprocesses")
    }
    /// At most one worker.
    pub fn singleton(&self) -> bool {
        self.bool("singleton")
    }
    /// Seconds between starting two workers.
    pub fn warmup_delay(&self) -> f64 {
        self.number("warmup_delay")
    }
    /// Starts with the daemon.
    pub fn autostart(&self) -> bool {
        self.bool("autostart")
    }
    /// Order among watchers.
    pub fn priority(&self) -> i64 {
        self.value("priority").as_i64().unwrap_or(0)
    }
    /// Replace workers that exit.
    pub fn respawn(&self) -> bool {
        self.bool("respawn")
    }
    /// Failed starts before the watcher gives up; None means never.
    pub fn max_retry(&self) -> Option<u32> {
        match self.value("max_retry").as_i64() {
            Some(number) if number >= 0 => Some(u32::try_from(number).unwrap_or(u32::MAX)),
            Some(-1) => None,
            Some(_) => Some(0),
            None => Some(5),
        }
    }
    /// Seconds after which a worker is replaced; 0 means never.
    pub fn max_age(&self) -> u32 {
        self.count("max_age")
    }
    /// Seconds at most that are added to max_age.
    pub fn max_age_variance(&self) -> u32 {
        self.count("max_age_variance")
    }
    /// Seconds before SIGKILL.
    pub fn graceful_timeout(&self) -> f64 {
        self.number("graceful_timeout")
    }
    /// Signal that asks a worker to stop.
    pub fn stop_signal(&self) -> i32 {
        to_signum(self.value("stop_signal")).unwrap_or(15)
    }
    /// The stop signal goes to the worker's children as well.
    pub fn stop_children(&self) -> bool {
        self.bool("stop_children")
    }
    /// A graceful reload sends SIGHUP.
    pub fn send_hup(&self) -> bool {
        self.bool("send_hup")
    }
    /// What is called for this hook, if anything.
    pub fn hook(&self, name: &str) -> Option<Hook<'_>> {
        let pair = self.value("hooks").as_object()?.get(name)?.as_array()?;
        let target = pair.first()?.as_str().filter(|text| !text.is_empty())?;
        let ignore_failure = pair.get(1).and_then(Value::as_bool).unwrap_or(false);
        Some(Hook {
            target,
            ignore_failure,
        })
    }
    /// Seconds that a hook may take; None means as long as it likes.
    pub fn hook_timeout(&self) -> Option<f64> {
        Some(self.number("hook_timeout")).filter(|seconds| *seconds > 0.0)
    }
    /// Seconds after which what a hook has refused is tried again; None means never.
    pub fn hook_retry(&self) -> Option<f64> {
        Some(self.number("hook_retry")).filter(|seconds| *seconds > 0.0)
    }
    /// The workers inherit the sockets.
    pub fn use_sockets(&self) -> bool {
        self.bool("use_sockets")
    }
    /// Socket at file descriptor 0; empty if not set.
    pub fn stdin_socket(&self) -> &str {
        self.text("stdin_socket")
    }
    /// Sockets that are handed over as systemd does it.
    pub fn listen_fds(&self) -> ListenFds {
        match self.value("listen_fds") {
            Value::Bool(true) => ListenFds::Used,
            Value::String(text) => ListenFds::of(text),
            _ => ListenFds::None,
        }
    }
    /// Starts at the first connection only.
    pub fn on_demand(&self) -> bool {
        self.bool("on_demand")
    }
    /// Standard input is /dev/null.
    pub fn close_child_stdin(&self) -> bool {
        self.bool("close_child_stdin")
    }
    /// Standard output is /dev/null.
    pub fn close_child_stdout(&self) -> bool {
        self.bool("close_child_stdout")
    }
    /// Standard error is /dev/null.
    pub fn close_child_stderr(&self) -> bool {
        self.bool("close_child_stderr")
    }
    /// Resource limits by lower-case name; -1 means unlimited.
    pub fn rlimits(&self) -> Map<String, Value> {
        self.value("rlimits")
            .as_object()
            .cloned()
            .unwrap_or_default()
    }
    /// Configuration of the standard output stream.
    pub fn stdout_stream(&self) -> Option<&Map<String, Value>> {
        self.value("stdout_stream")
            .as_object()
            .filter(|map| !map.is_empty())
    }
    /// Configuration of the standard error stream.
    pub fn stderr_stream(&self) -> Option<&Map<String, Value>> {
        self.value("stderr_stream")
            .as_object()
            .filter(|map| !map.is_empty())
    }
}

fn scalar(default: Default) -> Value {
    match default {
        Default::Null | Default::EmptyMap => Value::Null,
        Default::Int(number) => Value::from(number),
        Default::Float(number) => Value::from(number),
        Default::Bool(flag) => Value::from(flag),
        Default::Text(text) => Value::from(text),
    }
}

/// Brings a value into the one form it is kept in, so that equal meanings compare equal.
fn normalize(spec: &OptionSpec, value: Value) -> Result<Value, OptionError> {
    match spec.kind {
        Kind::Signal => to_signum(&value)
            .map(Value::from)
            .map_err(|reason| OptionError::new(spec.name, reason)),
        // circus keeps graceful_timeout and what `set warmup_delay` brings as a float
        Kind::Seconds if spec.name == "graceful_timeout" => value
            .as_f64()
            .map(Value::from)
            .ok_or_else(|| OptionError::new(spec.name, format!("{value} is not a number"))),
        Kind::Sockets => Ok(match value {
            Value::String(text) => parse_kind(Kind::Sockets, spec.name, &text)
                .map_err(|reason| OptionError::new(spec.name, reason))?,
            Value::Null => Value::from(false),
            other => other,
        }),
        _ => Ok(value),
    }
}

/// What is called for a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook<'a> {
    /// The dotted name of a Python callable, or `exec:` and a command line.
    pub target: &'a str,
    /// A failure counts as consent.
    pub ignore_failure: bool,
}

fn hook_entries(hooks: Map<String, Value>) -> Result<Value, OptionError> {
    let entries: Result<Map<String, Value>, OptionError> = hooks
        .into_iter()
        .map(|(name, value)| {
            let value = hook_value(&format!("hooks.{name}"), value)?;
            Ok((name, value))
        })
        .collect();
    entries.map(Value::Object)
}

/// A hook as circus keeps it, a pair; given as that or as text.
fn hook_value(key: &str, value: Value) -> Result<Value, OptionError> {
    let pair = value.as_array().map(Vec::as_slice);
    match (&value, pair) {
        (Value::String(text), _) => {
            hook_entry(text).map_err(|reason| OptionError::new(key, reason))
        }
        (_, Some([Value::String(_), Value::Bool(_)])) => Ok(value),
        _ => Err(OptionError::new(
            key,
            "expected the name of a callable, or the name and a truth value",
        )),
    }
}

/// `callable` or `callable,ignore-failure`, as circus keeps it: a pair. The arguments of an `exec:` hook may hold commas.
fn hook_entry(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with("exec:") {
        let (command, flag) = match text.rsplit_once(',') {
            Some((command, flag)) if to_bool(flag).is_ok() => (command, to_bool(flag)?),
            _ => (text, false),
        };
        return Ok(serde_json::json!([command.trim(), flag]));
    }
    match text.split_once(',') {
        None => Ok(serde_json::json!([text.trim(), false])),
        Some((callable, flag)) => to_bool(flag)
            .map(|flag| serde_json::json!([callable.trim(), flag]))
            .map_err(|_| format!("{} is not CALLABLE or CALLABLE,BOOLEAN", py_repr(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_names_each_option_once_and_defaults_fit_their_kind() {
        let mut names: Vec<_> = WATCHER_OPTIONS.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WATCHER_OPTIONS.len());
        let options = WatcherOptions::ini_defaults("x");
        for spec in WATCHER_OPTIONS.iter().filter(|s| s.kind == Kind::Bool) {
            assert!(
                options.get(spec.name).is_some_and(Value::is_boolean),
                "{}",
                spec.name
            );
        }
    }

    #[test]
    fn ini_values_take_their_types() {
        let mut options = WatcherOptions::ini_defaults("web");
        for (key, text) in [
            ("cmd", "sleep 1"),
            ("numprocesses", "3"),
            ("graceful_timeout", "2"),
            ("stop_signal", "QUIT"),
            ("rlimit_nofile", "500"),
            ("rlimit_as", ""),
            ("stdout_stream.class", "FileStream"),
            ("hooks.before_start", "m.f,True"),
            ("my_key", "kept"),
        ] {
            options.set_ini(key, text).unwrap();
        }
        assert_eq!(options.numprocesses(), 3);
        assert_eq!(options.get("graceful_timeout"), Some(&json!(2.0)));
        assert_eq!(options.stop_signal(), 3);
        assert_eq!(
            options.rlimits(),
            json!({"nofile": 500, "as": -1})
                .as_object()
                .cloned()
                .unwrap()
        );
        assert_eq!(
            options.get("hooks.before_start"),
            Some(&json!(["m.f", true]))
        );
        let listed = options.listed();
        assert_eq!(listed.get("my_key"), Some(&json!("kept")));
        assert_eq!(
            listed.get("stdout_stream_conf"),
            Some(&json!({"class": "FileStream"}))
        );
        assert!(!listed.contains_key("rlimits"));
        assert!(options.set_ini("numprocesses", "many").is_err());
        assert!(options.set_ini("numprocesses", "-1").is_err());
        assert!(options.set_ini("shell", "maybe").is_err());
    }

    #[test]
    fn add_copies_the_environment_only_when_asked() {
        let environ = BTreeMap::from([("PATH".to_string(), "/bin".to_string())]);
        let plain =
            WatcherOptions::from_add("a", "x", &Value::Null, &Map::new(), &environ, "/").unwrap();
        assert_eq!(plain.get("env"), Some(&Value::Null));
        assert_eq!(plain.working_dir(), "/");
        let options = json!({"copy_env": true, "env": {"A": "1"}});
        let copied = WatcherOptions::from_add(
            "a",
            "x",
            &Value::Null,
            options.as_object().unwrap(),
            &environ,
            "/",
        )
        .unwrap();
        assert_eq!(copied.get("env"), Some(&json!({"PATH": "/bin", "A": "1"})));
        let bad = json!({"singleton": true, "numprocesses": 2});
        assert!(
            WatcherOptions::from_add(
                "a",
                "x",
                &Value::Null,
                bad.as_object().unwrap(),
                &environ,
                "/"
            )
            .is_err()
        );
    }
}
