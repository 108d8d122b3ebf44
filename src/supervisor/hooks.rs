//! Hooks: what a watcher asks somebody outside before it goes on.
//!
//! A hook is a [`Step`] of the watcher that waits for an answer. The steps of one watcher are taken one after the other,
//! as in circus, where a hook holds everything up; here it holds up its own watcher only: while a step waits, that watcher
//! fills no slot and ends no command. A step whose answer does not come in time goes on as if the hook had failed. A
//! watcher without the hook takes the step at once.

use super::job::{Job, Phase, Work};
use super::watcher::{Context, Farewell, Slot, Watcher};
use super::{
    Effect, Event, HookCall, HookId, Level, Outcome, Pid, Scope, SpawnId, Status, Ticket, Time, Wid,
};
use std::collections::VecDeque;

/// A worker that a reload was refused is not asked for again before this many seconds: the reload is taken back first.
const REFUSED_PAUSE: f64 = 1.0;

/// Something that is done once its hook has answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// The watcher starts.
    BeforeStart,
    /// Its workers run.
    AfterStart,
    /// Its workers are told to go.
    BeforeStop,
    /// They are gone.
    AfterStop,
    /// A worker is started.
    BeforeSpawn {
        wid: Wid,
        spawn: SpawnId,
        listen: bool,
    },
    /// It runs.
    AfterSpawn { wid: Wid, pid: Pid },
    /// A signal is sent.
    BeforeSignal(Shot),
    /// It has been.
    AfterSignal(Shot),
    /// A worker has exited, and this is told.
    BeforeReap(Gone),
    /// It has been.
    AfterReap(Gone),
}

/// A signal to a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shot {
    pub pid: Pid,
    pub signum: i32,
    pub scope: Scope,
    pub aim: Aim,
}

/// What a signal is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Aim {
    /// The worker shall go, within so many seconds.
    Leave { timeout: f64 },
    /// Its time is up.
    Kill,
    /// Somebody wants it sent; the caller who waits until this was the last.
    Message { ticket: Option<Ticket> },
}

/// A worker that has exited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Gone {
    pub pid: Pid,
    pub wid: Wid,
    pub started: Time,
    pub code: i32,
    /// Nobody had told it to go.
    pub by_itself: bool,
}

impl Step {
    fn call(&self) -> HookCall {
        match self {
            Step::BeforeStart => HookCall::BeforeStart,
            Step::AfterStart => HookCall::AfterStart,
            Step::BeforeStop => HookCall::BeforeStop,
            Step::AfterStop => HookCall::AfterStop,
            Step::BeforeSpawn { .. } => HookCall::BeforeSpawn,
            Step::AfterSpawn { pid, .. } => HookCall::AfterSpawn { pid: *pid },
            Step::BeforeSignal(shot) => HookCall::BeforeSignal {
                pid: shot.pid,
                signum: shot.signum,
            },
            Step::AfterSignal(shot) => HookCall::AfterSignal {
                pid: shot.pid,
                signum: shot.signum,
            },
            Step::BeforeReap(gone) => HookCall::BeforeReap {
                pid: gone.pid,
                wid: gone.wid,
                started: gone.started,
            },
            Step::AfterReap(gone) => HookCall::AfterReap {
                pid: gone.pid,
                code: gone.code,
                by_itself: gone.by_itself,
            },
        }
    }

    fn name(&self) -> &'static str {
        self.call().name()
    }
}

/// The step whose hook has been called.
#[derive(Debug)]
struct Current {
    call: HookId,
    step: Step,
    deadline: Time,
    limit: f64,
}

/// The steps of a watcher that wait for a hook.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    current: Option<Current>,
    queue: VecDeque<Step>,
}

impl Hooks {
    /// Some step waits.
    pub fn busy(&self) -> bool {
        self.current.is_some() || !self.queue.is_empty()
    }

    /// When the hook that was called has had its time.
    pub fn due(&self) -> Time {
        self.current.as_ref().map_or(Time::NEVER, |c| c.deadline)
    }

    fn waiting(&self, wanted: impl Fn(&Step) -> bool) -> bool {
        self.current.as_ref().is_some_and(|c| wanted(&c.step)) || self.queue.iter().any(wanted)
    }

    /// The watcher has been told to start, and its hook has not consented yet.
    pub fn before_start(&self) -> bool {
        self.waiting(|step| *step == Step::BeforeStart)
    }

    /// It has not been told yet that this worker runs.
    pub fn keeps_quiet_about(&self, pid: Pid) -> bool {
        self.waiting(|step| matches!(step, Step::AfterSpawn { pid: p, .. } if *p == pid))
    }
}

/// Hooks whose failure is consent in any case.
fn always_ignored(name: &str) -> bool {
    matches!(
        name,
        "before_stop" | "after_stop" | "before_signal" | "after_signal"
    )
}

impl Watcher {
    pub(super) fn has_hook(&self, name: &str) -> bool {
        self.options.hook(name).is_some()
    }

    /// Takes a step once its hook has answered; at once if there is none.
    pub(super) fn take(&mut self, cx: &mut Context<'_>, step: Step) {
        if self.has_hook(step.name()) {
            self.hooks.queue.push_back(step);
            self.call_next(cx);
        } else {
            self.go_on(cx, step, true);
        }
    }

    /// The same, before all other steps that wait.
    fn take_next(&mut self, cx: &mut Context<'_>, step: Step) {
        if self.has_hook(step.name()) {
            self.hooks.queue.push_front(step);
            self.call_next(cx);
        } else {
            self.go_on(cx, step, true);
        }
    }

    fn call_next(&mut self, cx: &mut Context<'_>) {
        while self.hooks.current.is_none() {
            let Some(step) = self.hooks.queue.pop_front() else {
                return;
            };
            // the hook may have been taken away, and the worker may have gone, while others were called
            let spent = match &step {
                Step::BeforeSignal(shot) => !self.watches(shot.pid),
                _ => false,
            };
            if spent || !self.has_hook(step.name()) {
                self.go_on(cx, step, true);
                continue;
            }
            let call = *cx.next_hook;
            *cx.next_hook += 1;
            cx.hooks.insert(call, self.id);
            cx.effects.push(Effect::Hook {
                call,
                watcher: self.id,
                hook: step.call(),
            });
            self.hooks.current = Some(Current {
                call,
                step,
                deadline: Time::NEVER,
                limit: 0.0,
            });
        }
    }

    /// Somebody is at the hook that was called.
    pub(super) fn hook_begun(&mut self, cx: &mut Context<'_>, call: HookId) {
        if let Some(current) = self.hooks.current.as_mut().filter(|c| c.call == call)
            && let Some(limit) = self.options.hook_timeout()
        {
            current.limit = limit;
            current.deadline = cx.now.plus_seconds(limit);
        }
    }

    /// A hook has answered: what it said, or why it failed.
    pub(super) fn hook_done(
        &mut self,
        cx: &mut Context<'_>,
        call: HookId,
        answer: Result<bool, String>,
    ) {
        let Some(current) = self.hooks.current.take_if(|current| current.call == call) else {
            return;
        };
        let name = current.step.name();
        let mut why = format!("{name} said no");
        let failed = answer.is_err();
        let consent = match answer {
            Ok(answer) => {
                cx.effects.push(self.publish(Event::HookSuccess(name)));
                answer
            }
            Err(error) => {
                why = format!("{name} failed: {error}");
                cx.effects
                    .push(self.publish(Event::HookFailure(name, error)));
                let ignored = |hook: crate::options::Hook<'_>| hook.ignore_failure;
                always_ignored(name) || self.options.hook(name).is_some_and(ignored)
            }
        };
        let refusable = matches!(
            current.step,
            Step::BeforeStart
                | Step::AfterStart
                | Step::BeforeSpawn { .. }
                | Step::AfterSpawn { .. }
        );
        if !consent && refusable {
            self.refusal = Some(why);
        } else if failed {
            let text = format!("{}: hook {why}", self.options.name);
            cx.effects.push(self.note(Level::Warning, text));
        }
        self.go_on(cx, current.step, consent);
        self.call_next(cx);
    }

    /// The time of the hook that was called is up, if it is.
    pub(super) fn expire_hook(&mut self, cx: &mut Context<'_>) {
        let Some(current) = &self.hooks.current else {
            return;
        };
        if current.deadline > cx.now {
            return;
        }
        let (call, limit) = (current.call, current.limit);
        cx.hooks.remove(&call);
        cx.effects.push(Effect::HookExpired { call });
        let error = format!("no answer within {limit} s (hook_timeout)");
        self.hook_done(cx, call, Err(error));
    }

    /// Takes a step; without consent of its hook what can be refused is not done.
    fn go_on(&mut self, cx: &mut Context<'_>, step: Step, consent: bool) {
        match step {
            Step::BeforeStart => {
                // a stop may have come meanwhile, and whatever starts after it asks again
                let wanted =
                    matches!(&self.job, Some(job) if job.phase == Phase::Starting) && !cx.closing;
                match self.status {
                    Status::Waiting if consent && wanted => self.wake(cx),
                    Status::Stopped if consent && wanted => self.begin_serving(cx),
                    _ if consent => {}
                    _ => {
                        // the connection is still there, and would ask for ever
                        self.stop_waiting();
                        self.refused_start(cx);
                    }
                }
            }
            Step::AfterStart => {
                if self.status != Status::Starting {
                    return;
                }
                if consent {
                    self.now_active(cx);
                } else {
                    self.refused_start(cx);
                    self.stop_by_itself(cx);
                }
            }
            Step::BeforeStop => {
                if self.status == Status::Stopping {
                    self.dismiss_all(cx);
                }
            }
            Step::AfterStop | Step::AfterReap(_) => {}
            Step::BeforeSpawn { wid, spawn, listen } => {
                let failures = self.spawning(wid, spawn);
                if consent && self.is_serving(cx) && failures.is_some() {
                    cx.effects.push(Effect::Spawn {
                        spawn,
                        watcher: self.id,
                        wid,
                        listen,
                    });
                    return;
                }
                cx.spawns.remove(&spawn);
                self.leaving
                    .retain(|l| l.farewell != Farewell::Unborn(spawn));
                if let Some(failures) = failures {
                    self.slots.insert(wid, Slot::vacant(cx.now, failures));
                    if !consent {
                        self.refused_worker(cx, wid);
                    }
                }
            }
            Step::AfterSpawn { wid, pid } => {
                if consent {
                    if self.watches(pid) {
                        cx.effects.push(self.publish(Event::Spawn(pid)));
                    }
                    return;
                }
                let there =
                    matches!(self.slots.get(&wid), Some(Slot::Running { pid: p, .. }) if *p == pid);
                if there {
                    // circus lets go of it at once, and so nobody ever hears of it
                    self.dismiss(cx, wid, false, true, None, None);
                    if let Some(leaving) = self.leaving.iter_mut().find(|l| l.pid == pid) {
                        leaving.unheard_of = true;
                    }
                }
                self.refused_worker(cx, wid);
            }
            Step::BeforeSignal(shot) => self.shoot(cx, shot, consent),
            Step::AfterSignal(shot) => {
                match shot.aim {
                    Aim::Leave { .. } | Aim::Kill if shot.scope == Scope::Worker => {
                        cx.effects.push(self.publish(Event::Kill(shot.pid)));
                    }
                    _ => {}
                }
                self.shot(cx, shot);
            }
            Step::BeforeReap(gone) => {
                cx.effects
                    .push(self.publish(Event::Reap(gone.pid, gone.code)));
                self.take_next(cx, Step::AfterReap(gone));
            }
        }
    }

    /// A living worker, of whatever standing, is this one.
    fn watches(&self, pid: Pid) -> bool {
        self.leaving.iter().any(|l| l.pid == pid)
            || self
                .slots
                .values()
                .any(|slot| matches!(slot, Slot::Running { pid: p, .. } if *p == pid))
    }

    fn is_serving(&self, cx: &Context<'_>) -> bool {
        matches!(self.status, Status::Active | Status::Starting) && !cx.closing
    }

    /// Sends a signal whose hook has answered. SIGKILL cannot be refused.
    fn shoot(&mut self, cx: &mut Context<'_>, shot: Shot, consent: bool) {
        if !self.watches(shot.pid) {
            self.shot(cx, shot);
            return;
        }
        if let Aim::Leave { timeout } = shot.aim
            && let Some(leaving) = self.leaving.iter_mut().find(|l| l.pid == shot.pid)
        {
            leaving.farewell = Farewell::Asked {
                deadline: cx.now.plus_seconds(timeout),
            };
        }
        let sent = consent || shot.signum == 9;
        // those below a worker are signalled even if it is not; that of the worker itself is told after its hooks
        let announce = shot.scope != Scope::Worker && !matches!(shot.aim, Aim::Message { .. });
        let scope = match shot.scope {
            Scope::Worker if !sent => None,
            Scope::Worker => Some(Scope::Worker),
            _ if sent => Some(Scope::Tree),
            _ => Some(Scope::Below),
        };
        if !sent {
            cx.effects.push(self.note(
                Level::Info,
                format!(
                    "{}: signal {} is not sent to {}: before_signal said no",
                    self.options.name, shot.signum, shot.pid
                ),
            ));
            if announce {
                cx.effects.push(self.publish(Event::Kill(shot.pid)));
            }
        }
        if let Some(scope) = scope {
            cx.effects.push(Effect::Signal {
                watcher: self.id,
                pid: shot.pid,
                signum: shot.signum,
                scope,
                announce,
            });
        }
        self.take_next(cx, Step::AfterSignal(shot));
    }

    fn shot(&self, cx: &mut Context<'_>, shot: Shot) {
        if let Aim::Message {
            ticket: Some(ticket),
        } = shot.aim
        {
            cx.effects.push(Effect::Reply {
                ticket,
                outcome: Outcome::Done,
            });
        }
    }

    /// Sends a signal, with the hooks around it.
    pub(super) fn signal(&mut self, cx: &mut Context<'_>, shot: Shot) {
        if self.has_hook("before_signal") || self.has_hook("after_signal") {
            self.take(cx, Step::BeforeSignal(shot));
            return;
        }
        cx.effects.push(Effect::Signal {
            watcher: self.id,
            pid: shot.pid,
            signum: shot.signum,
            scope: shot.scope,
            announce: !matches!(shot.aim, Aim::Message { .. }),
        });
        self.shot(cx, shot);
    }

    /// The `signal` command, one worker after the other.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        pids: &[Pid],
        signum: i32,
        scope: Scope,
        ticket: Ticket,
    ) {
        let last = pids.len().saturating_sub(1);
        for (index, pid) in pids.iter().enumerate() {
            let ticket = (index == last).then_some(ticket);
            let shot = Shot {
                pid: *pid,
                signum,
                scope,
                aim: Aim::Message { ticket },
            };
            self.signal(cx, shot);
        }
        if pids.is_empty() {
            cx.effects.push(Effect::Reply {
                ticket,
                outcome: Outcome::Done,
            });
        }
    }

    /// Tells that a worker has exited, with the hooks around it.
    pub(super) fn reap(&mut self, cx: &mut Context<'_>, gone: Gone) {
        self.take(cx, Step::BeforeReap(gone));
    }

    fn say_refused(&mut self, cx: &mut Context<'_>, what: &str) {
        let why = self.refusal.clone().unwrap_or_default();
        let then = match self.options.hook_retry() {
            Some(pause) => format!("{what}; it is tried again in {pause} s"),
            None => what.to_string(),
        };
        cx.effects.push(self.note(
            Level::Warning,
            format!("{}: {why}: {then}", self.options.name),
        ));
        self.trouble = Some(why);
    }

    /// A hook does not let the watcher start.
    fn refused_start(&mut self, cx: &mut Context<'_>) {
        self.say_refused(cx, "it does not start");
        if let Some(pause) = self.options.hook_retry() {
            self.retry_at = cx.now.plus_seconds(pause);
        }
    }

    /// A hook does not let a worker come or stay; its slot is vacant.
    fn refused_worker(&mut self, cx: &mut Context<'_>, wid: Wid) {
        if !self.is_serving(cx) {
            return;
        }
        let reloading = matches!(&self.job, Some(job) if matches!(job.phase, Phase::Replacing { .. } | Phase::OneByOne { .. }));
        let retry = self.options.hook_retry();
        let pause = match retry {
            _ if reloading => REFUSED_PAUSE,
            Some(pause) => pause,
            None => {
                self.say_refused(cx, "the watcher stops");
                self.stop_by_itself(cx);
                return;
            }
        };
        if reloading {
            self.trouble = self.refusal.clone();
        } else {
            self.say_refused(cx, "no worker is started");
        }
        if let Some(Slot::Vacant {
            not_before,
            failures,
            ..
        }) = self.slots.get_mut(&wid)
        {
            *not_before = cx.now.plus_seconds(pause);
            // it was tried
            *failures = (*failures).max(1);
        }
    }

    /// A hook makes the watcher stop. Whoever waits is told when it has.
    fn stop_by_itself(&mut self, cx: &mut Context<'_>) {
        match &mut self.job {
            Some(job) if matches!(job.work, Work::Stop | Work::Remove { .. }) => return,
            Some(job) => {
                job.gives_up = true;
                job.phase = Phase::Stopping;
            }
            None => {
                let mut job = Job::internal(Work::Stop);
                job.phase = Phase::Stopping;
                self.job = Some(job);
            }
        }
        self.gave_up = true;
        self.begin_stopping(cx);
    }
}
