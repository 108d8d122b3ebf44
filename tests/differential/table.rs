//! The one table of wanted differences between circ and circusd 0.19.0.

use serde_json::{Value, json};

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
    /// circusd says ok; circ answers an error with this errno.
    Refused { errno: i64 },
    /// circusd answers what is no JSON; circ answers an error with this errno.
    Refusal { errno: i64 },
    /// circusd's error misleads or leaks its insides; circ's has this reason and this errno.
    Reason(&'static str, i64),
    /// circ replies exactly this, besides `time` and `id`.
    Reply(&'static str),
    /// circ tells the same options, but for these.
    Options(&'static str),
    /// circ publishes exactly these topics, watcher by watcher.
    Events(&'static [&'static str]),
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

const fn differs(
    scenario: &'static str,
    step: &'static str,
    part: Part,
    wanted: Wanted,
    why: &'static str,
) -> Difference {
    Difference {
        scenario,
        step,
        part,
        wanted,
        why,
    }
}

const fn clean(scenario: &'static str, step: &'static str) -> Difference {
    differs(
        scenario,
        step,
        Part::Reply,
        Wanted::CleanError,
        "a Python traceback tells a user nothing",
    )
}

const fn answered(scenario: &'static str, step: &'static str, errno: i64) -> Difference {
    differs(
        scenario,
        step,
        Part::Reply,
        Wanted::Answered { errno },
        "circusd leaves the client waiting",
    )
}

const fn reloaded(step: &'static str, reply: &'static str) -> Difference {
    differs(
        "configuration",
        step,
        Part::Reply,
        Wanted::Reply(reply),
        "circ tells what has changed",
    )
}

/// Every wanted difference.
pub const DIFFERENCES: &[Difference] = &[
    clean("questions", r#"list {"name":5}"#),
    clean("questions", r#"list {"name":null}"#),
    clean("questions", r#"status {"name":["web"]}"#),
    clean("questions", r#"stats {"name":"web","process":"x"}"#),
    clean("questions", r#"options {"name":7}"#),
    differs(
        "questions",
        r#"get {"name":"one","keys":["extra_key"]}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "options": {"extra_key": "kept as it is"}}"#),
        "circusd keeps keys it does not know, lists them with `options`, and stumbles when one is asked for",
    ),
    differs(
        "questions",
        r#"get {"name":"Back Office-2","keys":["rlimits","working_dir","priority","args"]}"#,
        Part::Reply,
        Wanted::Reply(
            r#"{"status": "ok", "options": {"rlimits": {"nofile": 500, "core": 0}, "working_dir": "/", "priority": 3, "args": "$(circus.wid)000"}}"#,
        ),
        "circusd takes limits and does not tell them",
    ),
    clean("malformed", r#"properties null"#),
    clean("malformed", r#"properties string"#),
    clean("malformed", r#"properties number"#),
    clean("malformed", r#"needed properties null"#),
    answered("malformed", r#"empty message"#, 1),
    answered("malformed", r#"white space"#, 1),
    answered("malformed", r#"an array"#, 3),
    answered("malformed", r#"a number"#, 3),
    answered("malformed", r#"a string"#, 3),
    answered("malformed", r#"null"#, 3),
    answered("malformed", r#"true"#, 3),
    answered("malformed", r#"empty object"#, 3),
    answered("malformed", r#"command null"#, 3),
    answered("malformed", r#"command number"#, 3),
    answered("malformed", r#"command list"#, 3),
    answered("malformed", r#"deep nesting"#, 1),
    differs(
        "malformed",
        r#"id is NaN"#,
        Part::Reply,
        Wanted::Refusal { errno: 1 },
        "Python reads and writes it, but it is no JSON that others could read",
    ),
    differs(
        "malformed",
        r#"id is half a surrogate pair"#,
        Part::Reply,
        Wanted::Refusal { errno: 1 },
        "Python reads and writes it, but it is no JSON that others could read",
    ),
    clean(
        "counts",
        r#"set {"name":"one","options":{"numprocesses":2},"waiting":true}"#,
    ),
    answered(
        "counts",
        r#"incr {"name":"web","nb":"abc","waiting":true}"#,
        5,
    ),
    answered(
        "counts",
        r#"incr {"name":"web","nb":"2","waiting":true}"#,
        5,
    ),
    answered(
        "counts",
        r#"incr {"name":"web","nb":null,"waiting":true}"#,
        5,
    ),
    answered(
        "counts",
        r#"decr {"name":"web","nb":"x","waiting":true}"#,
        5,
    ),
    differs(
        "counts",
        r#"incr {"name":"web","nb":"abc"}"#,
        Part::Reply,
        Wanted::Refused { errno: 5 },
        "circusd says ok, and its log says TypeError",
    ),
    clean(
        "start_and_stop",
        r#"start {"name":"(","match":"regex","waiting":true}"#,
    ),
    clean("start_and_stop", r#"start {"name":5,"waiting":true}"#),
    clean("start_and_stop", r#"start {"name":null,"waiting":true}"#),
    clean("restarts", r#"restart {"name":["web"],"waiting":true}"#),
    clean("reloads", r#"reload {"name":5,"waiting":true}"#),
    clean("signals", r#"signal {"name":"web","signum":"ZZZ"}"#),
    clean("signals", r#"signal {"name":"web","signum":null}"#),
    clean("signals", r#"signal {"name":"web","signum":["CONT"]}"#),
    clean(
        "signals",
        r#"signal {"name":"web","signum":18,"childpid":999999}"#,
    ),
    clean(
        "signals",
        r#"signal {"name":"web","signum":18,"pid":"$pid web 0","childpid":999999}"#,
    ),
    differs(
        "signals",
        r#"signal {"name":"web","signum":"CONT+1000"}"#,
        Part::Reply,
        Wanted::Reason("signal invalid", 5),
        "circusd asks the kernel; to circ it is a name that stands for no signal, as any other",
    ),
    differs(
        "signals",
        r#"signal {"name":"web","signum":18,"pid":999999}"#,
        Part::Reply,
        Wanted::Refused { errno: 3 },
        "circusd says ok to any pid and signals nobody: only the watcher's own processes are meant",
    ),
    differs(
        "signals",
        r#"signal {"name":"web","signum":18,"pid":1}"#,
        Part::Reply,
        Wanted::Refused { errno: 3 },
        "circusd says ok to any pid and signals nobody: only the watcher's own processes are meant",
    ),
    differs(
        "signals",
        r#"signal {"name":"web","signum":18,"pid":"x"}"#,
        Part::Reply,
        Wanted::Refused { errno: 5 },
        "circusd says ok and signals nobody",
    ),
    clean("kills", r#"kill {"name":"web","signum":"ZZZ"}"#),
    clean("kills", r#"kill {"name":"web","pid":"x"}"#),
    differs(
        "kills",
        r#"kill {"name":"nope","waiting":true}"#,
        Part::Reply,
        Wanted::Reason(r#"program nope not found"#, 3),
        "circusd says only \"server error\"",
    ),
    differs(
        "kills",
        r#"kill {"name":"nope"}"#,
        Part::Reply,
        Wanted::Refused { errno: 3 },
        "circusd says ok to a watcher it does not have",
    ),
    clean("adding", r#"add {"name":"n1","cmd":"sleep 1000"} (2)"#),
    clean("adding", r#"add {"name":"N1","cmd":"sleep 1000"}"#),
    clean(
        "adding",
        r#"add {"name":"bad","cmd":"sleep 1","options":{"numprocesses":2,"singleton":true}}"#,
    ),
    clean("adding", r#"add {"name":5,"cmd":"sleep 1"}"#),
    clean("adding", r#"rm {"name":5}"#),
    differs(
        "reloads",
        r#"reload {"name":"one","waiting":true}"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.one.kill",
            "watcher.one.reap",
            "watcher.one.spawn",
            "watcher.one.reload",
        ]),
        "a singleton never has two workers: the old one goes before the new one comes",
    ),
    differs(
        "reloads",
        r#"reload {"waiting":true}"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.back_office-2.spawn",
            "watcher.back_office-2.kill",
            "watcher.back_office-2.reload",
            "watcher.mark.stop",
            "watcher.mark.reload",
            "watcher.off.spawn",
            "watcher.off.spawn",
            "watcher.off.kill",
            "watcher.off.kill",
            "watcher.off.reload",
            "watcher.one.kill",
            "watcher.one.reap",
            "watcher.one.spawn",
            "watcher.one.reload",
            "watcher.shell.spawn",
            "watcher.shell.kill",
            "watcher.shell.reload",
            "watcher.stubborn.spawn",
            "watcher.stubborn.kill",
            "watcher.stubborn.kill",
            "watcher.stubborn.reload",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.reload",
        ]),
        "as above",
    ),
    differs(
        "adding",
        r#"status {"name":"n8"}"#,
        Part::Reply,
        Wanted::Reply(
            r#"{"status": "stopped", "trouble": "cannot execute /no/such/program: No such file or directory",
                "last_exit": {"pid": null, "time": "<float>", "code": null, "signal": null, "lived": 0.0, "stderr": [],
                              "reason": "cannot execute /no/such/program: No such file or directory"}}"#,
        ),
        "two more keys say why the watcher does not run",
    ),
    differs(
        "adding",
        r#"add {"name":"bad","cmd":"sleep 1","options":{"hooks":{"zzz":"x"}}}"#,
        Part::Reply,
        Wanted::Reason(r#"Unknown hook 'zzz'"#, 3),
        "circusd shows the whole dict instead of the unknown name",
    ),
    differs(
        "adding",
        r#"add {"name":"","cmd":"sleep 1000"}"#,
        Part::Reply,
        Wanted::Refused { errno: 3 },
        "circusd says ok and adds nothing",
    ),
    differs(
        "adding",
        r#"add {"name":"limited","cmd":"sleep 1000","options":{"rlimit_nofile":100}}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok"}"#),
        "circusd cannot take a limit that is a number, though its own check asks for one",
    ),
    differs(
        "adding",
        r#"add {"name":"limited","cmd":"sleep 1000","options":{"rlimit_nofile":100}}"#,
        Part::Events,
        Wanted::Events(&["watcher.limited.add"]),
        "as above",
    ),
    differs(
        "adding",
        r#"add {"name":"five","cmd":5}"#,
        Part::Reply,
        Wanted::Refused { errno: 5 },
        "circusd adds a watcher that can never start",
    ),
    differs(
        "adding",
        r#"add {"name":"five","cmd":5}"#,
        Part::Events,
        Wanted::Events(&[]),
        "as above",
    ),
    clean(
        "setting",
        r#"set {"name":"web","options":{"uid":"nosuchuser"},"waiting":true}"#,
    ),
    clean(
        "setting",
        r#"set {"name":"web","options":{"gid":"nosuchgroup"},"waiting":true}"#,
    ),
    clean("setting", r#"set {"name":5,"options":{"numprocesses":2}}"#),
    clean(
        "setting",
        r#"set {"name":"one","options":{"numprocesses":2},"waiting":true}"#,
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"numprocesses":-1},"waiting":true}"#,
        Part::Reply,
        Wanted::Refused { errno: 3 },
        "circusd takes it for 0 and stops everything",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"numprocesses":-1},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&[]),
        "as above",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"numprocesses":0},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&["watcher.web.updated", "watcher.web.kill"]),
        "circusd has none left to stop",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"numprocesses":true},"waiting":true}"#,
        Part::Reply,
        Wanted::Refused { errno: 3 },
        "to Python true is 1",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"numprocesses":true},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&[]),
        "as above",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"hooks":{"zzz":"x"}},"waiting":true}"#,
        Part::Reply,
        Wanted::Reason(r#"Unknown hook 'zzz'"#, 3),
        "circusd shows the whole dict instead of the unknown name",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"close_child_stdin":true},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.web.updated",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.reload",
        ]),
        "circusd says ok and forgets it; circ does it, for which the processes are reloaded",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"rlimit_nofile":300},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.web.updated",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.reload",
        ]),
        "circusd says ok and forgets it; circ does it, for which the processes are reloaded",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"rlimit_nofile":null},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.web.updated",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.reload",
        ]),
        "circusd says ok and forgets it; circ does it, for which the processes are reloaded",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"priority":3},"waiting":true}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok"}"#),
        "circusd cannot change the priority of a watcher that runs",
    ),
    differs(
        "setting",
        r#"set {"name":"web","options":{"priority":3},"waiting":true}"#,
        Part::Events,
        Wanted::Events(&["watcher.web.updated"]),
        "as above",
    ),
    reloaded(
        r#"reloadconfig {"waiting":true}"#,
        r#"{"status": "ok", "changed": [], "reloaded": [], "restart_needed": []}"#,
    ),
    reloaded(
        r#"reloadconfig {"waiting":true} (2)"#,
        r#"{"status": "ok", "changed": ["watcher:web"], "reloaded": [], "restart_needed": []}"#,
    ),
    reloaded(
        r#"reloadconfig {"waiting":true} (3)"#,
        r#"{"status": "ok", "changed": ["watcher:fresh"], "reloaded": [], "restart_needed": []}"#,
    ),
    reloaded(
        r#"reloadconfig {"waiting":true} (4)"#,
        r#"{"status": "ok", "changed": ["watcher:fresh", "watcher:web"], "reloaded": ["web"], "restart_needed": []}"#,
    ),
    reloaded(
        r#"reloadconfig {}"#,
        r#"{"status": "ok", "changed": [], "reloaded": [], "restart_needed": []}"#,
    ),
    reloaded(
        r#"reloadconfig {"zzz":1}"#,
        r#"{"status": "ok", "changed": [], "reloaded": [], "restart_needed": []}"#,
    ),
    reloaded(
        r#"reloadconfig {"waiting":true} (5)"#,
        r#"{"status": "ok", "changed": ["watcher:one", "watcher:web"], "reloaded": ["web"], "restart_needed": []}"#,
    ),
    differs(
        "configuration",
        r#"reloadconfig {"waiting":true} (3)"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.fresh.add",
            "watcher.fresh.spawn",
            "watcher.fresh.start",
        ]),
        "circusd tells of an added watcher only when `add` added it",
    ),
    differs(
        "configuration",
        r#"reloadconfig {"waiting":true} (4)"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.fresh.remove",
            "watcher.fresh.kill",
            "watcher.fresh.reap",
            "watcher.fresh.stop",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.reload",
        ]),
        "a watcher with another command is reloaded, new processes before the old ones go; circusd stops it first",
    ),
    differs(
        "configuration",
        r#"reloadconfig {"waiting":true} (5)"#,
        Part::Events,
        Wanted::Events(&[
            "watcher.one.remove",
            "watcher.one.kill",
            "watcher.one.reap",
            "watcher.one.stop",
            "watcher.web.spawn",
            "watcher.web.spawn",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.kill",
            "watcher.web.reload",
        ]),
        "as above",
    ),
    differs(
        "every_option",
        r#"options {"name":"all"}"#,
        Part::Reply,
        Wanted::Options(
            r#"{"executable": "/bin/sh",
            "stdout_stream_conf": {"class": "FileStream", "filename": "<site>/out", "max_bytes": "1000", "backup_count": "3"},
            "stderr_stream_conf": {"class": "StdoutStream"}}"#,
        ),
        "circusd loses the class of a stream when it makes one, and never tells the executable",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["executable"]}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "options": {"executable": "/bin/sh"}}"#),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["autostart"]}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "options": {"autostart": false}}"#),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["stdin_socket"]}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "options": {"stdin_socket": "local"}}"#),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["stdout_stream"]}"#,
        Part::Reply,
        Wanted::Reply(
            r#"{"status": "ok", "options": {"stdout_stream": {"class": "FileStream", "filename": "<site>/out", "max_bytes": "1000", "backup_count": "3"}}}"#,
        ),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["stderr_stream"]}"#,
        Part::Reply,
        Wanted::Reply(
            r#"{"status": "ok", "options": {"stderr_stream": {"class": "StdoutStream"}}}"#,
        ),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["check_flapping"]}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "options": {"check_flapping": false}}"#),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"get {"name":"all","keys":["retry_in"]}"#,
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "options": {"retry_in": "3"}}"#),
        "circusd takes it and does not tell it",
    ),
    differs(
        "every_option",
        r#"options {"name":"none"} (2)"#,
        Part::Reply,
        Wanted::Options(r#"{"copy_env": true, "respawn": false}"#),
        "circusd says ok to these and forgets them",
    ),
    differs(
        "every_option",
        "ipython {}",
        Part::Reply,
        Wanted::Reply(r#"{"status": "ok", "shell": false, "msg": "circ has no Python inside"}"#),
        "circusd has no IPython either, where that is not installed",
    ),
];

impl Wanted {
    /// Why these two replies do not differ in the wanted way.
    pub fn misses(&self, circus: &Value, circ: &Value) -> Option<String> {
        let error = |errno: &Value| {
            let clean = circ["reason"].as_str().is_some_and(|r| {
                !r.is_empty()
                    && r.len() < 400
                    && !r.contains("Traceback")
                    && !r.contains("command b'")
            });
            circ["status"] == "error" && circ["tb"].is_null() && circ["errno"] == *errno && clean
        };
        let right = match self {
            Self::CleanError => circus["status"] == "error" && error(&circus["errno"]),
            Self::Answered { errno } => circus.is_null() && error(&json!(errno)),
            Self::Refused { errno } => circus["status"] == "ok" && error(&json!(errno)),
            Self::Refusal { errno } => circus["not JSON"].is_string() && error(&json!(errno)),
            Self::Reason(reason, errno) => {
                circus["status"] == "error" && error(&json!(errno)) && circ["reason"] == *reason
            }
            Self::Reply(wanted) => {
                let mut rest = circ.clone();
                if let Some(map) = rest.as_object_mut() {
                    map.retain(|key, _| key != "time" && key != "id");
                }
                serde_json::from_str::<Value>(wanted).expect("the table holds JSON") == rest
            }
            Self::Options(others) => {
                let others: Value = serde_json::from_str(others).expect("the table holds JSON");
                let mut wanted = circus.clone();
                for (key, value) in others.as_object().into_iter().flatten() {
                    wanted["options"][key] = value.clone();
                }
                wanted == *circ
            }
            Self::Events(_) => false,
        };
        (!right).then(|| format!("the table wants {self:?}"))
    }

    /// Why these topics are not the wanted ones.
    pub fn misses_events(&self, circ: &[&str]) -> Option<String> {
        let right = matches!(self, Self::Events(wanted) if *wanted == circ);
        (!right).then(|| format!("the table wants {self:?}"))
    }
}

/// Every entry must name a step that exists, once, and say why.
pub fn check(scenarios: &[Scenario]) {
    for (i, entry) in DIFFERENCES.iter().enumerate() {
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
        let same = |d: &&Difference| {
            (d.scenario, d.step, d.part) == (entry.scenario, entry.step, entry.part)
        };
        assert_eq!(
            DIFFERENCES[..i].iter().filter(same).count(),
            0,
            "twice in the table: {entry:?}"
        );
    }
}
