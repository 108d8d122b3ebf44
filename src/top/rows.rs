//! The lines of the table: which there are, and in which order.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::board::{Board, Process, Usage, Watcher};

/// By what the lines are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Use of processor.
    Cpu,
    /// Use of memory.
    Memory,
    /// Name of the watcher; number of the process.
    Name,
    /// How often processes had to be replaced.
    Restarts,
    /// How long it has been up.
    Uptime,
}

impl By {
    /// All of them, with the key that chooses it and its word.
    pub const ALL: [(By, char, &'static str); 5] = [
        (By::Cpu, 'c', "CPU"),
        (By::Memory, 'm', "memory"),
        (By::Name, 'n', "name"),
        (By::Restarts, 'r', "restarts"),
        (By::Uptime, 'u', "uptime"),
    ];

    /// The one that many places on.
    pub fn step(self, places: usize) -> By {
        let at = By::ALL.iter().position(|(by, ..)| *by == self);
        let next = (at.unwrap_or(0) + places) % By::ALL.len();
        By::ALL.get(next).map_or(self, |(by, ..)| *by)
    }
}

/// What the table shows, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The order.
    pub by: By,
    /// The other way round.
    pub reversed: bool,
    /// Processes alone, without their watchers.
    pub flat: bool,
    /// Only what has this text in it, in any case.
    pub filter: String,
    /// Whether watchers are unfolded that nobody has touched.
    pub unfolded: bool,
    /// Watchers that are the other way, by name in lower case.
    pub touched: BTreeSet<String>,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            by: By::Cpu,
            reversed: false,
            flat: false,
            filter: String::new(),
            unfolded: true,
            touched: BTreeSet::new(),
        }
    }
}

impl Choice {
    /// Whether the processes of a watcher are shown.
    pub fn is_unfolded(&self, watcher: &str) -> bool {
        self.unfolded != self.touched.contains(&watcher.to_lowercase())
    }
}

/// A line: a watcher, or one of its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The watcher's name as it is written.
    pub watcher: Arc<str>,
    /// The process.
    pub pid: Option<i32>,
}

/// What a watcher or a process is ordered by.
struct Key<'a> {
    usage: Usage,
    restarts: u64,
    born: Option<f64>,
    name: &'a str,
    number: i64,
}

/// A watcher with those of its processes that are shown.
type Group<'a> = (Key<'a>, &'a Watcher, Vec<(Key<'a>, i32)>);

/// The lines, in order.
pub fn arrange(board: &Board, choice: &Choice) -> Vec<Row> {
    let filter = choice.filter.to_lowercase();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (key, watcher) in &board.watchers {
        let whole = filter.is_empty() || key.contains(&filter);
        let found = |pid: i32, process: &Process| whole || has(pid, process, &filter);
        let shown = choice.flat || choice.is_unfolded(key) || !whole;
        let processes: Vec<_> = match shown {
            true => watcher
                .processes
                .iter()
                .filter(|(pid, process)| found(**pid, process))
                .map(|(pid, process)| (of_process(watcher, *pid, process), *pid))
                .collect(),
            false => Vec::new(),
        };
        if whole || !processes.is_empty() {
            groups.push((of_watcher(watcher), watcher, processes));
        }
    }
    if choice.flat {
        let mut all: Vec<(Key<'_>, &Watcher, i32)> = groups
            .into_iter()
            .flat_map(|(_, watcher, processes)| {
                processes
                    .into_iter()
                    .map(move |(key, pid)| (key, watcher, pid))
            })
            .collect();
        all.sort_by(|(one, ..), (other, ..)| compare(one, other, choice));
        let row = |(_, watcher, pid): (_, &Watcher, i32)| Row {
            watcher: watcher.name.clone(),
            pid: Some(pid),
        };
        return all.into_iter().map(row).collect();
    }
    groups.sort_by(|(one, ..), (other, ..)| compare(one, other, choice));
    let mut rows = Vec::new();
    for (_, watcher, mut processes) in groups {
        rows.push(Row {
            watcher: watcher.name.clone(),
            pid: None,
        });
        processes.sort_by(|(one, _), (other, _)| compare(one, other, choice));
        rows.extend(processes.into_iter().map(|(_, pid)| Row {
            watcher: watcher.name.clone(),
            pid: Some(pid),
        }));
    }
    rows
}

fn has(pid: i32, process: &Process, filter: &str) -> bool {
    pid.to_string().contains(filter)
        || process.command.to_lowercase().contains(filter)
        || process.user.to_lowercase().contains(filter)
}

fn of_watcher(watcher: &Watcher) -> Key<'_> {
    Key {
        usage: watcher.usage(),
        restarts: watcher.restarts,
        born: watcher.born(),
        name: &watcher.name,
        number: 0,
    }
}

fn of_process<'a>(watcher: &'a Watcher, pid: i32, process: &Process) -> Key<'a> {
    Key {
        usage: process.usage,
        restarts: watcher.restarts,
        born: process.born,
        name: &watcher.name,
        number: process.wid.unwrap_or(pid.into()),
    }
}

/// The larger number first, the earlier name first; what is equal goes by name, so that nothing jumps.
fn compare(one: &Key<'_>, other: &Key<'_>, choice: &Choice) -> Ordering {
    let number =
        |value: Option<f64>| value.map_or(f64::NEG_INFINITY, |value| (value * 10.0).round());
    let by_name = || {
        one.name
            .cmp(other.name)
            .then_with(|| one.number.cmp(&other.number))
    };
    let order = match choice.by {
        By::Cpu => number(other.usage.cpu).total_cmp(&number(one.usage.cpu)),
        By::Memory => {
            let size = |usage: Usage| usage.rss.map(|rss| rss as f64).or(usage.mem);
            number(size(other.usage)).total_cmp(&number(size(one.usage)))
        }
        By::Name => by_name(),
        By::Restarts => other.restarts.cmp(&one.restarts),
        By::Uptime => {
            let age = |born: Option<f64>| born.unwrap_or(f64::INFINITY);
            age(one.born).total_cmp(&age(other.born))
        }
    };
    let order = match choice.reversed {
        true => order.reverse(),
        false => order,
    };
    order.then_with(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn board() -> Board {
        let mut board = Board::default();
        let take = |value: Value| value.as_object().unwrap().clone();
        let status = json!({"statuses": {"Web": "active", "mail": "active", "idle": "stopped"}});
        board.take_status(&take(status), 100.0);
        let info = |cpu: f64, rss: &str, age: f64, command: &str| json!({"cpu": cpu, "mem": 0.1, "mem_info1": rss, "age": age, "cmdline": command, "username": "www"});
        let stats = json!({
            "Web": {"11": info(1.0, "3M", 50.0, "python3"), "12": info(7.0, "2M", 60.0, "python3")},
            "mail": {"13": info(5.0, "90M", 10.0, "postfix")},
        });
        board.take_stats(&take(stats), 100.0);
        let topic = |board: &mut Board, code: i64| {
            let payload = take(json!({"process_pid": 9, "exit_code": code}));
            board.take_event("mail", "reap", &payload, 100.0)
        };
        assert_eq!(topic(&mut board, 1).as_deref(), Some("mail"));
        board
    }

    fn shown(board: &Board, choice: &Choice) -> Vec<String> {
        let word = |row: &Row| {
            row.pid
                .map_or(row.watcher.to_string(), |pid| pid.to_string())
        };
        arrange(board, choice).iter().map(word).collect()
    }

    #[test]
    fn lines_are_ordered_within_their_watchers() {
        let board = board();
        for (by, reversed, expected) in [
            (By::Cpu, false, "Web 12 11 mail 13 idle"),
            (By::Cpu, true, "idle mail 13 Web 11 12"),
            (By::Memory, false, "mail 13 Web 11 12 idle"),
            (By::Name, false, "Web 11 12 idle mail 13"),
            (By::Restarts, false, "mail 13 Web 11 12 idle"),
            (By::Uptime, false, "Web 12 11 mail 13 idle"),
        ] {
            let choice = Choice {
                by,
                reversed,
                ..Choice::default()
            };
            assert_eq!(shown(&board, &choice).join(" "), expected, "{by:?}");
        }
        assert_eq!(By::Uptime.step(1), By::Cpu);
        assert_eq!(By::Cpu.step(4), By::Uptime);
    }

    #[test]
    fn lines_are_folded_flattened_and_filtered() {
        let board = board();
        let mut choice = Choice {
            touched: ["web".to_string()].into(),
            ..Choice::default()
        };
        assert_eq!(shown(&board, &choice), ["Web", "mail", "13", "idle"]);
        choice.unfolded = false;
        assert_eq!(shown(&board, &choice), ["Web", "12", "11", "mail", "idle"]);
        let filtered = |filter: &str, flat: bool| {
            let choice = Choice {
                filter: filter.to_string(),
                flat,
                unfolded: false,
                ..Choice::default()
            };
            shown(&board, &choice).join(" ")
        };
        assert_eq!(filtered("", true), "12 13 11");
        assert_eq!(filtered("WEB", true), "12 11");
        assert_eq!(filtered("i", false), "mail idle");
        assert_eq!(filtered("post", false), "mail 13");
        assert_eq!(filtered("13", false), "mail 13");
        assert_eq!(filtered("none", false), "");
    }
}
