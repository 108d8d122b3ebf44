//! The daemon as a process: signals, the background, its pid file, its log, its names, its endpoints, and how it
//! reads its configuration again.

mod support;

#[path = "daemon_lifecycle/notes.rs"]
mod notes;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use notes::{notes as noted, traps, wait_notes};
use serde_json::{Value, json};
use support::{Daemon, Process, Program, TempSite, descendants, is_alive, skip, wait_for};

fn circ(site: &TempSite) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end; its output goes to files, for what it starts may keep a pipe open.
#[track_caller]
fn run(site: &TempSite, command: &mut Command) -> Output {
    let [out, err] = ["out", "err"].map(|n| fs::File::create(site.path(n)).expect("our own file"));
    let status = command
        .stdout(out)
        .stderr(err)
        .status()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let read = |name: &str| fs::read(site.path(name)).expect("our own file");
    Output {
        status,
        stdout: read("out"),
        stderr: read("err"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pid_in(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The signals that end a daemon end its workers first, with their own stop signal, and leave nothing behind.
#[test]
fn the_signals_that_end_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let site = TempSite::ipc();
        let script = traps(&site);
        site.ini(&format!(
            "pidfile = daemon.pid\n[watcher:web]\ncmd = {script} notes TERM:leave\nnumprocesses = 2\n[socket:s]\npath = s.sock\n"
        ));
        let daemon = site.start(Program::Circ);
        let pids = daemon.wait_pids("web", 2);
        wait_notes(&site, &daemon, "notes", "ready", 2);
        assert_eq!(pid_in(&site.path("daemon.pid")), Some(daemon.pid()));
        // A command line beside it that waits for a signal as well must not be hit: workers have their own group.
        daemon.signal(signal);
        let status = daemon.wait_exit();
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
        let got = noted(&site, "notes");
        let got = got.iter().filter(|l| l.starts_with("got TERM")).count();
        assert_eq!(got, 2, "{signal}");
        assert!(pids.iter().all(|p| !is_alive(*p)));
        for left in ["daemon.pid", "s.sock", "control", "events"] {
            assert!(!site.path(left).exists(), "{signal}: {left} was left");
        }
    }
}

/// A slow end is neither hurried nor lost when the signal comes again, and clients hear that it is the end.
#[test]
fn a_second_signal_changes_nothing() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:slow]\ncmd = {script} notes TERM:ignore\ngraceful_timeout = 1\n"
    ));
    let daemon = site.start(Program::Circ);
    wait_notes(&site, &daemon, "notes", "ready", 1);
    let pid = daemon.wait_pids("slow", 1)[0];
    daemon.signal(Signal::SIGTERM);
    wait_notes(&site, &daemon, "notes", "got TERM", 1);
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGHUP);
    let reply = daemon.call("start", json!({"name": "slow"}));
    assert_eq!(reply["status"], "error", "{reply}");
    assert_eq!(daemon.call("list", json!({}))["status"], "ok");
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert!(!is_alive(pid));
    assert_eq!(noted(&site, "notes").len(), 2, "asked once");
}

const BEFORE: &str = "
[watcher:same]
cmd = sleep 1000
numprocesses = 2
[watcher:gone]
cmd = sleep 1000
[watcher:changed]
cmd = sleep 1000
[watcher:more]
cmd = sleep 1000
numprocesses = 2
[watcher:fewer]
cmd = sleep 1000
numprocesses = 3
[watcher:byhand]
cmd = sleep 1000
";

const AFTER: &str = "
# A comment and another order change nothing.
[watcher:byhand]
cmd = sleep 1000
[watcher:more]
numprocesses = 4
cmd = sleep 1000
[watcher:same]
cmd = sleep 1000
numprocesses = 2
[watcher:fewer]
cmd = sleep 1000
numprocesses = 1
[watcher:changed]
cmd = sleep 2000
[watcher:new]
cmd = sleep 1000
[watcher:later]
cmd = sleep 1000
autostart = False
";

/// SIGHUP and `reloadconfig` touch what has changed in the file and nothing else.
#[test]
fn the_configuration_read_again() {
    for by_signal in [true, false] {
        let site = TempSite::new();
        site.ini(BEFORE);
        let daemon = site.start(Program::Circ);
        let same = daemon.wait_pids("same", 2);
        let gone = daemon.wait_pids("gone", 1);
        let changed = daemon.wait_pids("changed", 1);
        let more = daemon.wait_pids("more", 2);
        let fewer = daemon.wait_pids("fewer", 3);
        daemon.ok("incr", json!({"name": "byhand", "waiting": true}));
        let byhand = daemon.wait_pids("byhand", 2);

        site.ini(AFTER);
        if by_signal {
            daemon.signal(Signal::SIGHUP);
        } else {
            daemon.ok("reloadconfig", json!({"waiting": true}));
        }
        let now = daemon.wait_pids("more", 4);
        assert!(more.iter().all(|p| now.contains(p)), "{more:?} {now:?}");
        daemon.wait_pids("new", 1);
        let now = daemon.wait_pids("fewer", 1);
        assert!(fewer.contains(&now[0]));
        let now = daemon.wait_for("the changed worker", || {
            let now = daemon.pids("changed");
            (now.len() == 1 && now != changed).then(|| now[0])
        });
        let words = Process::find(now).expect("it runs").cmdline();
        assert_eq!(words, ["sleep", "2000"]);
        daemon.wait_for("the one that went to be gone", || {
            (!is_alive(gone[0])).then_some(())
        });
        let names = json!(["byhand", "changed", "fewer", "later", "more", "new", "same"]);
        assert_eq!(daemon.ok("list", json!({}))["watchers"], names);
        assert_eq!(daemon.pids("same"), same);
        assert_eq!(daemon.pids("byhand"), byhand, "a number set by hand stays");
        assert_eq!(daemon.pids("later"), [0; 0]);
        // Once more with the same file: nothing at all happens.
        let all = |daemon: &Daemon| {
            let names = ["byhand", "changed", "fewer", "more", "new", "same"];
            names.map(|n| daemon.pids(n))
        };
        let before = all(&daemon);
        daemon.ok("reloadconfig", json!({"waiting": true}));
        assert_eq!(all(&daemon), before);
    }
}

/// A file with a mistake is refused as a whole, and the answer says where the mistake is.
#[test]
fn a_broken_file_changes_nothing() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n[socket:s]\nhost = 127.0.0.1\nport = 0\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let sockets = daemon.ok("listsockets", json!({}))["sockets"].clone();
    let head = site.circus_section().lines().count();
    let broken = [
        (
            "[watcher:new]\ncmd = sleep 1\n[watcher:web]\ncmd = sleep 2\nnumprocesses = many\n",
            5,
            "numprocesses",
        ),
        (
            "[watcher:new]\ncmd = sleep 1\nthis is no line of an ini file\n",
            3,
            "no line",
        ),
        (
            "[watcher:new]\ncmd = sleep 1\nstop_signal = SIGNOSUCH\n",
            3,
            "SIGNOSUCH",
        ),
        ("[socket:s]\nhost = 127.0.0.1\nport = 99999999\n", 3, "port"),
    ];
    for (body, line, what) in broken {
        let path = site.ini(body);
        let reply = daemon.call("reloadconfig", json!({"waiting": true}));
        assert_eq!(reply["status"], "error", "{reply}");
        let reason = reply["reason"].as_str().unwrap_or("");
        let place = format!("{}:{}", path.display(), head + line);
        assert!(
            reason.contains(&place) && reason.contains(what),
            "{place}: {reason}"
        );
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for("the log to tell", || {
            let told = daemon.log().matches(&place).count();
            (told >= 2).then_some(())
        });
        assert_eq!(daemon.pids("web"), pids);
        assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["web"]));
        assert_eq!(daemon.ok("listsockets", json!({}))["sockets"], sockets);
    }
    // `restart` without a name would take it over too: nobody is stopped for it.
    let reply = daemon.call("restart", json!({"waiting": true}));
    assert_eq!(reply["status"], "error", "{reply}");
    assert_eq!(daemon.pids("web"), pids);
    // And a file that is gone is no other case.
    fs::remove_file(site.path("circus.ini")).expect("our own file");
    let reply = daemon.call("reloadconfig", json!({}));
    assert_eq!(reply["status"], "error", "{reply}");
    assert_eq!(daemon.pids("web"), pids);
}

#[test]
fn include_and_include_dir() {
    let site = TempSite::new();
    fs::create_dir_all(site.path("more.d")).expect("a directory");
    site.write(
        "more.d/one.ini",
        "[watcher:one]\ncmd = sleep 1001\n[env:one]\nA = from one\n",
    );
    site.write("more.d/two.ini", "[watcher:two]\ncmd = sleep 1002\n");
    site.write("more.d/three.txt", "[watcher:three]\ncmd = sleep 1003\n");
    site.write("extra.conf", "[watcher:extra]\ncmd = sleep 1004\n");
    for program in [Program::Circ, Program::Circusd] {
        site.ini("include_dir = more.d\ninclude = extra.conf\n[watcher:main]\ncmd = sleep 1000\n");
        let daemon = site.start(program);
        assert_eq!(
            daemon.ok("list", json!({}))["watchers"],
            json!(["extra", "main", "one", "two"]),
            "{program:?}"
        );
        let pid = daemon.wait_pids("one", 1)[0];
        daemon.wait_for("sleep", || Process::find(pid).filter(|p| p.comm == "sleep"));
        let environ = Process::find(pid).expect("it runs").environ();
        assert!(environ.contains(&"A=from one".to_string()), "{environ:?}");
    }
    // A file that comes into the directory is taken in, one with a mistake is named.
    let daemon = site.start(Program::Circ);
    site.write("more.d/four.ini", "[watcher:four]\ncmd = sleep 1004\n");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.wait_pids("four", 1);
    site.write(
        "more.d/four.ini",
        "[watcher:four]\ncmd = sleep 1004\nshell = perhaps\n",
    );
    let reply = daemon.call("reloadconfig", json!({"waiting": true}));
    assert!(
        reply["reason"]
            .as_str()
            .is_some_and(|r| r.contains("four.ini:3")),
        "{reply}"
    );
}

/// `--daemon` returns once the daemon answers, and tells of what kept it from starting.
#[test]
fn the_background() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    // It adopts what the command leaves behind, and ends it with the site.
    let guard = site.spawn_command(Program::Circ, {
        let mut command = circ(&site);
        command.args(["daemon", "circus.ini", "--daemon", "--pidfile", "my.pid"]);
        command.args(["--log-output", "my.log"]);
        command
    });
    assert_eq!(guard.wait_exit().code(), Some(0), "{}", guard.log());
    assert_eq!(guard.log(), "");
    // It answers now: nobody has to wait.
    let status = run(
        &site,
        circ(&site).args(["--endpoint", &site.endpoint, "status"]),
    );
    assert!(status.status.success(), "{}", text(&status.stderr));
    let pid = pid_in(&site.path("my.pid")).expect("a pid file");
    assert_ne!(pid, guard.pid());
    let worker = guard.wait_pids("web", 1)[0];
    assert_eq!(Process::find(worker).map(|p| p.parent), Some(pid));
    assert!(fs::read_to_string(site.path("my.log")).is_ok_and(|l| l.contains("web started")));
    for fd in 0..3 {
        let to = fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("an open descriptor");
        assert_eq!(to, Path::new("/dev/null"));
    }

    // The second one cannot start, each time for another reason, and says so here.
    let background = |more: &[&str]| {
        let out = run(&site, circ(&site).args(["daemon", "--daemon"]).args(more));
        (out.status.code(), text(&out.stderr))
    };
    let (code, told) = background(&["circus.ini", "--pidfile", "my.pid"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("my.pid") && told.contains(&pid.to_string()),
        "{told}"
    );
    let (code, told) = background(&["circus.ini"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains(&site.endpoint) && told.contains(&pid.to_string()),
        "{told}"
    );
    let (code, told) = background(&["nosuch.ini"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("nosuch.ini"), "{told}");
    site.write("bad.ini", "[watcher:x]\ncmd = sleep 1\nnumprocesses = x\n");
    let (code, told) = background(&["bad.ini"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("bad.ini:3"), "{told}");

    guard.ok("quit", json!({"waiting": true}));
    wait_for("the daemon in the background to end", || {
        (!is_alive(pid) && !site.path("my.pid").exists()).then_some(())
    });
    assert!(!is_alive(worker));
}

#[test]
fn the_pid_file() {
    let site = TempSite::new();
    let ini = site.ini("[watcher:web]\ncmd = sleep 1000\n");
    // What a dead daemon has left is taken over.
    let mut dead = Command::new("true").spawn().expect("true");
    dead.wait().expect("our own child");
    site.write("a.pid", format!("{}\n", dead.id()));
    let daemon = site.start_with(Program::Circ, |c| {
        c.args(["--pidfile", "a.pid"]);
    });
    assert_eq!(pid_in(&site.path("a.pid")), Some(daemon.pid()));
    // A second daemon with endpoints of its own is refused by the file alone.
    let other = TempSite::new();
    other.ini("[watcher:web]\ncmd = sleep 1000\n");
    let second = other.spawn(Program::Circ, |c| {
        c.arg("--pidfile").arg(site.path("a.pid"));
    });
    assert_eq!(second.wait_exit().code(), Some(1));
    let log = second.log();
    assert!(
        log.contains("a.pid") && log.contains(&daemon.pid().to_string()),
        "{log}"
    );
    assert_eq!(pid_in(&site.path("a.pid")), Some(daemon.pid()));
    drop(daemon);
    assert!(!site.path("a.pid").exists());
    assert!(ini.exists());
}

#[test]
fn log_level_and_log_output() {
    let site = TempSite::new();
    let body = "loglevel = info\nlogoutput = from-ini.log\n[watcher:web]\ncmd = sleep 1000\n[watcher:bad]\ncmd = /no/such/program\n";
    site.ini(body);
    let whole = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    let bad_told = |name: &str| {
        wait_for("the bad watcher in the log", || {
            whole(name).contains("/no/such/program").then_some(())
        });
    };
    let daemon = site.start(Program::Circ);
    bad_told("from-ini.log");
    assert!(whole("from-ini.log").contains("[INFO] web started"));
    assert_eq!(daemon.log(), "", "all of it is in the file");
    drop(daemon);
    // The command line comes before the file; a level in any case of letters.
    let daemon = site.start_with(Program::Circ, |c| {
        c.args(["--log-level", "WARNING", "--log-output", "from-line.log"]);
    });
    let before = whole("from-ini.log");
    bad_told("from-line.log");
    daemon.wait_pids("web", 1);
    assert!(!whole("from-line.log").contains("[INFO]"));
    assert_eq!(whole("from-ini.log"), before);
    drop(daemon);
    let daemon = site.start_with(Program::Circ, |c| {
        c.args(["--log-output", "-"]);
    });
    daemon.wait_for("the log on standard error", || {
        daemon.log().contains("web started").then_some(())
    });
    drop(daemon);
    for bad in [["--log-level", "loud"], ["--log-output", "/no/such/dir/x"]] {
        let daemon = site.spawn(Program::Circ, |c| {
            c.args(bad);
        });
        assert!(!daemon.wait_exit().success());
        assert!(daemon.log().contains(bad[1]), "{}", daemon.log());
    }
}

/// Under its older name it takes that program's options.
#[test]
fn the_name_circusd() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let circusd = site.path("circusd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_circ"), &circusd).expect("a link in the site");
    let circusd = || {
        let mut command = Command::new(&circusd);
        command.current_dir(site.dir()).stdin(Stdio::null());
        command
    };
    let guard = site.spawn_command(Program::Circ, {
        let mut command = circusd();
        command.args(["--daemon", "--pidfile", "d.pid", "--log-level", "debug"]);
        command.args(["--log-output", "d.log", "circus.ini"]);
        command
    });
    assert_eq!(guard.wait_exit().code(), Some(0), "{}", guard.log());
    guard.wait_pids("web", 1);
    let pid = pid_in(&site.path("d.pid")).expect("a pid file");
    let left = descendants(pid);
    guard.ok("quit", json!({}));
    wait_for("the daemon to end", || (!is_alive(pid)).then_some(()));
    assert!(left.iter().all(|p| !p.is_running()));

    let version = run(&site, circusd().arg("--version"));
    assert!(version.status.success());
    assert!(!version.stdout.is_empty());
    let usage = run(&site, circusd().arg("--help"));
    let usage = text(&usage.stdout);
    for flag in ["--log-level", "--log-output", "--daemon", "--pidfile"] {
        assert!(usage.contains(flag), "{usage}");
    }
    let wrong = run(&site, circusd().args(["--no-such-flag", "circus.ini"]));
    assert_eq!(wrong.status.code(), Some(2), "argparse's code");
}

/// Whoever reaches the control endpoint may run anything: a socket file is its owner's alone.
#[test]
fn an_endpoint_for_its_owner_only() {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let meta = |name: &str| fs::metadata(site.path(name)).expect("a socket's file");
    assert_eq!(meta("control").permissions().mode() & 0o777, 0o600);
    drop(daemon);
    // What a killed daemon leaves does not keep the next one from starting.
    let daemon = site.start(Program::Circ);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit();
    assert!(site.path("control").exists());
    drop(daemon);
    if !nix::unistd::geteuid().is_root() {
        skip("giving the endpoint to another user needs root");
        return;
    }
    site.ini("endpoint_owner = nobody\n[watcher:web]\ncmd = sleep 1000\n");
    let _daemon = site.start(Program::Circ);
    let users = fs::read_to_string("/etc/passwd").expect("the list of users");
    let nobody = users.lines().find_map(|l| l.strip_prefix("nobody:x:"));
    let uid: u32 = nobody
        .and_then(|l| l.split(':').next()?.parse().ok())
        .expect("a user nobody");
    assert_eq!(meta("control").uid(), uid);
    assert_eq!(meta("control").permissions().mode() & 0o777, 0o600);
}

/// `quit` answers who waits for it, and whoever else waits for something hears that it will not come.
#[test]
fn quit_answers_everybody() {
    let site = TempSite::new();
    let script = traps(&site);
    site.ini(&format!(
        "[watcher:slow]\ncmd = {script} notes TERM:ignore\ngraceful_timeout = 0.5\n[watcher:web]\ncmd = sleep 1000\nnumprocesses = 3\n"
    ));
    let daemon = site.start(Program::Circ);
    wait_notes(&site, &daemon, "notes", "ready", 1);
    let left = descendants(daemon.pid());
    let driver = daemon.driver();
    let orders = [
        json!({"command": "restart", "properties": {"name": "slow", "waiting": true}}),
        json!({"command": "reload", "properties": {"waiting": true}}),
        json!({"command": "stop", "properties": {"name": "slow", "waiting": true}}),
        json!({"command": "restart", "properties": {"waiting": true}}),
        json!({"command": "quit", "properties": {"waiting": true}}),
        json!({"command": "quit", "properties": {"waiting": true}}),
    ];
    let clients: Vec<_> = orders
        .iter()
        .map(|order| {
            let client = driver.dealer(&site.endpoint);
            let mut order = order.clone();
            order["id"] = json!("x");
            driver.send(client, &[order.to_string().as_bytes()]);
            // Answered in the order of their coming: each is there before the next is sent.
            if order["command"] != "quit" {
                daemon.ok("numwatchers", json!({}));
            }
            client
        })
        .collect();
    for (client, order) in clients.iter().zip(&orders) {
        let frames = driver
            .recv(*client, 40.0)
            .unwrap_or_else(|| panic!("no answer to {order}\n{}", daemon.tail()));
        let reply: Value = serde_json::from_str(frames.last().expect("a frame")).expect("JSON");
        assert_eq!(reply["id"], "x");
        if order == &json!({"command": "restart", "properties": {"waiting": true}}) {
            assert_eq!(reply["reason"], "the daemon is stopping", "{reply}");
        }
        if order["command"] == "quit" {
            assert_eq!(reply["status"], "ok", "{order}: {reply}");
        }
    }
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert!(left.iter().all(|p| !p.is_running()), "{left:?}");
}
