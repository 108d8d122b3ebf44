//! A daemon at one moment, from its replies: circ's own answers one question with all of it, a circusd several. Pure.

use super::usage::Looks;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Instant;

/// A daemon with its watchers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Seconds since the epoch.
    pub time: f64,
    /// What the daemon itself uses.
    pub usage: Usage,
    /// Who it is; of no use to viewers of watchers.
    #[serde(skip)]
    pub identity: Identity,
    /// The watchers, by name.
    pub watchers: Vec<Watcher>,
    /// The sockets that it holds, as `listsockets` tells them.
    pub sockets: Vec<Value>,
}

/// Who a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Identity {
    /// `circ` or `circusd`.
    pub program: String,
    /// Its version.
    pub version: Option<String>,
    /// Its process.
    pub pid: Option<i64>,
    /// Its name in the network.
    pub name: Option<String>,
    /// Its configuration file.
    pub config: Option<String>,
    /// When it was started, in seconds since the epoch.
    pub started: Option<f64>,
    /// Its directory.
    #[serde(skip)]
    pub cwd: Option<String>,
    /// Requests by command.
    #[serde(skip)]
    pub commands: BTreeMap<String, u64>,
    /// Messages that were none.
    #[serde(skip)]
    pub rejected: Option<u64>,
    /// Events that slow subscribers have missed.
    #[serde(skip)]
    pub events_dropped: Option<u64>,
    /// Statistics that slow subscribers have missed.
    #[serde(skip)]
    pub stats_dropped: Option<u64>,
}

/// What a process uses. Bytes, seconds, per cent of one processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Per cent of one processor since the last look.
    pub cpu: Option<f64>,
    /// Processor time so far.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub rss: Option<u64>,
    /// Virtual memory.
    pub vms: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open files.
    pub fds: Option<u64>,
}

/// A watcher.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Watcher {
    /// Its name, as it is written.
    pub name: String,
    /// active, starting, stopping or stopped.
    pub status: String,
    /// Its `numprocesses`.
    pub wanted: Option<i64>,
    /// Its living workers.
    pub running: usize,
    /// It can have one worker at most.
    pub singleton: bool,
    /// It starts at the next connection.
    pub waiting: bool,
    /// Why its workers cannot be started or do not stay.
    pub trouble: Option<String>,
    /// What was counted; null of a circusd.
    #[serde(flatten)]
    pub counts: Counts,
    /// How it last lost a worker, as `status` tells it.
    pub last_exit: Option<Value>,
    /// Who has stopped it, as `status` tells it.
    pub stopped_by: Option<Value>,
    /// Its output, as `status` tells it.
    pub streams: Map<String, Value>,
    /// What its web servers have counted, as `metrics` tells it; null if it has none.
    pub front: Option<Value>,
    /// Of all its processes.
    pub cpu: Option<f64>,
    /// Of all its processes.
    pub rss: Option<u64>,
    /// Its workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Vec<Process>>,
}

/// What was counted of a watcher.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Workers that were started.
    pub started: Option<u64>,
    /// Workers that could not be.
    pub not_started: Option<u64>,
    /// Workers that have ended by themselves.
    pub lost: Option<u64>,
    /// Both.
    pub restarts: Option<u64>,
    /// Reloads.
    pub reloads: Option<u64>,
    /// Signals that were announced.
    pub kills: Option<u64>,
    /// Hooks that have failed.
    pub hook_failures: Option<u64>,
    /// Ends by code; a negative one is a signal's number.
    pub exits: BTreeMap<String, u64>,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Process {
    /// Its process.
    pub pid: i64,
    /// Its number in the watcher.
    pub wid: Option<i64>,
    /// When it was started, in seconds since the epoch.
    pub started: Option<f64>,
    /// It has been told to go.
    pub leaving: bool,
    /// What it uses.
    #[serde(flatten)]
    pub usage: Usage,
}

/// The replies of a circusd that make a snapshot.
#[derive(Debug, Default)]
pub struct CircusReplies {
    /// To `status`.
    pub status: Map<String, Value>,
    /// To `stats`.
    pub stats: Map<String, Value>,
    /// To `dstats`.
    pub dstats: Map<String, Value>,
    /// The options `numprocesses` and `singleton` by watcher.
    pub options: BTreeMap<String, Map<String, Value>>,
}

fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn number(map: &Map<String, Value>, key: &str) -> Option<u64> {
    map.get(key).and_then(Value::as_u64)
}

fn object<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    map.get(key).and_then(Value::as_object)
}

impl Snapshot {
    /// From the reply to `metrics` and the one to `listsockets`.
    pub fn of_circ(
        reply: &Map<String, Value>,
        sockets: &Map<String, Value>,
        looks: &mut Looks,
        now: Instant,
    ) -> Snapshot {
        let time = reply.get("time").and_then(Value::as_f64).unwrap_or(0.0);
        let none = Map::new();
        let daemon = object(reply, "daemon").unwrap_or(&none);
        let started = daemon.get("started").and_then(Value::as_f64);
        let pid = daemon.get("pid").and_then(Value::as_i64);
        let usage = usage(daemon, pid, started, time, looks, now);
        let identity = Identity {
            program: text(daemon, "program").unwrap_or_default(),
            version: text(daemon, "version"),
            pid,
            name: text(daemon, "fqdn"),
            config: text(daemon, "config"),
            started,
            cwd: text(daemon, "cwd"),
            commands: counts(daemon, "commands"),
            rejected: number(daemon, "rejected"),
            events_dropped: number(daemon, "events_dropped"),
            stats_dropped: number(daemon, "stats_dropped"),
        };
        let watchers = object(reply, "watchers").into_iter().flatten();
        let watchers = watchers
            .filter_map(|(name, told)| Some(watcher(name, told.as_object()?, time, looks, now)))
            .collect();
        Snapshot {
            time,
            usage,
            identity,
            watchers,
            sockets: list(sockets, "sockets"),
        }
        .sorted()
    }

    /// From the replies of a circusd.
    pub fn of_circus(replies: &CircusReplies, sockets: &Map<String, Value>, time: f64) -> Snapshot {
        let none = Map::new();
        let infos = object(&replies.stats, "infos").unwrap_or(&none);
        let watchers = object(&replies.status, "statuses").into_iter().flatten();
        let watchers = watchers.map(|(name, status)| {
            let lower = name.to_lowercase();
            let own = infos.iter().find(|(key, _)| key.to_lowercase() == lower);
            let own = own.and_then(|(_, info)| info.as_object());
            let processes: Vec<Process> = own
                .into_iter()
                .flatten()
                .filter_map(circus_process)
                .collect();
            let options = replies.options.get(name).unwrap_or(&none);
            Watcher {
                name: name.clone(),
                status: status.as_str().unwrap_or_default().to_owned(),
                wanted: options.get("numprocesses").and_then(Value::as_i64),
                singleton: options.get("singleton") == Some(&Value::Bool(true)),
                ..Watcher::default()
            }
            .with(processes)
        });
        let info = object(&replies.dstats, "info").unwrap_or(&none);
        Snapshot {
            time,
            usage: circus_usage(info),
            identity: Identity {
                program: "circusd".to_owned(),
                pid: info.get("pid").and_then(Value::as_i64),
                started: info.get("create_time").and_then(Value::as_f64),
                ..Identity::default()
            },
            watchers: watchers.collect(),
            sockets: list(sockets, "sockets"),
        }
        .sorted()
    }

    fn sorted(mut self) -> Snapshot {
        self.watchers
            .sort_by_cached_key(|watcher| watcher.name.to_lowercase());
        self
    }

    /// The watcher of this name, in any case.
    pub fn watcher(&self, name: &str) -> Option<&Watcher> {
        let name = name.to_lowercase();
        self.watchers
            .iter()
            .find(|watcher| watcher.name.to_lowercase() == name)
    }

    /// The same without the processes of watchers.
    pub fn without_processes(&self) -> Snapshot {
        let mut short = self.clone();
        for watcher in &mut short.watchers {
            watcher.processes = None;
        }
        short
    }
}

impl Watcher {
    fn with(mut self, processes: Vec<Process>) -> Watcher {
        let sum = |part: fn(&Usage) -> Option<f64>| {
            let parts = processes.iter().filter_map(|process| part(&process.usage));
            (!processes.is_empty()).then(|| parts.sum::<f64>())
        };
        self.cpu = sum(|usage| usage.cpu).map(|cpu| (cpu * 10.0).round() / 10.0);
        self.rss = sum(|usage| usage.rss.map(|bytes| bytes as f64)).map(|bytes| bytes as u64);
        self.running = processes.len();
        self.processes = Some(processes);
        self
    }
}

fn list(reply: &Map<String, Value>, key: &str) -> Vec<Value> {
    let list = reply.get(key).and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

fn counts(map: &Map<String, Value>, key: &str) -> BTreeMap<String, u64> {
    let counts = object(map, key).into_iter().flatten();
    counts
        .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
        .collect()
}

fn watcher(
    name: &str,
    told: &Map<String, Value>,
    time: f64,
    looks: &mut Looks,
    now: Instant,
) -> Watcher {
    let workers = told.get("workers").and_then(Value::as_array);
    let workers = workers.into_iter().flatten().filter_map(Value::as_object);
    let processes = workers.filter_map(|worker| {
        let pid = worker.get("pid").and_then(Value::as_i64)?;
        let started = worker.get("started").and_then(Value::as_f64);
        Some(Process {
            pid,
            wid: worker.get("wid").and_then(Value::as_i64),
            started,
            leaving: worker.get("leaving") == Some(&Value::Bool(true)),
            usage: usage(worker, Some(pid), started, time, looks, now),
        })
    });
    let processes = processes.collect();
    let (lost, not_started) = (number(told, "lost"), number(told, "not_started"));
    let there = |key: &str| told.get(key).filter(|value| !value.is_null()).cloned();
    Watcher {
        name: name.to_owned(),
        status: text(told, "status").unwrap_or_default(),
        wanted: told.get("wanted").and_then(Value::as_i64),
        singleton: told.get("singleton") == Some(&Value::Bool(true)),
        waiting: told.get("waiting") == Some(&Value::Bool(true)),
        trouble: text(told, "trouble"),
        counts: Counts {
            started: number(told, "started"),
            not_started,
            lost,
            restarts: lost
                .zip(not_started)
                .map(|(lost, not)| lost.saturating_add(not)),
            reloads: number(told, "reloads"),
            kills: number(told, "kills"),
            hook_failures: number(told, "hook_failures"),
            exits: counts(told, "exits"),
        },
        last_exit: there("last_exit"),
        stopped_by: there("stopped_by"),
        streams: object(told, "streams").cloned().unwrap_or_default(),
        front: there("front"),
        ..Watcher::default()
    }
    .with(processes)
}

fn usage(
    told: &Map<String, Value>,
    pid: Option<i64>,
    started: Option<f64>,
    time: f64,
    looks: &mut Looks,
    now: Instant,
) -> Usage {
    let cpu_seconds = told.get("cpu_seconds").and_then(Value::as_f64);
    let cpu = pid.zip(cpu_seconds).map(|(pid, used)| {
        let started = started.unwrap_or(0.0);
        looks.percent(pid, started, used, time - started, now)
    });
    Usage {
        cpu,
        cpu_seconds,
        rss: number(told, "rss"),
        vms: number(told, "vms"),
        threads: number(told, "threads"),
        fds: number(told, "fds"),
    }
}

fn circus_process((pid, info): (&String, &Value)) -> Option<Process> {
    let info = info.as_object()?;
    Some(Process {
        pid: pid.parse().ok()?,
        wid: info.get("wid").and_then(Value::as_i64),
        started: info.get("create_time").and_then(Value::as_f64),
        leaving: false,
        usage: circus_usage(info),
    })
}

fn circus_usage(info: &Map<String, Value>) -> Usage {
    let size = |key: &str| info.get(key).and_then(Value::as_str).and_then(bytes);
    Usage {
        cpu: info.get("cpu").and_then(Value::as_f64),
        rss: size("mem_info1"),
        vms: size("mem_info2"),
        ..Usage::default()
    }
}

/// `20.02M`, as circus writes a size, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let power = "BKMGTPE".find(unit)?;
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    let bytes = number * f64::from(1024u32).powi(i32::try_from(power).ok()?);
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_circ_tells() {
        let worker = json!({"pid": 7, "wid": 1, "started": 90.0, "leaving": false, "cpu_seconds": 1.0, "rss": 100,
            "vms": 200, "threads": 1, "fds": 4});
        let reply = map(
            json!({"time": 100.0, "daemon": {"program": "circ", "pid": 1, "started": 50.0, "fqdn": "h",
            "commands": {"list": 2}, "rejected": 1},
            "watchers": {"b": {"status": "stopped", "wanted": 0, "workers": [], "lost": 1, "not_started": 2},
                "A": {"status": "active", "wanted": 2, "workers": [worker, worker], "exits": {"-9": 3}}}}),
        );
        let mut looks = Looks::default();
        let sockets = map(json!({"sockets": [{"name": "web"}]}));
        let snapshot = Snapshot::of_circ(&reply, &sockets, &mut looks, Instant::now());
        let names: Vec<&str> = snapshot.watchers.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["A", "b"]);
        let told = serde_json::to_value(&snapshot).unwrap();
        assert_eq!(told["watchers"][0]["rss"], 200);
        assert_eq!(told["watchers"][0]["cpu"], 20.0);
        assert_eq!(told["watchers"][0]["exits"]["-9"], 3);
        assert_eq!(told["watchers"][0]["processes"][0]["fds"], 4);
        assert_eq!(told["watchers"][1]["restarts"], 3);
        assert_eq!(told["watchers"][1]["cpu"], Value::Null);
        assert_eq!(snapshot.identity.commands["list"], 2);
        assert_eq!(snapshot.watcher("B").map(|w| w.running), Some(0));
        let short = serde_json::to_value(snapshot.without_processes()).unwrap();
        assert_eq!(short["watchers"][0].get("processes"), None);
    }

    #[test]
    fn what_a_circusd_tells() {
        let info = json!({"cpu": 1.5, "mem_info1": "1.50K", "mem_info2": "2M", "create_time": 5.0, "wid": 1});
        let replies = CircusReplies {
            status: map(json!({"statuses": {"Web": "active"}})),
            stats: map(json!({"infos": {"web": {"7": info, "8": "No such process (stopped?)"}}})),
            dstats: map(json!({"info": {"pid": 3, "cpu": 0.0, "mem_info1": "N/A"}})),
            options: BTreeMap::from([("Web".to_owned(), map(json!({"numprocesses": 2})))]),
        };
        let told = Snapshot::of_circus(&replies, &Map::new(), 9.0);
        assert_eq!(told.identity.program, "circusd");
        let told = serde_json::to_value(told).unwrap();
        assert_eq!(told["watchers"][0]["wanted"], 2);
        assert_eq!(told["watchers"][0]["running"], 1);
        assert_eq!(told["watchers"][0]["started"], Value::Null);
        assert_eq!(told["watchers"][0]["processes"][0]["rss"], 1536);
        assert_eq!(told["usage"]["rss"], Value::Null);
    }

    #[test]
    fn sizes() {
        for (text, size) in [
            ("512B", Some(512)),
            ("1.50K", Some(1536)),
            ("N/A", None),
            ("", None),
            ("-1K", None),
            ("é", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
