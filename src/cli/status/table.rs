//! `circ status` as a table. Pure.

use crate::cli::paint::{Cell, Paint, Tone, span, table};
use crate::stats::human_bytes;

use super::picture::Watcher;

const HEAD: [&str; 8] = [
    "NAME",
    "STATE",
    "PROCS",
    "RESTARTS",
    "UPTIME",
    "CPU%",
    "MEM",
    "LAST EXIT",
];

/// A line for the head and for each watcher, no wider than `width`.
pub fn lines(watchers: &[Watcher], width: Option<usize>, paint: Paint) -> Vec<String> {
    let head = HEAD.map(|text| (text.to_string(), Tone::Strong)).to_vec();
    let mut rows = vec![head];
    rows.extend(watchers.iter().map(row));
    table(&rows, width, paint)
}

fn row(watcher: &Watcher) -> Vec<Cell> {
    let dash = || "-".to_string();
    let count = |number: Option<u64>| number.map_or_else(dash, |number| number.to_string());
    let processes = match (watcher.running, watcher.wanted) {
        (None, None) => dash(),
        (running, wanted) => format!("{}/{}", count(running), count(wanted)),
    };
    let tone = match watcher.tone {
        Tone::Faint => Tone::Faint,
        _ => Tone::Plain,
    };
    vec![
        (watcher.name.clone(), tone),
        (watcher.state.to_string(), watcher.tone),
        (processes, tone),
        (count(watcher.restarts), tone),
        (watcher.uptime.map_or_else(dash, span), tone),
        (
            watcher
                .cpu
                .map_or_else(dash, |percent| format!("{percent:.1}")),
            tone,
        ),
        (
            watcher
                .memory
                .map_or_else(dash, |bytes| human_bytes(bytes as u64)),
            tone,
        ),
        (watcher.note.clone(), tone),
    ]
}
