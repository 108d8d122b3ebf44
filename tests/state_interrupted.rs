//! `circ state` that gets a signal in the middle of a run: what was begun is finished or taken back, the report says so,
//! and no lock stays.

mod support;

#[allow(dead_code)] // What the tests of `ensure` use as well.
#[path = "state/proxy.rs"]
mod proxy;
#[allow(dead_code)] // What the tests of `ensure` use as well.
#[path = "state/run.rs"]
mod run;
#[allow(dead_code)] // Not every file of tests uses all of it.
#[path = "state/verbs.rs"]
mod verbs;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use proxy::Proxy;
use run::Run;
use support::{Program, TempSite, wait_for};
use verbs::{circ, ini, same_pids, started};

/// A `circ state` that runs, and can be sent signals.
struct Running {
    child: Option<Child>,
    out: PathBuf,
    err: PathBuf,
}

/// Where a hook finds the process that it is to send signals to.
#[derive(Clone, Default)]
struct Target {
    pid: Arc<AtomicI32>,
}

impl Target {
    /// Sends a signal, and waits until it was heard; `lines` are told then.
    fn signal(&self, signal: Signal, err: &Path, lines: usize) {
        let pid = wait_for("the run to be started", || {
            Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
        });
        kill(Pid::from_raw(pid), signal).expect("the run is there");
        wait_for("the signal to be heard", || {
            let said = fs::read_to_string(err).unwrap_or_default();
            (said.lines().count() >= lines).then_some(())
        });
    }
}

impl Running {
    /// `circ state ARGS --config circus.ini --json --detailed-exitcode`.
    fn start(site: &TempSite, name: &str, args: &[&str], target: &Target) -> Running {
        let (out, err) = paths(site, name);
        // a signal that was ignored when the tests were started (nohup, a shell's &) stays ignored, on purpose
        let mut command = Command::new("env");
        let child = command
            .args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_circ")])
            .arg("state")
            .args(args)
            .args(["--config", "circus.ini", "--json", "--detailed-exitcode"])
            .current_dir(site.dir())
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a file"))
            .stderr(File::create(&err).expect("a file"))
            .spawn()
            .expect("circ runs");
        target.pid.store(child.id() as i32, Ordering::SeqCst);
        Running {
            child: Some(child),
            out,
            err,
        }
    }

    fn end(mut self) -> Run {
        let mut child = self.child.take().expect("it is ended once");
        let status = wait_for("the run to end", || child.try_wait().ok().flatten());
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        Run {
            code: status.code().unwrap_or(-1),
            stdout: read(&self.out),
            stderr: read(&self.err),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn paths(site: &TempSite, name: &str) -> (PathBuf, PathBuf) {
    (
        site.path(&format!("{name}.out")),
        site.path(&format!("{name}.err")),
    )
}

/// The `status` of each action.
fn statuses(report: &Value) -> Vec<&str> {
    let actions = report["actions"].as_array().into_iter().flatten();
    actions
        .filter_map(|action| action["status"].as_str())
        .collect()
}

fn taken_back(program: Program) {
    started(program, |site, daemon| {
        let before = ini(site);
        let (web, other) = (daemon.pids("web"), daemon.pids("other"));
        let target = Target::default();
        let hears = target.clone();
        let (_, err) = paths(site, "run");
        let mut asked = false;
        let proxy = Proxy::to(daemon.endpoint(), move |commands| {
            if !asked && commands.iter().any(|command| command == "set") {
                asked = true;
                hears.signal(Signal::SIGTERM, &err, 1);
            }
        });
        site.write(
            "wanted.toml",
            "[watcher.web]\ngraceful_timeout = 5\n[watcher.other]\ngraceful_timeout = 6\n\
             [watcher.new]\ncmd = \"sleep 500\"\n",
        );
        let endpoint = proxy.endpoint();
        let args = ["apply", "wanted.toml", "--endpoint", &endpoint];
        let run = Running::start(site, "run", &args, &target).end();
        let report = run.report();
        assert_eq!(
            (run.code, &report["changed"], &report["failed"]),
            (1, &json!(false), &json!(true)),
            "{report}"
        );
        let error = report["error"].as_str().unwrap_or_default();
        assert!(
            error.starts_with("interrupted by SIGTERM; undone: "),
            "{error}"
        );
        assert!(error.contains("graceful_timeout set back"), "{error}");
        assert!(error.contains("circus.ini was put back"), "{error}");
        assert!(
            run.stderr
                .starts_with("SIGTERM: what was begun is finished or taken back"),
            "{}",
            run.stderr
        );
        let all: Vec<&str> = report["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(statuses)
            .collect();
        assert!(
            all.contains(&"undone") && all.contains(&"planned"),
            "{report}"
        );
        assert!(!all.contains(&"done"), "{report}");
        assert_eq!(ini(site), before);
        same_pids(daemon, "web", &web);
        same_pids(daemon, "other", &other);
        for watcher in ["web", "other"] {
            let reply = daemon.ok(
                "get",
                json!({"name": watcher, "keys": ["graceful_timeout"]}),
            );
            assert_eq!(
                reply["options"]["graceful_timeout"],
                json!(30.0),
                "{watcher}"
            );
        }
        assert_eq!(daemon.ok("numwatchers", json!({}))["numwatchers"], 2);
        // Nobody holds a lock, and nothing stands in the way of the same run.
        let again = circ(
            site,
            &[
                "state",
                "apply",
                "wanted.toml",
                "--config",
                "circus.ini",
                "--timeout",
                "20",
            ],
        );
        assert_eq!(again.code, 0, "{} {}", again.stdout, again.stderr);
    });
}

#[test]
fn a_signal_between_two_commands_takes_file_and_daemon_back() {
    taken_back(Program::Circ);
}

#[test]
fn a_signal_between_two_commands_to_circusd_takes_file_and_daemon_back() {
    taken_back(Program::Circusd);
}

#[test]
fn a_signal_while_workers_are_waited_for_leaves_what_was_done() {
    started(Program::Circ, |site, daemon| {
        let target = Target::default();
        let hears = target.clone();
        let (_, err) = paths(site, "run");
        let mut asked = false;
        let proxy = Proxy::to(daemon.endpoint(), move |commands| {
            let sent = commands.iter().position(|command| command == "incr");
            let waits = sent.is_some_and(|at| commands[at..].iter().any(|c| c == "status"));
            if waits && !asked {
                asked = true;
                hears.signal(Signal::SIGINT, &err, 1);
            }
        });
        let endpoint = proxy.endpoint();
        let args = [
            "ensure",
            "web",
            "--procs",
            "3",
            "--settle",
            "50",
            "--endpoint",
            &endpoint,
        ];
        let run = Running::start(site, "run", &args, &target).end();
        let report = run.report();
        assert_eq!(
            (run.code, &report["changed"], &report["failed"]),
            (6, &json!(true), &json!(true)),
            "{report}"
        );
        let error = report["error"].as_str().unwrap_or_default();
        assert!(
            error.starts_with("interrupted by SIGINT while its workers were waited for"),
            "{error}"
        );
        assert_eq!(statuses(&report), ["done", "done"], "{report}");
        assert!(ini(site).contains("numprocesses = 3"));
        daemon.wait_pids("web", 3);
    });
}

#[test]
fn a_second_signal_leaves_a_command_that_does_not_end() {
    let site = TempSite::new();
    site.ini(
        "[watcher:web]\ncmd = sh -c 'trap : TERM; while :; do sleep 0.1; done'\ngraceful_timeout = 5\n",
    );
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let target = Target::default();
    let hears = target.clone();
    let (_, err) = paths(&site, "run");
    let mut asked = false;
    let proxy = Proxy::to(daemon.endpoint(), move |commands| {
        if !asked && commands.iter().any(|command| command == "stop") {
            asked = true;
            // The hook holds the command until it returns, but not longer than the run waits for it.
            hears.signal(Signal::SIGTERM, &err, 1);
            hears.signal(Signal::SIGTERM, &err, 2);
        }
    });
    let endpoint = proxy.endpoint();
    let args = ["ensure", "web", "--stopped", "--endpoint", &endpoint];
    let run = Running::start(&site, "run", &args, &target).end();
    let report = run.report();
    assert_eq!(
        (run.code, &report["changed"], &report["failed"]),
        (6, &json!(true), &json!(true)),
        "{report}"
    );
    let error = report["error"].as_str().unwrap_or_default();
    assert!(error.contains("`stop` was sent to"), "{error}");
    assert!(error.ends_with("nothing was undone"), "{error}");
    assert!(statuses(&report).contains(&"unfinished"), "{report}");
}

#[test]
fn a_signal_ends_the_wait_for_a_lock_and_every_lock_is_let_go() {
    started(Program::Circ, |site, daemon| {
        // This one holds the lock while it waits for the workers to stay.
        let (holder, target) = (Target::default(), Target::default());
        let args = ["ensure", "web", "--procs", "3", "--settle", "50"];
        let first = Running::start(site, "first", &args, &holder);
        daemon.wait_pids("web", 3);
        let before = ini(site);
        let args = ["ensure", "other", "--procs", "2", "--no-live"];
        let second = Running::start(site, "second", &args, &target);
        // It cannot be seen from outside that it waits; a signal that comes before that changes nothing.
        let listens = format!("/proc/{}/status", target.pid.load(Ordering::SeqCst));
        wait_for("the second run to listen to signals", || {
            let status = fs::read_to_string(&listens).ok()?;
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            let mask = u64::from_str_radix(caught.trim(), 16).ok()?;
            (mask & 1 << 14 != 0).then_some(())
        });
        target.signal(Signal::SIGTERM, &second.err.clone(), 1);
        let run = second.end();
        let report = run.report();
        assert_eq!(
            (run.code, &report["changed"]),
            (1, &json!(false)),
            "{report}"
        );
        let error = report["error"].as_str().unwrap_or_default();
        assert!(
            error.contains("interrupted by SIGTERM while another run held the lock on"),
            "{error}"
        );
        assert_eq!(ini(site), before);

        holder.signal(Signal::SIGHUP, &first.err.clone(), 1);
        assert_eq!(first.end().code, 6);
        let after = circ(
            site,
            &[
                "state",
                "ensure",
                "other",
                "--procs",
                "2",
                "--config",
                "circus.ini",
                "--timeout",
                "20",
            ],
        );
        assert_eq!(after.code, 0, "{} {}", after.stdout, after.stderr);
    });
}

#[test]
fn a_signal_that_the_caller_ignores_does_not_end_the_run() {
    started(Program::Circ, |site, _| {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_circ"))
            .args([
                "state",
                "ensure",
                "web",
                "--procs",
                "3",
                "--config",
                "circus.ini",
                "--json",
            ])
            .current_dir(site.dir())
            .stdin(Stdio::null())
            .stdout(File::create(site.path("out")).expect("a file"))
            .spawn()
            .expect("sh runs");
        wait_for("the file to be written", || {
            ini(site).contains("numprocesses = 3").then_some(())
        });
        for signal in [Signal::SIGHUP, Signal::SIGINT] {
            kill(Pid::from_raw(child.id() as i32), signal).expect("the run is there");
        }
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
        let report: Value =
            serde_json::from_str(&fs::read_to_string(site.path("out")).expect("a report"))
                .expect("a report");
        assert_eq!(report["failed"], false, "{report}");
    });
}
