//! Orders for the handlers of a configuration-management tool: restart, reload, signal. Each is a change every time it
//! runs; under `--check` nothing is sent.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::files::Files;
use super::live::{Live, named};
use super::observed::LiveWatcher;
use super::plan::Expectation;
use super::report::{ActionLine, ActionStatus, Diff, Report, Target};
use super::settings::Settings;
use super::{prepare, store, verify};
use crate::options::{nearest_of, to_signum};

/// What a handler orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// All workers stop and start again.
    Restart,
    /// New workers come before the old ones go.
    Reload,
    /// Every worker gets this signal, a number or a name.
    Signal(String),
}

impl Order {
    fn command(&self) -> &'static str {
        match self {
            Order::Restart => "restart",
            Order::Reload => "reload",
            Order::Signal(_) => "signal",
        }
    }

    fn participle(&self) -> String {
        match self {
            Order::Restart => "restarted".to_string(),
            Order::Reload => "reloaded".to_string(),
            Order::Signal(signal) => format!("signalled ({signal})"),
        }
    }
}

/// Carries an order out. Whatever goes wrong is in the report.
pub fn handle(name: &str, order: &Order, settings: &Settings) -> Report {
    let mut report = Report::new(name, settings.check);
    if let Err(error) = try_handle(name, order, settings, &mut report) {
        report.fail(error);
    }
    report
}

fn try_handle(
    name: &str,
    order: &Order,
    settings: &Settings,
    report: &mut Report,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    if !settings.live {
        return Err(
            "this is an order to the running daemon, so --no-live leaves nothing to do".into(),
        );
    }
    if let Order::Signal(signal) = order {
        to_signum(&Value::from(signal.as_str())).map_err(|_| {
            format!("{signal} is no signal: a number or a name such as HUP is expected")
        })?;
    }
    let deadline = Instant::now() + settings.timeout;
    let files = settings
        .config
        .as_ref()
        .map(|path| Files::load(path, settings.environ.clone(), settings.cwd.clone()))
        .transpose()
        .map_err(|e| text(&e))?;
    let endpoint = prepare::endpoint(settings, files.as_ref())?;
    let mut locks = store::Locks::of(&settings.interrupt);
    if !settings.check {
        let endpoint = endpoint.to_string();
        locks.endpoint(&endpoint, deadline).map_err(|e| text(&e))?;
    }
    let mut live = Live::connect(&endpoint, deadline, &settings.interrupt).map_err(|e| text(&e))?;
    let before = live.observe(name).map_err(|e| text(&e))?;
    let Some(watcher) = before.watcher else {
        let names = live.names().map_err(|e| text(&e))?;
        return Err(format!(
            "the daemon at {} has no watcher of this name{}",
            live.endpoint(),
            nearest_of(name, names.iter().map(String::as_str))
                .map_or(String::new(), |near| format!("; did you mean {near}?"))
        ));
    };
    if !watcher.is_running() && *order != Order::Restart {
        return Err(format!(
            "the watcher is {}, so it has no workers to {}",
            watcher.status,
            order.command()
        ));
    }
    report.changed = true;
    report.before = side(&watcher);
    report.after = report.before.clone();
    report.restarted = !matches!(order, Order::Signal(_)) && !watcher.sends_hup();
    report.changes.insert(
        order.command().to_string(),
        json!({"old": null, "new": order.participle()}),
    );
    let mood = if settings.check { "would be " } else { "" };
    report.msg = format!("{name}: {mood}{}", order.participle());
    if settings.diff {
        report.diff.push(Diff::Prepared(format!(
            "daemon: {name} {}\n",
            order.participle()
        )));
    }
    let line = |status| ActionLine {
        target: Target::Daemon,
        op: order.command().to_string(),
        key: None,
        status,
        name: None,
    };
    if settings.check {
        report.actions.push(line(ActionStatus::Planned));
        return Ok(());
    }
    live.go_on().map_err(|e| text(&e))?;
    let sent = live.order(order.command(), message(name, order));
    if let Err(error) = sent {
        let unfinished = error.may_still_happen();
        report.changed = unfinished;
        report.actions.push(line(match unfinished {
            true => ActionStatus::Unfinished,
            false => ActionStatus::Failed,
        }));
        return Err(error.to_string());
    }
    report.actions.push(line(ActionStatus::Done));
    verify_running(&mut live, name, &watcher, order, settings, report)
}

fn message(name: &str, order: &Order) -> Map<String, Value> {
    let mut properties = named(name);
    match order {
        Order::Signal(signal) => {
            properties.insert("signum".into(), Value::from(signal.as_str()));
        }
        // By exact name: it would be taken as a pattern otherwise.
        Order::Restart | Order::Reload => {
            properties.insert("match".into(), Value::from("simple"));
        }
    }
    properties
}

/// A signal may rightly end workers; after a restart or reload they must be there.
fn verify_running(
    live: &mut Live,
    name: &str,
    before: &LiveWatcher,
    order: &Order,
    settings: &Settings,
    report: &mut Report,
) -> Result<(), String> {
    if !matches!(order, Order::Signal(_)) {
        let awaited = verify::Awaited {
            name: name.to_string(),
            expect: Expectation {
                running: before.numprocesses(),
                must_run: !before.may_rightly_be_gone(),
            },
            active: true,
            at_rest: false,
        };
        for result in verify::wait_running(live, &[awaited], settings.settle) {
            result.map_err(|error| error.to_string())?;
        }
    }
    let after = live.observe(name).map_err(|error| error.to_string())?;
    if let Some(watcher) = after.watcher {
        report.after = side(&watcher);
    }
    Ok(())
}

fn side(watcher: &LiveWatcher) -> Map<String, Value> {
    let daemon = json!({"status": watcher.status, "running": watcher.pids.len()});
    Map::from_iter([("daemon".to_string(), daemon)])
}
