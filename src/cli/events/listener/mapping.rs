//! Circus's events as supervisor's. Pure.
//!
//! Circus tells of processes by pid; supervisor has a name and a state for each. A watcher is a group here, its workers are
//! the group's processes: one of a single worker is called like the watcher, of several `NAME_00`, `NAME_01` …, and a worker
//! takes the name of one that is gone. As in supervisor a process runs once it has lived for `startsecs`; one that ends before is in
//! BACKOFF, and in FATAL when the watcher gives up.
//!
//! A daemon does not tell the end of every worker that it was told to stop: of those that got a signal it has to be asked
//! ([`Mapper::doubtful`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::events::line::Event;

/// The types that may come of it.
pub const KINDS: &[&str] = &[
    "PROCESS_STATE_STARTING",
    "PROCESS_STATE_RUNNING",
    "PROCESS_STATE_BACKOFF",
    "PROCESS_STATE_STOPPING",
    "PROCESS_STATE_STOPPED",
    "PROCESS_STATE_EXITED",
    "PROCESS_STATE_FATAL",
    "PROCESS_GROUP_ADDED",
    "PROCESS_GROUP_REMOVED",
    "SUPERVISOR_STATE_CHANGE_RUNNING",
    "SUPERVISOR_STATE_CHANGE_STOPPING",
    "TICK_5",
    "TICK_60",
    "TICK_3600",
];

/// Names and periods, in seconds.
const TICKS: [(&str, u64); 3] = [("TICK_5", 5), ("TICK_60", 60), ("TICK_3600", 3600)];

/// An event of supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its type.
    pub kind: &'static str,
    /// What is said with it.
    pub payload: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// It was started at this moment and has not lived for `startsecs`.
    Starting(f64),
    Running,
    Backoff,
    Exited,
    Stopped,
    Fatal,
}

/// A process as it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// The watcher, as topics have its name.
    pub group: String,
    /// The watcher's own name, as far as it is known.
    pub watcher: String,
    /// The name of its state and supervisor's number of that.
    pub state: &'static str,
    pub code: i32,
    /// While it is there.
    pub pid: Option<i64>,
    /// When it was started or first heard of, in seconds since the epoch.
    pub since: Option<f64>,
    /// It is one of several of its watcher.
    pub several: bool,
}

impl State {
    fn code(self) -> i32 {
        match self {
            State::Stopped => 0,
            State::Starting(_) => 10,
            State::Running => 20,
            State::Backoff => 30,
            State::Exited => 100,
            State::Fatal => 200,
        }
    }

    fn name(self) -> &'static str {
        match self {
            State::Starting(_) => "STARTING",
            State::Running => "RUNNING",
            State::Backoff => "BACKOFF",
            State::Exited => "EXITED",
            State::Stopped => "STOPPED",
            State::Fatal => "FATAL",
        }
    }
}

#[derive(Debug)]
struct Process {
    name: String,
    state: State,
    /// Only while there is one.
    pid: Option<i64>,
    /// It got a signal.
    asked: bool,
    /// Young ends in a row.
    tries: u32,
    /// Since when it is there, in seconds since the epoch.
    since: Option<f64>,
}

#[derive(Debug, Default)]
struct Group {
    /// The watcher's own name.
    watcher: String,
    processes: Vec<Process>,
    /// So many workers are wanted.
    wanted: u64,
}

/// A watcher as it is when the daemon is met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its name as topics have it.
    pub group: String,
    /// Its own name.
    pub watcher: String,
    /// Its workers.
    pub pids: Vec<i64>,
    /// How many of them are wanted.
    pub wanted: u64,
}

/// What is known of the daemon's processes.
#[derive(Debug)]
pub struct Mapper {
    groups: BTreeMap<String, Group>,
    /// How long a process has to live to be running, in seconds.
    startsecs: f64,
    /// Exit codes that are expected.
    exitcodes: Vec<i64>,
    /// The last tick of each kind.
    ticks: [Option<u64>; 3],
}

impl Mapper {
    /// Nothing is known yet.
    pub fn new(startsecs: f64, exitcodes: Vec<i64>) -> Self {
        Mapper {
            groups: BTreeMap::new(),
            startsecs,
            exitcodes,
            ticks: [None; 3],
        }
    }

    /// The daemon is there, with these pids by watcher and so many wanted of each.
    pub fn connected(&mut self, watchers: &[Known], now: f64) -> Vec<Notice> {
        self.groups.clear();
        for known in watchers {
            let group = self.groups.entry(known.group.clone()).or_default();
            group.watcher = known.watcher.clone();
            group.wanted = known.wanted;
            for pid in &known.pids {
                let at = group.vacancy(&known.group);
                let process = &mut group.processes[at];
                process.state = State::Running;
                process.pid = Some(*pid);
                process.since = Some(now);
            }
        }
        vec![bare("SUPERVISOR_STATE_CHANGE_RUNNING")]
    }

    /// Every process; of a watcher without any the one that it would have.
    pub fn processes_told(&self) -> Vec<Info> {
        let mut all = Vec::new();
        for (name, group) in &self.groups {
            let watcher = match group.watcher.as_str() {
                "" => name.clone(),
                watcher => watcher.to_string(),
            };
            let several = group.wanted > 1 || group.processes.len() > 1;
            let info = |process: &str, state: State, pid, since| Info {
                name: process.to_string(),
                group: name.clone(),
                watcher: watcher.clone(),
                state: state.name(),
                code: state.code(),
                pid,
                since,
                several,
            };
            if group.processes.is_empty() {
                all.push(info(name, State::Stopped, None, None));
            }
            let told = |one: &Process| info(&one.name, one.state, one.pid, one.since);
            all.extend(group.processes.iter().map(told));
        }
        all
    }

    /// Watchers that have processes of which a signal may have been the end.
    pub fn doubtful(&self) -> BTreeSet<String> {
        let doubtful = |group: &Group| {
            let asked = |process: &Process| process.asked && process.pid.is_some();
            group.processes.iter().any(asked)
        };
        let groups = self.groups.iter().filter(|(_, group)| doubtful(group));
        groups.map(|(name, _)| name.clone()).collect()
    }

    /// A watcher has these workers.
    pub fn present(&mut self, watcher: &str, pids: &[i64]) -> Vec<Notice> {
        let mut said = Vec::new();
        for process in self.processes(watcher) {
            let gone = process.pid.is_some_and(|pid| !pids.contains(&pid));
            if process.asked && gone {
                process.stop(watcher, &mut said);
            }
        }
        said
    }

    /// So many workers are wanted of a watcher.
    pub fn wanted(&mut self, watcher: &str, wanted: u64) {
        self.groups.entry(watcher.to_string()).or_default().wanted = wanted;
    }

    /// Time has passed: `now` is in seconds since the epoch.
    pub fn tick(&mut self, now: f64) -> Vec<Notice> {
        let mut said = Vec::new();
        for (name, group) in &mut self.groups {
            for process in &mut group.processes {
                if let State::Starting(since) = process.state
                    && now - since >= self.startsecs
                {
                    process.enter(State::Running, name, &mut said);
                }
            }
        }
        for ((kind, period), last) in TICKS.into_iter().zip(&mut self.ticks) {
            let seconds = now.max(0.0) as u64;
            let this = seconds - seconds % period;
            if last.replace(this).is_some_and(|last| last != this) {
                said.push(Notice {
                    kind,
                    payload: format!("when:{this}"),
                });
            }
        }
        said
    }

    /// An event was heard.
    pub fn event(&mut self, event: &Event, now: f64) -> Vec<Notice> {
        let mut said = Vec::new();
        if event.topic == "circ.lost" {
            return vec![bare("SUPERVISOR_STATE_CHANGE_STOPPING")];
        }
        let Some(watcher) = event.watcher().map(str::to_string) else {
            return said;
        };
        let watcher = watcher.as_str();
        let pid = event.number("process_pid");
        match (event.action(), pid) {
            ("add", _) => said.push(of_group("PROCESS_GROUP_ADDED", watcher)),
            ("remove", _) => {
                self.groups.remove(watcher);
                said.push(of_group("PROCESS_GROUP_REMOVED", watcher));
            }
            ("spawn", Some(pid)) => {
                let group = self.groups.entry(watcher.to_string()).or_default();
                let there = group.processes.iter().filter(|one| one.pid.is_some());
                if there.count() as u64 >= group.wanted.max(1) {
                    // It takes the place of one that was told to go, of which nothing else may be heard.
                    let asked = group.processes.iter_mut().find(|one| one.asked);
                    if let Some(leaving) = asked {
                        leaving.stop(watcher, &mut said);
                    }
                }
                let at = group.vacancy(watcher);
                let process = &mut group.processes[at];
                process.pid = Some(pid);
                process.since = Some(now);
                process.asked = false;
                process.enter(State::Starting(now), watcher, &mut said);
                if self.startsecs <= 0.0 {
                    process.enter(State::Running, watcher, &mut said);
                }
            }
            ("kill", Some(pid)) => {
                let all = self.processes(watcher);
                if let Some(process) = all.into_iter().find(|one| one.pid == Some(pid)) {
                    process.asked = true;
                }
            }
            ("reap", Some(pid)) => {
                let expected = event
                    .number("exit_code")
                    .is_some_and(|code| self.exitcodes.contains(&code));
                let all = self.processes(watcher);
                if let Some(process) = all.into_iter().find(|one| one.pid == Some(pid)) {
                    process.exit(watcher, expected, &mut said);
                }
            }
            ("stop", _) => {
                let group = self.groups.entry(watcher.to_string()).or_default();
                if group.processes.is_empty() {
                    // None of its workers could be started: nothing was ever said of them.
                    let at = group.vacancy(watcher);
                    group.processes[at].state = State::Backoff;
                }
                for process in &mut group.processes {
                    match process.state {
                        State::Backoff => process.enter(State::Fatal, watcher, &mut said),
                        State::Starting(_) | State::Running => process.stop(watcher, &mut said),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        said
    }

    fn processes(&mut self, watcher: &str) -> Vec<&mut Process> {
        let group = self.groups.get_mut(watcher);
        group
            .into_iter()
            .flat_map(|group| &mut group.processes)
            .collect()
    }
}

impl Group {
    /// The place of a process that is not there, or of a new one.
    fn vacancy(&mut self, watcher: &str) -> usize {
        if let Some(at) = self.processes.iter().position(|one| one.pid.is_none()) {
            return at;
        }
        let at = self.processes.len();
        let name = match self.wanted.max(at as u64 + 1) {
            0 | 1 => watcher.to_string(),
            _ => format!("{watcher}_{at:02}"),
        };
        self.processes.push(Process {
            name,
            state: State::Stopped,
            pid: None,
            asked: false,
            tries: 0,
            since: None,
        });
        at
    }
}

impl Process {
    fn enter(&mut self, state: State, group: &str, said: &mut Vec<Notice>) {
        let from = std::mem::replace(&mut self.state, state);
        let (kind, more) = match state {
            State::Starting(_) => ("PROCESS_STATE_STARTING", format!(" tries:{}", self.tries)),
            State::Running => {
                self.tries = 0;
                ("PROCESS_STATE_RUNNING", self.pid_word())
            }
            State::Backoff => {
                self.tries += 1;
                let tries = format!(" tries:{}", self.tries);
                ("PROCESS_STATE_BACKOFF", tries)
            }
            State::Fatal => {
                self.tries = 0;
                ("PROCESS_STATE_FATAL", String::new())
            }
            State::Stopped => ("PROCESS_STATE_STOPPED", self.pid_word()),
            State::Exited => ("PROCESS_STATE_EXITED", String::new()),
        };
        self.say(kind, from.name(), group, &more, said);
    }

    /// It has ended as it was told.
    fn stop(&mut self, group: &str, said: &mut Vec<Notice>) {
        let pid = self.pid_word();
        let from = self.state.name();
        self.say("PROCESS_STATE_STOPPING", from, group, &pid, said);
        self.say("PROCESS_STATE_STOPPED", "STOPPING", group, &pid, said);
        self.state = State::Stopped;
        self.pid = None;
        self.asked = false;
        self.tries = 0;
    }

    /// It has ended.
    fn exit(&mut self, group: &str, expected: bool, said: &mut Vec<Notice>) {
        if self.asked {
            return self.stop(group, said);
        }
        match self.state {
            State::Starting(_) => {
                self.enter(State::Backoff, group, said);
            }
            _ => {
                let more = format!(" expected:{}{}", u8::from(expected), self.pid_word());
                let from = self.state.name();
                self.say("PROCESS_STATE_EXITED", from, group, &more, said);
                self.state = State::Exited;
            }
        }
        self.pid = None;
    }

    fn pid_word(&self) -> String {
        self.pid.map_or(String::new(), |pid| format!(" pid:{pid}"))
    }

    fn say(&self, kind: &'static str, from: &str, group: &str, more: &str, said: &mut Vec<Notice>) {
        let name = &self.name;
        said.push(Notice {
            kind,
            payload: format!("processname:{name} groupname:{group} from_state:{from}{more}"),
        });
    }
}

fn bare(kind: &'static str) -> Notice {
    Notice {
        kind,
        payload: String::new(),
    }
}

fn of_group(kind: &'static str, group: &str) -> Notice {
    Notice {
        kind,
        payload: format!("groupname:{group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(topic: &str, payload: Value) -> Event {
        Event {
            topic: topic.to_string(),
            payload,
        }
    }

    fn known(name: &str, pids: &[i64], wanted: u64) -> Known {
        Known {
            group: name.to_string(),
            watcher: name.to_string(),
            pids: pids.to_vec(),
            wanted,
        }
    }

    fn shown(notices: &[Notice]) -> Vec<String> {
        notices
            .iter()
            .map(|one| {
                format!("{} {}", one.kind, one.payload)
                    .trim_end()
                    .to_string()
            })
            .collect()
    }

    #[test]
    fn a_life_in_supervisors_words() {
        let mut mapper = Mapper::new(1.0, vec![0]);
        let start = mapper.connected(&[known("web", &[], 1), known("api", &[8, 9], 2)], 9.0);
        assert_eq!(shown(&start), ["SUPERVISOR_STATE_CHANGE_RUNNING"]);
        let mut said = Vec::new();
        let spawn = |pid: i64| event("watcher.web.spawn", json!({"process_pid": pid}));
        let reap = |pid: i64, code: i64| {
            event(
                "watcher.web.reap",
                json!({"process_pid": pid, "exit_code": code}),
            )
        };
        said.extend(mapper.event(&spawn(1), 10.0));
        said.extend(mapper.event(&reap(1, 3), 10.1));
        said.extend(mapper.event(&spawn(2), 10.2));
        mapper.ticks = [Some(10), Some(0), Some(0)];
        said.extend(mapper.tick(11.3));
        said.extend(mapper.event(&reap(2, 3), 12.0));
        said.extend(mapper.event(&spawn(3), 12.1));
        said.extend(mapper.tick(13.2));
        said.extend(mapper.event(&reap(3, 0), 14.0));
        said.extend(mapper.event(&event("watcher.api.kill", json!({"process_pid": 9})), 14.0));
        assert_eq!(mapper.doubtful(), BTreeSet::from(["api".to_string()]));
        assert_eq!(mapper.present("api", &[8, 9]), []);
        said.extend(mapper.present("api", &[8, 12]));
        said.extend(mapper.event(&event("circ.lost", json!({})), 14.0));
        let told: Vec<String> = mapper
            .processes_told()
            .iter()
            .map(|one| format!("{}:{} {} {:?}", one.group, one.name, one.state, one.pid))
            .collect();
        assert_eq!(
            told,
            [
                "api:api_00 RUNNING Some(8)",
                "api:api_01 STOPPED None",
                "web:web EXITED None"
            ]
        );
        let web = "processname:web groupname:web";
        assert_eq!(
            shown(&said),
            [
                format!("PROCESS_STATE_STARTING {web} from_state:STOPPED tries:0"),
                format!("PROCESS_STATE_BACKOFF {web} from_state:STARTING tries:1"),
                format!("PROCESS_STATE_STARTING {web} from_state:BACKOFF tries:1"),
                format!("PROCESS_STATE_RUNNING {web} from_state:STARTING pid:2"),
                format!("PROCESS_STATE_EXITED {web} from_state:RUNNING expected:0 pid:2"),
                format!("PROCESS_STATE_STARTING {web} from_state:EXITED tries:0"),
                format!("PROCESS_STATE_RUNNING {web} from_state:STARTING pid:3"),
                format!("PROCESS_STATE_EXITED {web} from_state:RUNNING expected:1 pid:3"),
                "PROCESS_STATE_STOPPING processname:api_01 groupname:api from_state:RUNNING pid:9"
                    .to_string(),
                "PROCESS_STATE_STOPPED processname:api_01 groupname:api from_state:STOPPING pid:9"
                    .to_string(),
                "SUPERVISOR_STATE_CHANGE_STOPPING".to_string(),
            ]
        );
    }

    #[test]
    fn who_cannot_be_started_is_fatal_and_who_is_stopped_is_not() {
        let mut mapper = Mapper::new(1.0, vec![0]);
        mapper.connected(&[known("web", &[4], 1)], 0.0);
        let stop = |name: &str| event(&format!("watcher.{name}.stop"), json!({"time": 1.0}));
        assert_eq!(
            shown(&mapper.event(&stop("nope"), 1.0)),
            ["PROCESS_STATE_FATAL processname:nope groupname:nope from_state:BACKOFF"]
        );
        let kill = event("watcher.web.kill", json!({"process_pid": 4}));
        let reap = event(
            "watcher.web.reap",
            json!({"process_pid": 4, "exit_code": -15}),
        );
        let mut said = mapper.event(&kill, 1.0);
        said.extend(mapper.event(&reap, 1.0));
        said.extend(mapper.event(&stop("web"), 1.0));
        assert_eq!(
            shown(&said),
            [
                "PROCESS_STATE_STOPPING processname:web groupname:web from_state:RUNNING pid:4",
                "PROCESS_STATE_STOPPED processname:web groupname:web from_state:STOPPING pid:4",
            ]
        );
    }

    #[test]
    fn ticks_are_on_the_clock() {
        let mut mapper = Mapper::new(1.0, vec![0]);
        assert_eq!(mapper.tick(58.0), []);
        assert_eq!(shown(&mapper.tick(59.9)), Vec::<String>::new());
        assert_eq!(
            shown(&mapper.tick(60.1)),
            ["TICK_5 when:60", "TICK_60 when:60"]
        );
        assert_eq!(shown(&mapper.tick(65.0)), ["TICK_5 when:65"]);
    }
}
