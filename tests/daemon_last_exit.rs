//! How workers ended and what they said last, for whoever asks why.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{Daemon, Program, TempSite, is_alive};

fn last_exit(daemon: &Daemon, watcher: &str) -> Value {
    daemon.call("status", json!({"name": watcher}))["last_exit"].clone()
}

/// Waits until a worker has said these lines last.
#[track_caller]
fn wait_said(daemon: &Daemon, watcher: &str, lines: &[&str]) -> Value {
    daemon.wait_for(&format!("{watcher} to have said {lines:?}"), || {
        let last = last_exit(daemon, watcher);
        (last["stderr"] == json!(lines)).then_some(last)
    })
}

fn script(site: &TempSite, name: &str, body: &str) -> String {
    let path = site.write(name, format!("#!/bin/sh\n{body}\n"));
    format!("/bin/sh {}", path.display())
}

/// Where the standard error of a process leads.
fn stderr_of(pid: i32) -> String {
    let end = fs::read_link(format!("/proc/{pid}/fd/2"));
    end.map_or(String::new(), |end| end.to_string_lossy().into_owned())
}

fn threads(daemon: &Daemon) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()));
    let names = tasks.into_iter().flatten().flatten();
    names
        .filter(|task| {
            let name = fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("streams"))
        })
        .count()
}

fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count)
}

/// A worker that dies at once is heard, with its code, its file gets every line, and who runs well without a stream has no
/// pipe.
#[test]
fn a_worker_that_dies_says_why() {
    let site = TempSite::new();
    let crash = script(
        &site,
        "crash.sh",
        "echo starting; echo bad \\\\377 thing >&2; printf 'the end' >&2; exit 3",
    );
    let killed = script(&site, "killed.sh", "echo ouch >&2; kill -9 $$");
    let said = site.path("said");
    site.ini(&format!(
        "[watcher:crash]\ncmd = {crash}\n[watcher:killed]\ncmd = {killed}\nstderr_stream.class = FileStream\n\
         stderr_stream.filename = {}\n[watcher:silent]\ncmd = {crash}\nclose_child_stderr = True\n\
         [watcher:good]\ncmd = sleep 1000\n",
        said.display()
    ));
    let daemon = site.start(Program::Circ);
    let good = daemon.wait_pids("good", 1)[0];
    assert_eq!(stderr_of(good), stderr_of(daemon.pid()));
    assert_eq!(last_exit(&daemon, "good"), Value::Null);
    let last = wait_said(&daemon, "crash", &["bad \u{fffd} thing", "the end"]);
    assert_eq!((&last["code"], &last["signal"]), (&json!(3), &Value::Null));
    assert!(last["pid"].as_i64().is_some_and(|pid| pid > 1), "{last}");
    assert!(
        last["lived"].as_f64().is_some_and(|lived| lived < 10.0),
        "{last}"
    );
    assert!(
        last["time"].as_f64().is_some_and(|time| time > 1e9),
        "{last}"
    );
    let last = wait_said(&daemon, "killed", &["ouch"]);
    assert_eq!((&last["code"], &last["signal"]), (&Value::Null, &json!(9)));
    // Every line arrives where it belongs, as often as it was said.
    daemon.wait_for("the lines in the file", || {
        let text = fs::read_to_string(&said).ok()?;
        assert_eq!(text.replace("ouch\n", ""), "");
        (text.lines().count() >= 3).then_some(())
    });
    daemon.wait_for("the lines in the log", || {
        let log = daemon.log();
        (log.matches("starting").count() >= 2 && log.matches("the end").count() >= 2).then_some(())
    });
    let silent = daemon.wait_for("an exit", || {
        Some(last_exit(&daemon, "silent")).filter(Value::is_object)
    });
    assert_eq!(
        (&silent["code"], &silent["stderr"]),
        (&json!(3), &json!([]))
    );
    assert_eq!(daemon.pids("good"), [good]);
    // What it says is cut: the last lines, and not too much of one.
    let talk = script(&site, "talk.sh", "seq 1 1000 >&2; exit 1");
    let set = |cmd: &str| daemon.call("set", json!({"name": "crash", "options": {"cmd": cmd}}));
    set(&talk);
    daemon.ok("restart", json!({"name": "crash"}));
    let lines: Vec<String> = (981..=1000).map(|n| n.to_string()).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    wait_said(&daemon, "crash", &lines);
    for name in ["crash", "killed", "silent"] {
        daemon.ok("stop", json!({"name": name, "waiting": true}));
    }
    // It stands for whoever asks later, and nothing else of it is left.
    assert_eq!(last_exit(&daemon, "crash")["code"], 1);
    assert_eq!(threads(&daemon), 1);
}

/// What fails before there is a program is told alike.
#[test]
fn a_worker_that_cannot_be_started_says_why() {
    let site = TempSite::new();
    let file = site.write("file", "not executable");
    site.ini(&format!(
        "[watcher:program]\ncmd = /no/such/program\n[watcher:permission]\ncmd = {}\n\
         [watcher:directory]\ncmd = sleep 1000\nworking_dir = /no/such/directory\n",
        file.display()
    ));
    let daemon = site.start(Program::Circ);
    for (name, why) in [
        ("program", "/no/such/program: No such file"),
        ("permission", "Permission denied"),
        ("directory", "/no/such/directory"),
    ] {
        let last = daemon.wait_for(name, || {
            Some(last_exit(&daemon, name)).filter(Value::is_object)
        });
        assert!(
            last["reason"].as_str().is_some_and(|r| r.contains(why)),
            "{last}"
        );
        for key in ["pid", "code", "signal"] {
            assert_eq!(last[key], Value::Null, "{last}");
        }
        assert_eq!(last["stderr"], json!([]));
    }
    // A user that there is not.
    let add = json!({"name": "user", "cmd": "sleep 1", "options": {"uid": "no-such-user"}, "start": true});
    daemon.ok("add", add);
    let last = daemon.wait_for("user", || {
        Some(last_exit(&daemon, "user")).filter(Value::is_object)
    });
    assert!(
        last["reason"]
            .as_str()
            .is_some_and(|r| r.contains("no-such-user")),
        "{last}"
    );
}

/// Without respawn the first worker is the only one, and is heard.
#[test]
fn a_worker_that_runs_once() {
    let site = TempSite::new();
    let once = script(&site, "once.sh", "echo done with it >&2; exit 4");
    site.ini(&format!("[watcher:once]\ncmd = {once}\nrespawn = False\n"));
    let daemon = site.start(Program::Circ);
    let last = wait_said(&daemon, "once", &["done with it"]);
    assert_eq!(last["code"], 4);
    assert_eq!(
        daemon.call("status", json!({"name": "once"}))["status"],
        "stopped"
    );
}

/// Those that are stopped, killed or replaced by command are not lost.
#[test]
fn who_was_told_to_go_is_not_told_of() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    for (command, more) in [
        ("decr", json!({})),
        ("incr", json!({})),
        ("kill", json!({})),
        ("reload", json!({})),
        ("restart", json!({})),
        ("stop", json!({})),
        ("start", json!({})),
    ] {
        let mut properties = more;
        properties["name"] = json!("web");
        properties["waiting"] = json!(true);
        daemon.ok(command, properties);
    }
    daemon.wait_pids("web", 2);
    assert_eq!(last_exit(&daemon, "web"), Value::Null);
}

/// One that stays after all keeps its pipe, what it says goes on, and its end is heard; when the daemon ends in order, its
/// last line arrives as well.
#[test]
fn one_that_stays_after_all() {
    let site = TempSite::new();
    let said = site.path("said");
    let body = "[ -e again ] || { touch again; exit 1; }\n\
                trap 'echo bye >&2; exit 0' TERM\necho here >&2\nwhile :; do sleep 0.05; done";
    let late = script(&site, "late.sh", body);
    site.ini(&format!(
        "[watcher:late]\ncmd = {late}\nworking_dir = {}\nstderr_stream.class = FileStream\nstderr_stream.filename = {}\n",
        site.dir().display(),
        said.display()
    ));
    let daemon = site.start(Program::Circ);
    let text = || fs::read_to_string(&said).unwrap_or_default();
    daemon.wait_for("its line", || (text() == "here\n").then_some(()));
    let pid = daemon.wait_pids("late", 1)[0];
    assert!(stderr_of(pid).starts_with("pipe:"), "{}", stderr_of(pid));
    assert_eq!(threads(&daemon), 1);
    let last = last_exit(&daemon, "late");
    assert_eq!((&last["code"], &last["stderr"]), (&json!(1), &json!([])));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert_eq!(text(), "here\nbye\n");
    assert!(!is_alive(pid));
}

/// A destination that takes nothing holds the worker that writes there, and neither the daemon nor anybody else.
#[test]
fn a_destination_that_is_stuck() {
    let site = TempSite::new();
    let pipe = site.path("stuck");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a pipe");
    // Somebody has it open, and never reads.
    let held = fs::OpenOptions::new().read(true).write(true).open(&pipe);
    let held = held.expect("our own pipe");
    let flood = script(
        &site,
        "flood.sh",
        "[ -e again ] || { touch again; exit 1; }\nyes >&2; exit 5",
    );
    let crash = script(&site, "crash.sh", "echo no >&2; exit 3");
    site.ini(&format!(
        "[watcher:flood]\ncmd = {flood}\nworking_dir = {}\ngraceful_timeout = 0.5\nstderr_stream.class = FileStream\n\
         stderr_stream.filename = {}\n[watcher:crash]\ncmd = {crash}\n",
        site.dir().display(),
        pipe.display()
    ));
    let daemon = site.start(Program::Circ);
    wait_said(&daemon, "crash", &["no"]);
    daemon.wait_for("the flood to be listened to", || {
        (threads(&daemon) >= 1).then_some(())
    });
    daemon.wait_for("the flood to stand", || {
        let pid = *daemon.pids("flood").first()?;
        stderr_of(pid).starts_with("pipe:").then_some(())
    });
    daemon.ok("stop", json!({"name": "flood", "waiting": true}));
    daemon.ok("start", json!({"name": "flood", "waiting": true}));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    drop(held);
}

/// Of many that fail alike a few are listened to, what one of them said stands for all, and only those few keep a pipe.
#[test]
fn of_many_that_fail_a_few_are_listened_to() {
    let site = TempSite::new();
    let cmd = script(
        &site,
        "many.sh",
        "[ -e fine ] && exec sleep 1000; echo no >&2; exit 3",
    );
    site.ini(&format!(
        "[watcher:many]\ncmd = {cmd}\nnumprocesses = 12\nworking_dir = {}\n",
        site.dir().display()
    ));
    let daemon = site.start(Program::Circ);
    wait_said(&daemon, "many", &["no"]);
    site.write("fine", "");
    let pids = daemon.wait_for("all to stay", || {
        let pids = daemon.pids("many");
        let stays = |pid: &&i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name == "sleep\n")
        };
        (pids.iter().filter(stays).count() == 12).then_some(pids)
    });
    let heard = pids
        .iter()
        .filter(|pid| stderr_of(**pid).starts_with("pipe:"));
    let heard = heard.count();
    assert!(heard <= 4, "{heard} are listened to");
    let last = last_exit(&daemon, "many");
    assert_eq!(
        (&last["code"], &last["stderr"]),
        (&json!(3), &json!(["no"]))
    );
}

/// Who runs well and is killed by somebody else has no reason to give: nobody listens to the next ones, however often it
/// happens.
#[test]
fn who_is_killed_by_others_costs_no_descriptor() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 10\n");
    let daemon = site.start(Program::Circ);
    let mut pids = daemon.wait_pids("web", 10);
    let before = descriptors(&daemon);
    for _ in 0..2 {
        daemon.wait_for("them to be no failures", || {
            let told = daemon.call("status", json!({"name": "web", "details": true}));
            let workers = told["workers"].as_array().cloned().unwrap_or_default();
            let ages = workers.iter().filter_map(|worker| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Some(now.ok()?.as_secs_f64() - worker["started"].as_f64()?)
            });
            (ages.filter(|age| *age > 1.2).count() == 10).then_some(())
        });
        for pid in &pids {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(*pid),
                nix::sys::signal::Signal::SIGKILL,
            )
            .expect("a worker of our own");
        }
        pids = daemon.wait_for("ten others", || {
            let now = daemon.pids("web");
            let new = now.len() == 10 && now.iter().all(|pid| !pids.contains(pid));
            new.then_some(now)
        });
        assert_eq!(last_exit(&daemon, "web")["signal"], 9);
    }
    for pid in &pids {
        assert_eq!(stderr_of(*pid), stderr_of(daemon.pid()));
    }
    daemon.wait_for("no more descriptors than before", || {
        (descriptors(&daemon) <= before).then_some(())
    });
}

/// Hundreds of short lives leave no descriptor and no thread.
#[test]
fn many_short_lives_leave_nothing() {
    let site = TempSite::new();
    let crash = script(&site, "crash.sh", "echo no >&2; exit 3");
    site.ini(&format!(
        "[watcher:crash]\ncmd = {crash}\nnumprocesses = 8\nautostart = False\n"
    ));
    let daemon = site.start(Program::Circ);
    let (mut before, mut highest) = (0, 0);
    for round in 0..10 {
        daemon.ok("start", json!({"name": "crash"}));
        let last = wait_said(&daemon, "crash", &["no"]);
        let old = last["pid"].clone();
        daemon.ok("start", json!({"name": "crash"}));
        daemon.wait_for("another one to die", || {
            (last_exit(&daemon, "crash")["pid"] != old).then_some(())
        });
        highest = highest.max(threads(&daemon));
        daemon.ok("stop", json!({"name": "crash", "waiting": true}));
        if round == 0 {
            // what is kept for the daemon's whole life is there now
            before = descriptors(&daemon);
        }
    }
    assert!(highest <= 2, "{highest} threads");
    daemon.wait_for("no more descriptors than before", || {
        (descriptors(&daemon) <= before).then_some(())
    });
}
