//! The requests that both daemons get. Left out are only those on which circusd itself plays dice: `restart` without
//! a name (it dies at every third), changed sockets in `reloadconfig`, and workers that die by themselves.

use serde_json::{Value, json};

/// A circus.ini and the requests sent to a daemon that runs it.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What follows the endpoints in `[circus]`. `@PORT@` is a free port, `@SITE@` the daemon's directory.
    pub ini: &'static str,
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Debug)]
pub struct Step {
    /// The request as text, or its name; unique in its scenario.
    pub label: String,
    pub does: Does,
    /// The daemon ends after this one.
    pub last: bool,
    /// circusd is known never to answer this one although it asks to wait for its end.
    pub silent: bool,
}

/// What a step does.
#[derive(Debug)]
pub enum Does {
    /// Sends a command. `"$pid web 0"` among the properties becomes the pid of web's first process.
    Command(&'static str, Value),
    /// Sends these bytes.
    Raw(Vec<u8>),
    /// Writes circus.ini anew.
    Edit(String),
}

/// Several watchers of all kinds. Every worker is a `sleep` in the end, so that one can tell when it runs.
const STACK: &str = "\
check_delay = 0.5

[watcher:web]
cmd = sleep 1000
numprocesses = 2
graceful_timeout = 5
use_sockets = True

[watcher:Back Office-2]
cmd = sleep
args = $(circus.wid)000
graceful_timeout = 5
priority = 3
max_retry = 7
stop_signal = INT
rlimit_nofile = 500
rlimit_core = 0
working_dir = /

[watcher:one]
cmd = sleep 1000
singleton = True
graceful_timeout = 5
priority = 9
copy_env = True
extra_key = kept as it is

[watcher:stubborn]
cmd = sh
args = -c 'trap \"\" TERM; exec sleep 1000'
graceful_timeout = 0.4
stop_children = True

[watcher:shell]
cmd = sleep 1000
shell = True
numprocesses = 1
graceful_timeout = 5
max_age = 10000
max_age_variance = 5
send_hup = False

[watcher:off]
cmd = sleep 1000
autostart = False
numprocesses = 2
graceful_timeout = 5

[watcher:mark]
cmd = sleep 1000
autostart = False
numprocesses = 0

[env]
ALL = everywhere

[env:shell,web]
LONG = 1000
HERE = $HOME/x

[socket:http]
host = 127.0.0.1
port = @PORT@

[socket:local]
path = @SITE@/local.sock
backlog = 7
";

/// One watcher with two quick processes.
const SMALL: &str = "\
check_delay = 0.5
[watcher:web]
cmd = sleep 1000
numprocesses = 2
graceful_timeout = 5
[watcher:one]
cmd = sleep 1000
singleton = True
graceful_timeout = 5
[watcher:mark]
cmd = sleep 1000
autostart = False
numprocesses = 0
";

/// Every scenario, in the order of the tests.
pub fn all() -> Vec<Scenario> {
    vec![
        questions(),
        malformed(),
        counts(),
        start_and_stop(),
        restarts(),
        reloads(),
        signals(),
        kills(),
        adding(),
        setting(),
        configuration(),
        quitting(),
    ]
}

/// The scenario with this name.
pub fn named(name: &str) -> Scenario {
    all()
        .into_iter()
        .find(|s| s.name == name)
        .unwrap_or_else(|| panic!("no scenario {name}"))
}

fn scenario(name: &'static str, ini: &'static str, mut steps: Vec<Step>) -> Scenario {
    for i in 0..steps.len() {
        let same = steps[..i]
            .iter()
            .filter(|s| {
                s.label == steps[i].label || s.label.starts_with(&format!("{} (", steps[i].label))
            })
            .count();
        if same > 0 {
            let label = format!("{} ({})", steps[i].label, same + 1);
            steps[i].label = label;
        }
    }
    Scenario { name, ini, steps }
}

fn c(command: &'static str, properties: Value) -> Step {
    Step {
        label: format!("{command} {properties}"),
        does: Does::Command(command, properties),
        last: false,
        silent: false,
    }
}

/// The same with `waiting`.
fn w(command: &'static str, mut properties: Value) -> Step {
    properties["waiting"] = json!(true);
    c(command, properties)
}

/// A request that circusd never answers although it was asked to wait.
fn silent(step: Step) -> Step {
    Step {
        silent: true,
        ..step
    }
}

fn raw(label: &str, bytes: impl Into<Vec<u8>>) -> Step {
    Step {
        label: label.to_string(),
        does: Does::Raw(bytes.into()),
        last: false,
        silent: false,
    }
}

fn edit(label: &str, ini: String) -> Step {
    Step {
        label: label.to_string(),
        does: Does::Edit(ini),
        last: false,
        silent: false,
    }
}

fn questions() -> Scenario {
    let mut steps = vec![
        c("list", json!({})),
        c("list", json!({"name": "web"})),
        c("list", json!({"name": "WEB"})),
        c("list", json!({"name": "back office-2"})),
        c("list", json!({"name": "off"})),
        c("list", json!({"name": "nope"})),
        c("list", json!({"name": 5})),
        c("list", json!({"name": null})),
        c("list", json!({"name": ""})),
        c("status", json!({})),
        c("status", json!({"name": "web"})),
        c("status", json!({"name": "bACK oFFICE-2"})),
        c("status", json!({"name": "off"})),
        c("status", json!({"name": "nope"})),
        c("status", json!({"name": ["web"]})),
        c("numprocesses", json!({})),
        c("numprocesses", json!({"name": "web"})),
        c("numprocesses", json!({"name": "WeB"})),
        c("numprocesses", json!({"name": "nope"})),
        c("numwatchers", json!({})),
        c("NumWatchers", json!({})),
        c("listsockets", json!({})),
        c("globaloptions", json!({})),
        c("globaloptions", json!({"option": "check_delay"})),
        c("globaloptions", json!({"option": "endpoint"})),
        c("globaloptions", json!({"option": "umask"})),
        c("globaloptions", json!({"option": ""})),
        c("globaloptions", json!({"option": 5})),
        c("dstats", json!({})),
        c("stats", json!({})),
        c("stats", json!({"name": "web"})),
        c("stats", json!({"name": "web", "extended": true})),
        c("stats", json!({"name": "off"})),
        c("stats", json!({"name": "nope"})),
        c("stats", json!({"name": "web", "process": "$pid web 0"})),
        c(
            "stats",
            json!({"name": "web", "process": "$pid web 1", "extended": true}),
        ),
        c("stats", json!({"name": "web", "process": 999_999})),
        c("stats", json!({"name": "web", "process": "x"})),
        c("stats", json!({"process": 999_999})),
        c("listen", json!({})),
        c("nope", json!({})),
        c("help", json!({})),
        c("", json!({})),
        c("get", json!({"name": "web"})),
        c("get", json!({"keys": ["cmd"]})),
        c("get", json!({"name": "nope", "keys": ["cmd"]})),
        c("get", json!({"name": "web", "keys": []})),
        c("get", json!({"name": "web", "keys": ["zzz"]})),
        c("get", json!({"name": "web", "keys": "cmd"})),
        c("get", json!({"name": "web", "keys": ["cmd", "zzz"]})),
        c(
            "get",
            json!({"name": "web", "keys": ["numprocesses", "stop_signal", "graceful_timeout", "env", "cmd", "name"]}),
        ),
        c("get", json!({"name": "one", "keys": ["extra_key"]})),
        c(
            "get",
            json!({"name": "Back Office-2", "keys": ["rlimits", "working_dir", "priority", "args"]}),
        ),
        c("options", json!({})),
        c("options", json!({"name": "nope"})),
        c("options", json!({"name": 7})),
    ];
    for name in [
        "web",
        "Back Office-2",
        "one",
        "stubborn",
        "shell",
        "off",
        "mark",
    ] {
        steps.push(c("options", json!({"name": name})));
    }
    scenario("questions", STACK, steps)
}

fn malformed() -> Scenario {
    let nines = format!(
        "{{\"command\": \"numwatchers\", \"id\": {}}}",
        "9".repeat(60)
    );
    let steps = vec![
        raw("half an object", r#"{"command": "list""#),
        raw("every byte", (0..=255).collect::<Vec<u8>>()),
        raw(
            "not UTF-8",
            b"{\"command\": \"list\", \"id\": \"\xff\xfe\"}".to_vec(),
        ),
        raw("empty message", ""),
        raw("white space", "  \n "),
        raw("an array", "[]"),
        raw("a number", "42"),
        raw("a string", "\"list\""),
        raw("null", "null"),
        raw("true", "true"),
        raw("empty object", "{}"),
        raw("command null", r#"{"command": null, "id": "X"}"#),
        raw("command number", r#"{"command": 5, "id": "X"}"#),
        raw("command list", r#"{"command": ["list"], "id": "X"}"#),
        raw("unknown command", r#"{"command": "nope", "id": "X"}"#),
        raw(
            "unknown command in upper case",
            r#"{"command": "NOPE", "id": "X"}"#,
        ),
        raw(
            "unknown command with a quote",
            r#"{"command": "it's", "id": "X"}"#,
        ),
        raw(
            "command in upper case",
            r#"{"command": "NUMWATCHERS", "id": "X"}"#,
        ),
        raw("no id", r#"{"command": "numwatchers"}"#),
        raw("id null", r#"{"command": "numwatchers", "id": null}"#),
        raw(
            "id is a number",
            r#"{"command": "numwatchers", "id": 1.50}"#,
        ),
        raw(
            "id is an object",
            r#"{"command": "numwatchers", "id": {"a": [1, "é"]}}"#,
        ),
        raw("id is a big number", nines),
        raw("id is NaN", r#"{"command": "numwatchers", "id": NaN}"#),
        raw(
            "id is escaped",
            r#"{"command": "numwatchers", "id": "\u00e9\ud83d\ude00\n"}"#,
        ),
        raw(
            "id is half a surrogate pair",
            r#"{"command": "numwatchers", "id": "\ud800"}"#,
        ),
        raw("no properties", r#"{"command": "status", "id": "X"}"#),
        raw(
            "properties null",
            r#"{"command": "status", "properties": null, "id": "X"}"#,
        ),
        raw(
            "properties array",
            r#"{"command": "status", "properties": [], "id": "X"}"#,
        ),
        raw(
            "properties string",
            r#"{"command": "status", "properties": "name", "id": "X"}"#,
        ),
        raw(
            "properties number",
            r#"{"command": "status", "properties": 3, "id": "X"}"#,
        ),
        raw(
            "needed properties null",
            r#"{"command": "options", "properties": null, "id": "X"}"#,
        ),
        raw(
            "a cast is not answered",
            r#"{"command": "numwatchers", "msg_type": "cast", "id": "X"}"#,
        ),
        raw(
            "a bad cast is not answered",
            r#"{"command": "nope", "msg_type": "cast", "id": "X"}"#,
        ),
        raw(
            "another message type",
            r#"{"command": "numwatchers", "msg_type": "dealer", "id": "X"}"#,
        ),
        raw(
            "duplicate keys",
            r#"{"command": "nope", "command": "numwatchers", "id": "X"}"#,
        ),
        raw(
            "white space around",
            "\n  {\"command\": \"numwatchers\", \"id\": \"X\"}  \r\n",
        ),
        raw("two objects", r#"{"command": "numwatchers", "id": "X"} {}"#),
        raw(
            "more keys",
            r#"{"command": "numwatchers", "id": "X", "zzz": [1, 2]}"#,
        ),
        raw(
            "deep nesting",
            format!(
                r#"{{"command": "numwatchers", "id": {}{}}}"#,
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
        ),
    ];
    scenario("malformed", SMALL, steps)
}

fn counts() -> Scenario {
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

fn start_and_stop() -> Scenario {
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

fn restarts() -> Scenario {
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

fn reloads() -> Scenario {
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

fn signals() -> Scenario {
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

fn kills() -> Scenario {
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
    scenario("kills", STACK, steps)
}

fn adding() -> Scenario {
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

fn setting() -> Scenario {
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

fn configuration() -> Scenario {
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

fn quitting() -> Scenario {
    let mut quit = w("quit", json!({}));
    quit.last = true;
    scenario("quitting", STACK, vec![c("status", json!({})), quit])
}
