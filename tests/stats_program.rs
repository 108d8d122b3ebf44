//! The program circusd-stats, beside the real one on the same circusd, and on circ.

#[path = "stats/messages.rs"]
mod messages;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use messages::{everything, masked, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, wait_for};

/// The options for this site; it is to publish at `statspoint`.
fn options(site: &TempSite, statspoint: &str) -> String {
    format!(
        "--endpoint {} --pubsub {} --statspoint {statspoint} --log-level DEBUG",
        site.endpoint, site.pubsub
    )
}

/// It as a process of the test.
struct Own(Child);

impl Own {
    /// Nothing in its command line is in the site's directory: the end of a daemon there is not its end.
    fn start(site: &TempSite) -> Own {
        let child = Command::new(env!("CARGO_BIN_EXE_circ"))
            .arg("circusd-stats")
            .args(options(site, &site.stats).split(' '))
            .stdin(Stdio::null())
            .stderr(fs::File::create(site.path("log")).unwrap())
            .spawn();
        Own(child.unwrap())
    }

    /// Its exit code after this signal.
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

#[test]
fn a_watcher_of_the_real_circusd_publishes_what_the_real_one_does() {
    let site = TempSite::new();
    let ours = format!("tcp://127.0.0.1:{}", site.port());
    let program = site.path("circusd-stats");
    symlink(env!("CARGO_BIN_EXE_circ"), &program).unwrap();
    site.ini(&format!(
        "statsd = True\nstats_endpoint = {}\n\
         [watcher:Web App]\ncmd = sleep 1000\nnumprocesses = 2\n\
         [watcher:off]\ncmd = sleep 3000\nautostart = False\n\
         [watcher:ours]\ncmd = {} {}\nuse_sockets = True\ncopy_env = True\n\
         [socket:tcp]\nhost = localhost\nport = {}\n\
         [socket:unix]\npath = {}\n",
        site.stats,
        program.display(),
        options(&site, &ours),
        site.port(),
        site.path("unix.sock").display(),
    ));
    let daemon = site.start(Program::Circusd);
    daemon.wait_pids("web app", 2);
    daemon.wait_pids("ours", 1);
    let told = |endpoint: &str| {
        let found = everything(&daemon, endpoint, &["web app", "ours"]);
        let lines = found
            .into_iter()
            // each is a process of the group circus for itself only
            .filter(|(topic, _)| !topic.starts_with("stat.circus.ours"))
            .map(|(topic, payload)| format!("{topic} {}", masked(&topic, &payload)));
        lines.collect::<Vec<String>>()
    };
    let theirs = told(&site.stats);
    assert_eq!(told(&ours), theirs);
    assert_eq!(theirs.len(), 10, "{theirs:?}");
    let names = |endpoint: &str| {
        let events = daemon.driver().subscribe(endpoint, &["stat.circus."]);
        let mut names = Vec::new();
        until(&daemon, events, |(_, payload)| {
            names.push(payload["name"].as_str().unwrap().to_string());
            names.len() == 2
        });
        daemon.driver().close(events);
        names.sort();
        names
    };
    assert_eq!(names(&ours), names(&site.stats));
    assert_eq!(names(&ours), ["circusd", "circusd-stats"]);
}

/// circusd refuses a command while it does something else.
fn insist(daemon: &Daemon, command: &str, properties: Value) {
    daemon.wait_for(command, || {
        (daemon.call(command, properties.clone())["status"] == "ok").then_some(())
    });
}

/// The pids that are told of a watcher come to be these.
fn wait_told(daemon: &Daemon, endpoint: &str, watcher: &str, pids: &[i32]) {
    let topic = format!("stat.{watcher}");
    let events = daemon.driver().subscribe(endpoint, &[&topic]);
    until(daemon, events, |(t, payload)| {
        *t == topic && payload["pid"] == json!(pids)
    });
    daemon.driver().close(events);
}

#[test]
fn changes_and_a_new_daemon_are_followed() {
    for program in [Program::Circ, Program::Circusd] {
        let site = TempSite::new();
        site.ini("[watcher:web]\ncmd = sleep 1000\n");
        // it may come before its daemon
        let stats = Own::start(&site);
        let daemon = site.start(program);
        wait_told(&daemon, &site.stats, "web", &daemon.wait_pids("web", 1));
        insist(&daemon, "incr", json!({"name": "web", "waiting": true}));
        wait_told(&daemon, &site.stats, "web", &daemon.wait_pids("web", 2));
        let worker = daemon.pids("web")[0];
        support::Process::find(worker)
            .unwrap()
            .signal(Signal::SIGKILL);
        if program == Program::Circ {
            let pids = daemon.wait_for("another worker", || {
                let pids = daemon.pids("web");
                (pids.len() == 2 && !pids.contains(&worker)).then_some(pids)
            });
            wait_told(&daemon, &site.stats, "web", &pids);
        }
        let add = json!({"name": "new one", "cmd": "sleep 1000", "start": true, "waiting": true});
        insist(&daemon, "add", add);
        wait_told(
            &daemon,
            &site.stats,
            "new one",
            &daemon.wait_pids("new one", 1),
        );
        assert!(daemon.stop().success());
        let daemon = site.start(program);
        wait_told(&daemon, &site.stats, "web", &daemon.wait_pids("web", 1));
        assert_eq!(stats.end(Signal::SIGTERM), Some(0));
        let log = fs::read_to_string(site.path("log")).unwrap();
        assert!(log.contains("Starting the stats streamer"), "{log}");
        assert!(log.contains("Stats streamer stopped"), "{log}");
    }
}

#[test]
fn it_rests_while_nobody_subscribes() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let stats = Own::start(&site);
    wait_told(&daemon, &site.stats, "web", &daemon.wait_pids("web", 1));
    let ticks = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", stats.0.id())).unwrap();
        let one = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).ok();
        tasks
            .filter_map(|task| one(task.ok()?))
            .collect::<Vec<String>>()
    };
    let mut before = (ticks(), std::time::Instant::now());
    wait_for("all threads to rest", || {
        let now = ticks();
        if now != before.0 {
            before = (now, std::time::Instant::now());
        }
        (before.1.elapsed().as_millis() > 2500).then_some(())
    });
}

#[test]
fn what_it_cannot_do_is_said() {
    let site = TempSite::new();
    let port = site.stats.rsplit(':').next().unwrap();
    let _held = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_circ"))
            .arg("circusd-stats")
            .args(args)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        errors
    };
    let errors = run(&["--statspoint", &site.stats]);
    assert!(
        errors.contains(&format!(
            "circusd-stats: cannot bind --statspoint {}",
            site.stats
        )),
        "{errors}"
    );
    let errors = run(&["--pubsub", "here"]);
    assert!(errors.contains("--pubsub: endpoint \"here\""), "{errors}");
    let errors = run(&["--log-level", "loud"]);
    assert!(errors.contains("log level 'loud' is not known"), "{errors}");
}
