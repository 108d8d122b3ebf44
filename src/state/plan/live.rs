//! The commands for a watcher that the daemon has.

use serde_json::{Map, Value, json};

use super::super::desired::{Desired, OnChange, Running};
use super::super::observed::{FileSide, LiveWatcher, Observed};
use super::super::values::{option, same, show, wire_value};
use super::{
    Addition, DaemonAction, FileEdit, Plan, managed, manages_count, not_told,
    warn_of_other_differences,
};
use crate::options::{self, Key, Kind, OnSet, OptionSpec, WatcherOptions};

/// Options that say how a watcher's environment is put together when it is made: a `set` changes the option and not
/// the environment.
const MADE_WITH: &[&str] = &["copy_env", "copy_path", "virtualenv", "virtualenv_py_ver"];

/// What differs between the daemon's watcher and the target.
#[derive(Default)]
struct Differences {
    /// All keys that change, for the report.
    keys: Vec<String>,
    /// What `set` gets, and what it was.
    new: Map<String, Value>,
    old: Map<String, Value>,
    /// What `set` cannot change.
    replace: Vec<String>,
}

/// Plans the commands. Returns the keys that change.
pub(super) fn plan(
    plan: &mut Plan,
    desired: &Desired,
    target: &WatcherOptions,
    seen: &Observed,
    live: &LiveWatcher,
) -> Result<Vec<String>, String> {
    let mut found = differences(plan, desired, target, seen, live)?;
    // What is to be stopped is stopped first: no worker is replaced on the way.
    let stops = desired.running == Running::No && live.is_running();
    if stops {
        plan.commands.push(DaemonAction::Stop);
    }
    let running = live.is_running() && !stops;
    let serves = running && live.has_workers();
    if desired.on_change == OnChange::Never && running {
        leave_what_restarts(plan, &mut found, live);
    }
    // What is read from the file again is all that the file says.
    let rereads = !found.replace.is_empty()
        && seen.file.is_some()
        && seen.daemon.as_ref().is_some_and(|side| side.rereads);
    warn_of_other_differences(plan, desired, seen, live, rereads);
    let Differences {
        mut keys,
        new,
        old,
        replace,
    } = found;
    let count = u64::from(target.numprocesses());
    let counted = count != live.numprocesses() && manages_count(desired, seen);
    let changed_options = !keys.is_empty() || edits_options(plan);
    if counted {
        keys.push("numprocesses".to_string());
    }
    if !replace.is_empty() {
        // What the daemon does not tell (limits, hooks) would be lost if the file did not tell it.
        let Some(file) = &seen.file else {
            return Err(format!(
                "this daemon cannot change {} in place, and the watcher cannot be replaced without its file: give \
                 --config",
                replace.join(", ")
            ));
        };
        plan.restarts = serves;
        if rereads {
            plan.commands.push(DaemonAction::Reread {
                keys: replace,
                sections: sections(desired, file, plan),
            });
        } else {
            let before = live.as_options(file.watcher.as_ref().unwrap_or(target));
            let mut wanted = Addition::of_target(target, seen, running || starts(desired));
            if !manages_count(desired, seen) {
                wanted
                    .options
                    .insert("numprocesses".into(), json!(live.numprocesses()));
            }
            plan.commands.push(DaemonAction::Replace {
                new: Box::new(wanted),
                old: Box::new(Addition::of_options(&before, None, running)),
                keys: replace,
            });
            if stops {
                keys.push("status".to_string());
            }
            return Ok(keys);
        }
    }
    let current = live.numprocesses();
    // Fewer workers first: a watcher of several cannot become a singleton, and none is replaced that goes anyway.
    if counted && count < current && !live.is_singleton() {
        plan.commands.push(DaemonAction::Decr(current - count));
    }
    let staying = if counted { count.min(current) } else { current };
    if !new.is_empty() && !rereads {
        plan.restarts |= serves
            && staying > 0
            && !sends_hup(&new, live)
            && new.keys().any(|key| needs_new_workers(key, live));
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
            .filter(|_| rereads || managed(desired, seen).iter().any(|managed| managed == key));
        wanted.or_else(|| live.get(key))
    };
    // Workers that are not replaced when they are done may rightly be gone; so may those that wait for a connection, which
    // circ's daemon tells apart from a watcher that somebody has stopped.
    let must_run = (live.tells_waiting || in_the_end("on_demand") != Some(Value::Bool(true)))
        && in_the_end("respawn") != Some(Value::Bool(false));
    if desired.running == Running::Yes && !running && final_count > 0 && must_run {
        plan.commands.push(DaemonAction::Start);
        keys.push("status".to_string());
    }
    if stops {
        keys.push("status".to_string());
    }
    let restarts_all = desired.on_change == OnChange::Always && changed_options;
    if restarts_all && serves && staying > 0 && !plan.restarts {
        plan.restarts = true;
        plan.commands.push(DaemonAction::Restart);
    }
    Ok(keys)
}

/// The sections that make the watcher, as the file is going to have them.
fn sections(desired: &Desired, file: &FileSide, plan: &Plan) -> Vec<String> {
    let mut sections = vec![file.section.clone()];
    let adds = |edit: &FileEdit| matches!(edit, FileEdit::Env { text: Some(_), .. });
    if file.own_env.is_some() || plan.edits.iter().any(adds) {
        sections.push(format!("env:{}", desired.name));
    }
    sections
}

/// A reload sends SIGHUP and replaces nobody, once these options are set.
fn sends_hup(new: &Map<String, Value>, live: &LiveWatcher) -> bool {
    new.get("send_hup")
        .and_then(Value::as_bool)
        .unwrap_or_else(|| live.sends_hup())
}

fn starts(desired: &Desired) -> bool {
    desired.running == Running::Yes
}

/// The file's edits are about more than the number of workers.
fn edits_options(plan: &Plan) -> bool {
    plan.edits.iter().any(|edit| match edit {
        FileEdit::Set { key, .. } | FileEdit::Unset { key } => key != "numprocesses",
        _ => true,
    })
}

fn differences(
    plan: &Plan,
    desired: &Desired,
    target: &WatcherOptions,
    seen: &Observed,
    live: &LiveWatcher,
) -> Result<Differences, String> {
    let mut found = Differences::default();
    let mut env: Option<Map<String, Value>> = None;
    for key in managed(desired, seen) {
        if key == "numprocesses" || key == "autostart" {
            continue;
        }
        let wanted = option(target, &key);
        if let Some(name) = key.strip_prefix("env.") {
            let edited = plan
                .edits
                .iter()
                .any(|edit| matches!(edit, FileEdit::Env { name: n, .. } if n == name));
            // What is left to a copied environment is the daemon's own, which is not known here.
            let unknown = wanted.is_none() && target.copy_env() && !edited;
            if !unknown && !same(&key, live.get(&key).as_ref(), wanted.as_ref()) {
                let env = env.get_or_insert_with(|| live.environment());
                match wanted {
                    Some(value) => env.insert(name.to_string(), value),
                    None => env.shift_remove(name),
                };
                found.keys.push(key);
            }
            continue;
        }
        match live.get(&key) {
            Some(current) if same(&key, Some(&current), wanted.as_ref()) => {}
            Some(current) => {
                if live.ignores_set.contains(&key)
                    || first_of_stream(&key, live, seen)
                    || MADE_WITH.contains(&key.as_str())
                    || wanted.is_none() && is_entry(&key)
                {
                    found.replace.push(key.clone());
                } else {
                    found
                        .new
                        .insert(key.clone(), wire_value(&key, wanted.as_ref()));
                    found.old.insert(key.clone(), current);
                }
                found.keys.push(key);
            }
            // The daemon does not tell this option: the file knows whether it was right.
            None if plan.edits.iter().any(|edit| edits(edit, &key)) => {
                found.replace.push(key.clone());
                found.keys.push(key);
            }
            None if seen.file.is_none() => return Err(not_told(&key)),
            None => {}
        }
    }
    if let Some(env) = env {
        found
            .old
            .insert("env".into(), Value::Object(live.environment()));
        found.new.insert("env".into(), Value::Object(env));
    }
    Ok(found)
}

/// An entry of a mapping option: `set` can give it another value but cannot take it away.
fn is_entry(key: &str) -> bool {
    matches!(options::find(key), Some((spec, Key::Entry(_)))
        if matches!(spec.kind, Kind::Stream | Kind::Hooks | Kind::Limits))
}

/// It would give the watcher a stream that it has not: circusd's `set` can only change a stream that is there.
fn first_of_stream(key: &str, live: &LiveWatcher, seen: &Observed) -> bool {
    let Some((spec, Key::Entry(_))) = options::find(key) else {
        return false;
    };
    // Without a file no watcher can be replaced.
    let replaced = seen.file.is_some() && seen.daemon.as_ref().is_some_and(|side| !side.rereads);
    spec.kind == Kind::Stream && replaced && !has_entries(spec, live)
}

fn has_entries(spec: &OptionSpec, live: &LiveWatcher) -> bool {
    let value = live.get(spec.name);
    value.is_some_and(|value| value.as_object().is_some_and(|map| !map.is_empty()))
}

/// Whether `set` of this key replaces the workers.
fn needs_new_workers(key: &str, live: &LiveWatcher) -> bool {
    options::spec(key).is_some_and(|spec| match spec.on_set {
        OnSet::Live => false,
        OnSet::Reload => true,
        OnSet::LiveIfThere => !has_entries(spec, live),
    })
}

/// The caller wants no worker replaced: what would do that waits in the file.
fn leave_what_restarts(plan: &mut Plan, found: &mut Differences, live: &LiveWatcher) {
    let hup = sends_hup(&found.new, live);
    let restarts = |key: &str| needs_new_workers(key, live) && !hup;
    let mut waiting: Vec<String> = std::mem::take(&mut found.replace);
    for key in found.new.keys().cloned().collect::<Vec<String>>() {
        if restarts(&key) {
            found.new.shift_remove(&key);
            found.old.shift_remove(&key);
            waiting.push(key);
        }
    }
    let waits = |key: &String| {
        waiting.contains(key) || key.starts_with("env.") && waiting.iter().any(|k| k == "env")
    };
    found.keys.retain(|key| !waits(key));
    for key in &waiting {
        plan.warnings.push(format!(
            "{key} is {} in the running daemon until somebody restarts the watcher: it needs new workers, and \
             restart-on-change is never",
            if key == "env" {
                "as it was".to_string()
            } else {
                show(live.get(key).as_ref())
            }
        ));
    }
}

fn edits(edit: &FileEdit, key: &str) -> bool {
    match edit {
        FileEdit::Set { key: edited, .. } | FileEdit::Unset { key: edited } => edited == key,
        FileEdit::AddSection(options) => options.iter().any(|wanted| wanted.key == key),
        _ => false,
    }
}
