//! `circ daemon` and its older name `circusd`.

use crate::cli::agent::Inside;
use crate::daemon::start::{self, Options};
use clap::Parser;
use std::ffi::OsString;
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
    /// Where to log: a file, or - for standard error
    #[arg(long, value_name = "FILE")]
    pub log_output: Option<String>,
}

/// Runs the daemon until it stops; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    start(Options {
        config: args.config,
        background: args.daemon,
        pidfile: args.pidfile,
        log_level: args.log_level,
        log_output: args.log_output,
    })
}

fn start(options: Options) -> ExitCode {
    let agent = Inside::new(&options.config);
    ExitCode::from(start::run(&options, Box::new(agent)))
}

/// Run some watchers.
#[derive(Debug, Parser)]
#[command(name = "circusd", disable_version_flag = true)]
struct Circusd {
    /// configuration file
    config: Option<PathBuf>,
    /// log level
    #[arg(long = "log-level", ignore_case = true,
          value_parser = ["debug", "info", "warning", "error", "critical"])]
    log_level: Option<String>,
    /// The location where the logs will be written: a file, or - for standard error
    #[arg(long = "log-output")]
    log_output: Option<String>,
    /// A Python logging configuration; there is no Python here, so it is not read
    #[arg(long = "logger-config")]
    logger_config: Option<PathBuf>,
    /// Start in the background
    #[arg(long)]
    daemon: bool,
    /// File for the pid
    #[arg(long)]
    pidfile: Option<PathBuf>,
    /// Print the version and exit
    #[arg(long)]
    version: bool,
}

/// Runs under the name `circusd`, with that program's options (`args[0]` is the program's name).
pub fn run_as_circusd(args: Vec<OsString>) -> ExitCode {
    let args = match Circusd::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // nobody is left to tell if even that fails
            let _ = error.print();
            // argparse's code, which circusd has
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if args.version {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let Some(config) = args.config else {
        println!("usage: circusd [options] CONFIG");
        return ExitCode::SUCCESS;
    };
    if let Some(file) = args.logger_config {
        eprintln!(
            "circusd: --logger-config {} is not read: it configures Python's logging",
            file.display()
        );
    }
    start(Options {
        config,
        background: args.daemon,
        pidfile: args.pidfile,
        log_level: args.log_level,
        log_output: args.log_output,
    })
}
