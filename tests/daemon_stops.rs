//! How workers are stopped: which signal, who gets it, and what happens to those that do not listen.

mod support;

#[path = "daemon_lifecycle/notes.rs"]
mod notes;

use std::time::{Duration, Instant};

use notes::{Events, notes as noted, order, status, traps, wait_notes, wait_status};
use serde_json::json;
use support::{Process, Program, TempSite, descendants, is_alive};

const MARK: &str = "[watcher:mark]\ncmd = sleep 1000\nautostart = False\n";

/// A worker that ignores its stop signal has `graceful_timeout` seconds, and then no choice.
#[test]
fn a_stubborn_worker_is_killed() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:stubborn]\ncmd = {script} notes TERM:ignore\ngraceful_timeout = 0.7\n{MARK}"
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("stubborn", 1)[0];
    wait_notes(&site, &daemon, "notes", "ready", 1);
    let events = Events::of(&site, &daemon);
    let before = Instant::now();
    daemon.ok("stop", json!({"name": "stubborn", "waiting": true}));
    assert!(before.elapsed() >= Duration::from_millis(700));
    assert!(!is_alive(pid));
    assert_eq!(
        noted(&site, "notes")[1..],
        [format!("got TERM {pid}")],
        "it was asked first"
    );
    let events = events.until_now();
    let reap = events
        .iter()
        .find(|(topic, _)| topic == "watcher.stubborn.reap");
    let (_, reap) = reap.unwrap_or_else(|| panic!("no reap in {events:?}"));
    assert_eq!(
        (&reap["process_pid"], &reap["exit_code"]),
        (&json!(pid), &json!(-9))
    );
}

/// `kill` with a signal and a patience of its own.
#[test]
fn a_kill_has_its_own_signal_and_patience() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:stubborn]\ncmd = {script} notes TERM:ignore USR1:ignore\ngraceful_timeout = 3600\n"
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("stubborn", 1)[0];
    wait_notes(&site, &daemon, "notes", "ready", 1);
    let order =
        json!({"name": "stubborn", "signum": "usr1", "graceful_timeout": 0.2, "waiting": true});
    daemon.ok("kill", order);
    assert!(!is_alive(pid));
    assert!(noted(&site, "notes").contains(&format!("got USR1 {pid}")));
    daemon.wait_for("a new one", || {
        (daemon.pids("stubborn").first().is_some_and(|p| *p != pid)).then_some(())
    });
    // The site's end shall not wait for an hour.
    wait_notes(&site, &daemon, "notes", "ready", 2);
    daemon.ok(
        "set",
        json!({"name": "stubborn", "options": {"graceful_timeout": 0.1}}),
    );
}

#[test]
fn the_stop_signal_is_the_one_asked_for() {
    for (word, name) in [("INT", "INT"), ("SIGQUIT", "QUIT"), ("10", "USR1")] {
        let site = TempSite::new();
        let script = traps(&site);
        site.ini(&format!(
            "[watcher:web]\ncmd = {script} notes {name}:leave TERM:ignore\nstop_signal = {word}\ngraceful_timeout = 3600\n"
        ));
        let daemon = site.start(Program::Circ);
        let pid = daemon.wait_pids("web", 1)[0];
        wait_notes(&site, &daemon, "notes", "ready", 1);
        daemon.ok("stop", json!({"name": "web", "waiting": true}));
        assert_eq!(
            noted(&site, "notes"),
            [format!("ready {pid}"), format!("got {name} {pid}")]
        );
    }
}

/// The grandchildren hear of the stop only where `stop_children` says so; with it none of them is left.
///
/// circusd 0.19 is no referee here: it asks the worker first, and when that is gone by the time it looks for the
/// children, they hear nothing; a child's own child never does.
#[test]
fn children_of_workers() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:with]\ncmd = {script} with TERM:leave child\nstop_children = True\n[watcher:without]\ncmd = {script} without TERM:leave child\n"
    ));
    let daemon = site.start(Program::Circ);
    for name in ["with", "without"] {
        wait_notes(&site, &daemon, name, "ready", 1);
        wait_notes(&site, &daemon, &format!("{name}.child"), "ready", 1);
    }
    let tree = |name: &str| -> Vec<Process> {
        let pid = daemon.wait_pids(name, 1)[0];
        descendants(pid)
    };
    let (with, without) = (tree("with"), tree("without"));
    assert!(
        with.len() >= 3,
        "the child, and the sleeps of both: {with:?}"
    );
    daemon.ok("stop", json!({"name": "with", "waiting": true}));
    daemon.ok("stop", json!({"name": "without", "waiting": true}));
    daemon.wait_for("the whole tree to be gone", || {
        with.iter().all(|p| !p.is_running()).then_some(())
    });
    assert!(without.iter().all(|p| p.is_running()));
    assert_eq!(noted(&site, "without.child").len(), 1, "it heard nothing");
}

/// A child that does not listen either is killed with its worker's group.
#[test]
fn stubborn_children_are_killed() {
    let site = TempSite::new();
    let script = traps(&site);
    let parent = notes::script(
        &site,
        "parent.sh",
        &format!("#!/bin/sh\n{script} child TERM:ignore &\necho ready >>parent\nwait\n"),
    );
    site.ini(&format!(
        "[watcher:web]\ncmd = {parent}\nstop_children = True\ngraceful_timeout = 0.5\n"
    ));
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0];
    wait_notes(&site, &daemon, "child", "ready", 1);
    let tree = descendants(pid);
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    daemon.wait_for("the tree to be gone", || {
        tree.iter().all(|p| !p.is_running()).then_some(())
    });
}

/// With `send_hup` a reload is a signal and no new process, except where the options are new.
#[test]
fn a_reload_by_sighup() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        let script = traps(&site);
        site.ini(&format!(
            "[watcher:web]\ncmd = {script} notes HUP:ignore\nsend_hup = True\nnumprocesses = 2\n"
        ));
        let daemon = site.start(program);
        wait_notes(&site, &daemon, "notes", "ready", 2);
        let pids = daemon.wait_pids("web", 2);
        order(&daemon, "reload", json!({"name": "web", "waiting": true}));
        wait_notes(&site, &daemon, "notes", "got HUP", 2);
        assert_eq!(daemon.wait_pids("web", 2), pids, "{program:?}");
    }
}

/// `signal` reaches workers and children as it is told.
#[test]
fn signals_by_command() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:web]\ncmd = {script} notes USR1:ignore USR2:ignore child\nnumprocesses = 2\n"
    ));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    wait_notes(&site, &daemon, "notes", "ready", 2);
    wait_notes(&site, &daemon, "notes.child", "ready", 2);
    daemon.ok(
        "signal",
        json!({"name": "web", "signum": "usr1", "pid": pids[1]}),
    );
    let got = wait_notes(&site, &daemon, "notes", "got", 1);
    assert_eq!(got, [format!("got USR1 {}", pids[1])]);
    daemon.ok("signal", json!({"name": "web", "signum": 12}));
    let mut got = wait_notes(&site, &daemon, "notes", "got USR2", 2);
    got.sort();
    let mut all: Vec<String> = pids.iter().map(|p| format!("got USR2 {p}")).collect();
    all.sort();
    assert_eq!(got, all);
    // To the children of one worker only: its child leaves, and notes it.
    daemon.ok(
        "signal",
        json!({"name": "web", "signum": "TERM", "pid": pids[0], "children": true}),
    );
    wait_notes(&site, &daemon, "notes.child", "got TERM", 1);
}

/// A watcher that was stopped by hand stays stopped, whatever the others do.
#[test]
fn stopped_by_hand_stays_stopped() {
    let site = TempSite::new();
    site.ini(
        "check_delay = 0.1\n[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1000\n",
    );
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0];
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    assert!(!is_alive(pid));
    let other = daemon.pids("other")[0];
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(other),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("it runs");
    daemon.wait_for("another", || {
        daemon
            .pids("other")
            .first()
            .filter(|p| **p != other)
            .copied()
    });
    daemon.ok("reload", json!({"waiting": true, "name": "other"}));
    assert_eq!(status(&daemon, "web"), "stopped");
    assert_eq!(daemon.pids("web"), [0; 0]);
    daemon.ok("start", json!({"name": "web", "waiting": true}));
    wait_status(&daemon, "web", "active");
}

/// A death by a real-time signal is a death like any other.
#[test]
fn a_worker_killed_by_a_real_time_signal_is_replaced() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 1);
    daemon.ok("signal", json!({"name": "web", "signum": "SIGRTMIN+1"}));
    daemon.wait_for("another worker", || {
        let now = daemon.pids("web");
        (now.len() == 1 && now != pids).then_some(())
    });
    assert!(
        daemon.log().contains("was killed by signal 35"),
        "{}",
        daemon.log()
    );
}
