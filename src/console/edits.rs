//! Changes of a watcher's options, by way of the state room: in the file and in the daemon, all of it or nothing.

use super::bodies::Change;
use super::handlers;
use super::hub::{Daemon, State};
use super::problem::Problem;
use crate::state::document::{self, Format};
use crate::state::{Settings, transaction};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Time for a whole change.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries out a change, or tells what it would do. The answer is the report of the state room.
///
/// # Errors
/// The daemon cannot be reached, or the change cannot be made: then the report is in it.
pub async fn carry_out(
    daemon: &Daemon,
    watcher: String,
    change: Change,
    check: bool,
) -> Result<Value, Problem> {
    let identity = match daemon.state().await {
        State::Up(identity) => identity,
        State::Down(reason) => return Err(handlers::down(reason)),
    };
    let mut warnings = Vec::new();
    let config = identity.config.map(PathBuf::from);
    let config = match config {
        Some(config) if daemon.is_local() && config.is_file() => Some(config),
        Some(config) if daemon.is_local() => {
            warnings.push(format!(
                "{} is no file that this console can see: the daemon alone is changed",
                config.display()
            ));
            None
        }
        _ => {
            warnings.push(
                "the configuration file of the daemon is not known here: the daemon alone is changed"
                    .to_owned(),
            );
            None
        }
    };
    let cwd = identity.cwd.map(PathBuf::from).filter(|cwd| cwd.is_dir());
    let endpoint = daemon.endpoint.to_string();
    let work = move || {
        let cwd = match cwd {
            Some(cwd) => cwd,
            None => std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        };
        let settings = Settings {
            config,
            endpoint: Some(endpoint),
            check,
            diff: true,
            timeout: PATIENCE,
            settle: Duration::from_millis(500),
            ..Settings::new(cwd, environ())
        };
        run(&watcher, change, &settings)
    };
    // the state room waits for disks and daemons
    let outcome = tokio::task::spawn_blocking(work).await;
    let mut report = outcome.map_err(|error| {
        Problem::new(http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })??;
    if let Some(Value::Array(told)) = report.get_mut("warnings") {
        told.extend(warnings.into_iter().map(Value::from));
    }
    if report.get("failed") == Some(&Value::Bool(true)) {
        let why = report.get("error").or(report.get("msg"));
        let why = why.and_then(Value::as_str).unwrap_or("it cannot be done");
        return Err(Problem::refused(why).with("report", report.clone()));
    }
    Ok(report)
}

fn run(watcher: &str, change: Change, settings: &Settings) -> Result<Value, Problem> {
    let mut wanted = change.options;
    if !change.unset.is_empty() {
        wanted.insert("unset".to_owned(), Value::from(change.unset));
    }
    let desired = json!({"watcher": Map::from_iter([(watcher.to_owned(), Value::Object(wanted))])});
    let parsed = document::parse(desired.to_string().as_bytes(), "options", Format::Json);
    let mut state = parsed.map_err(|error| Problem::refused(error.to_string()))?;
    state.origin = watcher.to_owned();
    Ok(transaction::ensure_one(&state, settings).to_json())
}

/// The environment, as far as a configuration can name it.
fn environ() -> BTreeMap<String, String> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
