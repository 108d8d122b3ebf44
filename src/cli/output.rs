//! The one place that turns results into what a person, a script or a playbook reads.
//!
//! Nothing here panics when the reader has gone away: a closed pipe just ends the output.

pub mod state;

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::wire::pytext;

/// Writes bytes to standard output; false when nobody reads them.
pub fn bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Writes a text and a line feed to standard output; false when nobody reads it.
pub fn line(text: &str) -> bool {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a text that may have several lines, or none: nothing at all is written for an empty one.
pub fn text(text: &str) -> bool {
    text.is_empty() || line(text)
}

/// Writes an error to standard error.
pub fn error(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "error: {text}");
}

/// Writes a text and a line feed to standard error.
pub fn plain_error(text: &str) {
    raw_error(&format!("{text}\n"));
}

/// Writes a text to standard error as it is.
pub fn raw_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What an error reply says.
pub fn refusal(reply: &Value) -> String {
    let reason = reply
        .get("reason")
        .map_or_else(|| "the daemon gave no reason".to_string(), plain);
    match reply.get("errno").and_then(Value::as_i64) {
        Some(errno) => format!("{reason} (errno {errno})"),
        None => reason,
    }
}

/// The reply to `command` in words and columns.
pub fn reply(command: &str, reply: &Value) -> String {
    let shown = match command {
        "status" => status(reply),
        "list" => names(reply, "pids").or_else(|| names(reply, "watchers")),
        "get" | "options" | "globaloptions" => options(reply),
        "numprocesses" | "numwatchers" => reply.get(command).map(plain),
        "incr" | "decr" => number(reply),
        "listsockets" => sockets(reply),
        "stats" => stats(reply),
        "dstats" => reply.get("info").map(|info| process_table(&[("", info)])),
        "ipython" => kernel(reply),
        "identity" => identity(reply),
        "reloadconfig" => reloaded(reply),
        _ => changes(reply),
    };
    shown.unwrap_or_else(|| "ok".to_string())
}

/// A value without quotes around a text, on one line; null is nothing. Control characters are
/// escaped: what a daemon says must not steer the terminal it is shown on.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains(char::is_control) => text
            .chars()
            .map(|c| match c {
                c if c.is_control() => c.escape_default().to_string(),
                c => c.to_string(),
            })
            .collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A moment, in seconds since the epoch, as `2026-11-21T08:00:00.000Z`.
pub fn utc(seconds: f64) -> String {
    if !seconds.is_finite() || seconds.abs() > 1e11 {
        return pytext::float_repr(seconds);
    }
    let millis = (seconds * 1000.0).round() as i64;
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(moment) => format!("{moment:.3}"),
        Err(_) => pytext::float_repr(seconds),
    }
}

/// Rows as columns, two spaces apart; the last column is not padded.
pub fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            line.trim_end().to_string()
        })
        .collect();
    lines.join("\n")
}

/// What a person reads of a watcher that starts at the next connection; circus calls it stopped.
const WAITING: &str = "waiting";

fn status(reply: &Value) -> Option<String> {
    let Some(statuses) = reply.get("statuses").and_then(Value::as_object) else {
        let mut text = reply.get("status").map(plain)?;
        if reply.get("waiting").and_then(Value::as_bool) == Some(true) {
            text = WAITING.to_string();
        }
        if let Some(trouble) = reply.get("trouble") {
            text.push_str(&format!("  {}", plain(trouble)));
        }
        if let Some(last) = reply.get("last_exit") {
            text.push_str(&format!("\n{}", last_exit(last)));
        }
        for line in streams(reply) {
            text.push_str(&format!("\n{line}"));
        }
        return Some(text);
    };
    // circ's daemon says why workers cannot be started or do not stay; circusd does not
    let trouble = |name: &str| reply.get("troubles").and_then(|all| all.get(name));
    let waiting = reply.get("waiting").and_then(Value::as_array);
    let waits =
        |name: &String| waiting.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
    let mut rows: Vec<Vec<String>> = statuses
        .iter()
        .map(|(name, status)| {
            let status = if waits(name) {
                WAITING.to_string()
            } else {
                plain(status)
            };
            let mut row = vec![name.clone(), status];
            row.extend(trouble(name).map(plain));
            row
        })
        .collect();
    rows.sort();
    Some(columns(&rows))
}

/// What is wrong with the output streams of a watcher.
fn streams(reply: &Value) -> Vec<String> {
    let streams = reply.get("streams").and_then(Value::as_object);
    let mut lines = Vec::new();
    for (name, stream) in streams.into_iter().flatten() {
        if let Some(trouble) = stream.get("trouble") {
            lines.push(format!("{name}: {}", plain(trouble)));
        }
        let dropped = stream.get("dropped").and_then(Value::as_u64).unwrap_or(0);
        if dropped > 0 {
            lines.push(format!(
                "{name}: {dropped} bytes were dropped since the daemon started"
            ));
        }
    }
    lines
}

/// How a watcher last lost a worker, and what that said last.
fn last_exit(last: &Value) -> String {
    let number = |key: &str| last.get(key).and_then(Value::as_i64);
    let seconds = |key: &str| last.get(key).and_then(Value::as_f64).unwrap_or_default();
    let end = match (number("code"), number("signal"), last.get("reason")) {
        (Some(code), ..) => format!("exited with code {code}"),
        (_, Some(signal), _) => format!("was killed by signal {signal}"),
        (_, _, Some(reason)) => format!("not started: {}", plain(reason)),
        _ => "ended".to_string(),
    };
    let mut text = format!("last exit {}: ", utc(seconds("time")));
    match number("pid") {
        Some(pid) => text.push_str(&format!(
            "process {pid} {end} after {:.3} s",
            seconds("lived")
        )),
        None => text.push_str(&end),
    }
    let said = last.get("stderr").and_then(Value::as_array);
    for line in said.into_iter().flatten() {
        text.push_str(&format!("\n  {}", plain(line)));
    }
    text
}

fn names(reply: &Value, key: &str) -> Option<String> {
    let names: Vec<String> = reply.get(key)?.as_array()?.iter().map(plain).collect();
    Some(names.join("\n"))
}

fn options(reply: &Value) -> Option<String> {
    let options = reply.get("options")?.as_object()?;
    let lines: Vec<String> = options
        .iter()
        .map(|(key, value)| format!("{key} = {}", plain(value)).trim_end().to_string())
        .collect();
    Some(lines.join("\n"))
}

fn number(reply: &Value) -> Option<String> {
    let number = plain(reply.get("numprocesses")?);
    Some(if reply.get("singleton").is_some() {
        format!("{number} (a singleton: the number does not change)")
    } else {
        number
    })
}

fn sockets(reply: &Value) -> Option<String> {
    let rows: Vec<Vec<String>> = reply
        .get("sockets")?
        .as_array()?
        .iter()
        .map(|socket| {
            let field = |key: &str| socket.get(key).map(plain).unwrap_or_default();
            let place = match socket.get("path") {
                Some(path) => plain(path),
                None => format!("{}:{}", field("host"), field("port")),
            };
            let mut row = vec![field("name"), format!("fd {}", field("fd")), place];
            if socket.get("waiting").is_some() {
                row.push(format!(
                    "{} of {} waiting",
                    field("waiting"),
                    field("limit")
                ));
            }
            row
        })
        .collect();
    Some(columns(&rows))
}

fn kernel(reply: &Value) -> Option<String> {
    let shell = reply.get("shell")?;
    Some(if pytext::truthy(shell) {
        plain(shell)
    } else {
        let reason = reply.get("msg").map(plain).unwrap_or_default();
        format!("no IPython kernel: {reason}")
    })
}

fn identity(reply: &Value) -> Option<String> {
    let of = |key: &str| reply.get(key).map(plain).unwrap_or_default();
    let started = reply.get("started").and_then(Value::as_f64);
    let mut lines = vec![
        format!("program  {} {}", of("program"), of("version")),
        format!("pid      {}, user {}", of("pid"), of("uid")),
        format!("started  {}", started.map(utc).unwrap_or_default()),
        format!("cwd      {}", of("cwd")),
        format!("config   {}", of("config")),
    ];
    let files = reply.get("files")?.as_array()?;
    let included = files.iter().skip(1);
    lines.extend(included.map(|file| format!("         {}", plain(file))));
    Some(lines.join("\n"))
}

/// What a changed configuration changed, or would.
fn reloaded(reply: &Value) -> Option<String> {
    let list = |value: Option<&Value>| -> String {
        let items = value.and_then(Value::as_array);
        let items: Vec<String> = items.into_iter().flatten().map(plain).collect();
        items.join(", ")
    };
    let mut lines = Vec::new();
    if let Some(plan) = reply.get("plan").and_then(Value::as_array) {
        let row = |entry: &Value| {
            let because = list(entry.get("because"));
            let why = match (list(entry.get("keys")), because.is_empty()) {
                (keys, true) => keys,
                (keys, false) if keys.is_empty() => format!("because of {because}"),
                (keys, false) => format!("{keys}; because of {because}"),
            };
            let text = |key: &str| entry.get(key).map(plain).unwrap_or_default();
            vec![text("section"), text("action"), why]
        };
        let rows: Vec<Vec<String>> = plan.iter().map(row).collect();
        lines.push(match rows.is_empty() {
            true => "nothing would change".to_string(),
            false => columns(&rows),
        });
        let reloaded = list(reply.get("reloaded"));
        if !reloaded.is_empty() {
            lines.push(format!("would be reloaded: {reloaded}"));
        }
    } else {
        let changed = list(Some(reply.get("changed")?));
        lines.push(match changed.is_empty() {
            true => "nothing has changed".to_string(),
            false => format!("changed: {changed}"),
        });
        let reloaded = list(reply.get("reloaded"));
        if !reloaded.is_empty() {
            lines.push(format!("reloaded: {reloaded}"));
        }
    }
    let waits = list(reply.get("restart_needed"));
    if !waits.is_empty() {
        lines.push(format!(
            "takes effect when the daemon is started anew: {waits}"
        ));
    }
    let notes = reply.get("notes").and_then(Value::as_array);
    lines.extend(notes.into_iter().flatten().map(plain));
    Some(lines.join("\n"))
}

/// The processes that a waiting command started, kept and stopped.
fn changes(reply: &Value) -> Option<String> {
    let info = reply.get("info").unwrap_or(reply);
    let lines: Vec<String> = ["started", "kept", "stopped"]
        .iter()
        .filter_map(|what| {
            let pids: Vec<String> = info.get(what)?.as_array()?.iter().map(plain).collect();
            (!pids.is_empty()).then(|| format!("{what}: {}", pids.join(", ")))
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn stats(reply: &Value) -> Option<String> {
    if let Some(infos) = reply.get("infos").and_then(Value::as_object) {
        let mut processes = Vec::new();
        let mut silent = Vec::new();
        for (name, info) in infos {
            match info.as_object() {
                Some(info) if !info.is_empty() => {
                    processes.extend(info.values().map(|process| (name.as_str(), process)));
                }
                _ => silent.push(name.as_str()),
            }
        }
        let mut text = process_table(&processes);
        if !silent.is_empty() {
            text.push_str(&format!("\nno processes: {}", silent.join(", ")));
        }
        return Some(text);
    }
    let info = reply.get("info")?;
    if let Some(name) = reply.get("name").and_then(Value::as_str) {
        let processes: Vec<(&str, &Value)> = info
            .as_object()?
            .values()
            .map(|process| (name, process))
            .collect();
        if processes.is_empty() {
            return Some(format!("no processes: {name}"));
        }
        return Some(process_table(&processes));
    }
    Some(process_table(&[("", info)]))
}

/// A table of processes, each under the name of its watcher and followed by its children.
fn process_table(processes: &[(&str, &Value)]) -> String {
    const HEAD: [&str; 9] = [
        "PID", "CPU%", "MEM%", "RSS", "VIRT", "TIME", "NICE", "USER", "COMMAND",
    ];
    const KEYS: [&str; 9] = [
        "pid",
        "cpu",
        "mem",
        "mem_info1",
        "mem_info2",
        "ctime",
        "nice",
        "username",
        "cmdline",
    ];
    let named = processes.iter().any(|(name, _)| !name.is_empty());
    let first = named.then(|| "WATCHER".to_string());
    let more = further_keys(processes, &KEYS);
    let head = HEAD.iter().map(ToString::to_string);
    let head = head.chain(
        more.iter()
            .map(|key| plain(&Value::from(key.to_uppercase()))),
    );
    let mut rows: Vec<Vec<String>> = vec![first.into_iter().chain(head).collect()];
    let mut row = |name: &str, process: &Map<String, Value>, child: bool| {
        let first = named.then(|| name.to_string());
        let cells = KEYS.iter().chain(&more).map(|key| {
            let cell = process.get(*key).map(plain).unwrap_or_default();
            if child && *key == "pid" {
                format!("+ {cell}")
            } else {
                cell
            }
        });
        rows.push(first.into_iter().chain(cells).collect());
    };
    for (name, process) in processes {
        match process {
            Value::Object(process) => {
                row(name, process, false);
                let children = process.get("children").and_then(Value::as_array);
                for child in children.into_iter().flatten().filter_map(Value::as_object) {
                    row(name, child, true);
                }
            }
            // A process that cannot be read is a sentence in place of its numbers.
            other => {
                let mut broken = Map::new();
                broken.insert("cmdline".into(), Value::from(plain(other)));
                row(name, &broken, false);
            }
        }
    }
    columns(&rows)
}

/// What is told of workers beside what every daemon tells: by their watcher's extended_stats hook.
fn further_keys<'a>(processes: &[(&str, &'a Value)], shown: &[&str]) -> Vec<&'a str> {
    const HIDDEN: [&str; 5] = ["create_time", "age", "started", "wid", "children"];
    let mut keys: Vec<&str> = Vec::new();
    let all = processes
        .iter()
        .filter_map(|(_, process)| process.as_object());
    for key in all.flat_map(Map::keys) {
        let known = [shown, HIDDEN.as_slice(), keys.as_slice()].concat();
        if !known.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_hook_tells_of_processes_has_columns_of_its_own() {
        let value = json!({"name": "web", "info": {
            "7": {"pid": 7, "cpu": 0.5, "mem": 0.1, "mem_info1": "1M", "mem_info2": "2M", "ctime": "0:00.1", "nice": 0,
                  "username": "root", "cmdline": "sleep", "create_time": 1.0, "age": 2.0, "started": 1.0, "wid": 1,
                  "children": [], "requests": 12, "state": "b\u{1b}sy"},
            "8": {"pid": 8, "requests": 3},
        }});
        assert_eq!(
            reply("stats", &value),
            "WATCHER  PID  CPU%  MEM%  RSS  VIRT  TIME    NICE  USER  COMMAND  REQUESTS  STATE\n\
             web      7    0.5   0.1   1M   2M    0:00.1  0     root  sleep    12        b\\u{1b}sy\n\
             web      8                                                        3"
        );
    }

    #[test]
    fn replies_in_words() {
        for (command, value, want) in [
            ("quit", json!({"status": "ok"}), "ok"),
            (
                "status",
                json!({"status": "ok", "statuses": {"web": "active", "Api Two": "stopped"}}),
                "Api Two  stopped\nweb      active",
            ),
            ("status", json!({"status": "active"}), "active"),
            (
                "status",
                json!({"status": "stopped", "waiting": true}),
                "waiting",
            ),
            (
                "status",
                json!({"status": "ok", "statuses": {"web": "stopped", "api": "stopped"}, "waiting": ["web"]}),
                "api  stopped\nweb  waiting",
            ),
            (
                "get",
                json!({"options": {"args": "a\nb\u{1b}[2J"}}),
                "args = a\\nb\\u{1b}[2J",
            ),
            ("list", json!({"watchers": ["a", "b"]}), "a\nb"),
            ("list", json!({"pids": []}), ""),
            ("numprocesses", json!({"numprocesses": 3}), "3"),
            ("incr", json!({"numprocesses": 3}), "3"),
            ("incr", json!({"status": "ok"}), "ok"),
            (
                "decr",
                json!({"numprocesses": 1, "singleton": true}),
                "1 (a singleton: the number does not change)",
            ),
            (
                "get",
                json!({"options": {"cmd": "sleep 1", "env": {"A": "b"}, "uid": null, "shell": false}}),
                "cmd = sleep 1\nenv = {\"A\":\"b\"}\nuid =\nshell = false",
            ),
            (
                "listsockets",
                json!({"sockets": [{"fd": 5, "name": "web", "host": "127.0.0.1", "port": 80, "backlog": 1},
                                   {"fd": 12, "name": "s", "path": "/run/s", "backlog": 1}]}),
                "web  fd 5   127.0.0.1:80\ns    fd 12  /run/s",
            ),
            (
                "listsockets",
                json!({"sockets": [{"fd": 5, "name": "web", "host": "127.0.0.1", "port": 80, "backlog": 9, "waiting": 1,
                                    "limit": 9}]}),
                "web  fd 5  127.0.0.1:80  1 of 9 waiting",
            ),
            (
                "restart",
                json!({"info": {"started": [3, 4], "kept": [], "stopped": [1]}}),
                "started: 3, 4\nstopped: 1",
            ),
            (
                "status",
                json!({"status": "active", "trouble": "worker 1 does not stay", "last_exit": {
                    "pid": 7, "time": 0.0, "code": 3, "signal": null, "lived": 0.25, "stderr": ["a\tb", "c"]}}),
                "active  worker 1 does not stay\n\
                 last exit 1970-01-01T00:00:00.000Z: process 7 exited with code 3 after 0.250 s\n  a\\tb\n  c",
            ),
            (
                "status",
                json!({"status": "stopped", "last_exit": {
                    "pid": null, "time": 0.0, "code": null, "signal": null, "lived": 0.0, "stderr": [], "reason": "no"}}),
                "stopped\nlast exit 1970-01-01T00:00:00.000Z: not started: no",
            ),
            (
                "identity",
                json!({"program": "circ", "version": "0.1.0", "pid": 7, "uid": 0, "started": 0.0, "cwd": "/",
                       "config": "/a.ini", "files": ["/a.ini", "/b.ini"]}),
                "program  circ 0.1.0\npid      7, user 0\nstarted  1970-01-01T00:00:00.000Z\ncwd      /\n\
                 config   /a.ini\n         /b.ini",
            ),
            (
                "reloadconfig",
                json!({"changed": ["socket:web", "watcher:web"], "reloaded": ["web"], "restart_needed": ["circus.endpoint"]}),
                "changed: socket:web, watcher:web\nreloaded: web\n\
                 takes effect when the daemon is started anew: circus.endpoint",
            ),
            (
                "reloadconfig",
                json!({"changed": [], "reloaded": [], "restart_needed": []}),
                "nothing has changed",
            ),
            (
                "reloadconfig",
                json!({"plan": [{"section": "socket:web", "action": "replace", "keys": ["port"]},
                                {"section": "watcher:web", "action": "replace", "keys": [], "because": ["socket:web"]}],
                       "reloaded": ["web"], "restart_needed": []}),
                "socket:web   replace  port\nwatcher:web  replace  because of socket:web\nwould be reloaded: web",
            ),
            ("reloadconfig", json!({"status": "ok"}), "ok"),
            (
                "ipython",
                json!({"shell": false, "msg": "none here"}),
                "no IPython kernel: none here",
            ),
        ] {
            assert_eq!(reply(command, &value), want);
        }
        assert_eq!(
            refusal(&json!({"status": "error", "reason": "program x not found", "errno": 3})),
            "program x not found (errno 3)"
        );
    }

    #[test]
    fn processes_as_a_table() {
        let process = |pid: i32, children: Value| {
            json!({"pid": pid, "cpu": 0.5, "mem": 0.1, "mem_info1": "1M", "mem_info2": "2M",
                   "ctime": "0:00.1", "nice": 0, "username": "root", "cmdline": "sleep", "children": children})
        };
        let value = json!({"infos": {
            "web": {"7": process(7, json!([process(8, json!([]))])), "9": "No such process"},
            "idle": {},
        }});
        assert_eq!(
            reply("stats", &value),
            "WATCHER  PID  CPU%  MEM%  RSS  VIRT  TIME    NICE  USER  COMMAND\n\
             web      7    0.5   0.1   1M   2M    0:00.1  0     root  sleep\n\
             web      + 8  0.5   0.1   1M   2M    0:00.1  0     root  sleep\n\
             web                                                      No such process\n\
             no processes: idle"
        );
    }

    #[test]
    fn moments() {
        assert_eq!(utc(0.0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400.0), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_247_906.519_413), "2026-11-21T07:58:26.519Z");
        assert_eq!(utc(-1.5), "1969-12-31T23:59:58.500Z");
        assert_eq!(utc(f64::INFINITY), "inf");
    }
}
