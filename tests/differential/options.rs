//! Every option: what a file gives, as `options`, `get`, `globaloptions` and `listsockets` tell it, and what `set` and
//! `add` make of it.

use serde_json::{Value, json};

use super::scenarios::{Scenario, c, scenario, w};

/// Options that no scenario has, and why.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("virtualenv", "its effect is compared in daemon_set"),
    ("virtualenv_py_ver", "its effect is compared in daemon_set"),
    ("endpoint_owner", "needs an ipc endpoint: daemon_process"),
    (
        "stats_endpoint",
        "starts circusd-stats as one more watcher: stats_feed",
    ),
    ("pubsub_endpoint", "every site has one of its own"),
    (
        "multicast_endpoint",
        "every site has none: tests stay on loopback",
    ),
    (
        "include_dir",
        "daemon_process and ini_oracle compare what is read",
    ),
    ("loggerconfig", "a file of Python's logging"),
    (
        "copy_path",
        "gives the workers the directories of circusd's own Python",
    ),
    ("hooks", "circusd imports them at the start"),
    ("interface", "circusd on Python 3 fails with an ImportError"),
];

/// `@SITE@` and `@PORT@` as in the other scenarios.
const EVERYTHING: &str = "\
check_delay = @CHECK@
warmup_delay = 0
umask = 027
pidfile = @SITE@/daemon.pid
loglevel = warning
logoutput = -
include = @SITE@/no-*.ini
statsd = no
httpd = off
httpd_host = 127.0.0.2
httpd_port = 8181
debug = 0
debug_gc = false
fqdn_prefix = someone

[watcher:all]
cmd = sleep
args = 1000
shell = yes
shell_args = a b
executable = /bin/sh
working_dir = @SITE@
uid = 0
gid = 0
copy_env = 1
numprocesses = 3
singleton = no
warmup_delay = 2
autostart = False
priority = -4
respawn = off
max_retry = -1
max_age = 100
max_age_variance = 7
graceful_timeout = 2.5
stop_signal = usr1
stop_children = true
send_hup = true
use_sockets = true
stdin_socket = local
on_demand = false
close_child_stdin = false
close_child_stdout = true
close_child_stderr = true
stdout_stream.class = FileStream
stdout_stream.filename = @SITE@/out
stdout_stream.max_bytes = 1000
stdout_stream.backup_count = 3
stderr_stream.class = StdoutStream
rlimit_nofile = 64
rlimit_core =
check_flapping = no
retry_in = 3
something_else = Kept

[watcher:none]
cmd = sleep 1000
autostart = False

[watcher:Numbers]
cmd = sleep 1000
autostart = False
numprocesses = 0
graceful_timeout = 0
stop_signal = 9
warmup_delay = 0
max_retry = 0

[watcher:run]
cmd = sleep 1000
numprocesses = 2
graceful_timeout = 5
warmup_delay = 0
stop_signal = SIGINT
max_age = 0
close_child_stdin = no

[watcher:mark]
cmd = sleep 1000
autostart = False
numprocesses = 0

[env]
EVERYWHERE = yes

[env:all,run]
HERE = ${EVERYWHERE}-here

[socket:local]
path = @SITE@/local.sock
umask = 63
replace = true
backlog = 5
blocking = true

[socket:four]
host = localhost
port = @PORT@
family = af_inet
type = sock_stream
proto = tcp
so_reuseport = no

[socket:datagrams]
host = 127.0.0.1
port = @PORT@
type = SOCK_DGRAM
";

/// Keys of a watcher, with a value each that `set` and `add` are to take or to refuse as circusd does. Those that only
/// circ takes are in daemon_set.
fn values() -> Vec<Value> {
    vec![
        json!({"cmd": "sleep 2000"}),
        json!({"args": "1"}),
        json!({"args": ["1", "2"]}),
        json!({"shell": true}),
        json!({"working_dir": "/"}),
        json!({"uid": 0}),
        json!({"gid": "root"}),
        json!({"env": {"A": "b"}}),
        json!({"copy_env": true}),
        json!({"numprocesses": 2}),
        json!({"singleton": false}),
        json!({"warmup_delay": 1.5}),
        json!({"respawn": false}),
        json!({"max_age": 5}),
        json!({"max_age_variance": 5}),
        json!({"graceful_timeout": 1.25}),
        json!({"stop_signal": 2}),
        json!({"stop_children": true}),
        json!({"send_hup": true}),
        json!({"close_child_stdin": "x"}),
        json!({"close_child_stdout": "x"}),
        json!({"close_child_stderr": "x"}),
        json!({"check_flapping": true}),
        json!({"something_else": 1}),
    ]
}

pub fn every_option() -> Scenario {
    let mut steps = vec![
        c("globaloptions", json!({})),
        c("listsockets", json!({})),
        c("status", json!({})),
        c("numprocesses", json!({})),
    ];
    for option in ["umask", "pidfile", "stats_endpoint", "include"] {
        steps.push(c("globaloptions", json!({"option": option})));
    }
    for name in ["all", "none", "numbers", "run"] {
        steps.push(c("options", json!({"name": name})));
    }
    let told = [
        "cmd",
        "args",
        "shell",
        "shell_args",
        "working_dir",
        "uid",
        "gid",
        "env",
        "copy_env",
        "numprocesses",
        "singleton",
        "warmup_delay",
        "priority",
        "respawn",
        "max_retry",
        "max_age",
        "max_age_variance",
        "graceful_timeout",
        "stop_signal",
        "stop_children",
        "send_hup",
        "use_sockets",
        "on_demand",
        "close_child_stdin",
        "close_child_stdout",
        "close_child_stderr",
    ];
    steps.push(c("get", json!({"name": "all", "keys": told})));
    // These circusd takes and does not tell.
    for key in [
        "executable",
        "autostart",
        "stdin_socket",
        "stdout_stream",
        "stderr_stream",
        "check_flapping",
        "retry_in",
    ] {
        steps.push(c("get", json!({"name": "all", "keys": [key]})));
    }
    for options in values() {
        steps.push(w("set", json!({"name": "none", "options": options})));
    }
    steps.push(c("options", json!({"name": "none"})));
    // All of them at once; which single ones are refused is in `adding`. In the options of `add` cmd and args are Python's
    // quarrel with itself.
    let refused = ["cmd", "args", "close_child", "check", "something"];
    let mut all = serde_json::Map::new();
    for options in values() {
        for (key, value) in options.as_object().into_iter().flatten() {
            if !refused.iter().any(|refused| key.starts_with(refused)) {
                all.insert(key.clone(), value.clone());
            }
        }
    }
    steps.push(c(
        "add",
        json!({"name": "added", "cmd": "sleep 1000", "options": all}),
    ));
    steps.push(c("options", json!({"name": "added"})));
    steps.push(c("ipython", json!({})));
    scenario("every_option", EVERYTHING, steps)
}
