//! The requests that both daemons get. Left out are only those on which circusd itself plays dice: `restart` without
//! a name (it dies at every third), changed sockets in `reloadconfig`, and workers that die by themselves.

use serde_json::{Value, json};

use super::{asking, changing, options, running};

/// A circus.ini and the requests sent to a daemon that runs it.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What follows the endpoints in `[circus]`. `@CHECK@` is the check delay, `@PORT@` a free port, `@SITE@` the daemon's directory.
    pub ini: &'static str,
    pub steps: Vec<Step>,
    /// circusd looks after dead workers at every `check_delay`: often, for steps that need that. Whether it then finds
    /// the dead one before the command that killed it does, and publishes a `reap`, is chance.
    pub often_checked: bool,
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
    /// Sends a command. `"$pid web 0"` among the properties becomes the pid of web's first process, `"$child web"`
    /// that of a child of it.
    Command(&'static str, Value),
    /// Sends these bytes.
    Raw(Vec<u8>),
    /// Writes circus.ini anew.
    Edit(String),
}

/// Several watchers of all kinds. Every worker is a `sleep` in the end, so that one can tell when it runs.
pub const STACK: &str = "\
check_delay = @CHECK@

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
pub const SMALL: &str = "\
check_delay = @CHECK@
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
        asking::questions(),
        asking::malformed(),
        running::counts(),
        running::start_and_stop(),
        running::restarts(),
        running::reloads(),
        running::signals(),
        running::kills(),
        running::families(),
        changing::adding(),
        changing::setting(),
        changing::configuration(),
        options::every_option(),
        running::quitting(),
    ]
}

/// The scenario with this name.
pub fn named(name: &str) -> Scenario {
    all()
        .into_iter()
        .find(|s| s.name == name)
        .unwrap_or_else(|| panic!("no scenario {name}"))
}

pub fn scenario(name: &'static str, ini: &'static str, mut steps: Vec<Step>) -> Scenario {
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
    Scenario {
        name,
        ini,
        steps,
        often_checked: false,
    }
}

pub fn c(command: &'static str, properties: Value) -> Step {
    Step {
        label: format!("{command} {properties}"),
        does: Does::Command(command, properties),
        last: false,
        silent: false,
    }
}

/// The same with `waiting`.
pub fn w(command: &'static str, mut properties: Value) -> Step {
    properties["waiting"] = json!(true);
    c(command, properties)
}

/// A request that circusd never answers although it was asked to wait.
pub fn silent(step: Step) -> Step {
    Step {
        silent: true,
        ..step
    }
}

pub fn raw(label: &str, bytes: impl Into<Vec<u8>>) -> Step {
    Step {
        label: label.to_string(),
        does: Does::Raw(bytes.into()),
        last: false,
        silent: false,
    }
}

pub fn edit(label: &str, ini: String) -> Step {
    Step {
        label: label.to_string(),
        does: Does::Edit(ini),
        last: false,
        silent: false,
    }
}
