//! `circ status NAME`: all about one watcher. Pure.

use serde_json::{Map, Value};

use super::picture::{self, Watcher};
use super::web;
use crate::cli::output::{self, plain};
use crate::cli::paint::{Cell, Paint, Tone, cut, signal, span, table};
use crate::config;
use crate::options::WatcherOptions;
use crate::state::values;
use crate::stats::human_bytes;

/// What the daemon answers about a watcher.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub name: String,
    /// To `status`, with details if it knows them.
    pub told: Map<String, Value>,
    /// To `options`; empty if it did not answer.
    pub options: Map<String, Value>,
    /// To `stats`: statistics by process id.
    pub statistics: Option<Value>,
    /// To `listsockets`.
    pub sockets: Vec<Value>,
    /// What its web servers have counted, of the reply to `metrics`.
    pub front: Option<Value>,
    /// When, in seconds since the epoch.
    pub now: f64,
}

impl Page {
    /// The page, no wider than `width`.
    pub fn lines(&self, width: Option<usize>, paint: Paint) -> Vec<String> {
        let watcher = picture::watcher(&self.name, &self.told, self.statistics.as_ref(), self.now);
        let mut out = Out::new(width, paint);
        self.head(&watcher, &mut out);
        self.processes(&mut out);
        self.sockets(&mut out);
        if let Some(front) = &self.front {
            web::lines(front, &mut out);
        }
        self.streams(&mut out);
        self.options(&mut out);
        self.events(&mut out);
        self.last_exit(&mut out);
        out.lines
    }

    fn head(&self, watcher: &Watcher, out: &mut Out) {
        let mut line = vec![(watcher.name.clone(), Tone::Strong)];
        line.push((watcher.state.to_string(), watcher.tone));
        let mut facts = Vec::new();
        if let (Some(running), Some(wanted)) = (watcher.running, watcher.wanted) {
            facts.push(format!("{running} of {wanted} processes"));
        }
        let since = self.told.get("since").and_then(Value::as_f64);
        facts.extend(since.map(|since| format!("up {}", span(self.now - since))));
        let count = |key: &str, word: &str| {
            let number = self.told.get(key).and_then(Value::as_u64)?;
            Some(format!(
                "{number} {word}{}",
                if number == 1 { "" } else { "s" }
            ))
        };
        facts.extend(count("restarts", "restart"));
        line.push((facts.join(", "), Tone::Plain));
        out.lines.extend(table(&[line], out.width, out.paint));
        let command: Vec<String> = ["cmd", "args"]
            .iter()
            .filter_map(|key| self.options.get(*key))
            .map(words)
            .filter(|text| !text.is_empty())
            .collect();
        if !command.is_empty() {
            out.line(Tone::Faint, &command.join(" "));
        }
        if let Some(trouble) = self.told.get("trouble") {
            out.line(Tone::Bad, &plain(trouble));
        }
        if let Some(by) = self.told.get("stopped_by") {
            out.line(Tone::Busy, &picture::stopped_by(by));
        }
        let failures = self.told.get("failures").and_then(Value::as_u64);
        let next = self.told.get("next_start").and_then(Value::as_f64);
        if let (Some(failures @ 2..), Some(next)) = (failures, next) {
            let left = span((next - self.now).ceil());
            out.line(
                Tone::Bad,
                &format!("failed {failures} times in a row; the next try is in {left}"),
            );
        }
    }

    fn processes(&self, out: &mut Out) {
        let statistics = self.statistics.as_ref().and_then(Value::as_object);
        let workers = self.told.get("workers").and_then(Value::as_array);
        let pids: Vec<i64> = match workers {
            Some(workers) => workers
                .iter()
                .filter_map(|worker| worker.get("pid")?.as_i64())
                .collect(),
            None => statistics
                .into_iter()
                .flat_map(Map::keys)
                .filter_map(|pid| pid.parse().ok())
                .collect(),
        };
        if pids.is_empty() {
            return;
        }
        out.heading("Processes");
        let head = ["PID", "WID", "UPTIME", "CPU%", "MEM", "CHILDREN", "COMMAND"];
        let mut rows = vec![head.map(|text| (text.to_string(), Tone::Faint)).to_vec()];
        for pid in pids {
            let worker = workers
                .into_iter()
                .flatten()
                .find(|worker| worker.get("pid").and_then(Value::as_i64) == Some(pid));
            let process = statistics.and_then(|all| all.get(&pid.to_string())?.as_object());
            rows.push(self.process(pid, worker, process));
        }
        out.table(&rows);
    }

    fn process(
        &self,
        pid: i64,
        worker: Option<&Value>,
        process: Option<&Map<String, Value>>,
    ) -> Vec<Cell> {
        let from_start =
            worker.and_then(|worker| Some(self.now - worker.get("started")?.as_f64()?));
        let age = || process?.get("age")?.as_f64();
        let leaving = worker.is_some_and(|worker| worker.get("leaving") == Some(&true.into()));
        let wid = worker.and_then(|worker| worker.get("wid"));
        let wid = wid.or_else(|| process?.get("wid")).map(plain);
        let children = process.and_then(|process| process.get("children")?.as_array());
        let mut command = process
            .and_then(|process| process.get("cmdline"))
            .map(plain)
            .unwrap_or_default();
        if leaving {
            command.push_str(" (stopping)");
        }
        let dash = || "-".to_string();
        let tone = if leaving { Tone::Faint } else { Tone::Plain };
        [
            pid.to_string(),
            wid.unwrap_or_else(dash),
            from_start.or_else(age).map_or_else(dash, span),
            process.map_or_else(dash, |one| {
                format!("{:.1}", picture::sum(one, &picture::cpu))
            }),
            process.map_or_else(dash, |one| {
                human_bytes(picture::sum(one, &picture::memory) as u64)
            }),
            children.map_or(0, Vec::len).to_string(),
            command,
        ]
        .map(|cell| (cell, tone))
        .to_vec()
    }

    /// The watcher's options as its daemon has them.
    fn watcher(&self) -> Option<WatcherOptions> {
        let mut options = WatcherOptions::ini_defaults(&self.name);
        for (key, value) in &self.options {
            // What a circusd holds that the table does not take is of no use here.
            let _ = options.put(key, value.clone());
        }
        (!self.options.is_empty()).then_some(options)
    }

    fn sockets(&self, out: &mut Out) {
        let Some(watcher) = self.watcher() else {
            return;
        };
        let rows: Vec<Vec<Cell>> = self
            .sockets
            .iter()
            .filter(|socket| {
                let name = socket
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                config::uses_socket(&watcher, name)
            })
            .map(|socket| {
                let field = |key: &str| socket.get(key).map(plain).unwrap_or_default();
                let place = match socket.get("path") {
                    Some(path) => plain(path),
                    None => format!("{}:{}", field("host"), field("port")),
                };
                let (queue, tone) = queue(socket);
                let mut row = [field("name"), place, format!("fd {}", field("fd"))]
                    .map(|cell| (cell, Tone::Plain))
                    .to_vec();
                row.push((queue, tone));
                row
            })
            .collect();
        if !rows.is_empty() {
            out.heading("Sockets");
            out.table(&rows);
        }
    }

    fn streams(&self, out: &mut Out) {
        let streams = self.told.get("streams").and_then(Value::as_object);
        let mut rows = Vec::new();
        for (name, stream) in streams.into_iter().flatten() {
            let text = |key: &str| stream.get(key).map(plain).unwrap_or_default();
            let number = |key: &str| stream.get(key).and_then(Value::as_u64).unwrap_or(0);
            let place = match text("file") {
                file if file.is_empty() => text("class"),
                file => file,
            };
            let mut said = human_bytes(number("bytes"));
            let dropped = number("dropped");
            if dropped > 0 {
                said.push_str(&format!(", {} dropped", human_bytes(dropped)));
            }
            let trouble = text("trouble");
            let tone = match dropped > 0 || !trouble.is_empty() {
                true => Tone::Bad,
                false => Tone::Plain,
            };
            rows.push(
                [name.clone(), place, said, trouble]
                    .map(|cell| (cell, tone))
                    .to_vec(),
            );
        }
        if !rows.is_empty() {
            out.heading("Output");
            out.table(&rows);
        }
    }

    /// What somebody has chosen.
    fn options(&self, out: &mut Out) {
        let defaults = WatcherOptions::ini_defaults(&self.name);
        let is_default = |key: &str, value: &Value| {
            let default = defaults.get(key);
            let absent = matches!(value, Value::Null)
                || value.as_object().is_some_and(Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty);
            absent || values::same(key, default, Some(value))
        };
        let in_head = ["cmd", "args", "name", config::NAME_KEY];
        let rows: Vec<Vec<Cell>> = self
            .options
            .iter()
            .filter(|(key, value)| {
                !in_head.contains(&key.as_str()) && !is_default(key.as_str(), value)
            })
            .map(|(key, value)| {
                let shown = match (key.as_str(), value) {
                    // Secrets are passed in the environment.
                    ("env", Value::Object(env)) => names_of(env),
                    _ => words(value),
                };
                vec![
                    (plain(&key.as_str().into()), Tone::Plain),
                    (shown, Tone::Plain),
                ]
            })
            .collect();
        if !rows.is_empty() {
            out.heading("Options that are not the default");
            out.table(&rows);
        }
    }

    fn events(&self, out: &mut Out) {
        let events = self.told.get("events").and_then(Value::as_array);
        let rows: Vec<Vec<Cell>> = events
            .into_iter()
            .flatten()
            .map(|event| {
                let time = event
                    .get("time")
                    .and_then(Value::as_f64)
                    .unwrap_or(self.now);
                let number = |key: &str| event.get(key).and_then(Value::as_i64);
                let mut rest = Vec::new();
                rest.extend(number("pid").map(|pid| format!("pid {pid}")));
                rest.extend(number("exit_code").map(|code| match code {
                    ..0 => signal(-code),
                    code => format!("exit code {code}"),
                }));
                for key in ["hook", "error"] {
                    rest.extend(event.get(key).map(plain));
                }
                let what = event.get("event").map(plain).unwrap_or_default();
                [
                    format!("{} ago", span(self.now - time)),
                    what,
                    rest.join(", "),
                ]
                .map(|cell| (cell, Tone::Plain))
                .to_vec()
            })
            .collect();
        if !rows.is_empty() {
            out.heading("Last events");
            out.table(&rows);
        }
    }

    fn last_exit(&self, out: &mut Out) {
        let Some(last) = self.told.get("last_exit") else {
            return;
        };
        out.heading("Last exit");
        let number = |key: &str| last.get(key).and_then(Value::as_i64);
        let end = match (number("code"), number("signal"), last.get("reason")) {
            (Some(code), ..) => format!("exited with code {code}"),
            (_, Some(number), _) => format!("was killed by {}", signal(number)),
            (_, _, Some(reason)) => format!("could not be started: {}", plain(reason)),
            _ => "ended".to_string(),
        };
        let seconds = |key: &str| last.get(key).and_then(Value::as_f64).unwrap_or_default();
        let who = match number("pid") {
            Some(pid) => format!("process {pid} {end} after {:.3} s", seconds("lived")),
            None => format!("a worker {end}"),
        };
        let time = seconds("time");
        let when = format!("{}, {} ago", output::utc(time), span(self.now - time));
        out.line(Tone::Plain, &format!("  {who} ({when})"));
        let said = last.get("stderr").and_then(Value::as_array);
        for line in said.into_iter().flatten() {
            out.line(Tone::Bad, &format!("  | {}", plain(line)));
        }
    }
}

/// What waits at a socket, as far as it is known, of what may.
fn queue(socket: &Value) -> (String, Tone) {
    let number = |key: &str| socket.get(key).and_then(Value::as_u64);
    let backlog = number("backlog");
    let Some((waiting, limit)) = number("waiting").zip(number("limit")) else {
        let text = backlog.map(|backlog| format!("backlog {backlog}"));
        return (text.unwrap_or_default(), Tone::Plain);
    };
    let mut text = format!("{waiting} of {limit} waiting");
    // with so_reuseport each worker has a queue of its own, and the limit is that of all of them
    if let Some(backlog) = backlog.filter(|backlog| *backlog > limit) {
        text.push_str(&format!(
            " (backlog {backlog}, net.core.somaxconn is lower)"
        ));
    }
    if socket.get("full") == Some(&Value::Bool(true)) {
        text.push_str(", full: no more are taken");
        return (text, Tone::Bad);
    }
    (text, Tone::Plain)
}

/// The names of the variables, not their values.
fn names_of(env: &Map<String, Value>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<String> = env
        .keys()
        .filter(|name| *name != config::NAME_KEY)
        .map(|name| plain(&name.as_str().into()))
        .collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        all => format!("{}, … ({all} variables)", names[..SHOWN].join(", ")),
    }
}

/// A value as words.
fn words(value: &Value) -> String {
    match value {
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        value => plain(value),
    }
}

/// The page as it grows.
pub struct Out {
    /// What there is so far.
    pub lines: Vec<String>,
    width: Option<usize>,
    paint: Paint,
}

impl Out {
    /// An empty page, no wider than `width`.
    pub fn new(width: Option<usize>, paint: Paint) -> Out {
        Out {
            lines: Vec::new(),
            width,
            paint,
        }
    }

    /// One more line.
    pub fn line(&mut self, tone: Tone, text: &str) {
        let shown = self
            .width
            .map_or(text.to_string(), |width| cut(text, width));
        self.lines.push(self.paint.tone(tone, &shown));
    }

    /// The head of a part.
    pub fn heading(&mut self, text: &str) {
        self.lines.push(String::new());
        self.line(Tone::Strong, text);
    }

    fn table(&mut self, rows: &[Vec<Cell>]) {
        let width = self.width.map(|width| width.saturating_sub(2));
        let lines = table(rows, width, self.paint);
        self.lines
            .extend(lines.into_iter().map(|line| format!("  {line}")));
    }
}
