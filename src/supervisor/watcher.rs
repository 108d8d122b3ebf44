//! One watcher: its slots, the workers that are leaving, and the upkeep between commands.

use super::backoff::Random;
use super::curiosity::Curiosity;
use super::hooks::{Aim, Hooks, Shot, Step};
use super::job::{Job, Phase, Waiter, Work};
use super::{
    About, Effect, Event, HookId, Level, Outcome, Pid, Scope, SpawnId, Status, Time, WatcherId,
    Wid, WorkerView,
};
use crate::options::WatcherOptions;
use std::collections::{BTreeMap, VecDeque};

/// What a watcher may use of the core while it is at work.
pub(super) struct Context<'a> {
    pub now: Time,
    pub effects: &'a mut Vec<Effect>,
    pub finished: &'a mut Vec<(Waiter, Outcome)>,
    pub pids: &'a mut BTreeMap<Pid, WatcherId>,
    pub spawns: &'a mut BTreeMap<SpawnId, (WatcherId, Wid)>,
    pub next_spawn: &'a mut SpawnId,
    /// The watcher that waits for each call of a hook.
    pub hooks: &'a mut BTreeMap<HookId, WatcherId>,
    pub next_hook: &'a mut HookId,
    pub random: &'a mut Random,
    pub closing: bool,
}

/// A worker that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slot {
    /// Not there.
    Vacant {
        /// May be filled from this moment on.
        not_before: Time,
        /// May be filled only after this worker is gone.
        after: Option<Pid>,
        /// Failures in a row.
        failures: u32,
    },
    /// Being started.
    Spawning { spawn: SpawnId, failures: u32 },
    /// There.
    Running {
        pid: Pid,
        started: Time,
        /// Too old from this moment on.
        expires: Time,
        failures: u32,
    },
}

impl Slot {
    /// A slot that may be filled from a moment on.
    pub fn vacant(not_before: Time, failures: u32) -> Slot {
        Slot::Vacant {
            not_before,
            after: None,
            failures,
        }
    }
}

/// How far a worker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Farewell {
    /// Will be asked once its successor runs.
    Retiring { expires: Time, failures: u32 },
    /// Will be asked as soon as it is known to run.
    Unborn(SpawnId),
    /// Will be asked once a hook allows it.
    Pending,
    /// Has been asked; is killed at the deadline.
    Asked { deadline: Time },
    /// Has been sent SIGKILL.
    Killed,
}

/// A worker on its way out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Leaving {
    pub wid: Wid,
    pub pid: Pid,
    pub started: Time,
    pub farewell: Farewell,
    /// Publish `reap` when it is gone. circus does so when a watcher stops, not after decr, reload or kill, and its
    /// flapping plugin counts on that.
    pub announce: bool,
    /// A hook did not want it: nothing is ever published of it.
    pub unheard_of: bool,
}

impl Leaving {
    /// A worker that will have to go as soon as it is there.
    pub fn unborn(wid: Wid, spawn: SpawnId, now: Time, announce: bool) -> Leaving {
        Leaving {
            wid,
            pid: 0,
            started: now,
            farewell: Farewell::Unborn(spawn),
            announce,
            unheard_of: false,
        }
    }
}

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    pub id: WatcherId,
    pub options: WatcherOptions,
    pub status: Status,
    pub slots: BTreeMap<Wid, Slot>,
    pub leaving: Vec<Leaving>,
    pub job: Option<Job>,
    pub queue: VecDeque<Job>,
    /// No worker is started before (warm-up).
    pub pace: Time,
    /// Failed starts in a row.
    pub tries: u32,
    pub trouble: Option<String>,
    /// Workers of older options still run, because the last reload failed; why.
    pub outdated: Option<String>,
    /// It has stopped by itself (failed starts, or no respawn), and nobody has stopped it since.
    pub gave_up: bool,
    /// Who is missing is started only at the next connection (`on_demand`).
    pub awaits: bool,
    /// Whom it listens to.
    pub curiosity: Curiosity,
    /// What waits for a hook.
    pub hooks: Hooks,
    /// Why a hook has last refused something.
    pub refusal: Option<String>,
    /// A start that a hook has refused is tried again at this moment.
    pub retry_at: Time,
    /// It has lost its name.
    pub removed: bool,
    /// Something happens by itself at this moment.
    pub due: Time,
}

impl Watcher {
    pub fn new(id: WatcherId, options: WatcherOptions) -> Self {
        Watcher {
            id,
            options,
            status: Status::Stopped,
            slots: BTreeMap::new(),
            leaving: Vec::new(),
            job: None,
            queue: VecDeque::new(),
            pace: Time(0),
            tries: 0,
            trouble: None,
            outdated: None,
            gave_up: false,
            awaits: false,
            curiosity: Curiosity::default(),
            hooks: Hooks::default(),
            refusal: None,
            retry_at: Time::NEVER,
            removed: false,
            due: Time::NEVER,
        }
    }

    pub fn publish(&self, event: Event) -> Effect {
        Effect::Publish {
            name: self.options.name.clone(),
            event,
        }
    }

    /// A line for the log about the watcher.
    pub fn note(&self, level: Level, text: String) -> Effect {
        self.note_of(level, text, About::default())
    }

    /// A line for the log about a worker, or whatever `about` says beside the watcher's name.
    pub fn note_of(&self, level: Level, text: String, about: About) -> Effect {
        let watcher = self.options.name.clone();
        let about = About { watcher, ..about };
        Effect::Log { level, text, about }
    }

    /// Nothing is left of a removed watcher.
    pub fn is_done(&self) -> bool {
        self.removed
            && self.slots.is_empty()
            && self.leaving.is_empty()
            && self.job.is_none()
            && self.queue.is_empty()
            && !self.hooks.busy()
    }

    pub fn running_pids(&self) -> Vec<Pid> {
        self.slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Running { pid, .. } => Some(*pid),
                _ => None,
            })
            .collect()
    }

    pub fn missing(&self) -> usize {
        self.slots
            .values()
            .filter(|slot| !matches!(slot, Slot::Running { .. }))
            .count()
    }

    /// The most failures in a row of a vacant slot, and the moment the first of those that failed may be filled.
    pub fn pause(&self) -> Option<(u32, Time)> {
        let vacant = self.slots.values().filter_map(|slot| match slot {
            Slot::Vacant {
                not_before,
                failures,
                ..
            } if *failures > 0 => Some((*failures, *not_before)),
            _ => None,
        });
        vacant.reduce(|(most, first), (failures, at)| (most.max(failures), first.min(at)))
    }

    pub fn workers(&self) -> Vec<WorkerView> {
        let mut all: Vec<WorkerView> = self
            .slots
            .iter()
            .filter_map(|(wid, slot)| match slot {
                Slot::Running { pid, started, .. } => Some(WorkerView {
                    pid: *pid,
                    wid: *wid,
                    started: *started,
                    leaving: false,
                }),
                _ => None,
            })
            .collect();
        all.extend(
            self.leaving
                .iter()
                .filter(|l| !matches!(l.farewell, Farewell::Unborn(_)))
                .map(|l| WorkerView {
                    pid: l.pid,
                    wid: l.wid,
                    started: l.started,
                    leaving: true,
                }),
        );
        all.sort_by_key(|worker| (worker.started, worker.pid));
        all
    }

    /// The failures in a row of the slot that waits for this start; `None` if it does not any more.
    pub fn spawning(&self, wid: Wid, start: SpawnId) -> Option<u32> {
        match self.slots.get(&wid) {
            Some(Slot::Spawning { spawn, failures }) if *spawn == start => Some(*failures),
            _ => None,
        }
    }

    /// Time has passed: deadlines of those leaving, ages of those running.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        self.expire_hook(cx);
        if self.retry_at <= cx.now {
            self.retry_at = Time::NEVER;
            if self.status == Status::Stopped && self.job.is_none() && !cx.closing && !self.removed
            {
                self.queue.push_back(Job::internal(Work::Start));
            }
        }
        for index in 0..self.leaving.len() {
            if let Farewell::Asked { deadline } = self.leaving[index].farewell
                && deadline <= cx.now
            {
                self.leaving[index].farewell = Farewell::Killed;
                let shot = Shot {
                    pid: self.leaving[index].pid,
                    signum: 9,
                    scope: Scope::Tree,
                    aim: Aim::Kill,
                };
                self.signal(cx, shot);
            }
        }
        let old: Vec<Wid> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Running { expires, .. } if *expires <= cx.now))
            .map(|(wid, _)| *wid)
            .collect();
        if !old.is_empty() {
            self.await_successors();
        }
        let refill = self.options.respawn();
        for wid in old {
            self.dismiss(cx, wid, false, refill, None, None);
        }
    }

    /// Tells the worker in a slot to go. With `refill` the slot stays and is filled once the worker is gone.
    pub fn dismiss(
        &mut self,
        cx: &mut Context<'_>,
        wid: Wid,
        announce: bool,
        refill: bool,
        signum: Option<i32>,
        timeout: Option<f64>,
    ) {
        match self.slots.remove(&wid) {
            Some(Slot::Running { pid, started, .. }) => {
                self.leaving.push(Leaving {
                    wid,
                    pid,
                    started,
                    farewell: Farewell::Killed,
                    announce,
                    unheard_of: false,
                });
                if refill {
                    // the number stays: programs derive ports and paths from it
                    self.slots.insert(
                        wid,
                        Slot::Vacant {
                            not_before: cx.now,
                            after: Some(pid),
                            failures: 0,
                        },
                    );
                }
                self.ask(cx, pid, signum, timeout);
            }
            Some(Slot::Spawning { spawn, .. }) => {
                self.leaving
                    .push(Leaving::unborn(wid, spawn, cx.now, announce));
            }
            Some(Slot::Vacant { .. }) | None => {}
        }
    }

    /// Sends the stop signal to a leaving worker and sets its deadline.
    pub fn ask(
        &mut self,
        cx: &mut Context<'_>,
        pid: Pid,
        signum: Option<i32>,
        timeout: Option<f64>,
    ) {
        let signum = signum.unwrap_or_else(|| self.options.stop_signal());
        let timeout = timeout.unwrap_or_else(|| self.options.graceful_timeout());
        let scope = if self.options.stop_children() {
            Scope::Tree
        } else {
            Scope::Worker
        };
        let hooked = self.has_hook("before_signal");
        if let Some(leaving) = self.leaving.iter_mut().find(|l| l.pid == pid) {
            leaving.farewell = if hooked {
                Farewell::Pending
            } else {
                let deadline = cx.now.plus_seconds(timeout);
                Farewell::Asked { deadline }
            };
            let shot = Shot {
                pid,
                signum,
                scope,
                aim: Aim::Leave { timeout },
            };
            self.signal(cx, shot);
        }
    }

    /// The `kill` command: returns the pids that are on their way out by it.
    pub fn kill(
        &mut self,
        cx: &mut Context<'_>,
        only: Option<Pid>,
        signum: Option<i32>,
        timeout: Option<f64>,
    ) -> Vec<Pid> {
        let chosen: Vec<(Wid, Pid)> = self
            .slots
            .iter()
            .filter_map(|(wid, slot)| match slot {
                Slot::Running { pid, .. } if only.is_none_or(|only| only == *pid) => {
                    Some((*wid, *pid))
                }
                _ => None,
            })
            .collect();
        if !chosen.is_empty() {
            self.await_successors();
        }
        let refill = self.options.respawn();
        for (wid, _) in &chosen {
            self.dismiss(cx, *wid, false, refill, signum, timeout);
        }
        chosen.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Makes the number of slots the number of wanted workers: new ones are vacant; of those too many the vacant go
    /// first, then the oldest (circus keeps the newest).
    pub fn fit_slots(&mut self, cx: &mut Context<'_>, fill: bool) {
        let wanted = self.options.numprocesses() as usize;
        if fill && self.slots.len() < wanted {
            // one pass over the numbers in use, instead of one for each new slot
            let mut used: std::collections::BTreeSet<Wid> = self.slots.keys().copied().collect();
            used.extend(self.leaving.iter().map(|l| l.wid));
            let fresh: Vec<Wid> = (1..)
                .filter(|wid| !used.contains(wid))
                .take(wanted - self.slots.len())
                .collect();
            for wid in fresh {
                self.slots.insert(wid, Slot::vacant(cx.now, 0));
            }
        }
        if self.slots.len() <= wanted {
            return;
        }
        let mut order: Vec<(u8, Time, Wid)> = self
            .slots
            .iter()
            .map(|(wid, slot)| match slot {
                Slot::Vacant { .. } => (0, Time(0), *wid),
                Slot::Spawning { .. } => (1, Time(0), *wid),
                Slot::Running { started, .. } => (2, *started, *wid),
            })
            .collect();
        order.sort_unstable();
        order.truncate(self.slots.len() - wanted);
        // of those that go circus asks the newest first
        for (_, _, wid) in order.into_iter().rev() {
            self.dismiss(cx, wid, false, false, None, None);
        }
    }

    /// All workers are told to go, once the hook for that has answered.
    pub fn begin_stopping(&mut self, cx: &mut Context<'_>) {
        if self.status == Status::Stopping {
            // what came before has begun it
            return;
        }
        self.status = Status::Stopping;
        self.take(cx, Step::BeforeStop);
    }

    /// All workers are told to go.
    pub(super) fn dismiss_all(&mut self, cx: &mut Context<'_>) {
        let wids: Vec<Wid> = self.slots.keys().copied().collect();
        for wid in wids {
            self.dismiss(cx, wid, true, false, None, None);
        }
        let retiring: Vec<Pid> = self
            .leaving
            .iter()
            .filter(|l| matches!(l.farewell, Farewell::Retiring { .. }))
            .map(|l| l.pid)
            .collect();
        for pid in retiring {
            self.ask(cx, pid, None, None);
        }
        for leaving in &mut self.leaving {
            leaving.announce = true;
        }
    }

    /// The watcher is up.
    pub(super) fn now_active(&mut self, cx: &mut Context<'_>) {
        self.status = Status::Active;
        cx.effects.push(self.publish(Event::Start));
        cx.effects
            .push(self.note(Level::Info, format!("{} started", self.options.name)));
    }

    /// Starts what is due and finds out when the next thing is.
    pub fn upkeep(&mut self, cx: &mut Context<'_>) {
        self.doze(cx);
        let serving = matches!(self.status, Status::Active | Status::Starting) && !cx.closing;
        let fills = serving && !self.awaits;
        let warmup = self.options.warmup_delay();
        if serving {
            let due: Vec<Wid> = self
                .slots
                .iter()
                .filter(|(_, slot)| {
                    fills && matches!(slot, Slot::Vacant { not_before, after: None, .. } if *not_before <= cx.now)
                })
                .map(|(wid, _)| *wid)
                .collect();
            for wid in due {
                if self.pace > cx.now || self.waits_to_spawn() {
                    break;
                }
                let Some(Slot::Vacant { failures, .. }) = self.slots.get(&wid) else {
                    continue;
                };
                let failures = *failures;
                let spawn = *cx.next_spawn;
                *cx.next_spawn += 1;
                cx.spawns.insert(spawn, (self.id, wid));
                self.slots.insert(wid, Slot::Spawning { spawn, failures });
                let lives = |wid| !matches!(self.slots.get(&wid), None | Some(Slot::Vacant { .. }));
                let listen = self.curiosity.listens(cx.now, wid, lives);
                // without respawn there is no second time
                let listen = listen || !self.options.respawn();
                self.take(cx, Step::BeforeSpawn { wid, spawn, listen });
                if warmup > 0.0 {
                    self.pace = cx.now.plus_seconds(warmup);
                }
            }
            let running = self
                .slots
                .values()
                .any(|slot| matches!(slot, Slot::Running { .. }));
            // scaled down to nothing while it was starting: up, with nobody in it
            let idle = self.slots.is_empty() && self.job.is_none() && self.queue.is_empty();
            let settled = self.untried() == 0 && !self.hooks.busy();
            if self.status == Status::Starting && settled && (running || idle) {
                if running {
                    self.take(cx, Step::AfterStart);
                } else {
                    self.now_active(cx);
                }
            }
        }
        let filling = fills && !self.waits_to_spawn();
        let mut due = self.hooks.due().min(self.retry_at);
        for slot in self.slots.values() {
            due = due.min(match slot {
                Slot::Vacant {
                    not_before,
                    after: None,
                    ..
                } if filling => (*not_before).max(self.pace),
                Slot::Running { expires, .. } => *expires,
                _ => Time::NEVER,
            });
        }
        for leaving in &self.leaving {
            if let Farewell::Asked { deadline } = leaving.farewell {
                due = due.min(deadline);
            }
        }
        if let Some(job) = &self.job
            && matches!(job.phase, Phase::OneByOne { .. })
        {
            let proof = job.undo.as_ref().map(|_| self.proven_at());
            let next = [Some(self.pace), proof].into_iter().flatten();
            due = next.filter(|time| *time > cx.now).fold(due, Time::min);
        }
        if let Some(Job {
            phase: Phase::Replacing {
                proven_at: Some(moment),
            },
            ..
        }) = &self.job
        {
            due = due.min(*moment);
        }
        self.due = due;
    }

    /// Nobody is started now: a hook has not answered, or there are hooks around each start and one is under way (as in
    /// circus each worker is then started by itself).
    fn waits_to_spawn(&self) -> bool {
        let spawning = |slot: &Slot| matches!(slot, Slot::Spawning { .. });
        self.hooks.busy()
            || (self.has_hook("before_spawn") || self.has_hook("after_spawn"))
                && self.slots.values().any(spawning)
    }

    /// Slots whose outcome is not known yet: being started, or never tried.
    pub fn untried(&self) -> usize {
        self.slots
            .values()
            .filter(|slot| match slot {
                Slot::Spawning { .. } => true,
                Slot::Vacant { failures, .. } => *failures == 0 && !self.awaits,
                Slot::Running { .. } => false,
            })
            .count()
    }
}
