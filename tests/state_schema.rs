//! The JSON Schemas, judged by an independent validator: what they reject the reader rejects, and the other way round.

mod support;

#[path = "state_schema/judge.rs"]
mod judge;

use std::process::Command;

use serde_json::{Map, Value, json};

use circ::options::{HOOKS, RLIMITS, WATCHER_OPTIONS};
use circ::state::document::{self, Format};
use circ::state::schema;
use judge::verdicts;

fn reader(document: &Value) -> Result<(), String> {
    document::parse(document.to_string().as_bytes(), "doc", Format::Json)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Every document is judged alike by the schema and by the reader.
fn judged_alike(documents: &[Value]) -> (usize, usize) {
    let mut counts = (0, 0);
    let mut wrong = Vec::new();
    for (document, verdict) in documents.iter().zip(verdicts(&schema::state(), documents)) {
        match (reader(document), verdict) {
            (Ok(()), None) => counts.0 += 1,
            (Err(_), Some(_)) => counts.1 += 1,
            (Ok(()), Some(told)) => {
                wrong.push(format!("{document}: only the schema rejects it: {told}"))
            }
            (Err(told), None) => {
                wrong.push(format!("{document}: only the reader rejects it: {told}"))
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        documents.len(),
        wrong
            .iter()
            .take(30)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    );
    counts
}

/// Values of every type, at the edges of what keys take.
fn values() -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!([]),
        json!(["a", "b c"]),
        json!([1]),
        json!([true]),
        json!([["a"]]),
        json!({}),
        json!({"a": "b"}),
        json!({"nofile": 3}),
        json!({"nofile": "x"}),
        json!({"before_start": "m.f"}),
        json!({"class": "FileStream", "max_bytes": 3, "my own": true}),
        json!({"max_bytes": "x"}),
        json!({"a=b": "c"}),
        json!({"a": {}}),
        json!({"call": "m.f"}),
        json!({"call": "m.f", "ignore_failure": true}),
        json!({"call": "m,f"}),
        json!({"ignore_failure": true}),
        json!({"A": null}),
        json!({"cmd": "x"}),
    ];
    values.extend([true, false].map(Value::from));
    values.extend(
        [
            0i64,
            1,
            2,
            15,
            64,
            65,
            70000,
            -1,
            -2,
            i64::from(i32::MAX),
            i64::from(i32::MAX) + 1,
        ]
        .map(Value::from),
    );
    values.extend([0.5, 1.0, 4.0, -1.0, -0.5, 1e3, 1e30].map(Value::from));
    values.extend(
        [
            "",
            " ",
            "x",
            "a b",
            "4",
            " 4 ",
            "-4",
            "+4",
            "1_0",
            "_1",
            "1.5",
            ".5",
            "5.",
            "1e3",
            "-1",
            "nan",
            "inf",
            "yes",
            "OFF",
            "maybe",
            "True",
            "TERM",
            "sigterm",
            "SIGRTMIN+3",
            "RTMIN+31",
            "TERM+1",
            "NOPE",
            "15",
            "65",
            "0",
            "$(circus.env.X)",
            "((circus.wid))",
            "${socket:a}",
            "$X",
            "tcp://127.0.0.1:1",
            " ipc:///x ",
            "TCP://x",
            "tcp://",
            "://x",
            "m.f",
            "m.f,True",
            "m.f,maybe",
            ",True",
            "a,b,c",
            "022",
            "0o22",
            "8",
            "99",
            "debug",
            "INFO",
            "AF_INET",
            "af_unix",
            "running",
            "stopped",
            "present",
            "absent",
            "auto",
            "never",
            "é",
            "a\nb",
        ]
        .map(Value::from),
    );
    values
}

fn nested(path: &[&str], value: Value) -> Value {
    path.iter()
        .rev()
        .fold(value, |inner, key| json!({*key: inner}))
}

#[test]
fn every_key_of_a_watcher_takes_the_same_values() {
    let mut keys: Vec<String> = WATCHER_OPTIONS
        .iter()
        .map(|spec| spec.name.to_string())
        .collect();
    keys.extend(RLIMITS.iter().map(|limit| format!("rlimit_{limit}")));
    keys.extend(HOOKS.iter().take(2).map(|hook| format!("hooks.{hook}")));
    let others = [
        "name",
        "state",
        "restart_on_change",
        "with_env",
        "with_socket",
        "extra",
        "retry_in",
        "check_flapping",
        "x_own",
        "x-own",
        "x_",
        "x_a=b",
        "nonsense",
        "numproceses",
        "rlimit_nofiles",
        "hooks.never",
        "stdout_stream.class",
        "stdout_stream.max_bytes",
        "stderr_stream.my own",
        "stdout_stream.",
        "stdout_stream.a=b",
        "stdout_stream_conf",
        "Cmd",
        "",
    ];
    keys.extend(others.map(str::to_string));
    let mut documents = Vec::new();
    for key in &keys {
        for value in values() {
            documents.push(nested(&["watcher", "web", key], value));
        }
    }
    let (accepted, rejected) = judged_alike(&documents);
    println!("{accepted} accepted, {rejected} rejected by both");
    assert!(accepted > 500 && rejected > 500);
}

#[test]
fn every_key_of_the_other_sections_takes_the_same_values() {
    use circ::config::keys::{CIRCUS_KEYS, PLUGIN_KEYS, SOCKET_KEYS};
    let mut documents = Vec::new();
    for value in values() {
        for spec in CIRCUS_KEYS {
            // Files that a document in memory cannot include.
            if !spec.name.starts_with("include") || !(value.is_string() || value.is_array()) {
                documents.push(nested(&["circus", spec.name], value.clone()));
            }
        }
        documents.push(nested(&["circus", "nonsense"], value.clone()));
        for key in SOCKET_KEYS
            .iter()
            .map(|spec| spec.name)
            .chain(["state", "nonsense"])
        {
            documents.push(nested(&["socket", "web", key], value.clone()));
            let mut socket = Map::from_iter([("port".to_string(), json!(80))]);
            socket.insert(key.to_string(), value.clone());
            documents.push(json!({"socket": {"web": socket}}));
        }
        for key in PLUGIN_KEYS
            .iter()
            .map(|spec| spec.name)
            .chain(["state", "own", "a=b", ""])
        {
            let mut plugin = Map::from_iter([("use".to_string(), json!("a.B"))]);
            plugin.insert(key.to_string(), value.clone());
            documents.push(json!({"plugin": {"p": plugin}}));
            documents.push(nested(&["plugin", "p", key], value.clone()));
        }
        for path in [
            &["env", "A"][..],
            &["env", "a b", "c"],
            &["env", "A=B"],
            &["env", "w*", "A:B"],
            &["env", "#A"],
            &["env", " A"],
            &["env", "A "],
            &["env", "A", "B", "C"],
            &["watcher", "web", "env", "A"],
            &["watcher", "web", "env", "[A"],
            &["watcher", "web", "extra", "my_key"],
            &["watcher", "web", "extra", "cmd"],
            &["watcher", "web", "extra", "rlimit_x"],
            &["watcher", "web", "extra", "a=b"],
            &["DEFAULT", "a"],
            &["env:w*", "A"],
            &["watcher:web", "shell"],
            &["watcher:", "shell"],
            &["watcher: a", "shell"],
            &["socket:web", "port"],
            &["plugin:p", "use"],
            &["prune"],
            &["schema"],
            &["$schema"],
            &["watcher"],
            &["watcher", "web"],
            &["watcher", "a]b"],
            &["watcher", ""],
            &["watcher", " a"],
            &["watcher", "a b"],
            &["socket", "web"],
            &["plugin", "p"],
            &["circus"],
            &["env"],
            &["nonsense"],
            &["watchers"],
        ] {
            documents.push(nested(path, value.clone()));
        }
        documents.push(value);
    }
    let (accepted, rejected) = judged_alike(&documents);
    println!("{accepted} accepted, {rejected} rejected by both");
    assert!(accepted > 500 && rejected > 500);
}

#[test]
fn what_holds_between_keys_is_judged_alike() {
    let mut documents = vec![
        json!({"schema": "circ.desired/1", "prune": true}),
        json!({"schema": "circ.desired/2"}),
        json!({"watcher": {"a": {"singleton": true, "numprocesses": 2}}}),
        json!({"watcher": {"a": {"singleton": true, "numprocesses": 1}}}),
        json!({"watcher": {"a": {"singleton": false, "numprocesses": 2}}}),
        json!({"watcher": {"a": {"singleton": null, "numprocesses": 2}}}),
        json!({"watcher": {"a": {"with_env": true}}}),
        json!({"watcher": {"a": {"with_env": false}}}),
        json!({"watcher": {"a": {"with_socket": true, "state": "absent"}}}),
        json!({"watcher": {"a": {"with_socket": true, "state": "stopped"}}}),
        json!({"watcher": {"a": {"state": "absent", "cmd": "x"}}}),
        json!({"watcher": {"a": {"unset": ["max_age", "env.X", "anything", "hooks.before_start"]}}}),
        json!({"watcher": {"a": {"unset": "max_age"}}}),
        json!({"watcher": {"a": {"unset": [1]}}}),
        json!({"watcher": {"a": {}}, "socket": {"a": {"port": 1}}, "plugin": {"a": {"use": "x"}}}),
        json!({"unset": ["env.A", "circus.umask"]}),
        json!({"unset": ["env.A=B"]}),
        json!({"unset": ["circus.nope"]}),
        json!({"unset": ["A"]}),
        json!({"unset": "env.A"}),
    ];
    for path in [Value::Null, json!("/s")] {
        for host in [Value::Null, json!("h")] {
            for port in [Value::Null, json!(1)] {
                for state in ["present", "absent"] {
                    documents.push(json!({"socket": {"s": {"path": path, "host": host, "port": port, "state": state}}}));
                    let mut stated = json!({"socket": {"s": {"state": state}}});
                    for (key, value) in [("path", &path), ("host", &host), ("port", &port)] {
                        if !value.is_null() {
                            stated["socket"]["s"][key] = value.clone();
                        }
                    }
                    documents.push(stated);
                }
            }
        }
    }
    judged_alike(&documents);
}

#[test]
fn one_watcher_has_a_schema_of_its_own() {
    let documents = [
        json!({"cmd": "x", "numprocesses": 4, "env": {"A": 1}, "state": "running"}),
        json!({"numprocesses": -1}),
        json!({"env": {"A": []}}),
        json!({"nope": 1}),
    ];
    let verdicts: Vec<bool> = verdicts(&schema::watcher(), &documents)
        .iter()
        .map(Option::is_none)
        .collect();
    assert_eq!(verdicts, [true, false, false, false]);
}

#[test]
fn every_option_is_in_the_schema_with_its_words_and_default() {
    let schema = schema::watcher();
    for spec in WATCHER_OPTIONS {
        let property = &schema["properties"][spec.name];
        assert!(property.is_object(), "{}", spec.name);
        if spec.name != "env" {
            assert_eq!(property["description"], spec.doc, "{}", spec.name);
        }
    }
    assert_eq!(schema["properties"]["numprocesses"]["default"], 1);
    assert_eq!(schema["properties"]["graceful_timeout"]["default"], 30.0);
    assert_eq!(schema["properties"]["respawn"]["default"], true);
}

#[test]
fn the_command_prints_the_schemas() {
    for (resource, want) in [
        ("state", schema::state()),
        ("watcher", schema::watcher()),
        ("report", schema::report()),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_circ"))
            .args(["state", "schema", "--resource", resource])
            .output()
            .expect("circ runs");
        assert!(output.status.success());
        let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(printed, want);
    }
}

#[test]
fn reports_fit_their_schema() {
    let dir = tempfile::tempdir().expect("a directory");
    let ini = dir.path().join("circus.ini");
    let text = "[watcher:web]\ncmd = sleep 9\nnumprocesses = 2\n[socket:s]\nport = 0\n";
    std::fs::write(&ini, text).expect("written");
    let desired = dir.path().join("desired.toml");
    let wanted = "[watcher.web]\nnumprocesses = 3\nenv.TOKEN = \"x\"\n[watcher.gone]\nstate = \"absent\"\n\
        [socket.s]\nport = 1\n[circus]\nwarmup_delay = 1\n[env]\nA = 1\n";
    std::fs::write(&desired, wanted).expect("written");
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "[watcher.web]\nnope = 1\n").expect("written");
    let run = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_circ"))
            .arg("state")
            .args(args)
            .args(["--no-live", "--json", "--diff", "--config"])
            .arg(&ini)
            .output()
            .expect("circ runs");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error} in {output:?}"))
    };
    let desired = desired.to_string_lossy();
    let reports = [
        run(&["ensure", "web", "--procs", "4", "--check"]),
        run(&["ensure", "web", "--procs", "-4"]),
        run(&["ensure", "new", "--procs", "4"]),
        run(&["apply", &desired, "--check"]),
        run(&["apply", &desired, "--backup"]),
        run(&["apply", &desired]),
        run(&["apply", &bad.to_string_lossy()]),
        run(&["test", &desired]),
        run(&["absent", "web"]),
        run(&["absent", "web"]),
    ];
    for (report, verdict) in reports.iter().zip(verdicts(&schema::report(), &reports)) {
        assert_eq!(verdict, None, "{report:#}");
    }
    // The schema is no more than it should be: each of its keys is missed.
    let mut broken = Vec::new();
    for key in schema::report()["required"].as_array().expect("a list") {
        let mut report = reports[0].clone();
        if let (Value::Object(report), Some(key)) = (&mut report, key.as_str()) {
            assert!(report.shift_remove(key).is_some(), "{key}");
        }
        broken.push(report);
    }
    assert!(
        verdicts(&schema::report(), &broken)
            .iter()
            .all(Option::is_some)
    );
}
