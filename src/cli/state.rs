//! `circ state`: brings file and daemon to a desired state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

pub mod dsc;
pub(super) mod interruption;
mod looking;
mod running;
mod schema;

use super::output;
use crate::state::desired::{Desired, DesiredState, OnChange, Request, Running};
use crate::state::document::{self, Source};
use crate::state::handlers::Order;
use crate::state::report::Report;
use crate::state::{self, Settings};
use looking::{Export, Get};
use running::Run;
pub(super) use running::{fallback_endpoint, seconds};

/// Arguments of `circ state`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A watcher is there, so configured, and so many of its workers really run
    ///
    /// Edits circus.ini (and nothing else in it) and brings the running daemon to match by the smallest action: a
    /// count changes by incr and decr, an option is set in place, a missing watcher is added and started. Then it
    /// waits until the workers really run. A second run changes nothing.
    Ensure(Ensure),
    /// A whole desired state: many watchers, sockets, plugins and [circus] options in one transaction
    ///
    /// All of it, or nothing: everything is checked before the first write, and if the daemon refuses, file and daemon
    /// go back to what they were. Without --config, a FILE that is a circus.ini or circus.toml is the configuration
    /// file as well.
    Apply(Apply),
    /// Does everything comply with a desired state? Exit code 0 if so, 2 if not
    ///
    /// The same as apply with --check: nothing is changed.
    /// Without FILE, the configuration file is the desired state of the daemon.
    Test(Test),
    /// What would change, for a person: file, daemon and desired state side by side
    ///
    /// Nothing is changed. Exit code 0 if nothing differs, 2 if something does. Without FILE, the configuration file is
    /// compared with the daemon.
    Diff(Test),
    /// What the file says and what the daemon says of watchers, without anything wanted
    Get(Get),
    /// What runs now, as a desired state that apply finds satisfied
    ///
    /// Variables of the environment are written as they are: the result may hold secrets.
    Export(Export),
    /// A watcher is not there, neither in the file nor in the daemon
    Absent(Absent),
    /// The JSON Schema of the desired-state document, of one watcher in it, or of the report
    ///
    /// Editors check and complete a document by it: keep it in a file and name that in the document's "$schema" key,
    /// or in the first line of a TOML file as #:schema FILE.
    Schema(schema::Args),
    /// The workers of a watcher are restarted, now: for handlers of a configuration-management tool
    ///
    /// This is a change every time. With --check nothing is sent.
    Restarted(Handler),
    /// The workers of a watcher are reloaded gracefully, now: new ones come before the old ones go
    ///
    /// This is a change every time. With --check nothing is sent.
    Reloaded(Handler),
    /// The workers of a watcher get a signal, now
    ///
    /// This is a change every time. With --check nothing is sent.
    Signalled(Signalled),
}

/// Arguments of `circ state ensure`.
#[derive(Debug, clap::Args)]
struct Ensure {
    /// The watcher's name
    name: String,
    /// How many workers
    #[arg(short = 'n', long, value_name = "N", allow_hyphen_values = true)]
    procs: Option<String>,
    /// The command to run; needed for a watcher that does not exist yet
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    cmd: Option<String>,
    /// Arguments appended to the command
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    args: Option<String>,
    /// Any other option of a watcher section; may be given several times
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// An option that the section must not state, so that its default counts; env.NAME takes a variable away
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// A variable of the workers' environment, in the watcher's own section [env:NAME]
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    env: Vec<String>,
    /// A socket that the daemon holds and the workers inherit (use_sockets)
    #[arg(long, value_name = "NAME=HOST:PORT|NAME=unix:PATH")]
    socket: Vec<String>,
    /// The workers run (the default)
    #[arg(long, conflicts_with = "stopped")]
    running: bool,
    /// The watcher is stopped; with autostart=False it also stays so when the daemon is started anew
    #[arg(long)]
    stopped: bool,
    /// What a changed option does to running workers
    #[arg(long, value_enum, default_value_t = RestartOnChange::Auto)]
    restart_on_change: RestartOnChange,
    #[command(flatten)]
    run: Run,
}

/// Arguments of `circ state apply`.
#[derive(Debug, clap::Args)]
struct Apply {
    /// The desired state: a TOML, JSON or circus.ini file, a directory of such files, or - for standard input
    #[arg(value_name = "FILE|DIR|-")]
    desired: PathBuf,
    /// Watchers, sockets and plugins that it does not name go, from file and daemon
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    run: Run,
}

/// Arguments of `circ state test`.
#[derive(Debug, clap::Args)]
struct Test {
    /// The desired state: a TOML, JSON or circus.ini file, a directory of such files, or - for standard input
    #[arg(value_name = "FILE|DIR|-", required_unless_present = "config")]
    desired: Option<PathBuf>,
    /// Watchers, sockets and plugins that it does not name count as drift
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    run: Run,
}

/// When a change replaces running workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RestartOnChange {
    /// If the option needs new workers, they are reloaded gracefully
    Auto,
    /// No worker is replaced; what needs new ones waits in the file
    Never,
    /// Any changed option but the number of workers restarts them
    Always,
}

/// Arguments of `circ state absent`.
#[derive(Debug, clap::Args)]
struct Absent {
    /// The watcher's name
    name: String,
    /// Its section [env:NAME] goes as well
    #[arg(long)]
    with_env: bool,
    /// The sockets that no other watcher uses go as well
    #[arg(long)]
    with_socket: bool,
    #[command(flatten)]
    run: Run,
}

/// Arguments of `circ state restarted` and `reloaded`.
#[derive(Debug, clap::Args)]
struct Handler {
    /// The watcher's name
    name: String,
    #[command(flatten)]
    run: Run,
}

/// Arguments of `circ state signalled`.
#[derive(Debug, clap::Args)]
struct Signalled {
    /// The watcher's name
    name: String,
    /// The signal: a number, HUP or SIGHUP
    #[arg(short, long, value_name = "SIGNAL", default_value = "HUP")]
    signal: String,
    #[command(flatten)]
    run: Run,
}

/// The shapes of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Short lines for a person
    Text,
    /// The report, as one JSON object
    Json,
    /// What a Salt state returns
    Salt,
    /// What an Ansible module returns (the report)
    Ansible,
}

/// Runs a state command; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    match args.verb {
        Verb::Ensure(args) => ensure(args),
        Verb::Apply(args) => {
            let report = apply(&args.desired, args.prune, args.run.settings());
            args.run.finish(&report)
        }
        Verb::Test(args) => {
            let report = test(&args, args.run.diff);
            args.run.finish(&report)
        }
        Verb::Diff(args) => {
            let report = test(&args, true);
            match args.run.json || args.run.format != Format::Text {
                true => args.run.finish(&report),
                false => args.run.finish_as(&report, output::state::comparison),
            }
        }
        Verb::Get(args) => looking::get(&args),
        Verb::Export(args) => looking::export(&args),
        Verb::Absent(args) => absent(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Restarted(args) => handle(&args.name, &Order::Restart, &args.run),
        Verb::Reloaded(args) => handle(&args.name, &Order::Reload, &args.run),
        Verb::Signalled(args) => {
            let order = Order::Signal(args.signal.clone());
            handle(&args.name, &order, &args.run)
        }
    }
}

fn ensure(args: Ensure) -> ExitCode {
    let request = Request {
        name: args.name,
        procs: args.procs,
        cmd: args.cmd,
        args: args.args,
        set: args.set,
        unset: args.unset,
        env: args.env,
        socket: args.socket,
        running: match args.stopped {
            true => Running::No,
            false => Running::Yes,
        },
        on_change: match args.restart_on_change {
            RestartOnChange::Auto => OnChange::Auto,
            RestartOnChange::Never => OnChange::Never,
            RestartOnChange::Always => OnChange::Always,
        },
    };
    interruption::listen();
    let report = state::ensure(&request, &args.run.settings());
    args.run.finish(&report)
}

fn test(args: &Test, diff: bool) -> Report {
    let settings = Settings {
        check: true,
        diff,
        ..args.run.settings()
    };
    let desired = args.desired.as_ref().or(args.run.config.as_ref());
    apply(&desired.cloned().unwrap_or_default(), args.prune, settings)
}

/// Applies the desired state of a file, a directory or standard input.
pub(super) fn apply(desired: &Path, prune: bool, mut settings: Settings) -> Report {
    let source = Source::of_argument(desired);
    if settings.config.is_none() && document::is_configuration(&source, &settings.cwd) {
        settings.config = Some(desired.to_owned());
    }
    match document::read(&source, &settings.cwd) {
        Ok(mut state) => {
            interruption::listen();
            state.prune |= prune;
            if is_same_file(desired, settings.config.as_deref(), &settings.cwd) {
                state
                    .watchers
                    .iter_mut()
                    .for_each(|watcher| watcher.whole = true);
            }
            state::apply(&state, &settings)
        }
        Err(error) => {
            let name = desired.display().to_string();
            Report {
                resource: "state",
                ..Report::failure(&name, settings.check, error.to_string())
            }
        }
    }
}

/// The desired state is the managed configuration itself.
fn is_same_file(desired: &Path, config: Option<&Path>, cwd: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(cwd.join(path)).ok();
    config.is_some_and(|config| real(config).is_some() && real(config) == real(desired))
}

fn absent(args: &Absent) -> ExitCode {
    interruption::listen();
    let settings = args.run.settings();
    let report = match Desired::absent(&args.name) {
        Ok(desired) => {
            let desired = Desired {
                with_env: args.with_env,
                with_socket: args.with_socket,
                ..desired
            };
            state::transaction::ensure_one(&DesiredState::of_one(desired), &settings)
        }
        Err(error) => Report::failure(&args.name, settings.check, error.to_string()),
    };
    args.run.finish(&report)
}

fn handle(name: &str, order: &Order, run: &Run) -> ExitCode {
    interruption::listen();
    run.finish(&state::handlers::handle(name, order, &run.settings()))
}

/// Variables that are not UTF-8 cannot stand in a configuration and are left out.
pub(super) fn environ() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// As the shell shows it if that is the same place (it keeps symbolic links).
pub(super) fn current_directory() -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let real = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let identity = |path: &std::path::Path| {
        std::fs::metadata(path)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()))
    };
    match std::env::var_os("PWD").map(PathBuf::from) {
        Some(shown) if shown.is_absolute() && identity(&shown) == identity(&real) => shown,
        _ => real,
    }
}
