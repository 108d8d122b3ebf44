//! The commands of the control socket: one table, and the typed commands.
//!
//! From [`COMMANDS`] come the check of required properties when a message is read
//! ([`crate::wire::request`]), the subcommands of `circ` and their help, and the properties that
//! each word of a command line becomes. Where the command line of circ offers more than
//! circusctl's (`--nostop`, which circusctl forgets to send), the property is circus's own.

use serde_json::{Map, Value, json};

use crate::wire::matching::Selection;

/// One command: its name, what a message must hold, and how a command line writes it.
#[derive(Debug)]
pub struct CommandSpec {
    /// The name on the wire (any case is understood there).
    pub name: &'static str,
    /// One line of help.
    pub doc: &'static str,
    /// Properties without which the message is refused, in the order they are looked for.
    pub required: &'static [&'static str],
    /// The words of the command line, in order.
    pub words: &'static [Word],
    /// The `--options` of the command line.
    pub switches: &'static [Switch],
    /// circusd has it as well. It answers "unknown command" (errno 2) to the others, and `circusctl` does not know them.
    pub circus: bool,
}

/// A word of the command line.
#[derive(Debug)]
pub struct Word {
    /// The property it becomes.
    pub property: &'static str,
    /// Its name in the help.
    pub metavar: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// How its text becomes JSON.
    pub shape: Shape,
}

/// An `--option` of the command line.
#[derive(Debug)]
pub struct Switch {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// The property it becomes.
    pub property: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// How its text becomes JSON.
    pub shape: Shape,
}

/// How the text of a command line becomes the value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text as it is.
    Text,
    /// An integer.
    Integer,
    /// A number of seconds.
    Seconds,
    /// The rest of the line, joined by spaces.
    Rest,
    /// The rest of the line as a list of texts.
    List,
    /// Watcher options: `KEY VALUE` pairs as words, `KEY=VALUE` as a repeated switch.
    Options,
    /// No text: the property is true when the switch is there.
    Present,
    /// No text: the property is false when the switch is there.
    Absent,
    /// One of `simple`, `glob`, `regex`.
    Method,
}

const fn word(
    property: &'static str,
    metavar: &'static str,
    required: bool,
    shape: Shape,
    doc: &'static str,
) -> Word {
    Word {
        property,
        metavar,
        doc,
        required,
        shape,
    }
}

const fn switch(
    name: &'static str,
    property: &'static str,
    shape: Shape,
    doc: &'static str,
) -> Switch {
    Switch {
        name,
        property,
        doc,
        shape,
    }
}

const WATCHER: Word = word("name", "NAME", true, Shape::Text, "Name of the watcher");
const ANY_WATCHER: Word = word(
    "name",
    "NAME",
    false,
    Shape::Text,
    "Name of the watcher; all of them without it",
);
const PATTERN: Word = word(
    "name",
    "NAME",
    false,
    Shape::Text,
    "Name or pattern of the watchers; all of them without it",
);
const WAITING: Switch = switch(
    "waiting",
    "waiting",
    Shape::Present,
    "Answer only when the work is done",
);
const METHOD: Switch = switch(
    "match",
    "match",
    Shape::Method,
    "How NAME is read [default: glob]",
);
const STEP: Word = word("nb", "N", false, Shape::Integer, "By how many [default: 1]");

/// Every command, by name.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "add",
        doc: "Add a watcher to the running daemon",
        required: &["name", "cmd"],
        words: &[
            word("name", "NAME", true, Shape::Text, "Name of the new watcher"),
            word("cmd", "CMD", true, Shape::Rest, "Command line it runs"),
        ],
        switches: &[
            switch("start", "start", Shape::Present, "Start it at once"),
            switch(
                "set",
                "options",
                Shape::Options,
                "An option of the watcher, as KEY=VALUE; may be repeated",
            ),
            WAITING,
        ],
        circus: true,
    },
    CommandSpec {
        name: "decr",
        doc: "Run fewer processes of a watcher",
        required: &["name"],
        words: &[WATCHER, STEP],
        switches: &[WAITING],
        circus: true,
    },
    CommandSpec {
        name: "dstats",
        doc: "Show CPU and memory use of the daemon itself",
        required: &[],
        words: &[],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "get",
        doc: "Show some options of a watcher",
        required: &["name", "keys"],
        words: &[
            WATCHER,
            word("keys", "KEY", true, Shape::List, "Options to show"),
        ],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "globaloptions",
        doc: "Show the options of the daemon",
        required: &[],
        words: &[word(
            "option",
            "OPTION",
            false,
            Shape::Text,
            "The one option to show; all of them without it",
        )],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "identity",
        doc: "Show who answers: program, version, process and configuration files",
        required: &[],
        words: &[],
        switches: &[],
        circus: false,
    },
    CommandSpec {
        name: "incr",
        doc: "Run more processes of a watcher",
        required: &["name"],
        words: &[WATCHER, STEP],
        switches: &[WAITING],
        circus: true,
    },
    CommandSpec {
        name: "ipython",
        doc: "Ask a Python daemon for an IPython kernel",
        required: &[],
        words: &[],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "kill",
        doc: "Stop processes of a watcher; they are replaced",
        required: &["name"],
        words: &[
            WATCHER,
            word(
                "pid",
                "PID",
                false,
                Shape::Integer,
                "The one process; all of the watcher's without it",
            ),
        ],
        switches: &[
            WAITING,
            switch(
                "signum",
                "signum",
                Shape::Text,
                "Signal to use in place of the watcher's stop_signal (number or name)",
            ),
            switch(
                "graceful_timeout",
                "graceful_timeout",
                Shape::Seconds,
                "Seconds until SIGKILL, in place of the watcher's graceful_timeout",
            ),
        ],
        circus: true,
    },
    CommandSpec {
        name: "list",
        doc: "List the watchers, or the processes of one",
        required: &[],
        words: &[ANY_WATCHER],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "listen",
        doc: "Follow the events of the daemon",
        required: &[],
        words: &[word(
            "topics",
            "TOPIC",
            false,
            Shape::List,
            "Beginnings of the topics to follow, such as watcher.web.; everything without it",
        )],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "listsockets",
        doc: "List the sockets that the daemon holds for its watchers",
        required: &[],
        words: &[],
        switches: &[switch(
            "details",
            "details",
            Shape::Present,
            "With the connections that wait at each of them (circusd passes over it)",
        )],
        circus: true,
    },
    CommandSpec {
        name: "logtail",
        doc: "Show where the output of a watcher goes, and the end of what is in no file",
        required: &["name"],
        words: &[
            WATCHER,
            word(
                "stream",
                "STREAM",
                false,
                Shape::Text,
                "stdout or stderr [default: stdout]",
            ),
        ],
        switches: &[
            switch(
                "bytes",
                "bytes",
                Shape::Integer,
                "How much of it at the most [default: 65536]",
            ),
            switch(
                "after",
                "after",
                Shape::Integer,
                "Only what came after that many bytes, as an earlier answer counts them",
            ),
        ],
        circus: false,
    },
    CommandSpec {
        name: "metrics",
        doc: "Tell in one answer how all watchers are and what was counted since the daemon started",
        required: &[],
        words: &[ANY_WATCHER],
        switches: &[switch(
            "processes",
            "processes",
            Shape::Present,
            "With CPU time, memory and open files of each process",
        )],
        circus: false,
    },
    CommandSpec {
        name: "numprocesses",
        doc: "Count the processes, of one watcher or of all",
        required: &[],
        words: &[ANY_WATCHER],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "numwatchers",
        doc: "Count the watchers",
        required: &[],
        words: &[],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "options",
        doc: "Show all options of a watcher",
        required: &["name"],
        words: &[WATCHER],
        switches: &[],
        circus: true,
    },
    CommandSpec {
        name: "quit",
        doc: "Stop everything and end the daemon",
        required: &[],
        words: &[],
        switches: &[WAITING],
        circus: true,
    },
    CommandSpec {
        name: "reload",
        doc: "Replace the processes of a watcher, or of all, by new ones",
        required: &[],
        words: &[ANY_WATCHER],
        switches: &[
            WAITING,
            switch(
                "sequential",
                "sequential",
                Shape::Present,
                "One process after the other",
            ),
            switch(
                "terminate",
                "graceful",
                Shape::Absent,
                "Stop the old ones first: a plain restart",
            ),
        ],
        circus: true,
    },
    CommandSpec {
        name: "reloadconfig",
        doc: "Read the configuration file again and apply what changed",
        required: &[],
        words: &[],
        switches: &[
            WAITING,
            switch(
                "only",
                "only",
                Shape::List,
                "Take over these sections alone, such as socket:web; everything else stays as it runs",
            ),
            switch(
                "check",
                "check",
                Shape::Present,
                "Answer what would be done, and do nothing",
            ),
        ],
        circus: true,
    },
    CommandSpec {
        name: "reopenlogs",
        doc: "Open the files of output streams, and without a name the daemon's own log, anew, after somebody has moved them away",
        required: &[],
        words: &[ANY_WATCHER],
        switches: &[],
        circus: false,
    },
    CommandSpec {
        name: "restart",
        doc: "Stop and start watchers",
        required: &[],
        words: &[PATTERN],
        switches: &[WAITING, METHOD],
        circus: true,
    },
    CommandSpec {
        name: "rm",
        doc: "Stop a watcher and forget it",
        required: &["name"],
        words: &[WATCHER],
        switches: &[
            switch(
                "nostop",
                "nostop",
                Shape::Present,
                "Leave its processes running, unsupervised",
            ),
            WAITING,
        ],
        circus: true,
    },
    CommandSpec {
        name: "set",
        doc: "Change options of a watcher in the running daemon",
        required: &["name", "options"],
        words: &[
            WATCHER,
            word(
                "options",
                "KEY VALUE",
                true,
                Shape::Options,
                "Options and their new values",
            ),
        ],
        switches: &[WAITING],
        circus: true,
    },
    CommandSpec {
        name: "signal",
        doc: "Send a signal to processes of a watcher",
        required: &["name", "signum"],
        words: &[
            WATCHER,
            word(
                "pid",
                "PID",
                false,
                Shape::Integer,
                "The one process; all of the watcher's without it",
            ),
            word(
                "signum",
                "SIGNAL",
                true,
                Shape::Text,
                "Number or name of the signal",
            ),
        ],
        switches: &[
            switch(
                "childpid",
                "childpid",
                Shape::Integer,
                "Signal this child of PID instead",
            ),
            switch(
                "children",
                "children",
                Shape::Present,
                "Signal the children, not the process",
            ),
            switch(
                "recursive",
                "recursive",
                Shape::Present,
                "Signal the process and all its descendants",
            ),
        ],
        circus: true,
    },
    CommandSpec {
        name: "start",
        doc: "Start watchers",
        required: &[],
        words: &[PATTERN],
        switches: &[WAITING, METHOD],
        circus: true,
    },
    CommandSpec {
        name: "stats",
        doc: "Show CPU and memory use of processes",
        required: &[],
        words: &[
            ANY_WATCHER,
            word(
                "process",
                "PID",
                false,
                Shape::Integer,
                "The one process; all of the watcher's without it",
            ),
        ],
        switches: &[switch(
            "extended",
            "extended",
            Shape::Present,
            "With what the extended_stats hook adds",
        )],
        circus: true,
    },
    CommandSpec {
        name: "status",
        doc: "Show how the watchers are, or all about one",
        required: &[],
        words: &[ANY_WATCHER],
        switches: &[switch(
            "details",
            "details",
            Shape::Present,
            "With workers, restarts, last exits and last events of each watcher (circusd passes over it)",
        )],
        circus: true,
    },
    CommandSpec {
        name: "stop",
        doc: "Stop watchers; they stay stopped until started",
        required: &[],
        words: &[PATTERN],
        switches: &[WAITING, METHOD],
        circus: true,
    },
];

impl CommandSpec {
    /// It only looks and changes nothing, whatever its properties are.
    pub fn only_looks(&self) -> bool {
        matches!(
            self.name,
            "dstats"
                | "get"
                | "globaloptions"
                | "identity"
                | "list"
                | "listen"
                | "listsockets"
                | "logtail"
                | "metrics"
                | "numprocesses"
                | "numwatchers"
                | "options"
                | "stats"
                | "status"
        )
    }
}

impl Command {
    /// The name of its row in [`COMMANDS`].
    pub fn name(&self) -> &'static str {
        match self {
            Command::Add { .. } => "add",
            Command::Decr { .. } => "decr",
            Command::Dstats => "dstats",
            Command::Get { .. } => "get",
            Command::GlobalOptions { .. } => "globaloptions",
            Command::Identity => "identity",
            Command::Incr { .. } => "incr",
            Command::Ipython => "ipython",
            Command::Kill { .. } => "kill",
            Command::List { .. } => "list",
            Command::Listen => "listen",
            Command::ListSockets { .. } => "listsockets",
            Command::LogTail { .. } => "logtail",
            Command::Metrics { .. } => "metrics",
            Command::NumProcesses { .. } => "numprocesses",
            Command::NumWatchers => "numwatchers",
            Command::Options { .. } => "options",
            Command::Quit => "quit",
            Command::Reload { .. } => "reload",
            Command::ReloadConfig { .. } => "reloadconfig",
            Command::ReopenLogs { .. } => "reopenlogs",
            Command::Restart(_) => "restart",
            Command::Rm { .. } => "rm",
            Command::Set { .. } => "set",
            Command::Signal { .. } => "signal",
            Command::Start(_) => "start",
            Command::Stats { .. } => "stats",
            Command::Status { .. } => "status",
            Command::Stop(_) => "stop",
        }
    }
}

/// The row of the command called `name`, in any case.
pub fn find(name: &str) -> Option<&'static CommandSpec> {
    let name = name.to_lowercase();
    COMMANDS.iter().find(|spec| spec.name == name)
}

/// A message for a daemon; the client adds the `id`.
pub fn message(command: &str, properties: Map<String, Value>) -> Value {
    json!({"command": command, "properties": properties})
}

/// What a client asks for, with every type checked. Names are as the client wrote them.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Add a watcher. `args` is null, a text or a list.
    Add {
        name: String,
        cmd: String,
        args: Value,
        options: Map<String, Value>,
        start: bool,
    },
    /// Lower `numprocesses` by `nb` (which may be negative).
    Decr { name: String, nb: i64 },
    /// Statistics of the daemon.
    Dstats,
    /// Values of options.
    Get { name: String, keys: Vec<String> },
    /// Options of the daemon; the name is one of [`GLOBAL_OPTIONS`].
    GlobalOptions { option: Option<String> },
    /// Who the daemon is and which files it runs on.
    Identity,
    /// Raise `numprocesses` by `nb` (which may be negative).
    Incr { name: String, nb: i64 },
    /// An IPython kernel, which only a Python daemon can have.
    Ipython,
    /// Stop processes of a watcher; they are replaced.
    Kill {
        name: String,
        pid: Option<i32>,
        signum: Option<i32>,
        /// Seconds.
        graceful_timeout: Option<f64>,
    },
    /// Names of watchers, or pids of one.
    List { name: Option<String> },
    /// Only an error: events are on the publishing socket.
    Listen,
    /// Sockets of the daemon.
    ListSockets {
        /// With what waits at them.
        details: bool,
    },
    /// Where an output goes, and the end of what is in no file.
    LogTail {
        name: String,
        /// `stdout` or `stderr`.
        stream: String,
        /// How much at the most.
        bytes: usize,
        /// Only what came after that many bytes.
        after: u64,
    },
    /// State and counters of all watchers, or of one.
    Metrics {
        name: Option<String>,
        /// With what each process uses.
        processes: bool,
    },
    /// Number of processes.
    NumProcesses { name: Option<String> },
    /// Number of watchers.
    NumWatchers,
    /// Every option of a watcher.
    Options { name: String },
    /// End the daemon.
    Quit,
    /// Replace processes by new ones.
    Reload {
        name: Option<String>,
        graceful: bool,
        sequential: bool,
    },
    /// Read the configuration file again.
    ReloadConfig {
        /// Take over these sections alone, such as `socket:web`.
        only: Option<Vec<String>>,
        /// Answer what would be done, and do nothing.
        check: bool,
    },
    /// Open the files of output streams anew, of one watcher or all.
    ReopenLogs { name: Option<String> },
    /// Stop and start.
    Restart(Selection),
    /// Remove a watcher.
    Rm { name: String, nostop: bool },
    /// Change options; every key and type is already checked.
    Set {
        name: String,
        options: Map<String, Value>,
    },
    /// Send a signal. `signum` is any number the client gave; the kernel judges it.
    Signal {
        name: String,
        signum: i32,
        pid: Option<i32>,
        childpid: Option<i32>,
        children: bool,
        recursive: bool,
    },
    /// Start watchers.
    Start(Selection),
    /// Statistics of processes.
    Stats {
        name: Option<String>,
        process: Option<i32>,
        extended: bool,
    },
    /// Whether watchers are active.
    Status {
        name: Option<String>,
        /// With all that the daemon knows of each watcher.
        details: bool,
    },
    /// Stop watchers.
    Stop(Selection),
}

/// The options that `globaloptions` knows, in the order it answers them.
pub const GLOBAL_OPTIONS: &[&str] = &[
    "endpoint",
    "stats_endpoint",
    "pubsub_endpoint",
    "check_delay",
    "multicast_endpoint",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_every_command_of_circus() {
        assert!(COMMANDS.is_sorted_by_key(|spec| spec.name));
        let of = |circus: bool| -> Vec<&str> {
            let rows = COMMANDS.iter().filter(|spec| spec.circus == circus);
            rows.map(|spec| spec.name).collect()
        };
        assert_eq!(of(false), ["identity", "logtail", "metrics", "reopenlogs"]);
        assert_eq!(
            of(true).join(" "),
            "add decr dstats get globaloptions incr ipython kill list listen listsockets \
             numprocesses numwatchers options quit reload reloadconfig restart rm set signal \
             start stats status stop"
        );
    }

    #[test]
    fn every_required_property_can_be_written_on_the_command_line() {
        for spec in COMMANDS {
            for property in spec.required {
                assert!(
                    spec.words
                        .iter()
                        .any(|word| word.property == *property && word.required),
                    "{} {property}",
                    spec.name
                );
            }
        }
    }
}
