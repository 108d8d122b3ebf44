//! `circ daemon`: starts the daemon in the foreground or background.

use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `circ daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The circus.ini to run
    pub config: Option<std::path::PathBuf>,
}

/// Runs the daemon until it stops; the result is its exit code.
pub fn run(_args: Args) -> ExitCode {
    eprintln!("circ daemon: not built in this revision");
    ExitCode::FAILURE
}

/// Runs under the name `circusd`, with that program's options (`args[0]` is the program's name).
pub fn run_as_circusd(_args: Vec<OsString>) -> ExitCode {
    eprintln!("circusd: not built in this revision");
    ExitCode::FAILURE
}
