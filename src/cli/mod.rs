//! The command line: one file a command family: parse, call, print.
//!
//! This file owns the dispatch. The binary is multi-call: under the name `circusd` or `circusctl`
//! (a symlink) it is that program; under any other name it is `circ`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod daemon;
pub mod state;

/// Exit code of a usage error (`EX_USAGE`); clap's own 2 means drift in `circ state`.
pub const EXIT_USAGE: u8 = 64;

/// Runs and watches processes and the sockets they share.
#[derive(Debug, Parser)]
#[command(name = "circ", version, arg_required_else_help = true)]
struct Circ {
    #[command(subcommand)]
    command: Top,
}

#[derive(Debug, Subcommand)]
enum Top {
    /// Run the daemon on a circus.ini
    Daemon(daemon::Args),
    /// Bring a watcher to a desired state, in the file and in the running daemon
    State(state::Args),
}

/// Runs the program that `args[0]` names and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if program_name(&args) == "circusd" {
        return daemon::run_as_circusd(args);
    }
    match Circ::try_parse_from(args) {
        Ok(circ) => match circ.command {
            Top::Daemon(args) => daemon::run(args),
            Top::State(args) => state::run(args),
        },
        Err(error) => usage(&error),
    }
}

/// The last part of `args[0]`, empty when there is none.
fn program_name(args: &[OsString]) -> String {
    args.first()
        .and_then(|arg| Path::new(arg).file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Prints what clap has to say: help and version are answers (0), all else a usage error (64).
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
