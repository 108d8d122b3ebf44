//! `ensure`: one watcher is there, so configured, and so many of its workers really run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::apply::{Journal, Undone};
use super::desired::Request;
use super::live::LiveError;
use super::observed::{DaemonSide, FileSide, Observed};
use super::plan::{self, DaemonAction, Plan};
use super::prepare::{Prepared, align, prepare};
use super::report::{Diff, Report};
use super::{store, verify};

/// How a run is to go about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration file to edit; without one only the daemon is managed.
    pub config: Option<PathBuf>,
    /// The daemon's endpoint, if the caller named it.
    pub endpoint: Option<String>,
    /// The endpoint of the environment (`CIRCUSCTL_ENDPOINT`), which the configuration overrules.
    pub fallback_endpoint: Option<String>,
    /// Change nothing, say what would change.
    pub check: bool,
    /// Fill in the report's `diff`.
    pub diff: bool,
    /// Talk to the daemon.
    pub live: bool,
    /// Edit the file.
    pub persist: bool,
    /// Time for the whole run.
    pub timeout: Duration,
    /// How long the workers must stay.
    pub settle: Duration,
    /// The environment that variables in the configuration are taken from.
    pub environ: BTreeMap<String, String>,
    /// The directory that relative paths start from.
    pub cwd: PathBuf,
}

/// Does the whole run. Whatever goes wrong is in the report.
pub fn ensure(request: &Request, settings: &Settings) -> Report {
    let deadline = Instant::now() + settings.timeout;
    let mut warnings = Vec::new();
    let prepared = prepare(request, settings, deadline, &mut warnings);
    let mut report = match prepared {
        Ok(prepared) => carry_out(prepared, settings),
        Err(error) => Report::failure(&request.name, settings.check, error),
    };
    warnings.append(&mut report.warnings);
    report.warnings = warnings;
    report
}

fn carry_out(mut run: Prepared, settings: &Settings) -> Report {
    let mut report = Report::new(&run.desired.name, settings.check);
    report.warnings.append(&mut run.plan.warnings);
    report.before = sides(&run, &run.seen);
    report.changes = run.plan.changes.clone();
    report.changed = !run.plan.is_empty();
    if settings.diff {
        report.diff = diff(&run);
    }
    let mut journal = Journal::planned(&run.plan);
    if settings.check {
        report.after = report.before.clone();
        report.restarted = run.plan.restarts;
        report.msg = message(&run, "would change: ");
    } else {
        execute(&mut run, &mut journal, &mut report);
    }
    // With changes still to come there is nothing to wait for.
    if !(report.failed || settings.check && report.changed) {
        settle(&mut run, settings, &mut report);
    }
    report.actions = journal.lines;
    report
}

/// Writes, commands, and undoes both if the daemon refuses.
fn execute(run: &mut Prepared, journal: &mut Journal, report: &mut Report) {
    report.msg = message(run, "");
    report.restarted = run.plan.restarts;
    if let Err(error) = journal.write(&run.edited, run.plan.edits.len()) {
        let undone = journal.undo(None, &run.desired.name);
        refused(report, error.to_string(), &undone, run);
        return;
    }
    let Some(live) = run.live.as_mut() else {
        report.after = sides(run, &after(run, None));
        return;
    };
    let name = run.desired.name.clone();
    let mut result = journal.command(live, &name, &run.plan.commands, run.plan.edits.len());
    if let Ok(ignored) = &result
        && !ignored.is_empty()
    {
        result = match second_plan(run, ignored.clone()) {
            Ok(second) => {
                let first = journal.extend(&second.commands);
                report.restarted |= second.restarts;
                match run.live.as_mut() {
                    Some(live) => journal.command(live, &name, &second.commands, first),
                    None => Ok(BTreeSet::new()),
                }
            }
            Err(error) => {
                let undone = journal.undo(run.live.as_mut(), &name);
                refused(report, error, &undone, run);
                return;
            }
        };
    }
    match result {
        Ok(_) => {}
        Err(error) if error.may_still_happen() => {
            report.fail(format!("{error}; nothing was undone"));
            let now = run.live.as_mut().and_then(|live| live.observe(&name).ok());
            report.after = sides(run, &after(run, now));
        }
        Err(error) => {
            let undone = journal.undo(run.live.as_mut(), &name);
            let hint = hint(&error, &run.plan).unwrap_or_default();
            refused(report, format!("{error}{hint}"), &undone, run);
        }
    }
}

/// What to do when a daemon cannot be told an option at all while it runs (circusd: limits, sockets, priority …).
fn hint(error: &LiveError, plan: &Plan) -> Option<&'static str> {
    let LiveError::Refused {
        command, reason, ..
    } = error
    else {
        return None;
    };
    let limits = plan.commands.iter().any(|action| match action {
        DaemonAction::Add(new) | DaemonAction::Replace { new, .. } => {
            new.options.keys().any(|key| key.starts_with("rlimit_"))
        }
        _ => false,
    });
    let cannot = reason.contains("unknown key") || limits && reason.contains("has no len()");
    (cannot && matches!(command.as_str(), "add" | "set")).then_some(
        " (this daemon cannot be told that while it runs: give --no-live to change the file alone, then reload it)",
    )
}

fn refused(report: &mut Report, error: String, undone: &Undone, run: &Prepared) {
    report.fail(format!("{error}{}", undone.to_text()));
    report.changed = !undone.failed.is_empty();
    if !report.changed {
        report.changes = Map::new();
        report.restarted = false;
        report.after = sides(run, &run.seen);
    }
}

/// Some options are taken by `set` and left as they were: these need a new watcher.
fn second_plan(run: &mut Prepared, ignored: BTreeSet<String>) -> Result<Plan, String> {
    let name = run.desired.name.clone();
    let live = run.live.as_mut().ok_or("no daemon")?;
    let mut daemon = live.observe(&name).map_err(|error| error.to_string())?;
    if let Some(watcher) = &mut daemon.watcher {
        watcher.ignores_set = ignored;
    }
    let mut seen = Observed {
        file: run.seen.file.clone(),
        daemon: Some(daemon),
    };
    align(&mut seen, &run.desired, &run.target);
    plan::plan(&run.desired, &run.target, &seen)
}

/// Waits until the workers run and looks at what is there in the end.
fn settle(run: &mut Prepared, settings: &Settings, report: &mut Report) {
    let name = run.desired.name.clone();
    let (Some(live), Some(mut expect)) = (run.live.as_mut(), run.plan.expect) else {
        return;
    };
    let at_rest = run.plan.is_empty();
    let now = match live.observe(&name) {
        Ok(now) => now,
        Err(error) => return report.fail(error.to_string()),
    };
    if let Some(watcher) = &now.watcher {
        // A count that is not managed is what the daemon has.
        expect.running = watcher.numprocesses();
        expect.must_run &= !(watcher.is_on_demand()
            || watcher.options.get("respawn") == Some(&Value::Bool(false)));
    }
    if let Err(error) = verify::wait_running(live, &name, expect, settings.settle, at_rest) {
        report.fail(error.to_string());
    }
    match live.observe(&name) {
        Ok(daemon) => {
            let seen = after(run, Some(daemon));
            report.after = sides(run, &seen);
            if !report.failed {
                still_wrong(run, seen, report);
            }
        }
        Err(error) if !report.failed => report.fail(error.to_string()),
        Err(_) => {}
    }
}

/// The end is compared with what was wanted: an accepted command is no proof.
fn still_wrong(run: &Prepared, mut seen: Observed, report: &mut Report) {
    align(&mut seen, &run.desired, &run.target);
    match plan::plan(&run.desired, &run.target, &seen) {
        Ok(left) if left.is_empty() => {
            if !report.changed {
                report.msg = message(run, "");
            }
        }
        Ok(left) => report.fail(format!(
            "the daemon took the commands, but {} is still to be done; did somebody else change it meanwhile?",
            left.lines.join(", ")
        )),
        Err(error) => report.fail(error),
    }
}

/// What is there after the run; the file as it was written.
fn after(run: &Prepared, daemon: Option<DaemonSide>) -> Observed {
    Observed {
        file: run.seen.file.as_ref().map(|file| FileSide {
            watcher: Some(run.target.clone()),
            ..file.clone()
        }),
        daemon,
    }
}

/// `{"file": {…}, "daemon": {…}}` of the managed options.
fn sides(run: &Prepared, seen: &Observed) -> Map<String, Value> {
    let keys = plan::managed(&run.desired, &run.seen);
    let mut result = Map::new();
    if let Some(file) = &seen.file {
        let value = file.watcher.as_ref().map_or(Value::Null, |watcher| {
            let pairs = keys.iter().map(|key| {
                (
                    key.clone(),
                    watcher.get(key).cloned().unwrap_or(Value::Null),
                )
            });
            Value::Object(pairs.collect())
        });
        result.insert("file".into(), value);
    }
    if let Some(daemon) = &seen.daemon {
        let value = daemon.watcher.as_ref().map_or(Value::Null, |watcher| {
            let mut map: Map<String, Value> = keys
                .iter()
                .filter_map(|key| Some((key.clone(), watcher.get(key)?)))
                .collect();
            map.insert("status".into(), Value::from(watcher.status.as_str()));
            map.insert("running".into(), Value::from(watcher.pids.len()));
            Value::Object(map)
        });
        result.insert("daemon".into(), value);
    }
    result
}

fn diff(run: &Prepared) -> Vec<Diff> {
    let mut diff: Vec<Diff> = run
        .edited
        .iter()
        .map(|file| Diff::File {
            path: file.path.display().to_string(),
            before: store::text(&file.before),
            after: store::text(&file.after),
        })
        .collect();
    if !run.plan.daemon_lines.is_empty() {
        diff.push(Diff::Prepared(
            run.plan
                .daemon_lines
                .iter()
                .map(|line| format!("daemon: {} {line}\n", run.desired.name))
                .collect(),
        ));
    }
    diff
}

/// `web: numprocesses 2 -> 4`, or that all is well.
fn message(run: &Prepared, mood: &str) -> String {
    let name = &run.desired.name;
    if !run.plan.is_empty() {
        return format!("{name}: {mood}{}", run.plan.lines.join(", "));
    }
    match run
        .seen
        .daemon
        .as_ref()
        .and_then(|side| side.watcher.as_ref())
    {
        Some(live) => format!("{name}: as desired, {} running", live.pids.len()),
        None => format!("{name}: as desired"),
    }
}
