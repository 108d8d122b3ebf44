//! How the watchers of a daemon are, as `circ status` shows it: made from what the daemon answers. Pure.

use serde_json::{Map, Value};

use crate::cli::output;
use crate::cli::paint::{Tone, signal, span};

/// One watcher.
#[derive(Debug, Clone, PartialEq)]
pub struct Watcher {
    pub name: String,
    /// One word.
    pub state: &'static str,
    pub tone: Tone,
    /// Workers that run and are not on their way out.
    pub running: Option<u64>,
    pub wanted: Option<u64>,
    /// Only circ's daemon counts them.
    pub restarts: Option<u64>,
    /// How long its oldest worker has been running, in seconds.
    pub uptime: Option<f64>,
    /// Of its workers and all that they have started, in per cent of one processor.
    pub cpu: Option<f64>,
    /// Resident memory of the same, in bytes.
    pub memory: Option<f64>,
    /// Why it is as it is, and how it last lost a worker.
    pub note: String,
}

/// The picture of one watcher. `told` is what the daemon tells of it, `statistics` those of its processes.
pub fn watcher(
    name: &str,
    told: &Map<String, Value>,
    statistics: Option<&Value>,
    now: f64,
) -> Watcher {
    let wanted = told.get("numprocesses").and_then(Value::as_u64);
    let workers = told.get("workers").and_then(Value::as_array);
    let staying = workers.map(|all| {
        let leaving = |worker: &&Value| worker.get("leaving") == Some(&Value::Bool(true));
        all.iter()
            .filter(|worker| !leaving(worker))
            .collect::<Vec<_>>()
    });
    let processes: Option<Vec<&Map<String, Value>>> = statistics
        .and_then(Value::as_object)
        .map(|all| all.values().filter_map(Value::as_object).collect());
    let running = match (&staying, &processes) {
        (Some(staying), _) => Some(staying.len() as u64),
        (None, Some(processes)) => Some(processes.len() as u64),
        (None, None) => None,
    };
    let started = staying.iter().flatten();
    let ages = started.filter_map(|worker| Some(now - worker.get("started")?.as_f64()?));
    let uptime = match &staying {
        Some(_) => ages.reduce(f64::max),
        None => processes
            .iter()
            .flatten()
            .filter_map(|process| process.get("age")?.as_f64())
            .reduce(f64::max),
    };
    let (state, tone) = state(told, running, wanted);
    let measured = processes.filter(|all| !all.is_empty());
    Watcher {
        name: output::plain(&Value::from(name)),
        state,
        tone,
        running,
        wanted,
        restarts: told.get("restarts").and_then(Value::as_u64),
        uptime,
        cpu: measured
            .as_ref()
            .map(|all| all.iter().map(|one| sum(one, &cpu)).sum()),
        memory: measured
            .as_ref()
            .map(|all| all.iter().map(|one| sum(one, &memory)).sum()),
        note: note(told, now),
    }
}

/// The word for a person, and how it is meant.
fn state(
    told: &Map<String, Value>,
    running: Option<u64>,
    wanted: Option<u64>,
) -> (&'static str, Tone) {
    let flag = |key: &str| told.get(key) == Some(&Value::Bool(true));
    let failures = told.get("failures").and_then(Value::as_u64).unwrap_or(0);
    let short = running < wanted;
    match told.get("status").and_then(Value::as_str) {
        Some("stopped") if flag("waiting") => ("waiting", Tone::Busy),
        Some("stopped") if flag("gave_up") => ("gave up", Tone::Bad),
        Some("stopped") => ("stopped", Tone::Faint),
        Some("active" | "starting") if failures > 1 => ("flapping", Tone::Bad),
        Some("active") if short && told.contains_key("trouble") => ("failing", Tone::Bad),
        Some("active") if short => ("active", Tone::Busy),
        Some("active") => ("active", Tone::Good),
        Some("starting") => ("starting", Tone::Busy),
        Some("stopping") => ("stopping", Tone::Busy),
        _ => ("?", Tone::Busy),
    }
}

/// Why it is as it is, in a line.
fn note(told: &Map<String, Value>, now: f64) -> String {
    let mut parts = Vec::new();
    if let Some(by) = told.get("stopped_by") {
        parts.push(stopped_by(by));
    }
    if let Some(next) = told.get("next_start").and_then(Value::as_f64)
        && told.get("failures").and_then(Value::as_u64) > Some(1)
    {
        parts.push(format!("next try in {}", span((next - now).ceil())));
    }
    match told.get("last_exit") {
        Some(last) => {
            let mut text = last_exit(last, now);
            let said = last.get("stderr").and_then(Value::as_array);
            let mut said = said.into_iter().flatten().rev().map(output::plain);
            if let Some(line) = said.find(|line| !line.trim().is_empty()) {
                text.push_str(&format!(": {}", line.trim()));
            }
            parts.push(text);
        }
        None => parts.extend(told.get("trouble").map(output::plain)),
    }
    parts.join("; ")
}

/// Who has stopped it, and why.
pub fn stopped_by(by: &Value) -> String {
    let text = |key: &str| by.get(key).map(output::plain).unwrap_or_default();
    match text("because") {
        why if why.is_empty() => format!("stopped by {}", text("by")),
        why => format!("stopped by {}: {why}", text("by")),
    }
}

/// How it last lost a worker, without its words.
fn last_exit(last: &Value, now: f64) -> String {
    let time = last.get("time").and_then(Value::as_f64).unwrap_or(now);
    let ago = span(now - time);
    let number = |key: &str| last.get(key).and_then(Value::as_i64);
    match (number("code"), number("signal"), last.get("reason")) {
        (Some(code), ..) => format!("exit code {code} {ago} ago"),
        (_, Some(number), _) => format!("{} {ago} ago", signal(number)),
        (_, _, Some(reason)) => format!("not started {ago} ago: {}", output::plain(reason)),
        _ => format!("ended {ago} ago"),
    }
}

/// A number of a process and of all below it.
pub fn sum(process: &Map<String, Value>, of: &dyn Fn(&Map<String, Value>) -> f64) -> f64 {
    let children = process.get("children").and_then(Value::as_array);
    let children = children.into_iter().flatten().filter_map(Value::as_object);
    of(process) + children.map(|child| sum(child, of)).sum::<f64>()
}

/// Per cent of one processor.
pub fn cpu(process: &Map<String, Value>) -> f64 {
    process.get("cpu").and_then(Value::as_f64).unwrap_or(0.0)
}

/// Resident memory, in bytes.
pub fn memory(process: &Map<String, Value>) -> f64 {
    let text = process.get("mem_info1").and_then(Value::as_str);
    text.and_then(bytes).unwrap_or(0.0)
}

/// Circus's words for an amount of memory, such as `20.02M`, in bytes.
fn bytes(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text.get(..unit)?.trim().parse().ok()?;
    let power = match text.get(unit..)? {
        "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    Some(number * 1024f64.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(told: Value) -> Watcher {
        watcher("web", told.as_object().unwrap(), None, 1000.0)
    }

    #[test]
    fn states_are_words_for_a_person() {
        let last = json!({"pid": 7, "time": 940.0, "code": 3, "signal": null, "lived": 0.1, "stderr": ["a", "no \u{1b}[2J db", " "]});
        for (told, state, note) in [
            (
                json!({"status": "active", "numprocesses": 1, "workers": [{"pid": 1, "started": 900.0}]}),
                "active",
                "",
            ),
            (
                json!({"status": "active", "numprocesses": 2, "workers": [], "failures": 4, "next_start": 1003.5, "last_exit": last}),
                "flapping",
                "next try in 4s; exit code 3 1m00s ago: no \\u{1b}[2J db",
            ),
            (
                json!({"status": "active", "numprocesses": 2, "workers": [], "trouble": "no such program"}),
                "failing",
                "no such program",
            ),
            (
                json!({"status": "stopped", "gave_up": true, "last_exit": {"pid": null, "time": 999.0, "code": null, "signal": null, "reason": "no such file", "stderr": []}}),
                "gave up",
                "not started 1s ago: no such file",
            ),
            (
                json!({"status": "stopped", "stopped_by": {"by": "flapping", "because": "5 exits"}}),
                "stopped",
                "stopped by flapping: 5 exits",
            ),
            (json!({"status": "stopped", "waiting": true}), "waiting", ""),
            (
                json!({"status": "active", "last_exit": {"time": 990.0, "signal": 9, "code": null}}),
                "active",
                "SIGKILL 10s ago",
            ),
        ] {
            let picture = of(told);
            assert_eq!((picture.state, picture.note.as_str()), (state, note));
        }
    }

    #[test]
    fn numbers_are_those_of_the_workers_and_all_below_them() {
        let told = json!({"status": "active", "numprocesses": 2, "restarts": 5, "workers": [
            {"pid": 1, "started": 900.0, "leaving": false}, {"pid": 2, "started": 400.0, "leaving": true}]});
        let process = |cpu: f64, mem: &str, children: Value| json!({"cpu": cpu, "mem_info1": mem, "children": children, "age": 50.0});
        let statistics = json!({
            "1": process(1.5, "1.50M", json!([process(0.5, "512.00K", json!([]))])),
            "2": process(0.0, "N/A", json!([])),
        });
        let picture = watcher("web", told.as_object().unwrap(), Some(&statistics), 1000.0);
        assert_eq!(
            (picture.running, picture.wanted, picture.restarts),
            (Some(1), Some(2), Some(5))
        );
        assert_eq!(picture.uptime, Some(100.0));
        assert_eq!(
            (picture.cpu, picture.memory),
            (Some(2.0), Some(2.0 * 1024.0 * 1024.0))
        );
        // circusd tells no workers, but how old its processes are
        let bare = json!({"status": "active", "numprocesses": 2});
        let picture = watcher("web", bare.as_object().unwrap(), Some(&statistics), 1000.0);
        assert_eq!((picture.running, picture.uptime), (Some(2), Some(50.0)));
    }
}
