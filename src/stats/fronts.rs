//! What the web servers among the workers have counted, one sum for each watcher: what those that have gone have counted
//! stays in it, so that a reload does not turn a counter back.
//!
//! The memory file of a front ([`super::front`]) is held open from when it is first seen, so that its last numbers can be
//! read when it has ended. One that came and went between two looks is missed, unless whoever ends it gives its file to
//! [`Fronts::hold`] before: [`Seen`] tells for which it is needed.

use super::front::{self, FAMILIES, Kind, Sample};
use super::pass::ProcStat;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Files that are held open at most; those of more fronts are opened for each look.
const HELD: usize = 128;
/// A process may become a front late, once its application is there: it is looked at again after as long a time as it
/// has been known, but within these bounds.
const SOONEST: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(60);
/// A rate needs some time between two looks.
const SHORTEST: Duration = Duration::from_secs(1);

/// The fronts of all watchers, which have numbers here. Reads `/proc`: for a thread of its own.
#[derive(Debug, Default)]
pub struct Fronts {
    watchers: HashMap<u64, Watcher>,
    seen: Seen,
}

/// What other threads may know: the watchers that have fronts, and of which processes the files are held.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<(HashSet<u64>, HashSet<i32>)>>);

impl Seen {
    fn get(&self) -> MutexGuard<'_, (HashSet<u64>, HashSet<i32>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this watcher has or had one.
    pub fn has(&self, watcher: u64) -> bool {
        self.get().0.contains(&watcher)
    }

    /// Whether the file of this process is held.
    pub fn holds(&self, pid: i32) -> bool {
        self.get().1.contains(&pid)
    }
}

#[derive(Debug, Default)]
struct Watcher {
    processes: HashMap<i32, Process>,
    /// The counters of those that have gone.
    gone: Vec<Sample>,
    rate: Option<Rate>,
}

/// How many requests had been answered at a moment, and how many a second before that.
#[derive(Debug, Clone, Copy)]
struct Rate {
    time: Instant,
    requests: f64,
    each_second: f64,
}

#[derive(Debug)]
struct Process {
    /// When it was started: pids are used again.
    starttime: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// None so far.
    Other { known: Instant, next: Instant },
    Front {
        file: Option<File>,
        last: Vec<Sample>,
    },
}

impl Fronts {
    /// With this as what others know.
    pub fn new(seen: Seen) -> Fronts {
        Fronts {
            watchers: HashMap::new(),
            seen,
        }
    }

    /// Looks whether this worker of a watcher is a front. Costs next to nothing for one that has long been none.
    pub fn see(&mut self, watcher: u64, stat: &ProcStat) {
        let identity = (stat.pid, stat.starttime);
        let state = &mut self.process(watcher, identity).state;
        let now = Instant::now();
        match state {
            State::Other { known, next } if now >= *next => {
                *next = now + now.duration_since(*known).clamp(SOONEST, LATEST);
            }
            _ => return,
        }
        // one that may not be looked at is none for us
        if let Ok(Some(file)) = front::find(stat.pid) {
            self.take(watcher, identity, file);
        }
    }

    /// This worker, whose memory file this is, may end soon.
    pub fn hold(&mut self, watcher: u64, pid: i32, starttime: u64, file: File) {
        self.take(watcher, (pid, starttime), file);
    }

    /// This worker has ended.
    pub fn ended(&mut self, watcher: u64, pid: i32) {
        if let Some(group) = self.watchers.get_mut(&watcher) {
            group.retire(pid);
            self.seen.get().1.remove(&pid);
        }
    }

    /// The watcher is gone, and with it what it has counted.
    pub fn forget(&mut self, watcher: u64) {
        let mut seen = self.seen.get();
        seen.0.remove(&watcher);
        for pid in self
            .watchers
            .remove(&watcher)
            .unwrap_or_default()
            .processes
            .keys()
        {
            seen.1.remove(pid);
        }
    }

    /// What is known of this worker; of an earlier one with its pid the counts are kept.
    fn process(&mut self, watcher: u64, (pid, starttime): (i32, u64)) -> &mut Process {
        let group = self.watchers.entry(watcher).or_default();
        let known = group.processes.get(&pid);
        if known.is_some_and(|known| known.starttime != starttime) {
            group.retire(pid);
            self.seen.get().1.remove(&pid);
        }
        let now = Instant::now();
        group.processes.entry(pid).or_insert(Process {
            starttime,
            state: State::Other {
                known: now,
                next: now,
            },
        })
    }

    /// It is a front, and this is its file.
    fn take(&mut self, watcher: u64, identity: (i32, u64), file: File) {
        let last = front::read(&file).unwrap_or_default();
        let room = {
            let mut seen = self.seen.get();
            seen.0.insert(watcher);
            let room = seen.1.contains(&identity.0) || seen.1.len() < HELD;
            if room {
                seen.1.insert(identity.0);
            }
            room
        };
        let file = room.then_some(file);
        self.process(watcher, identity).state = State::Front { file, last };
    }

    /// What the fronts of a watcher have counted so far, by the names of the families without `circ_front_`; none if it
    /// never had one. `pids` are its workers now, `age` that of the oldest in seconds.
    pub fn told(&mut self, watcher: u64, pids: &[i32], age: f64) -> Option<Map<String, Value>> {
        let group = self.watchers.get_mut(&watcher)?;
        let known = group.processes.keys().copied();
        let left: Vec<i32> = known.filter(|pid| !pids.contains(pid)).collect();
        for pid in left {
            group.retire(pid);
            self.seen.get().1.remove(&pid);
        }
        if !group.has_fronts() {
            return None;
        }
        let mut sum = group.gone.clone();
        let mut living = 0;
        for (pid, process) in &mut group.processes {
            if let Some(samples) = process.read(*pid) {
                living += 1;
                add(&mut sum, samples, true);
            }
        }
        let requests = sum.iter().filter(|one| one.name == REQUESTS);
        let requests: f64 = requests.map(|one| one.value).sum();
        let rate = Rate::after(group.rate, requests, age);
        group.rate = Some(rate);
        let mut told = Map::from_iter([
            ("fronts".to_string(), json!(living)),
            ("requests_each_second".to_string(), json!(rate.each_second)),
        ]);
        told.extend(shaped(&sum));
        Some(told)
    }
}

/// The family that rates are made from.
const REQUESTS: &str = "circ_front_requests_total";

impl Rate {
    fn after(before: Option<Rate>, requests: f64, age: f64) -> Rate {
        let time = Instant::now();
        let each_second = match before {
            // looks in quick succession share one
            Some(before) if time.duration_since(before.time) < SHORTEST => return before,
            Some(before) => {
                (requests - before.requests) / time.duration_since(before.time).as_secs_f64()
            }
            None if age > 0.0 => requests / age,
            None => 0.0,
        };
        Rate {
            time,
            requests,
            each_second: (each_second * 10.0).round() / 10.0,
        }
    }
}

impl Watcher {
    fn has_fronts(&self) -> bool {
        let front = |one: &Process| matches!(one.state, State::Front { .. });
        !self.gone.is_empty() || self.processes.values().any(front)
    }

    /// A process has gone.
    fn retire(&mut self, pid: i32) {
        let process = self.processes.remove(&pid);
        if let Some(mut process) = process
            && let Some(samples) = process.read(pid)
        {
            add(&mut self.gone, samples, false);
        }
    }
}

impl Process {
    /// What it counts now, or what it was when it could last be read; none if it is no front.
    fn read(&mut self, pid: i32) -> Option<&[Sample]> {
        let State::Front { file, last } = &mut self.state else {
            return None;
        };
        let now = match file {
            Some(file) => front::read(file).ok(),
            None => {
                let same = ProcStat::read(pid).is_some_and(|now| now.starttime == self.starttime);
                same.then(|| front::samples_of(pid).ok().flatten())
                    .flatten()
            }
        };
        if let Some(now) = now {
            *last = now;
        }
        Some(last)
    }
}

/// Adds samples to a sum; of what goes up and down only those of the living count.
fn add(sum: &mut Vec<Sample>, samples: &[Sample], living: bool) {
    for sample in samples {
        let Some(family) = family(&sample.name) else {
            continue;
        };
        if family.kind == Kind::Gauge && !living {
            continue;
        }
        let same = |one: &&mut Sample| one.name == sample.name && one.labels == sample.labels;
        match sum.iter_mut().find(same) {
            Some(one) => one.value += sample.value,
            None => sum.push(sample.clone()),
        }
    }
}

/// The family that a sample belongs to.
fn family(name: &str) -> Option<&'static front::Family> {
    let of = |family: &&front::Family| match family.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.strip_suffix(end) == Some(family.name)),
        _ => name == family.name,
    };
    FAMILIES.iter().find(of)
}

/// As JSON: a number, an object of numbers by the value of the label, or a histogram with its `buckets`, `sum` and
/// `count`.
fn shaped(samples: &[Sample]) -> Map<String, Value> {
    let label = |sample: &Sample| sample.labels.first().map(|(_, value)| value.clone());
    let by_label = |name: &str| {
        let samples = samples.iter().filter(|sample| sample.name == name);
        let values = samples.filter_map(|one| Some((label(one)?, number(one.value))));
        Value::Object(values.collect())
    };
    let plain = |name: &str| {
        let sample = samples.iter().find(|sample| sample.name == name);
        number(sample.map_or(0.0, |sample| sample.value))
    };
    let mut told = Map::new();
    for family in FAMILIES {
        let name = family.name;
        let value = match (family.kind, family.labels) {
            (Kind::Histogram, _) => json!({
                "buckets": by_label(&format!("{name}_bucket")),
                "sum": plain(&format!("{name}_sum")),
                "count": plain(&format!("{name}_count")),
            }),
            (_, []) => plain(name),
            _ => by_label(name),
        };
        let short = name.strip_prefix("circ_front_").unwrap_or(name);
        told.insert(short.to_string(), value);
    }
    told
}

/// Whole numbers as such.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && (0.0..9e15).contains(&value) {
        json!(value as u64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::os::unix::fs::FileExt;

    fn own() -> ProcStat {
        ProcStat::read(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    /// This process as a front, whose numbers can be set.
    struct Fake(File);

    impl Fake {
        fn new() -> Fake {
            let file = memfd_create(front::NAME, MemfdFlags::CLOEXEC).unwrap();
            Fake(File::from(file))
        }
        fn counts(&self, requests: u64, connections: u64) {
            let text = front::text(requests, |out| {
                out.push_str(&format!(
                    "circ_front_requests_total{{class=\"2xx\"}} {requests}\ncirc_front_connections {connections}\n\
                     circ_front_request_duration_seconds_bucket{{le=\"+Inf\"}} {requests}\n\
                     circ_front_request_duration_seconds_sum 0.5\n\
                     circ_front_request_duration_seconds_count {requests}\nof_another_version 1\n"
                ));
            });
            self.0.write_all_at(text.as_bytes(), 0).unwrap();
        }
    }

    /// One test, since all in this process would see the same memory files.
    #[test]
    fn what_a_front_has_counted_stays_when_it_has_gone() {
        let stat = own();
        let seen = Seen::default();
        let mut fronts = Fronts::new(seen.clone());
        fronts.see(1, &stat);
        assert!(!seen.has(1) && fronts.told(1, &[stat.pid], 1.0).is_none());
        assert!(fronts.told(2, &[], 1.0).is_none());
        let fake = Fake::new();
        fake.counts(10, 3);
        // it was no front a moment ago
        fronts.see(1, &stat);
        assert!(!seen.has(1) && !seen.holds(stat.pid));
        let file = front::find(stat.pid).unwrap().unwrap();
        fronts.hold(1, stat.pid, stat.starttime, file);
        assert!(seen.has(1) && !seen.has(2) && seen.holds(stat.pid));
        let told = fronts.told(1, &[stat.pid], 5.0).unwrap();
        assert_eq!(
            (&told["fronts"], &told["connections"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(told["requests_total"], json!({"2xx": 10}));
        assert_eq!(told["requests_each_second"], 2.0);
        assert_eq!(
            told["request_duration_seconds"],
            json!({"buckets": {"+Inf": 10}, "sum": 0.5, "count": 10})
        );
        assert_eq!(told["worker_deaths_total"], 0);
        // its last words are read when it has ended, and those of its successor are added
        fake.counts(12, 3);
        drop(fake);
        fronts.ended(1, stat.pid);
        assert!(!seen.holds(stat.pid));
        let told = fronts.told(1, &[], 5.0).unwrap();
        assert_eq!(
            (&told["fronts"], &told["connections"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(told["requests_total"]["2xx"], 12);
        let next = Fake::new();
        next.counts(1, 1);
        fronts.see(1, &stat);
        let told = fronts.told(1, &[stat.pid], 5.0).unwrap();
        assert_eq!(told["requests_total"]["2xx"], 13);
        // another process under the same pid
        let other = ProcStat {
            starttime: stat.starttime + 1,
            ..stat.clone()
        };
        next.counts(2, 1);
        fronts.see(1, &other);
        let told = fronts.told(1, &[stat.pid], 5.0).unwrap();
        assert_eq!(told["requests_total"]["2xx"], 16);
        // nobody has said that it ended
        let told = fronts.told(1, &[], 5.0).unwrap();
        assert_eq!(told["requests_total"]["2xx"], 16);
        // half a text: what was read last is kept
        fronts.see(1, &stat);
        next.0.write_all_at(b"circ-metrics 1 77\n", 0).unwrap();
        let told = fronts.told(1, &[stat.pid], 5.0).unwrap();
        assert_eq!(told["requests_total"]["2xx"], 18);
        fronts.forget(1);
        assert!(!seen.has(1) && !seen.holds(stat.pid) && fronts.told(1, &[], 5.0).is_none());
    }
}
