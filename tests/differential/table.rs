//! The one table of wanted differences between circ and circusd 0.19.0.

use serde_json::Value;

use super::scenarios::Scenario;

/// Which part of a step differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Reply,
    Events,
}

/// How circ differs; anything else fails.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    /// circusd shows a traceback or repeats the message; circ tells a clean reason with the same errno.
    CleanError,
    /// circusd never answers; circ answers an error with this errno.
    Answered { errno: i64 },
    /// circusd accepts it; circ answers an error with this errno.
    Refused { errno: i64 },
    /// circusd's text is misleading or leaks its insides; circ's (this one) is clear. Same errno.
    Reason(&'static str),
    /// This value (JSON) instead of circusd's at this JSON pointer; the rest is equal. For events the pointer is
    /// empty and the value is the list of topics.
    Value {
        pointer: &'static str,
        circ: &'static str,
    },
}

/// One wanted difference.
#[derive(Debug)]
pub struct Difference {
    pub scenario: &'static str,
    /// The step's label.
    pub step: &'static str,
    pub part: Part,
    pub wanted: Wanted,
    pub why: &'static str,
}

/// Every wanted difference.
pub const DIFFERENCES: &[Difference] = &[];

impl Wanted {
    /// Why these two values do not differ in the wanted way.
    pub fn misses(&self, circus: &Value, circ: &Value) -> Option<String> {
        let error = |errno: Option<i64>| {
            circ["status"] == "error"
                && circ["tb"].is_null()
                && errno.is_none_or(|e| circ["errno"] == e)
                && circ["errno"].is_i64()
        };
        let clean = circ["reason"].as_str().is_some_and(|r| {
            !r.is_empty() && r.len() < 400 && !r.contains("Traceback") && !r.contains("command b'")
        });
        let right = match self {
            Self::CleanError => {
                error(circus["errno"].as_i64()) && clean && circus["status"] == "error"
            }
            Self::Answered { errno } => circus.is_null() && error(Some(*errno)) && clean,
            Self::Refused { errno } => circus["status"] == "ok" && error(Some(*errno)) && clean,
            Self::Reason(reason) => error(circus["errno"].as_i64()) && circ["reason"] == *reason,
            Self::Value {
                pointer,
                circ: wanted,
            } => return value_misses(circus, circ, pointer, wanted),
        };
        (!right).then(|| format!("the table wants {self:?}"))
    }
}

fn value_misses(circus: &Value, circ: &Value, pointer: &str, wanted: &str) -> Option<String> {
    let wanted: Value = serde_json::from_str(wanted).expect("the table holds JSON");
    let mut expected = circus.clone();
    match expected.pointer_mut(pointer) {
        Some(place) => *place = wanted,
        None => return Some(format!("circusd has nothing at {pointer}")),
    }
    (expected != *circ).then(|| format!("the table wants {expected}"))
}

/// Every entry must name a step that exists.
pub fn check(scenarios: &[Scenario]) {
    for entry in DIFFERENCES {
        let steps = scenarios
            .iter()
            .filter(|s| s.name == entry.scenario)
            .flat_map(|s| &s.steps);
        assert_eq!(
            steps.filter(|s| s.label == entry.step).count(),
            1,
            "the table names no step: {entry:?}"
        );
        assert!(
            !entry.why.is_empty(),
            "a difference without a reason: {entry:?}"
        );
    }
}
