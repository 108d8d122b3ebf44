//! The program `circusd`: its options, its texts and its exit codes (2 for a wrong command line, 1 when it could not
//! start).
//!
//! Better than there: the configuration is checked before `--daemon` goes to the background, so that its errors are
//! seen and the exit code tells of them; where circusd shows a traceback there is one sentence.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::argparse::{Kind, Opt, Program, opt};
use crate::cli::{daemon, output};
use crate::daemon::start::Options;

const LEVELS: &[&str] = &[
    "critical", "error", "warning", "info", "debug", "CRITICAL", "ERROR", "WARNING", "INFO",
    "DEBUG",
];

/// The command line of circusd.
pub const PROGRAM: Program = Program {
    name: "circusd",
    about: "Run the watchers of a circus.ini",
    opts: OPTS,
    word: Some(("config", "the circus.ini, or circus.toml, to run")),
    more: None,
};

const OPTS: &[Opt] = &[
    opt(&["-h", "--help"], Kind::Help, "print this help and exit"),
    opt(&["--log-level"], Kind::Choice(LEVELS), "how much to log"),
    opt(
        &["--log-output"],
        Kind::Text,
        "where to log: a file, or - for the standard error stream, which is the default",
    )
    .of("logoutput"),
    opt(
        &["--logger-config"],
        Kind::Text,
        "a configuration of Python's logging, in place of the log level and output",
    )
    .of("loggerconfig"),
    opt(
        &["--daemon"],
        Kind::Flag,
        "go to the background once everything is up; errors of the start are still printed here",
    ),
    opt(&["--pidfile"], Kind::Text, "write the pid to this file"),
    opt(&["--version"], Kind::Flag, "print the version and exit"),
];

/// Runs under the name `circusd` (`args[0]` is the program's name).
pub fn run(args: Vec<OsString>) -> ExitCode {
    let line = match PROGRAM.read(&args) {
        Ok(line) => line,
        Err(code) => return code,
    };
    let Some(config) = line.words.first() else {
        output::line(&PROGRAM.usage());
        return ExitCode::SUCCESS;
    };
    daemon::start(Options {
        program: PROGRAM.name,
        config: PathBuf::from(config),
        background: line.has("daemon"),
        pidfile: line.value("pidfile").map(PathBuf::from),
        log_level: line.value("log-level").map(String::from),
        log_output: line.value("log-output").map(String::from),
        log_format: None,
        logger_config: line.value("logger-config").map(String::from),
    })
}
