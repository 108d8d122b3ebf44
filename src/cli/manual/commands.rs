//! The commands of the control socket, from the table of the wire room; replies, errors and events
//! beside them.

use super::page::{Block, code, heading, text, typed};
use crate::wire::Event;
use crate::wire::command::{COMMANDS, CommandSpec, GLOBAL_OPTIONS, Shape};
use crate::wire::reply::Errno;

/// What a command answers beside `status`, `time` and `id`.
#[derive(Debug, Clone, Copy)]
pub struct ReplyForm {
    /// The command.
    pub command: &'static str,
    /// Properties to which this is the answer, as a JSON object; `web` is a watcher that runs.
    pub request: &'static str,
    /// The keys of the answer.
    pub keys: &'static [&'static str],
    /// What they hold.
    pub meaning: &'static str,
}

const fn reply(
    command: &'static str,
    request: &'static str,
    keys: &'static [&'static str],
    meaning: &'static str,
) -> ReplyForm {
    ReplyForm {
        command,
        request,
        keys,
        meaning,
    }
}

/// The answers of every command, in an order in which one daemon can be asked for all of them.
#[rustfmt::skip]
pub static REPLIES: &[ReplyForm] = &[
    reply("dstats", "{}", &["info"], "An object of statistics of the daemon itself, as `stats` has them"),
    reply("get", r#"{"name": "web", "keys": ["cmd"]}"#, &["options"], "An object of the options asked for"),
    reply("globaloptions", "{}", &["options"], "An object of the daemon's options"),
    reply("globaloptions", r#"{"option": "endpoint"}"#, &["options"], "The same with the one option"),
    reply("identity", "{}", &["program", "version", "pid", "config", "files", "fqdn", "cwd", "started", "uid"], "`program` is `circ`; `fqdn` is the name of the host, after `fqdn_prefix@` if that is set; `config` is the main file and `files` all that were read, absolute; `started` is in seconds since the epoch; `uid` is the user it runs as"),
    reply("ipython", "{}", &["shell", "msg"], "`shell` is false: there is no Python inside"),
    reply("list", "{}", &["watchers"], "The names of the watchers, in lower case, sorted"),
    reply("list", r#"{"name": "web"}"#, &["pids"], "The process ids of the workers"),
    reply("listsockets", "{}", &["sockets"], "A list of objects: `fd`, `name`, `backlog`, and `host` and `port` or `path`"),
    reply("listsockets", r#"{"details": true}"#, &["sockets"], "The same with `waiting`, `limit`, `full` and `reads` in each, where they are known, see below"),
    reply("logtail", r#"{"name": "web"}"#, &["stream", "class"], "`class` is null if the output goes where the daemon's own goes; otherwise the answer has what `status` tells of the stream, and `text` and `end` if it is in no file, see below"),
    reply("metrics", r#"{"processes": true}"#, &["daemon", "watchers"], "`daemon` is what `identity` answers, with the requests by command in `commands`, the messages that were `rejected`, and the events and statistics that were dropped because a subscriber did not read: `events_dropped`, `stats_dropped`; `watchers` is an object by name, see below"),
    reply("metrics", r#"{"name": "web"}"#, &["daemon", "watchers"], "The same with the one watcher"),
    reply("numprocesses", "{}", &["numprocesses"], "The number of workers that run"),
    reply("numprocesses", r#"{"name": "web"}"#, &["numprocesses", "watcher_name"], "The same of one watcher"),
    reply("numwatchers", "{}", &["numwatchers"], "The number of watchers"),
    reply("options", r#"{"name": "web"}"#, &["options"], "An object of all options, and of the keys of the file that nobody knows"),
    reply("stats", "{}", &["infos"], "For each watcher an object of statistics by process id"),
    reply("stats", r#"{"name": "web"}"#, &["name", "info"], "An object of statistics by process id"),
    reply("stats", r#"{"name": "web", "process": PID}"#, &["process", "info"], "The statistics of one process"),
    reply("status", "{}", &["statuses"], "For each watcher `active`, `stopped`, `starting` or `stopping`; `waiting` names those stopped ones that start at the next connection"),
    reply("status", r#"{"name": "web"}"#, &[], "The status of the watcher stands in `status` itself; if its last starts failed, `trouble` says why; with `on_demand`, `waiting` says whether it starts at the next connection; `last_exit` is there once a worker has ended by itself or could not be started, see below"),
    reply("status", r#"{"details": true}"#, &["statuses", "watchers"], "`watchers` has an object for each watcher: what `status` with its name answers, and more, see below"),
    reply("status", r#"{"name": "web", "details": true}"#, &["numprocesses", "workers", "since", "ends", "restarts", "gave_up", "events"], "The same of one watcher, with its last events"),
    reply("add", r#"{"name": "new", "cmd": "sleep 1000"}"#, &[], "Nothing more"),
    reply("add", r#"{"name": "more", "cmd": "sleep 1000", "start": true, "waiting": true}"#, &["started", "kept"], "Lists of process ids"),
    reply("rm", r#"{"name": "more", "waiting": true}"#, &[], "Nothing more"),
    reply("incr", r#"{"name": "web"}"#, &[], "Nothing more"),
    reply("incr", r#"{"name": "web", "waiting": true}"#, &["numprocesses"], "The number that is wanted now; for a singleton the old number, and `singleton` is true"),
    reply("decr", r#"{"name": "web"}"#, &[], "Nothing more"),
    reply("decr", r#"{"name": "web", "waiting": true}"#, &["numprocesses"], "As for `incr`"),
    reply("kill", r#"{"name": "web", "waiting": true}"#, &[], "Nothing more"),
    reply("set", r#"{"name": "web", "options": {"graceful_timeout": 5}, "waiting": true}"#, &[], "Nothing more"),
    reply("signal", r#"{"name": "web", "signum": 0}"#, &[], "Nothing more"),
    reply("reload", r#"{"name": "web", "waiting": true}"#, &["info"], "Null, or lists of process ids: `started`, `kept`, `stopped`"),
    reply("reload", "{}", &[], "Nothing more"),
    reply("reloadconfig", r#"{"check": true}"#, &["plan", "reloaded", "restart_needed"], "`plan` is a list of objects: `section`, `action` (`add`, `remove`, `replace`, `set` or `none`), `keys` that differ, and `because`, the sections that are the reason; the other two as below. What could not be bound is an error, as in the reload itself; nothing is bound for good, and no file is touched"),
    reply("reloadconfig", r#"{"waiting": true}"#, &["changed", "reloaded", "restart_needed"], "The sections that have changed; the watchers whose workers are replaced; `circus.KEY` for what the daemon keeps until it is started anew; `notes`, if there are any, are sentences about what has no effect"),
    reply("reopenlogs", "{}", &[], "Nothing more; the files are opened a moment later"),
    reply("restart", r#"{"name": "web", "match": "simple", "waiting": true}"#, &["info"], "Lists of process ids: `started`, `kept`, `stopped`"),
    reply("stop", r#"{"name": "web", "waiting": true}"#, &["info"], "Null"),
    reply("start", r#"{"name": "web", "waiting": true}"#, &["info"], "Lists of process ids: `started`, `kept`"),
    reply("quit", r#"{"waiting": true}"#, &[], "Nothing more; the daemon ends"),
];

/// The statistics of a worker.
#[rustfmt::skip]
pub static STATISTICS: &[(&str, &str)] = &[
    ("mem_info1", "Resident memory, as a text with its unit"),
    ("mem_info2", "Virtual memory, as a text with its unit"),
    ("cpu", "CPU use since the last question (the first time: since it was created), in per cent of one processor"),
    ("mem", "Resident memory in per cent of what the machine has"),
    ("ctime", "CPU time used so far, as a text: minutes, seconds and their fraction"),
    ("pid", "The process id"),
    ("username", "The name of the user it runs as"),
    ("nice", "Its nice value"),
    ("create_time", "When it was created, in seconds since the epoch"),
    ("age", "How long it has been running, in seconds"),
    ("cmdline", "The name of its program"),
    ("children", "The statistics of its children, a list"),
    ("started", "When the daemon started it, in seconds since the epoch (not of the daemon, not of children)"),
    ("wid", "The number of the worker (not of the daemon, not of children)"),
];

/// Properties that a command line has no word for.
const FURTHER: &[(&str, &str, &str, &str)] = &[(
    "add",
    "args",
    "text or list",
    "Arguments, appended to those in `cmd`",
)];

/// What is to be said of a command beyond its tables.
const NOTES: &[(&str, &str)] = &[
    (
        "add",
        "With `endpoint_owner` on an ipc endpoint, `options` must name that user as `uid`.",
    ),
    (
        "incr",
        "A singleton keeps its one worker; that is no error. `nb` may be negative.",
    ),
    ("decr", "`nb` may be negative."),
    (
        "listen",
        "Answers an error (errno 3): events are on the publishing socket, which `circ listen` and \
         `circusctl listen` follow.",
    ),
    (
        "restart",
        "Without a name the daemon stops all watchers, reads the configuration again and starts them.",
    ),
    (
        "reloadconfig",
        "All or nothing: a mistake in the new configuration is answered (errno 5), and the daemon goes \
         on as before. Watchers that have not changed are not touched; those that the file does not have, \
         such as added ones, are stopped and removed. A watcher that was stopped stays stopped.\n\n\
         With `only`, the files are read and checked as a whole, and these sections of them are taken over: \
         everything else goes on as it is, watchers that were added or changed by hand included, and a later \
         reload still sees what else has changed. A watcher whose new workers do not stay keeps its old ones and its \
         old options, and the answer is an error; the next reload tries again. A socket is not removed while a watcher uses it that is \
         not named too. Of the options of `[circus]`, check_delay, warmup_delay, loglevel and umask take \
         effect at once.",
    ),
    (
        "status",
        "`last_exit` is an object: `pid`, `time` (seconds since the epoch), `code` or `signal` (the other is null), \
         `lived` (seconds) and `stderr`, a list of the last lines that the worker wrote there (20 lines, 4 KiB at the \
         most). They are there for workers with a `stderr_stream`, and for others that are listened to: those that are started within a minute after another \
         one of the watcher has ended young (within a second, or within ten with a code other than 0 or by a signal other \
         than SIGHUP, SIGINT, SIGKILL and SIGTERM), four of them at a time until they are ten seconds old, and all of a \
         watcher without `respawn`; not with `close_child_stderr`. What one of them said stands for a minute, before those \
         who end alike and were not listened to. Of a worker that could not be started `pid`, \
         `code` and `signal` are null, and `reason` says why. `streams` has an object for `stdout` and `stderr` if they \
         have a stream and a worker was started: its `class`, its `file` if it has one, the `bytes` that the workers have \
         said and those that were `dropped`, and `trouble` while they cannot be written.\n\n\
         With `details`: `numprocesses` is how many workers are wanted, `workers` a list of objects for those that live \
         (`pid`, `wid`, `started`, and `leaving` if it has been told to go), `since` when the watcher came up (null \
         while it is down), `ends` how many workers have ended by themselves and `restarts` how many of these were \
         replaced, since the daemon started. `gave_up` is true if it has stopped by itself. While the daemon waits before it starts a worker \
         that keeps failing, `failures` is how often it failed in a row and `next_start` when it is tried again. \
         `events` are the last twenty events, oldest first: `time`, `event`, and `pid`, `exit_code`, `hook` and `error` \
         where there is one; that a hook did well is left out. Times are in seconds since the epoch. circusd passes over `details`.",
    ),
    (
        "set",
        "All or nothing. `env`, `hooks`, `stdout_stream` and `stderr_stream` are replaced as a whole; a hook, a limit or \
         a key of a stream can be set alone (`hooks.before_start`, `rlimit_nofile`, `stdout_stream.filename`). What the \
         options page marks as needing new workers reloads the watcher; if the new workers do not stay, the old ones \
         and the old options do, and the answer is an error. The environment of the workers is made when a watcher is: a change of \
         `copy_env`, `copy_path`, `virtualenv` or `virtualenv_py_ver` is kept, and does not change it; set `env`, or \
         change the file and use `reloadconfig`. A user, a group or a limit cannot be unset, only changed.",
    ),
    (
        "logtail",
        "`text` is the end of what was said, up to the last 64 KiB (what is no UTF-8 is replaced), and `end` the number of \
         bytes that were ever said; with `after`, the `end` of an earlier answer, only what came since. `file` is the \
         path of the file, if there is one: then it is to be read there. circusd does not know this command, nor \
         `reopenlogs` (errno 2).",
    ),
    (
        "metrics",
        "Of each watcher: `status`, `wanted` (its `numprocesses`), `singleton`, `workers`, a list of objects with `pid`, `wid`, \
         `started` (seconds since the epoch) and `leaving`; what was counted since the watcher was made: workers that were \
         `started`, `not_started` (they could not be) and `lost` (ended without having been asked to), `exits` by code (a \
         negative one is a signal's number), `reloads`, `kills` (signals that were announced) and `hook_failures`; and, as in \
         the answer to `status`, `waiting`, `trouble`, `last_exit`, `stopped_by` and `streams`, where there is such a thing. With \
         `processes` each worker, and the daemon, has `cpu_seconds`, `rss` and `vms` in bytes, `threads` and `fds`, without its \
         children; and a watcher that has or had `circ chaussette` among its workers has `front`: what they have counted together, \
         over their ends, by the names in docs/metrics.md without `circ_front_`; `fronts` of them run, `requests_each_second` is \
         since somebody last asked. circusd does not know this command (errno 2).",
    ),
    (
        "listsockets",
        "With `details`: `waiting` connections of `limit` that may wait before the kernel takes no more (it is `full` then); `limit` \
         is the backlog, but `net.core.somaxconn` at most; with `so_reuseport`, that of all workers together. `reads` is in how many \
         hundredths of a second there was something to read; it is counted while somebody asks regularly, at least every minute.",
    ),
    (
        "identity",
        "circusd does not know this command (errno 2): a client can tell the two apart by it.",
    ),
];

/// The reference page.
pub fn blocks() -> Vec<Block> {
    let mut blocks = vec![
        text(
            "A client sends a JSON object to the ZeroMQ socket `endpoint` and gets a JSON object back. \
             The protocol is that of Circus 0.19.",
        ),
        code(
            "{\"id\": \"1\", \"command\": \"incr\", \"properties\": {\"name\": \"web\", \"waiting\": true}}\n\
             {\"status\": \"ok\", \"time\": 1795247906.5, \"numprocesses\": 3, \"id\": \"1\"}",
        ),
        text(
            "`id` is any JSON value and comes back in the reply. With `\"msg_type\": \"cast\"` there is no \
             reply. Every command understands `waiting`: if it is true, the reply comes when the work is \
             done and not when it has begun. Names of watchers and commands do not distinguish case. A \
             message may have up to 1 MiB.",
        ),
        text(
            "`circ COMMAND` sends these messages: a word or an option of its command line becomes the \
             property beside it.",
        ),
    ];
    for spec in COMMANDS {
        command(&mut blocks, spec);
    }
    blocks.push(heading("Statistics"));
    blocks.push(text(
        "What `stats` and `dstats` answer for one process. What cannot be read is the text `N/A`.",
    ));
    blocks.push(Block::Table(
        &["Key", "Meaning"],
        STATISTICS
            .iter()
            .map(|(key, meaning)| vec![typed(key), (*meaning).to_owned()])
            .collect(),
    ));
    blocks.extend(errors());
    blocks.extend(events());
    blocks
}

fn command(blocks: &mut Vec<Block>, spec: &CommandSpec) {
    blocks.push(heading(format!("`{}`", spec.name)));
    blocks.push(text(format!("{}.", spec.doc)));
    if let Some((_, note)) = NOTES.iter().find(|(name, _)| *name == spec.name) {
        blocks.push(text(*note));
    }
    if spec.name == "globaloptions" {
        let names: Vec<String> = GLOBAL_OPTIONS.iter().map(|name| typed(name)).collect();
        blocks.push(text(format!("Options: {}.", names.join(", "))));
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for word in spec.words {
        rows.push(vec![
            typed(word.property),
            value(word.shape).to_owned(),
            if spec.required.contains(&word.property) {
                "yes"
            } else {
                ""
            }
            .to_owned(),
            typed(word.metavar),
            word.doc.to_owned(),
        ]);
    }
    for switch in spec.switches {
        rows.push(vec![
            typed(switch.property),
            value(switch.shape).to_owned(),
            String::new(),
            typed(&format!("--{}", switch.name)),
            match switch.shape {
                Shape::Absent => format!("{} (when false)", switch.doc),
                _ => switch.doc.to_owned(),
            },
        ]);
    }
    for (_, property, value, doc) in FURTHER.iter().filter(|row| row.0 == spec.name) {
        rows.push(vec![
            typed(property),
            (*value).to_owned(),
            String::new(),
            String::new(),
            (*doc).to_owned(),
        ]);
    }
    if !rows.is_empty() {
        blocks.push(Block::Table(
            &["Property", "Value", "Needed", "Command line", "Meaning"],
            rows,
        ));
    }
    let replies: Vec<Vec<String>> = REPLIES
        .iter()
        .filter(|reply| reply.command == spec.name)
        .map(|reply| {
            let keys: Vec<String> = reply.keys.iter().map(|key| typed(key)).collect();
            vec![
                typed(reply.request),
                keys.join(", "),
                reply.meaning.to_owned(),
            ]
        })
        .collect();
    if !replies.is_empty() {
        blocks.push(Block::Table(
            &["Properties", "Keys of the reply", "What they hold"],
            replies,
        ));
    }
}

/// The JSON type of a property.
fn value(shape: Shape) -> &'static str {
    match shape {
        Shape::Text | Shape::Rest => "text",
        Shape::Integer => "integer",
        Shape::Seconds => "number of seconds",
        Shape::List => "list of texts",
        Shape::Options => "object of watcher options",
        Shape::Present | Shape::Absent => "truth value",
        Shape::Method => "`simple`, `glob` or `regex`",
    }
}

fn errors() -> Vec<Block> {
    let all = [
        Errno::NotSpecified,
        Errno::InvalidJson,
        Errno::UnknownCommand,
        Errno::Message,
        Errno::Os,
        Errno::Command,
        Errno::BadData,
    ];
    let meaning = |errno| match errno {
        Errno::NotSpecified => "No error number applies",
        Errno::InvalidJson => "The message is no JSON, or it is too large",
        Errno::UnknownCommand => "The command does not exist",
        Errno::Message => {
            "A property is missing or unknown, or names something that does not exist"
        }
        Errno::Os => "The kernel refused what was asked",
        Errno::Command => "The command failed, or a property has a type it cannot work with",
        Errno::BadData => "The command failed while it ran",
    };
    vec![
        heading("Errors"),
        text("`reason` is one sentence; `tb`, a traceback in Circus, is always null here."),
        code(
            "{\"status\": \"error\", \"reason\": \"program nope not found\", \"tb\": null, \
             \"time\": 1795247906.5, \"errno\": 3, \"id\": \"1\"}",
        ),
        Block::Table(
            &["errno", "Meaning"],
            all.map(|errno| vec![errno.number().to_string(), meaning(errno).to_owned()])
                .to_vec(),
        ),
    ]
}

fn events() -> Vec<Block> {
    let (pid, time) = (0, 0.0);
    let exit_code = Some(0);
    let hook = String::new();
    let error = String::new();
    let rows = [
        (Event::Spawn { pid, time }, "A worker was started"),
        (
            Event::Reap {
                pid,
                time,
                exit_code,
            },
            "A worker is gone; a negative code is the number of the signal that ended it",
        ),
        (
            Event::Kill { pid, time },
            "A worker was sent a signal to stop it",
        ),
        (Event::Start { time }, "The watcher has started"),
        (Event::Stop { time }, "The watcher has stopped"),
        (Event::Reload { time }, "The watcher was reloaded"),
        (Event::Updated { time }, "Options were set"),
        (Event::Add { time }, "The watcher was added"),
        (Event::Remove { time }, "The watcher was removed"),
        (
            Event::HookSuccess {
                hook: hook.clone(),
                time,
            },
            "A hook ran (not in this version)",
        ),
        (
            Event::HookFailure { hook, time, error },
            "A hook failed (not in this version)",
        ),
    ];
    let row = |(event, meaning): (Event, &str)| {
        let keys: Vec<String> = event
            .payload()
            .as_object()
            .into_iter()
            .flat_map(|payload| payload.keys().map(|key| typed(key)))
            .collect();
        vec![
            typed(&format!("watcher.NAME.{}", event.action())),
            keys.join(", "),
            meaning.to_owned(),
        ]
    };
    vec![
        heading("Events"),
        text(
            "The socket `pubsub_endpoint` publishes messages of two frames: the topic and a JSON object. \
             `NAME` is the watcher's name in lower case with underscores for spaces. `time` is in \
             seconds since the epoch.",
        ),
        Block::Table(
            &["Topic", "Keys", "Meaning"],
            rows.into_iter().map(row).collect(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse_request;

    #[test]
    fn every_command_has_its_replies_and_every_request_can_be_read() {
        for spec in COMMANDS.iter().filter(|spec| spec.name != "listen") {
            assert!(
                REPLIES.iter().any(|reply| reply.command == spec.name),
                "{}",
                spec.name
            );
        }
        for reply in REPLIES {
            let properties = reply.request.replace("PID", "7");
            let message = format!(
                r#"{{"command": "{}", "properties": {properties}}}"#,
                reply.command
            );
            assert!(parse_request(message.as_bytes()).is_ok(), "{message}");
        }
        for name in NOTES.iter().map(|(name, _)| name) {
            assert!(crate::wire::command::find(name).is_some(), "{name}");
        }
    }
}
