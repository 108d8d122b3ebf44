//! THE table of watcher options: name, kind, default, what `set` does, and one line of documentation.
//!
//! Reading circus.ini, checking `add` and `set`, the replies to `options` and `get`, `circ state ensure`, help and
//! the reference are all driven from [`WATCHER_OPTIONS`]. Nothing here reads a clock, a file or the system.
//!
//! Meanings follow the Circus configuration page ("watcher:NAME - as many sections as you want") and, where the page
//! is silent, what circus 0.19 does.

pub mod streams;
mod values;
mod watcher;

pub use serde_json::{Map, Value};
pub use values::{parse_text, py_repr, signal_names, to_bool, to_signum};
pub use watcher::{Hook, ListenFds, OptionError, WatcherOptions};

/// What a value looks like, in the file and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Int,
    /// A whole number that must not be below zero.
    Count,
    /// Seconds, possibly fractional, not below zero.
    Seconds,
    /// A truth value (`yes true on 1 no false off 0` in files).
    Bool,
    /// Free text, or null when not set.
    Text,
    /// Text, or a list of texts.
    TextOrList,
    /// Sockets: a truth value (those that the watcher uses, or none), or names.
    Sockets,
    /// A user or group: a number or a name.
    Account,
    /// A signal: a number, `TERM`, `SIGTERM` or `SIGRTMIN+1`.
    Signal,
    /// A mapping of environment variables.
    Env,
    /// A mapping that configures an output stream; keys arrive as `stdout_stream.KEY`.
    Stream,
    /// A mapping of hook names to callables; keys arrive as `hooks.NAME`.
    Hooks,
    /// A mapping of resource limits; keys arrive as `rlimit_NAME`.
    Limits,
}

/// What changing an option of a running watcher does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSet {
    /// Takes effect at once; no worker is replaced.
    Live,
    /// Needs new workers: `set` triggers a graceful reload.
    Reload,
    /// Live if the option has entries before and after; to get or lose them needs new workers.
    LiveIfThere,
}

/// Default of an option in a watcher section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Default {
    /// Not set.
    Null,
    /// A whole number.
    Int(i64),
    /// A number with a fraction part.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text; null instead of the empty text when the watcher comes from `add`.
    Text(&'static str),
    /// An empty mapping; null when the watcher comes from `add`.
    EmptyMap,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// The key, as written in a watcher section and in `set`.
    pub name: &'static str,
    /// The kind of value.
    pub kind: Kind,
    /// The default.
    pub default: Default,
    /// What `set` does to the running workers.
    pub on_set: OnSet,
    /// The reply to `options` lists it (circus's `optnames`).
    pub listed: bool,
    /// circus 0.19 accepts it in `add` and `set` too; the others only circ does.
    pub circus_settable: bool,
    /// One line for help and the reference.
    pub doc: &'static str,
}

impl OptionSpec {
    /// Whether a change of this option, from its value `before` to `after`, needs new workers.
    pub fn renews(&self, before: Option<&Value>, after: Option<&Value>) -> bool {
        let there = |value: Option<&Value>| {
            value.is_some_and(|value| value.as_object().is_some_and(|map| !map.is_empty()))
        };
        match self.on_set {
            OnSet::Live => false,
            OnSet::Reload => true,
            OnSet::LiveIfThere => !(there(before) && there(after)),
        }
    }
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: Default,
    on_set: OnSet,
    listed: bool,
    circus_settable: bool,
    doc: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        kind,
        default,
        on_set,
        listed,
        circus_settable,
        doc,
    }
}

use self::Default::{Bool as B, EmptyMap, Float as F, Int as I, Null, Text as T};
use self::OnSet::{Live, LiveIfThere, Reload};

/// Every option a watcher has.
#[rustfmt::skip]
pub static WATCHER_OPTIONS: &[OptionSpec] = &[
    row("cmd", Kind::Text, T(""), Reload, true, true, "The program to run, with its arguments if you like; variables such as $(circus.wid) are replaced"),
    row("args", Kind::TextOrList, T(""), Reload, true, true, "Arguments, appended to those in cmd"),
    row("shell", Kind::Bool, B(false), Reload, true, true, "Run cmd and args through /bin/sh"),
    row("shell_args", Kind::TextOrList, Null, Reload, true, false, "Arguments of the shell itself ($0, $1, ...); only with shell"),
    row("executable", Kind::Text, Null, Reload, true, false, "The file to execute in place of the first word of cmd, which stays the process's displayed name"),
    row("working_dir", Kind::Text, Null, Reload, true, true, "Directory the workers start in; the daemon's own if not given"),
    row("uid", Kind::Account, Null, Reload, true, true, "User to run as, name or number"),
    row("gid", Kind::Account, Null, Reload, true, true, "Group to run as, name or number; the default group of uid if only that is given"),
    row("env", Kind::Env, EmptyMap, Reload, true, true, "Environment of the workers (in a file: the [env] and [env:NAME] sections)"),
    row("copy_env", Kind::Bool, B(false), Live, true, true, "Start from a copy of the daemon's environment"),
    row("copy_path", Kind::Bool, B(false), Live, false, false, "Hand the daemon's PYTHONPATH on; needs copy_env"),
    row("virtualenv", Kind::Text, Null, Reload, false, false, "Root of a Python virtualenv to put on PATH and PYTHONPATH; needs copy_env"),
    row("virtualenv_py_ver", Kind::Text, Null, Reload, false, false, "Python version of that virtualenv, such as 3.11"),
    row("numprocesses", Kind::Count, I(1), Live, true, true, "How many workers to keep running"),
    row("singleton", Kind::Bool, B(false), Live, true, true, "At most one worker, whatever anybody asks for"),
    row("warmup_delay", Kind::Seconds, I(0), Live, true, true, "Seconds to wait between starting two workers"),
    row("autostart", Kind::Bool, B(true), Live, false, false, "Start the watcher with the daemon"),
    row("priority", Kind::Int, I(0), Live, true, false, "Watchers start from the highest number to the lowest and stop the other way"),
    row("respawn", Kind::Bool, B(true), Live, true, true, "Replace a worker that exits; without it the watcher stops once all have exited"),
    row("max_retry", Kind::Int, I(5), Live, true, true, "Failed attempts to start a worker after which the watcher stops; -1 means never give up"),
    row("max_age", Kind::Count, I(0), Reload, true, true, "Replace a worker after about this many seconds; 0 means never"),
    row("max_age_variance", Kind::Count, I(30), Reload, true, true, "Up to this many seconds are added to max_age, at random, so that not all are replaced at once"),
    row("graceful_timeout", Kind::Seconds, F(30.0), Live, true, true, "Seconds a worker gets to stop before SIGKILL"),
    row("stop_signal", Kind::Signal, I(15), Live, true, true, "Signal that asks a worker to stop"),
    row("stop_children", Kind::Bool, B(false), Live, true, true, "Send stop_signal to the worker's children as well"),
    row("send_hup", Kind::Bool, B(false), Live, true, true, "A graceful reload sends SIGHUP in place of replacing the workers"),
    row("use_sockets", Kind::Bool, B(false), Reload, true, false, "The workers inherit the sockets of the [socket:NAME] sections"),
    row("stdin_socket", Kind::Text, Null, Reload, false, false, "Name of a socket to place at file descriptor 0"),
    row("listen_fds", Kind::Sockets, B(false), Reload, false, false, "Hand sockets over as systemd does, from descriptor 3 on with LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES: names of sockets, or True for those that the command names (all, if it names none). circ's own"),
    row("on_demand", Kind::Bool, B(false), Live, true, false, "Start only when somebody connects to a socket"),
    row("close_child_stdin", Kind::Bool, B(true), Reload, true, true, "Standard input of the workers is /dev/null"),
    row("close_child_stdout", Kind::Bool, B(false), Reload, true, true, "Standard output of the workers is /dev/null"),
    row("close_child_stderr", Kind::Bool, B(false), Reload, true, true, "Standard error of the workers is /dev/null"),
    row("stdout_stream", Kind::Stream, EmptyMap, LiveIfThere, true, true, "Where standard output goes: stdout_stream.class, stdout_stream.filename, ..."),
    row("stderr_stream", Kind::Stream, EmptyMap, LiveIfThere, true, true, "Where standard error goes: stderr_stream.class, stderr_stream.filename, ..."),
    row("rlimits", Kind::Limits, EmptyMap, Reload, false, false, "Resource limits: rlimit_nofile, rlimit_as, ...; empty means unlimited"),
    row("hooks", Kind::Hooks, EmptyMap, Live, false, true, "What is called around starts, stops and signals: hooks.before_start = module.function (Python), or exec:/path/of/program with its arguments; a second word after a comma, True, ignores failures"),
    row("hook_timeout", Kind::Seconds, F(60.0), Live, false, false, "Seconds after which a hook that has not answered is ended and counts as failed; 0 means never. circ's own"),
    row("hook_retry", Kind::Seconds, F(0.0), Live, false, false, "Seconds after which what a hook has refused (start or spawn) is tried again; 0 leaves the watcher stopped, as circus does. circ's own"),
];

/// Keys circus accepts although they do nothing any more; kept with the unknown keys.
pub static RETIRED_OPTIONS: &[(&str, Kind)] =
    &[("retry_in", Kind::Seconds), ("check_flapping", Kind::Bool)];

/// The names of the hooks of circus 0.19.
pub static HOOKS: &[&str] = &[
    "before_start",
    "after_start",
    "before_stop",
    "after_stop",
    "before_spawn",
    "after_spawn",
    "before_signal",
    "after_signal",
    "before_reap",
    "after_reap",
    "extended_stats",
];

/// The resource limits Linux has, in lower case, as they follow `rlimit_`.
pub static RLIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "ofile",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A key of the table, or a key of one of its mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// The option itself.
    Whole,
    /// An entry of a mapping option: the limit, hook or stream key.
    Entry(&'a str),
}

/// Finds the row for `key`, which may be an entry key: `rlimit_nofile`, `hooks.before_start`, `stdout_stream.class`.
pub fn find(key: &str) -> Option<(&'static OptionSpec, Key<'_>)> {
    let (name, entry) = if let Some(limit) = key.strip_prefix("rlimit_") {
        ("rlimits", Key::Entry(limit))
    } else if let Some((head, tail)) = key.split_once('.')
        && matches!(head, "hooks" | "stdout_stream" | "stderr_stream")
    {
        (head, Key::Entry(tail))
    } else {
        let plain = match key {
            "stdout_stream_conf" => "stdout_stream",
            "stderr_stream_conf" => "stderr_stream",
            other => other,
        };
        (plain, Key::Whole)
    };
    WATCHER_OPTIONS
        .iter()
        .find(|spec| spec.name == name)
        .map(|spec| (spec, entry))
}

/// Whether a watcher that changes this key needs new workers; see [`find`].
pub fn renews(key: &str, before: &WatcherOptions, after: &WatcherOptions) -> bool {
    spec(key).is_some_and(|spec| spec.renews(before.get(spec.name), after.get(spec.name)))
}

/// The row for `key`; see [`find`].
pub fn spec(key: &str) -> Option<&'static OptionSpec> {
    find(key).map(|(spec, _)| spec)
}

/// The known key nearest to a mistyped one, for "did you mean".
pub fn nearest(key: &str) -> Option<&'static str> {
    nearest_of(key, WATCHER_OPTIONS.iter().map(|spec| spec.name))
}

/// The name nearest to a mistyped one, if one is near.
pub fn nearest_of<'a>(key: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (values::distance(key, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(key.len()) / 3 + 1)
        .min()
        .map(|(_, name)| name)
}

/// Checks one option as it arrives in `add` or `set`.
///
/// The texts are those of circus 0.19 where it has one; circus lets negative numbers pass, circ does not.
pub fn check_wire(key: &str, value: &Value) -> Result<(), String> {
    values::check_wire(key, value)
}
