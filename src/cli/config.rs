//! `circ config`: looks at a configuration file and edits it, without asking a daemon.

mod address;
mod check;
mod convert;
mod edit;
mod editing;
mod get;
mod keys;
mod masking;
mod opened;
mod shadows;

use std::process::ExitCode;

use clap::Subcommand;

/// Arguments of `circ config`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what counts: a value, a section or everything
    ///
    /// Includes are read, the first of several values counts, and DEFAULT stands in for what is missing. Exits with 1
    /// if there is no such value.
    #[command(after_help = GET_EXAMPLES)]
    Get(get::Args),
    /// Set keys of a section
    ///
    /// Edits the file that holds the value which counts, changes nothing else in it, and writes nothing if the value
    /// is there already. An unknown key, a value of the wrong type and a configuration that would not load are
    /// refused.
    #[command(after_help = SET_EXAMPLES)]
    Set(edit::SetArgs),
    /// Remove keys of a section, or a whole section
    ///
    /// Every line that gives the key a value goes, in the included files as well. A configuration that would not load
    /// without it is refused.
    #[command(after_help = UNSET_EXAMPLES)]
    Unset(edit::UnsetArgs),
    /// Tell everything that is wrong, or probably not meant
    ///
    /// Errors keep a daemon from starting; warnings do not, such as keys that nobody reads, values that an earlier
    /// line hides, sockets that no watcher uses, and programs, directories and users that this machine does not have.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(check::Args),
    /// Write a configuration in another spelling
    ///
    /// Includes of a supervisord.conf are read. What cannot be carried over is told on standard error, with its file
    /// and line, and stands in comments at the top of the result.
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(convert::Args),
}

const GET_EXAMPLES: &str = "Examples:
  circ config get circus.ini watcher:web numprocesses
  circ config get circus.ini web --origin
  circ config get circus.ini circus endpoint --default tcp://127.0.0.1:5555";

const SET_EXAMPLES: &str = "Examples:
  circ config set circus.ini web numprocesses 4
  circ config set circus.ini web numprocesses 4 --check --diff
  circ config set circus.ini socket:web port 8000 host 127.0.0.1 --create";

const UNSET_EXAMPLES: &str = "Examples:
  circ config unset circus.ini web max_age
  circ config unset circus.ini plugin:flapping";

const CHECK_EXAMPLES: &str = "Examples:
  circ config check circus.ini
  circ config check --strict --json conf.d/*.ini";

const CONVERT_EXAMPLES: &str = "Examples:
  circ config convert /etc/supervisor/supervisord.conf > circus.ini";

/// Runs a config command; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    match args.verb {
        Verb::Get(args) => get::run(&args),
        Verb::Set(args) => edit::set(args),
        Verb::Unset(args) => edit::unset(args),
        Verb::Check(args) => check::run(&args),
        Verb::Convert(args) => convert::run(&args),
    }
}
