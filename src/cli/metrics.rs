//! `circ metrics`: the numbers of a daemon for Prometheus, once; for node_exporter's textfile collector, for example.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::{EXIT_REFUSED, EXIT_UNREACHABLE, connection, output};
use crate::console::exposition::{Format, render};
use crate::console::hub::Hub;
use crate::console::scrape;
use crate::wire::{Client, Endpoint, command};

/// Arguments of `circ metrics`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "`circ web` serves the same at /metrics, of several daemons at once.\n\
    Examples:\n  circ metrics\n  circ metrics --output /var/lib/node_exporter/circ.prom\n  circ metrics --json"
)]
#[group(skip)]
pub struct Args {
    /// How to write them
    #[arg(long, value_enum, default_value_t = Kind::Prometheus, conflicts_with = "json")]
    format: Kind,
    /// Write to this file in place of standard output; it is replaced as a whole
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    connection: connection::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Prometheus,
    Openmetrics,
}

/// Asks and prints; exit code 1 if the daemon does not answer, which the numbers tell as well.
pub fn run(args: Args, before: connection::Args) -> ExitCode {
    let connection = args.connection.or(before);
    let route = match connection.route() {
        Ok(route) => route,
        Err(error) => {
            output::error(&error.to_string());
            return ExitCode::from(error.code());
        }
    };
    let gathered = if connection.json {
        reply(&route.endpoint, &connection)
    } else {
        let format = match args.format {
            Kind::Prometheus => Format::Prometheus,
            Kind::Openmetrics => Format::OpenMetrics,
        };
        numbers(&route.endpoint, format)
    };
    let (text, code, reason) = match gathered {
        Ok(text) => (text, 0, None),
        Err((code, reason, text)) => (text, code, Some(reason)),
    };
    if let Some(reason) = reason {
        output::error(&route.explain(&reason));
    }
    match &args.output {
        None => {
            output::text(text.trim_end());
        }
        Some(path) => {
            if let Err(error) = replace(path, &text) {
                output::error(&format!("cannot write {}: {error}", path.display()));
                return ExitCode::from(EXIT_UNREACHABLE);
            }
        }
    }
    ExitCode::from(code)
}

/// The text; or the exit code, the reason, and the text all the same.
type Gathered = Result<String, (u8, String, String)>;

fn numbers(endpoint: &Endpoint, format: Format) -> Gathered {
    let failed = |reason: String| (EXIT_UNREACHABLE, reason, String::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start the event loop: {error}")))?;
    let hub = Hub::default();
    hub.add(endpoint.clone());
    let seen = runtime.block_on(scrape::all(&hub));
    let text = render(&seen, format);
    match seen.iter().find_map(|seen| seen.snapshot.as_ref().err()) {
        None => Ok(text),
        Some(reason) => Err((EXIT_UNREACHABLE, reason.clone(), text)),
    }
}

fn reply(endpoint: &Endpoint, connection: &connection::Args) -> Gathered {
    let properties = Map::from_iter([("processes".to_owned(), Value::Bool(true))]);
    let message = command::message("metrics", properties);
    let reply = Client::connect(endpoint, connection.timeout())
        .and_then(|mut client| client.call(message))
        .map_err(|error| (EXIT_UNREACHABLE, error.to_string(), String::new()))?;
    let text = format!("{reply}\n");
    if reply.get("status").and_then(Value::as_str) == Some("error") {
        return Err((EXIT_REFUSED, output::refusal(&reply), text));
    }
    Ok(text)
}

/// Whoever reads the file finds the old text or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut beside = name.to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let written = options
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // it may not be there at all
        let _ = fs::remove_file(&beside);
    }
    written
}
