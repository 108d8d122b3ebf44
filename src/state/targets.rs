//! Each watcher as it should be in the end, made by reading the configuration as it would be after every wanted edit:
//! so it is known to be valid before anything is written.

use super::accounts;
use super::desired::Desired;
use super::files::{Files, Home, Reading, gone};
use super::observed::Observed;
use super::plan::{self, FileEdit};
use super::prepare::{Refusal, SectionRun, WatcherRun};
use super::values::{option, same, show};
use crate::config::Variables;
use crate::options::{Value, WatcherOptions};

/// The targets of all watchers, in their order. `files` is the managed configuration, `now` the configuration that can
/// be read at all.
pub(super) fn of(
    wanted: &[Desired],
    sections: &[SectionRun],
    files: Option<&Files>,
    now: Option<&Reading<'_>>,
    seen: &mut [Observed],
) -> Result<Vec<WatcherOptions>, Refusal> {
    match files {
        Some(files) => of_files(wanted, sections, files, seen),
        None => wanted
            .iter()
            .zip(seen)
            .map(|(desired, seen)| {
                of_daemon(desired, now, seen).map_err(|e| Refusal::of(&desired.name, e))
            })
            .collect(),
    }
}

fn of_files(
    wanted: &[Desired],
    sections: &[SectionRun],
    files: &Files,
    seen: &mut [Observed],
) -> Result<Vec<WatcherOptions>, Refusal> {
    let mut edits: Vec<(String, bool, Vec<FileEdit>)> = sections
        .iter()
        .map(|run| (run.desired.section(), false, run.plan.edits.clone()))
        .collect();
    for (desired, seen) in wanted.iter().zip(seen.iter()) {
        let in_file = seen.file.as_ref().and_then(|file| file.watcher.as_ref());
        if desired.present
            && in_file.is_none()
            && let Some(other) = files.other_in_section(&desired.name)
        {
            let (section, path) = (format!("watcher:{}", desired.name), files.shown().display());
            let reason = format!(
                "[{section}] in {path} is the watcher {other}, as its key `name` says: name it so"
            );
            return Err(Refusal::of(&desired.name, reason));
        }
        if desired.present && in_file.is_none() && !desired.wants("cmd") {
            return Err(Refusal::of(&desired.name, plan::no_command(desired, seen)));
        }
        // Wrong types are told in terms of the request, not of lines in a file that is not written yet.
        let plain = desired
            .options
            .iter()
            .all(|wanted| !Variables::may_be_in(&wanted.text));
        if plain && desired.present {
            let base = in_file
                .cloned()
                .unwrap_or_else(|| WatcherOptions::ini_defaults(&desired.name));
            desired
                .applied_to(&base, str::to_string)
                .map_err(|error| Refusal::of(&desired.name, error))?;
        }
        edits.push((desired.name.clone(), true, files.all_edits(desired)));
    }
    let edits: Vec<(Home<'_>, &[FileEdit])> = edits
        .iter()
        .map(|(name, watcher, edits)| {
            let home = match watcher {
                true => Home::Watcher(name),
                false => Home::Section(name),
            };
            (home, edits.as_slice())
        })
        .collect();
    let edited = files.edited(&edits)?;
    let after = files.after(&edited)?;
    let mut targets = Vec::new();
    for (desired, seen) in wanted.iter().zip(seen) {
        let outcome = after.outcome(&desired.name);
        if !desired.present {
            let known = seen.file.as_ref().and_then(|file| file.watcher.clone());
            targets.push(known.unwrap_or_else(|| WatcherOptions::ini_defaults(&desired.name)));
            continue;
        }
        let outcome = outcome.ok_or_else(|| {
            Refusal::of(&desired.name, gone(&format!("watcher:{}", desired.name)))
        })?;
        if let Some(side) = &mut seen.file {
            side.environment = outcome.environment;
        }
        targets.push(outcome.watcher);
    }
    Ok(targets)
}

/// The watcher as the daemon has it (or, if it has none, as the file that is not to be edited has it), and what is
/// wanted over it.
fn of_daemon(
    desired: &Desired,
    now: Option<&Reading<'_>>,
    seen: &Observed,
) -> Result<WatcherOptions, String> {
    let live = seen.daemon.as_ref().and_then(|side| side.watcher.as_ref());
    let defaults = WatcherOptions::ini_defaults(&desired.name);
    let in_file = now.and_then(|now| now.outcome(&desired.name));
    let base = match (live, in_file) {
        (Some(live), _) => live.as_options(&defaults),
        (None, Some(outcome)) => outcome.watcher,
        (None, None) => defaults.clone(),
    };
    if !desired.present {
        return Ok(base);
    }
    let mut target = desired
        .applied_to(&base, str::to_string)
        .map_err(|error| error.to_string())?;
    for key in &desired.unset {
        let default = defaults.get(key).cloned().unwrap_or(Value::Null);
        target
            .put(key, default)
            .map_err(|error| error.to_string())?;
    }
    if !desired.env.is_empty() {
        let mut env = target.env().cloned().unwrap_or_default();
        for (name, text) in &desired.env {
            match text {
                Some(text) => env.insert(name.clone(), Value::from(text.as_str())),
                None => env.shift_remove(name),
            };
        }
        target
            .put("env", Value::Object(env))
            .map_err(|error| error.to_string())?;
    }
    Ok(target)
}

/// The edited configuration holds what is wanted.
pub(super) fn check_outcome(run: &WatcherRun, after: &Reading<'_>) -> Result<(), String> {
    let desired = &run.desired;
    let Some(outcome) = after.outcome(&desired.name) else {
        return match desired.present {
            true => Err(gone(&format!("watcher:{}", desired.name)).to_string()),
            false => Ok(()),
        };
    };
    if !desired.present {
        return Err(format!(
            "the configuration would still have a watcher {} after the edit",
            desired.name
        ));
    }
    let last_word = |key: &str, value: Option<&Value>| {
        format!(
            "{key} would still be {} after the edit: another section or file has the last word",
            show(value)
        )
    };
    for wanted in &desired.options {
        let stands = outcome.watcher.get(&wanted.key);
        if !same(&wanted.key, stands, run.target.get(&wanted.key)) {
            return Err(last_word(&wanted.key, stands));
        }
    }
    for (name, text) in &desired.env {
        let stands = option(&outcome.watcher, &format!("env.{name}"));
        let wanted = text
            .as_deref()
            .filter(|text| !Variables::may_be_in(text) && !text.contains('$'));
        if let Some(wanted) = wanted
            && stands.as_ref().and_then(Value::as_str) != Some(wanted.trim())
        {
            return Err(format!(
                "the variable {name} would not have the wanted value after the edit: another [env:…] section, further \
                 down, has the last word"
            ));
        }
    }
    Ok(())
}

/// Where the daemon says the same in another way, its answer is put the way the target has it: an account's number for
/// its name, a text with its variables not yet replaced.
pub(super) fn align(seen: &mut Observed, desired: &Desired, target: &WatcherOptions) {
    let stated: Vec<String> = plan::managed(desired, seen);
    let Some(live) = seen.daemon.as_mut().and_then(|side| side.watcher.as_mut()) else {
        return;
    };
    for key in stated.iter().map(String::as_str).chain(["uid", "gid"]) {
        let (Some(current), Some(wanted)) = (live.get(key), target.get(key)) else {
            continue;
        };
        let unexpanded = desired
            .options
            .iter()
            .any(|option| option.key == key && current.as_str() == Some(option.text.as_str()));
        if (unexpanded || accounts::same_option(key, Some(&current), Some(wanted)))
            && live.options.contains_key(key)
        {
            live.options.insert(key.to_string(), wanted.clone());
        }
    }
}
