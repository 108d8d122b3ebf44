//! `circ agent`: brings the machine to its desired state, and holds it there; and the commands that direct a running one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{EXIT_UNREACHABLE, output, state};
use crate::daemon::log;
use crate::notify::Notifier;
use crate::state::agent::own::OwnWatcher;
use crate::state::agent::reports::Reports;
use crate::state::agent::schedule::{Mode, Rules};
use crate::state::agent::work::{Done, Work};
use crate::state::agent::{Handle, Setup, address, channels, shell};
use crate::state::{Settings, apply};

mod direct;
mod inside;

pub use inside::Inside;

/// Arguments of `circ agent`.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<direct::Verb>,
    #[command(flatten)]
    run: Run,
}

/// Arguments of the agent itself.
#[derive(Debug, Clone, clap::Args)]
struct Run {
    /// The desired state: a file (TOML, JSON or a circus.ini), or a directory of them
    #[arg(long, value_name = "FILE|DIR", required = true)]
    desired: Option<PathBuf>,
    /// The circus.ini to keep; its [circus] endpoint is where the daemon is. Without it only the daemon is kept
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's endpoint; wins over the configuration's
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// From the end of a run to the next one if nothing happens: 90, 60s, 5m, 1h30m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    interval: Duration,
    /// At most this much is added to each interval by chance, so that many machines do not act at once
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    splay: Duration,
    /// Do one run and end, with the exit codes of circ state
    #[arg(long)]
    once: bool,
    /// enforce: repair drift; audit: report it and change nothing
    #[arg(long, value_enum, default_value_t = Way::Enforce)]
    mode: Way,
    /// Watchers, sockets and plugins that the desired state does not name are removed
    #[arg(long)]
    prune: bool,
    /// A file of maintenance windows; while it asks for it, nothing is changed
    #[arg(long, value_name = "FILE")]
    window: Option<PathBuf>,
    /// Keep the last reports as files in this directory, and remember a pause there
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
    /// How many reports to keep
    #[arg(long, value_name = "N", default_value_t = 20)]
    reports: usize,
    /// Listen for pause, resume, status and run-now at this socket file as well
    #[arg(long, value_name = "unix:PATH", value_parser = socket)]
    listen: Option<PathBuf>,
    /// If no daemon listens, start one on the configuration file
    #[arg(long)]
    start_daemon: bool,
    /// Change the daemon only; the configuration file is read for its endpoint and stays as it is
    #[arg(long)]
    no_persist: bool,
    /// Keep the old bytes of a file that is changed beside it
    #[arg(long)]
    backup: bool,
    /// Put the changes of the file and of the daemon into the reports
    #[arg(long)]
    diff: bool,
    /// Show the values of environment variables in reports
    #[arg(long)]
    show_secrets: bool,
    /// Time for each run
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// How long workers must stay before they count as running
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    settle: Duration,
    /// How long the run under way may take once the agent is told to end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    grace: Duration,
    /// With --once: exit with 0 if nothing changed, 2 if something did, 6 if it failed after changing something
    #[arg(long)]
    detailed_exitcode: bool,
    /// With --once and --mode audit: exit with 0 also if there is drift
    #[arg(long)]
    check_exit_zero: bool,
    /// How much to log
    #[arg(long, value_name = "LEVEL", ignore_case = true, default_value = "info",
          value_parser = ["debug", "info", "warning", "error", "critical"])]
    log_level: String,
    /// Where to log: a file, - for standard error, syslog://HOST[:PORT][?FACILITY] or syslog:///PATH[?FACILITY]
    #[arg(long, value_name = "PLACE", default_value = "-")]
    log_output: String,
    /// How to write the log: lines for people, or a JSON object a line
    #[arg(long, value_name = "FORMAT", ignore_case = true, default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
}

/// What runs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Repair drift
    Enforce,
    /// Report drift
    Audit,
}

/// `90`, `60s`, `5m`, `1h 30m`: a time from 0 upwards.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let plain = text.trim().parse::<f64>().ok();
    let parsed = match plain {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => text
            .trim()
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    parsed
        // A deadline further away than that cannot be told from none.
        .map(|duration| duration.min(Duration::from_secs(366 * 24 * 3600)))
        .ok_or_else(|| "a time is expected, such as 90, 60s, 5m or 1h30m".to_string())
}

/// `unix:PATH`
fn socket(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("unix:PATH is expected".to_string()),
    }
}

/// Runs or directs an agent; the result is its exit code.
pub fn run(args: Args) -> ExitCode {
    match args.verb {
        Some(verb) => direct::run(verb),
        None => ExitCode::from(hold(args.run)),
    }
}

fn hold(args: Run) -> u8 {
    // clap requires it unless there is a verb.
    let Some(desired) = args.desired.clone() else {
        return super::EXIT_USAGE;
    };
    if desired.as_os_str() == "-" {
        output::error(
            "--desired: a file or a directory is expected: standard input can be read only once",
        );
        return super::EXIT_USAGE;
    }
    let (once, detailed, zero) = (args.once, args.detailed_exitcode, args.check_exit_zero);
    let logging = log::Setup::of(log::Wish {
        level: Some(&args.log_level),
        output: Some(&args.log_output),
        format: Some(&args.log_format),
        config: None,
    })
    .and_then(|setup| log::start(setup).map_err(|error| error.to_string()));
    let _log = match logging {
        Ok(guard) => guard,
        Err(reason) => return failed(&reason),
    };
    let setup = match setup(&args) {
        Ok(setup) => setup,
        Err(reason) => return failed(&reason),
    };
    let work = work(desired, settings(&args), args.prune);
    let (handle, inbox) = channels();
    if let Err(error) = listen_to_signals(handle.clone()) {
        return failed(&format!("cannot listen to signals: {error}"));
    }
    let printer = match Printer::start() {
        Ok(printer) => printer,
        Err(error) => return failed(&format!("cannot start a thread: {error}")),
    };
    let result = shell::run(setup, work, &handle, &inbox, &mut |line| {
        printer.print(line)
    });
    printer.finish();
    match result {
        Err(error) => failed(&error.to_string()),
        Ok(Some(last)) if once => exit_code(&last, detailed, zero),
        Ok(_) => 0,
    }
}

fn failed(reason: &str) -> u8 {
    output::error(reason);
    EXIT_UNREACHABLE
}

fn exit_code(done: &Done, detailed: bool, zero: bool) -> u8 {
    match &done.report {
        Some(report) if done.unreadable.is_none() => report.exit_code(detailed, zero),
        _ => EXIT_UNREACHABLE,
    }
}

fn settings(args: &Run) -> Settings {
    Settings {
        config: args.config.clone(),
        endpoint: args.endpoint.clone(),
        fallback_endpoint: state::fallback_endpoint(),
        diff: args.diff,
        persist: !args.no_persist,
        timeout: args.timeout,
        settle: args.settle,
        backup: args.backup,
        start_daemon: args.start_daemon,
        show_secrets: args.show_secrets,
        ..Settings::new(state::current_directory(), state::environ())
    }
}

fn setup(args: &Run) -> Result<Setup, String> {
    let reports = args
        .report_dir
        .clone()
        .map(|directory| Reports::open(state::current_directory().join(directory), args.reports));
    Ok(Setup {
        rules: Rules {
            interval: milliseconds(args.interval),
            splay: milliseconds(args.splay),
            mode: match args.mode {
                Way::Enforce => Mode::Enforce,
                Way::Audit => Mode::Audit,
            },
            ..Rules::default()
        },
        seed: seed(),
        once: args.once,
        reports: reports.transpose().map_err(|error| error.to_string())?,
        window: args.window.clone(),
        listen: args.listen.clone(),
        home: None,
        grace: args.grace,
        notifier: Notifier::new(std::env::var_os("NOTIFY_SOCKET")),
    })
}

/// The work of an agent with the state room's engine.
pub(super) fn work(desired: PathBuf, settings: Settings, prune: bool) -> Work {
    let asked = settings.clone();
    let mut own = OwnWatcher::default();
    Work {
        desired,
        settings,
        prune,
        apply: Box::new(apply),
        own_watcher: Box::new(move || own.find(&address::endpoint(&asked).ok()?)),
        good: None,
        held: None,
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Different on every machine and in every process, so that their splays are.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// SIGTERM and SIGINT end the agent, SIGHUP makes it run.
fn listen_to_signals(handle: Handle) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let guard = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    drop(guard);
    let body = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = term.recv() => handle.stop("got SIGTERM"),
                    _ = int.recv() => handle.stop("got SIGINT"),
                    _ = hup.recv() => handle.run_now(),
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .stack_size(128 * 1024)
        .spawn(body)?;
    Ok(())
}

/// Prints lines on a thread of its own: a reader that does not read must not keep the agent from its work.
struct Printer {
    lines: SyncSender<String>,
    done: std::sync::mpsc::Receiver<()>,
    dropped: AtomicU64,
}

impl Printer {
    fn start() -> std::io::Result<Printer> {
        let (lines, queue) = sync_channel::<String>(256);
        let (finished, done) = sync_channel(1);
        std::thread::Builder::new()
            .name("output".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                while let Ok(line) = queue.recv() {
                    // A reader that has gone away misses its lines; the agent works on.
                    output::line(&line);
                }
                let _ = finished.send(());
            })?;
        Ok(Printer {
            lines,
            done,
            dropped: AtomicU64::new(0),
        })
    }

    fn print(&self, line: &Value) {
        if self.lines.try_send(line.to_string()).is_err()
            && self.dropped.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::warn!("nobody reads standard output: lines of runs are lost");
        }
    }

    /// What is still to be printed gets a moment.
    fn finish(self) {
        drop(self.lines);
        let _ = self.done.recv_timeout(Duration::from_secs(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [
            ("90", 90.0),
            ("0", 0.0),
            ("1.5", 1.5),
            ("60s", 60.0),
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("1h 30m", 5400.0),
            ("500ms", 0.5),
            ("2 hours", 7200.0),
        ] {
            assert_eq!(
                duration(text).map(|duration| duration.as_secs_f64()),
                Ok(seconds),
                "{text}"
            );
        }
        for bad in ["", "-1", "-5s", "soon", "nan", "5 x"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(socket("unix:/run/a"), Ok("/run/a".into()));
        assert!(socket("/run/a").is_err() && socket("unix:").is_err());
    }
}
