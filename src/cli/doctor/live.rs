//! What is wrong with a daemon that answers: told from its answers. Pure.

use serde_json::{Map, Value};

use super::finding::{Finding, Severity};
use crate::cli::output::{self, plain};
use crate::cli::paint::{signal, span};
use crate::stats::human_bytes;

/// The replies that matter here; each may be missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// To `status`, with details if it knows them.
    pub status: Map<String, Value>,
    /// To `identity`; nothing of a circusd.
    pub identity: Option<Map<String, Value>>,
    /// To `reloadconfig` with `check`: the plan, or why there is none.
    pub plan: Option<Result<Map<String, Value>, String>>,
    /// When, in seconds since the epoch.
    pub now: f64,
}

/// Everything that is not as it should be.
pub fn findings(answers: &Answers) -> Vec<Finding> {
    let mut found = Vec::new();
    let watchers = answers.status.get("watchers").and_then(Value::as_object);
    for (name, told) in watchers.into_iter().flatten() {
        if let Some(told) = told.as_object() {
            watcher(name, told, answers.now, &mut found);
        }
    }
    if answers.identity.is_none() {
        found.push(
            Finding::new(
                Severity::Note,
                "circusd",
                "this is a circusd, or an older circ: it does not tell why watchers fail, nor which file it runs on",
            )
            .fix("give its file with --config, so that it can be looked at"),
        );
    }
    version(answers, &mut found);
    drift(answers, &mut found);
    found
}

fn watcher(name: &str, told: &Map<String, Value>, now: f64, found: &mut Vec<Finding>) {
    let number = |key: &str| told.get(key).and_then(Value::as_u64);
    let status = told
        .get("status")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let running = told
        .get("workers")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let wanted = number("numprocesses").unwrap_or(0);
    let failures = number("failures").unwrap_or(0);
    let name = plain(&Value::from(name));
    let place = format!("watcher {name}");
    let last = told.get("last_exit").map(|last| last_exit(last, now));
    let trouble = told.get("trouble").map(plain);
    let words = || last.clone().or(trouble.clone()).unwrap_or_default();
    let next = told.get("next_start").and_then(Value::as_f64);
    if matches!(status, "active" | "starting") && failures > 1 {
        let next = next.map_or(String::new(), |next| {
            format!("; the next try is in {}", span((next - now).ceil()))
        });
        let what = format!(
            "flapping: {failures} failures in a row, {running} of {wanted} workers run{next}"
        );
        found.push(
            Finding::new(Severity::Error, "flapping", what)
                .at(&place)
                .because(words())
                .fix(format!(
                    "circ status {name}; circ logs {name}; then mend it and circ restart {name}"
                )),
        );
    } else if told.get("gave_up") == Some(&Value::Bool(true)) {
        let respawn = trouble.is_none();
        let severity = if respawn {
            Severity::Note
        } else {
            Severity::Error
        };
        let what = match respawn {
            true => "it has ended and is not started again (respawn = False)",
            false => "it gave up: its workers could not be started, or a hook said no",
        };
        found.push(
            Finding::new(severity, "gave-up", what)
                .at(&place)
                .because(trouble.clone().unwrap_or_else(words))
                .fix(format!("mend it, then circ start {name}")),
        );
    } else if status == "active" && (running as u64) < wanted {
        let waits = told.get("waiting") == Some(&Value::Bool(true));
        if !waits {
            found.push(
                Finding::new(
                    Severity::Warning,
                    "short",
                    format!("{running} of {wanted} workers run"),
                )
                .at(&place)
                .because(words()),
            );
        }
    } else if let (true, Some(trouble)) = (status == "active", &trouble) {
        found.push(
            Finding::new(Severity::Warning, "trouble", trouble.clone())
                .at(&place)
                .because("its workers run with what it had before")
                .fix(format!("mend it, then circ reload {name}")),
        );
    }
    if let Some(by) = told.get("stopped_by") {
        found.push(
            Finding::new(
                Severity::Warning,
                "stopped-by",
                crate::cli::status::picture::stopped_by(by),
            )
            .at(&place)
            .because(words())
            .fix(format!("mend it, then circ start {name}")),
        );
    }
    let streams = told.get("streams").and_then(Value::as_object);
    for (which, stream) in streams.into_iter().flatten() {
        if let Some(trouble) = stream.get("trouble") {
            found.push(
                Finding::new(
                    Severity::Error,
                    "stream",
                    format!("{which} cannot be written: {}", plain(trouble)),
                )
                .at(&place)
                .because("what its workers say is kept for a while and then dropped"),
            );
        }
        let dropped = stream.get("dropped").and_then(Value::as_u64).unwrap_or(0);
        if dropped > 0 {
            let what = format!(
                "{} of its {which} were dropped since the daemon started",
                human_bytes(dropped)
            );
            found.push(
                Finding::new(Severity::Warning, "dropped", what)
                    .at(&place)
                    .because("its destination was too slow or could not be written"),
            );
        }
    }
}

/// How it last lost a worker, with its last words.
fn last_exit(last: &Value, now: f64) -> String {
    let number = |key: &str| last.get(key).and_then(Value::as_i64);
    let end = match (number("code"), number("signal"), last.get("reason")) {
        (Some(127), ..) => "exit code 127 (of a shell: command not found)".to_string(),
        (Some(126), ..) => "exit code 126 (of a shell: command cannot be executed)".to_string(),
        (Some(code), ..) => format!("exit code {code}"),
        (_, Some(9), _) => {
            "SIGKILL (by somebody, or by the kernel when memory ran out: see dmesg)".to_string()
        }
        (_, Some(number), _) => signal(number),
        (_, _, Some(reason)) => format!("not started: {}", plain(reason)),
        _ => "unknown".to_string(),
    };
    let time = last.get("time").and_then(Value::as_f64).unwrap_or(now);
    let mut text = format!("last exit {} ago: {end}", span(now - time));
    if let Some(lived) = last.get("lived").and_then(Value::as_f64)
        && number("pid").is_some()
    {
        text.push_str(&format!(", after {lived:.3} s"));
    }
    const SHOWN: usize = 5;
    let said = last.get("stderr").and_then(Value::as_array);
    let said: Vec<String> = said.into_iter().flatten().map(plain).collect();
    for line in said.iter().skip(said.len().saturating_sub(SHOWN)) {
        text.push_str(&format!("\n| {line}"));
    }
    text
}

fn version(answers: &Answers, found: &mut Vec<Finding>) {
    let ours = env!("CARGO_PKG_VERSION");
    let theirs = answers
        .identity
        .as_ref()
        .and_then(|identity| identity.get("version"));
    if let Some(theirs) = theirs
        .and_then(Value::as_str)
        .filter(|theirs| *theirs != ours)
    {
        found.push(
            Finding::new(
                Severity::Note,
                "version",
                format!("the daemon is circ {theirs}, and this is circ {ours}"),
            )
            .fix("start the daemon anew to run this version"),
        );
    }
}

/// What the file says and the daemon does not do.
fn drift(answers: &Answers, found: &mut Vec<Finding>) {
    let plan = match &answers.plan {
        None => return,
        Some(Err(why)) => {
            found.push(
                Finding::new(
                    Severity::Error,
                    "config-refused",
                    format!("the daemon would not take its file as it is now: {why}"),
                )
                .because(
                    "a reload is refused, and the daemon would not come up again after a restart",
                )
                .fix("circ config check says where"),
            );
            return;
        }
        Some(Ok(plan)) => plan,
    };
    let sections: Vec<String> = plan
        .get("plan")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("action").and_then(Value::as_str) != Some("none"))
        .map(|entry| {
            let text = |key: &str| entry.get(key).map(plain).unwrap_or_default();
            format!("{} ({})", text("section"), text("action"))
        })
        .collect();
    if !sections.is_empty() {
        found.push(
            Finding::new(
                Severity::Warning,
                "drift",
                format!("the daemon does not run what its file says: {}", sections.join(", ")),
            )
            .because("the file was changed and not read again, or the daemon was changed and not its file; what differs is lost or appears at the next reload")
            .fix("circ reloadconfig --check shows it, circ reloadconfig takes the file over"),
        );
    }
    let waits: Vec<String> = plan
        .get("restart_needed")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(output::plain)
        .collect();
    if !waits.is_empty() {
        found.push(
            Finding::new(
                Severity::Warning,
                "restart-needed",
                format!(
                    "changed in the file, and taken only when the daemon starts anew: {}",
                    waits.join(", ")
                ),
            )
            .fix("restart the daemon when it suits"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(watchers: Value) -> Vec<(&'static str, Severity, String)> {
        let answers = Answers {
            status: Map::from_iter([("watchers".to_string(), watchers)]),
            identity: Some(Map::new()),
            plan: None,
            now: 100.0,
        };
        findings(&answers)
            .into_iter()
            .map(|one| {
                (
                    one.id,
                    one.severity,
                    format!("{} / {}", one.what, one.why.unwrap_or_default()),
                )
            })
            .collect()
    }

    #[test]
    fn each_watcher_that_is_not_well_says_why() {
        let last = json!({"pid": 7, "time": 98.0, "code": 127, "signal": null, "lived": 0.01, "stderr": ["a", "no db"]});
        let found = of(json!({
            "ok": {"status": "active", "numprocesses": 1, "workers": [1], "last_exit": last},
            "flap": {"status": "active", "numprocesses": 1, "workers": [], "failures": 5, "next_start": 102.0, "last_exit": last},
            "gone": {"status": "stopped", "numprocesses": 1, "workers": [], "gave_up": true, "trouble": "no such file"},
            "once": {"status": "stopped", "numprocesses": 1, "workers": [], "gave_up": true},
            "off": {"status": "stopped", "numprocesses": 1, "workers": []},
            "held": {"status": "stopped", "workers": [], "stopped_by": {"by": "flapping", "because": "x"}},
            "loud": {"status": "active", "numprocesses": 0, "workers": [], "streams": {"stdout": {"trouble": "disk full", "dropped": 2048}}},
        }));
        let ids: Vec<&str> = found.iter().map(|(id, ..)| *id).collect();
        assert_eq!(
            ids,
            [
                "flapping",
                "gave-up",
                "gave-up",
                "stopped-by",
                "stream",
                "dropped"
            ]
        );
        assert_eq!(
            found[0].2,
            "flapping: 5 failures in a row, 0 of 1 workers run; the next try is in 2s / last exit 2s ago: exit code 127 (of \
             a shell: command not found), after 0.010 s\n| a\n| no db"
        );
        assert_eq!((found[1].1, found[2].1), (Severity::Error, Severity::Note));
    }

    #[test]
    fn drift_is_told_section_by_section() {
        let answers = |plan: Result<Value, &str>| Answers {
            identity: Some(Map::new()),
            plan: Some(
                plan.map(|plan| plan.as_object().unwrap().clone())
                    .map_err(str::to_string),
            ),
            ..Answers::default()
        };
        let plan = json!({"plan": [{"section": "watcher:web", "action": "replace"}, {"section": "watcher:x", "action": "none"}],
                          "restart_needed": ["circus.endpoint"]});
        let found = findings(&answers(Ok(plan)));
        assert_eq!(found.len(), 2);
        assert!(
            found[0].what.ends_with("watcher:web (replace)"),
            "{}",
            found[0].what
        );
        assert_eq!(findings(&answers(Ok(json!({"plan": []})))), []);
        assert_eq!(
            findings(&answers(Err("line 3: bad")))[0].id,
            "config-refused"
        );
        assert_eq!(findings(&Answers::default())[0].id, "circusd");
    }
}
