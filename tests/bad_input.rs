//! Bad input gets an answer that helps: never a hang, never a crash, and nobody else waits because of it.

#[path = "bad_input/files.rs"]
mod files;
#[path = "bad_input/network.rs"]
mod network;
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Daemon, Program, TempSite};

const TWO: &str = "\n[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n";

/// Starts circ on what is in the site and gives its last words; it must end by itself and not with 0.
#[track_caller]
fn refused(site: &TempSite) -> String {
    let daemon = site.spawn(Program::Circ, |_| {});
    let status = daemon.wait_exit();
    let log = daemon.log();
    assert!(!status.success(), "it should not start:\n{log}");
    assert!(status.code().is_some(), "it ended by {status}:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

/// A site with two running workers.
fn two() -> TempSite {
    let site = TempSite::new();
    site.ini(TWO);
    site
}

/// The daemon must answer somebody else at once, while something bad goes on.
#[track_caller]
fn answers(daemon: &Daemon) {
    let start = Instant::now();
    let reply = daemon
        .driver()
        .call(daemon.endpoint(), "numprocesses", json!({}), 20.0);
    let reply = reply.unwrap_or_else(|e| panic!("nobody else is answered: {e}\n{}", daemon.tail()));
    assert_eq!(reply["numprocesses"], 2, "{reply}");
    // Far above what it takes, far below what a daemon that is held up takes.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "an answer took {:?}",
        start.elapsed()
    );
}

/// Resident memory of the daemon.
fn rss_kb(daemon: &Daemon) -> u64 {
    let text =
        std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or("");
    line.split_whitespace()
        .nth(1)
        .and_then(|w| w.parse().ok())
        .unwrap_or(0)
}
