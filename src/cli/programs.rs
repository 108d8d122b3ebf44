//! The programs of the Circus family that this binary also is: under their names (a symbolic link, or the first word
//! after `circ`) it takes their options and prints their texts.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::argparse::Program;
use crate::cli::{chaussette, circus_plugin, circus_top, circusctl, circusd, circusd_stats};

/// The version of Circus whose programs these are: what their `--version` prints.
pub const CIRCUS_VERSION: &str = "0.19.0";

const CIRCUS: &str = "Circus 0.19.0";

/// One program.
#[derive(Debug)]
pub struct Name {
    /// Its command line: name, options, texts.
    pub line: Program,
    /// Whose program it is in the original, with the version.
    pub of: &'static str,
    /// `circ` has a command of the same name, with a better command line: only a link makes it this program.
    pub by_link: bool,
    /// What may follow the options, where that is more than the word of the line.
    pub rest: &'static str,
    /// Its exit codes and when it gives them; those of Circus, so that scripts go on working.
    pub codes: &'static [(u8, &'static str)],
    /// What else its manual page says, a paragraph each.
    pub notes: &'static [&'static str],
    /// Runs it: the arguments with the program's name first.
    pub run: fn(Vec<OsString>) -> ExitCode,
}

/// Every program, by name.
pub static PROGRAMS: &[Name] = &[
    Name {
        line: circusctl::PROGRAM,
        of: CIRCUS,
        by_link: false,
        rest: " [command [argument ...]]",
        codes: &[
            (
                0,
                "Done; with `--json` also when the daemon answered with an error",
            ),
            (
                1,
                "The daemon could not be reached or did not answer in time",
            ),
            (2, "The command line is not understood"),
            (3, "The daemon answered with an error"),
        ],
        notes: &[
            "Without a command it is a shell: a command a line, `help`, completion of commands and names of watchers \
             on a terminal, ctrl-D to leave.",
            "The endpoint is taken from `--endpoint`, the variable `CIRCUSCTL_ENDPOINT`, or is \
             `tcp://127.0.0.1:5555`. For the commands see `circ`(1); `circusctl --help COMMAND` shows the options of one.",
        ],
        run: circusctl::run,
    },
    Name {
        line: circusd::PROGRAM,
        of: CIRCUS,
        by_link: false,
        rest: "",
        codes: &[
            (
                0,
                "The daemon ended as it was told, or runs in the background",
            ),
            (1, "The daemon could not start"),
            (2, "The command line is not understood"),
        ],
        notes: &["It is `circ-daemon`(1) with the command line of Circus."],
        run: circusd::run,
    },
    Name {
        line: circusd_stats::PROGRAM,
        of: CIRCUS,
        by_link: false,
        rest: "",
        codes: &[
            (0, "A signal ended it"),
            (1, "It could not start"),
            (2, "The command line is not understood"),
        ],
        notes: &[
            "It is there for daemons that start such a process: circusd does so, with `statsd = True` in its `[circus]` \
             section. circ itself publishes statistics without one.",
            "It measures once a second for all subscribers together, and only what they have subscribed to. A daemon that \
             is not there yet, or is started anew, is waited for.",
            "The reads of sockets are published if they were inherited under the daemon's numbers, as a watcher with \
             `use_sockets` does.",
        ],
        run: circusd_stats::run,
    },
    Name {
        line: circus_top::PROGRAM,
        of: CIRCUS,
        by_link: false,
        rest: "",
        codes: &[
            (
                0,
                "It was ended with `q` or ctrl-C, or nobody reads its output any more",
            ),
            (1, "It cannot be shown what is asked for"),
            (2, "The command line is not understood"),
        ],
        notes: &[
            "The screen is painted anew every second: each watcher with the ten processes that use the processor \
             most, and each socket with how busy it was in the last second. Where standard output is no terminal, one \
             screen follows the other as plain lines.",
            "The daemon publishes statistics with `statsd = True` in its `[circus]` section, at its `stats_endpoint`; \
             `tcp://127.0.0.1:5557` if not told otherwise. A control endpoint is asked where that is.",
        ],
        run: circus_top::run,
    },
    Name {
        line: circus_plugin::PROGRAM,
        of: CIRCUS,
        by_link: false,
        rest: "",
        codes: &[
            (
                0,
                "It was interrupted, or the daemon that started it is gone",
            ),
            (1, "The plugin could not start"),
            (2, "The command line is not understood"),
        ],
        notes: &[
            "A daemon runs a plugin for each section `[plugin:NAME]` of its configuration by itself; see `circus.ini`(5) \
             for the plugins there are and their settings. This program runs one beside any daemon, circ's or a circusd.",
            "A class that is none of Circus's own is run by `python3`, which needs the circus library.",
        ],
        run: circus_plugin::run,
    },
    Name {
        line: chaussette::program::PROGRAM,
        of: "Chaussette 1.3",
        by_link: true,
        rest: "",
        codes: &[
            (
                0,
                "A signal ended it, and the requests under way were answered",
            ),
            (
                1,
                "It could not serve: a busy address, a descriptor that does not listen",
            ),
            (2, "The command line is not understood"),
            (4, "The application cannot be imported"),
        ],
        notes: &[
            "It takes the options of `circ-chaussette`(1) as well. `--backend` takes all names that Chaussette ever had: \
             circ serves under each, and says at the start what the name means.",
            "With SIGTERM and SIGINT it takes no more connections, answers what is under way and ends. With SIGHUP the \
             application is started anew, and no request is refused.",
        ],
        run: chaussette::program::run,
    },
];

/// A command of `circ` that is called by a name of its own as well.
#[derive(Debug)]
pub struct Command {
    /// The name of both.
    pub name: &'static str,
    /// What it does, in one line without a full stop.
    pub about: &'static str,
}

/// Commands of `circ` that are programs as well: a link of this name is `circ NAME`.
pub static COMMANDS: &[Command] = &[Command {
    name: "m2wsgi",
    about: "Serve a WSGI application behind a Mongrel2",
}];

/// All names that a link may have, with what is done by them.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let programs = PROGRAMS
        .iter()
        .map(|name| (name.line.name, name.line.about));
    programs.chain(COMMANDS.iter().map(|command| (command.name, command.about)))
}

/// The program that is called like the last part of `word`.
pub fn called(word: &OsStr) -> Option<&'static Name> {
    let name = Path::new(word).file_name()?.to_str()?;
    PROGRAMS.iter().find(|program| program.line.name == name)
}

/// The command of `circ` that is called like the last part of `word`.
pub fn command(word: &OsStr) -> Option<&'static str> {
    let name = Path::new(word).file_name()?.to_str()?;
    let found = COMMANDS.iter().find(|command| command.name == name);
    found.map(|command| command.name)
}
