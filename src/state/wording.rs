//! What a plan changes, told: the report's `changes`, the message, the daemon's lines of the diff. Pure.

use serde_json::json;

use super::desired::{Desired, Running};
use super::observed::Observed;
use super::plan::Plan;
use super::secrets::{self, masked_change};
use super::values::{option, same, show};
use crate::options::WatcherOptions;

/// Fills in `changes` and the texts, from the keys that change on each side.
pub(super) fn tell(
    plan: &mut Plan,
    desired: &Desired,
    target: &WatcherOptions,
    seen: &Observed,
    file_keys: &[String],
    daemon_keys: &[String],
) {
    let both_looked_at = seen.file.is_some() && seen.daemon.is_some();
    let live = seen.daemon.as_ref().and_then(|d| d.watcher.as_ref());
    let in_file = seen.file.as_ref().and_then(|f| f.watcher.as_ref());
    let mut keys: Vec<&String> = file_keys.iter().collect();
    keys.extend(daemon_keys.iter().filter(|key| !file_keys.contains(key)));
    for key in keys {
        let on_file = file_keys.contains(key);
        let on_daemon = daemon_keys.contains(key);
        let place = match (both_looked_at, on_file, on_daemon) {
            (true, true, false) if key == "watcher" => " (to the file; the daemon had it)",
            // A watcher that the daemon gets as a whole gets this option with it.
            (true, true, false) if live.is_none() => "",
            (true, true, false) => " (in the file; the daemon was right)",
            (true, false, true) => match key.as_str() {
                "watcher" => " (to the daemon; the file had it)",
                "status" => "",
                // Another section of the file changes in the same run, and this with it: `[env]`.
                _ if in_file.is_some_and(|file| {
                    !same(
                        key,
                        option(file, key).as_ref(),
                        option(target, key).as_ref(),
                    )
                }) =>
                {
                    ""
                }
                _ => " (in the daemon; the file was right)",
            },
            _ => "",
        };
        match key.as_str() {
            "watcher" if !desired.present => {
                plan.changes
                    .insert("watcher".into(), json!({"old": "present", "new": "absent"}));
                let place = match (both_looked_at, on_file, on_daemon) {
                    (true, true, false) => " (from the file; the daemon did not have it)",
                    (true, false, true) => " (from the daemon; the file did not have it)",
                    _ => "",
                };
                plan.lines.push(format!("removed{place}"));
                if on_daemon {
                    let running = live.map_or(0, |live| live.pids.len());
                    plan.daemon_lines
                        .push(format!("removed, {running} workers stopped"));
                }
            }
            "env" => {
                plan.changes
                    .insert("env".into(), json!({"old": "present", "new": "absent"}));
                plan.lines.push(format!("[env:{}] removed", desired.name));
            }
            "watcher" => {
                plan.changes
                    .insert("watcher".into(), json!({"old": "absent", "new": "present"}));
                plan.lines.push(format!("added{place}"));
                for wanted in &desired.options {
                    plan.changes.insert(
                        wanted.key.clone(),
                        json!({"old": null, "new": target.get(&wanted.key)}),
                    );
                }
                for (name, _) in desired.env.iter().filter(|(_, text)| text.is_some()) {
                    let key = format!("env.{name}");
                    let change = json!({"old": null, "new": option(target, &key)});
                    plan.changes.insert(key, change);
                }
                if on_daemon {
                    plan.daemon_lines.push(format!(
                        "added, {} workers: {}",
                        target.numprocesses(),
                        target.cmd()
                    ));
                }
            }
            "status" => {
                let old = live.map(|live| live.status.clone()).unwrap_or_default();
                let stops = desired.running == Running::No;
                let (new, verb) = match stops {
                    true => ("stopped", "stopped"),
                    false => ("active", "started"),
                };
                plan.changes
                    .insert("status".into(), json!({"old": old, "new": new}));
                let line = format!("{old} -> {verb}");
                plan.lines.push(line.clone());
                plan.daemon_lines.push(line);
            }
            _ => {
                let daemon_old = live.and_then(|live| live.get(key));
                let file_old = in_file.and_then(|options| option(options, key));
                let old = if on_daemon && (daemon_old.is_some() || secrets::is_secret(key)) {
                    daemon_old.clone()
                } else {
                    file_old.clone()
                };
                let new = option(target, key);
                let change = json!({"old": old, "new": new});
                let arrow = |change: &serde_json::Value| {
                    let shown = masked_change(key, change);
                    format!(
                        "{key} {} -> {}",
                        show(shown.get("old")),
                        show(shown.get("new"))
                    )
                };
                let mut line = arrow(&change);
                plan.changes.insert(key.clone(), change);
                if !secrets::is_secret(key)
                    && on_file
                    && on_daemon
                    && daemon_old.is_some()
                    && !same(key, file_old.as_ref(), daemon_old.as_ref())
                {
                    line.push_str(&format!(
                        " (it was {} in the file)",
                        show(file_old.as_ref())
                    ));
                }
                if on_daemon {
                    plan.daemon_lines
                        .push(arrow(&json!({"old": daemon_old, "new": new})));
                }
                plan.lines.push(format!("{line}{place}"));
            }
        }
    }
}
