//! `circ state`: brings file and daemon to a desired state.

use std::process::ExitCode;

/// Arguments of `circ state`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs a state command; the result is its exit code.
pub fn run(_args: Args) -> ExitCode {
    eprintln!("circ state: not built in this revision");
    ExitCode::FAILURE
}
