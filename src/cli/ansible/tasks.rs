//! What a task wants, as a desired state; the state room does the rest.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::arguments::{Module, Task};
use super::words;
use crate::cli::config::edit;
use crate::cli::config::editing::{Leave, Wish};
use crate::cli::state as command;
use crate::config::ini_text;
use crate::state::desired::{Desired, DesiredState, Request};
use crate::state::document::{self, DocumentError, Format};
use crate::state::handlers::{self, Order};
use crate::state::report::Report;
use crate::state::{self, DAEMON, looking, transaction};

/// What a watcher's `state` may say; the first is meant if nothing is said.
const WATCHER_STATES: [&str; 7] = [
    "started",
    "present",
    "stopped",
    "absent",
    "restarted",
    "reloaded",
    "signalled",
];
/// What `state` of a socket or section may say.
const STATES: [&str; 2] = ["present", "absent"];
/// Arguments that say how a watcher should be; with an order to its workers they have no meaning.
const DESCRIBING: [&str; 9] = [
    "procs",
    "cmd",
    "args",
    "options",
    "env",
    "sockets",
    "unset",
    "with_env",
    "with_socket",
];
/// Keys of a desired watcher that are arguments of their own.
const ARGUMENTS: [&str; 8] = [
    "name",
    "state",
    "cmd",
    "args",
    "env",
    "unset",
    "with_env",
    "with_socket",
];

/// Does a task; the result is what Ansible reads.
pub fn run(task: Task) -> Value {
    let mut report = carry_out(task);
    for key in ["msg", "comment", "error", "warnings"] {
        if let Some(value) = report.get_mut(key) {
            words::translate(value);
        }
    }
    report
}

fn carry_out(mut task: Task) -> Value {
    match task.module {
        Module::Circus if task.has("desired") => whole(task),
        Module::Circus | Module::Watcher => watcher(task),
        Module::Socket => socket(task),
        Module::Config => config(task),
        Module::State => whole(task),
        Module::Info => info(&mut task).unwrap_or_else(
            |error| json!({"schema": looking::SCHEMA, "changed": false, "failed": true, "msg": error}),
        ),
    }
}

fn watcher(mut task: Task) -> Value {
    let name = task.needed("name");
    let wanted = task.word("state", &WATCHER_STATES);
    let report = match wanted {
        "restarted" => order(&mut task, &name, wanted, Order::Restart),
        "reloaded" => order(&mut task, &name, wanted, Order::Reload),
        "signalled" => {
            let signal = task.text("signal").unwrap_or_else(|| "HUP".to_string());
            order(&mut task, &name, wanted, Order::Signal(signal))
        }
        _ => ensure(&mut task, &name, wanted),
    };
    let report = report.unwrap_or_else(|error| Report::failure(&name, task.check, error));
    with_state(report, wanted)
}

fn with_state(report: Report, wanted: &str) -> Value {
    let mut json = report.to_json();
    json["state"] = Value::from(wanted);
    json
}

fn order(task: &mut Task, name: &str, wanted: &str, order: Order) -> Result<Report, String> {
    let given: Vec<&str> = DESCRIBING.into_iter().filter(|key| task.has(key)).collect();
    if !given.is_empty() {
        task.refuse(format!(
            "state: {wanted} is an order to the workers as they are, so {} cannot be given with it: describe the watcher \
             in a task of its own",
            given.join(", ")
        ));
    }
    let settings = task.settings();
    task.check()?;
    Ok(handlers::handle(name, &order, &settings))
}

fn ensure(task: &mut Task, name: &str, wanted: &str) -> Result<Report, String> {
    let mut watcher = Map::new();
    let mut sockets = Map::new();
    let mut addresses = Vec::new();
    if wanted == "absent" {
        for key in ["with_env", "with_socket"] {
            watcher.insert(key.to_string(), Value::from(task.flag(key, false)));
        }
    } else {
        watcher = task.table("options");
        for key in ARGUMENTS
            .into_iter()
            .filter(|key| watcher.contains_key(*key))
        {
            task.refuse(format!("options.{key}: {key} is an argument of its own"));
        }
        for (argument, key) in [("procs", "numprocesses"), ("cmd", "cmd"), ("args", "args")] {
            let Some(value) = task.value(argument).cloned() else {
                continue;
            };
            if argument == "procs" && watcher.contains_key(key) {
                task.refuse("procs and options.numprocesses say the same thing: give one of them");
            }
            watcher.insert(key.to_string(), value);
        }
        if let Some(value) = task.text("restart_on_change") {
            watcher.insert("restart_on_change".to_string(), Value::from(value));
        }
        let env = task.table("env");
        if !env.is_empty() {
            watcher.insert("env".to_string(), Value::Object(env));
        }
        let unset = task.list("unset");
        if !unset.is_empty() {
            watcher.insert("unset".to_string(), Value::from(unset));
        }
        for (socket, address) in task.table("sockets") {
            match address {
                Value::Object(_) => {
                    sockets.insert(socket, address);
                }
                Value::String(address) => addresses.push(format!("{socket}={address}")),
                _ => task.refuse(format!(
                    "sockets.{socket}: HOST:PORT, unix:PATH or a mapping is expected"
                )),
            }
        }
        let some = !sockets.is_empty() || !addresses.is_empty();
        let mut decided = ["use_sockets", "stdin_socket"].into_iter();
        if some && !decided.any(|key| watcher.contains_key(key)) {
            watcher.insert("use_sockets".to_string(), Value::from(true));
        }
    }
    let told = match wanted {
        "started" => "running",
        other => other,
    };
    watcher.insert("state".to_string(), Value::from(told));
    let settings = task.settings();
    let mut document = json!({"watcher": {name: watcher}});
    if !sockets.is_empty() {
        document["socket"] = Value::Object(sockets);
    }
    let mut state = DesiredState::default();
    match parse(&document, &format!("watcher.{name}")) {
        Ok(parsed) => state = parsed,
        Err(problems) => task.refuse(problems),
    }
    // The short form of an address is read by those who read it on a command line. They ask for a name, and a bad one
    // was told already.
    let request = Request {
        name: "watcher".to_string(),
        socket: addresses,
        ..Request::default()
    };
    let mut addressed = Vec::new();
    match Desired::new(&request) {
        Ok((_, sections)) => addressed = sections,
        Err(error) => task.refuse(error.to_string().replace("--socket ", "sockets: ")),
    }
    task.check()?;
    state.origin = name.to_string();
    state.sections.extend(addressed);
    Ok(transaction::ensure_one(&state, &settings))
}

/// Reads a desired state that was given as data. Nothing in it has a line that means anything to the user, and what is
/// in the table that the task is about is told by its key alone.
fn parse(document: &Value, own: &str) -> Result<DesiredState, String> {
    let parsed = document::parse(document.to_string().as_bytes(), "desired", Format::Json);
    parsed.map_err(|error| told(&error, own))
}

fn told(error: &DocumentError, own: &str) -> String {
    let problems = error.problems.iter().map(|problem| {
        let path = match problem.path.strip_prefix(own) {
            Some(rest) => rest.strip_prefix('.').unwrap_or(rest),
            None => problem.path.as_str(),
        };
        match path {
            "" => problem.what.clone(),
            path => format!("{path}: {}", problem.what),
        }
    });
    problems.collect::<Vec<_>>().join("; ")
}

fn socket(mut task: Task) -> Value {
    let name = task.needed("name");
    let wanted = task.word("state", &STATES);
    let report = ensure_socket(&mut task, &name, wanted)
        .unwrap_or_else(|error| Report::failure(&name, task.check, error));
    let mut json = with_state(report, wanted);
    // Of the section socket:web the user has told the name.
    json["name"] = Value::from(name);
    json["resource"] = Value::from("socket");
    json
}

fn ensure_socket(task: &mut Task, name: &str, wanted: &str) -> Result<Report, String> {
    let mut socket = Map::new();
    if wanted == "present" {
        socket = task.table("options");
        for key in ["host", "port", "path"] {
            let Some(value) = task.value(key).cloned() else {
                continue;
            };
            if socket.insert(key.to_string(), value).is_some() {
                task.refuse(format!("options.{key}: {key} is an argument of its own"));
            }
        }
        let unset = task.list("unset");
        if !unset.is_empty() {
            socket.insert("unset".to_string(), Value::from(unset));
        }
    }
    socket.insert("state".to_string(), Value::from(wanted));
    let settings = task.settings();
    task.check()?;
    let mut state = parse(
        &json!({"socket": {name: socket}}),
        &format!("socket.{name}"),
    )?;
    state.origin = name.to_string();
    Ok(only(state::apply(&state, &settings)))
}

/// The report of a state of one resource: that resource's.
fn only(mut whole: Report) -> Report {
    if whole.resources.len() != 1 || whole.changes.contains_key(DAEMON) {
        return whole;
    }
    let mut one = whole.resources.remove(0);
    if whole.failed && !one.failed {
        one.fail(whole.error.unwrap_or(whole.msg));
    }
    Report {
        diff: whole.diff,
        backups: whole.backups,
        warnings: whole.warnings,
        ..one
    }
}

fn whole(mut task: Task) -> Value {
    let given: Vec<&str> = [
        &["name", "state", "restart_on_change", "signal"][..],
        &DESCRIBING,
    ]
    .concat()
    .into_iter()
    .filter(|key| task.has(key))
    .collect();
    if task.module == Module::Circus && !given.is_empty() {
        task.refuse(format!(
            "desired is a whole desired state, so {} cannot be given beside it",
            given.join(", ")
        ));
    }
    let check = task.check;
    apply(&mut task)
        .unwrap_or_else(|error| Report {
            resource: "state",
            ..Report::failure("desired", check, error)
        })
        .to_json()
}

fn apply(task: &mut Task) -> Result<Report, String> {
    let prune = task.flag("prune", false);
    let settings = task.settings();
    let desired = task.value("desired").cloned();
    let mut state = match desired {
        Some(Value::Object(_)) => {
            task.check()?;
            parse(&desired.unwrap_or_default(), "")?
        }
        Some(Value::String(text)) if text.contains('\n') || text.starts_with('{') => {
            task.check()?;
            let format = Format::of_text(&text);
            document::parse(text.as_bytes(), "desired", format)
                .map_err(|error| error.to_string())?
        }
        Some(Value::String(path)) if path == "-" || path.is_empty() => {
            task.refuse(format!("desired: {path:?} is no path on the host"));
            return Err(task.check().err().unwrap_or_default());
        }
        Some(Value::String(path)) => {
            task.check()?;
            return Ok(command::apply(Path::new(&path), prune, settings));
        }
        other => {
            let problem = match other {
                None => format!("{} needs the argument desired", task.module.name()),
                Some(_) => {
                    "desired: a mapping, the text of a document or a path on the host is expected"
                        .to_string()
                }
            };
            task.refuse(problem);
            return Err(task.check().err().unwrap_or_default());
        }
    };
    state.prune |= prune;
    Ok(state::apply(&state, &settings))
}

fn config(mut task: Task) -> Value {
    let section = task.needed("section");
    let wanted = task.word("state", &STATES);
    let report = edit(&mut task, &section, wanted).unwrap_or_else(|error| Report {
        resource: "config",
        ..Report::failure(&section, task.check, error)
    });
    with_state(report, wanted)
}

fn edit(task: &mut Task, section: &str, wanted: &str) -> Result<Report, String> {
    let file = PathBuf::from(task.needed("config"));
    let options = task.table("options");
    let mut unset = task.list("unset");
    let leave = Leave {
        create: task.flag("create", true),
        force: task.flag("force", false),
    };
    let run = edit::Run {
        check: task.check,
        diff: task.diff,
        backup: task.flag("backup", false),
        show_secrets: task.flag("show_secrets", false),
        ..edit::Run::default()
    };
    let mut pairs = Vec::new();
    for (key, value) in options {
        match ini_text(&value) {
            // A key that is to have no value.
            Ok(None) => unset.push(key),
            Ok(Some(_)) if wanted == "absent" => unset.push(key),
            Ok(Some(text)) => pairs.push((key, text)),
            Err(error) => task.refuse(format!("options.{key}: {error}")),
        }
    }
    if let Some((key, _)) = pairs.iter().find(|(key, _)| unset.contains(key)) {
        let key = key.clone();
        task.refuse(format!("{key} is to be set and unset at once"));
    }
    let wish = match (pairs.is_empty(), unset.is_empty()) {
        (true, true) if wanted == "absent" => Wish::Remove,
        (true, true) => {
            task.refuse("options or unset is needed: what should the section say?");
            Wish::Remove
        }
        (true, false) => Wish::Unset(unset),
        (false, true) => Wish::Set(pairs),
        (false, false) => Wish::Change(pairs, unset),
    };
    task.check()?;
    Ok(edit::report(&file, section, &wish, leave, &run))
}

fn info(task: &mut Task) -> Result<Value, String> {
    let names = task.list("names");
    let settings = task.settings();
    task.check()?;
    let seen = looking::look(&names, &settings)?;
    let mut json = seen.to_json(settings.show_secrets);
    json["changed"] = Value::from(false);
    json["failed"] = Value::from(false);
    json["circ_version"] = Value::from(env!("CARGO_PKG_VERSION"));
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn msg(module: Module, arguments: Value) -> String {
        let Value::Object(arguments) = arguments else {
            panic!("an object")
        };
        let report = run(Task::new(module, arguments));
        assert_eq!(report["failed"], true, "{report}");
        report["msg"].as_str().unwrap_or_default().to_string()
    }

    #[test]
    fn bad_tasks_are_refused_in_the_words_of_a_task() {
        let web = |key: &str, value: Value| json!({"name": "web", "live": false, key: value});
        for (module, arguments, says) in [
            (Module::Watcher, json!({}), "needs the argument name"),
            (
                Module::Watcher,
                web("procs", json!(-1)),
                "numprocesses: -1 is not a whole number",
            ),
            (
                Module::Watcher,
                web("options", json!({"max_agee": 1})),
                "max_agee: unknown option; did you mean max_age?",
            ),
            (
                Module::Watcher,
                web("options", json!({"env": {"A": 1}})),
                "env is an argument of its own",
            ),
            (
                Module::Watcher,
                web("options", json!("x")),
                "options: \"x\" is not a mapping",
            ),
            (
                Module::Watcher,
                web("sockets", json!({"a": "b"})),
                "sockets: a=b: NAME=HOST:PORT",
            ),
            (
                Module::Watcher,
                web("sockets", json!({"a": {"prot": 1}})),
                "socket.a.prot: unknown key",
            ),
            (
                Module::Watcher,
                web("state", json!("runing")),
                "state: \"runing\" is not one of started,",
            ),
            (
                Module::Watcher,
                web("desired", json!({})),
                "unknown argument desired",
            ),
            (
                Module::Circus,
                web("desired", json!({})),
                "so name cannot be given beside it",
            ),
            (Module::State, json!({}), "needs the argument desired"),
            (
                Module::State,
                json!({"desired": {"watchers": {}}}),
                "watchers: unknown key; did you mean watcher?",
            ),
            (
                Module::State,
                json!({"desired": "-"}),
                "no path on the host",
            ),
            (
                Module::Socket,
                json!({"name": "s"}),
                "a socket needs a path",
            ),
            (
                Module::Config,
                json!({"section": "circus"}),
                "needs the argument config",
            ),
            (
                Module::Info,
                json!({"live": false}),
                "give config, or leave out live: false",
            ),
        ] {
            let told = msg(module, arguments.clone());
            assert!(told.contains(says), "{arguments}: {told}");
            assert!(!told.contains("--"), "{told}");
        }
        let order = json!({"name": "web", "state": "restarted", "procs": 3, "cmd": "x"});
        let told = msg(Module::Watcher, order);
        assert!(
            told.contains("procs, cmd cannot be given with it"),
            "{told}"
        );
    }
}
