//! `circ state`: brings file and daemon to a desired state.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

pub mod dsc;
mod schema;

use super::output;
use crate::state::desired::{Desired, DesiredState, OnChange, Request, Running};
use crate::state::document::{self, Source};
use crate::state::handlers::Order;
use crate::state::report::Report;
use crate::state::{self, Settings, export, looking};

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

/// Arguments of `circ state get`.
#[derive(Debug, clap::Args)]
struct Get {
    /// The watchers; all of them without a name
    names: Vec<String>,
    #[command(flatten)]
    look: Look,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = LookFormat::Text)]
    format: LookFormat,
    /// Show the values of environment variables
    #[arg(long)]
    show_secrets: bool,
}

/// Arguments of `circ state export`.
#[derive(Debug, clap::Args)]
struct Export {
    /// The watchers; all of them without a name
    names: Vec<String>,
    #[command(flatten)]
    look: Look,
    /// How to write it
    #[arg(long, value_enum, default_value_t = DocumentFormat::Toml)]
    format: DocumentFormat,
    /// Write it to this file, readable by its owner only
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What the verbs take that only look.
#[derive(Debug, clap::Args)]
struct Look {
    /// The circus.ini; its [circus] endpoint is where the daemon is
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's endpoint; wins over the configuration's
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Look at the file only; no daemon is needed
    #[arg(long)]
    no_live: bool,
    /// Seconds for the whole run
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

impl Look {
    fn settings(&self) -> Settings {
        Settings {
            config: self.config.clone(),
            endpoint: self.endpoint.clone(),
            fallback_endpoint: fallback_endpoint(),
            live: !self.no_live,
            timeout: self.timeout,
            ..Settings::new(current_directory(), environ())
        }
    }
}

/// The shapes of what was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LookFormat {
    /// A table for a person
    Text,
    /// One JSON object
    Json,
}

/// The shapes of a desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DocumentFormat {
    /// TOML, as circus.toml
    Toml,
    /// JSON of the same shape
    Json,
    /// The dialect of circus.ini
    Ini,
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

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Run {
    /// The circus.ini to edit; its [circus] endpoint is where the daemon is. Without it only the daemon is managed
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's endpoint; wins over the configuration's
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Change nothing; say what would change (exit code 2 if anything would)
    #[arg(long)]
    check: bool,
    /// Show the changes of the file and of the daemon
    #[arg(long)]
    diff: bool,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Seconds for the whole run
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,
    /// Seconds that the workers must stay before they count as running
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    settle: Duration,
    /// Exit with 0 if nothing changed, 2 if something did, 6 if it failed after changing something
    #[arg(long)]
    detailed_exitcode: bool,
    /// With --check: exit with 0 also if something would change
    #[arg(long)]
    check_exit_zero: bool,
    /// Edit the file only; no daemon is needed
    #[arg(long)]
    no_live: bool,
    /// Change the daemon only; the file is read for its endpoint and stays as it is
    #[arg(long)]
    no_persist: bool,
    /// Keep a copy of each file that is changed, beside it
    #[arg(long)]
    backup: bool,
    /// If no daemon listens, start one on the configuration file
    #[arg(long)]
    start_daemon: bool,
    /// Show the values of environment variables in reports and diffs
    #[arg(long)]
    show_secrets: bool,
}

impl Run {
    fn settings(&self) -> Settings {
        Settings {
            config: self.config.clone(),
            endpoint: self.endpoint.clone(),
            fallback_endpoint: fallback_endpoint(),
            check: self.check,
            diff: self.diff,
            live: !self.no_live,
            persist: !self.no_persist,
            timeout: self.timeout,
            settle: self.settle,
            backup: self.backup,
            start_daemon: self.start_daemon,
            show_secrets: self.show_secrets,
            ..Settings::new(current_directory(), environ())
        }
    }

    /// Prints the report; the result is the exit code.
    fn finish(&self, report: &Report) -> ExitCode {
        let format = if self.json { Format::Json } else { self.format };
        self.finish_as(report, |report, coloured| {
            output::state::render(report, format, coloured)
        })
    }

    fn finish_as(&self, report: &Report, render: impl Fn(&Report, bool) -> String) -> ExitCode {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print(&render(report, coloured));
        ExitCode::from(report.exit_code(self.detailed_exitcode, self.check_exit_zero))
    }
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

/// The endpoint of the environment, which a configuration overrules.
pub(super) fn fallback_endpoint() -> Option<String> {
    std::env::var("CIRCUSCTL_ENDPOINT")
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
}

/// A duration as an option takes it: seconds, also with a fraction.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        // A deadline further away than that cannot be told from none.
        .map(|duration| duration.min(Duration::from_secs(366 * 24 * 3600)))
        .ok_or_else(|| "a number of seconds from 0 upwards is expected".to_string())
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
        Verb::Get(args) => get(&args),
        Verb::Export(args) => export(&args),
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

fn get(args: &Get) -> ExitCode {
    let settings = args.look.settings();
    let seen = match looking::look(&args.names, &settings) {
        Ok(seen) => seen,
        Err(error) => return failed(&error),
    };
    let json = seen.to_json(args.show_secrets);
    let text = match args.json || args.format == LookFormat::Json {
        true => format!("{json}\n"),
        false => output::state::observed(&json),
    };
    print(&text);
    ExitCode::SUCCESS
}

fn export(args: &Export) -> ExitCode {
    let settings = args.look.settings();
    let format = match args.format {
        DocumentFormat::Toml => document::Format::Toml,
        DocumentFormat::Json => document::Format::Json,
        DocumentFormat::Ini => document::Format::Ini,
    };
    let written = looking::look(&args.names, &settings).and_then(|seen| {
        let mut state = export::export(&seen, "export");
        if !args.names.is_empty() {
            // Only these watchers were asked for.
            state.sections.clear();
        }
        let text = document::write(&state, format).map_err(|error| error.to_string())?;
        Ok((text, state.warnings))
    });
    let (text, warnings) = match written {
        Ok(written) => written,
        Err(error) => return failed(&error),
    };
    for warning in warnings {
        eprintln!("circ: warning: {warning}");
    }
    match &args.output {
        None => print(&text),
        Some(path) => {
            if let Err(error) = write_private(path, &text) {
                return failed(&format!("cannot write {}: {error}", path.display()));
            }
        }
    }
    ExitCode::SUCCESS
}

/// It may hold secrets, so a new file is its owner's alone.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

fn failed(error: &str) -> ExitCode {
    eprintln!("circ: {error}");
    ExitCode::FAILURE
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that went away cannot be told.
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

fn absent(args: &Absent) -> ExitCode {
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
    run.finish(&state::handlers::handle(name, order, &run.settings()))
}

/// Variables that are not UTF-8 cannot stand in a configuration and are left out.
pub(super) fn environ() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// As the shell shows it if that is the same place (it keeps symbolic links), as circus does.
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
