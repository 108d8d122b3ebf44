//! What changes while the daemon runs: options that are set, watchers that are added and removed, and a file that is
//! not what it was.

mod support;

#[path = "daemon_lifecycle/notes.rs"]
mod notes;
#[path = "daemon_options/seen.rs"]
mod seen;

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use notes::{Events, notes as noted, order, status, traps, wait_notes, wait_status};
use seen::{Seen, look};
use serde_json::{Value, json};
use support::{Daemon, Process, Program, TempSite, descendants, is_alive};

const MARK: &str = "[watcher:mark]\ncmd = sleep 1000\nautostart = False\n";

/// Waits for the report of this very process.
#[track_caller]
fn report_of(site: &TempSite, daemon: &Daemon, label: &str, pid: i32) -> Seen {
    daemon.wait_for(&format!("the report of {pid}"), || {
        site.path("seen")
            .join(format!("{label}.{pid}"))
            .exists()
            .then_some(())
    });
    let mut all = seen::all_seen(site, daemon, label, 1).into_iter();
    all.find(|s| s.pid == pid).expect("it is there")
}

/// Every option that can be set reaches the workers that come after; those that need no new workers spare the old.
#[test]
fn set_reaches_the_workers() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        let look = look(&site);
        site.ini(&format!("[watcher:web]\ncmd = {look} web first\n"));
        let daemon = site.start(program);
        let pid = std::cell::Cell::new(daemon.wait_pids("web", 1)[0]);
        assert_eq!(
            report_of(&site, &daemon, "web", pid.get()).args(),
            ["first"]
        );
        let set = |options: Value, renews: bool| -> Option<Seen> {
            order(
                &daemon,
                "set",
                json!({"name": "web", "options": options, "waiting": true}),
            );
            if !renews {
                assert_eq!(
                    daemon.wait_pids("web", 1),
                    [pid.get()],
                    "{program:?} {options}"
                );
                return None;
            }
            pid.set(daemon.wait_for("the new worker alone", || {
                let now = daemon.pids("web");
                (now.len() == 1 && now[0] != pid.get()).then(|| now[0])
            }));
            Some(report_of(&site, &daemon, "web", pid.get()))
        };
        let new = set(json!({"args": "second 'and third'"}), true).expect("a report");
        assert_eq!(new.args(), ["first", "second", "and third"]);
        let new = set(json!({"env": {"A": "1", "B": "two"}}), true).expect("a report");
        assert_eq!((new.env("A"), new.env("B")), (Some("1"), Some("two")));
        let there = fs::canonicalize(site.path("seen")).expect("a directory");
        let new = set(json!({"working_dir": there}), true).expect("a report");
        assert_eq!(new.line("cwd"), there.to_string_lossy());
        assert_eq!(new.args(), ["first", "second", "and third"]);
        let new = set(
            json!({"cmd": format!("{look} web other"), "args": ""}),
            true,
        );
        assert_eq!(new.expect("a report").args(), ["other"]);
        order(
            &daemon,
            "set",
            json!({"name": "web", "options": {"shell": true, "cmd": format!("{look} shell $X")}, "waiting": true}),
        );
        assert_eq!(seen::seen(&site, &daemon, "shell").args(), ["$X"]);
        order(
            &daemon,
            "set",
            json!({"name": "web", "options": {"shell": false, "cmd": format!("{look} web other")}, "waiting": true}),
        );
        pid.set(daemon.wait_pids("web", 1)[0]);
        for live in [
            json!({"graceful_timeout": 2}),
            json!({"stop_signal": 3}),
            json!({"warmup_delay": 0}),
            json!({"max_retry": 3}),
            json!({"respawn": true}),
        ] {
            set(live, false);
        }
        if program == Program::Circ {
            // circusd takes these two and forgets them.
            let new = set(json!({"rlimit_nofile": 222}), true).expect("a report");
            assert_eq!(new.limit("Max open files"), ("222", "222"));
            let new = set(json!({"close_child_stdout": true}), true).expect("a report");
            assert_eq!(new.end(1), "/dev/null");
        }
        order(
            &daemon,
            "set",
            json!({"name": "web", "options": {"numprocesses": 3}, "waiting": true}),
        );
        let three = daemon.wait_pids("web", 3);
        assert!(three.contains(&pid.get()));
        order(
            &daemon,
            "set",
            json!({"name": "web", "options": {"numprocesses": 1}, "waiting": true}),
        );
        daemon.wait_pids("web", 1);
    }
}

/// A watcher from the wire is what one from the file is.
#[test]
fn an_added_watcher() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        let look = look(&site);
        site.ini(MARK);
        let daemon = site.start_with(program, |c| {
            c.env("OUTSIDE", "from outside");
        });
        let there = fs::canonicalize(site.path("seen")).expect("a directory");
        let options = json!({
            "numprocesses": 2, "working_dir": there, "copy_env": true, "env": {"OWN": "1"},
            "stop_signal": 2, "graceful_timeout": 3, "close_child_stdout": true,
        });
        let add = json!({"name": "Added", "cmd": format!("{look} added"), "args": ["$(circus.wid)", "a b"],
            "options": options, "start": true, "waiting": true});
        order(&daemon, "add", add.clone());
        let again = daemon.call("add", add);
        assert_eq!(again["status"], "error", "{program:?}: {again}");
        let mut wids = Vec::new();
        for pid in daemon.wait_pids("added", 2) {
            let seen = report_of(&site, &daemon, "added", pid);
            wids.push(seen.args()[0].to_string());
            assert_eq!(seen.args()[1], "a b");
            assert_eq!(seen.line("cwd"), there.to_string_lossy());
            assert_eq!(seen.env("OUTSIDE"), Some("from outside"));
            assert_eq!(seen.env("OWN"), Some("1"));
            assert_eq!(seen.end(1), "/dev/null");
        }
        wids.sort();
        assert_eq!(wids, ["1", "2"]);
        let pids = daemon.pids("ADDED");
        order(&daemon, "rm", json!({"name": "added", "waiting": true}));
        assert!(pids.iter().all(|p| !is_alive(*p)));
        assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["mark"]));
        // Its name is free again; without `start` nothing runs.
        order(
            &daemon,
            "add",
            json!({"name": "added", "cmd": "sleep 1000", "waiting": true}),
        );
        assert_eq!(status(&daemon, "added"), "stopped");
    }
}

/// The numbers of workers: the lowest that is free, and never one that another worker of the watcher still has.
#[test]
fn worker_numbers() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        let look = look(&site);
        site.ini(&format!(
            "check_delay = 0.2\n[watcher:web]\ncmd = {look} web $(circus.wid)\nnumprocesses = 3\n"
        ));
        let daemon = site.start(program);
        let numbers = |count: usize| -> Vec<(u32, i32)> {
            let pids = daemon.wait_pids("web", count).into_iter();
            let mut all: Vec<(u32, i32)> = pids
                .map(|pid| {
                    let seen = report_of(&site, &daemon, "web", pid);
                    (seen.args()[0].parse().expect("a number"), pid)
                })
                .collect();
            all.sort_unstable();
            all
        };
        let only = |all: &[(u32, i32)]| -> Vec<u32> { all.iter().map(|(wid, _)| *wid).collect() };
        let first = numbers(3);
        assert_eq!(only(&first), [1, 2, 3], "{program:?}");
        let killed = first[1].1;
        kill(Pid::from_raw(killed), Signal::SIGKILL).expect("it runs");
        daemon.wait_for("its successor", || {
            let now = daemon.pids("web");
            (now.len() == 3 && !now.contains(&killed)).then_some(())
        });
        let second = numbers(3);
        assert_eq!(only(&second), [1, 2, 3], "{program:?}");
        assert_eq!((second[0], second[2]), (first[0], first[2]));
        order(&daemon, "incr", json!({"name": "web", "waiting": true}));
        assert_eq!(only(&numbers(4)), [1, 2, 3, 4], "{program:?}");
        for wids in [[5, 6, 7, 8], [1, 2, 3, 4]] {
            order(&daemon, "reload", json!({"name": "web", "waiting": true}));
            assert_eq!(only(&numbers(4)), wids, "{program:?}");
        }
    }
}

/// `rm` with `nostop` lets the workers go on; the daemon still sees to it that their end leaves no zombie.
#[test]
fn released_workers_go_on() {
    let site = TempSite::new();
    site.ini(&format!(
        "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n{MARK}"
    ));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let events = Events::of(&site, &daemon);
    daemon.ok(
        "rm",
        json!({"name": "web", "nostop": true, "waiting": true}),
    );
    assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["mark"]));
    assert!(pids.iter().all(|p| is_alive(*p)));
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL).expect("it runs");
    daemon.wait_for("no trace of the one that ended", || {
        Process::find(pids[0]).is_none().then_some(())
    });
    assert!(
        !events
            .topics()
            .iter()
            .any(|t| t.ends_with(".reap") || t.ends_with(".spawn"))
    );
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert!(is_alive(pids[1]), "it outlives the daemon");
}

/// What was stopped by hand is not started by a file that changed; the next start by hand uses what is new in it.
#[test]
fn a_changed_file_starts_nothing_that_was_stopped() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    site.ini(
        "[watcher:web]\ncmd = sleep 2000\nnumprocesses = 2\n[watcher:other]\ncmd = sleep 2000\n",
    );
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let other = daemon.wait_pids("other", 1)[0];
    assert_eq!(
        Process::find(other).expect("it runs").cmdline(),
        ["sleep", "2000"]
    );
    assert_eq!(status(&daemon, "web"), "stopped");
    assert_eq!(daemon.pids("web"), [0; 0]);
    daemon.ok("start", json!({"name": "web", "waiting": true}));
    let web = daemon.wait_pids("web", 2)[0];
    assert_eq!(
        Process::find(web).expect("it runs").cmdline(),
        ["sleep", "2000"]
    );
}

/// Options that need no new workers are taken over without; environments do need them.
#[test]
fn a_changed_file_replaces_only_whom_it_must() {
    let site = TempSite::new();
    let look = look(&site);
    let body = |timeout: u32, env: &str| {
        format!(
            "[watcher:live]\ncmd = sleep 1000\ngraceful_timeout = {timeout}\nstop_signal = INT\n[watcher:env]\ncmd = {look} env\n[watcher:apart]\ncmd = sleep 1000\n[env:env]\nA = {env}\n"
        )
    };
    site.ini(&body(3, "old"));
    let daemon = site.start(Program::Circ);
    let live = daemon.wait_pids("live", 1);
    let apart = daemon.wait_pids("apart", 1);
    let old = daemon.wait_pids("env", 1)[0];
    assert_eq!(report_of(&site, &daemon, "env", old).env("A"), Some("old"));
    site.ini(&body(4, "new"));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(daemon.pids("live"), live);
    assert_eq!(daemon.pids("apart"), apart);
    let get = json!({"name": "live", "keys": ["graceful_timeout"]});
    assert_eq!(daemon.ok("get", get)["options"]["graceful_timeout"], 4.0);
    let new = daemon.wait_for("a worker with the new environment", || {
        daemon.pids("env").into_iter().find(|p| *p != old)
    });
    assert_eq!(report_of(&site, &daemon, "env", new).env("A"), Some("new"));
}

/// A worker that a debugger or a job-control signal has stopped ends with its watcher all the same.
#[test]
fn a_suspended_worker_ends_too() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\ngraceful_timeout = 0.5\n");
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("web", 1)[0];
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it runs");
    daemon.wait_for("the worker to be suspended", || {
        Process::find(pid).filter(|p| p.state == 'T')
    });
    assert_eq!(daemon.pids("web"), [pid], "suspended is not gone");
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    assert!(!is_alive(pid));
}

/// A start that hangs in the kernel (here: a log that is a pipe nobody reads) holds neither the others nor the end.
#[test]
fn a_hanging_start_holds_nobody() {
    let site = TempSite::new();
    let pipe = site.path("pipe");
    nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o600)).expect("a pipe in the site");
    site.ini(&format!(
        "[watcher:good]\ncmd = sleep 1000\n[watcher:hangs]\ncmd = sleep 1000\nstdout_stream.class = FileStream\nstdout_stream.filename = {}\n",
        pipe.display()
    ));
    let daemon = site.start(Program::Circ);
    let good = daemon.wait_pids("good", 1)[0];
    kill(Pid::from_raw(good), Signal::SIGKILL).expect("it runs");
    assert_eq!(daemon.ok("list", json!({"name": "good"}))["status"], "ok");
    // It can be stopped, and started again to hang again, and the daemon ends in spite of it.
    daemon.ok("stop", json!({"name": "hangs", "waiting": true}));
    assert_eq!(status(&daemon, "hangs"), "stopped");
    daemon.ok("start", json!({"name": "hangs"}));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

/// Events of one life, in their order, as programs that listen know them from circusd.
#[test]
fn events_of_a_life() {
    let mut told: Vec<Vec<String>> = Vec::new();
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        let script = traps(&site);
        site.ini(&format!(
            "[watcher:My Web]\ncmd = {script} notes TERM:leave\n{MARK}"
        ));
        let daemon = site.start(program);
        wait_notes(&site, &daemon, "notes", "ready", 1);
        wait_status(&daemon, "my web", "active");
        let events = Events::of(&site, &daemon);
        for (command, more) in [
            ("stop", json!({})),
            ("start", json!({})),
            ("incr", json!({})),
            ("decr", json!({})),
            ("restart", json!({})),
            ("set", json!({"options": {"numprocesses": 1}})),
            ("rm", json!({})),
        ] {
            let mut properties = more.clone();
            properties["name"] = json!("my web");
            properties["waiting"] = json!(true);
            order(&daemon, command, properties);
        }
        told.push(events.topics());
        assert!(!noted(&site, "notes").is_empty());
    }
    assert_eq!(told[0], told[1], "circ on the left, circusd on the right");
    assert!(
        told[0].contains(&"watcher.my_web.reap".to_string()),
        "{told:?}"
    );
}

/// Nothing of a daemon's own is left after many lives of its workers: no descriptor, no zombie, no child.
#[test]
fn nothing_is_left_over() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 4\n[socket:s]\nhost = 127.0.0.1\nport = 0\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 4);
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count);
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    let before = open();
    for _ in 0..5 {
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
        daemon.ok("reload", json!({"name": "web", "waiting": true}));
        daemon.ok("reloadconfig", json!({"waiting": true}));
    }
    let pids = daemon.wait_pids("web", 4);
    daemon.wait_for("only the workers to be there", || {
        let mut left: Vec<i32> = descendants(daemon.pid()).iter().map(|p| p.pid).collect();
        left.sort_unstable();
        let mut wanted = pids.clone();
        wanted.sort_unstable();
        (left == wanted).then_some(())
    });
    daemon.wait_for("no more descriptors than before", || {
        (open() <= before).then_some(())
    });
}
