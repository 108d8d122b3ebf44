//! Before anything is changed: both sides are read, the target is worked out and known to be valid, and the plan is
//! made.

use std::time::Instant;

use super::desired::{Desired, Request};
use super::ensure::Settings;
use super::files::{Edited, Files};
use super::live::Live;
use super::observed::{FileSide, Observed};
use super::plan::{self, Plan};
use super::{accounts, store, values};
use crate::options::WatcherOptions;
use crate::wire::Endpoint;
use crate::wire::endpoint::DEFAULT_CONTROL;

/// A run that has looked at everything and knows what to do.
pub(super) struct Prepared {
    pub desired: Desired,
    pub target: WatcherOptions,
    pub seen: Observed,
    pub plan: Plan,
    pub edited: Vec<Edited>,
    pub live: Option<Live>,
    _locks: Vec<store::Lock>,
}

/// Reads both sides and plans. Nothing is changed; what is wrong with the request is found here.
pub(super) fn prepare(
    request: &Request,
    settings: &Settings,
    deadline: Instant,
    warnings: &mut Vec<String>,
) -> Result<Prepared, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let desired = Desired::new(request).map_err(|e| text(&e))?;
    if !settings.live && settings.config.is_none() {
        return Err(
            "neither a file nor a daemon to work on: give --config, or leave out --no-live".into(),
        );
    }
    if !settings.live && !settings.persist {
        return Err("--no-live and --no-persist together leave nothing to do".into());
    }
    let mut locks = Vec::new();
    if let Some(path) = &settings.config
        && !settings.check
        && settings.persist
    {
        let path = settings.cwd.join(path);
        locks.push(store::lock_file(&path, deadline).map_err(|e| text(&e))?);
    }
    let files = settings
        .config
        .as_ref()
        .map(|path| Files::load(path, settings.environ.clone(), settings.cwd.clone()))
        .transpose()
        .map_err(|e| text(&e))?;
    let persisted = files.as_ref().filter(|_| settings.persist);
    let mut seen = Observed {
        file: persisted.map(|files| files.side(&desired.name)),
        daemon: None,
    };
    let mut live = None;
    if settings.live {
        let endpoint = endpoint(settings, files.as_ref())?;
        if !settings.check {
            locks
                .push(store::lock_endpoint(&endpoint.to_string(), deadline).map_err(|e| text(&e))?);
        }
        let mut connection = Live::connect(&endpoint, deadline).map_err(|error| {
            if files.is_some() && settings.persist {
                format!("{error}; to change the file alone, give --no-live")
            } else {
                error.to_string()
            }
        })?;
        connection.ask_for(&plan::managed(&desired, &seen));
        seen.daemon = Some(
            connection
                .observe_at_rest(&desired.name)
                .map_err(|e| text(&e))?,
        );
        live = Some(connection);
    }
    if files.is_none() {
        warnings.push(
            "no --config: only the running daemon is managed, and it will not remember this after a restart"
                .to_string(),
        );
    }
    let target = match persisted {
        Some(files) => target_of_file(&desired, files, &mut seen)?,
        None => target_of_daemon(&desired, files.as_ref(), &seen)?,
    };
    align(&mut seen, &desired, &target);
    let plan = plan::plan(&desired, &target, &seen)?;
    let edited = match persisted {
        Some(files) => {
            let edited = files
                .edited(&desired.name, &plan.edits)
                .map_err(|e| text(&e))?;
            // What is written must be a configuration, and hold what is wanted.
            let after = files.after(&desired.name, &edited).map_err(|e| text(&e))?;
            check_outcome(&desired, &target, &after.watcher)?;
            edited
        }
        None => Vec::new(),
    };
    Ok(Prepared {
        desired,
        target,
        seen,
        plan,
        edited,
        live,
        _locks: locks,
    })
}

/// `--endpoint`, else the configuration's, else the environment's, else the default.
fn endpoint(settings: &Settings, files: Option<&Files>) -> Result<Endpoint, String> {
    let text = settings
        .endpoint
        .as_deref()
        .or(files.map(Files::endpoint))
        .or(settings.fallback_endpoint.as_deref())
        .unwrap_or(DEFAULT_CONTROL);
    text.parse::<Endpoint>().map_err(|error| error.to_string())
}

/// The watcher as the edited configuration would make it: so it is known to be valid before anything is written.
fn target_of_file(
    desired: &Desired,
    files: &Files,
    seen: &mut Observed,
) -> Result<WatcherOptions, String> {
    let Some(side) = &mut seen.file else {
        return Err("the configuration was not read".into());
    };
    if side.watcher.is_none() && !desired.wants("cmd") {
        return Err(plan::no_command(desired, seen));
    }
    // Wrong types are told in terms of the request, not of lines in a file that is not written yet.
    let base = side
        .watcher
        .clone()
        .unwrap_or_else(|| WatcherOptions::ini_defaults(&desired.name));
    if desired
        .options
        .iter()
        .all(|wanted| !has_variable(&wanted.text))
    {
        desired
            .applied_to(&base, str::to_string)
            .map_err(|error| error.to_string())?;
    }
    let edited = files
        .edited(&desired.name, &files.all_edits(desired))
        .map_err(|error| error.to_string())?;
    let outcome = files
        .after(&desired.name, &edited)
        .map_err(|error| error.to_string())?;
    side.environment = outcome.environment;
    Ok(outcome.watcher)
}

fn has_variable(text: &str) -> bool {
    text.contains("$(") || text.contains("((") || text.contains("${")
}

/// The watcher as the daemon has it (or, if it has none, as the file that is not to be edited has it), and what is
/// wanted over it.
fn target_of_daemon(
    desired: &Desired,
    files: Option<&Files>,
    seen: &Observed,
) -> Result<WatcherOptions, String> {
    let live = seen.daemon.as_ref().and_then(|side| side.watcher.as_ref());
    let defaults = WatcherOptions::ini_defaults(&desired.name);
    let base = match (live, files.map(|files| files.side(&desired.name))) {
        (Some(live), _) => live.as_options(&defaults),
        (
            None,
            Some(FileSide {
                watcher: Some(watcher),
                ..
            }),
        ) => watcher,
        (None, _) => defaults,
    };
    desired
        .applied_to(&base, str::to_string)
        .map_err(|error| error.to_string())
}

fn check_outcome(
    desired: &Desired,
    target: &WatcherOptions,
    after: &WatcherOptions,
) -> Result<(), String> {
    for wanted in &desired.options {
        if !values::same(&wanted.key, after.get(&wanted.key), target.get(&wanted.key)) {
            return Err(format!(
                "{} would still be {} after the edit: another section or file has the last word",
                wanted.key,
                values::show(after.get(&wanted.key))
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
