//! `circ dsc`: the resource type `Circ/Watcher` for Microsoft's DSC 3 (Desired State Configuration). DSC finds it by
//! `circ.dsc.resource.json`, which names these commands.
//!
//! The protocol: a JSON object comes on standard input; JSON goes to standard output, one line an object; what is to be
//! said goes to standard error, as lines of JSON that DSC's own log takes up. Source: the reference of resource
//! manifests in DSC's documentation.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::state::{current_directory, environ, fallback_endpoint};
use crate::config::pattern;
use crate::state::desired::{Desired, DesiredState, Running};
use crate::state::instance::Instance;
use crate::state::report::Report;
use crate::state::transaction::ensure_one;
use crate::state::{Settings, export, looking, schema};

/// Arguments of `circ dsc`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// How the watcher is that the input names
    Get,
    /// Whether the watcher is as the input describes it
    Test,
    /// Make the watcher as the input describes it
    Set {
        /// Change nothing; tell what it would be
        #[arg(long)]
        what_if: bool,
    },
    /// Make that the watcher is not there
    Delete {
        /// Change nothing; tell what would go
        #[arg(long)]
        what_if: bool,
    },
    /// All watchers, one a line; the input may say where, and a pattern of their names
    Export,
    /// The JSON Schema of the input
    Schema,
}

/// Runs an operation; the result is its exit code.
pub fn run(args: &Args) -> ExitCode {
    let outcome = match &args.operation {
        Operation::Schema => Ok(vec![schema::instance()]),
        Operation::Export => input(false).and_then(|instance| all(&instance)),
        Operation::Get => input(true).and_then(|instance| get(&instance)),
        Operation::Test => input(true).and_then(|instance| test(&instance)),
        Operation::Set { what_if } => input(true).and_then(|instance| set(&instance, *what_if)),
        Operation::Delete { what_if } => {
            input(true).and_then(|instance| delete(&instance, *what_if))
        }
    };
    match outcome {
        Ok(lines) => {
            let mut stdout = std::io::stdout().lock();
            for line in lines {
                // Who went away cannot be told.
                let _ = writeln!(stdout, "{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell("error", &error);
            ExitCode::from(1)
        }
    }
}

type Lines = Result<Vec<Value>, String>;

/// A line of JSON for DSC's log, or plain text for a person.
fn tell(level: &str, text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = match stderr.is_terminal() {
        true => writeln!(stderr, "{level}: {text}"),
        false => writeln!(stderr, "{}", json!({level: text})),
    };
}

fn input(needs_name: bool) -> Result<Instance, String> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        if needs_name {
            return Err(
                "a JSON object that describes a watcher is expected on standard input".to_string(),
            );
        }
    } else {
        stdin
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
    }
    Instance::parse(&text, needs_name).map_err(|error| error.to_string())
}

fn settings(instance: &Instance) -> Settings {
    Settings {
        config: instance.config.clone(),
        endpoint: instance.endpoint.clone(),
        fallback_endpoint: fallback_endpoint(),
        live: instance.live,
        start_daemon: instance.start_daemon && instance.live,
        interrupt: super::interruption::current(),
        ..Settings::new(current_directory(), environ())
    }
}

/// Every watcher of the daemon, and those that only the file has: they do not run.
fn look(instance: &Instance) -> Result<DesiredState, String> {
    let settings = settings(instance);
    let seen = |settings: &Settings| {
        looking::look(&[], settings).map(|seen| export::export(&seen, &instance.name))
    };
    let told = seen(&settings);
    if !settings.live || settings.config.is_none() {
        return told.inspect(|state| warn_of(&state.warnings));
    }
    let file_only = Settings {
        live: false,
        ..settings
    };
    let file = seen(&file_only)?;
    let mut state = told.unwrap_or_else(|error| {
        tell("warn", &error);
        DesiredState::default()
    });
    warn_of(&state.warnings);
    for mut watcher in file.watchers {
        if find(&state, &watcher.name).is_none() {
            watcher.running = Running::No;
            state.watchers.push(watcher);
        }
    }
    Ok(state)
}

fn warn_of(warnings: &[String]) {
    warnings.iter().for_each(|warning| tell("warn", warning));
}

fn find<'a>(state: &'a DesiredState, name: &str) -> Option<&'a Desired> {
    let name = name.to_lowercase();
    state
        .watchers
        .iter()
        .find(|watcher| watcher.name.to_lowercase() == name)
}

fn get(instance: &Instance) -> Lines {
    let state = look(instance)?;
    let told = instance.told(find(&state, &instance.name), false);
    Ok(vec![Value::Object(told)])
}

/// Does the run, or only says what it would do.
fn carry_out(instance: &Instance, desired: &DesiredState, check: bool) -> Result<Report, String> {
    let settings = Settings {
        check,
        ..settings(instance)
    };
    super::interruption::listen();
    let report = ensure_one(desired, &settings);
    warn_of(&report.warnings);
    match report.failed {
        true => Err(report.msg),
        false => Ok(report),
    }
}

fn test(instance: &Instance) -> Lines {
    let desired = instance.desired(false).map_err(|error| error.to_string())?;
    let report = carry_out(instance, &desired, true)?;
    let state = look(instance)?;
    let mut told = instance.told(find(&state, &instance.name), false);
    told.insert("_inDesiredState".into(), Value::Bool(!report.changed));
    if report.changed {
        tell("info", &report.msg);
    }
    Ok(vec![
        Value::Object(told),
        json!(instance.properties_changed(&report)),
    ])
}

fn set(instance: &Instance, what_if: bool) -> Lines {
    let desired = instance.desired(false).map_err(|error| error.to_string())?;
    let before = match what_if {
        true => Some(look(instance)?),
        false => None,
    };
    let report = carry_out(instance, &desired, what_if)?;
    tell("info", &report.msg);
    let told = match before {
        Some(before) => instance.expected(find(&before, &instance.name), &desired),
        None => {
            let after = look(instance)?;
            instance.told(find(&after, &instance.name), false)
        }
    };
    Ok(vec![
        Value::Object(told),
        json!(instance.properties_changed(&report)),
    ])
}

fn delete(instance: &Instance, what_if: bool) -> Lines {
    let desired = instance.desired(true).map_err(|error| error.to_string())?;
    let report = carry_out(instance, &desired, what_if)?;
    tell("info", &report.msg);
    Ok(match what_if {
        true => vec![json!({"_metadata": {"whatIf": [report.msg]}})],
        false => Vec::new(),
    })
}

fn all(instance: &Instance) -> Lines {
    let state = look(instance)?;
    let wanted = |name: &str| {
        instance.name.is_empty()
            || pattern::matches(&instance.name.to_lowercase(), &name.to_lowercase())
    };
    Ok(state
        .watchers
        .iter()
        .filter(|watcher| wanted(&watcher.name))
        .map(|watcher| {
            let mut told: Map<String, Value> = instance.told(Some(watcher), true);
            told.shift_remove("_exist");
            Value::Object(told)
        })
        .collect())
}
