//! What is known of a daemon: its watchers, their processes, its sockets and itself. Fed by replies, published statistics
//! and events of circ or of a circusd, which tells less.
//!
//! Names of watchers are told apart without their case, as daemons do: statistics have them in lower case, the status as
//! they are written. Every `now` is in seconds since the epoch by the clock of this machine; how old a process is counts
//! from when that was told, so that the other machine's clock does not matter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::happenings;
use super::history::History;
use super::numbers;
use crate::wire::event::resource_name;

mod published;

/// Seconds of history of a watcher and of all.
const LONG: usize = 240;
/// Seconds of history of a process.
const SHORT: usize = 40;
/// Seconds after which a process is gone that published statistics tell of no more.
const SILENCE: f64 = 3.5;

/// What uses processor and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Percent; 100 is one whole processor.
    pub cpu: Option<f64>,
    /// Percent of the machine's memory.
    pub mem: Option<f64>,
    /// Resident memory in bytes.
    pub rss: Option<u64>,
}

/// A process of a watcher.
#[derive(Debug)]
pub struct Process {
    /// Its number within the watcher, if that was told.
    pub wid: Option<i64>,
    /// What it uses.
    pub usage: Usage,
    /// When it began.
    pub born: Option<f64>,
    /// It has been told to end.
    pub leaving: bool,
    /// Whose it is.
    pub user: String,
    /// Its command.
    pub command: String,
    /// Percent of processor over time.
    pub cpu: History,
    /// When it was last told of.
    heard: f64,
}

/// How a process of a watcher ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LastExit {
    /// In words.
    pub words: String,
    /// When.
    pub time: f64,
}

/// A watcher.
#[derive(Debug)]
pub struct Watcher {
    /// As it is written in the configuration.
    pub name: Arc<str>,
    /// `active`, `stopped`, …
    pub state: String,
    /// How many processes it shall have.
    pub wanted: Option<i64>,
    /// How often a process was started in the place of one that had ended: as the daemon counts, or if it does not
    /// tell, since this was watched.
    pub restarts: u64,
    /// Whether the daemon counts them.
    pub counted: bool,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// How a process of it ended the last time.
    pub last_exit: Option<LastExit>,
    /// Its processes by pid.
    pub processes: BTreeMap<i32, Process>,
    /// Percent of processor over time.
    pub cpu: History,
    /// Bytes of memory over time.
    pub memory: History,
}

impl Watcher {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            state: String::new(),
            wanted: None,
            restarts: 0,
            counted: false,
            trouble: None,
            last_exit: None,
            processes: BTreeMap::new(),
            cpu: History::new(LONG),
            memory: History::new(LONG),
        }
    }

    /// All its processes together; unknown only if nothing is known of any.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for process in self.processes.values() {
            sum.add(process.usage);
        }
        if self.processes.is_empty() && self.state != "active" {
            return Usage {
                cpu: Some(0.0),
                mem: Some(0.0),
                rss: Some(0),
            };
        }
        sum
    }

    /// When its oldest process began.
    pub fn born(&self) -> Option<f64> {
        let born = self.processes.values().filter_map(|process| process.born);
        born.reduce(f64::min)
    }
}

impl Usage {
    fn add(&mut self, other: Usage) {
        let sum = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.cpu = sum(self.cpu, other.cpu);
        self.mem = sum(self.mem, other.mem);
        self.rss = match (self.rss, other.rss) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
    }
}

/// A socket that the daemon holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Socket {
    /// Its descriptor in the daemon.
    pub fd: i64,
    /// Its name in the configuration.
    pub name: String,
    /// `HOST:PORT`, or the path.
    pub address: String,
    /// In how many of the hundred pieces of the last second there was something to read; known where statistics are
    /// published, and of circ.
    pub reads: Option<u64>,
    /// What circ has counted of that so far, and when it said so.
    counted: Option<(u64, f64)>,
    /// Connections that wait to be accepted; known of circ, and on the daemon's machine.
    pub waiting: Option<u32>,
    /// How many may wait: what the kernel grants, or else the configuration's number.
    pub backlog: Option<i64>,
}

/// The daemon itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Daemon {
    /// `circ 0.1.0`, or `circusd`, once it is known.
    pub program: String,
    /// Its process.
    pub pid: Option<i64>,
    /// What it uses.
    pub usage: Usage,
    /// When it began.
    pub born: Option<f64>,
}

/// Everything that is known.
#[derive(Debug)]
pub struct Board {
    /// The daemon itself.
    pub daemon: Daemon,
    /// By name in lower case.
    pub watchers: BTreeMap<String, Watcher>,
    /// In the order of their descriptors.
    pub sockets: Vec<Socket>,
    /// Percent of processor of all watchers over time.
    pub cpu: History,
    /// Bytes of memory of all watchers over time.
    pub memory: History,
    /// Lower-case names by what stands in the topics of events.
    topics: HashMap<String, String>,
    /// When published statistics came last.
    published: Option<f64>,
    /// Counts changes, so that what is derived is made anew only after one.
    changes: u64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            daemon: Daemon::default(),
            watchers: BTreeMap::new(),
            sockets: Vec::new(),
            cpu: History::new(LONG),
            memory: History::new(LONG),
            topics: HashMap::new(),
            published: None,
            changes: 0,
        }
    }
}

impl Board {
    /// A number that is another one after every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many processes there are.
    pub fn count(&self) -> usize {
        self.watchers.values().map(|w| w.processes.len()).sum()
    }

    /// All watchers together.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for watcher in self.watchers.values() {
            sum.add(watcher.usage());
        }
        sum
    }

    /// Takes the reply to `status` with `details`, or of a daemon that passes over that.
    pub fn take_status(&mut self, reply: &Map<String, Value>, now: f64) {
        let Some(statuses) = reply.get("statuses").and_then(Value::as_object) else {
            return;
        };
        self.changes += 1;
        let known: HashSet<String> = statuses.keys().map(|name| name.to_lowercase()).collect();
        self.watchers.retain(|key, _| known.contains(key));
        self.topics.clear();
        let waiting = reply.get("waiting").and_then(Value::as_array);
        for (name, state) in statuses {
            let key = name.to_lowercase();
            self.topics.insert(resource_name(name), key.clone());
            let watcher = self
                .watchers
                .entry(key)
                .or_insert_with(|| Watcher::new(name));
            let state = state.as_str().unwrap_or("?");
            watcher.state = match waiting.is_some_and(|all| all.contains(&name.as_str().into())) {
                true => "waiting".to_string(),
                false => state.to_string(),
            };
            let details = reply.get("watchers").and_then(|all| all.get(name));
            let trouble = reply.get("troubles").and_then(|all| all.get(name));
            let trouble = trouble.or_else(|| details?.get("trouble"));
            watcher.trouble = trouble.and_then(Value::as_str).map(str::to_string);
            if let Some(details) = details.and_then(Value::as_object) {
                watcher.take_details(details, now);
            }
            if watcher.state == "stopped" {
                watcher.processes.clear();
            }
        }
    }

    /// Takes how many processes a watcher shall have.
    pub fn take_wanted(&mut self, name: &str, wanted: i64) {
        if let Some(watcher) = self.watchers.get_mut(&name.to_lowercase()) {
            watcher.wanted = Some(wanted);
            self.changes += 1;
        }
    }

    /// Takes the `infos` of a reply to `stats`: all processes there are.
    pub fn take_stats(&mut self, infos: &Map<String, Value>, now: f64) {
        self.changes += 1;
        for (name, processes) in infos {
            let Some(watcher) = self.watchers.get_mut(&name.to_lowercase()) else {
                continue; // the status tells of it soon
            };
            let Some(processes) = processes.as_object() else {
                continue;
            };
            let told = |pid: &i32| {
                processes
                    .get(&pid.to_string())
                    .is_some_and(Value::is_object)
            };
            watcher.processes.retain(|pid, _| told(pid));
            for (pid, info) in processes {
                // a text in its place says that it has gone
                if let (Ok(pid), Some(info)) = (pid.parse(), info.as_object()) {
                    let process = watcher.processes.entry(pid);
                    process.or_insert_with(|| Process::new(now)).take(info, now);
                }
            }
        }
    }

    /// Takes the `info` of a reply to `dstats`.
    pub fn take_daemon(&mut self, info: &Map<String, Value>, now: f64) {
        self.changes += 1;
        let daemon = &mut self.daemon;
        daemon.pid = info.get("pid").and_then(Value::as_i64).or(daemon.pid);
        daemon.usage = usage(info);
        daemon.born = born(info, now).or(daemon.born);
    }

    /// Takes the reply to `identity`; none is from a circusd.
    pub fn take_identity(&mut self, reply: Option<&Map<String, Value>>) {
        self.changes += 1;
        let text = |key: &str| reply?.get(key)?.as_str();
        self.daemon.program = match (text("program"), text("version")) {
            (Some(program), Some(version)) => format!("{program} {version}"),
            _ => "circusd".to_string(),
        };
        if let Some(pid) = reply.and_then(|reply| reply.get("pid")?.as_i64()) {
            self.daemon.pid = Some(pid);
        }
    }

    /// Takes the `sockets` of a reply to `listsockets`.
    pub fn take_sockets(&mut self, sockets: &[Value], now: f64) {
        self.changes += 1;
        let before = std::mem::take(&mut self.sockets);
        for info in sockets {
            let text = |key: &str| info.get(key).and_then(Value::as_str);
            let Some(fd) = info.get("fd").and_then(Value::as_i64) else {
                continue;
            };
            let address = match (text("path"), text("host"), info.get("port")) {
                (Some(path), ..) => path.to_string(),
                (None, Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
                (None, Some(host), Some(port)) => format!("{host}:{port}"),
                _ => "?".to_string(),
            };
            let name = text("name").unwrap_or("?");
            let old = before.iter().find(|old| old.fd == fd && old.name == name);
            let number = |key: &str| info.get(key).and_then(Value::as_i64);
            let waiting = number("waiting").and_then(|waiting| waiting.try_into().ok());
            let counted = number("reads").and_then(|reads| reads.try_into().ok());
            let counted: Option<(u64, f64)> = counted.map(|reads| (reads, now));
            let published = self.published.is_some_and(|then| now - then < SILENCE);
            let reads = match (counted, old.and_then(|old| old.counted)) {
                (Some((now, at)), Some((then, before))) if !published && at > before => {
                    let each_second = now.saturating_sub(then) as f64 / (at - before);
                    Some(each_second.round() as u64)
                }
                _ => old.and_then(|old| old.reads),
            };
            self.sockets.push(Socket {
                fd,
                name: name.to_string(),
                address,
                reads,
                counted,
                waiting: waiting.or(old.and_then(|old| old.waiting)),
                backlog: number("limit").or(number("backlog")),
            });
        }
        self.sockets.sort_by_key(|socket| socket.fd);
    }

    /// Takes how many connections wait at the socket with this descriptor.
    pub fn take_waiting(&mut self, fd: i64, waiting: Option<u32>) {
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.fd == fd) {
            self.changes += u64::from(socket.waiting != waiting);
            socket.waiting = waiting;
        }
    }

    /// Takes an event; gives the watcher that it is about as the configuration writes it.
    pub fn take_event(
        &mut self,
        topic: &str,
        action: &str,
        payload: &Map<String, Value>,
        now: f64,
    ) -> Option<Arc<str>> {
        let key = self.topics.get(topic)?;
        let watcher = self.watchers.get_mut(key)?;
        self.changes += 1;
        let pid = payload.get("process_pid").and_then(Value::as_i64);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        match (action, pid) {
            ("spawn", Some(pid)) => {
                // statistics may have told of it already
                let process = watcher.processes.entry(pid);
                let process = process.or_insert_with(|| Process::new(now));
                process.born.get_or_insert(now);
            }
            ("reap", Some(pid)) => {
                watcher.processes.remove(&pid);
                let code = payload.get("exit_code").and_then(Value::as_i64);
                // a daemon that counts tells the number with the next status
                watcher.restarts += u64::from(!watcher.counted);
                if let Some(code) = code {
                    watcher.last_exit = Some(LastExit {
                        words: happenings::exit(code),
                        time: now,
                    });
                }
            }
            ("kill", Some(pid)) => {
                if let Some(process) = watcher.processes.get_mut(&pid) {
                    process.leaving = true;
                }
            }
            _ => {}
        }
        Some(watcher.name.clone())
    }

    /// A second has gone by: values go into history, and what was told of no more goes.
    pub fn tick(&mut self, now: f64) {
        self.changes += 1;
        let all = self.usage();
        self.cpu.push(all.cpu.unwrap_or_default());
        self.memory.push(all.rss.unwrap_or_default() as f64);
        let published = self
            .published
            .is_some_and(|last| now - last < SILENCE / 2.0);
        for watcher in self.watchers.values_mut() {
            if published {
                let silent = |process: &Process| now - process.heard > SILENCE;
                watcher.processes.retain(|_, process| !silent(process));
            }
            for process in watcher.processes.values_mut() {
                process.cpu.push(process.usage.cpu.unwrap_or_default());
            }
            let usage = watcher.usage();
            watcher.cpu.push(usage.cpu.unwrap_or_default());
            watcher.memory.push(usage.rss.unwrap_or_default() as f64);
        }
    }
}

impl Watcher {
    fn take_details(&mut self, details: &Map<String, Value>, now: f64) {
        let number = |key: &str| details.get(key).and_then(Value::as_i64);
        self.wanted = number("numprocesses").or(self.wanted);
        if let Some(restarts) = number("restarts") {
            self.restarts = u64::try_from(restarts).unwrap_or_default();
            self.counted = true;
        }
        if let Some(exit) = details.get("last_exit").and_then(Value::as_object) {
            let of = |key: &str| exit.get(key).and_then(Value::as_i64);
            let words = match (of("code"), of("signal")) {
                (Some(code), _) => happenings::exit(code),
                (None, Some(signal)) => happenings::exit(-signal),
                _ => match exit.get("reason").and_then(Value::as_str) {
                    Some(reason) => format!("not started: {reason}"),
                    None => "ended".to_string(),
                },
            };
            let time = exit.get("time").and_then(Value::as_f64).unwrap_or(now);
            self.last_exit = Some(LastExit { words, time });
        }
        let Some(workers) = details.get("workers").and_then(Value::as_array) else {
            return;
        };
        let mut told = HashSet::new();
        for worker in workers {
            let Some(pid) = worker.get("pid").and_then(Value::as_i64) else {
                continue;
            };
            let Ok(pid) = i32::try_from(pid) else {
                continue;
            };
            told.insert(pid);
            let process = self.processes.entry(pid);
            let process = process.or_insert_with(|| Process::new(now));
            process.wid = worker.get("wid").and_then(Value::as_i64);
            process.leaving = worker.get("leaving") == Some(&Value::Bool(true));
        }
        self.processes.retain(|pid, _| told.contains(pid));
    }
}

impl Process {
    fn new(now: f64) -> Self {
        Self {
            wid: None,
            usage: Usage::default(),
            born: None,
            leaving: false,
            user: String::new(),
            command: String::new(),
            cpu: History::new(SHORT),
            heard: now,
        }
    }

    fn take(&mut self, info: &Map<String, Value>, now: f64) {
        self.heard = now;
        self.usage = usage(info);
        self.born = born(info, now).or(self.born);
        self.wid = info.get("wid").and_then(Value::as_i64).or(self.wid);
        let text = |key: &str| info.get(key).and_then(Value::as_str);
        if let Some(user) = text("username").filter(|user| *user != self.user) {
            self.user = user.to_string();
        }
        if let Some(command) = text("cmdline").filter(|command| *command != self.command) {
            self.command = command.to_string();
        }
    }
}

fn usage(info: &Map<String, Value>) -> Usage {
    let number = |key: &str| info.get(key).and_then(Value::as_f64);
    Usage {
        cpu: number("cpu"),
        mem: number("mem"),
        rss: info
            .get("mem_info1")
            .and_then(Value::as_str)
            .and_then(numbers::read_bytes),
    }
}

fn born(info: &Map<String, Value>, now: f64) -> Option<f64> {
    let age = info.get("age").and_then(Value::as_f64)?;
    age.is_finite().then_some(now - age)
}

#[cfg(test)]
mod tests;
