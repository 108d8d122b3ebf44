//! What circus-top shows: the last message of each process, and the lines of the screen made of them.
//!
//! The layout is the real one's, column for column. Better than there: processes are sorted by their CPU as numbers,
//! what is heard of no more leaves the screen with its watcher, and a watcher may have a dot in its name.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::cli::output;

/// Processes of a watcher that are shown.
const MOST: usize = 10;
/// Watchers that are not shown: their processes are among those of `circus`.
const HIDDEN: [&str; 2] = ["circusd-stats", "circushttpd"];

/// The statistics that have come, by watcher and by process. The text of a process is the part of its topic.
#[derive(Debug, Default)]
pub struct Board {
    groups: BTreeMap<String, BTreeMap<String, Entry>>,
    /// When the last message came.
    last: Option<f64>,
}

#[derive(Debug)]
struct Entry {
    stat: Map<String, Value>,
    when: f64,
}

/// The part of the topic of that which is about all processes of a watcher.
const ALL: &str = "all";

impl Board {
    /// Takes a message. `now` is in seconds of any clock; what is older than `keep` seconds goes when something newer
    /// of its kind comes.
    pub fn take(&mut self, topic: &[u8], payload: &[u8], now: f64, keep: f64) {
        let topic = String::from_utf8_lossy(topic);
        let Some(name) = topic.strip_prefix("stat.") else {
            return;
        };
        let Ok(Value::Object(stat)) = serde_json::from_slice(payload) else {
            return;
        };
        let (watcher, part) = match stat.get("subtopic") {
            Some(_) => match name.rsplit_once('.') {
                Some(split) => split,
                None => return,
            },
            None => (name, ALL),
        };
        let old = |entry: &Entry| entry.when < now - keep;
        let group = self.groups.entry(watcher.to_string()).or_default();
        group.retain(|_, entry| !old(entry));
        group.insert(part.to_string(), Entry { stat, when: now });
        self.groups.retain(|_, group| !group.values().all(old));
        self.last = Some(now);
    }

    /// For how many seconds nothing has come; `None` if nothing ever has.
    pub fn silent_for(&self, now: f64) -> Option<f64> {
        self.last.map(|last| now - last)
    }

    /// The screen: lines of `width` columns, the last of which stays free, without spaces at their ends.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let width = width.saturating_sub(1);
        let mut lines = vec![put(width, &[(0, "Circus Top")]), "-".repeat(width)];
        for (name, group) in &self.groups {
            if HIDDEN.contains(&name.as_str()) {
                continue;
            }
            let name = output::plain(&Value::from(name.replace('-', ".")));
            lines.push(put(width, &[(0, &name)]));
            match name.as_str() {
                "sockets" => sockets(&mut lines, width, group),
                _ => processes(&mut lines, width, group),
            }
            lines.push(String::new());
        }
        if !self.groups.is_empty() {
            lines.push("-".repeat(width));
        }
        lines
    }
}

fn sockets(lines: &mut Vec<String>, width: usize, group: &BTreeMap<String, Entry>) {
    lines.push(put(width, &[(3, "ADDRESS"), (28, "HITS")]));
    let mut total = 0;
    let mut rows: Vec<(u64, String)> = Vec::new();
    for entry in group.values() {
        let reads = entry.stat.get("reads").and_then(Value::as_u64);
        let reads = reads.unwrap_or_default();
        match entry.stat.get("address") {
            Some(address) => rows.push((reads, output::plain(address))),
            None => total = reads,
        }
    }
    rows.sort();
    for (reads, address) in rows.iter().rev() {
        lines.push(put(width, &[(2, address), (29, &format!("{reads:>3}"))]));
    }
    lines.push(put(width, &[(29, &format!("{total:>3} (sum)"))]));
}

fn processes(lines: &mut Vec<String>, width: usize, group: &BTreeMap<String, Entry>) {
    let head = [
        (3, "PID"),
        (28, "CPU (%)"),
        (48, "MEMORY (%)"),
        (68, "AGE (s)"),
    ];
    lines.push(put(width, &head));
    let mut rows: Vec<&Map<String, Value>> = group
        .iter()
        .filter(|(part, _)| *part != ALL)
        .map(|(_, entry)| &entry.stat)
        .collect();
    rows.sort_by(|one, other| busier(other, one));
    for stat in rows.into_iter().take(MOST) {
        let pid = stat.get("pid").map(output::plain).unwrap_or_default();
        let pid = match stat.get("name") {
            Some(name) if !name.is_null() => format!("{pid} ({})", output::plain(name)),
            _ => pid,
        };
        let [cpu, mem, age] = ["cpu", "mem", "age"].map(|key| number(stat, key));
        lines.push(put(width, &[(2, &pid), (29, &cpu), (49, &mem), (69, &age)]));
    }
    let total = match group.get(ALL) {
        Some(Entry { stat, .. }) => {
            let [cpu, mem, age] = ["cpu", "mem", "age"].map(|key| number(stat, key));
            [
                format!("{cpu} (avg)"),
                format!("{mem} (sum)"),
                format!("{age} (older)"),
            ]
        }
        None => Default::default(),
    };
    let [cpu, mem, age] = &total;
    lines.push(put(width, &[(29, cpu), (49, mem), (69, age)]));
}

/// A number with two decimals, or what stands in its place.
fn number(stat: &Map<String, Value>, key: &str) -> String {
    match stat.get(key) {
        Some(value) => match value.as_f64() {
            Some(number) => format!("{number:.2}"),
            None => output::plain(value),
        },
        None => "N/A".to_string(),
    }
}

/// By CPU, then memory, then age; what is not known comes first.
fn busier(one: &Map<String, Value>, other: &Map<String, Value>) -> Ordering {
    let by = |key: &str| {
        let number = |stat: &Map<String, Value>| stat.get(key).and_then(Value::as_f64);
        let known = |stat| number(stat).unwrap_or(f64::NEG_INFINITY);
        known(one).total_cmp(&known(other))
    };
    by("cpu").then(by("mem")).then(by("age"))
}

/// Texts at their columns, each over the rest of the line, cut at the width.
fn put(width: usize, texts: &[(usize, &str)]) -> String {
    let mut line: Vec<char> = Vec::new();
    for (column, text) in texts {
        line.resize(*column, ' ');
        line.extend(text.chars());
    }
    line.truncate(width);
    let line: String = line.into_iter().collect();
    line.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(messages: &[(&str, &str)]) -> Board {
        let mut board = Board::default();
        for (topic, payload) in messages {
            board.take(topic.as_bytes(), payload.as_bytes(), 10.0, 3.0);
        }
        board
    }

    #[test]
    fn a_screen_as_the_real_one_paints_it() {
        let board = board(&[
            (
                "stat.web-app.7",
                r#"{"pid":7,"cpu":9.5,"mem":1.25,"age":3.0,"subtopic":7,"name":null}"#,
            ),
            (
                "stat.web-app.8",
                r#"{"pid":8,"cpu":10.0,"mem":1.0,"age":2.0,"subtopic":8,"name":null}"#,
            ),
            (
                "stat.web-app",
                r#"{"pid":[7,8],"cpu":9.75,"mem":2.25,"age":3.0}"#,
            ),
            (
                "stat.circus.1",
                r#"{"pid":1,"cpu":"N/A","mem":0.1,"age":9.0,"subtopic":1,"name":"circusd"}"#,
            ),
            (
                "stat.circusd-stats.2",
                r#"{"pid":2,"cpu":0.0,"mem":0.1,"age":9.0,"subtopic":2,"name":null}"#,
            ),
            (
                "stat.sockets.5",
                r#"{"fd":5,"subtopic":5,"reads":3,"address":"127.0.0.1:80"}"#,
            ),
            (
                "stat.sockets",
                r#"{"addresses":["127.0.0.1:80"],"reads":3}"#,
            ),
            ("watcher.x.spawn", "{}"),
            ("stat.bad", "[]"),
        ]);
        let want = "\
Circus Top
-------------------------------------------------------------------------------
circus
   PID                      CPU (%)             MEMORY (%)          AGE (s)
  1 (circusd)                N/A                 0.10                9.00


sockets
   ADDRESS                  HITS
  127.0.0.1:80                 3
                               3 (sum)

web.app
   PID                      CPU (%)             MEMORY (%)          AGE (s)
  8                          10.00               1.00                2.00
  7                          9.50                1.25                3.00
                             9.75 (avg)          2.25 (sum)          3.00 (olde

-------------------------------------------------------------------------------";
        assert_eq!(board.lines(80).join("\n"), want);
        assert!(board.lines(40).iter().all(|line| line.len() < 40));
        assert!(board.lines(0).iter().all(String::is_empty));
    }

    #[test]
    fn what_is_heard_of_no_more_goes() {
        let mut board = board(&[
            ("stat.a.1", r#"{"pid":1,"subtopic":1}"#),
            ("stat.b.2", r#"{"pid":2,"subtopic":2}"#),
            ("stat.c.d.3", r#"{"pid":3,"subtopic":3}"#),
        ]);
        assert_eq!(board.groups.keys().collect::<Vec<_>>(), ["a", "b", "c.d"]);
        board.take(b"stat.a.4", br#"{"pid":4,"subtopic":4}"#, 12.0, 3.0);
        assert_eq!(board.groups["a"].len(), 2);
        board.take(b"stat.a.4", br#"{"pid":4,"subtopic":4}"#, 13.5, 3.0);
        assert_eq!(board.groups.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(board.groups["a"].keys().collect::<Vec<_>>(), ["4"]);
        assert_eq!(board.silent_for(14.0), Some(0.5));
    }

    #[test]
    fn ten_processes_at_most_and_no_escape_sequences() {
        let mut board = Board::default();
        for pid in 1..20 {
            let payload =
                format!(r#"{{"pid":{pid},"cpu":{pid},"mem":0,"age":0,"subtopic":{pid}}}"#);
            board.take(
                format!("stat.\u{1b}[2J.{pid}").as_bytes(),
                payload.as_bytes(),
                0.0,
                3.0,
            );
        }
        let lines = board.lines(80);
        assert_eq!(lines.len(), 2 + 2 + 10 + 1 + 1 + 1, "{lines:?}");
        assert!(lines[4].starts_with("  19 "), "{lines:?}");
        assert!(!lines.join("").contains('\u{1b}'));
    }
}
