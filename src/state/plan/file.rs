//! The edits of the file.

use super::super::desired::Desired;
use super::super::observed::{FileSide, Observed};
use super::super::values::{option, same};
use super::{FileEdit, Plan, no_command};
use crate::options::WatcherOptions;

/// Plans the edits. Returns the keys that change; `watcher` alone for a new section.
pub(super) fn plan(
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
        for (name, text) in &desired.env {
            // Its section [env:NAME] may be there before it.
            if text.is_some() || states(file, name) {
                plan.edits.push(FileEdit::Env {
                    name: name.clone(),
                    text: text.clone(),
                });
            }
        }
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
    for key in &desired.unset {
        if file.stated.contains(key) {
            plan.edits.push(FileEdit::Unset { key: key.clone() });
            keys.push(key.clone());
        }
    }
    for (name, text) in &desired.env {
        let key = format!("env.{name}");
        let wrong = match text {
            Some(_) => !same(
                &key,
                option(current, &key).as_ref(),
                option(target, &key).as_ref(),
            ),
            None => states(file, name),
        };
        if wrong {
            plan.edits.push(FileEdit::Env {
                name: name.clone(),
                text: text.clone(),
            });
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The watcher's own `[env:NAME]` section states this variable.
fn states(file: &FileSide, variable: &str) -> bool {
    file.own_env
        .as_ref()
        .is_some_and(|own| own.iter().any(|name| name == variable))
}
