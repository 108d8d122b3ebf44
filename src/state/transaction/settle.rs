//! The end of a run: the workers are waited for, and what is there is compared with what was wanted. What somebody else
//! has changed meanwhile is put right in the same run.

use std::collections::{BTreeMap, BTreeSet};

use super::again::{file_after, plan_anew};
use super::{ATTEMPTS, Run};
use crate::state::desired::Running;
use crate::state::plan::{DaemonAction, Plan};
use crate::state::verify::{Awaited, VerifyError, wait_running};

impl Run<'_> {
    /// Waits until the workers run and looks at what is there in the end.
    pub(super) fn settle(&mut self) {
        let mut sent = !self.prepared.is_empty();
        let mut watchers: BTreeSet<usize> = (0..self.prepared.watchers.len()).collect();
        for attempt in 1..=ATTEMPTS {
            let overruled = self.wait_for(&watchers, sent);
            let nothing_to_compare = !sent && overruled.is_empty();
            if nothing_to_compare || self.settings.check {
                for (at, reason) in overruled {
                    self.telling.fail(self.resource(at), reason);
                }
                return self.tell_what_was_seen(!sent);
            }
            let may_do_more = attempt < ATTEMPTS && self.settings.interrupt.asked().is_none();
            watchers = self.put_right(overruled, may_do_more);
            if watchers.is_empty() {
                return;
            }
            sent = true;
        }
    }

    /// Waits for the workers of these watchers. Returns those about which the daemon was told something else meanwhile,
    /// and what; other trouble is told.
    fn wait_for(&mut self, watchers: &BTreeSet<usize>, sent: bool) -> BTreeMap<usize, String> {
        let first = self.prepared.sections.len();
        let check = self.settings.check;
        let mut overruled = BTreeMap::new();
        let Some(live) = self.prepared.live.as_mut() else {
            return overruled;
        };
        let mut awaited = Vec::new();
        let mut which = Vec::new();
        for at in watchers {
            let Some(run) = self.prepared.watchers.get(*at) else {
                continue;
            };
            let idle = !self.telling.is_changed(first + at);
            // With changes still to come there is nothing to wait for.
            if check && !idle {
                continue;
            }
            let Some(mut expect) = run.plan.expect else {
                continue;
            };
            // What was seen a moment ago is still so if nothing was sent.
            let now = match (sent, &run.seen.daemon) {
                (false, Some(seen)) => Ok(seen.clone()),
                _ => live.observe(&run.desired.name),
            };
            match now {
                Ok(now) => {
                    if let Some(watcher) = &now.watcher
                        && run.desired.running == Running::Yes
                    {
                        // A count that is not managed is what the daemon has.
                        expect.running = watcher.numprocesses();
                        expect.must_run &= !watcher.may_rightly_be_gone();
                    }
                }
                Err(error) => {
                    self.telling.fail(first + at, error.to_string());
                    continue;
                }
            }
            awaited.push(Awaited {
                name: run.desired.name.clone(),
                expect,
                active: run.desired.running == Running::Yes,
                at_rest: idle,
            });
            which.push(*at);
        }
        let results = wait_running(live, &awaited, self.settings.settle);
        for (at, result) in which.into_iter().zip(results) {
            match result {
                Ok(()) => {}
                Err(error @ VerifyError::Overruled(_)) => {
                    overruled.insert(at, error.to_string());
                }
                Err(error) => self.telling.fail(first + at, error.to_string()),
            }
        }
        overruled
    }

    /// If nothing was sent, what was seen at the beginning is what is there; but where workers came or went, and were
    /// waited for.
    fn tell_what_was_seen(&mut self, nothing_sent: bool) {
        let first = self.prepared.sections.len();
        for (at, run) in self.prepared.watchers.iter().enumerate() {
            let (true, Some(seen)) = (nothing_sent, &run.seen.daemon) else {
                continue;
            };
            let moved = run.plan.expect.is_some()
                && seen.watcher.as_ref().is_some_and(|watcher| {
                    watcher.is_running() && watcher.pids.len() as u64 != watcher.numprocesses()
                });
            let live = self.prepared.live.as_mut().filter(|_| moved);
            let now = live.and_then(|live| live.observe(&run.desired.name).ok());
            self.telling
                .after(first + at, run, now.as_ref().unwrap_or(seen));
        }
    }

    /// The end is compared with what was wanted. What is left is done, if it may be; the watchers that are to be waited
    /// for once more.
    fn put_right(
        &mut self,
        mut overruled: BTreeMap<usize, String>,
        may_do_more: bool,
    ) -> BTreeSet<usize> {
        let first = self.prepared.sections.len();
        let mut again: BTreeMap<usize, Plan> = BTreeMap::new();
        let Some(live) = self.prepared.live.as_mut() else {
            return BTreeSet::new();
        };
        for (at, run) in self.prepared.watchers.iter_mut().enumerate() {
            let daemon = match live.observe(&run.desired.name) {
                Ok(daemon) => daemon,
                Err(error) => {
                    self.telling.fail(first + at, error.to_string());
                    continue;
                }
            };
            self.telling.after(first + at, run, &daemon);
            let overruled = overruled.remove(&at);
            let left = match plan_anew(run, file_after(run), daemon) {
                Ok(left) => left,
                Err(error) => {
                    self.telling.fail(first + at, error);
                    continue;
                }
            };
            let complaint = match (overruled, is_done(&left)) {
                (None, true) => continue,
                (Some(reason), true) => reason,
                (_, false) => format!(
                    "the daemon took the commands, but {} is still to be done; did somebody else change it meanwhile?",
                    left.lines.join(", ")
                ),
            };
            if may_do_more && can_be_repeated(&left) && !self.telling.has_failed(first + at) {
                again.insert(at, left);
            } else {
                self.telling.fail(first + at, complaint);
            }
        }
        self.do_again(again)
    }

    fn do_again(&mut self, again: BTreeMap<usize, Plan>) -> BTreeSet<usize> {
        let first = self.prepared.sections.len();
        let watchers: BTreeSet<usize> = again.keys().copied().collect();
        for (at, left) in again {
            if !is_done(&left) {
                self.telling.done_again(first + at, &left);
            }
            if let Some(run) = self.prepared.watchers.get_mut(at) {
                run.plan.commands = left.commands;
                run.plan.commands.retain(|a| *a != DaemonAction::Restart);
            }
        }
        let turns = self.turns();
        for more_workers in [false, true] {
            for at in turns.iter().filter(|at| watchers.contains(at)) {
                // What is left now was not refused before: that it is now is told, and the rest stays done.
                if let Err(trouble) = self.command_watcher(*at, more_workers) {
                    self.telling.fail(self.resource(*at), trouble.reason);
                }
            }
        }
        watchers
    }
}

/// A restart is not seen in what is there: it goes with a change of the file, which was done.
fn is_done(left: &Plan) -> bool {
    left.commands.iter().all(|a| *a == DaemonAction::Restart)
}

/// What a daemon did not take the first time, so that the watcher was made anew, it will not take the second time.
fn can_be_repeated(left: &Plan) -> bool {
    !left.commands.iter().any(|action| {
        matches!(
            action,
            DaemonAction::Reread { .. } | DaemonAction::Replace { .. }
        )
    })
}
