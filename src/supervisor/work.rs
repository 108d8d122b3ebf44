//! How a watcher carries out its jobs.

use super::hooks::Step;
use super::job::{Job, Phase, Waiter, Work};
use super::reload::{PROOF, forget_failures};
use super::watcher::{Context, Leaving, Slot, Watcher};
use super::{Effect, Event, Level, Outcome, Pid, Refusal, Status, Time, Wid};
use crate::options::{WatcherOptions, renews};
use std::collections::{BTreeSet, VecDeque};

impl Watcher {
    /// Takes a job into the queue, lets it join an equal one, or lets it interrupt.
    pub fn enqueue(&mut self, cx: &mut Context<'_>, job: Job) {
        let urgent = matches!(job.work, Work::Stop | Work::Remove { .. });
        if !urgent {
            let last = self.queue.back_mut().or(self.job.as_mut());
            match last {
                Some(last) if last.serves(&job.work) => last.waiters.extend(job.waiters),
                _ => self.queue.push_back(job),
            }
            return;
        }
        let verb = job.verb();
        // a renewal has nothing to do any more once the workers have stopped, and says so itself
        let interrupted = |job: &Job| {
            matches!(
                job.work,
                Work::Start | Work::Wake | Work::Restart | Work::Reload { .. }
            )
        };
        let mut kept = VecDeque::new();
        for queued in std::mem::take(&mut self.queue) {
            if interrupted(&queued) {
                answer(cx, queued.waiters, interruption(verb));
            } else {
                kept.push_back(queued);
            }
        }
        self.queue = kept;
        match &mut self.job {
            Some(current) if matches!(current.work, Work::Stop) => {
                if matches!(job.work, Work::Stop) {
                    current.waiters.extend(job.waiters);
                    return;
                }
            }
            Some(current) if matches!(current.work, Work::Remove { .. }) => {}
            Some(_) => {
                if let Some(current) = self.job.take() {
                    // counts and options have been applied when the job began
                    let outcome = match current.work {
                        Work::Count(_) => Outcome::Count(self.options.numprocesses()),
                        Work::Set(_) | Work::Replace(_) | Work::Renew => Outcome::Done,
                        _ => interruption(verb),
                    };
                    answer(cx, current.waiters, outcome);
                }
            }
            None => {}
        }
        self.queue.push_front(job);
    }

    /// A new set of workers is being brought up, and there is a way back.
    pub fn is_replacing(&self) -> bool {
        self.job.as_ref().is_some_and(|job| match job.phase {
            Phase::Replacing { .. } => true,
            Phase::OneByOne { .. } => job.undo.is_some(),
            _ => false,
        })
    }

    /// The watcher stops by itself.
    pub fn give_up(&mut self, cx: &mut Context<'_>) {
        match self.job.take() {
            Some(job) if matches!(job.work, Work::Stop | Work::Remove { .. }) => {
                self.job = Some(job);
                return;
            }
            // circus answers who waited for the start with empty lists, and so do we; `status` says why
            Some(job) => {
                let outcome = self.summary(&job);
                answer(cx, job.waiters, outcome);
            }
            None => {}
        }
        self.gave_up = true;
        self.queue.push_front(Job::internal(Work::Stop));
    }

    /// Carries the jobs as far as they go, then sees to the slots.
    pub fn advance(&mut self, cx: &mut Context<'_>) {
        loop {
            self.upkeep(cx);
            if self.job.is_none() {
                let Some(job) = self.queue.pop_front() else {
                    if self.is_spent() && !self.hooks.busy() {
                        self.give_up(cx);
                        continue;
                    }
                    break;
                };
                self.begin(cx, job);
                continue;
            }
            if !self.proceed(cx) {
                break;
            }
        }
        self.upkeep(cx);
        if self.removed && self.job.is_none() && self.status == Status::Stopped {
            self.slots.clear();
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>, mut job: Job) {
        if self.removed && !matches!(job.work, Work::Stop | Work::Remove { .. }) {
            // it was asked before the name went, or by a command over several watchers that began before
            answer(cx, job.waiters, interruption("rm"));
            return;
        }
        job.before = match self.status {
            Status::Stopped | Status::Waiting => BTreeSet::new(),
            _ => self.workers().iter().map(|w| w.pid).collect(),
        };
        if matches!(job.work, Work::Stop | Work::Remove { .. }) {
            self.stop_waiting();
        }
        let stopped = matches!(self.status, Status::Stopped | Status::Waiting);
        let renews = matches!(
            job.work,
            Work::Start | Work::Wake | Work::Restart | Work::Reload { .. } | Work::Renew
        );
        if cx.closing && renews {
            answer(cx, job.waiters, interruption("quit"));
            return;
        }
        match job.work.clone() {
            Work::Start => {
                if stopped {
                    self.begin_starting(cx);
                } else {
                    // whoever says start does not want to wait for a pause to pass
                    self.try_again(cx);
                }
                job.phase = Phase::Starting;
            }
            Work::Wake if !self.is_up_or_waiting() => return,
            Work::Wake => {
                // circus, too, asks before it answers a connection
                if stopped && self.has_hook("before_start") {
                    self.refusal = None;
                    self.take(cx, Step::BeforeStart);
                } else {
                    self.wake(cx);
                }
                job.phase = Phase::Starting;
            }
            Work::Stop => {
                if !job.waiters.is_empty() {
                    self.gave_up = false;
                    self.retry_at = Time::NEVER;
                }
                if !stopped {
                    self.begin_stopping(cx);
                }
                job.phase = Phase::Stopping;
            }
            Work::Restart => {
                if stopped {
                    self.begin_starting(cx);
                    job.phase = Phase::Starting;
                } else {
                    self.begin_stopping(cx);
                    job.phase = Phase::Stopping;
                }
            }
            Work::Reload {
                graceful,
                sequential,
            } => self.begin_reload(cx, &mut job, graceful, sequential, true),
            Work::Renew if stopped => {
                answer(cx, job.waiters, Outcome::Done);
                return;
            }
            Work::Renew => self.begin_reload(cx, &mut job, true, false, false),
            Work::Count(change) => {
                let number = i64::from(self.options.numprocesses())
                    .saturating_add(change)
                    .clamp(0, i64::from(i32::MAX));
                if let Err(refusal) = self.set_count(number) {
                    answer(cx, job.waiters, Outcome::Refused(refusal));
                    return;
                }
                self.resize(cx);
                job.phase = Phase::Settling;
            }
            Work::Set(changes) => {
                let before = self.options.clone();
                match self.apply(cx, &changes) {
                    Err(refusal) => {
                        answer(cx, job.waiters, Outcome::Refused(refusal));
                        return;
                    }
                    Ok(true) if !stopped => {
                        job.undo = Some(before);
                        self.begin_reload(cx, &mut job, true, false, false);
                    }
                    Ok(_) => job.phase = self.settle(cx),
                }
            }
            Work::Replace(options) => {
                let reload = self.needs_reload(&options);
                let before = std::mem::replace(&mut self.options, *options);
                if reload && !stopped {
                    job.undo = Some(before);
                    self.begin_reload(cx, &mut job, true, false, false);
                } else if reload && self.gave_up && self.options.autostart() && !cx.closing {
                    // what kept it from running may be repaired; what somebody has stopped stays stopped
                    self.begin_starting(cx);
                    job.phase = Phase::Starting;
                } else {
                    job.phase = self.settle(cx);
                }
            }
            Work::Remove { nostop } => {
                if nostop {
                    self.release_all(cx);
                    self.status = Status::Stopped;
                } else if !stopped {
                    self.begin_stopping(cx);
                }
                job.phase = Phase::Stopping;
            }
        }
        self.job = Some(job);
    }

    /// The options have changed, and nobody has to be replaced for it.
    fn settle(&mut self, cx: &mut Context<'_>) -> Phase {
        if self.status == Status::Waiting && !self.options.on_demand() && !cx.closing {
            self.begin_starting(cx);
            return Phase::Starting;
        }
        self.resize(cx);
        Phase::Settling
    }

    /// Moves the current job on; true if anything has changed.
    fn proceed(&mut self, cx: &mut Context<'_>) -> bool {
        if self.hooks.busy() {
            return false;
        }
        let Some(mut job) = self.job.take() else {
            return false;
        };
        let moved = match &mut job.phase {
            Phase::Queued => false,
            Phase::Stopping => {
                if self.leaving.is_empty() {
                    if self.status != Status::Stopped {
                        self.now_stopped(cx);
                        if self.hooks.busy() {
                            self.job = Some(job);
                            return true;
                        }
                    }
                    let last = matches!(job.work, Work::Stop | Work::Remove { .. });
                    if last || job.gives_up || cx.closing {
                        self.finish(cx, job);
                        return true;
                    }
                    self.begin_starting(cx);
                    job.phase = Phase::Starting;
                    true
                } else {
                    false
                }
            }
            Phase::Starting => {
                if self.status == Status::Waiting {
                    self.finish(cx, job);
                    return true;
                }
                // a campaign goes on to the next watcher after the first try; a person wants to know how it ends
                let patient = job
                    .waiters
                    .iter()
                    .any(|waiter| matches!(waiter, Waiter::Ticket(_)))
                    && self.options.max_retry().is_some()
                    && self.running_pids().is_empty()
                    && self.refusal.is_none()
                    && self.status == Status::Starting;
                let settled = self.untried() == 0
                    && self
                        .slots
                        .values()
                        .all(|s| !matches!(s, Slot::Vacant { after: Some(_), .. }));
                if settled && self.slots.is_empty() && self.status == Status::Starting {
                    // no worker wanted: circus calls such a watcher stopped
                    job.gives_up = true;
                    job.phase = Phase::Stopping;
                    self.job = Some(job);
                    self.begin_stopping(cx);
                    return true;
                }
                if settled && !patient || self.status == Status::Stopped || cx.closing {
                    self.finish(cx, job);
                    return true;
                }
                false
            }
            Phase::Replacing { proven_at } => {
                if let Some(why) = self.reload_failure() {
                    let kept = match job.undo.take() {
                        Some(options) => {
                            self.options = options;
                            "old workers and options"
                        }
                        None => "old workers",
                    };
                    self.take_back(cx);
                    let text = format!("{} kept its {kept}: {why}", self.options.name);
                    cx.effects.push(self.note(Level::Warning, text.clone()));
                    self.outdated = Some(text.clone());
                    answer(cx, job.waiters, Outcome::Refused(Refusal::Failed(text)));
                    return true;
                }
                let complete = self
                    .slots
                    .values()
                    .all(|slot| matches!(slot, Slot::Running { .. }));
                match *proven_at {
                    _ if !complete => {
                        *proven_at = None;
                        false
                    }
                    None => {
                        // with nobody to lose there is nothing to prove
                        let proof = if self.retiring().is_empty() {
                            0.0
                        } else {
                            PROOF
                        };
                        *proven_at = Some(cx.now.plus_seconds(proof));
                        true
                    }
                    Some(moment) if moment > cx.now => false,
                    Some(_) => {
                        for pid in self.retiring() {
                            self.ask(cx, pid, None, None);
                        }
                        job.phase = Phase::Settling;
                        true
                    }
                }
            }
            Phase::OneByOne { todo, going } => {
                if let Some(why) = self.reload_failure() {
                    let left = todo.len();
                    let text = match job.undo.take() {
                        Some(options) => {
                            self.options = options;
                            self.try_again(cx);
                            format!("{} goes on with its old options: {why}", self.options.name)
                        }
                        None => format!(
                            "{}: reload stopped with {left} of the old workers still to replace: {why}",
                            self.options.name
                        ),
                    };
                    cx.effects.push(self.note(Level::Warning, text.clone()));
                    self.outdated = Some(text.clone());
                    answer(cx, job.waiters, Outcome::Refused(Refusal::Failed(text)));
                    return true;
                }
                let proven = job.undo.is_none() || self.proven_at() <= cx.now;
                let calm = self.missing() == 0 && self.pace <= cx.now && proven;
                let gone = going.is_none_or(|pid| self.leaving.iter().all(|l| l.pid != pid));
                if !(gone && calm) {
                    false
                } else {
                    *going = None;
                    let next = todo.pop_front();
                    match next {
                        Some(pid) => {
                            let wid = self.slots.iter().find_map(|(wid, slot)| {
                                matches!(slot, Slot::Running { pid: p, .. } if *p == pid)
                                    .then_some(*wid)
                            });
                            if let Some(wid) = wid {
                                *going = Some(pid);
                                // circus publishes the reap of a worker that a sequential reload replaces
                                self.dismiss(cx, wid, true, true, None, None);
                            }
                        }
                        None => {
                            self.finish(cx, job);
                            return true;
                        }
                    }
                    true
                }
            }
            Phase::Settling => {
                let quiet = self.leaving.is_empty()
                    && (self.untried() == 0
                        || matches!(self.status, Status::Stopped | Status::Waiting));
                if quiet {
                    self.finish(cx, job);
                    return true;
                }
                false
            }
        };
        self.job = Some(job);
        moved
    }

    fn finish(&mut self, cx: &mut Context<'_>, job: Job) {
        if job.announce_reload && !(job.gives_up && self.refusal.is_some()) {
            cx.effects.push(self.publish(Event::Reload));
            cx.effects
                .push(self.note(Level::Info, format!("{} reloaded", self.options.name)));
        }
        let outcome = self.summary(&job);
        answer(cx, job.waiters, outcome);
    }

    /// What circus answers to somebody who waited.
    fn summary(&self, job: &Job) -> Outcome {
        let after: BTreeSet<Pid> = self.running_pids().into_iter().collect();
        let before = &job.before;
        let started = after.difference(before).copied().collect();
        let kept = after.intersection(before).copied().collect();
        match job.work {
            Work::Start | Work::Wake => Outcome::Started { started, kept },
            Work::Restart | Work::Reload { .. } | Work::Renew => Outcome::Replaced {
                stopped: before.difference(&after).copied().collect(),
                started,
                kept,
            },
            Work::Count(_) => Outcome::Count(self.options.numprocesses()),
            Work::Stop | Work::Set(_) | Work::Replace(_) | Work::Remove { .. } => Outcome::Done,
        }
    }

    /// The watcher starts, once the hook for that has answered. What begins it is in [`Phase::Starting`] from now on.
    pub(super) fn begin_starting(&mut self, cx: &mut Context<'_>) {
        if self.options.on_demand() && self.options.numprocesses() > 0 {
            self.begin_waiting(cx);
            return;
        }
        self.refusal = None;
        self.retry_at = Time::NEVER;
        if self.has_hook("before_start") {
            self.take(cx, Step::BeforeStart);
        } else {
            self.begin_serving(cx);
        }
    }

    pub(super) fn begin_serving(&mut self, cx: &mut Context<'_>) {
        self.status = Status::Starting;
        self.gave_up = false;
        self.tries = 0;
        self.trouble = None;
        self.outdated = None;
        self.pace = cx.now;
        self.fit_slots(cx, true);
    }

    /// What is missing is started at once, as if nothing had ever failed.
    fn try_again(&mut self, cx: &mut Context<'_>) {
        for slot in self.slots.values_mut() {
            forget_failures(slot);
            if let Slot::Vacant { not_before, .. } = slot {
                *not_before = cx.now;
            }
        }
        self.tries = 0;
        self.refusal = None;
        self.fit_slots(cx, true);
    }

    fn now_stopped(&mut self, cx: &mut Context<'_>) {
        self.status = Status::Stopped;
        self.awaits = false;
        self.slots.clear();
        cx.effects.push(self.publish(Event::Stop));
        cx.effects
            .push(self.note(Level::Info, format!("{} stopped", self.options.name)));
        self.take(cx, Step::AfterStop);
    }

    fn release_all(&mut self, cx: &mut Context<'_>) {
        let wids: Vec<Wid> = self.slots.keys().copied().collect();
        for wid in wids {
            match self.slots.remove(&wid) {
                Some(Slot::Running { pid, .. }) => {
                    cx.pids.remove(&pid);
                    cx.effects.push(Effect::Release { pid });
                }
                // it is about to run: it goes as soon as it does
                Some(Slot::Spawning { spawn, .. }) => {
                    self.leaving
                        .push(Leaving::unborn(wid, spawn, cx.now, false));
                }
                _ => {}
            }
        }
        for pid in self.retiring() {
            cx.pids.remove(&pid);
            cx.effects.push(Effect::Release { pid });
            self.leaving.retain(|l| l.pid != pid);
        }
    }

    fn set_count(&mut self, number: i64) -> Result<(), Refusal> {
        if self.options.singleton() && number > 1 {
            return Err(Refusal::Invalid(
                "Singleton watcher has a single process".to_string(),
            ));
        }
        self.options
            .put("numprocesses", number.into())
            .map_err(|error| Refusal::Invalid(error.to_string()))
    }

    /// The number of wanted workers may have changed.
    fn resize(&mut self, cx: &mut Context<'_>) {
        match self.status {
            Status::Active | Status::Starting => {
                let fill = self.options.respawn();
                self.fit_slots(cx, fill);
            }
            // a hook may ask for fewer before the others are told to go
            Status::Stopping => self.fit_slots(cx, false),
            Status::Stopped | Status::Waiting => {}
        }
    }

    /// Applies changes to the options, all or none; true if the workers have to be replaced.
    fn apply(
        &mut self,
        cx: &mut Context<'_>,
        changes: &[(String, crate::options::Value)],
    ) -> Result<bool, Refusal> {
        let mut options = self.options.clone();
        let mut reload = false;
        for (key, value) in changes {
            if key == "numprocesses" && options.singleton() && value.as_i64().is_some_and(|n| n > 1)
            {
                return Err(Refusal::Invalid(
                    "Singleton watcher has a single process".to_string(),
                ));
            }
            options
                .change(key, value.clone())
                .map_err(|error| Refusal::Invalid(error.to_string()))?;
            reload |= renews(key, &self.options, &options);
        }
        options
            .check_rules()
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        self.options = options;
        for _ in changes {
            cx.effects.push(self.publish(Event::Updated));
        }
        Ok(reload)
    }

    /// What a hook has assigned to the watcher's attributes.
    pub(super) fn assign(
        &mut self,
        cx: &mut Context<'_>,
        changes: Vec<(String, crate::options::Value)>,
    ) {
        for (key, value) in changes {
            let mut options = self.options.clone();
            let put = options.put(&key, value);
            match put.and_then(|()| options.check_singleton()) {
                Ok(()) => self.options = options,
                Err(error) => {
                    let line = self.note(
                        Level::Warning,
                        format!("{}: a hook has assigned {error}", self.options.name),
                    );
                    cx.effects.push(line);
                }
            }
        }
        self.resize(cx);
    }

    fn needs_reload(&self, options: &WatcherOptions) -> bool {
        self.options
            .differing(options)
            .iter()
            .any(|key| renews(key, &self.options, options))
    }
}

fn interruption(verb: &str) -> Outcome {
    Outcome::Refused(Refusal::Interrupted(format!(
        "interrupted by a later {verb}"
    )))
}

fn answer(cx: &mut Context<'_>, waiters: Vec<Waiter>, outcome: Outcome) {
    for waiter in waiters {
        cx.finished.push((waiter, outcome.clone()));
    }
}
