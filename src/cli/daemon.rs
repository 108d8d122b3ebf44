//! `circ daemon`.

use crate::cli::agent::Inside;
use crate::daemon::start::{self as starting, Options};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `circ daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The circus.ini to run
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// Go to the background once everything is up; errors of the start are still printed here
    #[arg(long)]
    pub daemon: bool,
    /// Write the daemon's pid to this file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// How much to log
    #[arg(long, value_name = "LEVEL", ignore_case = true,
          value_parser = ["debug", "info", "warning", "error", "critical"])]
    pub log_level: Option<String>,
    /// Where to log: a file, - for standard error, syslog://HOST[:PORT][?FACILITY] or syslog:///PATH[?FACILITY]
    #[arg(long, value_name = "PLACE")]
    pub log_output: Option<String>,
    /// How to write the log: lines for people, or a JSON object a line
    #[arg(long, value_name = "FORMAT", ignore_case = true, value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// Log as this configuration of Python's logging says (.ini, .json or .yaml)
    #[arg(long, value_name = "FILE")]
    pub logger_config: Option<String>,
}

/// Runs the daemon until it stops; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    start(Options {
        program: "circ daemon",
        config: args.config,
        background: args.daemon,
        pidfile: args.pidfile,
        log_level: args.log_level,
        log_output: args.log_output,
        log_format: args.log_format,
        logger_config: args.logger_config,
    })
}

/// Starts the daemon, with the agent that its configuration may ask for beside it; the result is its exit code.
pub fn start(options: Options) -> ExitCode {
    let agent = Inside::new(&options.config);
    ExitCode::from(starting::run(&options, Box::new(agent)))
}
