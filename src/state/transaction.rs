//! One run over a whole desired state, from reading to the report: all of it, or nothing.
//!
//! The file is written first, then the daemon is told: sections that it must read again, watchers that go, the others
//! by priority. If it refuses anything, everything is taken back. In the end it is looked at, because an accepted
//! command is no proof.

mod again;
mod settle;

use std::collections::BTreeSet;
use std::time::Instant;

use again::{file_after, plan_anew};

use super::apply::{Journal, Undone};
use super::desired::{Desired, DesiredSection, DesiredState, Request};
use super::live::LiveError;
use super::plan::{DaemonAction, FileEdit, Plan};
use super::prepare::{Prepared, Refusal, live_sections, prepare};
use super::report::{Report, Standing};
use super::sections::SectionLive;
use super::settings::Settings;
use super::starting;
use super::store::StoreError;
use super::telling::{self, Telling};

/// How often a run begins anew, or goes after what was changed behind its back, before that is a failure.
const ATTEMPTS: usize = 3;

/// Does the whole run for one watcher. Whatever goes wrong is in the report.
pub fn ensure(request: &Request, settings: &Settings) -> Report {
    match Desired::new(request) {
        Ok((desired, sections)) => {
            let state = DesiredState {
                origin: desired.name.clone(),
                watchers: vec![desired],
                sections,
                ..DesiredState::default()
            };
            ensure_one(&state, settings)
        }
        Err(error) => Report::failure(&request.name, settings.check, error.to_string()),
    }
}

/// As [`apply`], for a state of one watcher: its report, with what became of sections in it.
pub fn ensure_one(state: &DesiredState, settings: &Settings) -> Report {
    let (whole, mut warnings) = run(state, settings, false);
    let mut report = telling::single(whole, &state.origin);
    warnings.append(&mut report.warnings);
    report.warnings = warnings;
    report
}

/// Does the whole run. Whatever goes wrong is in the report, which has one entry for each resource.
pub fn apply(state: &DesiredState, settings: &Settings) -> Report {
    let (mut report, mut warnings) = run(state, settings, true);
    warnings.append(&mut report.warnings);
    report.warnings = warnings;
    report
}

/// The report, and the warnings that are about no resource. With `whole`, watchers that the state does not name are told.
fn run(state: &DesiredState, settings: &Settings, whole: bool) -> (Report, Vec<String>) {
    let deadline = Instant::now() + settings.timeout;
    let mut attempt = 1;
    loop {
        let mut warnings = state.warnings.clone();
        let report = match prepare(state, settings, deadline, whole, &mut warnings) {
            Ok(prepared) => {
                let mut run = Run::of(prepared, settings);
                run.carry_out();
                let asked = settings.interrupt.asked().is_some();
                if run.overtaken && attempt < ATTEMPTS && !asked && Instant::now() < deadline {
                    attempt += 1;
                    continue;
                }
                run.report(state, &mut warnings)
            }
            Err(Refusal {
                name,
                reason,
                standing,
            }) => telling::refused(state, settings, name.as_deref(), reason, standing),
        };
        return (report, warnings);
    }
}

/// A failure, and the watcher or section that it is about.
struct Trouble {
    resource: Option<usize>,
    reason: String,
    /// The daemon may still carry it out: nothing must be undone behind its back.
    may_still_happen: bool,
    /// Somebody else has added or removed a watcher since the daemon was looked at.
    overtaken: bool,
    /// What it says of the desired state once all is taken back.
    standing: Standing,
}

struct Run<'a> {
    prepared: Prepared,
    settings: &'a Settings,
    journal: Journal,
    telling: Telling,
    /// What the plan was made for is no longer so, and nothing of it is left done: another attempt may succeed.
    overtaken: bool,
}

impl<'a> Run<'a> {
    fn of(prepared: Prepared, settings: &'a Settings) -> Run<'a> {
        let telling = Telling::planned(&prepared, settings);
        Run {
            prepared,
            settings,
            journal: Journal::default(),
            telling,
            overtaken: false,
        }
    }

    fn carry_out(&mut self) {
        self.plan_lines();
        if self.settings.check {
            self.plan_commands_from(0);
        } else if !self.prepared.is_empty() {
            self.execute();
        }
        if !self.telling.failed() {
            self.settle();
            if !self.settings.check && !self.prepared.is_empty() {
                self.look_at_sections();
            }
        }
    }

    /// What the daemon tells of the sections in the end.
    fn look_at_sections(&mut self) {
        let wanted: Vec<DesiredSection> = self
            .prepared
            .sections
            .iter()
            .map(|run| run.desired.clone())
            .collect();
        // What cannot be asked is left out of the report.
        let live = live_sections(self.prepared.live.as_mut(), &wanted)
            .unwrap_or_else(|_| vec![SectionLive::Unknown; wanted.len()]);
        for (at, (run, live)) in self.prepared.sections.iter().zip(live).enumerate() {
            self.telling.section_after(at, run, live);
        }
    }

    fn report(self, state: &DesiredState, warnings: &mut Vec<String>) -> Report {
        let Run {
            prepared,
            settings,
            journal,
            telling,
            ..
        } = self;
        warnings.extend(journal.warnings());
        telling.report(state, &prepared, settings, &journal)
    }

    /// The number of a watcher among the resources; sections come first.
    fn resource(&self, watcher: usize) -> usize {
        self.prepared.sections.len() + watcher
    }

    fn plan_lines(&mut self) {
        for (at, run) in self.prepared.sections.iter().enumerate() {
            self.journal.plan_edits(at, &run.plan.edits);
        }
        for (at, run) in self.prepared.watchers.iter().enumerate() {
            let resource = self.prepared.sections.len() + at;
            self.journal.plan_edits(resource, &run.plan.edits);
        }
    }

    /// Lines for what was not sent: of the sections if `first` is 0, and of the watchers from that one on in the order
    /// of their turns.
    fn plan_commands_from(&mut self, first: usize) {
        if first == 0 {
            for (at, run) in self.prepared.sections.iter().enumerate() {
                if run.plan.reload {
                    self.journal.plan_reload(at);
                }
            }
        }
        for at in self.turns().into_iter().skip(first) {
            let resource = self.resource(at);
            let commands = &self.prepared.watchers[at].plan.commands;
            self.journal.plan_commands(resource, commands);
        }
    }

    /// The watchers in the order in which they have their turns: those that go, then the others from the highest
    /// priority to the lowest, as circus starts them.
    fn turns(&self) -> Vec<usize> {
        let mut turns: Vec<usize> = (0..self.prepared.watchers.len()).collect();
        turns.sort_by_key(|at| {
            let run = &self.prepared.watchers[*at];
            (run.desired.present, -run.target.priority())
        });
        turns
    }

    /// Writes, commands, and undoes both if the daemon refuses.
    fn execute(&mut self) {
        if let Some(by) = self.settings.interrupt.asked() {
            let reason = format!("interrupted by {by}");
            self.plan_commands_from(0);
            return self
                .telling
                .refused(None, reason, &Undone::default(), Standing::Untried);
        }
        if let Err(error) = self
            .journal
            .write(&self.prepared.edited, self.settings.backup)
        {
            self.overtaken = matches!(error, StoreError::Changed { .. });
            let undone = self.journal.undo(None);
            self.plan_commands_from(0);
            let standing = match self.overtaken {
                true => Standing::Untried,
                false => Standing::Refused,
            };
            return self
                .telling
                .refused(None, error.to_string(), &undone, standing);
        }
        if let Some(reason) = self.backup_is_read() {
            let undone = self.journal.undo(None);
            self.plan_commands_from(0);
            return self
                .telling
                .refused(None, reason, &undone, Standing::Refused);
        }
        if let Err(trouble) = self.command() {
            if trouble.may_still_happen {
                let reason = format!("{}; nothing was undone", trouble.reason);
                return self.telling.unfinished(trouble.resource, reason);
            }
            let mut undone = self.journal.undo(self.prepared.live.as_mut());
            if self.prepared.starts_daemon {
                self.stop_started(&mut undone);
            }
            self.overtaken = trouble.overtaken && undone.failed.is_empty();
            self.telling
                .refused(trouble.resource, trouble.reason, &undone, trouble.standing);
        }
    }

    /// An `include` pattern such as `conf.d/*` would make the old version part of the new configuration.
    fn backup_is_read(&self) -> Option<String> {
        let backups = self.journal.backups();
        let read = self.prepared.files.as_ref()?.takes_in(&backups)?;
        Some(format!(
            "the backup {} would be read as part of the configuration, because an include pattern matches it: give no \
             --backup, or include *.ini only",
            read.display()
        ))
    }

    /// A daemon that was started by this run does not outlive its failure.
    fn stop_started(&mut self, undone: &mut Undone) {
        let Some(live) = self.prepared.live.as_mut() else {
            return;
        };
        match live.order("quit", Default::default()) {
            Ok(_) => undone.done.push("the daemon stopped again".to_string()),
            Err(error) => undone
                .failed
                .push(format!("the daemon stopped again: {error}")),
        }
    }

    fn command(&mut self) -> Result<(), Trouble> {
        if self.prepared.starts_daemon {
            let live = starting::start(
                self.settings,
                self.prepared.files.as_ref(),
                self.prepared.deadline,
            )
            .map_err(|reason| trouble(None, reason))?;
            self.prepared.live = Some(live);
            self.plan_again(None)?;
        } else {
            self.reload_sections(true)?;
        }
        // More workers come last: if anything is refused before, nobody has to go again (decr takes the oldest).
        for more_workers in [false, true] {
            for (turn, at) in self.turns().into_iter().enumerate() {
                if let Err(trouble) = self.command_watcher(at, more_workers) {
                    self.plan_commands_from(turn + 1);
                    return Err(trouble);
                }
            }
        }
        if !self.prepared.starts_daemon && self.prepared.rereads {
            self.reload_sections(false)?;
        }
        Ok(())
    }

    /// The daemon reads the sections that are to be there (or, later, those that are to go) from its file again. A
    /// circusd cannot do that for some of them: it does it once, for all.
    fn reload_sections(&mut self, present: bool) -> Result<(), Trouble> {
        let Prepared {
            sections,
            live,
            rereads,
            ..
        } = &mut self.prepared;
        let due: Vec<usize> = (0..sections.len())
            .filter(|at| {
                let run = &sections[*at];
                run.plan.reload && (!*rereads || run.desired.present == present)
            })
            .collect();
        let (false, Some(live)) = (due.is_empty(), live.as_mut()) else {
            return Ok(());
        };
        let names: Vec<String> = due
            .iter()
            .map(|at| sections[*at].desired.section())
            .collect();
        let reply = self
            .journal
            .reload(live, &names, &due)
            .map_err(|error| live_trouble(due.first().copied(), &error, String::new()))?;
        self.telling.reloaded(&due, &reply);
        if !*rereads {
            // circusd replaced every watcher whose section has changed.
            let first = self.prepared.sections.len();
            for (at, run) in self.prepared.watchers.iter().enumerate() {
                let count = |edit: &FileEdit| matches!(edit, FileEdit::Set { key, .. } if key == "numprocesses");
                let live = run
                    .seen
                    .daemon
                    .as_ref()
                    .and_then(|side| side.watcher.as_ref());
                if live.is_some_and(|live| live.is_running()) && !run.plan.edits.iter().all(count) {
                    self.telling.restarted(first + at);
                }
            }
        }
        self.plan_again(None)
    }

    /// The daemon is looked at anew, and what is left to do for a watcher (or all of them) is planned again.
    fn plan_again(&mut self, only: Option<usize>) -> Result<(), Trouble> {
        let first = self.prepared.sections.len();
        let Some(live) = self.prepared.live.as_mut() else {
            return Ok(());
        };
        for (at, run) in self.prepared.watchers.iter_mut().enumerate() {
            if only.is_some_and(|only| only != at) {
                continue;
            }
            let resource = Some(first + at);
            let ignored = run
                .seen
                .daemon
                .as_ref()
                .and_then(|side| side.watcher.as_ref());
            let ignored = ignored.map(|watcher| watcher.ignores_set.clone());
            let mut daemon = live
                .observe(&run.desired.name)
                .map_err(|error| live_trouble(resource, &error, String::new()))?;
            if let (Some(watcher), Some(ignored)) = (&mut daemon.watcher, ignored) {
                watcher.ignores_set = ignored;
            }
            let restarts = run.plan.restarts;
            // A daemon that was just started has read the file as it is now.
            let file = match self.prepared.starts_daemon {
                true => file_after(run),
                false => run.seen.file.clone(),
            };
            let mut plan =
                plan_anew(run, file, daemon).map_err(|reason| trouble(resource, reason))?;
            self.telling.planned_again(first + at, &plan);
            plan.edits = std::mem::take(&mut run.plan.edits);
            plan.restarts |= restarts;
            run.plan = plan;
        }
        Ok(())
    }

    fn command_watcher(&mut self, at: usize, more_workers: bool) -> Result<(), Trouble> {
        let resource = self.resource(at);
        // Again: what `set` did not take is planned in another way, and what the daemon took from the file may be
        // mixed with what it read of other sections long ago.
        for _ in 0..3 {
            let run = &self.prepared.watchers[at];
            let reread = |action: &DaemonAction| matches!(action, DaemonAction::Reread { .. });
            let rereads = run.plan.commands.iter().any(reread);
            let grows = |action: &DaemonAction| matches!(action, DaemonAction::Incr(_));
            let all = &run.plan.commands;
            let grown = all.iter().any(grows);
            // A watcher that has no worker yet cannot be started before it gets some.
            let later = |action: &DaemonAction| {
                grows(action) || grown && matches!(action, DaemonAction::Start)
            };
            let commands: Vec<DaemonAction> = all
                .iter()
                .filter(|action| later(action) == more_workers)
                .cloned()
                .collect();
            let Some(live) = self.prepared.live.as_mut() else {
                return Ok(());
            };
            let result = self
                .journal
                .command(live, resource, &run.desired.name, &commands);
            match result {
                Ok(ignored) if ignored.is_empty() && rereads => {
                    self.plan_again(Some(at))?;
                    // That was done by reading again.
                    let left = &mut self.prepared.watchers[at].plan.commands;
                    left.retain(|action| *action != DaemonAction::Restart);
                }
                Ok(ignored) if ignored.is_empty() => return Ok(()),
                Ok(ignored) => self.without(at, ignored)?,
                Err(error) => {
                    let hint = hint(&error, &run.plan).unwrap_or_default();
                    return Err(live_trouble(Some(resource), &error, hint.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Some options are taken by `set` and left as they were: these need a new watcher.
    fn without(&mut self, at: usize, ignored: BTreeSet<String>) -> Result<(), Trouble> {
        let run = &mut self.prepared.watchers[at];
        if let Some(watcher) = run
            .seen
            .daemon
            .as_mut()
            .and_then(|side| side.watcher.as_mut())
        {
            watcher.ignores_set = ignored;
        }
        self.plan_again(Some(at))
    }
}

fn trouble(resource: Option<usize>, reason: String) -> Trouble {
    Trouble {
        resource,
        reason,
        may_still_happen: false,
        overtaken: false,
        standing: Standing::Refused,
    }
}

fn live_trouble(resource: Option<usize>, error: &LiveError, hint: String) -> Trouble {
    Trouble {
        // That the run was asked to end is about all of it.
        resource: resource.filter(|_| !matches!(error, LiveError::Interrupted(_))),
        reason: format!("{error}{hint}"),
        may_still_happen: error.may_still_happen(),
        overtaken: error.is_overtaken(),
        standing: match error {
            LiveError::Refused { .. } => Standing::Refused,
            _ => Standing::Untried,
        },
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
