//! A state report as text for a person, as JSON, or as Salt takes it.

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
