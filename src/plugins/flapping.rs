//! Stops a watcher one of whose workers exits again and again, and tries again later. Source: `circus.plugins.flapping`.
//!
//! Different here, because Circus's does harm:
//!
//! * Each worker has an account of its own, handed on to the worker that replaces it: two workers that exit once are not
//!   one that exits twice.
//! * Only exits that nobody ordered count: what the daemon has signalled to go (`kill` events) did as it was told.
//! * The pauses before a worker is started again are no part of the time in which it exited, so that a daemon that waits
//!   longer and longer does not hide a worker that flaps.
//! * It starts only what it has stopped itself. It tells the daemon in whose name it stops (`by`), and the daemon refuses
//!   to start in that name what somebody else has stopped since. With a circusd, which knows no such names, it still asks
//!   before it stops, and hears what is started meanwhile.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

use super::Surroundings;
use super::settings::Settings;
use super::step::{Call, Effect, Event, Input, Plugin, Wants};
use crate::config::pytext;
use crate::options::to_bool;
use crate::wire::CallError;
use crate::wire::event::resource_name;

/// In whose name it stops and starts.
pub const NAME: &str = "flapping";
/// `max_retry` for ever.
const FOR_EVER: i64 = -1;
/// Accounts of workers that are gone, and ordered exits, that are kept for a watcher.
const KEPT: usize = 10_000;

/// The plugin.
pub struct Flapping {
    check_delay: f64,
    rules: Rules,
    /// By their names in topics.
    watchers: BTreeMap<String, Watcher>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rules {
    attempts: i64,
    window: f64,
    retry_in: f64,
    max_retry: i64,
    active: bool,
}

/// The exits of one worker and those it has replaced.
#[derive(Debug, Clone, Default)]
struct Account(VecDeque<Exit>);

#[derive(Debug, Clone, Copy)]
struct Exit {
    at: f64,
    /// Seconds until it was replaced.
    pause: f64,
}

#[derive(Debug, Default)]
struct Watcher {
    /// Its name for commands, once it is known to be another than that in topics.
    name: Option<String>,
    rules: Option<Rules>,
    /// The rules have been asked for.
    asking: bool,
    running: BTreeMap<i64, Account>,
    /// Of workers that were not replaced yet, the latest last.
    gone: Vec<Account>,
    /// Workers that were told to go.
    told: VecDeque<i64>,
    tries: i64,
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Phase {
    /// Exits are counted.
    #[default]
    Watching,
    /// A worker flaps: does the watcher still run?
    Asking,
    /// It was stopped, and is started again then.
    Retrying(f64),
}

impl Flapping {
    pub(super) fn new(settings: &Settings<'_>, around: Surroundings) -> Self {
        Flapping {
            check_delay: around.check_delay,
            rules: Rules {
                attempts: settings.whole("attempts"),
                window: settings.number("window"),
                retry_in: settings.number("retry_in"),
                max_retry: settings.whole("max_retry"),
                active: true,
            },
            watchers: BTreeMap::new(),
        }
    }

    fn event(&mut self, now: f64, event: &Event) -> Vec<Effect> {
        let key = event.watcher.as_str();
        if event.action == "remove" {
            self.watchers.remove(key);
            return Vec::new();
        }
        let watcher = self.watchers.entry(key.to_owned()).or_default();
        match (event.action.as_str(), event.pid()) {
            ("spawn", Some(pid)) => watcher.spawned(now, pid),
            ("kill", Some(pid)) => watcher.order(pid),
            ("reap", Some(pid)) => {
                watcher.reaped(now, pid);
                return self.check(key);
            }
            ("start", _) => {
                if matches!(watcher.phase, Phase::Retrying(_)) {
                    // somebody did not want to wait
                    watcher.phase = Phase::Watching;
                    watcher.tries = 0;
                }
            }
            ("add" | "updated" | "reload", _) => watcher.rules = None,
            _ => {}
        }
        Vec::new()
    }

    /// Does a worker of this watcher flap?
    fn check(&mut self, key: &str) -> Vec<Effect> {
        let check_delay = self.check_delay;
        let Some(watcher) = self.watchers.get_mut(key) else {
            return Vec::new();
        };
        let Some(rules) = watcher.rules else {
            if watcher.asking {
                return Vec::new();
            }
            watcher.asking = true;
            return vec![Effect::Call(Call::about("options", watcher.name(key)))];
        };
        if !rules.active || rules.attempts < 1 || watcher.phase != Phase::Watching {
            return Vec::new();
        }
        let mut flaps = false;
        let mut recovered = false;
        for account in &mut watcher.gone {
            match account.judge(&rules, check_delay) {
                Some(true) => flaps = true,
                Some(false) => recovered = true,
                None => {}
            }
        }
        if flaps {
            watcher.phase = Phase::Asking;
            return vec![Effect::Call(Call::about("status", watcher.name(key)))];
        }
        if recovered {
            watcher.tries = 0;
        }
        Vec::new()
    }

    fn reply(
        &mut self,
        now: f64,
        call: &Call,
        reply: Result<Map<String, Value>, CallError>,
    ) -> Vec<Effect> {
        if call.command == "list" {
            return self.listed(reply);
        }
        let Some(name) = call.watcher() else {
            return Vec::new();
        };
        let plain = self.rules;
        let mut watchers = self.watchers.iter_mut();
        let Some((key, watcher)) = watchers.find(|(key, watcher)| watcher.name(key) == name) else {
            return Vec::new();
        };
        let key = key.clone();
        match (call.command, reply) {
            ("options", Ok(reply)) => {
                watcher.asking = false;
                let (rules, mut effects) = plain.of_watcher(name, reply.get("options"));
                watcher.rules = Some(rules);
                effects.extend(self.check(&key));
                effects
            }
            // Topics have underscores for spaces: the name may be another one.
            ("options", Err(CallError::Refused(_))) if watcher.name.is_none() => {
                vec![Effect::Call(Call::new("list"))]
            }
            ("options", Err(_)) => {
                watcher.asking = false;
                Vec::new()
            }
            ("status", Ok(reply)) => {
                let status = reply.get("status").and_then(Value::as_str);
                watcher.found(now, name, status.unwrap_or_default(), plain)
            }
            ("status", Err(_)) => {
                watcher.phase = Phase::Watching;
                Vec::new()
            }
            ("stop", Err(why)) => {
                watcher.phase = Phase::Watching;
                vec![Effect::warning(format!("{name} cannot be stopped: {why}"))]
            }
            ("start", Err(why)) => vec![Effect::info(format!("{name} stays stopped: {why}"))],
            _ => Vec::new(),
        }
    }

    fn listed(&mut self, reply: Result<Map<String, Value>, CallError>) -> Vec<Effect> {
        let reply = reply.unwrap_or_default();
        let names = reply.get("watchers").and_then(Value::as_array);
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut effects = Vec::new();
        for (key, watcher) in self.watchers.iter_mut().filter(|(_, w)| w.asking) {
            let other = names.iter().find(|name| resource_name(name) == *key);
            match other.filter(|name| *name != key) {
                Some(name) => {
                    watcher.name = Some((*name).to_owned());
                    effects.push(Effect::Call(Call::about("options", name)));
                }
                None => watcher.asking = false,
            }
        }
        effects
    }
}

impl Rules {
    /// As a watcher's options `flapping.KEY` change them.
    fn of_watcher(mut self, name: &str, options: Option<&Value>) -> (Rules, Vec<Effect>) {
        let mut effects = Vec::new();
        let options = options.and_then(Value::as_object);
        for (key, value) in options.into_iter().flatten() {
            let Some(key) = key
                .strip_prefix(NAME)
                .and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let positive = |text: &str| pytext::float(text).filter(|number| *number >= 0.0);
            let taken = match key {
                "attempts" => pytext::int(&text).map(|number| self.attempts = number),
                "max_retry" => pytext::int(&text).map(|number| self.max_retry = number),
                "window" => positive(&text).map(|number| self.window = number),
                "retry_in" => positive(&text).map(|number| self.retry_in = number),
                "active" => to_bool(&text).ok().map(|truth| self.active = truth),
                _ => None,
            };
            if taken.is_none() {
                effects.push(Effect::warning(format!(
                    "{name}: flapping.{key} = {text:?} cannot be used and has no effect"
                )));
            }
        }
        (self, effects)
    }
}

impl Account {
    /// Whether these exits are too many in too short a time; none if there are too few to tell.
    fn judge(&mut self, rules: &Rules, check_delay: f64) -> Option<bool> {
        let wanted = usize::try_from(rules.attempts).ok()?;
        while self.0.len() > wanted {
            self.0.pop_front();
        }
        let (first, last) = (self.0.front()?, self.0.back()?);
        if self.0.len() < wanted {
            return None;
        }
        let paused: f64 = self.0.iter().map(|exit| exit.pause).sum();
        // Circus's daemon notices within check_delay, which Circus takes off.
        let lasted = last.at - first.at - paused.max(check_delay);
        Some(lasted <= rules.window)
    }
}

impl Watcher {
    fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(key)
    }

    fn spawned(&mut self, now: f64, pid: i64) {
        self.told.retain(|told| *told != pid);
        // A worker that waits before it is started again comes after those that exited later and did not wait.
        let mut account = self.gone.pop().unwrap_or_default();
        if let Some(exit) = account.0.back_mut() {
            exit.pause = now - exit.at;
        }
        self.running.insert(pid, account);
    }

    fn order(&mut self, pid: i64) {
        self.running.remove(&pid);
        if !self.told.contains(&pid) {
            self.told.push_back(pid);
        }
        if self.told.len() > KEPT {
            self.told.pop_front();
        }
    }

    fn reaped(&mut self, now: f64, pid: i64) {
        if let Some(place) = self.told.iter().position(|told| *told == pid) {
            self.told.remove(place);
            return;
        }
        let mut account = self.running.remove(&pid).unwrap_or_default();
        account.0.push_back(Exit {
            at: now,
            pause: 0.0,
        });
        if self.gone.len() >= KEPT {
            self.gone.remove(0);
        }
        self.gone.push(account);
    }

    /// A worker flaps, and this is the state of the watcher.
    fn found(&mut self, now: f64, name: &str, status: &str, plain: Rules) -> Vec<Effect> {
        let rules = self.rules.unwrap_or(plain);
        self.gone.clear();
        self.running.clear();
        self.phase = Phase::Watching;
        if !matches!(status, "active" | "starting") {
            return vec![Effect::info(format!(
                "{name}: flapping detected; it is {status} already, by somebody else"
            ))];
        }
        let why = format!(
            "a worker exited {} times within {} s",
            rules.attempts, rules.window
        );
        let stop = |reason: &str| {
            let call = Call::about("stop", name).with("by", NAME);
            Effect::Call(call.with("because", reason))
        };
        if self.tries < rules.max_retry || rules.max_retry == FOR_EVER {
            self.tries += 1;
            self.phase = Phase::Retrying(now + rules.retry_in);
            let text = format!(
                "flapping detected ({why}): retry in {} s (attempt number {})",
                rules.retry_in, self.tries
            );
            vec![Effect::info(format!("{name}: {text}")), stop(&text)]
        } else {
            self.tries = 0;
            let text = format!("flapping detected ({why}): reached max retry limit");
            vec![Effect::info(format!("{name}: {text}")), stop(&text)]
        }
    }
}

impl Plugin for Flapping {
    fn wants(&self) -> Wants {
        Wants {
            events: true,
            ..Wants::default()
        }
    }

    fn step(&mut self, now: f64, input: Input) -> Vec<Effect> {
        match input {
            Input::Connected => {
                // What happened meanwhile is not known. What was stopped is still to be started.
                self.watchers
                    .retain(|_, watcher| matches!(watcher.phase, Phase::Retrying(_)));
                Vec::new()
            }
            Input::Event(event) => self.event(now, &event),
            Input::Reply(call, reply) => self.reply(now, &call, reply),
            Input::Tick => {
                let mut effects = Vec::new();
                for (key, watcher) in &mut self.watchers {
                    if matches!(watcher.phase, Phase::Retrying(at) if at <= now) {
                        watcher.phase = Phase::Watching;
                        let call = Call::about("start", watcher.name(key)).with("by", NAME);
                        effects.push(Effect::Call(call));
                    }
                }
                effects
            }
            Input::Datagram(_) | Input::Looked(_) => Vec::new(),
        }
    }

    fn wake(&self) -> Option<f64> {
        let times = self.watchers.values().filter_map(|w| match w.phase {
            Phase::Retrying(at) => Some(at),
            _ => None,
        });
        times.reduce(f64::min)
    }
}

#[cfg(test)]
#[path = "flapping_tests.rs"]
mod tests;
