//! What has happened to each watcher, for whoever asks how it is: since when it is up, how often its workers were replaced,
//! and its last events. Counted always; it costs a few numbers.

use super::shell::{Shell, wall_clock};
use crate::options::{Map, Value};
use crate::supervisor::{Event, Pid, Status, View, WatcherId};
use serde_json::json;
use std::collections::{HashMap, VecDeque};

/// How many events of a watcher are kept.
const EVENTS: usize = 20;
/// How much of the words of an event is kept, in bytes.
const WORDS: usize = 300;

/// What is known of every watcher.
#[derive(Debug, Default)]
pub(super) struct Records(HashMap<WatcherId, Record>);

#[derive(Debug, Default)]
struct Record {
    /// When it came up, in seconds since the epoch; nothing while it is down.
    since: Option<f64>,
    /// Workers that were started in the place of such as had ended by themselves.
    restarts: u64,
    /// Places of such that are empty.
    empty: u32,
    events: VecDeque<Past>,
}

/// An event that was.
#[derive(Debug)]
struct Past {
    time: f64,
    action: &'static str,
    pid: Option<Pid>,
    code: Option<i32>,
    hook: Option<&'static str>,
    words: Option<Box<str>>,
}

impl Records {
    /// A worker has ended by itself.
    pub fn ended(&mut self, id: WatcherId) {
        let record = self.0.entry(id).or_default();
        record.empty = record.empty.saturating_add(1);
    }

    /// An event is published. That a hook did well is none to keep: there may be one for every start.
    pub fn heard(&mut self, id: WatcherId, event: &Event) {
        let record = self.0.entry(id).or_default();
        let mut past = Past {
            time: wall_clock(),
            action: "",
            pid: None,
            code: None,
            hook: None,
            words: None,
        };
        past.action = match event {
            Event::Spawn(pid) => {
                if record.empty > 0 {
                    record.empty -= 1;
                    record.restarts += 1;
                }
                past.pid = Some(*pid);
                "spawn"
            }
            Event::Reap(pid, code) => {
                (past.pid, past.code) = (Some(*pid), Some(*code));
                "reap"
            }
            Event::Kill(pid) => {
                past.pid = Some(*pid);
                "kill"
            }
            Event::Start => {
                record.since = Some(past.time);
                "start"
            }
            Event::Stop => {
                record.since = None;
                record.empty = 0;
                "stop"
            }
            Event::Reload => "reload",
            Event::Updated => "updated",
            Event::Add => "add",
            Event::Remove => "remove",
            Event::HookSuccess(_) => return,
            Event::HookFailure(hook, why) => {
                past.hook = Some(hook);
                let end = why.floor_char_boundary(WORDS);
                past.words = why.get(..end).map(Box::from);
                "hook_failure"
            }
        };
        if record.events.len() >= EVENTS {
            record.events.pop_front();
        }
        record.events.push_back(past);
    }

    /// Drops what was kept for a watcher that is gone.
    pub fn forget(&mut self, id: WatcherId) {
        self.0.remove(&id);
    }
}

impl Past {
    fn told(&self) -> Value {
        let mut told = Map::from_iter([
            ("time".to_string(), json!(self.time)),
            ("event".to_string(), json!(self.action)),
        ]);
        if let Some(pid) = self.pid {
            told.insert("pid".to_string(), pid.into());
        }
        if let Some(code) = self.code {
            told.insert("exit_code".to_string(), code.into());
        }
        if let Some(hook) = self.hook {
            told.insert("hook".to_string(), hook.into());
        }
        if let Some(words) = &self.words {
            told.insert("error".to_string(), words.as_ref().into());
        }
        Value::Object(told)
    }
}

impl Shell {
    /// The living workers of a watcher, as `status` with `details` and `metrics` tell them.
    pub(super) fn workers_told(&self, watcher: &View<'_>) -> Value {
        let workers = watcher.workers();
        let told = workers.iter().map(|worker| {
            json!({
                "pid": worker.pid,
                "wid": worker.wid,
                "started": self.births.get(&worker.pid),
                "leaving": worker.leaving,
            })
        });
        told.collect()
    }

    /// What the replies to `status` and `metrics` tell of one watcher.
    pub(super) fn told_of(&self, watcher: &View<'_>) -> Map<String, Value> {
        let mut told = Map::from_iter([("status".to_string(), watcher.status().as_str().into())]);
        if watcher.options().on_demand() {
            let waits = watcher.status() == Status::Waiting;
            told.insert("waiting".to_string(), waits.into());
        }
        if let Some(trouble) = watcher.trouble() {
            told.insert("trouble".to_string(), trouble.into());
        }
        if let Some(last) = self.last_exits.get(&watcher.id()) {
            told.insert("last_exit".to_string(), Value::Object(last.told()));
        }
        if let Some(by) = self.sakes.told(watcher.id()) {
            told.insert("stopped_by".to_string(), Value::Object(by));
        }
        let streams = self.streams.told(watcher.id());
        if !streams.is_empty() {
            told.insert("streams".to_string(), Value::Object(streams));
        }
        told
    }

    /// What it tells with `details` beside that.
    pub(super) fn detailed(&self, watcher: &View<'_>) -> Map<String, Value> {
        let fresh = Record::default();
        let record = self.records.0.get(&watcher.id()).unwrap_or(&fresh);
        let mut told = Map::from_iter([
            (
                "numprocesses".to_string(),
                watcher.options().numprocesses().into(),
            ),
            ("workers".to_string(), self.workers_told(watcher)),
            ("since".to_string(), json!(record.since)),
            (
                "ends".to_string(),
                self.counters.lost_of(watcher.id()).into(),
            ),
            ("restarts".to_string(), record.restarts.into()),
            ("gave_up".to_string(), watcher.gave_up().into()),
        ]);
        if let Some((failures, next)) = watcher.pause() {
            told.insert("failures".to_string(), failures.into());
            let left = next.since(self.now()).as_secs_f64();
            told.insert("next_start".to_string(), json!(wall_clock() + left));
        }
        told
    }

    /// The last events of a watcher, oldest first.
    pub(super) fn last_events(&self, id: WatcherId) -> Value {
        let events = self.records.0.get(&id).map(|record| &record.events);
        events.into_iter().flatten().map(Past::told).collect()
    }
}
