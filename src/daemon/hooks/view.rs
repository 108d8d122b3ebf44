//! What a hook is told: the watcher and the daemon as circus's objects show them, and the arguments of the call.

use crate::config::{CircusOptions, shlex};
use crate::options::{HOOKS, Hook, Map, Value, WATCHER_OPTIONS, WatcherOptions};
use crate::supervisor::{HookCall, Pid, View};
use serde_json::json;
use std::collections::HashMap;

/// What comes before the command line of a hook that is a program.
const EXEC: &str = "exec:";

/// What follows `exec:` as arguments; `None` for a Python callable.
///
/// # Errors
/// The command line cannot be read; a sentence for the user.
pub fn exec_argv(hook: &Hook<'_>) -> Result<Option<Vec<String>>, String> {
    let Some(command) = hook.target.strip_prefix(EXEC) else {
        return Ok(None);
    };
    let argv = shlex::split(command)?;
    if argv.is_empty() {
        return Err("exec: needs a program, such as exec:/usr/local/bin/check".to_string());
    }
    Ok(Some(argv))
}

/// The hooks of a watcher, by name.
pub fn hooks_of(options: &WatcherOptions) -> impl Iterator<Item = (&'static str, Hook<'_>)> {
    HOOKS
        .iter()
        .filter_map(|name| Some((*name, options.hook(name)?)))
}

/// The arguments that circus gives a hook beside the watcher, the arbiter and its name. `time` is in seconds since the
/// epoch.
pub fn arguments(call: &HookCall, time: f64) -> Map<String, Value> {
    let arguments = match call {
        HookCall::BeforeStart
        | HookCall::AfterStart
        | HookCall::BeforeStop
        | HookCall::AfterStop
        | HookCall::BeforeSpawn => json!({}),
        HookCall::AfterSpawn { pid } => json!({"pid": pid}),
        HookCall::BeforeSignal { pid, signum } | HookCall::AfterSignal { pid, signum } => {
            json!({"pid": pid, "signum": signum})
        }
        HookCall::BeforeReap { pid, .. } => json!({"process_pid": pid, "time": time}),
        // circus.process.UNEXISTING for one that went by itself
        HookCall::AfterReap {
            pid,
            code,
            by_itself,
        } => json!({
            "process_status": by_itself.then_some(2), "process_pid": pid, "time": time, "exit_code": code}),
    };
    match arguments {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A watcher as a hook sees it.
pub fn watcher(view: &View<'_>, births: &HashMap<Pid, f64>, before_start: bool) -> Value {
    let options = view.options();
    let processes: Vec<Value> = view
        .workers()
        .iter()
        .map(|worker| {
            json!({
                "pid": worker.pid, "wid": worker.wid, "stopping": worker.leaving,
                "started": births.get(&worker.pid).copied().unwrap_or(0.0)})
        })
        .collect();
    let listed: Vec<&str> = WATCHER_OPTIONS
        .iter()
        .filter(|spec| spec.listed)
        .map(|spec| spec.name)
        .chain(options.extra().keys().map(String::as_str))
        .collect();
    // circus calls a watcher stopped until this hook has consented
    let status = if before_start {
        "stopped"
    } else {
        view.status().as_str()
    };
    json!({
        "name": options.name, "status": status, "options": options.values(), "extra": options.extra(),
        "listed": listed, "processes": processes})
}

/// The daemon as a hook sees it.
pub fn arbiter(circus: &CircusOptions) -> Value {
    json!({
        "endpoint": circus.endpoint, "pubsub_endpoint": circus.pubsub_endpoint,
        "stats_endpoint": circus.statsd.then_some(&circus.stats_endpoint),
        "multicast_endpoint": circus.multicast_endpoint, "check_delay": circus.check_delay,
        "warmup_delay": circus.warmup_delay, "pid": std::process::id()})
}

/// What a program is told by its environment.
pub fn variables(
    name: &str,
    options: &WatcherOptions,
    arguments: &Map<String, Value>,
    circus: &CircusOptions,
) -> Vec<(String, String)> {
    let mut all = vec![
        ("CIRCUS_HOOK".to_string(), name.to_string()),
        ("CIRCUS_WATCHER".to_string(), options.name.clone()),
        ("CIRCUS_ENDPOINT".to_string(), circus.endpoint.clone()),
        (
            "CIRCUS_PUBSUB_ENDPOINT".to_string(),
            circus.pubsub_endpoint.clone(),
        ),
    ];
    for (key, value) in arguments {
        if !value.is_null() && !value.is_object() {
            let key = key.strip_prefix("process_").unwrap_or(key);
            all.push((format!("CIRCUS_{}", key.to_uppercase()), value.to_string()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_what_a_callable_is() {
        let options = WatcherOptions::ini_defaults("web");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("circus.ini");
        std::fs::write(&file, "[circus]\nendpoint = tcp://127.0.0.1:1\n").unwrap();
        let config =
            crate::config::Config::load(&file, &Default::default(), directory.path()).unwrap();
        let call = HookCall::AfterReap {
            pid: 7,
            code: -9,
            by_itself: true,
        };
        let told = variables(
            call.name(),
            &options,
            &arguments(&call, 1.5),
            &config.circus,
        );
        for (name, value) in [
            ("CIRCUS_HOOK", "after_reap"),
            ("CIRCUS_WATCHER", "web"),
            ("CIRCUS_PID", "7"),
            ("CIRCUS_EXIT_CODE", "-9"),
            ("CIRCUS_STATUS", "2"),
            ("CIRCUS_ENDPOINT", "tcp://127.0.0.1:1"),
        ] {
            let found = told.iter().find(|(known, _)| known == name);
            assert_eq!(found.map(|(_, v)| v.as_str()), Some(value), "{name}");
        }
    }

    #[test]
    fn a_command_line_is_split_as_a_shell_does() {
        let hook = |target| Hook {
            target,
            ignore_failure: false,
        };
        assert_eq!(exec_argv(&hook("m.f")), Ok(None));
        let argv = exec_argv(&hook("exec:/bin/check -a 'b c'")).unwrap();
        assert_eq!(
            argv,
            Some(vec!["/bin/check".into(), "-a".into(), "b c".into()])
        );
        assert!(exec_argv(&hook("exec:")).is_err());
        assert!(exec_argv(&hook("exec:'")).is_err());
    }
}
