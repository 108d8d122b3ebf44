//! Commands that change what is configured.

use serde_json::{Value, json};

use super::scenarios::{SMALL, Scenario, c, edit, scenario, w};

pub fn adding() -> Scenario {
    let steps = vec![
        c("add", json!({"name": "n1", "cmd": "sleep 1000"})),
        c("status", json!({"name": "n1"})),
        c("options", json!({"name": "n1"})),
        c("add", json!({"name": "n1", "cmd": "sleep 1000"})),
        c("add", json!({"name": "N1", "cmd": "sleep 1000"})),
        w(
            "add",
            json!({"name": "N2 x-y", "cmd": "sleep 1000", "start": true}),
        ),
        c("status", json!({})),
        c("list", json!({})),
        w(
            "add",
            json!({"name": "n3", "cmd": "sleep 1000", "start": true, "options": {"numprocesses": 2, "graceful_timeout": 5}}),
        ),
        c(
            "add",
            json!({"name": "n4", "cmd": "sleep 1000", "start": true, "options": {"graceful_timeout": 5}}),
        ),
        c(
            "add",
            json!({"name": "n5", "cmd": "sleep", "args": "1000", "start": true}),
        ),
        c(
            "add",
            json!({"name": "n6", "cmd": "sleep", "args": ["1000"], "start": true}),
        ),
        c("options", json!({"name": "n3"})),
        c("options", json!({"name": "n6"})),
        c(
            "add",
            json!({"name": "n7", "cmd": "sleep 1000", "options": {
            "env": {"A": "b"}, "stop_signal": 2, "shell": true, "uid": 0, "respawn": false,
            "max_age": 5, "send_hup": true, "working_dir": "/"}}),
        ),
        c("options", json!({"name": "n7"})),
        w(
            "add",
            json!({"name": "n8", "cmd": "/no/such/program", "start": true}),
        ),
        c("status", json!({"name": "n8"})),
        c("add", json!({"name": "no cmd"})),
        c("add", json!({"cmd": "sleep 1"})),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"zzz": 1}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"numprocesses": "x"}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"numprocesses": 2, "singleton": true}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": ["x"]}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"rlimit_zzz": 1}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"rlimit_nofile": "x"}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"uid": "nosuchuser"}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"env": {"A": 1}}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"hooks": {"zzz": "x"}}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"stdout_stream": {"filename": "/x"}}}),
        ),
        c(
            "add",
            json!({"name": "bad", "cmd": "sleep 1", "options": {"copy_env": "yes"}}),
        ),
        c("add", json!({"name": 5, "cmd": "sleep 1"})),
        c("add", json!({"name": "", "cmd": "sleep 1000"})),
        c("list", json!({})),
        c("rm", json!({"name": "n1"})),
        w("rm", json!({"name": "n3"})),
        c("rm", json!({"name": "n2 X-Y"})),
        w("rm", json!({"name": "n4", "nostop": true})),
        c("rm", json!({"name": "n4"})),
        c("rm", json!({"name": "nope"})),
        c("rm", json!({})),
        c("rm", json!({"name": 5})),
        c("list", json!({})),
        c("numwatchers", json!({})),
        // What circusd takes and cannot run, or cannot take, stands at the end: it changes the later lists.
        c(
            "add",
            json!({"name": "limited", "cmd": "sleep 1000", "options": {"rlimit_nofile": 100}}),
        ),
        c("add", json!({"name": "five", "cmd": 5})),
    ];
    scenario("adding", SMALL, steps)
}

pub fn setting() -> Scenario {
    let set = |options: Value| w("set", json!({"name": "web", "options": options}));
    let mut steps = vec![
        set(json!({"numprocesses": 3})),
        set(json!({"numprocesses": 1})),
        set(json!({"numprocesses": -1})),
        set(json!({"numprocesses": 0})),
        set(json!({"numprocesses": 2})),
        c(
            "set",
            json!({"name": "web", "options": {"numprocesses": 1}}),
        ),
        set(json!({"graceful_timeout": 4})),
        set(json!({"graceful_timeout": 4.5})),
        set(json!({"warmup_delay": 0})),
        set(json!({"working_dir": "/"})),
        set(json!({"stop_signal": 2})),
        set(json!({"stop_children": true})),
        set(json!({"send_hup": true})),
        set(json!({"send_hup": false})),
        set(json!({"max_age": 1000})),
        set(json!({"max_age_variance": 3})),
        set(json!({"env": {"A": "b"}})),
        set(json!({"cmd": "sleep 2000"})),
        set(json!({"args": "1"})),
        set(json!({"shell": true})),
        set(json!({"shell": false})),
        set(json!({"respawn": true})),
        set(json!({"copy_env": false})),
        set(json!({"singleton": false})),
        set(json!({"uid": 0})),
        set(json!({"gid": 0})),
        set(json!({"stop_signal": 15, "graceful_timeout": 3})),
        set(json!({"stop_signal": 15, "cmd": "sleep 3000"})),
        set(json!({})),
        c("options", json!({"name": "web"})),
    ];
    for bad in [
        json!({"zzz": 1}),
        json!({"name": "x"}),
        json!({"numprocesses": "abc"}),
        json!({"numprocesses": 1.5}),
        json!({"numprocesses": true}),
        json!({"numprocesses": null}),
        json!({"graceful_timeout": "x"}),
        json!({"warmup_delay": null}),
        json!({"stop_signal": "TERM"}),
        json!({"stop_children": 1}),
        json!({"send_hup": "yes"}),
        json!({"shell": "no"}),
        json!({"max_age": 1.5}),
        json!({"max_retry": []}),
        json!({"uid": "nosuchuser"}),
        json!({"uid": 1.5}),
        json!({"gid": "nosuchgroup"}),
        json!({"env": {"A": 1}}),
        json!({"env": "A=1"}),
        json!({"env": ["A"]}),
        json!({"rlimit_zzz": 1}),
        json!({"rlimit_nofile": "x"}),
        json!({"hooks": "x"}),
        json!({"hooks": {"zzz": "x"}}),
        json!({"stdout_stream": "x"}),
        json!({"stdout_stream": {"filename": "/x"}}),
        json!({"numprocesses": 2, "zzz": 1}),
    ] {
        steps.push(set(bad));
    }
    steps.extend([
        c("set", json!({"name": "web", "options": ["a"]})),
        c("set", json!({"name": "web", "options": "numprocesses=1"})),
        c("set", json!({"name": "web", "options": null})),
        c("set", json!({"name": "web"})),
        c("set", json!({"options": {}})),
        c(
            "set",
            json!({"name": "nope", "options": {"numprocesses": 2}}),
        ),
        c("set", json!({"name": 5, "options": {"numprocesses": 2}})),
        w(
            "set",
            json!({"name": "one", "options": {"numprocesses": 2}}),
        ),
        w(
            "set",
            json!({"name": "WEB", "options": {"numprocesses": 2}}),
        ),
        c("options", json!({"name": "web"})),
        c("list", json!({"name": "web"})),
        // What circusd says ok to and forgets stands at the end: circ does it, and then its options differ.
        set(json!({"max_retry": 3})),
        set(json!({"retry_in": 3})),
        set(json!({"close_child_stdin": true})),
        set(json!({"rlimit_nofile": 300})),
        set(json!({"rlimit_nofile": null})),
        set(json!({"priority": 3})),
    ]);
    scenario("setting", SMALL, steps)
}

pub fn configuration() -> Scenario {
    let steps = vec![
        w("reloadconfig", json!({})),
        edit(
            "web gets three processes",
            SMALL.replace("numprocesses = 2", "numprocesses = 3"),
        ),
        w("reloadconfig", json!({})),
        c("list", json!({"name": "web"})),
        edit(
            "a watcher is new",
            format!("{SMALL}\n[watcher:fresh]\ncmd = sleep 1000\ngraceful_timeout = 5\n")
                .replace("numprocesses = 2", "numprocesses = 3"),
        ),
        w("reloadconfig", json!({})),
        c("status", json!({})),
        edit(
            "web has another command",
            SMALL.replace(
                "cmd = sleep 1000\nnumprocesses = 2",
                "cmd = sleep 2000\nnumprocesses = 3",
            ),
        ),
        w("reloadconfig", json!({})),
        c("status", json!({})),
        c(
            "get",
            json!({"name": "web", "keys": ["cmd", "numprocesses"]}),
        ),
        c("reloadconfig", json!({})),
        c("reloadconfig", json!({"zzz": 1})),
        edit("one is gone", SMALL.replace("[watcher:one]", "[other:one]")),
        w("reloadconfig", json!({})),
        c("status", json!({})),
    ];
    scenario("configuration", SMALL, steps)
}
