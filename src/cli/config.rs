//! `circ config`: looks at a configuration file and edits it, without asking a daemon.

mod address;
pub(in crate::cli) mod check;
mod convert;
pub(super) mod edit;
pub(super) mod editing;
mod get;
mod keys;
mod layout;
mod opened;
mod render;
mod shadows;
mod writing;

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
    /// Lay configuration files out in one way
    ///
    /// Changes the layout only, never a value or a comment: one space around =, one blank line between sections, lines
    /// that continue a value indented alike, no white space at the ends of lines. Files that are so already are not
    /// written.
    #[command(after_help = FMT_EXAMPLES)]
    Fmt(layout::Args),
    /// Print the effective configuration as one file
    ///
    /// Includes are merged, of several values the one that counts is kept, DEFAULT is put where it counts, and the
    /// variables of the environment are replaced. The result is proven to read back as the same configuration.
    #[command(after_help = RENDER_EXAMPLES)]
    Render(render::Args),
    /// Write a configuration in another spelling
    ///
    /// From circus.ini to circus.toml or back, with comments and order; or from a supervisord.conf, with the files that
    /// it includes. What cannot be carried over is told on standard error, with its line; of a supervisord.conf it also
    /// stands in comments at the top of the result.
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

const FMT_EXAMPLES: &str = "Examples:
  circ config fmt circus.ini conf.d/*.ini
  circ config fmt circus.ini --check --diff";

const RENDER_EXAMPLES: &str = "Examples:
  circ config render circus.ini --origin
  circ config render circus.ini --set web.numprocesses=4 | diff circus.ini -
  circ config render circus.ini --defaults --format json";

const CONVERT_EXAMPLES: &str = "Examples:
  circ config convert circus.ini -o circus.toml
  circ config convert /etc/supervisor/supervisord.conf > circus.ini";

/// Runs a config command; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    match args.verb {
        Verb::Get(args) => get::run(&args),
        Verb::Set(args) => edit::set(args),
        Verb::Unset(args) => edit::unset(args),
        Verb::Check(args) => check::run(&args),
        Verb::Fmt(args) => layout::run(&args),
        Verb::Render(args) => render::run(&args),
        Verb::Convert(args) => convert::run(&args),
    }
}
