//! When the agent runs, and how: its pure core. Time and everything that happens come in as arguments; what is to be
//! done comes out.
//!
//! * A run covers whatever happened before it started: it looks at everything. So a trigger is spent when a run starts
//!   after it, and what happens during a run is looked at by the next one. An apply that changes something is told of
//!   its own changes by the daemon's events, and that makes one more run, which finds nothing left to do.
//! * Events come in bursts and are waited out for a moment ([`Rules::quiet`], [`Rules::patience`]). A daemon whose
//!   workers come and go by themselves is not asked at every one of them: event runs that find nothing to do move apart.
//! * A failed run is repeated after a pause that doubles up to [`Rules::retry_cap`]. Events about the watchers that
//!   failed wait for that; anything else is still looked at at once.
//! * A watcher that needed the same repair again and again is fought over by somebody: it is left alone for a while, and
//!   that is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::random::Random;
pub use terms::{
    Effect, Hold, Input, Mode, News, Order, Outcome, Refusal, Rules, Ticket, Time, Trigger,
};

mod terms;

/// The shortest interval: a daemon has other things to do than to answer.
const SHORTEST: u64 = 1_000;

/// A watcher that is, or was, fought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fight {
    /// How often there was a fight, without a long enough peace in between.
    pub level: u32,
    /// It is left alone until then.
    pub until: Time,
    /// That time has not come yet.
    pub active: bool,
}

/// Events that no run has looked at.
#[derive(Debug, Clone)]
struct Stir {
    first: Time,
    last: Time,
    order: bool,
    /// The watchers; none when it may be about any.
    about: Option<BTreeSet<String>>,
    config: bool,
}

#[derive(Debug, Clone)]
struct Running {
    start: Time,
    trigger: Trigger,
    mode: Mode,
    tickets: Vec<Ticket>,
}

/// The state of the core.
#[derive(Debug, Clone)]
pub struct Schedule {
    rules: Rules,
    random: Random,
    started: bool,
    stopping: bool,
    said_exit: bool,
    runs: u64,
    running: Option<Running>,
    last_start: Option<Time>,
    last_end: Time,
    pause: Option<Option<Time>>,
    hold: Hold,
    /// A run is due as soon as one may start.
    pressing: Option<Trigger>,
    asked: Vec<Ticket>,
    stir: Option<Stir>,
    retry_at: Option<Time>,
    next_interval: Option<Time>,
    failures: u32,
    /// To blame for the failures; none if it is everything.
    troubled: BTreeSet<String>,
    /// Event runs in a row that found nothing to do.
    fruitless: u32,
    repairs: BTreeMap<String, VecDeque<Time>>,
    fights: BTreeMap<String, Fight>,
    fought: u64,
}

impl Schedule {
    /// A core at rest; `seed` decides what is left to chance.
    pub fn new(mut rules: Rules, seed: u64) -> Schedule {
        rules.interval = rules.interval.max(SHORTEST);
        Schedule {
            rules,
            random: Random::new(seed),
            started: false,
            stopping: false,
            said_exit: false,
            runs: 0,
            running: None,
            last_start: None,
            last_end: Time(0),
            pause: None,
            hold: Hold::Free,
            pressing: None,
            asked: Vec::new(),
            stir: None,
            retry_at: None,
            next_interval: None,
            failures: 0,
            troubled: BTreeSet::new(),
            fruitless: 0,
            repairs: BTreeMap::new(),
            fights: BTreeMap::new(),
            fought: 0,
        }
    }

    /// Takes in what happened and says what is to be done.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.expire(now);
        match input {
            Input::Start => {
                self.started = true;
                self.press(Trigger::Start);
            }
            Input::Heard(news) => self.heard(now, news),
            Input::Connected => {
                // Whatever failed for want of a daemon need not wait any longer.
                self.retry_at = None;
                self.stir(now, now, None, true, false);
            }
            // A run that failed already has its own pause.
            Input::Gone if self.retry_at.is_some() => {}
            Input::Gone => self.stir(now, now, None, true, false),
            Input::Desired => {
                self.make_peace();
                self.press(Trigger::File);
            }
            Input::Config(at) => {
                if !self.covered(at) {
                    self.stir(now, at, None, true, true);
                }
            }
            Input::RunNow(ticket) => match self.refusal() {
                Some(refusal) => effects.push(Effect::Refuse(ticket, refusal)),
                None => {
                    self.make_peace();
                    self.asked.push(ticket);
                }
            },
            Input::Pause(until) => self.pause = Some(until),
            Input::Resume => {
                if self.pause.take().is_some() {
                    self.make_peace();
                    self.press(Trigger::Resume);
                }
            }
            Input::Hold(hold) => {
                if hold == Hold::Free && self.hold != Hold::Free {
                    self.press(Trigger::Window);
                }
                self.hold = hold;
            }
            Input::Ended(outcome) => self.ended(now, outcome, &mut effects),
            Input::Wake => {}
            Input::Stop => self.stopping = true,
        }
        if let Some(refusal) = self.refusal() {
            let asked = self.asked.drain(..);
            effects.extend(asked.map(|ticket| Effect::Refuse(ticket, refusal)));
        }
        effects.extend(self.start(now).map(Effect::Run));
        if self.stopping && self.running.is_none() && !self.said_exit {
            self.said_exit = true;
            effects.push(Effect::Exit);
        }
        effects
    }

    /// When [`Input::Wake`] is wanted, if nothing else happens before.
    pub fn next_wake(&self) -> Option<Time> {
        let pause = self.pause.flatten();
        let fights = self.active().map(|(_, fight)| fight.until);
        let due = self.candidates().into_iter().map(|(time, _)| time);
        pause.into_iter().chain(fights).chain(due).min()
    }

    /// A run is under way.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The next run that is planned, if there is one.
    pub fn next_run(&self) -> Option<Time> {
        self.candidates().into_iter().map(|(time, _)| time).min()
    }

    /// Paused; until when, if that is known.
    pub fn paused(&self) -> Option<Option<Time>> {
        self.pause
    }

    /// What the maintenance window asks for.
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// What the next run will do.
    pub fn mode(&self) -> Mode {
        match self.hold {
            Hold::Audit => Mode::Audit,
            _ => self.rules.mode,
        }
    }

    /// Failed runs in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How many fights there were.
    pub fn fought(&self) -> u64 {
        self.fought
    }

    /// The watchers that are left alone.
    pub fn active(&self) -> impl Iterator<Item = (&str, &Fight)> {
        let active = self.fights.iter().filter(|(_, fight)| fight.active);
        active.map(|(name, fight)| (name.as_str(), fight))
    }

    fn press(&mut self, trigger: Trigger) {
        self.pressing = Some(
            self.pressing
                .map_or(trigger, |pressing| pressing.min(trigger)),
        );
    }

    /// A run that has started since then has seen it.
    fn covered(&self, at: Time) -> bool {
        self.last_start.is_some_and(|start| at < start)
    }

    fn heard(&mut self, now: Time, news: News) {
        let left_alone = self
            .fights
            .get(&news.about)
            .is_some_and(|fight| fight.active);
        // There is a run when the watcher is no longer left alone.
        if !left_alone && !self.covered(news.at) && !self.waits_for_retry(&news.about) {
            self.stir(now, news.at, Some(news.about), news.order, false);
        }
    }

    /// The retry that is planned will see it: the watcher failed, and what it goes through now is part of that.
    fn waits_for_retry(&self, about: &str) -> bool {
        self.running.is_none()
            && self.retry_at.is_some()
            && (self.troubled.is_empty() || self.troubled.contains(about))
    }

    fn stir(&mut self, now: Time, at: Time, about: Option<String>, order: bool, config: bool) {
        let calm = self.event_gap(false) * 2 + 5_000;
        if self.running.is_none() && now.since(self.last_end) > calm {
            self.fruitless = 0;
        }
        match &mut self.stir {
            Some(stir) => {
                stir.last = stir.last.max(now);
                stir.order |= order;
                stir.config &= config;
                match (&mut stir.about, about) {
                    (Some(names), Some(name)) => {
                        names.insert(name);
                    }
                    (names, _) => *names = None,
                }
            }
            None => {
                self.stir = Some(Stir {
                    first: at.min(now),
                    last: now,
                    order,
                    about: about.map(|name| BTreeSet::from([name])),
                    config,
                });
            }
        }
    }

    /// The least time between two runs because of events. Orders are heeded within a second whatever happens.
    fn event_gap(&self, order: bool) -> u64 {
        let steps = self.fruitless.saturating_sub(3).min(5);
        let gap = match self.fruitless {
            0..3 => 0,
            _ => 1_000 << steps,
        };
        let longest = if order { 500 } else { 30_000 };
        gap.min(longest)
    }

    /// Fights are forgotten: a person has said anew what is wanted.
    fn make_peace(&mut self) {
        self.fights.clear();
        self.repairs.clear();
    }

    /// Ends pauses and fights whose time has come.
    fn expire(&mut self, now: Time) {
        if matches!(self.pause, Some(Some(until)) if until <= now) {
            self.pause = None;
            self.press(Trigger::Resume);
        }
        let mut ended = false;
        for fight in self.fights.values_mut() {
            if fight.active && fight.until <= now {
                fight.active = false;
                ended = true;
            }
        }
        // After a failure the retry will see it.
        if ended && self.retry_at.is_none() {
            self.press(Trigger::Retry);
        }
        let within = self.rules.fight_within;
        self.fights
            .retain(|_, fight| fight.active || now.since(fight.until) < within);
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.stopping {
            return Some(Refusal::Stopping);
        }
        if let Some(until) = self.pause {
            return Some(Refusal::Paused(until));
        }
        (self.hold == Hold::Off).then_some(Refusal::Window)
    }

    /// Every reason for a run with the time from which it may start, the weightiest first.
    fn candidates(&self) -> Vec<(Time, Trigger)> {
        if self.running.is_some() || !self.started || self.refusal().is_some() {
            return Vec::new();
        }
        let mut found = Vec::new();
        if !self.asked.is_empty() {
            found.push((Time(0), Trigger::RunNow));
        }
        if let Some(trigger) = self.pressing {
            found.push((Time(0), trigger));
        }
        if let Some(stir) = &self.stir {
            let burst = stir.last.after(self.rules.quiet);
            let burst = burst.min(stir.first.after(self.rules.patience));
            let apart = self.last_end.after(self.event_gap(stir.order));
            let trigger = match stir.config {
                true => Trigger::Config,
                false => Trigger::Event,
            };
            found.push((burst.max(apart), trigger));
        }
        if let Some(retry) = self.retry_at {
            found.push((retry, Trigger::Retry));
        } else if let Some(interval) = self.next_interval {
            found.push((interval, Trigger::Interval));
        }
        found.sort_by_key(|(_, trigger)| *trigger);
        found
    }

    fn start(&mut self, now: Time) -> Option<Order> {
        let candidates = self.candidates();
        let (_, trigger) = candidates.into_iter().find(|(time, _)| *time <= now)?;
        let mode = self.mode();
        self.runs += 1;
        self.running = Some(Running {
            start: now,
            trigger,
            mode,
            tickets: std::mem::take(&mut self.asked),
        });
        self.last_start = Some(now);
        self.pressing = None;
        self.stir = None;
        self.retry_at = None;
        self.next_interval = None;
        Some(Order {
            run: self.runs,
            trigger,
            mode,
            leave: self.active().map(|(name, _)| name.to_string()).collect(),
        })
    }

    fn ended(&mut self, now: Time, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(run) = self.running.take() else {
            return;
        };
        effects.extend(run.tickets.iter().copied().map(Effect::Answer));
        self.last_end = now;
        if outcome.failed {
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(now.after(self.pause_after_failure()));
            self.pressing = self.pressing.filter(|why| *why != Trigger::Retry);
            self.troubled = outcome.troubled.clone();
            self.leave_to_retry();
        } else {
            self.failures = 0;
            self.troubled.clear();
        }
        let splay = self.random.up_to(self.rules.splay);
        self.next_interval = Some(now.after(self.rules.interval.saturating_add(splay)));
        let idle = outcome.repaired.is_empty();
        if !idle {
            self.fruitless = 0;
        } else if matches!(run.trigger, Trigger::Event | Trigger::Config) {
            self.fruitless = self.fruitless.saturating_add(1);
        }
        if run.mode == Mode::Enforce && run.trigger.is_automatic() && !outcome.failed {
            for name in outcome.repaired {
                effects.extend(self.repaired(now, run.start, name));
            }
        }
    }

    /// What was heard during a failed run about the watchers that failed is part of the failure.
    fn leave_to_retry(&mut self) {
        let Some(stir) = &mut self.stir else { return };
        let Some(about) = &mut stir.about else { return };
        about.retain(|name| !self.troubled.is_empty() && !self.troubled.contains(name));
        if about.is_empty() {
            self.stir = None;
        }
    }

    fn pause_after_failure(&mut self) -> u64 {
        let doublings = self.failures.saturating_sub(1).min(32);
        let pause = self.rules.retry.saturating_mul(1 << doublings);
        let pause = pause.min(self.rules.retry_cap);
        let quarter = pause / 4;
        (pause - quarter).saturating_add(self.random.up_to(quarter * 2))
    }

    /// Counts a repair; the last of too many begins a fight.
    fn repaired(&mut self, now: Time, at: Time, name: String) -> Option<Effect> {
        let repairs = self.repairs.entry(name.clone()).or_default();
        repairs.push_back(at);
        while repairs
            .front()
            .is_some_and(|first| now.since(*first) > self.rules.fight_within)
        {
            repairs.pop_front();
        }
        let count = repairs.len();
        if count < self.rules.fight_repairs {
            return None;
        }
        self.repairs.remove(&name);
        let level = self.fights.get(&name).map_or(1, |fight| fight.level + 1);
        let doublings = level.saturating_sub(1).min(32);
        let hold = self.rules.fight_hold.saturating_mul(1 << doublings);
        let until = now.after(hold.min(self.rules.fight_cap));
        let fight = Fight {
            level,
            until,
            active: true,
        };
        self.fights.insert(name.clone(), fight);
        self.fought += 1;
        Some(Effect::Fight {
            name,
            repairs: count,
            until,
        })
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "simulation.rs"]
mod simulation;
