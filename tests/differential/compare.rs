//! Compares what two daemons gave, step by step, and weighs it against the table of wanted differences.

use std::fmt::Write;

use serde_json::Value;

use super::run::Outcome;
use super::table::{Difference, Part, Wanted};

/// Every step that is not as it should be, told for a person: what differs and is not in the table, and what is in
/// the table and does not differ (or differs in another way).
pub fn unexpected(
    scenario: &str,
    circus: &[Outcome],
    circ: &[Outcome],
    table: &[Difference],
) -> Vec<String> {
    assert_eq!(circus.len(), circ.len(), "both daemons play every step");
    let mut problems = Vec::new();
    for (theirs, ours) in circus.iter().zip(circ) {
        let wanted = |part| {
            table
                .iter()
                .find(|d| d.scenario == scenario && d.step == theirs.label && d.part == part)
                .map(|d| &d.wanted)
        };
        let mut text = String::new();
        if let Some(problem) = reply_problem(&theirs.reply, &ours.reply, wanted(Part::Reply)) {
            let _ = write!(
                text,
                "\n  reply: {problem}\n    circusd: {}\n    circ:    {}",
                theirs.reply, ours.reply
            );
        }
        if let Some(problem) = events_problem(theirs, ours, wanted(Part::Events)) {
            let _ = write!(
                text,
                "\n  events: {problem}\n    circusd: {}\n    circ:    {}",
                events(theirs),
                events(ours)
            );
        }
        if !text.is_empty() {
            problems.push(format!("{scenario}: {}{text}", theirs.label));
        }
    }
    problems
}

fn reply_problem(circus: &Value, circ: &Value, wanted: Option<&Wanted>) -> Option<String> {
    match wanted {
        None => (circus != circ).then(|| "differs, and the table does not say why".to_string()),
        Some(_) if circus == circ => {
            Some("the table says it differs; it does not any more".to_string())
        }
        Some(wanted) => wanted.misses(circus, circ),
    }
}

fn events_problem(theirs: &Outcome, ours: &Outcome, wanted: Option<&Wanted>) -> Option<String> {
    let same = in_order(theirs) == in_order(ours);
    match wanted {
        None => (!same).then(|| "differ, and the table does not say why".to_string()),
        Some(_) if same => Some("the table says they differ; they do not any more".to_string()),
        Some(wanted) => wanted.misses_events(&topics(ours)),
    }
}

/// The events of each watcher in their order; between watchers circusd's order is chance. So is which of several
/// processes that were told to stop together is found dead first.
fn in_order(outcome: &Outcome) -> Vec<&(String, Value)> {
    let mut sorted: Vec<&(String, Value)> = outcome.events.iter().collect();
    sorted.sort_by_key(|(topic, _)| {
        topic
            .rsplit_once('.')
            .map_or(String::new(), |(watcher, _)| watcher.to_string())
    });
    for run in sorted.chunk_by_mut(|(a, _), (b, _)| a == b && a.ends_with(".reap")) {
        run.sort_by_key(|(_, payload)| payload["process_pid"].to_string());
    }
    sorted
}

/// The topics, watcher by watcher.
fn topics(outcome: &Outcome) -> Vec<&str> {
    in_order(outcome)
        .into_iter()
        .map(|(topic, _)| topic.as_str())
        .collect()
}

fn events(outcome: &Outcome) -> String {
    let told: Vec<String> = outcome
        .events
        .iter()
        .map(|(topic, payload)| format!("{topic} {payload}"))
        .collect();
    format!("[{}]", told.join(", "))
}

#[test]
fn differences_are_found_and_the_table_is_held_to_its_word() {
    let outcome = |reply: Value, topics: &[&str]| Outcome {
        label: "step".to_string(),
        reply,
        events: topics
            .iter()
            .map(|t| ((*t).to_string(), Value::Null))
            .collect(),
    };
    let ok = serde_json::json!({"status": "ok"});
    let bad =
        serde_json::json!({"status": "error", "reason": "no", "tb": "<traceback>", "errno": 5});
    let clean = serde_json::json!({"status": "error", "reason": "no", "tb": null, "errno": 5});
    let entry = |wanted| {
        [Difference {
            scenario: "s",
            step: "step",
            part: Part::Reply,
            wanted,
            why: "",
        }]
    };
    let count = |a: &Outcome, b: &Outcome, table: &[Difference]| {
        unexpected("s", std::slice::from_ref(a), std::slice::from_ref(b), table).len()
    };
    let (a, b) = (
        outcome(ok.clone(), &["watcher.a.kill", "watcher.b.kill"]),
        outcome(ok.clone(), &["watcher.b.kill", "watcher.a.kill"]),
    );
    assert_eq!(count(&a, &b, &[]), 0, "the order between watchers is free");
    let (a, b) = (
        outcome(ok.clone(), &["watcher.a.kill", "watcher.a.reap"]),
        outcome(ok.clone(), &["watcher.a.reap", "watcher.a.kill"]),
    );
    assert_eq!(count(&a, &b, &[]), 1, "the order within a watcher is not");
    let (a, b) = (outcome(bad, &[]), outcome(clean, &[]));
    assert_eq!(count(&a, &b, &[]), 1);
    assert_eq!(count(&a, &b, &entry(Wanted::CleanError)), 0);
    assert_eq!(
        count(&b, &b, &entry(Wanted::CleanError)),
        1,
        "an entry that does not differ fails"
    );
    assert_eq!(
        count(&a, &outcome(ok, &[]), &entry(Wanted::CleanError)),
        1,
        "an entry allows nothing else"
    );
    let ok = serde_json::json!({"status": "ok", "numprocesses": 1});
    let refused =
        serde_json::json!({"status": "error", "reason": "below 0", "tb": null, "errno": 3});
    let two = serde_json::json!({"status": "ok", "numprocesses": 2});
    for (circus, circ, wanted, misses) in [
        (&Value::Null, &refused, Wanted::Answered { errno: 3 }, 0),
        (&Value::Null, &refused, Wanted::Answered { errno: 5 }, 1),
        (&Value::Null, &ok, Wanted::Answered { errno: 3 }, 1),
        (&ok, &refused, Wanted::Refused { errno: 3 }, 0),
        (&ok, &two, Wanted::Refused { errno: 3 }, 1),
        (
            &refused,
            &serde_json::json!({"status": "error", "reason": "clear", "tb": null, "errno": 3}),
            Wanted::Reason("clear", 3),
            0,
        ),
        (&refused, &ok, Wanted::Reason("clear", 3), 1),
        (
            &ok,
            &two,
            Wanted::Reply(r#"{"status": "ok", "numprocesses": 2}"#),
            0,
        ),
        (
            &ok,
            &two,
            Wanted::Reply(r#"{"status": "ok", "numprocesses": 3}"#),
            1,
        ),
    ] {
        assert_eq!(
            count(
                &outcome(circus.clone(), &[]),
                &outcome(circ.clone(), &[]),
                &entry(wanted)
            ),
            misses,
            "{wanted:?}"
        );
    }
    let events = |topics| {
        [Difference {
            scenario: "s",
            step: "step",
            part: Part::Events,
            wanted: Wanted::Events(topics),
            why: "",
        }]
    };
    let (none, kill) = (
        outcome(Value::Null, &[]),
        outcome(Value::Null, &["watcher.a.kill"]),
    );
    assert_eq!(count(&none, &kill, &events(&["watcher.a.kill"])), 0);
    assert_eq!(count(&none, &kill, &events(&["watcher.a.reap"])), 1);
    assert_eq!(count(&none, &none, &events(&[])), 1);
}
