//! `circ agent pause|resume|status|run-now`: directs an agent that runs.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::{duration, socket};
use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, output, state};
use crate::state::Settings;
use crate::state::agent::address;
use crate::state::agent::control::{Place, Request, ask};

/// What a running agent is told.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// No runs, for a time or until resume
    Pause(Pause),
    /// Runs again, beginning with one at once
    Resume(Where),
    /// What it does, how the last run went, when the next one is
    Status(Where),
    /// A run at once; waits for it and tells how it went
    RunNow(Where),
}

/// Arguments of `circ agent pause`.
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// Resume after this time: 90, 60s, 30m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    #[command(flatten)]
    place: Where,
}

/// Which agent: that of this daemon.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The daemon's configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's endpoint
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// The socket file that the agent was told to listen at
    #[arg(long, value_name = "unix:PATH", value_parser = socket, conflicts_with_all = ["config", "endpoint"])]
    socket: Option<PathBuf>,
    /// Print the agent's answer as JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for the answer; a run is waited for as long as it takes
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

/// Sends it and prints the answer.
pub fn run(verb: Verb) -> ExitCode {
    let (request, place) = match verb {
        Verb::Pause(pause) => {
            let seconds = pause.time.map(|time| time.as_secs_f64());
            if seconds == Some(0.0) {
                output::error("--for: a pause of no time is none");
                return ExitCode::from(EXIT_USAGE);
            }
            (Request::Pause(seconds), pause.place)
        }
        Verb::Resume(place) => (Request::Resume, place),
        Verb::Status(place) => (Request::Status, place),
        Verb::RunNow(place) => (Request::RunNow, place),
    };
    ExitCode::from(direct(request, &place))
}

fn direct(request: Request, args: &Where) -> u8 {
    let (place, called) = match place(args) {
        Ok(found) => found,
        Err(reason) => {
            output::error(&reason);
            return EXIT_USAGE;
        }
    };
    let limit = match (request, args.timeout) {
        (_, Some(limit)) => Some(limit.max(Duration::from_millis(1))),
        (Request::RunNow, None) => None,
        _ => Some(Duration::from_secs(5)),
    };
    let answer = match ask(&place, request, limit) {
        Ok(answer) => answer,
        Err(error) => {
            output::error(&match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => format!(
                    "there is no agent for {called} on this machine; `circ agent --desired FILE|DIR` is one"
                ),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    format!("the agent for {called} did not answer in time")
                }
                _ => format!("the agent for {called} cannot be asked: {error}"),
            });
            return EXIT_UNREACHABLE;
        }
    };
    let refused = answer.get("status").and_then(Value::as_str) != Some("ok");
    if args.json {
        output::line(&answer.to_string());
    } else if refused {
        output::error(&text(&answer, "reason"));
    } else {
        output::text(&render(request, &answer));
    }
    if let Some(warning) = answer.get("warning").filter(|_| !args.json) {
        output::plain_error(&format!("warning: {}", output::plain(warning)));
    }
    let failed = answer.pointer("/line/failed") == Some(&Value::Bool(true));
    match (refused, failed) {
        (true, _) => EXIT_REFUSED,
        (false, true) => EXIT_UNREACHABLE,
        _ => 0,
    }
}

/// The agent's place, and what it is called in messages.
fn place(args: &Where) -> Result<(Place, String), String> {
    if let Some(path) = &args.socket {
        return Ok((Place::File(path.clone()), path.display().to_string()));
    }
    let settings = Settings {
        config: args.config.clone(),
        endpoint: args.endpoint.clone(),
        fallback_endpoint: state::fallback_endpoint(),
        ..Settings::new(state::current_directory(), state::environ())
    };
    let endpoint = address::endpoint(&settings)?;
    let place = address::place(&endpoint, &settings.cwd);
    Ok((place, endpoint.to_string()))
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).map(output::plain).unwrap_or_default()
}

fn render(request: Request, answer: &Value) -> String {
    match request {
        Request::Pause(_) => match text(answer, "paused_until") {
            until if until.is_empty() => "paused until `circ agent resume`".to_string(),
            until => format!("paused until {until}"),
        },
        Request::Resume if answer.get("was_paused") == Some(&Value::Bool(false)) => {
            "it was not paused".to_string()
        }
        Request::Resume => "resumed".to_string(),
        Request::RunNow => run_line(answer.get("line").unwrap_or(&Value::Null)),
        Request::Status => status(answer),
    }
}

/// `changed  run 12 (event watcher.web.kill): web: numprocesses 1 -> 2`
fn run_line(line: &Value) -> String {
    let is = |key: &str| line.get(key) == Some(&Value::Bool(true));
    let audit = text(line, "mode") == "audit";
    let verdict = match (is("failed"), is("changed"), audit) {
        (true, _, _) => "failed",
        (false, true, true) => "drift",
        (false, true, false) => "changed",
        (false, false, _) => "ok",
    };
    let cause = match text(line, "cause") {
        cause if cause.is_empty() => cause,
        cause => format!(" {cause}"),
    };
    format!(
        "{verdict}  run {} ({}{cause}): {}",
        text(line, "run"),
        text(line, "trigger"),
        text(line, "msg")
    )
}

fn status(answer: &Value) -> String {
    let is = |key: &str| answer.get(key) == Some(&Value::Bool(true));
    let mut state = match (is("paused"), text(answer, "paused_until")) {
        (true, until) if until.is_empty() => "paused until `circ agent resume`".to_string(),
        (true, until) => format!("paused until {until}"),
        _ if is("running") => "a run is under way".to_string(),
        _ => "waiting".to_string(),
    };
    match text(answer, "window_hold").as_str() {
        "audit" => state.push_str(", in a maintenance window: drift is only reported"),
        "off" => state.push_str(", in a maintenance window: no runs"),
        _ => {}
    }
    let home = match text(answer, "home") {
        home if home.is_empty() => home,
        home => format!(", {home}"),
    };
    let mut rows = vec![
        (
            "agent",
            format!(
                "pid {}{home}, since {}",
                text(answer, "pid"),
                text(answer, "since")
            ),
        ),
        (
            "daemon",
            format!("{} ({})", text(answer, "endpoint"), text(answer, "daemon")),
        ),
        ("desired", text(answer, "desired")),
        ("mode", text(answer, "mode")),
        ("state", state),
    ];
    if let Some(error) = answer
        .pointer("/window/error")
        .filter(|error| !error.is_null())
    {
        rows.push(("window", output::plain(error)));
    }
    if let Some(last) = answer.get("last").filter(|last| last.is_object()) {
        rows.push((
            "last run",
            format!("{}  {}", text(last, "time"), run_line(last)),
        ));
    }
    rows.push((
        "next run",
        match text(answer, "next_run") {
            next if next.is_empty() => "none is planned".to_string(),
            next => next,
        },
    ));
    rows.push((
        "so far",
        format!(
            "drift found {} times, {} failed runs in a row, {} fights",
            text(answer, "drift"),
            text(answer, "failures"),
            text(answer, "fights")
        ),
    ));
    for fight in answer
        .get("left_alone")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let line = format!("{} until {}", text(fight, "name"), text(fight, "until"));
        rows.push(("left alone", line));
    }
    let lines = rows
        .iter()
        .map(|(name, value)| format!("{name:<10}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_told_to_a_person() {
        let line = json!({"run": 7, "trigger": "event", "cause": "watcher.web.kill", "changed": true, "failed": false,
            "mode": "enforce", "time": "T", "msg": "web: numprocesses 1 -> 2"});
        assert_eq!(
            render(Request::RunNow, &json!({ "line": line })),
            "changed  run 7 (event watcher.web.kill): web: numprocesses 1 -> 2"
        );
        let shown = render(
            Request::Status,
            &json!({"pid": 3, "since": "S", "endpoint": "tcp://h:1", "daemon": "connected",
                "desired": "/etc/state.d", "mode": "enforce", "paused": true, "paused_until": "U",
                "window_hold": "audit", "last": line, "next_run": null, "drift": 4, "failures": 0,
                "fights": 1, "left_alone": [{"name": "web", "until": "V"}]}),
        );
        for part in [
            "pid 3",
            "paused until U",
            "only reported",
            "run 7",
            "none is planned",
            "web until V",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let pause = json!({"paused_until": null});
        assert_eq!(
            render(Request::Pause(None), &pause),
            "paused until `circ agent resume`"
        );
    }
}
