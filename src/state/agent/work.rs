//! One run: the desired state is read, and applied or compared. One that cannot be read, or is refused as a whole, leaves
//! the last good one in force.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::schedule::{Mode, Order, Outcome};
use crate::state::Settings;
use crate::state::desired::DesiredState;
use crate::state::document::{self, Source};
use crate::state::report::{Report, Standing};
use crate::wire::event::resource_name;

/// What brings a desired state about: [`crate::state::apply`], or a test's stand-in.
pub type Apply = Box<dyn FnMut(&DesiredState, &Settings) -> Report + Send>;

/// Who can tell which watcher the agent itself runs in, if it runs in one.
pub type OwnWatcher = Box<dyn FnMut() -> Option<String> + Send>;

/// Carries out runs.
pub struct Work {
    /// Where the desired state is.
    pub desired: PathBuf,
    /// How runs go about it.
    pub settings: Settings,
    /// What is not named goes.
    pub prune: bool,
    /// Brings it about.
    pub apply: Apply,
    /// The watcher that must not be stopped by itself.
    pub own_watcher: OwnWatcher,
    /// The last state that could be read.
    pub good: Option<DesiredState>,
    /// The last state that was not refused as a whole.
    pub held: Option<DesiredState>,
}

/// How a run went.
#[derive(Debug, Clone)]
pub struct Done {
    /// The run's number.
    pub run: u64,
    /// What the state room reports; none if there was nothing to apply.
    pub report: Option<Report>,
    /// Why the desired state could not be read; the last good one is in force then.
    pub unreadable: Option<String>,
    /// The desired state was refused and nothing of it done; this is of the state that was in force before, and is held.
    pub kept: Option<Report>,
}

impl Work {
    /// Does a run. A panic in it is a failed run.
    pub fn run(&mut self, order: &Order) -> Done {
        let done = catch_unwind(AssertUnwindSafe(|| self.try_run(order)));
        done.unwrap_or_else(|_| Done {
            run: order.run,
            report: Some(Report::failure(
                &self.desired.display().to_string(),
                order.mode == Mode::Audit,
                "the run ended by a mistake in the program, which standard error tells more of",
            )),
            unreadable: None,
            kept: None,
        })
    }

    fn try_run(&mut self, order: &Order) -> Done {
        let unreadable = match read(&self.desired, &self.settings, self.prune) {
            Ok(state) => {
                self.good = Some(state);
                None
            }
            Err(reason) => Some(reason),
        };
        let mut kept = None;
        let report = self.good.clone().map(|state| {
            let report = self.apply(&state, order);
            match report.standing {
                Standing::InForce => self.held = Some(state),
                Standing::Refused => {
                    let before = self.held.clone().filter(|before| *before != state);
                    kept = before.map(|before| self.apply(&before, order));
                }
                Standing::Untried => {}
            }
            report
        });
        Done {
            run: order.run,
            report,
            unreadable,
            kept,
        }
    }

    fn apply(&mut self, state: &DesiredState, order: &Order) -> Report {
        let mut state = state.clone();
        let mut settings = self.settings.clone();
        settings.check = order.mode == Mode::Audit;
        settings.protect.extend((self.own_watcher)());
        leave(&mut state, &mut settings, &order.leave);
        (self.apply)(&state, &settings)
    }
}

/// Reads the desired state at `path`.
///
/// # Errors
/// What is wrong with it, with files and lines.
pub fn read(
    path: &std::path::Path,
    settings: &Settings,
    prune: bool,
) -> Result<DesiredState, String> {
    let source = Source::of_argument(path);
    let mut state = document::read(&source, &settings.cwd).map_err(|error| error.to_string())?;
    state.prune |= prune;
    // A directory that is not mounted yet looks like this.
    if state.prune && !state.watchers.iter().any(|watcher| watcher.present) {
        return Err(format!(
            "{} names no watcher that is to be there: with prune that would remove every watcher there is, which is \
             not done; name one, or leave out prune",
            path.display()
        ));
    }
    Ok(state)
}

/// Takes what is fought over out of the state.
fn leave(state: &mut DesiredState, settings: &mut Settings, names: &BTreeSet<String>) {
    if names.is_empty() {
        return;
    }
    let watchers = state.watchers.iter().map(|watcher| watcher.name.clone());
    settings
        .protect
        .extend(watchers.filter(|name| names.contains(&resource_name(name))));
    state
        .watchers
        .retain(|watcher| !names.contains(&resource_name(&watcher.name)));
    let before = state.sections.len();
    state
        .sections
        .retain(|section| !names.contains(&section.section()));
    // A section that is only left alone must not be taken for one that is not wanted.
    state.prune &= state.sections.len() == before;
}

impl Done {
    /// The desired state is not reached, or not known.
    pub fn failed(&self) -> bool {
        self.unreadable.is_some() || self.report.as_ref().is_none_or(|report| report.failed)
    }

    /// Something was changed, or would be.
    pub fn changed(&self) -> bool {
        let reports = self.report.iter().chain(&self.kept);
        reports.into_iter().any(|report| report.changed)
    }

    /// One line for a person.
    pub fn message(&self) -> String {
        let mut text = match (&self.unreadable, &self.report) {
            (None, Some(report)) => report.msg.clone(),
            (Some(reason), Some(report)) => format!(
                "{reason}; the last state that could be read stays in force: {}",
                report.msg
            ),
            (Some(reason), None) => reason.clone(),
            (None, None) => "nothing to do".to_string(),
        };
        if let Some(kept) = &self.kept {
            text.push_str("; the state before it stays in force: ");
            text.push_str(&kept.msg);
        }
        text
    }

    /// For the schedule. A state that cannot be read is no reason to try again before it changes.
    pub fn outcome(&self) -> Outcome {
        let Some(report) = &self.report else {
            return Outcome::default();
        };
        let mut outcome = outcome_of(report);
        if let Some(kept) = &self.kept {
            let held = outcome_of(kept);
            outcome.repaired.extend(held.repaired);
            if !held.failed && outcome.troubled.is_empty() {
                // What is held is looked after at once, although the whole has failed.
                outcome.troubled.insert(REFUSED.to_string());
            }
        }
        outcome
    }
}

/// Stands for a desired state that was refused as a whole; no watcher is called that, because it is no topic's part.
const REFUSED: &str = "the desired state";

fn outcome_of(report: &Report) -> Outcome {
    let names = |wanted: fn(&Report) -> bool| {
        let parts = report.resources.iter().filter(|part| wanted(part));
        parts.map(name_of).collect::<BTreeSet<String>>()
    };
    let troubled = if report.failed {
        names(|part| part.failed)
    } else {
        BTreeSet::new()
    };
    let mut repaired = names(|part| part.changed && !part.failed);
    if report.changed && !report.failed && repaired.is_empty() {
        repaired.insert(name_of(report));
    }
    Outcome {
        failed: report.failed,
        troubled,
        repaired,
    }
}

/// A resource as topics have a watcher's name; other sections by the name of their section.
fn name_of(report: &Report) -> String {
    match report.resource {
        "watcher" => resource_name(&report.name),
        "circus" | "env" => report.resource.to_string(),
        other => format!("{other}:{}", report.name),
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
