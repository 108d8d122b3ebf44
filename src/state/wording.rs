//! What a plan changes, told: the report's `changes`, the message, the daemon's lines of the diff. Pure.

use serde_json::json;

use super::desired::Desired;
use super::observed::Observed;
use super::plan::Plan;
use super::values::{same, show};
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
                _ => " (in the daemon; the file was right)",
            },
            _ => "",
        };
        match key.as_str() {
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
                plan.changes
                    .insert("status".into(), json!({"old": old, "new": "active"}));
                let line = format!("{old} -> started");
                plan.lines.push(line.clone());
                plan.daemon_lines.push(line);
            }
            _ => {
                let daemon_old = live.and_then(|live| live.get(key));
                let file_old = in_file.and_then(|options| options.get(key)).cloned();
                let old = if on_daemon && daemon_old.is_some() {
                    daemon_old.clone()
                } else {
                    file_old.clone()
                };
                let new = target.get(key);
                plan.changes
                    .insert(key.clone(), json!({"old": old, "new": new}));
                let mut line = format!("{key} {} -> {}", show(old.as_ref()), show(new));
                if on_file
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
                    plan.daemon_lines.push(format!(
                        "{key} {} -> {}",
                        show(daemon_old.as_ref()),
                        show(new)
                    ));
                }
                plan.lines.push(format!("{line}{place}"));
            }
        }
    }
}
