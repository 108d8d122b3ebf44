//! The test house tests itself: what every other integration test leans on must hold.

mod support;

use serde_json::json;
use support::{Program, TempSite, is_alive};

/// The real circusd starts, answers, publishes, and nothing of it stays behind.
#[test]
fn a_site_runs_the_real_circusd_and_leaves_nothing() {
    for site in [TempSite::new(), TempSite::ipc()] {
        site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n[watcher:mark]\ncmd = sleep 1000\nautostart = False\n");
        let daemon = site.start(Program::Circusd);
        let pids = daemon.wait_pids("web", 2);
        let driver = daemon.driver();
        let (dealer, events) = (
            driver.dealer(&site.endpoint),
            driver.subscribe(&site.pubsub, &["watcher."]),
        );
        driver.events_until(events, dealer, "mark");
        daemon.ok("incr", json!({"name": "web", "waiting": true}));
        let seen = driver.events_until(events, dealer, "mark");
        let topics: Vec<&str> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(topics, ["watcher.web.spawn"]);
        let all = daemon.pids("web");
        assert_eq!(all.len(), 3);
        assert!(pids.iter().all(|p| all.contains(p)));
        drop(daemon);
        assert!(
            all.iter().all(|p| !is_alive(*p)),
            "workers of a stopped daemon still run"
        );
    }
}

/// A daemon that dies badly leaves orphans: they are found and ended too.
#[test]
fn orphans_of_a_killed_daemon_are_ended() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 3\n");
    let daemon = site.start(Program::Circusd);
    let pids = daemon.wait_pids("web", 3);
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    daemon.wait_exit();
    assert!(
        pids.iter().all(|p| is_alive(*p)),
        "the orphans should still run here"
    );
    drop(daemon);
    assert!(pids.iter().all(|p| !is_alive(*p)), "orphans still run");
}
