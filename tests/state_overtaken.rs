//! What somebody else does to the file and the daemon in the middle of a run of `circ state`.

mod support;

#[path = "state/proxy.rs"]
mod proxy;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use proxy::Proxy;
use support::{Program, TempSite};

const BODY: &str = "\
check_delay = 0.5

[watcher:web]
cmd = sleep 1000
numprocesses = 1

[watcher:other]
cmd = sleep 2000
";

/// `circ state ensure web --procs 2` through a relay with this hook, on a daemon where one worker runs; the exit code
/// and the report.
#[track_caller]
fn run_with(site: &TempSite, hook: impl FnMut(&[String]) + Send + 'static) -> (Option<i32>, Value) {
    let proxy = Proxy::to(&site.endpoint, hook);
    let mut command = circ(&["state", "ensure", "web", "--procs", "2", "--settle", "0.3"]);
    command
        .args(["--json", "--config", "circus.ini"])
        .args(["--endpoint", &proxy.endpoint()])
        .current_dir(site.dir());
    let output = command.output().expect("circ runs");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let commands = proxy.commands();
    assert!(
        commands.iter().any(|command| command == "list"),
        "the hook was on the way of the run: {commands:?}"
    );
    (output.status.code(), report)
}

fn circ(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(arguments)
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    command
}

/// Somebody's order to the daemon, by another door than the run's.
fn order(endpoint: &str, arguments: &[&str]) {
    let output = circ(arguments)
        .args(["--waiting", "--endpoint", endpoint])
        .output()
        .expect("circ runs");
    assert!(output.status.success(), "{output:?}");
}

/// A hook that gives an order when the run has changed the count and looks at what came of it.
fn order_meanwhile(
    endpoint: &str,
    arguments: &'static [&'static str],
) -> impl FnMut(&[String]) + Send + use<> {
    let endpoint = endpoint.to_string();
    let mut given = false;
    move |commands: &[String]| {
        let sent = commands.iter().position(|command| command == "incr");
        let asked = sent.is_some_and(|at| commands[at..].contains(&"status".to_string()));
        if asked && !given {
            given = true;
            order(&endpoint, arguments);
        }
    }
}

fn started(test: impl FnOnce(&TempSite, &support::Daemon)) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    daemon.wait_pids("other", 1);
    test(&site, &daemon);
}

fn numprocesses(daemon: &support::Daemon) -> Value {
    let reply = daemon.call("get", json!({"name": "web", "keys": ["numprocesses"]}));
    reply["options"]["numprocesses"].clone()
}

#[test]
fn an_order_of_somebody_else_is_put_right_in_the_same_run() {
    let orders: [&[&str]; 4] = [
        &["incr", "web"],
        &["decr", "web"],
        &["stop", "web"],
        &["rm", "web"],
    ];
    for arguments in orders {
        started(|site, daemon| {
            let others = daemon.wait_pids("other", 1);
            let (code, report) = run_with(site, order_meanwhile(&site.endpoint, arguments));
            assert_eq!(code, Some(0), "{arguments:?}: {report}");
            assert_eq!(report["changed"], true, "{arguments:?}: {report}");
            assert_eq!(
                report["after"]["daemon"]["running"], 2,
                "{arguments:?}: {report}"
            );
            daemon.wait_pids("web", 2);
            assert_eq!(numprocesses(daemon), 2, "{arguments:?}: {report}");
            assert_eq!(daemon.wait_pids("other", 1), others, "{arguments:?}");
        });
    }
}

#[test]
fn who_does_not_stop_interfering_is_told_of_soon() {
    started(|site, daemon| {
        let endpoint = site.endpoint.clone();
        let mut seen = 0;
        let hook = move |commands: &[String]| {
            let sent = commands
                .iter()
                .filter(|command| matches!(command.as_str(), "incr" | "decr"))
                .count();
            let last = commands.last().is_some_and(|command| command == "status");
            if last && sent > seen {
                seen = sent;
                order(&endpoint, &["incr", "web"]);
            }
        };
        let (code, report) = run_with(site, hook);
        assert_eq!(code, Some(1), "{report}");
        let reason = report["msg"].as_str().unwrap_or_default();
        assert!(
            reason.contains("numprocesses 3 -> 2") && reason.contains("somebody else"),
            "{report}"
        );
        assert_eq!(numprocesses(daemon), 3, "{report}");
    });
}

#[test]
fn an_edit_of_the_file_in_the_middle_of_a_run_is_taken_in() {
    started(|site, daemon| {
        let path = site.path("circus.ini");
        let mut edited = false;
        let hook = move |_: &[String]| {
            if !edited {
                edited = true;
                let text = fs::read_to_string(&path).expect("it can be read");
                fs::write(&path, format!("# theirs\n{text}")).expect("it can be written");
            }
        };
        let (code, report) = run_with(site, hook);
        assert_eq!(code, Some(0), "{report}");
        let text = fs::read_to_string(site.path("circus.ini")).expect("it can be read");
        assert!(text.starts_with("# theirs\n"), "{text}");
        assert!(text.contains("numprocesses = 2"), "{text}");
        daemon.wait_pids("web", 2);
    });
}

#[test]
fn a_watcher_that_vanishes_while_it_is_looked_at_is_added() {
    started(|site, daemon| {
        let endpoint = site.endpoint.clone();
        let mut removed = false;
        let hook = move |commands: &[String]| {
            // Its name was told, its options are asked.
            if !removed && commands.last().is_some_and(|command| command == "options") {
                removed = true;
                order(&endpoint, &["rm", "web"]);
            }
        };
        let (code, report) = run_with(site, hook);
        assert_eq!(code, Some(0), "{report}");
        daemon.wait_pids("web", 2);
    });
}

/// A hook that has the watcher restarted, so many times, each time that the workers of the last time are there.
fn restart_meanwhile(endpoint: &str, times: usize) -> impl FnMut(&[String]) + Send + use<> {
    let endpoint = endpoint.to_string();
    let mut seen: Vec<Value> = Vec::new();
    move |commands: &[String]| {
        let looks = commands.iter().any(|command| command == "incr")
            && commands.last().is_some_and(|command| command == "list");
        if !looks || seen.len() == times {
            return;
        }
        let output = circ(&["list", "web", "--json", "--endpoint", &endpoint])
            .output()
            .expect("circ runs");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let pids = told["pids"].clone();
        if pids.as_array().is_some_and(|pids| pids.len() == 2) && seen.last() != Some(&pids) {
            seen.push(pids);
            order(&endpoint, &["restart", "web"]);
        }
    }
}

#[test]
fn restarts_by_somebody_else_are_waited_out_once() {
    // Two workers, and four more that were seen to come and go, would be taken for workers that die.
    started(|site, daemon| {
        let (code, report) = run_with(site, restart_meanwhile(&site.endpoint, 4));
        assert_eq!(code, Some(0), "{report}");
        daemon.wait_pids("web", 2);
    });
    started(|site, _| {
        let (code, report) = run_with(site, restart_meanwhile(&site.endpoint, usize::MAX));
        assert_eq!(code, Some(1), "{report}");
        let reason = report["msg"].as_str().unwrap_or_default();
        assert!(reason.contains("replaced while we looked"), "{report}");
    });
}
