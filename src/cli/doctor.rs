//! `circ doctor`: why a daemon cannot be reached, what of it is not well and why, and what in its configuration is wrong, hidden,
//! out of date or dangerous. Looks, and changes nothing.

mod config;
mod finding;
mod live;
mod reach;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::finding::{Finding, Severity, summary};
use self::live::Answers;
use super::config::check;
use super::connection::{self, Route, RouteError};
use super::paint::Paint;
use super::state::current_directory;
use super::status::asking::{Failure, call, now};
use super::{EXIT_USAGE, output};
use crate::wire::{Client, ClientError, Endpoint};

/// The version of the shape that --json prints.
const SCHEMA: &str = "circ.doctor/1";

/// Arguments of `circ doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The configuration is the one of --config, or the one that the daemon says it runs on.\n\n\
    Exit codes: 0 no errors, 1 there are errors (with --strict: or warnings), 64 usage error.\n\n\
    Examples:\n  circ doctor\n  circ doctor --config /etc/circus.ini --strict\n  circ doctor --json"
)]
#[group(skip)]
pub struct Args {
    /// Warnings count as errors for the exit code
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    connection: connection::Args,
}

/// Looks at everything and tells what was found.
pub fn run(args: Args, before: connection::Args) -> ExitCode {
    let connection = args.connection.or(before);
    let mut found = Vec::new();
    let met = match meet(&connection, &mut found) {
        Ok(met) => met,
        Err(why) => {
            output::error(&why);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let told = |key: &str| {
        let identity = met.as_ref()?.answers.identity.as_ref()?;
        identity.get(key).cloned()
    };
    let remote = connection.is_remote();
    let pid = told("pid").and_then(|pid| u32::try_from(pid.as_u64()?).ok());
    // What it says of its files is of use where its files are.
    let daemon = pid.filter(|pid| !remote && Path::new(&format!("/proc/{pid}")).exists());
    let own = told("config").and_then(|path| Some(PathBuf::from(path.as_str()?)));
    let own = own.filter(|_| daemon.is_some());
    let file = connection.config_file().map(Path::to_path_buf).or(own);
    if let Some(pid) = daemon {
        found.extend(process(pid));
    }
    if let Some(file) = &file {
        let cwd = match (connection.config_file(), told("cwd")) {
            (None, Some(Value::String(cwd))) => PathBuf::from(cwd),
            _ => current_directory(),
        };
        configuration(file, &cwd, daemon, &mut found);
    }
    found.sort_by_key(|one| one.severity);
    let fails = |one: &Finding| {
        one.severity == Severity::Error || args.strict && one.severity == Severity::Warning
    };
    let failed = found.iter().any(fails);
    if connection.json {
        let all: Vec<Value> = found.iter().map(Finding::to_json).collect();
        let report = json!({
            "schema": SCHEMA,
            "ok": !failed,
            "reached": met.is_some(),
            "endpoint": connection.endpoint_text(),
            "config": file,
            "findings": all,
        });
        output::line(&report.to_string());
    } else {
        let paint = Paint::for_stdout();
        let mut lines: Vec<String> = found.iter().flat_map(|one| one.lines(paint)).collect();
        lines.push(format!(
            "{}: {}",
            looked_at(met.as_ref(), &connection, file.as_deref()),
            summary(&found)
        ));
        output::text(&lines.join("\n"));
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn looked_at(met: Option<&Met>, connection: &connection::Args, file: Option<&Path>) -> String {
    let mut parts = Vec::new();
    if let Some(met) = met {
        let told = met
            .answers
            .status
            .get("statuses")
            .and_then(Value::as_object);
        let count = told.map_or(0, Map::len);
        let watchers = if count == 1 { "watcher" } else { "watchers" };
        parts.push(format!(
            "daemon at {} ({count} {watchers})",
            connection.endpoint_text()
        ));
    }
    parts.extend(file.map(|file| file.display().to_string()));
    match parts.is_empty() {
        true => connection.endpoint_text(),
        false => parts.join(", "),
    }
}

/// A daemon that has answered.
struct Met {
    answers: Answers,
}

/// Asks the daemon, or finds out why that does not go.
///
/// # Errors
/// The command line is wrong.
fn meet(connection: &connection::Args, found: &mut Vec<Finding>) -> Result<Option<Met>, String> {
    let route = match connection.route() {
        Ok(route) => route,
        Err(RouteError::Usage(why)) if connection.config_file().is_some() => {
            // The file itself is looked at below.
            found.push(Finding::new(Severity::Error, "no-endpoint", why));
            return Ok(None);
        }
        Err(RouteError::Usage(why)) => return Err(why),
        Err(RouteError::Unreachable(why)) => {
            found.push(
                Finding::new(Severity::Error, "no-tunnel", why)
                    .because("the login has to work before there is a way to the daemon")
                    .fix("try the same with ssh itself"),
            );
            return Ok(None);
        }
    };
    let remote = connection.is_remote();
    let failed = |error: &ClientError| reach::unreachable(&route.endpoint, error, remote);
    let mut client = match Client::connect(&route.endpoint, connection.timeout()) {
        Ok(client) => client,
        Err(error) => {
            found.extend(failed(&error));
            return Ok(None);
        }
    };
    let details = Map::from_iter([("details".to_string(), Value::from(true))]);
    let status = match call(&mut client, "status", details) {
        Ok(status) => status,
        Err(Failure::Unreachable(error)) => {
            found.extend(failed(&error));
            return Ok(None);
        }
        Err(Failure::Refused(reply)) => {
            found.push(
                Finding::new(Severity::Error, "refused", output::refusal(&reply))
                    .at(route.endpoint.to_string())
                    .because("it answers, but not as a daemon of Circus would")
                    .fix("give the daemon's own endpoint"),
            );
            return Ok(None);
        }
    };
    let identity = call(&mut client, "identity", Map::new()).ok();
    let plan = identity.is_some().then(|| {
        let check = Map::from_iter([("check".to_string(), Value::from(true))]);
        match call(&mut client, "reloadconfig", check) {
            Ok(plan) => Some(Ok(plan)),
            Err(Failure::Refused(reply)) => Some(Err(output::refusal(&reply))),
            Err(Failure::Unreachable(_)) => None,
        }
    });
    let answers = Answers {
        status,
        identity,
        plan: plan.flatten(),
        now: now(),
    };
    found.extend(live::findings(&answers));
    publishers(&mut client, &route, connection.timeout(), found);
    Ok(Some(Met { answers }))
}

/// Whether the events, which many programs live on, can be had.
fn publishers(client: &mut Client, control: &Route, timeout: Duration, found: &mut Vec<Finding>) {
    let Ok(options) = call(client, "globaloptions", Map::new()) else {
        return;
    };
    let text = options
        .get("options")
        .and_then(|options| options.get("pubsub_endpoint")?.as_str());
    let Some(Ok(endpoint)) = text.map(|text| text.parse::<Endpoint>().map(Endpoint::reachable))
    else {
        return;
    };
    let Ok(route) = control.beside(endpoint) else {
        return;
    };
    // Any ZeroMQ socket shakes hands; that it is the right kind is not seen by this.
    if let Err(error) = Client::connect(&route.endpoint, timeout)
        && !matches!(error, ClientError::NotZeroMq { .. })
    {
        found.push(
            Finding::new(Severity::Error, "events-unreachable", route.explain(&error))
                .because("plugins, `circ events` and everybody who waits for events hear nothing")
                .fix("if it is an ipc:// path somebody may have removed the file: restart the daemon"),
        );
    }
}

/// The daemon's own process.
fn process(pid: u32) -> Vec<Finding> {
    let mut found = Vec::new();
    let link = |name: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/{name}")).ok()?;
        Some(link.display().to_string())
    };
    let gone = |name: &str| link(name).filter(|text| text.ends_with(" (deleted)"));
    if let Some(exe) = gone("exe") {
        let program = exe.trim_end_matches(" (deleted)");
        found.push(
            Finding::new(
                Severity::Note,
                "binary-replaced",
                format!("{program} was replaced or removed since the daemon was started"),
            )
            .at(format!("daemon (pid {pid})"))
            .because("it goes on with the old one until it is started anew"),
        );
    }
    if let Some(cwd) = gone("cwd") {
        found.push(
            Finding::new(Severity::Error, "directory-gone", format!("the daemon's directory {} is gone", cwd.trim_end_matches(" (deleted)")))
                .at(format!("daemon (pid {pid})"))
                .because("workers without a working_dir cannot be started there, and relative paths lead nowhere")
                .fix("make the directory and restart the daemon"),
        );
    }
    found
}

/// The file: what `circ config check` finds, and what is dangerous.
fn configuration(file: &Path, cwd: &Path, daemon: Option<u32>, found: &mut Vec<Finding>) {
    let (problems, config) = check::look(file);
    found.extend(problems.into_iter().map(|problem| {
        let severity = match problem.severity {
            check::Severity::Error => Severity::Error,
            check::Severity::Warning => Severity::Warning,
        };
        let what = match (&problem.section, &problem.key) {
            (Some(section), Some(key)) => format!("[{section}] {key}: {}", problem.what),
            (Some(section), None) => format!("[{section}]: {}", problem.what),
            _ => problem.what.clone(),
        };
        let place = match problem.line {
            Some(line) => format!("{}:{line}", problem.file.display()),
            None => problem.file.display().to_string(),
        };
        Finding::new(severity, "config", what).at(place)
    }));
    if let Some(config) = config {
        found.extend(config::findings(&config::Looking {
            config: &config,
            cwd,
            daemon,
        }));
    }
}
