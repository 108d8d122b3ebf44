//! What every verb takes that changes something or tells what it would change, and how its report is printed.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{Format, current_directory, environ, interruption};
use crate::cli::{connection, output};
use crate::state::Settings;
use crate::state::report::Report;

/// What every verb takes.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The circus.ini to edit; its [circus] endpoint is where the daemon is. Without it only the daemon is managed
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The daemon's endpoint; wins over the configuration's
    #[arg(long, value_name = "ENDPOINT")]
    pub endpoint: Option<String>,
    /// Change nothing; say what would change (exit code 2 if anything would)
    #[arg(long)]
    pub check: bool,
    /// Show the changes of the file and of the daemon
    #[arg(long)]
    pub diff: bool,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Seconds for the whole run
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
    /// Seconds that the workers must stay before they count as running
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub settle: Duration,
    /// Exit with 0 if nothing changed, 2 if something did, 6 if it failed after changing something
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// With --check: exit with 0 also if something would change
    #[arg(long)]
    pub check_exit_zero: bool,
    /// Edit the file only; no daemon is needed
    #[arg(long)]
    pub no_live: bool,
    /// Change the daemon only; the file is read for its endpoint and stays as it is
    #[arg(long)]
    pub no_persist: bool,
    /// Keep a copy of each file that is changed, beside it
    #[arg(long)]
    pub backup: bool,
    /// If no daemon listens, start one on the configuration file
    #[arg(long)]
    pub start_daemon: bool,
    /// Show the values of environment variables in reports and diffs
    #[arg(long)]
    pub show_secrets: bool,
}

impl Run {
    /// How the run is to go about it.
    pub fn settings(&self) -> Settings {
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
            interrupt: interruption::current(),
            ..Settings::new(current_directory(), environ())
        }
    }

    /// Prints the report; the result is the exit code.
    pub fn finish(&self, report: &Report) -> ExitCode {
        let format = if self.json { Format::Json } else { self.format };
        self.finish_as(report, |report, coloured| {
            output::state::render(report, format, coloured)
        })
    }

    /// As [`Run::finish`], in a shape of the verb's own.
    pub fn finish_as(&self, report: &Report, render: impl Fn(&Report, bool) -> String) -> ExitCode {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print(&render(report, coloured));
        ExitCode::from(report.exit_code(self.detailed_exitcode, self.check_exit_zero))
    }
}

/// The endpoint of the environment, which a configuration overrules.
pub(in crate::cli) fn fallback_endpoint() -> Option<String> {
    std::env::var(connection::ENDPOINT_VARIABLE)
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
}

/// A duration as an option takes it: seconds, also with a fraction.
/// A number of seconds, as the flags take it.
pub(in crate::cli) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        // A deadline further away than that cannot be told from none.
        .map(|duration| duration.min(Duration::from_secs(366 * 24 * 3600)))
        .ok_or_else(|| "a number of seconds from 0 upwards is expected".to_string())
}

pub(super) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that went away cannot be told.
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
