//! The options of circus.ini: the tables that the man page and the reference share.

use super::page::{Block, heading, terms, text, typed};
use crate::config::keys::{CIRCUS_KEYS, KeySpec, PLUGIN_KEYS, SOCKET_KEYS};
use crate::config::plugin_keys::{PLUGINS, STATSD_KEYS};
use crate::options::streams::{STREAM_CLASSES, STREAM_KEYS, StreamClass};
use crate::options::{Default, HOOKS, Kind, OnSet, OptionSpec, RLIMITS, WATCHER_OPTIONS};

/// What an option of the table does not do yet.
const NOT_YET: &[(&str, &str)] = &[
    (
        "copy_path",
        "Accepted without effect: there is no PYTHONPATH of the daemon's own",
    ),
    (
        "hooks",
        "Accepted and returned; hooks do not run in this version",
    ),
    (
        "stdout_stream",
        "In this version only `filename` counts: the workers append to that file themselves",
    ),
    (
        "stderr_stream",
        "In this version only `filename` counts: the workers append to that file themselves",
    ),
];

/// The tables of all sections with what is to be said about them.
pub fn blocks() -> Vec<Block> {
    let mut blocks = vec![text(
        "Where a table says that a key has no effect, the key is read and checked as Circus does it, \
         and nothing follows from it in this version.",
    )];
    blocks.extend(sections());
    blocks
}

/// One heading and table for each kind of section.
pub fn sections() -> Vec<Block> {
    let mut blocks = vec![
        heading("The section `[circus]`"),
        text("The daemon itself. Every key may be left out."),
        keys(CIRCUS_KEYS),
        heading("The sections `[watcher:NAME]`"),
        text(
            "One section for each watcher: a command and how many workers run it. `cmd` is needed, \
             all else may be left out. A key that the table does not have is kept and returned by the \
             command `options`; a key `name` gives the watcher another name than the header does.",
        ),
        text(
            "The entry On set says what changing the option in a running daemon does: `live` takes \
             effect at once and replaces no worker, `reload` replaces the workers gracefully, `live if there` \
             is live for a stream that is there and reloads to get one or to lose it. An \
             asterisk marks the options that `add` and `set` take here and circusd 0.19 does not.",
        ),
        watcher_table(),
        text("Values are written like this:"),
    ];
    blocks.push(Block::Terms(
        KINDS
            .iter()
            .map(|kind| (format!("`{}`", word(*kind)), form(*kind).to_owned()))
            .collect(),
    ));
    blocks.extend([
        heading("Keys of groups"),
        text("Some options of a watcher are groups of settings, and each setting has a key."),
        terms([
            (
                "`rlimit_NAME`",
                "A resource limit, soft and hard, as a whole number; empty means unlimited.",
            ),
            ("`hooks.NAME`", "The callable of a hook, as `module.name`."),
            (
                "`stdout_stream.KEY`, `stderr_stream.KEY`",
                "A setting of an output stream, such as `class`, `filename`, `max_bytes`, \
                 `backup_count` or `time_format`.",
            ),
            (
                "`flapping.KEY`",
                "A setting of the plugin Flapping for this watcher alone.",
            ),
        ]),
        text(format!("Resource limits: {}.", list(RLIMITS))),
        text(format!("Hooks: {}.", list(HOOKS))),
        heading("Output streams"),
        text(
            "`stdout_stream.class` and `stderr_stream.class` take one of these, in short or in full \
             (`circus.stream.FileStream`), or the name of a Python class of your own. A stream with a \
             `filename` and no `class` is a `FileStream`; without both there is no stream, and the output goes \
             where the daemon's own goes. An asterisk marks what circus 0.19 does not have.",
        ),
        stream_classes(),
        text("These are the keys that follow `stdout_stream.` and `stderr_stream.`:"),
        stream_keys(),
        heading("The sections `[socket:NAME]`"),
        text(
            "Sockets that the daemon binds and its workers share. A worker gets them with \
             `use_sockets = True`, or one of them as its standard input with `stdin_socket`. Names do \
             not distinguish case.",
        ),
        keys(SOCKET_KEYS),
        heading("The sections `[env]` and `[env:PATTERN]`"),
        text(
            "Environment variables: `[env]` for all watchers, `[env:PATTERN,PATTERN]` for those whose \
             name one of the shell patterns matches. A later section wins over an earlier one. `$NAME`, \
             in capitals, is replaced in a value from the environment of the daemon. Without `copy_env = True` the \
             workers get these variables and no others, but for `__name__`: the name of the section, which \
             Circus's parser adds.",
        ),
        heading("The sections `[plugin:NAME]`"),
        text(
            "Plugins, each a process of its own beside the daemon, in a watcher that has the section's whole name and \
             can be stopped, started and looked at as any other. Options of that watcher, such as `graceful_timeout`, \
             may be given as well. All other keys are settings of the plugin. A plugin in Python needs the circus \
             library in the `virtualenv` of the section, else in the `python` of `[circus]`, else in the `python3` on `PATH`.",
        ),
        keys(PLUGIN_KEYS),
        text(
            "The plugins of Circus itself are part of circ and need no Python. They have the keys below; a key that a \
             plugin does not know is warned of. `active = False` keeps any of them from being started.",
        ),
    ]);
    for plugin in PLUGINS {
        blocks.push(text(format!("`{}`: {}.", plugin.classes[0], plugin.doc)));
        if !plugin.keys.is_empty() {
            blocks.push(keys(plugin.keys));
        }
    }
    blocks.push(text(
        "Those that send numbers to statsd have these keys as well:",
    ));
    blocks.push(keys(STATSD_KEYS));
    blocks
}

fn stream_classes() -> Block {
    let rows = STREAM_CLASSES.iter().map(|spec| {
        let more = if spec.circus { "" } else { "*" };
        (format!("`{}`{more}", spec.name), format!("{}.", spec.doc))
    });
    Block::Terms(rows.collect())
}

fn stream_keys() -> Block {
    let rows = STREAM_KEYS.iter().map(|row| {
        let more = if row.circus { "" } else { "*" };
        let names = |class: &StreamClass| {
            let spec = STREAM_CLASSES.iter().find(|spec| spec.class == *class);
            spec.map_or("", |spec| spec.name)
        };
        let of: Vec<&str> = row.classes.iter().map(names).collect();
        let of = if of.is_empty() {
            String::new()
        } else {
            format!(" ({})", of.join(", "))
        };
        (format!("`{}`{more}", row.name), format!("{}{of}.", row.doc))
    });
    Block::Terms(rows.collect())
}

fn list(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn keys(keys: &[KeySpec]) -> Block {
    let row = |key: &KeySpec| {
        let mut doc = key.doc.to_owned();
        if !key.effective {
            doc.push_str(". No effect in this version");
        }
        vec![
            typed(key.name),
            key.form.to_owned(),
            typed(key.default),
            doc,
        ]
    };
    Block::Table(
        &["Key", "Value", "Default", "Meaning"],
        keys.iter().map(row).collect(),
    )
}

fn watcher_table() -> Block {
    Block::Table(
        &["Option", "Value", "Default", "On set", "Meaning"],
        WATCHER_OPTIONS.iter().map(watcher_row).collect(),
    )
}

fn watcher_row(spec: &OptionSpec) -> Vec<String> {
    let mut doc = spec.doc.to_owned();
    if let Some((_, note)) = NOT_YET.iter().find(|(name, _)| *name == spec.name) {
        doc.push_str(if doc.ends_with('.') { " " } else { ". " });
        doc.push_str(note);
    }
    let set = match spec.on_set {
        OnSet::Live => "live",
        OnSet::Reload => "reload",
        OnSet::LiveIfThere => "live if there",
    };
    let more = if spec.circus_settable { "" } else { "*" };
    vec![
        typed(spec.name),
        word(spec.kind).to_owned(),
        typed(&default(spec)),
        format!("{set}{more}"),
        doc,
    ]
}

/// The default, as it would be written in a file.
fn default(spec: &OptionSpec) -> String {
    match spec.default {
        Default::Null | Default::EmptyMap => String::new(),
        Default::Int(number) if spec.kind == Kind::Signal => match number {
            15 => "TERM".to_owned(),
            other => other.to_string(),
        },
        Default::Int(number) => number.to_string(),
        Default::Float(number) => number.to_string(),
        Default::Bool(true) => "True".to_owned(),
        Default::Bool(false) => "False".to_owned(),
        Default::Text(text) => text.to_owned(),
    }
}

/// Every kind of value, in the order of the explanation.
const KINDS: &[Kind] = &[
    Kind::Int,
    Kind::Count,
    Kind::Seconds,
    Kind::Bool,
    Kind::Text,
    Kind::TextOrList,
    Kind::Sockets,
    Kind::Account,
    Kind::Signal,
    Kind::Env,
    Kind::Stream,
    Kind::Hooks,
    Kind::Limits,
];

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "integer",
        Kind::Count => "count",
        Kind::Seconds => "seconds",
        Kind::Bool => "truth value",
        Kind::Text => "text",
        Kind::TextOrList => "text or list",
        Kind::Sockets => "sockets",
        Kind::Account => "account",
        Kind::Signal => "signal",
        Kind::Env => "environment",
        Kind::Stream => "stream",
        Kind::Hooks => "hooks",
        Kind::Limits => "limits",
    }
}

fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "A whole number.",
        Kind::Count => "A whole number from 0 upwards.",
        Kind::Seconds => "A number of seconds from 0 upwards, also with a fraction.",
        Kind::Bool => {
            "`True`, `yes`, `on`, `1` or `False`, `no`, `off`, `0`, in any case. On the wire a JSON \
             truth value."
        }
        Kind::Text => "Any text.",
        Kind::TextOrList => {
            "A text that is cut into words as a shell does it; on the wire also a list of words."
        }
        Kind::Sockets => "A truth value, or names of sockets, separated by commas or spaces.",
        Kind::Account => "The name or the number of a user or group.",
        Kind::Signal => {
            "A number, or a name such as `TERM`, `SIGTERM` or `SIGRTMIN+1`; on the wire the number."
        }
        Kind::Env => {
            "On the wire an object of texts; in a file the sections `[env]` and `[env:PATTERN]`; for \
             `circ set` and `circusctl set` the text `NAME=VALUE,NAME=VALUE`."
        }
        Kind::Stream => "A group: `stdout_stream.KEY`, `stderr_stream.KEY`.",
        Kind::Hooks => "A group: `hooks.NAME`.",
        Kind::Limits => "A group: `rlimit_NAME`.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_options_is_said_of_options_there_are() {
        for (name, _) in NOT_YET {
            assert!(WATCHER_OPTIONS.iter().any(|spec| spec.name == *name));
        }
        for spec in WATCHER_OPTIONS {
            assert!(KINDS.contains(&spec.kind), "{}", spec.name);
        }
    }
}
