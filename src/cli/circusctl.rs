//! The program `circusctl`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs under the name `circusctl` (`args[0]` is the program's name).
pub fn run(_args: Vec<OsString>) -> ExitCode {
    eprintln!("circusctl: not built in this revision");
    ExitCode::FAILURE
}
