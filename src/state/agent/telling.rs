//! What the agent says of itself: the line of a run, and its status.

use serde_json::{Map, Value, json};

use super::schedule::{Effect, Hold, Order, Schedule, Time};
use super::work::Done;
use crate::state::report::Report;

/// The version of a run's line.
pub const LINE: &str = "circ.agent/1";
/// The version of the status.
pub const STATUS: &str = "circ.agent-status/1";

/// A moment as RFC 3339 in UTC, to the millisecond.
pub fn moment(timestamp: jiff::Timestamp) -> String {
    format!("{timestamp:.3}")
}

/// Translates the schedule's clock into the time of day.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The time of day …
    pub wall: jiff::Timestamp,
    /// … at this moment.
    pub now: Time,
}

impl Clock {
    /// The time of day at `time`.
    pub fn at(&self, time: Time) -> jiff::Timestamp {
        let later = i64::try_from(time.since(self.now)).unwrap_or(i64::MAX);
        let earlier = i64::try_from(self.now.since(time)).unwrap_or(i64::MAX);
        let offset = jiff::SignedDuration::from_millis(later.saturating_sub(earlier));
        self.wall.checked_add(offset).unwrap_or(self.wall)
    }

    fn tell(&self, time: Option<Time>) -> Value {
        time.map_or(Value::Null, |time| moment(self.at(time)).into())
    }
}

/// A run that is over, for its line.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// What was ordered.
    pub order: &'a Order,
    /// When it began.
    pub began: jiff::Timestamp,
    /// How long it took, in seconds.
    pub duration: f64,
    /// The event that led to it, if one did.
    pub cause: Option<&'a str>,
    /// What the window asked for when it began.
    pub hold: Hold,
    /// How it went.
    pub done: &'a Done,
    /// What followed from it.
    pub effects: &'a [Effect],
}

/// The line of a run.
pub fn line(run: &Run<'_>, clock: Clock) -> Value {
    let mut line = Map::new();
    let mut add = |key: &str, value: Value| line.insert(key.to_string(), value);
    add("schema", LINE.into());
    add("run", run.order.run.into());
    add("trigger", run.order.trigger.as_str().into());
    if let Some(cause) = run.cause {
        add("cause", cause.into());
    }
    add("time", moment(run.began).into());
    add(
        "duration",
        ((run.duration * 1000.0).round() / 1000.0).into(),
    );
    add("mode", run.order.mode.as_str().into());
    if run.hold != Hold::Free {
        add("window", true.into());
    }
    add("changed", run.done.changed().into());
    add("failed", run.done.failed().into());
    add("msg", run.done.message().into());
    if let Some(reason) = &run.done.unreadable {
        add("desired_error", reason.as_str().into());
    }
    if !run.order.leave.is_empty() {
        add("left_alone", json!(run.order.leave));
    }
    let fights: Vec<Value> = run
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Fight {
                name,
                repairs,
                until,
            } => Some(json!({"name": name, "repairs": repairs, "left_alone_until": clock.tell(Some(*until))})),
            _ => None,
        })
        .collect();
    if !fights.is_empty() {
        add("fights", fights.into());
    }
    let report = run.done.report.as_ref();
    add("report", report.map_or(Value::Null, Report::to_json));
    if let Some(kept) = &run.done.kept {
        add("kept", kept.to_json());
    }
    Value::Object(line)
}

/// A line for those who read every one of them: its report tells only of what changed, failed or has a warning, and
/// how much else is as desired. On a machine of hundreds of watchers a line would be a page otherwise.
pub fn brief(line: &Value) -> Value {
    let mut short = line.clone();
    for report in ["report", "kept"] {
        if let Some(Value::Object(report)) = short.get_mut(report) {
            shorten(report);
        }
    }
    short
}

fn shorten(report: &mut Map<String, Value>) {
    let Some(Value::Array(resources)) = report.get_mut("resources") else {
        return;
    };
    let all = resources.len();
    let is = |part: &Value, key: &str| part.get(key) == Some(&Value::Bool(true));
    resources.retain(|part| {
        let warned = part.get("warnings").and_then(Value::as_array);
        is(part, "changed") || is(part, "failed") || warned.is_some_and(|all| !all.is_empty())
    });
    let left: Vec<String> = resources
        .iter()
        .filter_map(|part| Some(part.get("name")?.as_str()?.to_string()))
        .collect();
    let as_desired = all - resources.len();
    for side in ["before", "after"] {
        if let Some(Value::Object(found)) = report.get_mut(side) {
            found.retain(|name, _| left.contains(name));
        }
    }
    report.insert("as_desired".into(), as_desired.into());
}

/// A line without its report, and of that what matters.
pub fn summary(line: &Value) -> Value {
    let mut short = line.clone();
    if let Some(map) = short.as_object_mut() {
        map.remove("schema");
        map.remove("report");
        map.remove("kept");
    }
    short
}

/// What the schedule knows, as part of the status.
pub fn schedule(schedule: &Schedule, clock: Clock) -> Map<String, Value> {
    let hold = match schedule.hold() {
        Hold::Free => Value::Null,
        Hold::Audit => "audit".into(),
        Hold::Off => "off".into(),
    };
    let left_alone: Vec<Value> = schedule
        .active()
        .map(|(name, fight)| {
            json!({"name": name, "until": clock.tell(Some(fight.until)), "times": fight.level})
        })
        .collect();
    let told = json!({
        "mode": schedule.mode().as_str(),
        "paused": schedule.paused().is_some(),
        "paused_until": clock.tell(schedule.paused().flatten()),
        "window_hold": hold,
        "running": schedule.is_running(),
        // What is due already is due now.
        "next_run": clock.tell(schedule.next_run().map(|time| time.max(clock.now))),
        "failures": schedule.failures(),
        "fights": schedule.fought(),
        "left_alone": left_alone,
    });
    match told {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::schedule::{Mode, Trigger};
    use super::*;

    #[test]
    fn a_brief_line_leaves_out_what_is_as_desired() {
        let part = |name: &str, changed: bool, warnings: &[&str]| json!({"name": name, "changed": changed, "failed": false, "warnings": warnings});
        let sides = json!({"a": 1, "b": 2, "c": 3});
        let line = json!({"run": 1, "report": {"before": sides, "after": sides, "resources": [
            part("a", false, &[]), part("b", true, &[]), part("c", false, &["look"])]}});
        let short = brief(&line);
        assert_eq!(
            short["report"]["resources"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(short["report"]["before"], json!({"b": 2, "c": 3}));
        assert_eq!(short["report"]["after"], json!({"b": 2, "c": 3}));
        assert_eq!(short["report"]["as_desired"], 1);
        assert_eq!(brief(&json!({"report": null})), json!({"report": null}));
    }

    #[test]
    fn a_line_has_the_contracts_keys_in_order() {
        let order = Order {
            run: 7,
            trigger: Trigger::Event,
            mode: Mode::Enforce,
            leave: BTreeSet::new(),
        };
        let mut report = Report::new("web", false);
        report.changed = true;
        report.msg = "web: numprocesses 1 -> 2".into();
        let done = Done {
            run: 7,
            report: Some(report),
            unreadable: None,
            kept: None,
        };
        let wall: jiff::Timestamp = "2026-11-21T10:20:30Z".parse().unwrap();
        let clock = Clock {
            wall,
            now: Time(5_000),
        };
        let run = Run {
            order: &order,
            began: wall,
            duration: 1.23456,
            cause: Some("watcher.web.kill"),
            hold: Hold::Free,
            done: &done,
            effects: &[Effect::Fight {
                name: "web".into(),
                repairs: 5,
                until: Time(65_000),
            }],
        };
        let line = line(&run, clock);
        let keys: Vec<&str> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            [
                "schema", "run", "trigger", "cause", "time", "duration", "mode", "changed",
                "failed", "msg", "fights", "report"
            ]
        );
        assert_eq!(line["time"], "2026-11-21T10:20:30.000Z");
        assert_eq!(line["duration"], 1.235);
        assert_eq!(line["msg"], "web: numprocesses 1 -> 2");
        assert_eq!(
            line["fights"][0]["left_alone_until"],
            "2026-11-21T10:21:30.000Z"
        );
        assert_eq!(line["report"]["schema"], "circ.state/1");
        assert_eq!(summary(&line).get("report"), None);
    }
}
