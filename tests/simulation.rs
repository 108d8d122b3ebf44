//! Seeded random schedules against the supervisor core: exits, slow and stubborn stops, failing starts, commands in any
//! order and clock jumps over several watchers, with the invariants checked after every step.
//!
//! `CIRC_SIM_SCHEDULES=N` plays another number of schedules, `CIRC_SIM_SEED=N` replays one.

use circ::options::{Value, WatcherOptions};
use circ::supervisor::{
    Command, Effect, HookCall, HookId, Input, Loss, Pid, Scope, SpawnId, Status, Supervisor,
    Ticket, Time, WatcherId, Wid,
};
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() {
            return None;
        }
        let index = self.below(items.len() as u64) as usize;
        items.get(index).cloned()
    }
}

#[derive(Debug, Clone)]
struct Process {
    watcher: WatcherId,
    wid: Wid,
    /// Does not die of the stop signal.
    stubborn: bool,
    /// Has got a deadly signal: exits with this code some time.
    dying: Option<i32>,
    /// Somebody told it to go.
    asked: bool,
}

struct World {
    seed: u64,
    random: Random,
    core: Supervisor,
    now: u64,
    next_pid: Pid,
    next_ticket: Ticket,
    processes: BTreeMap<Pid, Process>,
    spawns: BTreeMap<SpawnId, (WatcherId, Wid)>,
    /// Hooks that have not answered: whose, and which.
    hooks: BTreeMap<HookId, (WatcherId, HookCall)>,
    /// Calls nobody waits for any more; some answer late.
    late: Vec<HookId>,
    open: BTreeMap<Ticket, String>,
    /// The process that is exiting, until its loss is told, and whether it was told to go.
    going: Option<(Pid, bool)>,
    /// Those that were told to wait for a connection.
    waiting: BTreeSet<WatcherId>,
    log: Vec<String>,
    closing: bool,
    names: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let mut core = Supervisor::new([0.0, 0.5][random.below(2) as usize], seed);
        let mut names = Vec::new();
        for index in 0..1 + random.below(4) {
            let name = format!("W{index}");
            core.load(options(&mut random, &name)).unwrap();
            names.push(name);
        }
        names.push("added".to_string());
        World {
            seed,
            random,
            core,
            now: 1_000_000,
            next_pid: 100,
            next_ticket: 1,
            processes: BTreeMap::new(),
            spawns: BTreeMap::new(),
            hooks: BTreeMap::new(),
            late: Vec::new(),
            open: BTreeMap::new(),
            going: None,
            waiting: BTreeSet::new(),
            log: Vec::new(),
            closing: false,
            names,
        }
    }

    fn fail(&self, what: &str) -> ! {
        let tail = self.log.len().saturating_sub(60);
        panic!(
            "seed {}: {what}\nreplay with CIRC_SIM_SEED={}\n{}",
            self.seed,
            self.seed,
            self.log[tail..].join("\n")
        );
    }

    fn step(&mut self, input: Input) {
        self.log.push(format!("{:>10} > {input:?}", self.now));
        let effects = self.core.step(Time(self.now), input);
        for effect in effects {
            if !matches!(effect, Effect::Log { .. }) {
                self.log.push(format!("{:>10}   {effect:?}", ""));
            }
            match effect {
                Effect::Spawn {
                    spawn,
                    watcher,
                    wid,
                    ..
                } => {
                    if self.spawns.insert(spawn, (watcher, wid)).is_some() {
                        self.fail("a spawn id was used twice");
                    }
                    if self.waits_for_a_hook(watcher) {
                        self.fail("a worker is started while a hook has not answered");
                    }
                }
                Effect::Hook {
                    call,
                    watcher,
                    hook,
                } => {
                    if self.waits_for_a_hook(watcher) {
                        self.fail("two hooks of one watcher at a time");
                    }
                    if self.hooks.insert(call, (watcher, hook)).is_some() {
                        self.fail("a call was numbered twice");
                    }
                }
                Effect::HookExpired { call } => {
                    if let Some((_, hook)) = self.hooks.remove(&call) {
                        self.answered(hook);
                        self.late.push(call);
                    } else {
                        self.fail("a hook has expired that was not called");
                    }
                }
                Effect::Signal {
                    scope: Scope::Below,
                    ..
                } => {}
                Effect::Signal { pid, signum, .. } => {
                    let Some(process) = self.processes.get_mut(&pid) else {
                        self.fail("a signal to a process that is not there")
                    };
                    process.asked |= signum != 1;
                    if signum == 9 {
                        process.dying = Some(-9);
                    } else if signum != 1 && !process.stubborn {
                        process.dying = Some(-signum);
                    }
                }
                Effect::Release { pid } => {
                    if self.processes.remove(&pid).is_none() {
                        self.fail("released a process that is not there");
                    }
                }
                Effect::Reply { ticket, .. } => {
                    if self.open.remove(&ticket).is_none() {
                        self.fail("a reply to nobody, or the second to somebody");
                    }
                }
                Effect::Dropped(id) => {
                    if self.processes.values().any(|p| p.watcher == id) {
                        self.fail("a watcher vanished before its workers");
                    }
                }
                Effect::Lost {
                    loss: Loss::Exited { pid, .. },
                    ..
                } => {
                    if self.going.take() != Some((pid, false)) {
                        self.fail("an exit is told that was asked for, or that was not");
                    }
                }
                Effect::Lost { .. } => {}
                Effect::Await(id) => {
                    let waits = self.core.watcher_by_id(id).is_some_and(|w| w.waits());
                    if waits {
                        self.waiting.insert(id);
                    } else {
                        self.waiting.remove(&id);
                    }
                }
                Effect::Sweep { .. } | Effect::Publish { .. } | Effect::Log { .. } => {}
            }
        }
        self.check();
    }

    /// The invariants.
    fn check(&self) {
        let mut known = BTreeSet::new();
        let mut ids: BTreeSet<WatcherId> = self.processes.values().map(|p| p.watcher).collect();
        ids.extend(self.core.watchers().map(|w| w.id()));
        for id in ids {
            let Some(watcher) = self.core.watcher_by_id(id) else {
                self.fail("a process of a watcher that is gone")
            };
            let workers = watcher.workers();
            let staying = workers.iter().filter(|w| !w.leaving).count();
            if staying > watcher.options().numprocesses() as usize {
                self.fail("more workers than numprocesses");
            }
            if watcher.options().singleton() && staying > 1 {
                self.fail("a singleton of several");
            }
            let mut wids = BTreeSet::new();
            for worker in &workers {
                if !known.insert(worker.pid) {
                    self.fail("a process watched twice");
                }
                if !wids.insert(worker.wid) {
                    self.fail("a worker id used twice");
                }
                match self.processes.get(&worker.pid) {
                    None => self.fail("a worker that does not live"),
                    Some(p) if p.watcher != id || p.wid != worker.wid => {
                        self.fail("a worker under a wrong watcher or id");
                    }
                    Some(_) => {}
                }
                if self.core.owner(worker.pid) != Some(id) {
                    self.fail("the owner of a worker is not its watcher");
                }
            }
            if watcher.waits() != self.waiting.contains(&id) {
                self.fail("nobody was told that a watcher waits, or that it does not");
            }
            let down = matches!(watcher.status(), Status::Stopped | Status::Waiting);
            if down && staying > 0 {
                self.fail("a stopped watcher with workers");
            }
        }
        for pid in self.processes.keys() {
            if !known.contains(pid) {
                self.fail(&format!("process {pid} lost"));
            }
        }
    }

    fn command(&mut self, command: Command) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.open.insert(ticket, format!("{command:?}"));
        self.step(Input::Command { ticket, command });
    }

    fn some_name(&mut self) -> String {
        if self.random.chance(3) {
            return "nobody".to_string();
        }
        self.random.pick(&self.names.clone()).unwrap_or_default()
    }

    fn some_names(&mut self) -> Vec<String> {
        let names = self.names.clone();
        names
            .into_iter()
            .filter(|_| self.random.chance(70))
            .collect()
    }

    fn random_command(&mut self) {
        let name = self.some_name();
        let graceful = self.random.chance(80);
        let sequential = self.random.chance(30);
        let command = match self.random.below(20) {
            0 | 1 => Command::Start(name),
            2 | 3 => Command::Stop(name),
            4 | 5 => Command::Restart(name),
            6 | 7 => Command::Reload {
                name,
                graceful,
                sequential,
            },
            8 | 9 => Command::Count {
                name,
                change: self.random.below(7) as i64 - 3,
            },
            10 => {
                let keys = [
                    "numprocesses",
                    "cmd",
                    "graceful_timeout",
                    "warmup_delay",
                    "max_age",
                ];
                let key = keys[self.random.below(5) as usize];
                let value = match key {
                    "cmd" => Value::from("other"),
                    "numprocesses" => Value::from(self.random.below(5)),
                    _ => Value::from(self.random.below(3)),
                };
                Command::Set {
                    name,
                    changes: vec![(key.to_string(), value)],
                }
            }
            11 => {
                let pids: Vec<Pid> = self.processes.keys().copied().collect();
                let pid = self.random.pick(&pids).filter(|_| self.random.chance(50));
                Command::Kill {
                    name,
                    pid,
                    signum: None,
                    graceful_timeout: None,
                }
            }
            18 => Command::Renew(name),
            19 => {
                let pids: Vec<Pid> = match self.core.watcher(&name) {
                    Some(watcher) => watcher.workers().iter().map(|w| w.pid).collect(),
                    None => Vec::new(),
                };
                Command::Signal {
                    name,
                    pids,
                    signum: 1,
                    scope: Scope::Worker,
                }
            }
            12 => Command::StartMany(self.some_names()),
            13 => Command::StopMany(self.some_names()),
            14 => Command::RestartMany(self.some_names()),
            15 => Command::ReloadMany {
                names: self.some_names(),
                graceful,
                sequential,
            },
            16 if self.random.chance(50) => {
                let options = options(&mut self.random, "added");
                Command::Add {
                    options: Box::new(options),
                    start: self.random.chance(70),
                }
            }
            16 => Command::Remove {
                name,
                nostop: self.random.chance(30),
            },
            _ => Command::Replace(Box::new(options(&mut self.random, &name))),
        };
        self.command(command);
    }

    fn answer_spawn(&mut self, id: SpawnId, fails: bool) {
        let Some((watcher, wid)) = self.spawns.remove(&id) else {
            return;
        };
        if fails {
            self.step(Input::StartFailed {
                spawn: id,
                reason: "no such file".to_string(),
            });
            return;
        }
        let pid = self.next_pid;
        self.next_pid += 1;
        let process = Process {
            watcher,
            wid,
            stubborn: self.random.chance(15),
            dying: None,
            asked: false,
        };
        self.processes.insert(pid, process);
        self.step(Input::Started { spawn: id, pid });
    }

    fn waits_for_a_hook(&self, id: WatcherId) -> bool {
        self.hooks.values().any(|(watcher, _)| *watcher == id)
    }

    /// Whatever a hook says of a signal, the worker counts as told.
    fn answered(&mut self, hook: HookCall) {
        if let HookCall::BeforeSignal { pid, signum } = hook
            && signum != 1
            && let Some(process) = self.processes.get_mut(&pid)
        {
            process.asked = true;
        }
    }

    fn answer_hook(&mut self, call: HookId, answer: Result<bool, String>) {
        if let Some((_, hook)) = self.hooks.remove(&call) {
            self.answered(hook);
        }
        self.step(Input::HookDone { call, answer });
    }

    fn random_hook(&mut self) {
        let calls: Vec<HookId> = self.hooks.keys().copied().collect();
        if let Some(call) = self.random.pick(&calls).filter(|_| self.random.chance(30)) {
            self.step(Input::HookBegun { call });
        } else if let Some(call) = self.random.pick(&calls) {
            let answer = match self.random.below(10) {
                0 => Ok(false),
                1 => Err("it raised".to_string()),
                _ => Ok(true),
            };
            if self.random.chance(20)
                && let Some((watcher, _)) = self.hooks.get(&call).copied()
            {
                let number = self.random.below(5);
                let changes = vec![("numprocesses".to_string(), Value::from(number))];
                self.step(Input::Assign { watcher, changes });
            }
            self.answer_hook(call, answer);
        } else if let Some(call) = self.random.pick(&self.late.clone()) {
            self.step(Input::HookDone {
                call,
                answer: Ok(true),
            });
        }
    }

    fn exit(&mut self, pid: Pid, code: i32) {
        let process = self.processes.remove(&pid);
        self.going = process.map(|process| (pid, process.asked));
        self.step(Input::Exited { pid, code });
        if matches!(self.going.take(), Some((_, false))) {
            self.fail("an exit that nobody asked for is not told");
        }
    }

    fn dying(&self) -> Vec<(Pid, i32)> {
        self.processes
            .iter()
            .filter_map(|(pid, p)| p.dying.map(|code| (*pid, code)))
            .collect()
    }

    fn random_step(&mut self, failing: u64) {
        match self.random.below(100) {
            0..=9 if !self.hooks.is_empty() || !self.late.is_empty() => self.random_hook(),
            0..=29 => {
                let ids: Vec<SpawnId> = self.spawns.keys().copied().collect();
                if let Some(id) = self.random.pick(&ids) {
                    let fails = self.random.chance(failing);
                    self.answer_spawn(id, fails);
                }
            }
            30..=44 => {
                if let Some((pid, code)) = self.random.pick(&self.dying()) {
                    self.exit(pid, code);
                }
            }
            45..=54 => {
                let pids: Vec<Pid> = self.processes.keys().copied().collect();
                if let Some(pid) = self.random.pick(&pids) {
                    let code = self.random.below(3) as i32;
                    self.exit(pid, code);
                }
            }
            55..=74 => {
                self.now = match self.random.below(10) {
                    0 => self.now.saturating_sub(self.random.below(5_000_000)),
                    1 => self.now + self.random.below(3_600_000_000),
                    2..=5 => self.core.deadline().map_or(self.now, |t| t.0.max(self.now)),
                    _ => self.now + self.random.below(2_000_000),
                };
                self.step(Input::Tick);
            }
            75..=78 => {
                let ids: Vec<WatcherId> = self.core.watchers().map(|w| w.id()).collect();
                if let Some(watcher) = self.random.pick(&ids) {
                    self.step(Input::Demand { watcher });
                }
            }
            79..=98 => self.random_command(),
            _ => {
                // inputs that belong to nobody must do nothing
                self.step(Input::Exited { pid: 1, code: 0 });
                self.step(Input::Started {
                    spawn: 999_999_999,
                    pid: 2,
                });
            }
        }
    }

    /// With nothing new happening, everything that was asked for comes to its end.
    fn settle(&mut self) {
        let mut spins = 0;
        for _ in 0..20_000 {
            if let Some(id) = self.spawns.keys().next().copied() {
                self.answer_spawn(id, false);
                continue;
            }
            if let Some((pid, code)) = self.dying().first().copied() {
                self.exit(pid, code);
                continue;
            }
            // some never answer: their time runs out
            if let Some(call) = self.hooks.keys().next().copied() {
                if self.random.chance(90) {
                    self.answer_hook(call, Ok(true));
                } else {
                    self.step(Input::HookBegun { call });
                    self.now = self.now.max(self.core.deadline().map_or(self.now, |t| t.0));
                    self.step(Input::Tick);
                }
                continue;
            }
            if self.open.is_empty() && self.at_rest() {
                break;
            }
            let Some(time) = self.core.deadline() else {
                break;
            };
            spins = if time.0 > self.now { 0 } else { spins + 1 };
            if spins > 50 {
                self.fail(
                    "ticks do not bring the next deadline any further: the daemon would spin",
                );
            }
            self.now = self.now.max(time.0);
            self.step(Input::Tick);
        }
        if !self.open.is_empty() {
            self.fail(&format!("never answered: {:?}", self.open));
        }
        if !self.at_rest() {
            let all = self.core.watchers().map(|w| {
                let pids: Vec<Pid> = w.workers().iter().map(|w| w.pid).collect();
                let options = w.options();
                format!(
                    "{} {:?} {pids:?} of {} (on_demand {}, respawn {})",
                    options.name,
                    w.status(),
                    options.numprocesses(),
                    options.on_demand(),
                    options.respawn()
                )
            });
            let all: Vec<String> = all.collect();
            self.fail(&format!(
                "did not converge to what is wanted: {}; the processes are {:?}",
                all.join("; "),
                self.processes.keys()
            ));
        }
    }

    fn at_rest(&self) -> bool {
        let named: BTreeSet<WatcherId> = self.core.watchers().map(|w| w.id()).collect();
        // what has been removed comes to its end: nobody could stop it by its name any more
        self.processes.values().all(|p| named.contains(&p.watcher)) && self.named_at_rest()
    }

    fn named_at_rest(&self) -> bool {
        self.core.watchers().all(|watcher| {
            let workers = watcher.workers();
            let staying = workers.iter().filter(|w| !w.leaving).count();
            let wanted = watcher.options().numprocesses() as usize;
            staying == workers.len()
                && match watcher.status() {
                    Status::Stopped => staying == 0 && !self.waits_for_a_hook(watcher.id()),
                    Status::Waiting => staying == 0 && watcher.options().on_demand(),
                    Status::Active => {
                        let fewer = !watcher.options().respawn() || watcher.waits();
                        staying == wanted || (fewer && staying <= wanted)
                    }
                    Status::Starting | Status::Stopping => false,
                }
        })
    }
}

fn options(random: &mut Random, name: &str) -> WatcherOptions {
    let mut options = WatcherOptions::ini_defaults(name);
    let singleton = random.chance(10);
    let most = if singleton { 2 } else { 5 };
    let set = [
        ("cmd", Value::from("x")),
        ("numprocesses", Value::from(random.below(most))),
        ("singleton", Value::from(singleton)),
        ("priority", Value::from(random.below(3))),
        (
            "warmup_delay",
            Value::from([0.0, 0.0, 0.3][random.below(3) as usize]),
        ),
        (
            "graceful_timeout",
            Value::from([0.0, 1.0, 30.0][random.below(3) as usize]),
        ),
        ("respawn", Value::from(random.chance(85))),
        ("on_demand", Value::from(random.chance(20))),
        (
            "max_retry",
            Value::from([-1, 0, 1, 5][random.below(4) as usize]),
        ),
        (
            "max_age",
            Value::from([0, 0, 0, 7][random.below(4) as usize]),
        ),
        ("send_hup", Value::from(random.chance(15))),
        ("stop_children", Value::from(random.chance(15))),
        ("autostart", Value::from(random.chance(90))),
    ];
    for (key, value) in set {
        options.put(key, value).unwrap();
    }
    if random.chance(50) {
        for hook in circ::options::HOOKS {
            if random.chance(40) {
                let value = Value::from(["m.f", "m.f,True"][random.below(2) as usize]);
                options.put(&format!("hooks.{hook}"), value).unwrap();
            }
        }
        let retry = [0, 0, 3][random.below(3) as usize];
        options.put("hook_retry", Value::from(retry)).unwrap();
    }
    options
}

fn play(seed: u64) -> usize {
    let mut world = World::new(seed);
    let names = world.names.clone();
    world.command(Command::StartMany(names));
    let steps = 30 + world.random.below(120);
    let failing = [0, 10, 60][world.random.below(3) as usize];
    for _ in 0..steps {
        world.random_step(failing);
    }
    if world.random.chance(25) {
        world.closing = true;
        world.command(Command::Close);
        for _ in 0..world.random.below(30) {
            world.random_step(failing);
        }
    }
    world.settle();
    if world.closing && !world.processes.is_empty() {
        world.fail("workers outlive the daemon");
    }
    world.log.len()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_schedules_keep_the_invariants_and_converge() {
    if let Some(seed) = number("CIRC_SIM_SEED") {
        play(seed);
        return;
    }
    let schedules = number("CIRC_SIM_SCHEDULES").unwrap_or(10_000);
    let mut lines = 0;
    for seed in 0..schedules {
        lines += play(seed);
    }
    println!("{schedules} schedules, {lines} inputs and effects");
}
