//! A state report as text for a person, as JSON, or as Salt takes it.

use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

use crate::cli::state::Format;
use crate::state::DAEMON;
use crate::state::report::{Diff, Report};

/// The whole output of a run, with its final newline.
pub fn render(report: &Report, format: Format, coloured: bool) -> String {
    match format {
        Format::Text => text(report, coloured),
        Format::Json | Format::Ansible => format!("{}\n", report.to_json()),
        Format::Salt => format!("{}\n", report.to_salt()),
    }
}

fn text(report: &Report, coloured: bool) -> String {
    let mut out = String::new();
    for part in &report.resources {
        out.push_str(&line(part, coloured));
        for warning in &part.warnings {
            out.push_str(&format!("  warning: {warning}\n"));
        }
    }
    if report.resource == "state" {
        out.push_str(&summary(report, coloured));
    } else {
        out.push_str(&line(report, coloured));
    }
    let told: Vec<String> = report
        .resources
        .iter()
        .flat_map(|part| part.warnings.iter().map(|w| format!("{}: {w}", part.name)))
        .collect();
    for warning in report.warnings.iter().filter(|w| !told.contains(w)) {
        out.push_str(&format!("  warning: {warning}\n"));
    }
    for backup in &report.backups {
        out.push_str(&format!("  the file as it was: {backup}\n"));
    }
    for diff in &report.diff {
        match diff {
            Diff::File {
                path,
                before,
                after,
            } => out.push_str(&file_diff(path, before, after, coloured)),
            Diff::Prepared(text) => {
                for line in text.lines() {
                    out.push_str(&paint(&format!("~ {line}"), YELLOW, coloured));
                    out.push('\n');
                }
            }
        }
    }
    out
}

/// The last line of a report over several resources.
fn summary(report: &Report, coloured: bool) -> String {
    let count =
        |fits: &dyn Fn(&Report) -> bool| report.resources.iter().filter(|r| fits(r)).count();
    if report.resources.is_empty() || report.error.is_some() && count(&|r| r.failed) == 0 {
        return line(report, coloured);
    }
    let changed = match report.check {
        true => "would change",
        false => "changed",
    };
    let mut text = format!(
        "{}: {} as desired, {} {changed}, {} failed",
        report.name,
        count(&|r| !r.failed && !r.changed),
        count(&|r| !r.failed && r.changed),
        count(&|r| r.failed),
    );
    if report.changes.contains_key(DAEMON) {
        let verb = if report.check {
            "would be started"
        } else {
            "started"
        };
        text.push_str(&format!("; the daemon {verb}"));
    }
    format!("{text}\n")
}

/// One resource on one line, and what became of its workers.
fn line(report: &Report, coloured: bool) -> String {
    let verdict = match (report.failed, report.changed, report.check) {
        (true, _, _) => paint("failed", RED, coloured),
        (false, true, true) => paint("drift", YELLOW, coloured),
        (false, true, false) => paint("changed", YELLOW, coloured),
        (false, false, _) => paint("ok", GREEN, coloured),
    };
    let mut out = format!("{verdict}  {}\n", report.msg);
    if report.restarted && !report.failed {
        out.push_str(if report.check {
            "  workers would be replaced\n"
        } else {
            "  workers were replaced\n"
        });
    }
    out
}

/// File, daemon and desired state side by side, then the change of the files.
pub fn comparison(report: &Report, coloured: bool) -> String {
    let mut out = String::new();
    let single = std::slice::from_ref(report);
    let parts = match report.resource {
        "state" => report.resources.as_slice(),
        _ => single,
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for part in parts.iter().filter(|part| part.changed && !part.failed) {
        for (key, change) in &part.changes {
            let side = |which: &str| match part.before.get(which) {
                None => "-".to_string(),
                Some(Value::Null) => "absent".to_string(),
                Some(side) => match side.get(key) {
                    Some(value) => brief(value),
                    None if matches!(key.as_str(), "watcher" | "section") => "present".to_string(),
                    None => "-".to_string(),
                },
            };
            let new = change.get("new").map(brief).unwrap_or_default();
            let name = if rows.last().is_some_and(|row| row[0] == part.name) {
                String::new()
            } else {
                part.name.clone()
            };
            rows.push(vec![name, key.clone(), side("file"), side("daemon"), new]);
        }
    }
    if !rows.is_empty() {
        let head = ["", "OPTION", "FILE", "DAEMON", "WANTED"];
        rows.insert(0, head.map(str::to_string).to_vec());
        let table = super::columns(&rows);
        let (head, rest) = table.split_once('\n').unwrap_or((&table, ""));
        out.push_str(&format!("{}\n{rest}\n\n", paint(head, BOLD, coloured)));
    }
    for diff in &report.diff {
        if let Diff::File {
            path,
            before,
            after,
        } = diff
        {
            out.push_str(&file_diff(path, before, after, coloured));
        }
    }
    for part in parts.iter().filter(|part| part.failed) {
        out.push_str(&line(part, coloured));
    }
    for warning in &report.warnings {
        out.push_str(&format!("warning: {warning}\n"));
    }
    match report.resource {
        "state" => out.push_str(&summary(report, coloured)),
        _ if !report.changed => out.push_str(&line(report, coloured)),
        _ => {}
    }
    out
}

/// A value in a table: short, on one line.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = match value {
        Value::Null => "unset".to_string(),
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What was looked at, as a table: one row for each option that either side states.
pub fn observed(json: &Value) -> String {
    let mut rows: Vec<Vec<String>> = vec![
        ["WATCHER", "OPTION", "FILE", "DAEMON"]
            .map(str::to_string)
            .to_vec(),
    ];
    let none = Map::new();
    for (name, sides) in json["watchers"].as_object().unwrap_or(&none) {
        let side = |which: &str| sides.get(which).and_then(Value::as_object);
        let (file, daemon) = (side("file"), side("daemon"));
        let there = |which: &str, map: Option<&Map<String, Value>>| match (sides.get(which), map) {
            (None, _) => "-".to_string(),
            (Some(_), None) => "absent".to_string(),
            (Some(_), Some(map)) => match (map.get("status"), map.get("pids")) {
                (Some(status), Some(pids)) => {
                    let running = pids.as_array().map_or(0, Vec::len);
                    format!("{}, {running} running", brief(status))
                }
                _ => "present".to_string(),
            },
        };
        rows.push(vec![
            name.clone(),
            String::new(),
            there("file", file),
            there("daemon", daemon),
        ]);
        let stated = file.into_iter().flat_map(Map::keys);
        for key in stated {
            let value = |map: Option<&Map<String, Value>>| {
                let direct = map.and_then(|map| map.get(key));
                direct.map_or("-".to_string(), brief)
            };
            rows.push(vec![String::new(), key.clone(), value(file), value(daemon)]);
        }
        if file.is_none() {
            for (key, value) in daemon.into_iter().flatten() {
                if !matches!(key.as_str(), "status" | "pids") && !value.is_null() {
                    rows.push(vec![String::new(), key.clone(), "-".into(), brief(value)]);
                }
            }
        }
    }
    format!("{}\n", super::columns(&rows))
}

fn file_diff(path: &str, before: &str, after: &str, coloured: bool) -> String {
    let mut out = format!("--- {path}\n+++ {path}\n");
    let diff = TextDiff::from_lines(before, after);
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        out.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ('-', Some(RED)),
                ChangeTag::Insert => ('+', Some(GREEN)),
                ChangeTag::Equal => (' ', None),
            };
            let line = change.value().trim_end_matches(['\n', '\r']);
            let line = format!("{sign}{line}");
            match colour {
                Some(colour) => out.push_str(&paint(&line, colour, coloured)),
                None => out.push_str(&line),
            }
            out.push('\n');
        }
    }
    out
}

const BOLD: u8 = 1;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

fn paint(text: &str, colour: u8, coloured: bool) -> String {
    if coloured {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}
