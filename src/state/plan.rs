//! Desired × observed → the smallest list of actions. Pure: no file, no socket, no clock.
//!
//! Which options are managed: those the caller named; if none was named, those that the file's section states. Other
//! options are never changed, and a difference in them between file and daemon is only told as a warning.
//!
//! A count changes by incr and decr, so that no worker restarts. An option is set in place; one that cannot be set in
//! place replaces the watcher (rm and add).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::desired::{Desired, Wanted};
use super::observed::{LiveWatcher, Observed};
use super::values::{limit_value, same, show, wire_value};
use super::wording::tell;
use crate::options::{self, Key, Kind, OnSet, WatcherOptions};

/// Options that say how a watcher's environment is put together when it is made: a `set` changes the option and not
/// the environment.
const MADE_WITH: &[&str] = &["copy_env", "copy_path", "virtualenv", "virtualenv_py_ver"];

/// One edit of the configuration file.
#[derive(Debug, Clone, PartialEq)]
pub enum FileEdit {
    /// One key of the watcher's section gets this text.
    Set {
        /// The key.
        key: String,
        /// The text.
        text: String,
    },
    /// The watcher's section is added with these keys.
    AddSection(Vec<Wanted>),
}

/// One command to the daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum DaemonAction {
    /// `set` of these options, and their values before.
    Set {
        /// Option to new value.
        new: Map<String, Value>,
        /// Option to value before.
        old: Map<String, Value>,
    },
    /// `incr` by so many.
    Incr(u64),
    /// `decr` by so many.
    Decr(u64),
    /// `set numprocesses` of a singleton, which takes no incr and decr.
    Count {
        /// Wanted.
        new: u64,
        /// Before.
        old: u64,
    },
    /// `start` of a stopped watcher.
    Start,
    /// `add` with `start`.
    Add(Box<Addition>),
    /// `rm`, then `add` with `start`: for options that the daemon cannot change in place.
    Replace {
        /// The watcher as it should be.
        new: Box<Addition>,
        /// The watcher as it was.
        old: Box<Addition>,
        /// The options it is about.
        keys: Vec<String>,
    },
}

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

/// What must be true in the daemon in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// How many workers run.
    pub running: u64,
    /// They must be running at this moment; false for watchers whose workers may rightly be gone (`on_demand`, and
    /// `respawn = False`).
    pub must_run: bool,
}

/// What is to be done, and how it will be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Edits of the file.
    pub edits: Vec<FileEdit>,
    /// Commands to the daemon.
    pub commands: Vec<DaemonAction>,
    /// `key -> {"old", "new"}` over both sides.
    pub changes: Map<String, Value>,
    /// One short text a change, for the message.
    pub lines: Vec<String>,
    /// One line a change of the daemon, for the diff.
    pub daemon_lines: Vec<String>,
    /// Differences that are not ours to repair.
    pub warnings: Vec<String>,
    /// Running workers will be replaced because of an option.
    pub restarts: bool,
    /// What to wait for; none without a daemon.
    pub expect: Option<Expectation>,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.commands.is_empty()
    }
}

/// Plans the run. `target` is the watcher as it should be in the end: `desired` laid over what is there.
pub fn plan(desired: &Desired, target: &WatcherOptions, seen: &Observed) -> Result<Plan, String> {
    let mut plan = Plan::default();
    if target.cmd().trim().is_empty() {
        return Err(no_command(desired, seen));
    }
    if seen.file.is_none() && desired.wants("autostart") {
        return Err(
            "autostart is about the daemon's own start, so only a file can hold it: give --config"
                .into(),
        );
    }
    let file_keys = plan_file(&mut plan, desired, target, seen)?;
    let mut daemon_keys = Vec::new();
    if let Some(daemon) = &seen.daemon {
        match &daemon.watcher {
            None => {
                // A later run could not tell whether these are right.
                let untold = desired
                    .options
                    .iter()
                    .find(|wanted| options::spec(&wanted.key).is_some_and(|spec| !spec.listed));
                if let (Some(wanted), None) = (untold, &seen.file) {
                    return Err(not_told(&wanted.key));
                }
                plan.commands
                    .push(DaemonAction::Add(Box::new(addition(target, seen, true))));
                daemon_keys.push("watcher".to_string());
            }
            Some(live) => {
                daemon_keys = plan_live(&mut plan, desired, target, seen, live)?;
            }
        }
        plan.expect = Some(Expectation {
            running: u64::from(target.numprocesses()),
            must_run: target.respawn() && !target.on_demand(),
        });
    }
    tell(&mut plan, desired, target, seen, &file_keys, &daemon_keys);
    Ok(plan)
}

/// Says that there is nothing to run, and what to do.
pub fn no_command(desired: &Desired, seen: &Observed) -> String {
    match &seen.file {
        Some(file) if file.watcher.is_none() => format!(
            "{} has no [watcher:{}] section and no --cmd was given: say what to run with --cmd",
            file.path, desired.name
        ),
        Some(file) => format!(
            "[watcher:{}] in {} has no cmd: say what to run with --cmd",
            desired.name, file.path
        ),
        None => "the daemon has no such watcher and no --cmd was given: say what to run with --cmd"
            .to_string(),
    }
}

/// The keys of the file that change; `watcher` alone for a new section.
fn plan_file(
    plan: &mut Plan,
    desired: &Desired,
    target: &WatcherOptions,
    seen: &Observed,
) -> Result<Vec<String>, String> {
    let Some(file) = &seen.file else {
        return Ok(Vec::new());
    };
    let Some(current) = &file.watcher else {
        if !desired.wants("cmd") {
            return Err(no_command(desired, seen));
        }
        plan.edits
            .push(FileEdit::AddSection(desired.options.clone()));
        return Ok(vec!["watcher".to_string()]);
    };
    let mut keys = Vec::new();
    for wanted in &desired.options {
        if !same(
            &wanted.key,
            current.get(&wanted.key),
            target.get(&wanted.key),
        ) {
            plan.edits.push(FileEdit::Set {
                key: wanted.key.clone(),
                text: wanted.text.clone(),
            });
            keys.push(wanted.key.clone());
        }
    }
    Ok(keys)
}

/// The options of a running watcher that change.
fn plan_live(
    plan: &mut Plan,
    desired: &Desired,
    target: &WatcherOptions,
    seen: &Observed,
    live: &LiveWatcher,
) -> Result<Vec<String>, String> {
    let mut keys = Vec::new();
    let mut new = Map::new();
    let mut old = Map::new();
    let mut replace = Vec::new();
    for key in managed(desired, seen) {
        if key == "numprocesses" || key == "autostart" {
            continue;
        }
        let wanted = target.get(&key);
        match live.get(&key) {
            Some(current) if same(&key, Some(&current), wanted) => {}
            Some(current) => {
                if live.ignores_set.contains(&key) || MADE_WITH.contains(&key.as_str()) {
                    replace.push(key.clone());
                } else {
                    new.insert(key.clone(), wire_value(&key, wanted));
                    old.insert(key.clone(), current);
                }
                keys.push(key);
            }
            // The daemon does not tell this option: the file knows whether it was right.
            None if plan.edits.iter().any(|edit| edits(edit, &key)) => {
                replace.push(key.clone());
                keys.push(key);
            }
            None if seen.file.is_none() => {
                return Err(not_told(&key));
            }
            None => {}
        }
    }
    warn_of_other_differences(plan, desired, seen, live);
    let count = u64::from(target.numprocesses());
    let counted = count != live.numprocesses() && manages_count(desired, seen);
    if counted {
        keys.push("numprocesses".to_string());
    }
    let running = live.is_running();
    if !replace.is_empty() {
        // What the daemon does not tell (limits, hooks) would be lost if the file did not tell it.
        let Some(file) = &seen.file else {
            return Err(format!(
                "this daemon cannot change {} in place, and the watcher cannot be replaced without its file: give \
                 --config",
                replace.join(", ")
            ));
        };
        let before = live.as_options(file.watcher.as_ref().unwrap_or(target));
        let mut wanted = addition(target, seen, true);
        if !manages_count(desired, seen) {
            wanted
                .options
                .insert("numprocesses".into(), json!(live.numprocesses()));
        }
        plan.restarts = running;
        plan.commands.push(DaemonAction::Replace {
            new: Box::new(wanted),
            old: Box::new(addition_of(&before, None, running)),
            keys: replace,
        });
        return Ok(keys);
    }
    let current = live.numprocesses();
    // Fewer workers first: a watcher of several cannot become a singleton, and none is replaced that goes anyway.
    if counted && count < current && !live.is_singleton() {
        plan.commands.push(DaemonAction::Decr(current - count));
    }
    if !new.is_empty() {
        let staying = if counted { count.min(current) } else { current };
        plan.restarts = running
            && staying > 0
            && !live.sends_hup()
            && new
                .keys()
                .any(|key| options::spec(key).is_some_and(|spec| spec.on_set == OnSet::Reload));
        plan.commands.push(DaemonAction::Set { new, old });
    }
    if counted && live.is_singleton() {
        plan.commands.push(DaemonAction::Count {
            new: count,
            old: current,
        });
    } else if counted && count > current {
        plan.commands.push(DaemonAction::Incr(count - current));
    }
    let final_count = if counted { count } else { live.numprocesses() };
    let in_the_end = |key: &str| {
        let wanted = target
            .get(key)
            .cloned()
            .filter(|_| managed(desired, seen).iter().any(|managed| managed == key));
        wanted.or_else(|| live.get(key))
    };
    // Workers that wait for a connection, or are not replaced when they are done, may rightly be gone.
    let must_run = in_the_end("on_demand") != Some(Value::Bool(true))
        && in_the_end("respawn") != Some(Value::Bool(false));
    if !running && final_count > 0 && must_run {
        plan.commands.push(DaemonAction::Start);
        keys.push("status".to_string());
    }
    Ok(keys)
}

fn not_told(key: &str) -> String {
    format!(
        "the daemon does not tell the value of {key}, so whether it is right can only be read from the file: give \
         --config (and no --no-persist)"
    )
}

fn edits(edit: &FileEdit, key: &str) -> bool {
    match edit {
        FileEdit::Set { key: edited, .. } => edited == key,
        FileEdit::AddSection(options) => options.iter().any(|wanted| wanted.key == key),
    }
}

/// The keys this run answers for, in a fixed order.
pub fn managed(desired: &Desired, seen: &Observed) -> Vec<String> {
    if !desired.options.is_empty() {
        return desired
            .options
            .iter()
            .map(|wanted| wanted.key.clone())
            .collect();
    }
    let Some(file) = &seen.file else {
        return Vec::new();
    };
    file.stated
        .iter()
        .filter(|key| {
            options::find(key).is_some_and(|(spec, part)| match part {
                Key::Entry(_) => true,
                Key::Whole => !matches!(
                    spec.kind,
                    Kind::Env | Kind::Stream | Kind::Hooks | Kind::Limits
                ),
            })
        })
        .cloned()
        .collect()
}

/// Whether the number of workers is this run's business: it is named, or nothing is and the file decides.
fn manages_count(desired: &Desired, seen: &Observed) -> bool {
    desired.wants("numprocesses") || (desired.options.is_empty() && seen.file.is_some())
}

fn warn_of_other_differences(
    plan: &mut Plan,
    desired: &Desired,
    seen: &Observed,
    live: &LiveWatcher,
) {
    let Some(file) = &seen.file else { return };
    let Some(current) = &file.watcher else {
        plan.warnings.push(format!(
            "{} existed in the daemon only, not in {}",
            desired.name, file.path
        ));
        return;
    };
    let managed: BTreeSet<String> = managed(desired, seen).into_iter().collect();
    for key in &file.stated {
        if managed.contains(key) {
            continue;
        }
        let Some(value) = live.get(key) else { continue };
        if !same(key, Some(&value), current.get(key)) {
            plan.warnings.push(format!(
                "{key} is {} in the daemon and {} in {}; it was not asked for and is left alone",
                show(Some(&value)),
                show(current.get(key)),
                file.path
            ));
        }
    }
}

/// What `add` must say for the watcher to be as `target`.
fn addition(target: &WatcherOptions, seen: &Observed, start: bool) -> Addition {
    addition_of(
        target,
        seen.file.as_ref().map(|file| &file.environment),
        start,
    )
}

fn addition_of(
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
