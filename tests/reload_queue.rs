//! Reloads that come while others are not done: they wait for each other, none is lost, and the last word counts.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use circ::wire::{Client, Endpoint};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, deadline, descendants, venv};

#[track_caller]
fn ask(client: &mut Client, command: &str, properties: Value) -> Value {
    let message = json!({"command": command, "properties": properties});
    let reply = client.call_within(message, deadline());
    reply.unwrap_or_else(|why| panic!("{command}: {why}"))
}

/// A question and its answer.
fn ask_file(path: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.is_empty() {
        true => Err(std::io::ErrorKind::UnexpectedEof.into()),
        false => Ok(answer),
    }
}

fn option(daemon: &Daemon, watcher: &str, key: &str) -> Value {
    let get = json!({"name": watcher, "keys": [key]});
    daemon.ok("get", get)["options"][key].clone()
}

/// While a watcher is busy with something, its new options wait. The next reload counts on them, not on those that it still
/// goes by.
#[test]
fn the_next_reload_counts_on_what_the_last_one_has_begun() {
    let site = TempSite::new();
    let script = site.write(
        "stubborn.sh",
        "[ -e block ] && trap '' TERM\ntouch $1\nwhile :; do sleep 0.05; done\n",
    );
    let ini = |word: &str, more: &str| {
        site.ini(&format!(
            "[watcher:slow]\ncmd = sh {} {}\ngraceful_timeout = 1000\nworking_dir = {}\nstop_children = True\n{more}",
            script.display(),
            site.path(word).display(),
            site.dir().display(),
        ))
    };
    let there = |word: &str| site.path(word).exists().then_some(());
    let reload = |daemon: &Daemon| daemon.ok("reloadconfig", json!({}))["changed"].clone();
    let slow = json!(["watcher:slow"]);
    for (second, last, more) in [("one", "one", ""), ("three", "three", "max_retry = 9\n")] {
        for word in ["one", "two", "three"] {
            let _ = fs::remove_file(site.path(word)); // it need not be there
        }
        site.write("block", "");
        ini("one", "");
        let daemon = site.start(Program::Circ);
        let old = daemon.wait_pids("slow", 1)[0];
        daemon.wait_for("the trap", || there("one"));
        daemon.ok("restart", json!({"name": "slow"}));
        daemon.wait_for("it to be stopping", || {
            let status = daemon.call("status", json!({"name": "slow"}));
            (status["status"] == "stopping").then_some(())
        });
        ini("two", "");
        assert_eq!(reload(&daemon), slow);
        // nothing more to do for the same file
        assert_eq!(reload(&daemon), json!([]));
        ini(second, more);
        let plan = daemon.ok("reloadconfig", json!({"check": true}))["plan"].clone();
        assert_eq!(plan[0]["section"], "watcher:slow", "{plan}");
        assert_eq!(reload(&daemon), slow);
        assert_eq!(daemon.pids("slow"), [old]);
        // those that come now go when they are told to
        fs::remove_file(site.path("block")).expect("it is there");
        kill(Pid::from_raw(old), Signal::SIGKILL).expect("it runs");
        let command = format!("sh {} {}", script.display(), site.path(last).display());
        daemon.wait_for("the last word", || {
            let pids = daemon.pids("slow");
            let process = support::Process::find(*pids.first()?)?;
            let status = daemon.call("status", json!({"name": "slow"}))["status"].clone();
            let cmd = option(&daemon, "slow", "cmd");
            let done = pids.len() == 1 && status == "active" && cmd == command;
            (done && process.cmdline().join(" ") == command).then_some(())
        });
        let retries = if more.is_empty() { 5 } else { 9 };
        assert_eq!(option(&daemon, "slow", "max_retry"), retries);
        assert_eq!(reload(&daemon), json!([]));
    }
}

/// A file that cannot be read in the end is given up, nothing has changed, and what waits gets its turn. What the thread
/// finds afterwards comes too late.
#[test]
fn a_reload_that_hangs_is_given_up() {
    let site = TempSite::new();
    let web = "[watcher:web]\ncmd = sleep 1000\n";
    site.ini(web);
    let daemon = site.start_with(Program::Circ, |command| {
        command.env("CIRC_RELOAD_PATIENCE", "0.5");
    });
    let pids = daemon.wait_pids("web", 1);
    let fifo = site.path("more.ini");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("our own directory");
    site.ini(&format!("include = more.ini\n{web}"));
    for command in ["reloadconfig", "restart"] {
        let told = daemon.call(command, json!({"waiting": true}));
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("it was not done after 0.5 s"), "{told}");
        assert_eq!(daemon.pids("web"), pids);
    }
    let (driver, dealer) = (daemon.driver(), daemon.driver().dealer(daemon.endpoint()));
    for id in ["first", "second"] {
        let properties = json!({"waiting": true, "check": id == "second"});
        let message = json!({"id": id, "command": "reloadconfig", "properties": properties});
        driver.send(dealer, &[message.to_string().as_bytes()]);
    }
    for id in ["first", "second"] {
        let frames = driver.recv(dealer, 30.0).expect("a reply");
        let told: Value = serde_json::from_str(frames.last().expect("a frame")).expect("JSON");
        let refused = told["reason"]
            .as_str()
            .is_some_and(|text| text.contains("not done"));
        assert!(told["id"] == id && refused, "{told}");
    }
    site.ini(&format!("{web}[watcher:next]\ncmd = sleep 1000\n"));
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["changed"], json!(["watcher:next"]));
    // those that hang come to an end now
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
        let names = tasks
            .flatten()
            .map(|task| fs::read_to_string(task.path().join("comm")));
        names
            .flatten()
            .filter(|name| name.trim() == "reload")
            .count()
    };
    assert_eq!(threads(), 4);
    let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
    let writer = nix::fcntl::open(&fifo, flags, nix::sys::stat::Mode::empty());
    let writer = writer.expect("somebody reads");
    nix::unistd::write(&writer, b"[watcher:late]\ncmd = sleep 1000\n").expect("somebody reads");
    drop(writer);
    daemon.wait_for("the threads to end", || (threads() == 0).then_some(()));
    assert_eq!(
        daemon.ok("list", json!({}))["watchers"],
        json!(["next", "web"])
    );
    assert_eq!(daemon.pids("web"), pids);
}

/// Several clients reload all the time, one file and then another, while watchers stop slowly, fail, and serve.
#[test]
fn many_reloads_at_once() {
    let site = TempSite::new();
    let socket = site.path("web.sock");
    let (dir, head) = (site.dir().to_path_buf(), site.circus_section());
    let script = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let serve = format!("{} -IS {}", venv().python().display(), script.display());
    let endpoint: Endpoint = site.endpoint.parse().expect("an endpoint");
    let ini = |number: u32| {
        let failing = match number % 3 {
            0 => "[watcher:failing]\ncmd = /no/such/program\nmax_retry = 1\n",
            1 => "[watcher:failing]\ncmd = false\nmax_retry = 1\n",
            _ => "",
        };
        let text = format!(
            "{}[watcher:web]\ncmd = {serve} $(circus.sockets.web) {number}\nuse_sockets = True\nnumprocesses = {}\n\
             [watcher:slow]\ncmd = sh -c 'trap : TERM; while :; do sleep 0.05; done' {number}\n\
             graceful_timeout = 0.2\nstop_children = True\n[watcher:still]\ncmd = sleep 1000\n{failing}\
             [socket:web]\npath = {}\nbacklog = {}\n",
            head,
            1 + number % 2,
            socket.display(),
            100 + number % 2,
        );
        // in one step, as an editor does it
        let next = dir.join(format!("next-{number}"));
        fs::write(&next, text).expect("our own directory");
        fs::rename(next, dir.join("circus.ini")).expect("our own directory");
    };
    ini(0);
    let daemon = site.start(Program::Circ);
    let still = daemon.wait_pids("still", 1);
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // nobody is let down: one socket through all of it
        let asker = scope.spawn(|| {
            let mut refused = 0;
            while !enough.load(Ordering::Relaxed) {
                refused += u32::from(ask_file(&socket).is_err());
            }
            refused
        });
        let reloaders: Vec<_> = (0..3)
            .map(|who: u32| {
                let (endpoint, ini) = (&endpoint, &ini);
                scope.spawn(move || {
                    let connected = Client::connect(endpoint, deadline());
                    let mut client = connected.expect("the daemon listens");
                    for turn in 0..6 {
                        ini(who * 8 + turn + 1);
                        let waiting = turn % 2 == who % 2;
                        let told = ask(&mut client, "reloadconfig", json!({"waiting": waiting}));
                        let fine = told["status"] == "ok" || told["changed"].is_array();
                        assert!(fine, "{told}");
                    }
                })
            })
            .collect();
        let ended: Vec<_> = reloaders.into_iter().map(|one| one.join()).collect();
        enough.store(true, Ordering::Relaxed);
        assert_eq!(asker.join().expect("an asker"), 0);
        assert!(ended.iter().all(Result::is_ok));
    });
    ini(101);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let web = daemon.wait_pids("web", 2);
    let answer = ask_file(&socket).expect("an answer");
    assert!(answer.ends_with(" 101"), "{answer} {}", daemon.tail());
    assert_eq!(daemon.pids("still"), still);
    let slow = daemon.wait_pids("slow", 1);
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["changed"], json!([]));
    // no worker of before is left
    daemon.wait_for("the others to be gone", || {
        let below = descendants(daemon.pid());
        let workers = below.iter().filter(|process| {
            let words = process.cmdline().join(" ");
            !words.is_empty() && !slow.contains(&process.pid) && words != "sleep 0.05"
        });
        let mut pids: Vec<i32> = workers.map(|process| process.pid).collect();
        pids.sort_unstable();
        let mut own = [web.clone(), still.clone()].concat();
        own.sort_unstable();
        (pids == own).then_some(())
    });
}
