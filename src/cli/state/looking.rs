//! `circ state get` and `export`: only looking.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use super::running::{fallback_endpoint, print, seconds};
use super::{current_directory, environ};
use crate::cli::output;
use crate::state::document;
use crate::state::{Settings, export, looking};

/// Arguments of `circ state get`.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
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
pub(super) struct Export {
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
    /// Replace the file of --output if it is there
    #[arg(long, requires = "output")]
    force: bool,
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

/// Runs `circ state get`.
pub(super) fn get(args: &Get) -> ExitCode {
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

/// Runs `circ state export`.
pub(super) fn export(args: &Export) -> ExitCode {
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
            if let Err(error) = write_private(path, &text, args.force) {
                let hint = match error.kind() {
                    ErrorKind::AlreadyExists => "; --force replaces it",
                    _ => "",
                };
                return failed(&format!("cannot write {}: {error}{hint}", path.display()));
            }
        }
    }
    ExitCode::SUCCESS
}

/// It may hold secrets, so a new file is its owner's alone. One that is there may be what somebody wrote by hand.
fn write_private(path: &Path, text: &str, replace: bool) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(replace)
        .create_new(!replace)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

fn failed(error: &str) -> ExitCode {
    eprintln!("circ: {error}");
    ExitCode::FAILURE
}
