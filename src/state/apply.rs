//! The only file of this room with effects: writes the file, sends the commands, and takes both back when the daemon
//! refuses.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::files::Edited;
use super::live::{Live, LiveError, named};
use super::plan::{Addition, DaemonAction, FileEdit};
use super::report::{ActionLine, ActionStatus, Target};
use super::store::{self, Change, StoreError, Stored};

/// What was done so far, so that it can be told and taken back. A resource is a watcher or a section of the run, by its
/// number there.
#[derive(Debug, Default)]
pub struct Journal {
    lines: Vec<(usize, ActionLine)>,
    /// The files that were written, and what became of each.
    written: Vec<(Edited, Stored)>,
    /// The daemon's actions that were tried, in order.
    tried: Vec<Tried>,
}

/// An action that was sent.
#[derive(Debug)]
struct Tried {
    what: Sent,
    /// Its lines.
    from: usize,
    to: usize,
}

#[derive(Debug)]
enum Sent {
    /// A command about the watcher of this name.
    Watcher(String, DaemonAction),
    /// The daemon read these sections of its file again.
    Reload(Vec<String>),
}

/// What was undone, and what could not be.
#[derive(Debug, Default)]
pub struct Undone {
    /// One short text each.
    pub done: Vec<String>,
    /// Likewise, with the reason.
    pub failed: Vec<String>,
}

impl Undone {
    /// For the end of an error message.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.done.is_empty() {
            text.push_str(&format!("; undone: {}", self.done.join(", ")));
        }
        if !self.failed.is_empty() {
            text.push_str(&format!(
                "; could not be undone: {}",
                self.failed.join(", ")
            ));
        }
        text
    }
}

impl Journal {
    /// Adds the lines of a resource's edits, none of them done.
    pub fn plan_edits(&mut self, resource: usize, edits: &[FileEdit]) {
        for edit in edits {
            let line = match edit {
                FileEdit::Set { key, .. } => line(Target::File, "set", Some(key)),
                FileEdit::Unset { key } => line(Target::File, "unset", Some(key)),
                FileEdit::AddSection(_) => line(Target::File, "add", None),
                FileEdit::RemoveSection => line(Target::File, "remove", None),
                FileEdit::Env { name, text } => {
                    let op = if text.is_some() { "set" } else { "unset" };
                    line(Target::File, op, Some(&format!("env.{name}")))
                }
                FileEdit::RemoveEnv => line(Target::File, "remove", Some(&"env".to_string())),
            };
            self.lines.push((resource, line));
        }
    }

    /// Adds the lines of a resource's commands, none of them sent.
    pub fn plan_commands(&mut self, resource: usize, actions: &[DaemonAction]) {
        let lines = actions.iter().flat_map(lines_of);
        self.lines.extend(lines.map(|line| (resource, line)));
    }

    /// Adds the line of a section that the daemon is to read again.
    pub fn plan_reload(&mut self, resource: usize) {
        self.lines
            .push((resource, line(Target::Daemon, "reload", None)));
    }

    /// The lines about one resource.
    pub fn lines_of(&self, resource: usize) -> Vec<ActionLine> {
        let own = self.lines.iter().filter(|(of, _)| *of == resource);
        own.map(|(_, line)| line.clone()).collect()
    }

    fn mark(&mut self, range: std::ops::Range<usize>, status: ActionStatus) {
        for (_, line) in self.lines.iter_mut().take(range.end).skip(range.start) {
            line.status = status;
        }
    }

    fn mark_file(&mut self, status: ActionStatus) {
        for (_, line) in &mut self.lines {
            if line.target == Target::File {
                line.status = status;
            }
        }
    }

    /// Writes the edited files, all or none; with `backup` the old versions are kept beside them.
    pub fn write(&mut self, edited: &[Edited], backup: bool) -> Result<(), StoreError> {
        let changes: Vec<Change> = edited
            .iter()
            .map(|file| Change {
                path: &file.path,
                before: Some(&file.before),
                after: Some(&file.after),
            })
            .collect();
        let stored = store::write(&changes, &store::Options { backup });
        self.mark_file(match &stored {
            Ok(_) => ActionStatus::Done,
            Err(_) => ActionStatus::Failed,
        });
        self.written = edited.iter().cloned().zip(stored?).collect();
        Ok(())
    }

    /// The old versions that were kept.
    pub fn backups(&self) -> Vec<PathBuf> {
        let kept = self.written.iter();
        kept.filter_map(|(_, stored)| stored.backup.clone())
            .collect()
    }

    /// What the caller should be told of the files.
    pub fn warnings(&self) -> Vec<String> {
        let stored = self.written.iter().map(|(_, stored)| stored);
        stored
            .flat_map(|stored| stored.warnings.iter().cloned())
            .collect()
    }

    /// Lets the daemon read these sections of its file again; all of them if it cannot tell them apart (circusd).
    pub fn reload(
        &mut self,
        live: &mut Live,
        sections: &[String],
        resources: &[usize],
    ) -> Result<Map<String, Value>, LiveError> {
        let from = self.lines.len();
        for resource in resources {
            self.plan_reload(*resource);
        }
        live.go_on()?;
        let to = self.lines.len();
        let result = reload(live, sections);
        self.tried.push(Tried {
            what: Sent::Reload(sections.to_vec()),
            from,
            to,
        });
        self.mark(from..to, status_of(&result));
        result
    }

    /// Sends the commands of a plan. Returns the options that the daemon took with `set` and did not change; the
    /// commands after that one are not sent.
    pub fn command(
        &mut self,
        live: &mut Live,
        resource: usize,
        name: &str,
        actions: &[DaemonAction],
    ) -> Result<BTreeSet<String>, LiveError> {
        let mut ignored = BTreeSet::new();
        for (at, action) in actions.iter().enumerate() {
            if let Err(error) = live.go_on() {
                self.plan_commands(resource, actions.get(at..).unwrap_or_default());
                return Err(error);
            }
            let from = self.lines.len();
            let lines = lines_of(action);
            let to = from + lines.len();
            self.lines
                .extend(lines.into_iter().map(|line| (resource, line)));
            self.tried.push(Tried {
                what: Sent::Watcher(name.to_string(), action.clone()),
                from,
                to,
            });
            let sent = send(live, name, action);
            self.mark(from..to, status_of(&sent));
            if let Err(error) = sent {
                self.plan_commands(resource, actions.get(at + 1..).unwrap_or_default());
                return Err(error);
            }
            if let DaemonAction::Set { new, .. } = action {
                ignored.extend(not_taken(live, name, new)?);
            }
            if !ignored.is_empty() {
                // What was to follow is planned anew, without counting on this.
                break;
            }
        }
        Ok(ignored)
    }

    /// Takes everything back, last action first, also if the run was asked to end.
    pub fn undo(&mut self, live: Option<&mut Live>) -> Undone {
        match live {
            Some(live) => live.finishing(|live| self.take_all_back(Some(live))),
            None => self.take_all_back(None),
        }
    }

    fn take_all_back(&mut self, mut live: Option<&mut Live>) -> Undone {
        let mut undone = Undone::default();
        let mut again: Vec<String> = Vec::new();
        // circ's daemon takes over all that it was told to read, or nothing; a circusd may have stopped half way.
        let whole = live.as_deref().is_some_and(Live::rereads);
        for Tried { what, from, to } in std::mem::take(&mut self.tried).into_iter().rev() {
            let was_done = self
                .lines
                .get(from)
                .is_some_and(|(_, line)| line.status == ActionStatus::Done);
            let (name, action) = match what {
                Sent::Reload(_) | Sent::Watcher(_, DaemonAction::Reread { .. })
                    if whole && !was_done =>
                {
                    continue;
                }
                Sent::Reload(sections) => {
                    again.extend(sections);
                    if was_done {
                        self.mark(from..to, ActionStatus::Undone);
                    }
                    continue;
                }
                Sent::Watcher(_, DaemonAction::Reread { sections, .. }) => {
                    again.extend(sections);
                    if was_done {
                        self.mark(from..to, ActionStatus::Undone);
                    }
                    continue;
                }
                Sent::Watcher(name, action) => (name, action),
            };
            let Some(live) = live.as_deref_mut() else {
                continue;
            };
            match take_back(live, &name, &action, was_done) {
                Ok(Some(text)) => {
                    undone.done.push(text);
                    if was_done {
                        self.mark(from..to, ActionStatus::Undone);
                    }
                }
                Ok(None) => {}
                Err((text, error)) => undone.failed.push(format!("{text}: {error}")),
            }
        }
        for (file, stored) in std::mem::take(&mut self.written).into_iter().rev() {
            let path = file.path.display();
            let options = store::Options::default();
            match store::replace(&file.path, &file.after, &file.before, &options) {
                Ok(_) => {
                    undone.done.push(format!("{path} was put back"));
                    // A copy of what is there again; one that stays is no harm.
                    if let Some(backup) = stored.backup {
                        let _ = std::fs::remove_file(backup);
                    }
                }
                Err(error) => undone.failed.push(error.to_string()),
            }
        }
        // What the daemon had read of the file it reads again, now that the old one is back.
        if let (false, Some(live)) = (again.is_empty(), live) {
            let text = format!("{} read again", again.join(", "));
            match reload(live, &again) {
                Ok(_) => undone.done.push(text),
                Err(error) => undone.failed.push(format!("{text}: {error}")),
            }
        }
        if undone.failed.is_empty() {
            for (_, line) in &mut self.lines {
                if line.target == Target::File && line.status == ActionStatus::Done {
                    line.status = ActionStatus::Undone;
                }
            }
        }
        undone
    }
}

fn status_of<T>(result: &Result<T, LiveError>) -> ActionStatus {
    match result {
        Ok(_) => ActionStatus::Done,
        Err(error) if error.may_still_happen() => ActionStatus::Unfinished,
        Err(LiveError::Interrupted(_)) => ActionStatus::Planned,
        Err(_) => ActionStatus::Failed,
    }
}

/// `reloadconfig`, of these sections only if the daemon is able to.
fn reload(live: &mut Live, sections: &[String]) -> Result<Map<String, Value>, LiveError> {
    let mut properties = Map::new();
    properties.insert("only".into(), json!(sections));
    live.order("reloadconfig", properties)
}

fn line(target: Target, op: &str, key: Option<&String>) -> ActionLine {
    ActionLine {
        target,
        op: op.to_string(),
        key: key.cloned(),
        status: ActionStatus::Planned,
        name: None,
    }
}

/// The lines of one command: an option each for `set`.
fn lines_of(action: &DaemonAction) -> Vec<ActionLine> {
    let count = "numprocesses".to_string();
    let one = |op: &str, key: Option<&String>| vec![line(Target::Daemon, op, key)];
    match action {
        DaemonAction::Set { new, .. } => new
            .keys()
            .map(|key| line(Target::Daemon, "set", Some(key)))
            .collect(),
        DaemonAction::Incr(_) => one("incr", Some(&count)),
        DaemonAction::Decr(_) => one("decr", Some(&count)),
        DaemonAction::Count { .. } => one("set", Some(&count)),
        DaemonAction::Start => one("start", None),
        DaemonAction::Stop => one("stop", None),
        DaemonAction::Restart => one("restart", None),
        DaemonAction::Add(_) => one("add", None),
        DaemonAction::Remove(_) => one("rm", None),
        DaemonAction::Reread { keys, .. } => keys
            .iter()
            .map(|key| line(Target::Daemon, "reload", Some(key)))
            .collect(),
        DaemonAction::Replace { keys, .. } => keys
            .iter()
            .map(|key| line(Target::Daemon, "replace", Some(key)))
            .collect(),
    }
}

fn send(live: &mut Live, name: &str, action: &DaemonAction) -> Result<(), LiveError> {
    match action {
        DaemonAction::Set { new, .. } => set(live, name, new.clone()),
        DaemonAction::Incr(by) => count(live, "incr", name, *by),
        DaemonAction::Decr(by) => count(live, "decr", name, *by),
        DaemonAction::Count { new, .. } => set(live, name, numprocesses(*new)),
        DaemonAction::Start => start(live, name),
        DaemonAction::Stop => stop(live, name),
        DaemonAction::Restart => live.order("restart", exactly(name)).map(|_| ()),
        DaemonAction::Remove(_) => remove(live, name),
        DaemonAction::Reread { sections, .. } => reload(live, sections).map(|_| ()),
        DaemonAction::Add(addition) => live.finishing(|live| {
            let added = add(live, addition);
            // Refused after it was added, by its start; one that was there before is somebody else's.
            if matches!(&added, Err(LiveError::Refused { reason, .. }) if !reason.contains("already exist"))
                && exists(live, name)
            {
                remove(live, name)?;
            }
            added
        }),
        DaemonAction::Replace { new, .. } => live.finishing(|live| {
            // What the daemon would refuse must be refused before the old watcher is gone.
            rehearse(live, new)?;
            remove(live, name)?;
            add(live, new)
        }),
    }
}

/// Reverses an action: what to tell, or nothing if there was nothing to reverse.
fn take_back(
    live: &mut Live,
    name: &str,
    action: &DaemonAction,
    was_done: bool,
) -> Result<Option<String>, (String, LiveError)> {
    let (text, result) = match action {
        // A refused `set` may have changed some of its options: circus changes them one by one.
        DaemonAction::Set { new, old } => {
            let keys: Vec<&str> = new.keys().map(String::as_str).collect();
            let changed = changed_options(live, name, old).unwrap_or_else(|_| old.clone());
            if changed.is_empty() {
                return Ok(None);
            }
            (
                format!("{} set back", keys.join(", ")),
                set(live, name, changed),
            )
        }
        // Refused at the rehearsal: the old one is still there.
        DaemonAction::Replace { .. } if !was_done && exists(live, name) => return Ok(None),
        DaemonAction::Replace { new, old, .. } => {
            // What the daemon has now is the new one, or none.
            let _ = remove(live, &new.name);
            (
                format!("{} added again as it was", old.name),
                add(live, old),
            )
        }
        _ if !was_done => return Ok(None),
        DaemonAction::Incr(by) => (
            format!("numprocesses lowered by {by} again"),
            count(live, "decr", name, *by),
        ),
        DaemonAction::Decr(by) => (
            format!("numprocesses raised by {by} again"),
            count(live, "incr", name, *by),
        ),
        DaemonAction::Count { old, .. } => (
            format!("numprocesses set back to {old}"),
            set(live, name, numprocesses(*old)),
        ),
        DaemonAction::Start => (format!("{name} stopped again"), stop(live, name)),
        DaemonAction::Stop => (format!("{name} started again"), start(live, name)),
        // Workers that were replaced by workers of the same kind: there is nothing to take back.
        DaemonAction::Restart | DaemonAction::Reread { .. } => return Ok(None),
        DaemonAction::Remove(old) => (
            format!("{} added again as it was", old.name),
            add(live, old),
        ),
        DaemonAction::Add(_) => (format!("{name} removed again"), remove(live, name)),
    };
    match result {
        Ok(()) => Ok(Some(text)),
        Err(error) => Err((text, error)),
    }
}

/// The options that are not any more as `old` has them.
fn changed_options(
    live: &mut Live,
    name: &str,
    old: &Map<String, Value>,
) -> Result<Map<String, Value>, LiveError> {
    let now = live.observe(name)?;
    let Some(watcher) = now.watcher else {
        return Ok(Map::new());
    };
    Ok(old
        .iter()
        .filter(|(key, value)| !super::values::same(key, watcher.get(key).as_ref(), Some(value)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect())
}

fn not_taken(
    live: &mut Live,
    name: &str,
    new: &Map<String, Value>,
) -> Result<Vec<String>, LiveError> {
    let Some(watcher) = live.observe(name)?.watcher else {
        return Ok(Vec::new());
    };
    Ok(new
        .iter()
        .filter(|(key, value)| {
            // A daemon may keep an account as its number.
            !super::accounts::same_option(key, watcher.get(key).as_ref(), Some(value))
        })
        .map(|(key, _)| key.clone())
        .collect())
}

fn exists(live: &mut Live, name: &str) -> bool {
    live.observe(name).is_ok_and(|side| side.watcher.is_some())
}

/// Adds the watcher under another name, not started, and removes it again.
fn rehearse(live: &mut Live, addition: &Addition) -> Result<(), LiveError> {
    let rehearsal = Addition {
        name: format!("{}.rehearsal", addition.name),
        start: false,
        ..addition.clone()
    };
    add(live, &rehearsal)?;
    remove(live, &rehearsal.name)
}

fn numprocesses(count: u64) -> Map<String, Value> {
    Map::from_iter([("numprocesses".to_string(), json!(count))])
}

fn set(live: &mut Live, name: &str, options: Map<String, Value>) -> Result<(), LiveError> {
    let mut properties = named(name);
    properties.insert("options".into(), Value::Object(options));
    live.order("set", properties).map(|_| ())
}

fn count(live: &mut Live, command: &str, name: &str, by: u64) -> Result<(), LiveError> {
    let mut properties = named(name);
    properties.insert("nb".into(), json!(by));
    live.order(command, properties).map(|_| ())
}

/// By exact name: `start` and `stop` would take it as a pattern otherwise.
fn exactly(name: &str) -> Map<String, Value> {
    let mut properties = named(name);
    properties.insert("match".into(), Value::from("simple"));
    properties
}

fn start(live: &mut Live, name: &str) -> Result<(), LiveError> {
    live.order("start", exactly(name)).map(|_| ())
}

fn stop(live: &mut Live, name: &str) -> Result<(), LiveError> {
    live.order("stop", exactly(name)).map(|_| ())
}

fn remove(live: &mut Live, name: &str) -> Result<(), LiveError> {
    live.order("rm", named(name)).map(|_| ())
}

fn add(live: &mut Live, addition: &Addition) -> Result<(), LiveError> {
    let mut properties = named(&addition.name);
    properties.insert("cmd".into(), Value::from(addition.cmd.as_str()));
    properties.insert("args".into(), addition.args.clone());
    properties.insert("options".into(), Value::Object(addition.options.clone()));
    properties.insert("start".into(), Value::Bool(addition.start));
    live.order("add", properties).map(|_| ())
}
