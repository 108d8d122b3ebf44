//! Commands that start, stop and count processes.

use serde_json::{Value, json};

use super::scenarios::{SMALL, STACK, Scenario, c, scenario, silent, w};

pub fn counts() -> Scenario {
    let steps = vec![
        w("incr", json!({"name": "web"})),
        c("incr", json!({"name": "web"})),
        w("incr", json!({"name": "WEB", "nb": 3})),
        w("incr", json!({"name": "web", "nb": 0})),
        w("incr", json!({"name": "web", "nb": -2})),
        silent(w("incr", json!({"name": "web", "nb": "abc"}))),
        c("incr", json!({"name": "web", "nb": "abc"})),
        silent(w("incr", json!({"name": "web", "nb": "2"}))),
        silent(w("incr", json!({"name": "web", "nb": null}))),
        w("incr", json!({"name": "web", "nb": true})),
        c("incr", json!({})),
        c("incr", json!({"name": "nope"})),
        w("incr", json!({"name": "nope"})),
        c("incr", json!({"name": "one"})),
        w("incr", json!({"name": "one", "nb": 4})),
        w("decr", json!({"name": "web"})),
        c("decr", json!({"name": "web"})),
        w("decr", json!({"name": "web", "nb": 2})),
        silent(w("decr", json!({"name": "web", "nb": "x"}))),
        c("decr", json!({})),
        c("decr", json!({"name": "nope"})),
        w("decr", json!({"name": "web", "nb": 99})),
        c("list", json!({"name": "web"})),
        c("status", json!({"name": "web"})),
        w("incr", json!({"name": "web", "nb": 2})),
        w("decr", json!({"name": "one"})),
        c("status", json!({"name": "one"})),
        c("incr", json!({"name": "one"})),
        w(
            "set",
            json!({"name": "one", "options": {"numprocesses": 1}}),
        ),
        w(
            "set",
            json!({"name": "one", "options": {"numprocesses": 2}}),
        ),
        w("stop", json!({"name": "web"})),
        w("incr", json!({"name": "web"})),
        c("status", json!({})),
        w("decr", json!({"name": "web"})),
        w("start", json!({"name": "web"})),
        c("numprocesses", json!({})),
    ];
    scenario("counts", SMALL, steps)
}

pub fn start_and_stop() -> Scenario {
    let steps = vec![
        w("start", json!({"name": "web"})),
        c("start", json!({"name": "web"})),
        w("stop", json!({"name": "web"})),
        w("stop", json!({"name": "web"})),
        c("stop", json!({"name": "web"})),
        c("list", json!({"name": "web"})),
        c("stats", json!({"name": "web"})),
        w("start", json!({"name": "WEB"})),
        w("start", json!({"name": "off", "match": "simple"})),
        c("stop", json!({"name": "off", "match": "simple"})),
        c("stop", json!({"name": "stubborn"})),
        w("start", json!({"name": "stubborn"})),
        w("stop", json!({"name": "stubborn"})),
        w("start", json!({"name": "stubborn"})),
        w("stop", json!({"name": "back*", "match": "glob"})),
        w("start", json!({"name": "back*"})),
        w("stop", json!({"name": "s*", "match": "glob"})),
        w("start", json!({"name": "s*", "match": "glob"})),
        w("stop", json!({"name": "(web|one)$", "match": "regex"})),
        w("start", json!({"name": "(web|one)$", "match": "regex"})),
        w("stop", json!({"name": "ON.", "match": "regex"})),
        w("start", json!({"name": "on[a-f]"})),
        w("stop", json!({"name": "o[!f]e"})),
        w("start", json!({"name": "o?e"})),
        c("stop", json!({"name": "nope"})),
        w("stop", json!({"name": "nope", "match": "simple"})),
        w("start", json!({"name": "zzz*"})),
        w("start", json!({"name": "zzz", "match": "regex"})),
        w("start", json!({"name": "(", "match": "regex"})),
        w("start", json!({"name": "web", "match": "nope"})),
        w("start", json!({"name": "web", "match": 5})),
        w("start", json!({"name": 5})),
        w("start", json!({"name": null})),
        w("start", json!({"name": ""})),
        w("stop", json!({})),
        c("status", json!({})),
        w("start", json!({})),
        c("status", json!({})),
        c("stop", json!({})),
        c("start", json!({})),
        w("start", json!({"name": "*"})),
        w("stop", json!({"name": "*"})),
        c("numprocesses", json!({})),
    ];
    scenario("start_and_stop", STACK, steps)
}

pub fn restarts() -> Scenario {
    let steps = vec![
        w("restart", json!({"name": "web"})),
        c("restart", json!({"name": "web"})),
        w("restart", json!({"name": "Back Office-2"})),
        w("restart", json!({"name": "one", "match": "simple"})),
        w("restart", json!({"name": "stubborn"})),
        w("restart", json!({"name": "(web|shell)$", "match": "regex"})),
        c("restart", json!({"name": "w*", "match": "glob"})),
        w("restart", json!({"name": "off"})),
        w("stop", json!({"name": "off"})),
        c("restart", json!({"name": "nope"})),
        w("restart", json!({"name": "nope*"})),
        w("restart", json!({"name": "web", "match": ""})),
        w("restart", json!({"name": ["web"]})),
        c("status", json!({})),
    ];
    scenario("restarts", STACK, steps)
}

pub fn reloads() -> Scenario {
    let steps = vec![
        w("reload", json!({"name": "web"})),
        c("reload", json!({"name": "web"})),
        w("reload", json!({"name": "web", "sequential": true})),
        w("reload", json!({"name": "web", "graceful": false})),
        w(
            "reload",
            json!({"name": "web", "graceful": false, "sequential": true}),
        ),
        w("reload", json!({"name": "one"})),
        w("reload", json!({"name": "one", "sequential": true})),
        w("reload", json!({"name": "stubborn"})),
        w("reload", json!({"name": "BACK office-2"})),
        c("reload", json!({"name": "nope"})),
        w("reload", json!({"name": "w*"})),
        w("reload", json!({"name": 5})),
        w("reload", json!({"name": "off"})),
        c("status", json!({"name": "off"})),
        w("reload", json!({})),
        w("reload", json!({"sequential": true})),
        c("status", json!({})),
        c("numprocesses", json!({})),
    ];
    scenario("reloads", STACK, steps)
}

pub fn signals() -> Scenario {
    let steps = vec![
        c("signal", json!({"name": "web", "signum": 18})),
        c("signal", json!({"name": "web", "signum": "18"})),
        c("signal", json!({"name": "web", "signum": "cont"})),
        c("signal", json!({"name": "web", "signum": "SIGCONT"})),
        c(
            "signal",
            json!({"name": "web", "signum": "sigcont", "pid": "$pid web 0"}),
        ),
        c("signal", json!({"name": "web", "signum": 0})),
        c(
            "signal",
            json!({"name": "WEB", "signum": "CONT", "children": true}),
        ),
        c(
            "signal",
            json!({"name": "web", "signum": "CONT", "recursive": true}),
        ),
        c(
            "signal",
            json!({"name": "web", "signum": "CONT", "children": true, "recursive": true}),
        ),
        c("signal", json!({"name": "off", "signum": "CONT"})),
        c("signal", json!({"name": "web", "signum": "ZZZ"})),
        c("signal", json!({"name": "web", "signum": "CONT+1000"})),
        c("signal", json!({"name": "web", "signum": 1000})),
        c("signal", json!({"name": "web", "signum": -1})),
        c("signal", json!({"name": "web", "signum": ""})),
        c("signal", json!({"name": "web", "signum": null})),
        c("signal", json!({"name": "web", "signum": ["CONT"]})),
        c("signal", json!({"name": "web"})),
        c("signal", json!({"signum": 18})),
        c("signal", json!({"name": "nope", "signum": 18})),
        c(
            "signal",
            json!({"name": "web", "signum": 18, "pid": 999_999}),
        ),
        c("signal", json!({"name": "web", "signum": 18, "pid": 1})),
        c("signal", json!({"name": "web", "signum": 18, "pid": "x"})),
        c(
            "signal",
            json!({"name": "web", "signum": 18, "childpid": 999_999}),
        ),
        c(
            "signal",
            json!({"name": "web", "signum": 18, "pid": "$pid web 0", "childpid": 999_999}),
        ),
        c(
            "signal",
            json!({"name": "web", "signum": 18, "pid": "$pid web 0", "children": true}),
        ),
        c("list", json!({"name": "web"})),
    ];
    scenario("signals", SMALL, steps)
}

pub fn kills() -> Scenario {
    let steps = vec![
        w("kill", json!({"name": "nope"})),
        c("kill", json!({"name": "nope"})),
        c("kill", json!({})),
        c("kill", json!({"name": "web", "signum": "ZZZ"})),
        c("kill", json!({"name": "web", "pid": "x"})),
        w("kill", json!({"name": "web", "pid": 999_999})),
        w("kill", json!({"name": "off"})),
        w("kill", json!({"name": "one"})),
        w("kill", json!({"name": "one", "signum": "KILL"})),
        w(
            "kill",
            json!({"name": "one", "signum": 15, "graceful_timeout": 3}),
        ),
        w("kill", json!({"name": "web", "pid": "$pid web 0"})),
        w(
            "kill",
            json!({"name": "web", "pid": "$pid web 0", "signum": "int"}),
        ),
        c("status", json!({})),
        c("numprocesses", json!({})),
    ];
    Scenario {
        often_checked: true,
        ..scenario("kills", STACK, steps)
    }
}

/// A worker that has a child of its own. Not with `stop_children`: circusd signals the parent first, and when that is
/// dead before it looks for the children, they live on.
const FAMILIES: &str = "\
check_delay = @CHECK@
[watcher:family]
cmd = sh
args = -c 'sleep 1001 & exec sleep 1000'
graceful_timeout = 5
[watcher:mark]
cmd = sleep 1000
autostart = False
numprocesses = 0
";

pub fn families() -> Scenario {
    let signal = |mut properties: Value| {
        properties["name"] = json!("family");
        properties["signum"] = json!("cont");
        c("signal", properties)
    };
    let steps = vec![
        c("stats", json!({"name": "family"})),
        c(
            "stats",
            json!({"name": "family", "process": "$pid family 0"}),
        ),
        c("list", json!({"name": "family"})),
        signal(json!({})),
        signal(json!({"children": true})),
        signal(json!({"recursive": true})),
        signal(json!({"children": true, "recursive": true})),
        signal(json!({"pid": "$pid family 0", "children": true})),
        signal(json!({"pid": "$pid family 0", "recursive": true})),
        signal(json!({"pid": "$pid family 0", "childpid": "$child family"})),
        w("restart", json!({"name": "family"})),
        w("reload", json!({"name": "family"})),
        w("stop", json!({"name": "family"})),
    ];
    scenario("families", FAMILIES, steps)
}

pub fn quitting() -> Scenario {
    let mut quit = w("quit", json!({}));
    quit.last = true;
    scenario("quitting", STACK, vec![c("status", json!({})), quit])
}
