//! How watchers come up, keep their workers, and what commands do to them while they run.

mod support;

#[path = "daemon_lifecycle/notes.rs"]
mod notes;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use notes::{
    Events, birth, notes as noted, order, script, status, traps, trouble, wait_notes, wait_status,
};
use serde_json::{Value, json};
use support::{Program, TempSite, is_alive};

const MARK: &str = "[watcher:mark]\ncmd = sleep 1000\nautostart = False\n";

fn ended(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker of ours");
}

/// The pause between two workers, and the pause between two watchers, are kept.
#[test]
fn warm_up_pauses() {
    let site = TempSite::new();
    site.ini("warmup_delay = 0.4\n[watcher:first]\ncmd = sleep 1000\npriority = 2\nnumprocesses = 3\nwarmup_delay = 0.3\n[watcher:second]\ncmd = sleep 1000\npriority = 1\n");
    let daemon = site.start(Program::Circ);
    let mut first: Vec<u64> = daemon
        .wait_pids("first", 3)
        .into_iter()
        .map(birth)
        .collect();
    first.sort_unstable();
    let second = birth(daemon.wait_pids("second", 1)[0]);
    // The clock has hundredths; both ends may be cut off.
    assert!(first[1] - first[0] >= 28, "{first:?}");
    assert!(first[2] - first[1] >= 28, "{first:?}");
    assert!(second - first[2] >= 38, "{second} after {first:?}");
}

#[test]
fn autostart_and_priority_order_the_start() {
    let site = TempSite::new();
    site.ini("[watcher:a-low]\ncmd = sleep 1000\npriority = -1\n[watcher:b-plain]\ncmd = sleep 1000\n[watcher:c-high]\ncmd = sleep 1000\npriority = 10\n[watcher:d-off]\ncmd = sleep 1000\nautostart = False\npriority = 5\n[watcher:mark]\ncmd = sleep 1000\nautostart = False\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("a-low", 1);
    let log = daemon.log();
    let started = |log: &str| -> Vec<String> {
        let lines = log.lines().filter_map(|l| l.strip_suffix(" started"));
        lines
            .filter_map(|l| l.split_whitespace().last())
            .map(String::from)
            .collect()
    };
    assert_eq!(started(&log), ["c-high", "b-plain", "a-low"]);
    assert_eq!(status(&daemon, "d-off"), "stopped");

    // All of them stop the other way round and start again in that order.
    let events = Events::of(&site, &daemon);
    daemon.ok("stop", json!({"waiting": true}));
    let kills = |topics: Vec<String>, what: &str| -> Vec<String> {
        let suffix = format!(".{what}");
        let chosen = topics.into_iter().filter(|t| t.ends_with(&suffix));
        chosen.collect()
    };
    assert_eq!(
        kills(events.topics(), "kill"),
        [
            "watcher.a-low.kill",
            "watcher.b-plain.kill",
            "watcher.c-high.kill"
        ]
    );
    daemon.ok("start", json!({"waiting": true}));
    assert_eq!(
        kills(events.topics(), "start"),
        [
            "watcher.c-high.start",
            "watcher.b-plain.start",
            "watcher.a-low.start"
        ]
    );
    assert_eq!(
        status(&daemon, "d-off"),
        "stopped",
        "`start` of all leaves it alone"
    );
    daemon.ok("start", json!({"name": "d-off", "waiting": true}));
    daemon.wait_pids("d-off", 1);
}

#[test]
fn a_singleton_stays_alone() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        site.ini("[watcher:one]\ncmd = sleep 1000\nsingleton = True\n");
        let daemon = site.start(program);
        let pids = daemon.wait_pids("one", 1);
        let reply = order(
            &daemon,
            "incr",
            json!({"name": "one", "nb": 2, "waiting": true}),
        );
        assert_eq!(
            (&reply["singleton"], &reply["numprocesses"]),
            (&json!(true), &json!(1))
        );
        let set = json!({"name": "one", "options": {"numprocesses": 2, "singleton": true}, "waiting": true});
        let reply = daemon.call("set", set);
        assert_eq!(reply["status"], "error", "{program:?}: {reply}");
        assert_eq!(daemon.pids("one"), pids);
    }
}

/// Without respawn nobody comes back, and the watcher stops with its last worker.
#[test]
fn no_respawn() {
    let site = TempSite::new();
    site.ini(&format!(
        "[watcher:once]\ncmd = sleep 1000\nnumprocesses = 2\nrespawn = False\n{MARK}"
    ));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("once", 2);
    let events = Events::of(&site, &daemon);
    ended(pids[0]);
    daemon.wait_for("one to be gone", || {
        (daemon.pids("once") == pids[1..]).then_some(())
    });
    assert_eq!(status(&daemon, "once"), "active");
    ended(pids[1]);
    wait_status(&daemon, "once", "stopped");
    assert_eq!(
        events.topics(),
        [
            "watcher.once.reap",
            "watcher.once.reap",
            "watcher.once.stop"
        ]
    );
    // A start by hand brings them back.
    daemon.ok("start", json!({"name": "once", "waiting": true}));
    daemon.wait_pids("once", 2);
}

/// A start that fails says why, in the log and in `status`, and is tried `max_retry` times.
#[test]
fn failing_starts_say_why_and_count() {
    let site = TempSite::new();
    let plain = site.write("plain.txt", "no program");
    let cases = [
        ("missing", "cmd = /no/such/program x", "No such file"),
        (
            "forbidden",
            &format!("cmd = {}", plain.display()),
            "ermission denied",
        ),
        (
            "nodir",
            "cmd = sleep 1000\nworking_dir = /no/such/dir",
            "/no/such/dir",
        ),
        (
            "nouser",
            "cmd = sleep 1000\nuid = no-such-user",
            "no-such-user",
        ),
        ("quotes", "cmd = sleep 'unclosed", "quot"),
    ];
    let mut body = String::from("[watcher:good]\ncmd = sleep 1000\n");
    for (name, lines, _) in &cases {
        body += &format!("[watcher:{name}]\n{lines}\nmax_retry = 3\n");
    }
    body += "[watcher:forever]\ncmd = /no/such/program\nmax_retry = -1\n";
    site.ini(&body);
    let daemon = site.start(Program::Circ);
    for (name, _, reason) in &cases {
        wait_status(&daemon, name, "stopped");
        let told = trouble(&daemon, name).unwrap_or_default();
        assert!(told.contains(reason), "{name}: {told}");
        let log = daemon.log();
        let head = format!("error in '{name}': ");
        let errors: Vec<&str> = log.lines().filter(|l| l.contains(&head)).collect();
        assert_eq!(errors.len(), 3, "{name} is tried three times: {errors:?}");
        assert!(errors.iter().all(|l| l.contains(reason)), "{errors:?}");
    }
    // Who never gives up is still at it, with pauses, and the others are served.
    daemon.wait_for("six tries", || {
        (daemon.log().matches("error in 'forever'").count() >= 6).then_some(())
    });
    assert_ne!(status(&daemon, "forever"), "stopped");
    daemon.wait_pids("good", 1);
    // A stop ends it.
    daemon.ok("stop", json!({"name": "forever", "waiting": true}));
    assert_eq!(status(&daemon, "forever"), "stopped");
}

#[test]
fn old_workers_are_replaced() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nmax_age = 1\nmax_age_variance = 0\n");
    let daemon = site.start(Program::Circ);
    let old = daemon.wait_pids("web", 1)[0];
    let born = birth(old);
    let new = daemon.wait_for("another worker", || {
        daemon
            .pids("web")
            .into_iter()
            .find(|p| *p != old && is_alive(*p))
    });
    assert!(birth(new) - born >= 98, "not before its time");
}

/// A killed worker comes back by the news of its death, not by the check that is an hour away.
#[test]
fn a_killed_worker_is_replaced_at_once() {
    let site = TempSite::new();
    site.ini(&format!(
        "check_delay = 3600\n[watcher:web]\ncmd = sleep 1000\nnumprocesses = 3\n{MARK}"
    ));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 3);
    let events = Events::of(&site, &daemon);
    ended(pids[1]);
    let now = daemon.wait_for("a replacement", || {
        let now = daemon.pids("web");
        (now.len() == 3 && !now.contains(&pids[1])).then_some(now)
    });
    assert!(now.contains(&pids[0]) && now.contains(&pids[2]));
    let events = events.until_now();
    assert_eq!(events[0].0, "watcher.web.reap");
    assert_eq!(events[0].1["process_pid"], pids[1]);
    assert_eq!(events[0].1["exit_code"], -9);
    assert_eq!(events[1].0, "watcher.web.spawn");
    assert_eq!(events[1].1["process_pid"], now[2]);
}

/// Workers that die young come back ever more slowly; `status` says what is wrong, until it is not.
#[test]
fn a_crash_loop_backs_off() {
    let site = TempSite::new();
    let script = script(
        &site,
        "crash.sh",
        "#!/bin/sh\ndate +%s.%N >>starts\n[ -e fixed ] && exec sleep 1000\nexit 7\n",
    );
    site.ini(&format!(
        "[watcher:crash]\ncmd = {script}\n[watcher:good]\ncmd = sleep 1000\n"
    ));
    let daemon = site.start(Program::Circ);
    let good = daemon.wait_pids("good", 1);
    let starts: Vec<f64> = wait_notes(&site, &daemon, "starts", "", 6)
        .iter()
        .map(|l| l.parse().expect("a time"))
        .collect();
    // Pauses of 0, 0.1, 0.2, 0.4, 0.8 seconds, a fifth less at the least.
    for (at, pause) in [(1, 0.08), (2, 0.16), (3, 0.32), (4, 0.64)] {
        let gap = starts[at + 1] - starts[at];
        assert!(gap >= pause, "pause {at}: {gap} s, {starts:?}");
    }
    let told = daemon.wait_for("trouble", || trouble(&daemon, "crash"));
    assert!(told.contains("exited with code 7"), "{told}");
    assert_eq!(daemon.pids("good"), good);
    assert_eq!(trouble(&daemon, "good"), None);
    // Repaired, and started by hand: nobody waits for the pause to pass.
    site.write("fixed", "");
    daemon.ok("start", json!({"name": "crash", "waiting": true}));
    let pid = daemon.wait_pids("crash", 1)[0];
    daemon.wait_for("sleep", || {
        support::Process::find(pid).filter(|p| p.comm == "sleep")
    });
    assert_eq!(trouble(&daemon, "crash"), None);
}

/// Whatever the new command is, the old workers serve until new ones run.
#[test]
fn a_broken_new_command_leaves_the_old_workers() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    for broken in ["/no/such/program", "/"] {
        let options = json!({"name": "web", "options": {"cmd": broken}, "waiting": true});
        let reply = daemon.call("set", options);
        assert_eq!(daemon.pids("web"), pids, "{broken}: {reply}");
        assert_eq!(reply["status"], "error", "{broken}: {reply}");
        assert_eq!(status(&daemon, "web"), "active");
        let told = trouble(&daemon, "web").unwrap_or_default();
        assert!(!told.is_empty(), "{broken}");
    }
    let options = json!({"name": "web", "options": {"cmd": "sleep 2000"}, "waiting": true});
    daemon.ok("set", options);
    let now = daemon.wait_pids("web", 2);
    assert!(now.iter().all(|p| !pids.contains(p)));
    assert_eq!(trouble(&daemon, "web"), None);
}

#[test]
fn a_restart_of_everything_reads_the_file_again() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n[watcher:gone]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 1);
    daemon.ok("incr", json!({"name": "web", "nb": 4, "waiting": true}));
    site.ini(
        "[watcher:web]\ncmd = sleep 2000\nnumprocesses = 2\n[watcher:new]\ncmd = sleep 1000\n",
    );
    daemon.ok("restart", json!({"waiting": true}));
    let now = daemon.wait_pids("web", 2);
    assert!(!now.contains(&pids[0]));
    let words = support::Process::find(now[0]).expect("it runs").cmdline();
    assert_eq!(words, ["sleep", "2000"]);
    daemon.wait_pids("new", 1);
    assert_eq!(
        daemon.ok("list", json!({}))["watchers"],
        json!(["new", "web"])
    );
}

/// Nobody has to wait for a hundred slow starts in order to stop them.
#[test]
fn a_stop_interrupts_a_slow_start() {
    let site = TempSite::new();
    site.ini("[watcher:slow]\ncmd = sleep 1000\nnumprocesses = 100\nwarmup_delay = 60\nautostart = False\n");
    let daemon = site.start(Program::Circ);
    let driver = daemon.driver();
    let (one, two) = (driver.dealer(&site.endpoint), driver.dealer(&site.endpoint));
    let start =
        json!({"id": "1", "command": "start", "properties": {"name": "slow", "waiting": true}});
    driver.send(one, &[start.to_string().as_bytes()]);
    daemon.wait_pids("slow", 1);
    assert_eq!(status(&daemon, "slow"), "starting");
    let reply = driver.request(two, "stop", json!({"name": "slow", "waiting": true}), 30.0);
    assert_eq!(reply.expect("an answer")["status"], "ok");
    assert_eq!(daemon.pids("slow"), [0; 0]);
    assert_eq!(status(&daemon, "slow"), "stopped");
    let frames = driver.recv(one, 30.0).expect("the start is answered too");
    let reply: Value = serde_json::from_str(frames.last().expect("a frame")).expect("JSON");
    assert_eq!(reply["status"], "error", "{reply}");
    assert!(
        reply["reason"].as_str().is_some_and(|r| r.contains("stop")),
        "{reply}"
    );
}

/// Eight clients order at the same time: each is answered, none is sent away.
#[test]
fn commands_of_several_clients_are_never_refused() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:a]\ncmd = {script} notes TERM:ignore\nnumprocesses = 2\ngraceful_timeout = 0.2\n[watcher:b]\ncmd = sleep 1000\nnumprocesses = 2\n"
    ));
    let daemon = site.start(Program::Circ);
    wait_notes(&site, &daemon, "notes", "ready", 2);
    let driver = daemon.driver();
    let orders = [
        json!({"command": "restart", "properties": {"name": "a", "waiting": true}}),
        json!({"command": "restart", "properties": {"waiting": true, "name": "b"}}),
        json!({"command": "reload", "properties": {"name": "a", "waiting": true}}),
        json!({"command": "incr", "properties": {"name": "a", "nb": 2, "waiting": true}}),
        json!({"command": "decr", "properties": {"name": "a", "waiting": true}}),
        json!({"command": "reload", "properties": {"waiting": true}}),
        json!({"command": "set", "properties": {"name": "b", "options": {"cmd": "sleep 2000"}, "waiting": true}}),
        json!({"command": "incr", "properties": {"name": "b", "waiting": true}}),
    ];
    let clients: Vec<_> = orders
        .iter()
        .map(|_| driver.dealer(&site.endpoint))
        .collect();
    for (client, order) in clients.iter().zip(&orders) {
        let mut order = order.clone();
        order["id"] = json!("x");
        driver.send(*client, &[order.to_string().as_bytes()]);
    }
    for (client, order) in clients.iter().zip(&orders) {
        let frames = driver
            .recv(*client, 40.0)
            .unwrap_or_else(|| panic!("no answer to {order}\n{}", daemon.tail()));
        let reply: Value = serde_json::from_str(frames.last().expect("a frame")).expect("JSON");
        assert_eq!(reply["status"], "ok", "{order}: {reply}");
    }
    daemon.wait_pids("a", 3);
    daemon.wait_pids("b", 3);
    assert!(!noted(&site, "notes").is_empty());
}
