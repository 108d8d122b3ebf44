//! Desired × observed → the smallest list of actions. Pure: no file, no socket, no clock.
//!
//! Which options are managed: those the caller named; if none was named, those that the file's section states. Other
//! options are never changed, and a difference in them between file and daemon is only told as a warning.
//!
//! A count changes by incr and decr, so that no worker restarts. An option is set in place; one that cannot be set in
//! place is read again from the file (circ) or replaces the watcher (circusd: rm and add).

mod addition;
mod file;
mod live;

pub use addition::Addition;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::desired::{Desired, Running, Wanted};
use super::observed::{LiveWatcher, Observed};
use super::values::{option, same, show};
use super::wording::tell;
use crate::options::{self, Key, Kind, WATCHER_OPTIONS, WatcherOptions};

/// One edit of the configuration, in the section it is about.
#[derive(Debug, Clone, PartialEq)]
pub enum FileEdit {
    /// One key gets this text.
    Set {
        /// The key.
        key: String,
        /// The text.
        text: String,
    },
    /// A key goes.
    Unset {
        /// The key.
        key: String,
    },
    /// The section is added with these keys.
    AddSection(Vec<Wanted>),
    /// The section goes.
    RemoveSection,
    /// A variable of the watcher's own `[env:NAME]` section gets this text, or goes.
    Env {
        /// The variable.
        name: String,
        /// Its text.
        text: Option<String>,
    },
    /// The watcher's own `[env:NAME]` section goes.
    RemoveEnv,
}

/// One command to the daemon about one watcher.
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
    /// `stop` of a running watcher.
    Stop,
    /// `restart`, because the caller wants that after a change.
    Restart,
    /// `add`.
    Add(Box<Addition>),
    /// `rm`; the watcher as it was.
    Remove(Box<Addition>),
    /// The watcher's sections are read again from the file, for options that `set` cannot change: circ's daemon then
    /// reloads the workers gracefully.
    Reread {
        /// The options it is about.
        keys: Vec<String>,
        /// The sections that make the watcher.
        sections: Vec<String>,
    },
    /// `rm`, then `add`: the same for a daemon that cannot do that.
    Replace {
        /// The watcher as it should be.
        new: Box<Addition>,
        /// The watcher as it was.
        old: Box<Addition>,
        /// The options it is about.
        keys: Vec<String>,
    },
}

/// What must be true in the daemon in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// How many workers run.
    pub running: u64,
    /// They must be running at this moment; false for watchers whose workers may rightly be gone (`on_demand`,
    /// `respawn = False`, or not managed).
    pub must_run: bool,
}

/// What is to be done about one watcher, and how it will be told.
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
    /// Running workers will be replaced.
    pub restarts: bool,
    /// What to wait for; none without a daemon, or if nothing needs to run.
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
    if !desired.present {
        return Ok(plan_absent(desired, target, seen));
    }
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
    let file_keys = file::plan(&mut plan, desired, target, seen)?;
    let mut daemon_keys = Vec::new();
    if let Some(daemon) = &seen.daemon {
        match &daemon.watcher {
            None => {
                // A later run could not tell whether these are right.
                let named = desired.options.iter().map(|wanted| &wanted.key);
                let untold = named
                    .chain(&desired.unset)
                    .find(|key| options::spec(key).is_some_and(|spec| !spec.listed));
                if let (Some(key), None) = (untold, &seen.file) {
                    return Err(not_told(key));
                }
                let start = match desired.running {
                    Running::Yes => true,
                    Running::No => false,
                    Running::Any => target.autostart(),
                };
                plan.commands
                    .push(DaemonAction::Add(Box::new(Addition::of_target(
                        target, seen, start,
                    ))));
                daemon_keys.push("watcher".to_string());
            }
            Some(live) => {
                daemon_keys = live::plan(&mut plan, desired, target, seen, live)?;
            }
        }
        plan.expect = expectation(desired, target);
    }
    tell(&mut plan, desired, target, seen, &file_keys, &daemon_keys);
    Ok(plan)
}

fn expectation(desired: &Desired, target: &WatcherOptions) -> Option<Expectation> {
    match desired.running {
        Running::Yes => Some(Expectation {
            running: u64::from(target.numprocesses()),
            must_run: target.respawn() && !target.on_demand(),
        }),
        Running::No => Some(Expectation {
            running: 0,
            must_run: true,
        }),
        Running::Any => None,
    }
}

/// The watcher is to go, from both sides.
fn plan_absent(desired: &Desired, target: &WatcherOptions, seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut file_keys = Vec::new();
    let mut daemon_keys = Vec::new();
    if let Some(file) = &seen.file {
        if file.watcher.is_some() {
            plan.edits.push(FileEdit::RemoveSection);
            file_keys.push("watcher".to_string());
        }
        if desired.with_env && file.own_env.is_some() {
            plan.edits.push(FileEdit::RemoveEnv);
            file_keys.push("env".to_string());
        }
    }
    if let Some(live) = seen.daemon.as_ref().and_then(|side| side.watcher.as_ref()) {
        let known = seen.file.as_ref().and_then(|file| file.watcher.as_ref());
        let before = live.as_options(known.unwrap_or(target));
        plan.commands
            .push(DaemonAction::Remove(Box::new(Addition::of_options(
                &before,
                None,
                live.is_running(),
            ))));
        daemon_keys.push("watcher".to_string());
    }
    tell(&mut plan, desired, target, seen, &file_keys, &daemon_keys);
    plan
}

/// Says that there is nothing to run, and what to do.
pub fn no_command(desired: &Desired, seen: &Observed) -> String {
    match &seen.file {
        Some(file) if file.watcher.is_none() => format!(
            "{} has no [watcher:{}] section and no cmd was given: say what to run (--cmd, or cmd in a desired state)",
            file.path, desired.name
        ),
        Some(file) => format!(
            "[watcher:{}] in {} has no cmd: say what to run (--cmd, or cmd in a desired state)",
            desired.name, file.path
        ),
        None => "the daemon has no such watcher and no cmd was given: say what to run (--cmd, or cmd in a desired state)"
            .to_string(),
    }
}

fn not_told(key: &str) -> String {
    format!(
        "the daemon does not tell the value of {key}, so whether it is right can only be read from the file: give \
         --config (and no --no-persist)"
    )
}

/// The keys this run answers for, in a fixed order; a variable of the environment is `env.NAME`.
pub fn managed(desired: &Desired, seen: &Observed) -> Vec<String> {
    let variables = desired.env.iter().map(|(name, _)| name);
    let mut keys: Vec<String> = desired
        .options
        .iter()
        .map(|wanted| wanted.key.clone())
        .chain(desired.unset.iter().cloned())
        .chain(variables.map(|name| format!("env.{name}")))
        .collect();
    if let (true, Some(file)) = (names_nothing(desired), &seen.file) {
        keys.extend(file.stated.iter().filter(|key| decides(key)).cloned());
    }
    if desired.whole {
        // What the daemon tells can be compared although the file does not state it. A directory that is not stated
        // is the daemon's own.
        let compared = WATCHER_OPTIONS.iter().filter(|spec| {
            spec.listed && decides(spec.name) && !matches!(spec.name, "working_dir" | "args")
        });
        for spec in compared {
            if !keys.iter().any(|key| key == spec.name) {
                keys.push(spec.name.to_string());
            }
        }
    }
    for name in &desired.reached_by {
        let key = format!("env.{name}");
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The key of a file's section is one that can be compared with a daemon's.
fn decides(key: &str) -> bool {
    options::find(key).is_some_and(|(spec, part)| match part {
        Key::Entry(_) => true,
        Key::Whole => !matches!(
            spec.kind,
            Kind::Env | Kind::Stream | Kind::Hooks | Kind::Limits
        ),
    })
}

/// Nothing is named, so the file decides over everything it states.
fn names_nothing(desired: &Desired) -> bool {
    desired.present
        && !desired.implicit
        && desired.options.is_empty()
        && desired.unset.is_empty()
        && desired.env.is_empty()
}

/// Whether the number of workers is this run's business: it is named, or nothing is and the file decides.
fn manages_count(desired: &Desired, seen: &Observed) -> bool {
    desired.wants("numprocesses")
        || desired.whole
        || desired.unset.iter().any(|key| key == "numprocesses")
        || (names_nothing(desired) && seen.file.is_some())
}

fn warn_of_other_differences(
    plan: &mut Plan,
    desired: &Desired,
    seen: &Observed,
    live: &LiveWatcher,
    rereads: bool,
) {
    let Some(file) = &seen.file else { return };
    if desired.implicit {
        return;
    }
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
        if !same(key, Some(&value), option(current, key).as_ref()) {
            let what_becomes = match rereads && key != "numprocesses" {
                true => "the daemon reads the section again and takes that over as well",
                false => "it was not asked for and is left alone",
            };
            plan.warnings.push(format!(
                "{key} is {} in the daemon and {} in {}; {what_becomes}",
                show(Some(&value)),
                show(current.get(key)),
                file.path
            ));
        }
    }
}

#[cfg(test)]
mod tests;
