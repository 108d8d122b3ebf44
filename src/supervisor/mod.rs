//! The pure core: watchers and their workers as state machines.
//!
//! # Theory of operation
//!
//! [`Supervisor::step`] takes the time and one [`Input`] and returns the [`Effect`]s the shell has to carry out: spawn
//! this worker, signal that process, answer this ticket, publish that event. What comes of them returns as further
//! inputs. Nothing in here reads a clock, waits, or touches the system, so that a test can play any order of exits, slow
//! stops, commands and clock jumps from a seed and check the invariants after every step.
//!
//! * A watcher wants `numprocesses` workers. Each wanted worker is a *slot* under its worker id: vacant (with the time at
//!   which it may be filled), spawning or running. A worker that shall go leaves its slot first and is then *leaving*: it
//!   is asked with the stop signal and killed at its deadline. So never more than `numprocesses` workers plus those
//!   leaving are alive, whatever happens.
//! * Commands for one watcher are *jobs* in that watcher's queue: they run one after the other, join an equal job that
//!   has not begun to differ, and watchers never wait for each other. A stop does not queue behind a slow start: it
//!   interrupts it.
//! * Commands over several watchers are *campaigns*: start from the highest priority to the lowest, one after the other;
//!   stop from the lowest to the highest, all at once.
//! * A worker that exits is replaced at once; one that exits young, or cannot be started, is replaced after a growing
//!   pause ([`backoff`]).

mod backoff;
mod campaign;
mod curiosity;
mod demand;
mod ends;
mod hooks;
mod job;
mod message;
#[cfg(test)]
mod play;
mod reload;
mod watcher;
mod work;

use crate::options::WatcherOptions;
use campaign::{Campaign, CampaignKind};
use job::{Job, Waiter, Work};
use std::collections::BTreeMap;
use watcher::{Context, Watcher};

pub use message::{
    About, Command, Effect, Event, HookCall, HookId, Input, Level, Loss, Outcome, Pid, Refusal,
    Scope, SpawnId, Status, Ticket, Time, WatcherId, Wid,
};

/// A living worker, for replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerView {
    /// Its process.
    pub pid: Pid,
    /// Its worker id.
    pub wid: Wid,
    /// When it was started.
    pub started: Time,
    /// It has been told to go, or will be.
    pub leaving: bool,
}

/// A read-only look at a watcher, for replies.
pub struct View<'a> {
    watcher: &'a Watcher,
}

impl View<'_> {
    /// The watcher's id.
    pub fn id(&self) -> WatcherId {
        self.watcher.id
    }
    /// Its options.
    pub fn options(&self) -> &WatcherOptions {
        &self.watcher.options
    }
    /// What it is doing.
    pub fn status(&self) -> Status {
        match self.watcher.status {
            Status::Stopped if self.watcher.hooks.before_start() => Status::Starting,
            status => status,
        }
    }
    /// Its living workers, oldest first.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.watcher.workers()
    }
    /// Workers are missing, and the next thing to read on one of its sockets starts them (`on_demand`): see
    /// [`Input::Demand`].
    pub fn waits(&self) -> bool {
        self.watcher.waits()
    }
    /// Why its workers cannot be started or do not stay, or why those from before a reload still run; if so.
    pub fn trouble(&self) -> Option<&str> {
        let absent = self.watcher.missing() > 0 || self.watcher.status == Status::Stopped;
        let trouble = self.watcher.trouble.as_deref().filter(|_| absent);
        trouble.or(self.watcher.outdated.as_deref())
    }
    /// It has stopped by itself (failed starts, a hook, or no respawn), and nobody has stopped or started it since.
    pub fn gave_up(&self) -> bool {
        self.watcher.gave_up
    }
    /// How often the worker that fails most has failed in a row, and when the next one is started, while that is being waited
    /// for.
    pub fn pause(&self) -> Option<(u32, Time)> {
        self.watcher.pause()
    }
    /// Workers that are wanted and not there: vacant or being started.
    pub fn missing(&self) -> usize {
        self.watcher.missing()
    }
}

/// The core. See the module's documentation.
pub struct Supervisor {
    watchers: BTreeMap<WatcherId, Watcher>,
    names: BTreeMap<String, WatcherId>,
    pids: BTreeMap<Pid, WatcherId>,
    /// The slot that each start under way was asked for.
    spawns: BTreeMap<SpawnId, (WatcherId, Wid)>,
    /// The watcher that waits for each call of a hook.
    hooks: BTreeMap<HookId, WatcherId>,
    campaigns: BTreeMap<u64, Campaign>,
    kills: Vec<(Ticket, Vec<Pid>)>,
    next_watcher: u64,
    next_spawn: SpawnId,
    next_hook: HookId,
    next_campaign: u64,
    warmup_delay: f64,
    closing: bool,
    /// A pass over the campaigns is under way; what moves meanwhile is seen by its next round.
    campaigning: bool,
    campaigns_moved: bool,
    now: Time,
    random: backoff::Random,
}

impl Supervisor {
    /// An empty core. `warmup_delay` is the pause between starting two watchers, in seconds; `seed` feeds the jitter.
    pub fn new(warmup_delay: f64, seed: u64) -> Self {
        Supervisor {
            watchers: BTreeMap::new(),
            names: BTreeMap::new(),
            pids: BTreeMap::new(),
            spawns: BTreeMap::new(),
            hooks: BTreeMap::new(),
            campaigns: BTreeMap::new(),
            kills: Vec::new(),
            next_watcher: 1,
            next_spawn: 1,
            next_hook: 1,
            next_campaign: 1,
            warmup_delay,
            closing: false,
            campaigning: false,
            campaigns_moved: false,
            now: Time(0),
            random: backoff::Random::new(seed),
        }
    }

    /// Takes one input and returns what is to be done, in order. Time that goes backwards is taken as standing still.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Effect> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        match input {
            Input::Started { spawn, pid } => {
                if let Some((id, wid)) = self.spawns.remove(&spawn) {
                    self.pids.insert(pid, id);
                    self.touch(id, &mut effects, |w, cx| w.started(cx, spawn, wid, pid));
                }
            }
            Input::StartFailed { spawn, reason } => {
                if let Some((id, wid)) = self.spawns.remove(&spawn) {
                    self.touch(id, &mut effects, |w, cx| {
                        w.start_failed(cx, spawn, wid, reason)
                    });
                }
            }
            Input::Exited { pid, code } => self.exited(&mut effects, pid, code),
            Input::Demand { watcher } => {
                self.touch(watcher, &mut effects, |w, cx| w.demanded(cx));
            }
            Input::HookBegun { call } => {
                if let Some(id) = self.hooks.get(&call).copied() {
                    self.touch(id, &mut effects, |w, cx| w.hook_begun(cx, call));
                }
            }
            Input::HookDone { call, answer } => {
                if let Some(id) = self.hooks.remove(&call) {
                    self.touch(id, &mut effects, |w, cx| w.hook_done(cx, call, answer));
                }
            }
            Input::Assign { watcher, changes } => {
                self.touch(watcher, &mut effects, |w, cx| w.assign(cx, changes));
            }
            Input::Tick => {
                let due: Vec<WatcherId> = self
                    .watchers
                    .values()
                    .filter(|w| w.due <= self.now)
                    .map(|w| w.id)
                    .collect();
                for id in due {
                    self.touch(id, &mut effects, |w, cx| w.tick(cx));
                }
                self.run_campaigns(&mut effects);
            }
            Input::Command { ticket, command } => self.command(&mut effects, ticket, command),
        }
        effects
    }

    /// When the next [`Input::Tick`] is due, if ever.
    pub fn deadline(&self) -> Option<Time> {
        self.watchers
            .values()
            .map(|w| w.due)
            .chain(self.campaigns.values().map(|c| c.resume_at))
            .min()
            .filter(|time| *time < Time::NEVER)
    }

    /// The watcher of this name, in any case.
    pub fn watcher(&self, name: &str) -> Option<View<'_>> {
        self.names
            .get(&name.to_lowercase())
            .and_then(|id| self.watchers.get(id))
            .map(|watcher| View { watcher })
    }

    /// The watcher of this id, also one that is on its way out.
    pub fn watcher_by_id(&self, id: WatcherId) -> Option<View<'_>> {
        self.watchers.get(&id).map(|watcher| View { watcher })
    }

    /// All named watchers in the order they were added.
    pub fn watchers(&self) -> impl Iterator<Item = View<'_>> {
        self.watchers
            .values()
            .filter(|w| !w.removed)
            .map(|watcher| View { watcher })
    }

    /// The watcher that a process belongs to.
    pub fn owner(&self, pid: Pid) -> Option<WatcherId> {
        self.pids.get(&pid).copied()
    }

    /// Whether the worker that [`Effect::Spawn`] asked for is still wanted. If not, [`Input::StartFailed`] answers as well.
    pub fn wants(&self, spawn: SpawnId) -> bool {
        self.spawns
            .get(&spawn)
            .and_then(|(id, wid)| Some((self.watchers.get(id)?, *wid)))
            .is_some_and(|(watcher, wid)| watcher.spawning(wid, spawn).is_some())
    }

    /// True once [`Command::Close`] was given.
    pub fn closing(&self) -> bool {
        self.closing
    }

    /// Runs `act` on one watcher, lets its queue advance, and hands on what was finished by it.
    fn touch(
        &mut self,
        id: WatcherId,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Watcher, &mut Context<'_>),
    ) {
        let mut finished = Vec::new();
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        let waited = watcher.waits();
        let mut cx = Context {
            now: self.now,
            effects,
            finished: &mut finished,
            pids: &mut self.pids,
            spawns: &mut self.spawns,
            next_spawn: &mut self.next_spawn,
            hooks: &mut self.hooks,
            next_hook: &mut self.next_hook,
            random: &mut self.random,
            closing: self.closing,
        };
        act(watcher, &mut cx);
        watcher.advance(&mut cx);
        let waits = watcher.waits();
        if watcher.is_done() {
            self.watchers.remove(&id);
            effects.push(Effect::Dropped(id));
        }
        if waits != waited {
            effects.push(Effect::Await(id));
        }
        for (waiter, outcome) in finished {
            match waiter {
                Waiter::Ticket(ticket) => effects.push(Effect::Reply { ticket, outcome }),
                Waiter::Campaign(number) => {
                    if let Some(campaign) = self.campaigns.get_mut(&number) {
                        campaign.finished(id, self.now.plus_seconds(self.warmup_delay));
                        self.campaigns_moved = true;
                    }
                }
            }
        }
        if self.campaigns_moved {
            self.run_campaigns(effects);
        }
    }

    fn exited(&mut self, effects: &mut Vec<Effect>, pid: Pid, code: i32) {
        let Some(id) = self.pids.remove(&pid) else {
            return;
        };
        self.touch(id, effects, |w, cx| w.exited(cx, pid, code));
        for (_, pids) in &mut self.kills {
            pids.retain(|waited| *waited != pid);
        }
        let mut rest = Vec::new();
        for (ticket, pids) in std::mem::take(&mut self.kills) {
            if pids.is_empty() {
                effects.push(Effect::Reply {
                    ticket,
                    outcome: Outcome::Done,
                });
            } else {
                rest.push((ticket, pids));
            }
        }
        self.kills = rest;
    }

    fn command(&mut self, effects: &mut Vec<Effect>, ticket: Ticket, command: Command) {
        if let Err(refusal) = self.try_command(effects, ticket, command) {
            effects.push(Effect::Reply {
                ticket,
                outcome: Outcome::Refused(refusal),
            });
        }
    }

    fn find(&self, name: &str) -> Result<WatcherId, Refusal> {
        self.names
            .get(&name.to_lowercase())
            .copied()
            .ok_or_else(|| Refusal::NotFound(name.to_string()))
    }

    fn try_command(
        &mut self,
        effects: &mut Vec<Effect>,
        ticket: Ticket,
        command: Command,
    ) -> Result<(), Refusal> {
        let starts = !matches!(
            command,
            Command::Stop(_)
                | Command::StopMany(_)
                | Command::Close
                | Command::Kill { .. }
                | Command::Signal { .. }
        );
        if self.closing && starts {
            return Err(Refusal::Invalid("the daemon is stopping".to_string()));
        }
        let work = match command {
            Command::Add { options, start } => return self.add(effects, ticket, *options, start),
            Command::Remove { name, nostop } => {
                let id = self.find(&name)?;
                self.names.remove(&name.to_lowercase());
                if let Some(watcher) = self.watchers.get_mut(&id) {
                    watcher.removed = true;
                    effects.push(watcher.publish(Event::Remove));
                }
                (name, Some(id), Work::Remove { nostop })
            }
            Command::Start(name) => (name, None, Work::Start),
            Command::Stop(name) => (name, None, Work::Stop),
            Command::Restart(name) => (name, None, Work::Restart),
            Command::Reload {
                name,
                graceful,
                sequential,
            } => (
                name,
                None,
                Work::Reload {
                    graceful,
                    sequential,
                },
            ),
            Command::Renew(name) => (name, None, Work::Renew),
            Command::Count { name, change } => (name, None, Work::Count(change)),
            Command::Set { name, changes } => (name, None, Work::Set(changes)),
            Command::Replace(options) => (options.name.clone(), None, Work::Replace(options)),
            Command::Kill {
                name,
                pid,
                signum,
                graceful_timeout,
            } => {
                let id = self.find(&name)?;
                let mut pids = Vec::new();
                self.touch(id, effects, |w, cx| {
                    pids = w.kill(cx, pid, signum, graceful_timeout);
                });
                if pids.is_empty() {
                    effects.push(Effect::Reply {
                        ticket,
                        outcome: Outcome::Done,
                    });
                } else {
                    self.kills.push((ticket, pids));
                }
                return Ok(());
            }
            Command::Signal {
                name,
                pids,
                signum,
                scope,
            } => {
                let id = self.find(&name)?;
                self.touch(id, effects, |w, cx| {
                    w.send(cx, &pids, signum, scope, ticket);
                });
                return Ok(());
            }
            Command::WarmupDelay(seconds) => {
                self.warmup_delay = seconds;
                effects.push(Effect::Reply {
                    ticket,
                    outcome: Outcome::Done,
                });
                return Ok(());
            }
            Command::StartMany(names) => {
                return self.campaign(effects, ticket, CampaignKind::Start, &names);
            }
            Command::StopMany(names) => {
                return self.campaign(effects, ticket, CampaignKind::Stop, &names);
            }
            Command::RestartMany(names) => {
                return self.campaign(effects, ticket, CampaignKind::Restart, &names);
            }
            Command::ReloadMany {
                names,
                graceful,
                sequential,
            } => {
                let kind = CampaignKind::Reload {
                    graceful,
                    sequential,
                };
                return self.campaign(effects, ticket, kind, &names);
            }
            Command::Close => {
                self.closing = true;
                let names: Vec<String> = self.names.keys().cloned().collect();
                return self.campaign(effects, ticket, CampaignKind::Close, &names);
            }
        };
        let (name, id, work) = work;
        let id = match id {
            Some(id) => id,
            None => self.find(&name)?,
        };
        self.touch(id, effects, |w, cx| {
            w.enqueue(cx, Job::new(Waiter::Ticket(ticket), work));
        });
        Ok(())
    }

    fn add(
        &mut self,
        effects: &mut Vec<Effect>,
        ticket: Ticket,
        options: WatcherOptions,
        start: bool,
    ) -> Result<(), Refusal> {
        if options.name.is_empty() {
            return Err(Refusal::Invalid(
                "command name shouldn't be empty".to_string(),
            ));
        }
        let key = options.name.to_lowercase();
        if self.names.contains_key(&key) {
            return Err(Refusal::Exists(format!("'{}'", options.name)));
        }
        options
            .check_rules()
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        let id = WatcherId(self.next_watcher);
        self.next_watcher += 1;
        let watcher = Watcher::new(id, options);
        effects.push(watcher.publish(Event::Add));
        self.names.insert(key, id);
        self.watchers.insert(id, watcher);
        if start {
            self.touch(id, effects, |w, cx| {
                w.enqueue(cx, Job::new(Waiter::Ticket(ticket), Work::Start));
            });
        } else {
            effects.push(Effect::Reply {
                ticket,
                outcome: Outcome::Done,
            });
        }
        Ok(())
    }

    /// Takes a watcher in without any event: what stood in the file when the daemon started.
    pub fn load(&mut self, options: WatcherOptions) -> Result<WatcherId, Refusal> {
        let mut effects = Vec::new();
        self.add(&mut effects, 0, options, false)?;
        Ok(WatcherId(self.next_watcher - 1))
    }
}
