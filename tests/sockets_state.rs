//! `circ state` and the options of sockets: watchers that wait, and sockets that are handed over.

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{Daemon, Program, TempSite};

/// What a run reports: its exit code, whether it changed anything, and the whole report.
#[track_caller]
fn ensure(daemon: &Daemon, site: &TempSite, arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_circ"))
        .args(["state", "ensure", "web", "--config"])
        .arg(site.path("circus.ini"))
        .args(["--json", "--timeout", "60"])
        .args(arguments)
        .output()
        .expect("circ runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|e| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{e}: {text}{errors}\n{}", daemon.tail())
    });
    (output.status.code().unwrap_or(-1), report)
}

#[track_caller]
fn changes(daemon: &Daemon, site: &TempSite, arguments: &[&str]) -> bool {
    let (code, report) = ensure(daemon, site, arguments);
    assert_eq!(code, 0, "{report}");
    report["changed"].as_bool().expect("a truth value")
}

/// A watcher that waits is as it should be; one that somebody has stopped is not, and the other way round.
#[test]
fn a_waiting_watcher_counts_as_running_and_a_stopped_one_does_not() {
    let site = TempSite::new();
    site.ini(
        "\n[socket:web]\nhost = 127.0.0.1\nport = 0\n[watcher:web]\ncmd = sleep 1000\nstdin_socket = web\non_demand = True\n",
    );
    let daemon = site.start(Program::Circ);
    let waits = || daemon.call("status", json!({"name": "web"}))["waiting"] == true;
    assert!(waits());
    assert!(!changes(&daemon, &site, &["--running"]));
    assert!(changes(&daemon, &site, &["--stopped"]));
    assert!(!waits());
    assert!(!changes(&daemon, &site, &["--stopped"]));
    assert!(changes(&daemon, &site, &["--running"]));
    assert!(waits());
    assert!(!changes(&daemon, &site, &["--running"]));
}

/// `listen_fds` is an option as any other: set once, and then as desired.
#[test]
fn listen_fds_is_set_once() {
    let site = TempSite::new();
    site.ini("\n[socket:web]\nhost = 127.0.0.1\nport = 0\n[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let before = daemon.wait_pids("web", 1);
    for value in ["listen_fds=web", "listen_fds=True"] {
        assert!(changes(&daemon, &site, &["--set", value]), "{value}");
        assert!(!changes(&daemon, &site, &["--set", value]), "{value}");
    }
    let pids = daemon.wait_pids("web", 1);
    assert_ne!(pids, before);
    let environ = std::fs::read(format!("/proc/{}/environ", pids[0])).expect("our own worker");
    let environ = String::from_utf8_lossy(&environ).into_owned();
    assert!(
        environ.contains(&format!("LISTEN_PID={}", pids[0])),
        "{environ}"
    );
    let (code, report) = ensure(&daemon, &site, &["--set", "listen_fds=nope"]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(daemon.pids("web"), pids);
}
