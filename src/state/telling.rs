//! What a run tells: a report for each resource while it goes on, and one over all of them in the end. Pure.

mod whole;

pub(super) use whole::{refused, single};

use serde_json::{Map, Value, json};

use super::apply::{Journal, Undone};
use super::desired::{DesiredSection, DesiredState, SectionKind};
use super::files::Edited;
use super::observed::{DaemonSide, FileSide, Observed};
use super::plan::{self, Plan};
use super::prepare::{Prepared, SectionRun, WatcherRun};
use super::report::{Diff, Report, Standing};
use super::secrets;
use super::sections::{SectionLive, SectionSeen};
use super::settings::Settings;
use super::store;
use super::values::option;

/// The key of the change that a daemon was started, beside the names of resources: no section can be called so.
pub const DAEMON: &str = "[daemon]";

/// The reports of a run's resources: sections first, then watchers.
pub(super) struct Telling {
    entries: Vec<Entry>,
    check: bool,
    masks: bool,
    /// What failed without being about one resource.
    error: Option<String>,
    standing: Standing,
}

struct Entry {
    report: Report,
    /// One short text a change.
    lines: Vec<String>,
    daemon_lines: Vec<String>,
    /// How many workers run when nothing is to be done.
    running: Option<usize>,
    /// It was not asked for by name.
    implicit: bool,
}

impl Telling {
    /// What a plan says before anything is done.
    pub fn planned(prepared: &Prepared, settings: &Settings) -> Telling {
        let masks = !settings.show_secrets;
        let sections = prepared
            .sections
            .iter()
            .map(|run| section_entry(run, settings.check));
        let watchers = prepared
            .watchers
            .iter()
            .map(|run| watcher_entry(run, settings.check, masks));
        Telling {
            entries: sections.chain(watchers).collect(),
            check: settings.check,
            masks,
            error: None,
            standing: Standing::default(),
        }
    }

    pub fn failed(&self) -> bool {
        self.error.is_some() || self.entries.iter().any(|entry| entry.report.failed)
    }

    pub fn has_failed(&self, resource: usize) -> bool {
        self.entries
            .get(resource)
            .is_some_and(|entry| entry.report.failed)
    }

    pub fn is_changed(&self, resource: usize) -> bool {
        self.entries
            .get(resource)
            .is_some_and(|entry| entry.report.changed)
    }

    fn entry(&mut self, resource: usize) -> Option<&mut Entry> {
        self.entries.get_mut(resource)
    }

    pub fn fail(&mut self, resource: usize, reason: String) {
        if let Some(entry) = self.entry(resource)
            && !entry.report.failed
        {
            entry.report.fail(reason);
        }
    }

    /// Sent, and not done when the deadline passed.
    pub fn unfinished(&mut self, resource: Option<usize>, reason: String) {
        match resource {
            Some(resource) => self.fail(resource, reason),
            None => self.error = Some(reason),
        }
    }

    /// The run did not get through and was taken back; `standing` is what that says of the state, if all was.
    pub fn refused(
        &mut self,
        resource: Option<usize>,
        reason: String,
        undone: &Undone,
        standing: Standing,
    ) {
        let text = format!("{reason}{}", undone.to_text());
        let whole = undone.failed.is_empty();
        if whole {
            self.standing = standing;
        }
        let culprit = resource
            .and_then(|resource| self.entries.get(resource))
            .map(|entry| entry.report.name.clone());
        for (at, entry) in self.entries.iter_mut().enumerate() {
            if Some(at) == resource || resource.is_none() {
                entry.report.fail(text.clone());
            } else if entry.report.changed {
                let name = culprit.clone().unwrap_or_default();
                entry
                    .report
                    .fail(format!("not done, because {name} failed"));
                entry.report.in_consequence = true;
            }
            if whole {
                entry.report.changed = false;
                entry.report.changes = Map::new();
                entry.report.restarted = false;
                entry.report.after = entry.report.before.clone();
            }
        }
        if resource.is_none() {
            self.error = Some(text);
        }
    }

    /// What the daemon answered to a reload of sections.
    pub fn reloaded(&mut self, resources: &[usize], reply: &Map<String, Value>) {
        let texts = |key: &str| -> Vec<String> {
            let list = reply.get(key).and_then(Value::as_array);
            list.into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect()
        };
        let restarted = !texts("reloaded").is_empty();
        let waiting = texts("restart_needed");
        for resource in resources {
            if let Some(entry) = self.entry(*resource) {
                entry.report.restarted |= restarted;
                for key in &waiting {
                    let key = key.strip_prefix("circus.").unwrap_or(key);
                    let told = entry
                        .report
                        .warnings
                        .iter()
                        .any(|warning| warning.contains(&format!("[circus] {key} ")));
                    if entry.report.resource == "circus" && !told {
                        entry.report.warnings.push(format!(
                            "[circus] {key} takes effect when the daemon is started anew"
                        ));
                    }
                }
            }
        }
    }

    /// Running workers were replaced.
    pub fn restarted(&mut self, resource: usize) {
        if let Some(entry) = self.entry(resource) {
            entry.report.restarted = true;
        }
    }

    /// What is left after a reload or a `set` was planned anew.
    pub fn planned_again(&mut self, resource: usize, plan: &Plan) {
        if let Some(entry) = self.entry(resource) {
            entry.report.restarted |= plan.restarts;
            for warning in &plan.warnings {
                if !entry.report.warnings.contains(warning) {
                    entry.report.warnings.push(warning.clone());
                }
            }
        }
    }

    /// What was done once more, after somebody else had changed it.
    pub fn done_again(&mut self, resource: usize, plan: &Plan) {
        self.planned_again(resource, plan);
        let masks = self.masks;
        if let Some(entry) = self.entry(resource) {
            entry.report.changed = true;
            let changes = match masks {
                true => masked_changes(&plan.changes),
                false => plan.changes.clone(),
            };
            for (key, change) in changes {
                entry.report.changes.entry(key).or_insert(change);
            }
            let lines = plan.lines.iter().filter(|line| !entry.lines.contains(line));
            let lines: Vec<String> = lines.cloned().collect();
            entry.lines.extend(lines);
            entry.daemon_lines.extend(plan.daemon_lines.iter().cloned());
        }
    }

    /// What is there in the end.
    pub fn after(&mut self, resource: usize, run: &WatcherRun, daemon: &DaemonSide) {
        let masks = self.masks;
        if let Some(entry) = self.entry(resource) {
            entry.running = daemon.watcher.as_ref().map(|watcher| watcher.pids.len());
            entry.report.after = sides(run, &in_the_end(run, Some(daemon.clone())), masks);
        }
    }

    /// What is there of a section in the end.
    pub fn section_after(&mut self, resource: usize, run: &SectionRun, live: SectionLive) {
        let desired = &run.desired;
        let mut seen = run.seen.clone();
        seen.live = live;
        seen.file = desired.present.then(|| {
            let mut stated = seen.file.unwrap_or_default();
            stated.retain(|key, _| !desired.unset.contains(key));
            let wanted = desired.options.iter();
            stated.extend(wanted.map(|wanted| (wanted.key.clone(), wanted.text.clone())));
            stated
        });
        if let Some(entry) = self.entry(resource) {
            entry.report.after = section_sides(desired, &seen);
        }
    }

    /// The report over all.
    pub fn report(
        self,
        state: &DesiredState,
        prepared: &Prepared,
        settings: &Settings,
        journal: &Journal,
    ) -> Report {
        let mut whole = Report::new(&state.origin, self.check);
        whole.resource = "state";
        whole.standing = self.standing;
        let mut files = Vec::new();
        if settings.diff {
            files = file_diff(&prepared.edited, self.masks);
        }
        let mut daemon_text = String::new();
        if prepared.starts_daemon {
            whole.changed = self.error.is_none();
            whole
                .changes
                .insert(DAEMON.into(), json!({"old": "stopped", "new": "running"}));
            daemon_text.push_str("daemon: started\n");
        }
        for (at, mut entry) in self.entries.into_iter().enumerate() {
            entry.report.actions = journal.lines_of(at);
            entry.finish();
            let Entry {
                report,
                daemon_lines,
                implicit,
                ..
            } = entry;
            for line in &daemon_lines {
                daemon_text.push_str(&format!("daemon: {} {line}\n", report.name));
            }
            if implicit && !report.changed && !report.failed {
                continue;
            }
            whole.resources.push(report);
        }
        whole.diff = files;
        if settings.diff && !daemon_text.is_empty() {
            whole.diff.push(Diff::Prepared(daemon_text));
        }
        whole.backups = journal
            .backups()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        whole::sum_up(&mut whole, self.error);
        whole
    }
}

impl Entry {
    /// The message, unless it failed.
    fn finish(&mut self) {
        if self.report.failed {
            return;
        }
        let name = &self.report.name;
        let mood = match (self.report.check, self.report.changed) {
            (true, true) => "would change: ",
            _ => "",
        };
        self.report.msg = if self.report.changed {
            format!("{name}: {mood}{}", self.lines.join(", "))
        } else {
            match self.running {
                Some(running) => format!("{name}: as desired, {running} running"),
                None => format!("{name}: as desired"),
            }
        };
    }
}

fn section_entry(run: &SectionRun, check: bool) -> Entry {
    let mut report = Report::new(&run.desired.section(), check);
    report.before = section_sides(&run.desired, &run.seen);
    report.after = report.before.clone();
    report.resource = match run.desired.kind {
        SectionKind::Circus => "circus",
        SectionKind::Env => "env",
        SectionKind::Socket => "socket",
        SectionKind::Plugin => "plugin",
    };
    report.changed = !run.plan.is_empty();
    report.changes = masked_changes(&run.plan.changes);
    report.warnings = run.plan.warnings.clone();
    let prefix = format!("[{}] ", run.desired.section());
    Entry {
        report,
        lines: run
            .plan
            .lines
            .iter()
            .map(|line| line.strip_prefix(&prefix).unwrap_or(line).to_string())
            .collect(),
        daemon_lines: run.plan.daemon_lines.clone(),
        running: None,
        implicit: false,
    }
}

/// `{"file": {…}, "daemon": {…}}` of a section's managed keys.
fn section_sides(desired: &DesiredSection, seen: &SectionSeen) -> Map<String, Value> {
    let wanted = desired.options.iter().map(|wanted| &wanted.key);
    let keys: Vec<&String> = wanted.chain(&desired.unset).collect();
    let is_env = desired.kind == SectionKind::Env;
    let mut sides = Map::new();
    if seen.path.is_some() {
        let file = seen.file.as_ref().map_or(Value::Null, |stated| {
            let pairs = keys.iter().map(|key| {
                let text = stated
                    .get(*key)
                    .map_or(Value::Null, |text| Value::from(text.as_str()));
                let shown = if is_env {
                    secrets::masked("env.", text)
                } else {
                    text
                };
                ((*key).clone(), shown)
            });
            Value::Object(pairs.collect())
        });
        sides.insert("file".into(), file);
    }
    match &seen.live {
        SectionLive::Unknown => {}
        SectionLive::Missing => {
            sides.insert("daemon".into(), Value::Null);
        }
        SectionLive::Told(told) => {
            let pairs = keys
                .iter()
                .filter_map(|key| Some(((*key).clone(), told.get(*key)?.clone())));
            sides.insert("daemon".into(), Value::Object(pairs.collect()));
        }
    }
    sides
}

fn watcher_entry(run: &WatcherRun, check: bool, masks: bool) -> Entry {
    let mut report = Report::new(&run.desired.name, check);
    report.changed = !run.plan.is_empty();
    report.changes = if masks {
        masked_changes(&run.plan.changes)
    } else {
        run.plan.changes.clone()
    };
    report.warnings = run.plan.warnings.clone();
    report.restarted = run.plan.restarts;
    report.before = sides(run, &run.seen, masks);
    report.after = if check {
        report.before.clone()
    } else {
        sides(run, &in_the_end(run, None), masks)
    };
    let live = run
        .seen
        .daemon
        .as_ref()
        .and_then(|side| side.watcher.as_ref());
    Entry {
        report,
        lines: run.plan.lines.clone(),
        daemon_lines: run.plan.daemon_lines.clone(),
        running: live.map(|live| live.pids.len()),
        implicit: run.desired.implicit,
    }
}

fn masked_changes(changes: &Map<String, Value>) -> Map<String, Value> {
    changes
        .iter()
        .map(|(key, change)| (key.clone(), secrets::masked_change(key, change)))
        .collect()
}

/// What is there after the run; the file as it was written.
fn in_the_end(run: &WatcherRun, daemon: Option<DaemonSide>) -> Observed {
    Observed {
        file: run.seen.file.as_ref().map(|file| FileSide {
            watcher: run.desired.present.then(|| run.target.clone()),
            ..file.clone()
        }),
        daemon,
    }
}

/// `{"file": {…}, "daemon": {…}}` of the managed options.
fn sides(run: &WatcherRun, seen: &Observed, masks: bool) -> Map<String, Value> {
    let keys = plan::managed(&run.desired, &run.seen);
    let shown = |key: &str, value: Value| {
        if masks {
            secrets::masked(key, value)
        } else {
            value
        }
    };
    let mut result = Map::new();
    if let Some(file) = &seen.file {
        let value = file.watcher.as_ref().map_or(Value::Null, |watcher| {
            let pairs = keys.iter().map(|key| {
                let value = option(watcher, key).unwrap_or(Value::Null);
                (key.clone(), shown(key, value))
            });
            Value::Object(pairs.collect())
        });
        result.insert("file".into(), value);
    }
    if let Some(daemon) = &seen.daemon {
        let value = daemon.watcher.as_ref().map_or(Value::Null, |watcher| {
            let mut map: Map<String, Value> = keys
                .iter()
                .filter_map(|key| Some((key.clone(), shown(key, watcher.get(key)?))))
                .collect();
            map.insert("status".into(), Value::from(watcher.status.as_str()));
            map.insert("running".into(), Value::from(watcher.pids.len()));
            Value::Object(map)
        });
        result.insert("daemon".into(), value);
    }
    result
}

fn file_diff(edited: &[Edited], masks: bool) -> Vec<Diff> {
    edited
        .iter()
        .map(|file| {
            let path = file.path.display().to_string();
            let (before, after) = if masks {
                secrets::masked_texts(&path, &file.before, &file.after)
            } else {
                (store::text(&file.before), store::text(&file.after))
            };
            Diff::File {
                path,
                before,
                after,
            }
        })
        .collect()
}
