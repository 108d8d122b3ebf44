//! What the daemon counts, always and with plain integers, and the answer to `metrics`: the state of all watchers and these
//! counts in one reply, so that whoever looks at a daemon asks it one question and not several for each watcher.

use super::control::Answer;
use super::shell::{Shell, wall_clock};
use crate::options::{Map, Value};
use crate::stats::{Fronts, ProcStat, Sampler};
use crate::supervisor::{Event, Loss, Pid, View, WatcherId};
use crate::wire::Command;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// Everything that is counted since the start of the daemon.
#[derive(Debug, Default)]
pub(super) struct Counters {
    watchers: HashMap<WatcherId, Counts>,
    /// Requests by command.
    commands: BTreeMap<&'static str, u64>,
    /// Messages that were no request, or none that can be carried out.
    rejected: u64,
}

/// What is counted of one watcher.
#[derive(Debug, Default)]
struct Counts {
    started: u64,
    not_started: u64,
    lost: u64,
    reloads: u64,
    kills: u64,
    hook_failures: u64,
    /// Ends by exit code, or by the negative number of a signal.
    exits: BTreeMap<i32, u64>,
}

impl Counters {
    /// A request has been understood.
    pub fn asked(&mut self, command: &Command) {
        *self.commands.entry(command.name()).or_default() += 1;
    }

    /// A message has been rejected.
    pub fn rejected(&mut self) {
        self.rejected += 1;
    }

    /// A worker runs.
    pub fn started(&mut self, watcher: WatcherId) {
        self.of(watcher).started += 1;
    }

    /// A worker has ended, be it that it was asked to.
    pub fn ended(&mut self, watcher: WatcherId, code: i32) {
        *self.of(watcher).exits.entry(code).or_default() += 1;
    }

    /// A worker was lost, or could not be started: nobody had asked for that.
    pub fn lost(&mut self, watcher: WatcherId, loss: &Loss) {
        let counts = self.of(watcher);
        match loss {
            Loss::Exited { .. } => counts.lost += 1,
            Loss::NotStarted(_) => counts.not_started += 1,
        }
    }

    /// A process was sent a signal that is announced.
    pub fn killed(&mut self, watcher: WatcherId) {
        self.of(watcher).kills += 1;
    }

    /// Something is published of a watcher.
    pub fn published(&mut self, watcher: WatcherId, event: &Event) {
        match event {
            Event::Reload => self.of(watcher).reloads += 1,
            Event::HookFailure(..) => self.of(watcher).hook_failures += 1,
            _ => {}
        }
    }

    /// How many workers of a watcher have ended by themselves.
    pub fn lost_of(&self, watcher: WatcherId) -> u64 {
        self.watchers.get(&watcher).map_or(0, |counts| counts.lost)
    }

    /// The watcher is gone.
    pub fn forget(&mut self, watcher: WatcherId) {
        self.watchers.remove(&watcher);
    }

    fn of(&mut self, watcher: WatcherId) -> &mut Counts {
        self.watchers.entry(watcher).or_default()
    }
}

impl Counts {
    fn told(&self) -> Map<String, Value> {
        let exits: Map<String, Value> = self
            .exits
            .iter()
            .map(|(code, count)| (code.to_string(), json!(count)))
            .collect();
        Map::from_iter([
            ("started".to_string(), json!(self.started)),
            ("not_started".to_string(), json!(self.not_started)),
            ("lost".to_string(), json!(self.lost)),
            ("reloads".to_string(), json!(self.reloads)),
            ("kills".to_string(), json!(self.kills)),
            ("hook_failures".to_string(), json!(self.hook_failures)),
            ("exits".to_string(), Value::Object(exits)),
        ])
    }
}

/// An answer to `metrics` that lacks what has to be measured.
#[derive(Debug)]
pub struct Asked {
    /// The answer.
    pub answer: Map<String, Value>,
    /// The watchers in it.
    pub ids: HashMap<String, WatcherId>,
}

impl Shell {
    /// The answer, to be given to [`measure`].
    pub(super) fn to_measure(&self, answer: Map<String, Value>) -> Asked {
        let names = self.core.watchers();
        let ids = names.map(|view| (view.options().name.clone(), view.id()));
        Asked {
            ids: ids.collect(),
            answer,
        }
    }

    /// The answer to `metrics`, as far as nothing has to be measured.
    pub(super) fn metrics(&self, name: Option<&str>) -> Answer {
        let watchers: Map<String, Value> = match name {
            Some(name) => {
                let view = self.view(name)?;
                Map::from_iter([(view.options().name.clone(), self.watcher_metrics(&view))])
            }
            None => self
                .core
                .watchers()
                .map(|view| (view.options().name.clone(), self.watcher_metrics(&view)))
                .collect(),
        };
        let counters = &self.counters;
        let commands: Map<String, Value> = counters
            .commands
            .iter()
            .map(|(name, count)| (name.to_string(), json!(count)))
            .collect();
        let feed = self.feed.as_ref();
        let mut daemon = self.identity();
        daemon.extend([
            ("commands".to_string(), Value::Object(commands)),
            ("rejected".to_string(), json!(counters.rejected)),
            (
                "events_dropped".to_string(),
                json!(self.publisher.dropped()),
            ),
            (
                "stats_dropped".to_string(),
                json!(feed.map_or(0, |feed| feed.dropped())),
            ),
        ]);
        Ok(Map::from_iter([
            ("daemon".to_string(), Value::Object(daemon)),
            ("watchers".to_string(), Value::Object(watchers)),
        ]))
    }

    fn watcher_metrics(&self, view: &View<'_>) -> Value {
        let (id, options) = (view.id(), view.options());
        let mut told = self.told_of(view);
        told.extend([
            ("wanted".to_string(), json!(options.numprocesses())),
            ("singleton".to_string(), json!(options.singleton())),
            ("workers".to_string(), self.workers_told(view)),
        ]);
        if let Some(counts) = self.counters.watchers.get(&id) {
            told.extend(counts.told());
        } else {
            told.extend(Counts::default().told());
        }
        Value::Object(told)
    }
}

/// Adds to an answer of [`Shell::metrics`] what the processes use, and what those that serve the web have counted. Reads
/// `/proc`: for the sampling thread.
pub(super) fn measure(sampler: &Sampler, fronts: &mut Fronts, asked: Asked) -> Map<String, Value> {
    let Asked { mut answer, ids } = asked;
    if let Some(daemon) = answer.get_mut("daemon") {
        add_usage(sampler, daemon);
    }
    let watchers = answer.get_mut("watchers").and_then(Value::as_object_mut);
    let now = wall_clock();
    for (name, told) in watchers.into_iter().flatten() {
        let (Some(WatcherId(id)), Some(told)) = (ids.get(name), told.as_object_mut()) else {
            continue;
        };
        let workers = told.get_mut("workers").and_then(Value::as_array_mut);
        let (mut pids, mut oldest) = (Vec::new(), now);
        for worker in workers.into_iter().flatten() {
            let started = worker.get("started").and_then(Value::as_f64);
            oldest = started.map_or(oldest, |started| oldest.min(started));
            pids.extend(pid_of(worker));
            if let Some(stat) = add_usage(sampler, worker) {
                fronts.see(*id, &stat);
            }
        }
        if let Some(front) = fronts.told(*id, &pids, now - oldest) {
            told.insert("front".to_string(), Value::Object(front));
        }
    }
    answer
}

fn pid_of(process: &Value) -> Option<Pid> {
    process.get("pid")?.as_i64()?.try_into().ok()
}

/// Adds what a process uses, if it is there.
fn add_usage(sampler: &Sampler, process: &mut Value) -> Option<ProcStat> {
    let stat = ProcStat::read(pid_of(process)?).filter(|stat| !stat.is_zombie())?;
    let usage = sampler.usage(&stat);
    process.as_object_mut()?.extend([
        ("cpu_seconds".to_string(), json!(usage.cpu_seconds)),
        ("rss".to_string(), json!(usage.resident)),
        ("vms".to_string(), json!(usage.mapped)),
        ("threads".to_string(), json!(usage.threads)),
        ("fds".to_string(), json!(usage.open_files)),
    ]);
    Some(stat)
}
