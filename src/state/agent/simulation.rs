//! Seeded random schedules against the agent's core, with its invariants checked after every step:
//!
//! * never two runs at once, and never one while paused, in a window that forbids it, or after the end;
//! * no trigger is lost: every one is followed by a run that began after it, and an order within a second if nothing
//!   stands against it;
//! * the pause after a failure is bounded on both sides;
//! * whoever waits is answered once;
//! * the core never asks to be woken in the past, and when nothing happens any more only the interval remains.
//!
//! `CIRC_SIM_SCHEDULES=N` plays another number of schedules, `CIRC_SIM_SEED=N` replays one.

use std::collections::{BTreeMap, BTreeSet};

use super::super::random::Random;
use super::*;

const NAMES: [&str; 4] = ["web", "worker", "broken", "fought"];

struct World {
    seed: u64,
    chance: Random,
    core: Schedule,
    rules: Rules,
    now: u64,
    /// The run under way: when it began, when it will end, its order.
    run: Option<(u64, u64, Order)>,
    pause: Option<Option<u64>>,
    hold: Hold,
    stopped: bool,
    exited: bool,
    /// Triggers that no run has seen: when, about whom, and whether it was an order.
    owed: Vec<(u64, Option<&'static str>, bool)>,
    /// The last moment at which something stood against a run.
    hindered: u64,
    failures: u32,
    failed_at: u64,
    waiting: BTreeSet<Ticket>,
    next_ticket: Ticket,
    fights: BTreeMap<String, u64>,
    log: Vec<String>,
    runs: usize,
    /// All goes well from now on.
    peace: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Random::new(seed);
        let rules = Rules {
            interval: [1_000, 60_000, 3_600_000][chance.up_to(2) as usize],
            splay: [0, 10_000][chance.up_to(1) as usize],
            mode: [Mode::Enforce, Mode::Enforce, Mode::Audit][chance.up_to(2) as usize],
            ..Rules::default()
        };
        World {
            seed,
            core: Schedule::new(rules.clone(), seed),
            chance,
            rules,
            now: 10_000,
            run: None,
            pause: None,
            hold: Hold::Free,
            stopped: false,
            exited: false,
            owed: Vec::new(),
            hindered: 10_000,
            failures: 0,
            failed_at: 0,
            waiting: BTreeSet::new(),
            next_ticket: 1,
            fights: BTreeMap::new(),
            log: Vec::new(),
            runs: 0,
            peace: false,
        }
    }

    fn fail(&self, what: &str) -> ! {
        let tail = self.log.len().saturating_sub(40);
        panic!(
            "seed {}: {what}\nreplay with CIRC_SIM_SEED={}\n{}",
            self.seed,
            self.seed,
            self.log[tail..].join("\n")
        );
    }

    fn step(&mut self, input: Input) {
        self.log.push(format!("{:>9} > {input:?}", self.now));
        let effects = self.core.step(Time(self.now), input);
        for effect in effects {
            self.log.push(format!("{:>9}   {effect:?}", ""));
            match effect {
                Effect::Run(order) => self.begun(order),
                Effect::Answer(ticket) | Effect::Refuse(ticket, _) => {
                    if !self.waiting.remove(&ticket) {
                        self.fail("an answer to nobody, or the second to somebody");
                    }
                }
                Effect::Fight { name, until, .. } => {
                    if until.0 > self.now + self.rules.fight_cap {
                        self.fail("a watcher is left alone for too long");
                    }
                    self.fights.insert(name, until.0);
                }
                Effect::Exit => {
                    if self.run.is_some() || self.exited || !self.stopped {
                        self.fail("an end at the wrong time");
                    }
                    self.exited = true;
                }
            }
        }
        if let Some(wake) = self.core.next_wake()
            && wake.0 <= self.now
        {
            self.fail("a wake-up in the past");
        }
        if self.run.is_some() || self.hinders() {
            self.hindered = self.now;
        }
        self.check_owed();
    }

    fn hinders(&self) -> bool {
        self.pause.is_some() || self.hold == Hold::Off || self.stopped
    }

    fn begun(&mut self, order: Order) {
        if self.run.is_some() {
            self.fail("two runs at once");
        }
        if self.pause.is_some() || self.hold == Hold::Off || self.exited {
            self.fail("a run that must not be");
        }
        let audit = self.hold == Hold::Audit || self.rules.mode == Mode::Audit;
        if audit != (order.mode == Mode::Audit) {
            self.fail("a run in the wrong mode");
        }
        if order.trigger == Trigger::Retry && self.failures > 0 {
            let plain = 1_000_u64 << (self.failures - 1).min(20);
            let plain = plain.min(self.rules.retry_cap);
            if self.now - self.failed_at < plain * 3 / 4 {
                self.fail("a retry too early");
            }
        }
        self.runs += 1;
        let leave = &order.leave;
        self.owed
            .retain(|(_, about, _)| about.is_some_and(|name| leave.contains(name)));
        let length = self.chance.up_to(3_000);
        self.run = Some((self.now, self.now + length, order));
    }

    fn ends(&mut self) {
        let Some((_, _, order)) = self.run.take() else {
            return;
        };
        self.hindered = self.now;
        let mut outcome = Outcome::default();
        if !self.peace {
            outcome.failed = self.chance.up_to(3) == 0;
            if outcome.failed && self.chance.up_to(1) == 0 {
                outcome.troubled.insert("broken".into());
            }
            if self.chance.up_to(1) == 0 && !order.leave.contains("fought") {
                outcome.repaired.insert("fought".into());
            }
        }
        if outcome.failed {
            self.failures += 1;
            self.failed_at = self.now;
            // Failed with it: the retry is owed, and checked by itself.
            let troubled = outcome.troubled.clone();
            self.owed.retain(|(_, about, _)| {
                about.is_none_or(|name| !troubled.is_empty() && !troubled.contains(name))
            });
        } else {
            self.failures = 0;
        }
        self.step(Input::Ended(outcome));
    }

    /// An order that nothing stands against is heeded within a second, anything else within half a minute and a bit.
    fn check_owed(&mut self) {
        if self.run.is_some() || self.hinders() || self.failures > 0 {
            return;
        }
        let now = self.now;
        for (at, about, order) in &self.owed {
            let fought = about.is_some_and(|name| {
                self.fights
                    .get(name)
                    .is_some_and(|until| *until + 1_000 > now)
            });
            let bound = if *order { 1_000 } else { 31_000 };
            if now > (*at).max(self.hindered) + bound && !fought {
                self.fail("a trigger waits for too long");
            }
        }
    }

    fn happens(&mut self) {
        let name = NAMES[self.chance.up_to(3) as usize];
        match self.chance.up_to(19) {
            0 => {
                self.owed.push((self.now, None, true));
                self.step(Input::Desired);
            }
            1 => {
                self.owed.push((self.now, None, true));
                self.step(Input::Connected);
            }
            2 => {
                self.owed.push((self.now, None, true));
                self.step(Input::Config(Time(self.now)));
            }
            3 => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.waiting.insert(ticket);
                self.step(Input::RunNow(ticket));
            }
            4 => {
                let until = match self.chance.up_to(2) {
                    0 => None,
                    _ => Some(self.now + 1 + self.chance.up_to(100_000)),
                };
                self.pause = Some(until);
                self.step(Input::Pause(until.map(Time)));
            }
            5 | 6 => {
                self.pause = None;
                self.step(Input::Resume);
            }
            7 => {
                self.hold = [Hold::Free, Hold::Audit, Hold::Off][self.chance.up_to(2) as usize];
                self.step(Input::Hold(self.hold));
            }
            8 => {
                self.hold = Hold::Free;
                self.step(Input::Hold(Hold::Free));
            }
            kind => {
                // Some are heard late.
                let late = [0, 0, 5, 300][self.chance.up_to(3) as usize];
                let at = self.now - late;
                let order = kind < 14;
                let seen = self.run.as_ref().is_some_and(|(start, ..)| at < *start);
                let retried = self.failures > 0;
                if !seen && !retried {
                    self.owed.push((self.now, Some(name), order));
                }
                self.step(Input::Heard(News {
                    at: Time(at),
                    about: name.into(),
                    order,
                }));
                if late > 0 {
                    // Whether a finished run has seen it only the core knows.
                    self.owed.pop();
                }
            }
        }
    }

    /// Lets time pass until `then`, with every end of a run and every wake-up on the way.
    fn pass(&mut self, then: u64) {
        loop {
            let end = self.run.as_ref().map(|(_, end, _)| *end);
            let wake = self.core.next_wake().map(|time| time.0);
            let next = end.into_iter().chain(wake).min().unwrap_or(then);
            if next > then {
                self.now = then;
                return;
            }
            self.now = self.now.max(next);
            if matches!(self.pause, Some(Some(until)) if until <= self.now) {
                self.pause = None;
                self.hindered = self.now;
            }
            if end.is_some_and(|end| end <= self.now) {
                self.ends();
            } else if next >= then {
                return;
            } else {
                self.step(Input::Wake);
            }
        }
    }
}

fn play(seed: u64) -> usize {
    let mut world = World::new(seed);
    world.owed.push((world.now, None, true));
    world.step(Input::Start);
    for _ in 0..60 + world.chance.up_to(100) {
        let pause = [0, 10, 500, 5_000, 100_000][world.chance.up_to(4) as usize];
        let then = world.now + world.chance.up_to(pause);
        world.pass(then);
        world.happens();
    }
    // Everything is fine from here on: all debts are paid, then only the interval is left.
    world.peace = true;
    world.pause = None;
    world.step(Input::Resume);
    world.hold = Hold::Free;
    world.step(Input::Hold(Hold::Free));
    world.pass(world.now + 10_000_000);
    if !world.owed.is_empty() {
        let what = format!("triggers that no run has seen: {:?}", world.owed);
        world.fail(&what);
    }
    let (before, from) = (world.runs, world.now);
    world.pass(from + 20 * (world.rules.interval + world.rules.splay + 3_000));
    let intervals = world.runs - before;
    if !(19..=60).contains(&intervals) && world.rules.interval > 10_000 {
        world.fail(&format!("{intervals} runs in the time of twenty"));
    }
    world.stopped = true;
    world.step(Input::Stop);
    world.pass(world.now + 10_000);
    if !world.exited || !world.waiting.is_empty() || world.run.is_some() {
        world.fail("not everything came to its end");
    }
    world.runs
}

#[test]
fn random_schedules_keep_the_rules() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("CIRC_SIM_SEED") {
        play(seed);
        return;
    }
    let schedules = number("CIRC_SIM_SCHEDULES").unwrap_or(1_000);
    let runs: usize = (0..schedules).map(play).sum();
    assert!(runs > schedules as usize * 20, "only {runs} runs");
}
