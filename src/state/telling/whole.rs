//! One report made of those of several resources. Pure.

use serde_json::Value;

use super::DAEMON;
use crate::state::desired::DesiredState;
use crate::state::report::{Report, Standing};
use crate::state::settings::Settings;

/// The report over all from those of the resources.
pub(super) fn sum_up(whole: &mut Report, error: Option<String>) {
    for report in &whole.resources {
        whole.changed |= report.changed;
        whole.failed |= report.failed;
        whole.restarted |= report.restarted;
        if !report.changes.is_empty() {
            whole
                .changes
                .insert(report.name.clone(), Value::Object(report.changes.clone()));
        }
        whole
            .before
            .insert(report.name.clone(), Value::Object(report.before.clone()));
        whole
            .after
            .insert(report.name.clone(), Value::Object(report.after.clone()));
        for line in &report.actions {
            let mut line = line.clone();
            line.name = Some(report.name.clone());
            whole.actions.push(line);
        }
        let warnings = report.warnings.iter();
        whole
            .warnings
            .extend(warnings.map(|warning| format!("{}: {warning}", report.name)));
    }
    let count = whole.resources.len();
    let failed: Vec<&Report> = whole.resources.iter().filter(|r| r.failed).collect();
    if let Some(error) = error {
        whole.fail(error);
    } else if !failed.is_empty() {
        let (rest, causes): (Vec<&Report>, Vec<&Report>) =
            failed.iter().partition(|report| report.in_consequence);
        let texts: Vec<String> = causes.iter().map(|report| report.msg.clone()).collect();
        let mut text = format!("{} of {count} failed: {}", causes.len(), texts.join("; "));
        if !rest.is_empty() {
            text.push_str(&format!("; {} not done because of that", rest.len()));
        }
        whole.fail(text);
    } else if whole.changed {
        let changed: Vec<&Report> = whole.resources.iter().filter(|r| r.changed).collect();
        let mut texts: Vec<String> = changed.iter().map(|report| report.msg.clone()).collect();
        if whole.changes.contains_key(DAEMON) {
            let verb = if whole.check {
                "would be started"
            } else {
                "started"
            };
            texts.insert(0, format!("the daemon {verb}"));
        }
        whole.msg = format!("{}: {}", whole.name, texts.join("; "));
    } else {
        whole.msg = format!("{}: {count} as desired", whole.name);
    }
}

/// A run that could not even be planned.
pub(in crate::state) fn refused(
    state: &DesiredState,
    settings: &Settings,
    name: Option<&str>,
    reason: String,
    standing: Standing,
) -> Report {
    let mut whole = Report::new(&state.origin, settings.check);
    whole.resource = "state";
    whole.standing = standing;
    match name {
        Some(name) => {
            whole
                .resources
                .push(Report::failure(name, settings.check, reason));
            sum_up(&mut whole, None);
        }
        None => whole.fail(reason),
    }
    whole
}

/// The report of a state of one watcher: its own, and what became of sections in it.
pub(in crate::state) fn single(whole: Report, name: &str) -> Report {
    let mut sections = Vec::new();
    let mut own = None;
    for report in whole.resources {
        if report.resource == "watcher" && report.name == name {
            own = Some(report);
        } else {
            sections.push(report);
        }
    }
    let mut single = own.unwrap_or_else(|| Report::new(name, whole.check));
    for section in sections {
        for (key, change) in section.changes {
            let key = match key.as_str() {
                "section" => section.name.clone(),
                key => format!("{}.{key}", section.name),
            };
            single.changes.insert(key, change);
        }
        let told = section
            .msg
            .strip_prefix(&format!("{}: ", section.name))
            .map(|text| text.strip_prefix("would change: ").unwrap_or(text));
        if section.failed && (!single.failed || single.in_consequence) && !section.in_consequence {
            single.in_consequence = false;
            single.fail(format!(
                "[{}] {}",
                section.name,
                section.error.unwrap_or_default()
            ));
        } else if section.changed && !single.failed {
            let text = format!("[{}] {}", section.name, told.unwrap_or_default());
            single.msg = match (single.changed, single.check) {
                (true, _) => format!("{}, {text}", single.msg),
                (false, true) => format!("{name}: would change: {text}"),
                (false, false) => format!("{name}: {text}"),
            };
            single.changed = true;
        }
        single.restarted |= section.restarted;
        let mut actions = section.actions;
        for action in &mut actions {
            action.name = Some(section.name.clone());
        }
        actions.append(&mut single.actions);
        single.actions = actions;
        single.warnings.extend(section.warnings);
    }
    if whole.changes.contains_key(DAEMON) && !single.failed {
        single
            .changes
            .insert("daemon".into(), whole.changes[DAEMON].clone());
        let verb = if whole.check {
            "would be started"
        } else {
            "started"
        };
        single.msg = match single.changed {
            true => format!("{}, the daemon {verb}", single.msg),
            false => format!("{name}: the daemon {verb}"),
        };
        single.changed = true;
    }
    if whole.failed && !single.failed {
        single.fail(whole.error.unwrap_or_default());
    }
    single.diff = whole.diff;
    single.backups = whole.backups;
    single
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_two() -> Report {
        let mut whole = Report::new("desired.toml", false);
        whole.resource = "state";
        let mut socket = Report::failure("socket:s", false, "it is taken");
        socket.resource = "socket";
        let mut web = Report::failure("web", false, "not done, because socket:s failed");
        web.in_consequence = true;
        whole.resources = vec![socket, web];
        whole
    }

    #[test]
    fn the_cause_is_told_and_not_what_follows_from_it() {
        let mut whole = of_two();
        sum_up(&mut whole, None);
        assert_eq!(
            whole.error.as_deref(),
            Some("1 of 2 failed: socket:s: it is taken; 1 not done because of that")
        );
        let mut whole = of_two();
        sum_up(&mut whole, None);
        let single = single(whole, "web");
        assert!(single.failed);
        assert_eq!(single.error.as_deref(), Some("[socket:s] it is taken"));
    }
}
