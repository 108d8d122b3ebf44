//! From the words of a circusctl command line to the message that circusctl would send.
//!
//! This is deliberately not the table of [`crate::wire::command`]: circusctl checks less, sends
//! other properties (`waiting` even when false) and forgets some (`rm --nostop`).

use serde_json::{Map, Value, json};

use crate::cli::argparse::{Kind, Opt, Parsed, opt};
use crate::options;
use crate::wire::{command, pytext};

/// A command of circusctl.
pub struct Ctl {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub opts: &'static [Opt],
}

const HELP: Opt = opt(&["-h", "--help"], Kind::Help, "show this help and exit");
const WAITING: Opt = opt(
    &["--waiting"],
    Kind::Flag,
    "wait for the end of the operation",
);
const MATCH: Opt = opt(
    &["--match"],
    Kind::Text,
    "how the name is read: simple, glob or regex",
);

const PLAIN: &[Opt] = &[HELP];
const WAIT: &[Opt] = &[HELP, WAITING];
const SELECT: &[Opt] = &[HELP, WAITING, MATCH];

const fn ctl(name: &'static str, opts: &'static [Opt]) -> Ctl {
    Ctl { name, opts }
}

/// The commands in circusctl's own order, which its error texts show.
pub static CTLS: &[Ctl] = &[
    ctl(
        "add",
        &[
            HELP,
            opt(&["--start"], Kind::Flag, "start the new watcher at once"),
        ],
    ),
    ctl("incr", WAIT),
    ctl("decr", WAIT),
    ctl("dstats", PLAIN),
    ctl("get", PLAIN),
    ctl("globaloptions", PLAIN),
    ctl("ipython", PLAIN),
    ctl(
        "kill",
        &[
            HELP,
            WAITING,
            opt(
                &["--signum"],
                Kind::Text,
                "number or name of the signal, in place of the watcher's",
            ),
            opt(
                &["--graceful_timeout"],
                Kind::Text,
                "seconds until SIGKILL, in place of the watcher's",
            ),
        ],
    ),
    ctl("list", PLAIN),
    ctl("listen", PLAIN),
    ctl("listsockets", PLAIN),
    ctl("numprocesses", PLAIN),
    ctl("numwatchers", PLAIN),
    ctl("options", PLAIN),
    ctl("quit", WAIT),
    ctl(
        "reload",
        &[
            HELP,
            WAITING,
            opt(&["--sequential"], Kind::Flag, "one process after the other"),
            opt(&["--terminate"], Kind::Flag, "stop the old processes first"),
        ],
    ),
    ctl("reloadconfig", WAIT),
    ctl("restart", SELECT),
    ctl(
        "rm",
        &[
            HELP,
            WAITING,
            opt(&["--nostop"], Kind::Flag, "leave the processes running"),
        ],
    ),
    ctl(
        "signal",
        &[
            HELP,
            opt(
                &["--children"],
                Kind::Flag,
                "signal only the children of the process",
            ),
            opt(
                &["--recursive"],
                Kind::Flag,
                "signal the process and its children",
            ),
        ],
    ),
    ctl("set", WAIT),
    ctl("start", SELECT),
    ctl(
        "stats",
        &[
            HELP,
            opt(
                &["--extended"],
                Kind::Flag,
                "with what the extended_stats hook adds",
            ),
        ],
    ),
    ctl("status", PLAIN),
    ctl("stop", SELECT),
];

/// The names of [`CTLS`], in that order.
pub static NAMES: [&str; 25] = {
    let mut names = [""; 25];
    let mut at = 0;
    while at < names.len() {
        names[at] = CTLS[at].name;
        at += 1;
    }
    names
};

/// Whether circusctl's `set` knows a key; it refuses the others before it calls anybody. The entries of mappings
/// (`hooks.before_start`, …) are judged by their prefix.
fn is_set_key(key: &str) -> bool {
    key == "retry_in"
        || matches!(options::find(key), Some((spec, options::Key::Whole)) if spec.circus_settable && spec.kind != options::Kind::Stream)
}

/// The message for `command`, whose own line was parsed into `line`.
///
/// # Errors
/// What circusctl prints before it exits with 1.
pub fn message(name: &str, line: &Parsed) -> Result<Value, String> {
    let args: Vec<&str> = line.words.iter().map(String::as_str).collect();
    let flag = |name: &str| Value::from(line.flags.contains(&name));
    let value = |name: &str| line.values.get(name).map(|text| Value::from(text.as_str()));
    let mut properties = Map::new();
    let mut put = |key: &str, value: Value| {
        properties.insert(key.to_string(), value);
    };
    match (name, args.as_slice()) {
        ("add", [name, cmd @ ..]) if !cmd.is_empty() => {
            put("name", json!(name));
            put("cmd", json!(cmd.join(" ")));
            put("start", flag("start"));
        }
        ("incr" | "decr", [name, rest @ ..]) => {
            put("name", json!(name));
            if let Some(nb) = rest.first() {
                put("nb", integer(nb)?);
            }
            put("waiting", flag("waiting"));
        }
        ("dstats" | "ipython", [_, ..]) => return Err("Invalid message".into()),
        ("get", [name, keys @ ..]) if !keys.is_empty() => {
            put("name", json!(name));
            put("keys", json!(keys));
        }
        ("globaloptions", [option, ..]) => put("option", json!(option)),
        ("kill", [name]) | ("kill", [name, _]) => {
            put("name", json!(name));
            if let Some(pid) = args.get(1) {
                put("pid", json!(pid));
            }
            for key in ["signum", "graceful_timeout"] {
                if let Some(value) = value(key) {
                    put(key, value);
                }
            }
        }
        ("list" | "numprocesses" | "status", [name]) => put("name", json!(name)),
        ("numprocesses" | "status", [_, _, ..]) => return Err("message invalid".into()),
        ("options", []) => return Err("number of arguments invalid".into()),
        ("options", [name, ..]) => put("name", json!(name)),
        ("quit" | "reloadconfig", _) => put("waiting", flag("waiting")),
        ("reload", [_, _, ..]) => return Err("invalid number of arguments".into()),
        ("reload", args) => {
            if let [name] = args {
                put("name", json!(name));
            }
            let terminate = line.flags.contains(&"terminate");
            put("graceful", json!(!terminate));
            put("waiting", flag("waiting"));
            put("sequential", flag("sequential"));
        }
        ("restart" | "start", [_, _, ..]) => return Err("Invalid number of arguments".into()),
        ("restart" | "start" | "stop", args) => {
            if let Some(name) = args.first() {
                put("name", json!(name));
            }
            put("waiting", flag("waiting"));
            put("match", value("match").unwrap_or_else(|| json!("glob")));
        }
        ("rm", [name]) => put("name", json!(name)),
        ("set", [name, pairs @ ..]) if pairs.len() >= 2 => {
            if pairs.len() % 2 != 0 {
                return Err("List of key/values is invalid".into());
            }
            if line.flags.contains(&"waiting") {
                put("waiting", json!(true));
            }
            put("name", json!(name));
            put("options", set_options(pairs)?);
        }
        ("signal", [name, .., signum]) if args.len() == 2 || args.len() == 3 => {
            put("name", json!(name));
            put("children", flag("children"));
            put("recursive", flag("recursive"));
            put("signum", json!(signum));
            if let [_, pid, _] = args.as_slice() {
                put("pid", integer(pid)?);
            }
        }
        ("stats", [_, _, _, ..]) => return Err("message invalid".into()),
        ("stats", args) => {
            if let Some(name) = args.first() {
                put("name", json!(name));
            }
            if let Some(process) = args.get(1) {
                put("process", integer(process)?);
            }
            put("extended", flag("extended"));
        }
        ("dstats" | "globaloptions" | "ipython" | "list" | "numprocesses" | "numwatchers", [])
        | ("listsockets", _)
        | ("status", []) => {}
        _ => return Err("Invalid number of arguments".into()),
    }
    Ok(command::message(name, properties))
}

fn integer(text: &str) -> Result<Value, String> {
    pytext::int(text).map(Value::from).ok_or_else(|| {
        format!(
            "invalid literal for int() with base 10: {}",
            pytext::repr(text)
        )
    })
}

fn set_options(pairs: &[&str]) -> Result<Value, String> {
    let mut map = Map::new();
    for pair in pairs.chunks(2) {
        if let [key, text] = pair {
            let key = key.to_lowercase();
            let entry = ["stderr_stream.", "stdout_stream.", "hooks.", "rlimit_"]
                .iter()
                .any(|prefix| key.starts_with(prefix));
            if !entry && !is_set_key(&key) {
                return Err(format!("unknown key {}", pytext::repr(&key)));
            }
            let value = options::parse_text(&key, text)?;
            map.insert(key, value);
        }
    }
    Ok(Value::Object(map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::argparse::{Words, parse};
    use crate::wire::command::COMMANDS;

    fn build(line: &str) -> Result<Value, String> {
        let mut words = line.split(' ').map(String::from);
        let name = words.next().unwrap();
        let ctl = CTLS.iter().find(|ctl| ctl.name == name).unwrap();
        let args: Vec<String> = words.collect();
        message(&name, &parse(ctl.opts, Words::Any, &args).unwrap())
            .map(|message| message["properties"].clone())
    }

    #[test]
    fn every_command_of_the_wire_is_here() {
        let mut names = NAMES;
        names.sort_unstable();
        let wire = COMMANDS.iter().filter(|spec| spec.circus);
        let wire: Vec<&str> = wire.map(|spec| spec.name).collect();
        assert_eq!(names.as_slice(), wire);
    }

    #[test]
    fn messages_as_circusctl_sends_them() {
        for (line, want) in [
            (
                "add a sleep 1 --start",
                json!({"name": "a", "cmd": "sleep 1", "start": true}),
            ),
            (
                "incr a -1 x",
                json!({"name": "a", "nb": -1, "waiting": false}),
            ),
            (
                "kill a 12 --signum 9",
                json!({"name": "a", "pid": "12", "signum": "9"}),
            ),
            ("rm a --nostop --waiting", json!({"name": "a"})),
            (
                "stop a b",
                json!({"name": "a", "waiting": false, "match": "glob"}),
            ),
            ("restart", json!({"waiting": false, "match": "glob"})),
            (
                "signal a 5 HUP",
                json!({"name": "a", "children": false, "recursive": false, "signum": "HUP", "pid": 5}),
            ),
            (
                "set a NUMPROCESSES 3 --waiting",
                json!({"waiting": true, "name": "a", "options": {"numprocesses": 3}}),
            ),
            (
                "stats a 5",
                json!({"name": "a", "process": 5, "extended": false}),
            ),
            (
                "reload --terminate",
                json!({"graceful": false, "waiting": false, "sequential": false}),
            ),
            ("listsockets x", json!({})),
        ] {
            assert_eq!(build(line), Ok(want), "{line}");
        }
    }

    #[test]
    fn errors_as_circusctl_prints_them() {
        for (line, want) in [
            ("add a", "Invalid number of arguments"),
            ("incr", "Invalid number of arguments"),
            ("dstats x", "Invalid message"),
            ("list a b", "Invalid number of arguments"),
            ("status a b", "message invalid"),
            ("options", "number of arguments invalid"),
            ("reload a b", "invalid number of arguments"),
            ("set a b", "Invalid number of arguments"),
            ("set a b c d", "List of key/values is invalid"),
            ("set a autostart true", "unknown key 'autostart'"),
            ("incr a x", "invalid literal for int() with base 10: 'x'"),
            ("rm a b", "Invalid number of arguments"),
            ("kill a 1 2", "Invalid number of arguments"),
            ("signal a", "Invalid number of arguments"),
            ("numwatchers x", "Invalid number of arguments"),
        ] {
            assert_eq!(build(line), Err(want.to_string()), "{line}");
        }
    }
}
