//! What `circ state` can be asked of one watcher beside its count and options: to be absent or stopped, its environment
//! and sockets, restarts on change, and the orders of handlers; against circ's own daemon and the real circusd.

mod support;

#[allow(dead_code)] // What the tests of `ensure` use as well.
#[path = "state/run.rs"]
mod run;
#[allow(dead_code)] // Not every file of tests uses all of it.
#[path = "state/verbs.rs"]
mod verbs;

use std::fs;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use run::fingerprint;
use support::{Program, TempSite};
use verbs::{ini, same_pids, started, state, variable};

/// Each test against each daemon.
macro_rules! for_each_daemon {
    ($($name:ident),* $(,)?) => {
        mod on_circusd {
            $(#[test] fn $name() { super::$name(super::Program::Circusd); })*
        }
        mod on_circ {
            $(#[test] fn $name() { super::$name(super::Program::Circ); })*
        }
    };
}

for_each_daemon!(
    a_watcher_goes_from_both_sides,
    variables_reach_the_workers_and_stay_secret,
    an_option_is_taken_away_again,
    a_watcher_is_stopped_and_started,
    a_change_restarts_as_the_caller_wants,
    handlers_act_every_time_and_only_without_check,
    a_directory_whose_name_is_no_text_is_worked_in,
);

fn a_watcher_goes_from_both_sides(program: Program) {
    started(program, |site, daemon| {
        let with_env = format!("{}\n[env:web]\nA = 1\n", ini(site));
        site.write("circus.ini", &with_env);
        let check = state(site, &["absent", "web", "--check"], 2);
        assert_eq!(
            check["changes"],
            json!({"watcher": {"old": "present", "new": "absent"}})
        );
        daemon.wait_pids("web", 2);

        let other = daemon.pids("other");
        let pids = daemon.pids("web");
        let report = state(site, &["absent", "web", "--with-env"], 0);
        assert_eq!(report["msg"], "web: removed, [env:web] removed");
        assert!(!ini(site).contains("web"), "{}", ini(site));
        assert_eq!(daemon.call("list", json!({}))["watchers"], json!(["other"]));
        daemon.wait_for("the workers to be gone", || {
            pids.iter()
                .all(|pid| !support::is_alive(*pid))
                .then_some(())
        });
        same_pids(daemon, "other", &other);
        let file = fingerprint(&site.path("circus.ini"));
        assert_eq!(
            state(site, &["absent", "web", "--with-env"], 0)["changed"],
            false
        );
        assert_eq!(fingerprint(&site.path("circus.ini")), file);
    });
}

fn variables_reach_the_workers_and_stay_secret(program: Program) {
    started(program, |site, daemon| {
        let token = [
            "ensure",
            "web",
            "--env",
            "TOKEN=sesame",
            "--env",
            "MODE=a b",
            "--diff",
        ];
        let report = state(site, &token, 0);
        assert_eq!(report["restarted"], true);
        assert!(
            ini(site).ends_with("\n[env:web]\nTOKEN = sesame\nMODE = a b\n"),
            "{}",
            ini(site)
        );
        daemon.wait_for("the variable in a worker", || {
            (variable(daemon, "web", "TOKEN").as_deref() == Some("sesame")).then_some(())
        });
        assert_eq!(variable(daemon, "web", "MODE").as_deref(), Some("a b"));
        let text = report.to_string();
        assert!(
            !text.contains("sesame") && text.contains("********"),
            "{text}"
        );
        assert_eq!(state(site, &token, 0)["changed"], false);

        let other = [
            "ensure",
            "web",
            "--env",
            "TOKEN=pumpkin",
            "--diff",
            "--check",
        ];
        let text = state(site, &other, 2).to_string();
        assert!(
            !text.contains("sesame") && !text.contains("pumpkin"),
            "{text}"
        );
        assert!(text.contains("******** (changed)"), "{text}");
        let mut shown = other.to_vec();
        shown.push("--show-secrets");
        let text = state(site, &shown, 2).to_string();
        assert!(
            text.contains("sesame") && text.contains("pumpkin"),
            "{text}"
        );
        let text = state(site, &["get", "web"], 0).to_string();
        assert!(text.contains("TOKEN") && !text.contains("sesame"), "{text}");

        state(site, &["ensure", "web", "--unset", "env.TOKEN"], 0);
        assert!(!ini(site).contains("TOKEN"));
        daemon.wait_for("the variable to be gone", || {
            variable(daemon, "web", "TOKEN").is_none().then_some(())
        });
        assert_eq!(variable(daemon, "web", "MODE").as_deref(), Some("a b"));
        // With the last of its variables its section goes, unless somebody has written something else there.
        let with_comment = ini(site).replace("[env:web]\n", "[env:web]\n# why\n");
        site.write("circus.ini", &with_comment);
        let report = state(site, &["ensure", "web", "--unset", "env.MODE"], 0);
        assert!(ini(site).contains("[env:web]\n# why\n"), "{}", ini(site));
        let told = report["warnings"].to_string();
        assert!(
            told.contains("[env:web]") && told.contains("comments in it"),
            "{report}"
        );
        site.write("circus.ini", ini(site).replace("# why\n", ""));
        state(site, &["ensure", "web", "--env", "LAST=1"], 0);
        let report = state(site, &["ensure", "web", "--unset", "env.LAST"], 0);
        assert!(!ini(site).contains("[env:web]"), "{}", ini(site));
        assert_eq!(report["warnings"], json!([]));
    });
}

fn an_option_is_taken_away_again(program: Program) {
    started(program, |site, daemon| {
        let before = ini(site);
        state(
            site,
            &[
                "ensure",
                "web",
                "--set",
                "max_retry=9",
                "--set",
                "max_age=4000",
            ],
            0,
        );
        let report = state(
            site,
            &[
                "ensure",
                "web",
                "--unset",
                "max_age",
                "--unset",
                "max_retry",
            ],
            0,
        );
        assert_eq!(report["changes"]["max_age"], json!({"old": 4000, "new": 0}));
        assert_eq!(ini(site), before);
        assert_eq!(
            daemon.ok("get", json!({"name": "web", "keys": ["max_age"]}))["options"]["max_age"],
            0
        );
        assert_eq!(
            state(site, &["ensure", "web", "--unset", "max_age"], 0)["changed"],
            false
        );
    });
}

fn a_watcher_is_stopped_and_started(program: Program) {
    started(program, |site, daemon| {
        let before = ini(site);
        let report = state(site, &["ensure", "web", "--stopped"], 0);
        assert_eq!(
            report["changes"],
            json!({"status": {"old": "active", "new": "stopped"}})
        );
        assert_eq!(report["after"]["daemon"]["running"], 0);
        assert_eq!(
            daemon.call("status", json!({"name": "web"}))["status"],
            "stopped"
        );
        assert_eq!(ini(site), before);
        assert_eq!(
            state(site, &["ensure", "web", "--stopped"], 0)["changed"],
            false
        );
        state(site, &["ensure", "web", "--running"], 0);
        daemon.wait_pids("web", 2);

        // A watcher that is not to run is added without being started.
        state(
            site,
            &["ensure", "idle", "--cmd", "sleep 50", "--stopped"],
            0,
        );
        assert_eq!(
            daemon.call("status", json!({"name": "idle"}))["status"],
            "stopped"
        );
        assert_eq!(
            state(site, &["ensure", "idle", "--stopped"], 0)["changed"],
            false
        );
    });
}

fn a_change_restarts_as_the_caller_wants(program: Program) {
    started(program, |site, daemon| {
        let pids = daemon.pids("web");
        let never = [
            "ensure",
            "web",
            "--set",
            "working_dir=/",
            "--restart-on-change",
            "never",
        ];
        let report = state(site, &never, 0);
        assert_eq!(
            (&report["changed"], &report["restarted"]),
            (&json!(true), &json!(false))
        );
        assert!(ini(site).contains("working_dir = /\n"));
        let warnings = report["warnings"].to_string();
        assert!(
            warnings.contains("working_dir") && warnings.contains("restarts the watcher"),
            "{warnings}"
        );
        same_pids(daemon, "web", &pids);
        assert_eq!(state(site, &never, 0)["changed"], false);

        let always = [
            "ensure",
            "web",
            "--set",
            "max_retry=9",
            "--restart-on-change",
            "always",
        ];
        let report = state(site, &always, 0);
        assert_eq!(report["restarted"], true);
        let now = daemon.wait_pids("web", 2);
        assert!(
            pids.iter().all(|pid| !now.contains(pid)),
            "nobody was restarted"
        );
        assert_eq!(state(site, &always, 0)["changed"], false);
        same_pids(daemon, "web", &now);
        // A count is no such change.
        let count = [
            "ensure",
            "web",
            "--procs",
            "3",
            "--restart-on-change",
            "always",
        ];
        assert_eq!(state(site, &count, 0)["restarted"], false);
    });
}

fn handlers_act_every_time_and_only_without_check(program: Program) {
    started(program, |site, daemon| {
        let pids = daemon.pids("web");
        let other = daemon.pids("other");
        for verb in ["restarted", "reloaded", "signalled"] {
            let report = state(site, &[verb, "web", "--check"], 2);
            assert_eq!(
                (&report["changed"], &report["check"]),
                (&json!(true), &json!(true))
            );
        }
        same_pids(daemon, "web", &pids);

        let report = state(site, &["restarted", "web"], 0);
        assert_eq!(
            (&report["changed"], &report["restarted"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(report["after"]["daemon"]["running"], 2);
        let restarted = daemon.wait_pids("web", 2);
        assert!(pids.iter().all(|pid| !restarted.contains(pid)));
        state(site, &["reloaded", "web"], 0);
        daemon.wait_for("other workers", || {
            let now = daemon.pids("web");
            (now.len() == 2 && now.iter().all(|pid| !restarted.contains(pid))).then_some(())
        });
        // A signal that ends nobody by itself: the worker is asked for it.
        let report = state(site, &["signalled", "web", "--signal", "CONT"], 0);
        assert_eq!(report["restarted"], false);
        same_pids(daemon, "other", &other);

        for (args, why) in [
            (&["restarted", "wep"][..], "did you mean web?"),
            (&["signalled", "web", "--signal", "NOPE"], "no signal"),
            (&["reloaded", "web", "--no-live"], "--no-live"),
        ] {
            let report = state(site, args, 1);
            assert!(
                report["error"].to_string().contains(why),
                "{args:?}: {report}"
            );
        }
    });
}

/// circ's daemon takes over single sections of its file; circusd cannot, and loses watchers and workers by it.
fn a_directory_whose_name_is_no_text_is_worked_in(program: Program) {
    let site = TempSite::new();
    let directory = site.dir().join(std::ffi::OsStr::from_bytes(b"dir\xff"));
    fs::create_dir(&directory).expect("a directory");
    let file = directory.join("circus.ini");
    let text = site.circus_section() + "check_delay = 0.5\n[watcher:web]\ncmd = sleep 1000\n";
    fs::write(&file, text).expect("a file");
    let mut command = match program {
        Program::Circusd => Command::new(support::venv().circusd()),
        Program::Circ => Command::new(env!("CARGO_BIN_EXE_circ")),
    };
    if program == Program::Circ {
        command.arg("circusd");
    }
    command.arg("circus.ini").current_dir(&directory);
    let daemon = site.spawn_command(program, command);
    daemon.wait_ready();
    daemon.wait_pids("web", 1);
    let ensure = |config: &Path, wish: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        command
            .args(["state", "ensure", "web", "--json", "--config"])
            .arg(config)
            .args(wish)
            .current_dir(&directory)
            .stdin(Stdio::null());
        let run = run::finish(command);
        let report = run.report();
        assert_eq!(run.code, 0, "{report}");
        report
    };
    assert_eq!(ensure(&file, &["--procs", "2"])["changed"], true);
    let again = ensure(Path::new("circus.ini"), &["--procs", "2"]);
    assert_eq!(again["changed"], false, "{again}");
    for pid in daemon.wait_pids("web", 2) {
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/cwd")).ok(),
            Some(directory.clone())
        );
    }
    // What no command changes is read from this very file again.
    let wish = format!("front=127.0.0.1:{}", site.port());
    ensure(&file, &["--socket", &wish]);
    assert_eq!(
        daemon.ok("listsockets", json!({}))["sockets"][0]["name"],
        "front"
    );
}

#[test]
fn a_socket_comes_changes_and_goes_with_its_watcher() {
    started(Program::Circ, |site, daemon| {
        let other = daemon.pids("other");
        daemon.ok(
            "add",
            json!({"name": "loose", "cmd": "sleep 700", "start": true, "waiting": true}),
        );
        let (first, second) = (site.port(), site.port());
        let socket = format!("front=127.0.0.1:{first}");
        let ensure = [
            "ensure",
            "front",
            "--cmd",
            "sleep $(circus.sockets.front)9",
            "--socket",
            &socket,
        ];
        let report = state(site, &ensure, 0);
        assert_eq!(report["changes"]["socket:front"]["new"], "present");
        TcpStream::connect(("127.0.0.1", first)).expect("the first socket");
        assert_eq!(state(site, &ensure, 0)["changed"], false);

        let pids = daemon.pids("front");
        let moved = format!("front=127.0.0.1:{second}");
        let report = state(site, &["ensure", "front", "--socket", &moved], 0);
        assert_eq!(
            report["changes"]["socket:front.port"],
            json!({"old": first.to_string(), "new": second.to_string()})
        );
        assert_eq!(report["restarted"], true);
        TcpStream::connect(("127.0.0.1", second)).expect("the second socket");
        daemon.wait_for("the first port to be free", || {
            TcpStream::connect(("127.0.0.1", first)).err().map(|_| ())
        });
        assert_ne!(daemon.pids("front"), pids);

        let path = format!("front=unix:{}", site.path("front.sock").display());
        state(site, &["ensure", "front", "--socket", &path], 0);
        assert!(
            ini(site).contains("[socket:front]\npath = "),
            "{}",
            ini(site)
        );
        assert!(!ini(site).contains("port ="));
        std::os::unix::net::UnixStream::connect(site.path("front.sock")).expect("the Unix socket");

        state(site, &["absent", "front", "--with-socket"], 0);
        assert!(!ini(site).contains("front"));
        assert_eq!(daemon.ok("listsockets", json!({}))["sockets"], json!([]));
        // Nobody else was touched, not even what only the daemon has.
        same_pids(daemon, "other", &other);
        assert_eq!(daemon.pids("loose").len(), 1);
    });
}

#[test]
fn a_socket_goes_with_the_last_watcher_that_could_use_it() {
    let site = TempSite::new();
    let text = site.circus_section()
        + "[watcher:all]\ncmd = sleep 1\nuse_sockets = True\n\n\
           [watcher:one]\ncmd = sleep $(circus.sockets.one)\nuse_sockets = True\n\n\
           [watcher:handed]\ncmd = sleep 3\nlisten_fds = two\n\n\
           [socket:one]\nport = 1\n\n[socket:Two]\nport = 2\n\n[socket:three]\nport = 3\n";
    let sections = |text: &str| -> Vec<String> {
        let headers = text.lines().filter(|line| line.starts_with("[socket:"));
        headers.map(str::to_string).collect()
    };
    // Who goes, what is left, and who is told to need what stays.
    let cases: [(&[&str], &[&str], &[&str]); 3] = [
        // All sockets were handed to it; two others say which they use.
        (
            &["all"],
            &["[socket:one]", "[socket:Two]"],
            &[
                "[socket:one] stays: one uses",
                "[socket:two] stays: handed uses",
            ],
        ),
        // What is only handed to another one with all the rest is not its own.
        (&["one"], &["[socket:Two]", "[socket:three]"], &[]),
        (&["handed", "one", "all"], &[], &[]),
    ];
    for (names, left, told) in cases {
        site.write("circus.ini", &text);
        let mut warnings = String::new();
        for name in names {
            let absent = ["absent", name, "--with-socket", "--no-live"];
            let report = state(&site, &absent, 0);
            warnings.push_str(&report["warnings"].to_string());
        }
        let now = ini(&site);
        assert_eq!(sections(&now), left, "{names:?}: {now}");
        for text in told {
            assert!(warnings.contains(text), "{names:?}: {warnings}");
        }
        assert!(
            !told.is_empty() || !warnings.contains("stays"),
            "{warnings}"
        );
    }
}

#[test]
fn a_limit_is_changed_by_a_graceful_reload() {
    started(Program::Circ, |site, daemon| {
        let other = daemon.pids("other");
        let pids = daemon.pids("web");
        let limit = [
            "ensure",
            "web",
            "--set",
            "rlimit_nofile=333",
            "--procs",
            "3",
        ];
        let report = state(site, &limit, 0);
        assert_eq!(report["restarted"], true);
        let now = daemon.wait_pids("web", 3);
        assert!(pids.iter().all(|pid| !now.contains(pid)));
        let limits = fs::read_to_string(format!("/proc/{}/limits", now[0])).expect("limits");
        assert!(
            limits
                .lines()
                .any(|l| l.starts_with("Max open files") && l.contains("333")),
            "{limits}"
        );
        assert_eq!(state(site, &limit, 0)["changed"], false);
        state(site, &["ensure", "web", "--unset", "rlimit_nofile"], 0);
        assert!(!ini(site).contains("rlimit_nofile"));
        assert_eq!(
            state(site, &["ensure", "web", "--unset", "rlimit_nofile"], 0)["changed"],
            false
        );
        same_pids(daemon, "other", &other);
    });
}

#[test]
fn a_value_that_has_no_effect_is_told_where_another_one_is_edited() {
    let site = TempSite::new();
    site.ini(
        "include = more.ini\n[watcher:web]\ncmd = sleep 1\nnumprocesses = 2\nnumprocesses = 3\n",
    );
    site.write("more.ini", "[watcher:web]\nnumprocesses = 4\nmax_age = 5\n");
    let edit = [
        "ensure",
        "web",
        "--procs",
        "6",
        "--set",
        "max_age=7",
        "--no-live",
    ];
    let warnings = state(&site, &edit, 0)["warnings"].clone();
    let warnings: Vec<&str> = warnings
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, place) in warnings
        .iter()
        .zip(["circus.ini:9: numprocesses", "more.ini:2: numprocesses"])
    {
        assert!(
            warning.contains(place) && warning.contains("has no effect"),
            "{warning}"
        );
    }
    assert!(
        ini(&site).contains("numprocesses = 6\nnumprocesses = 3\n"),
        "{}",
        ini(&site)
    );
    let more = fs::read_to_string(site.path("more.ini")).expect("the file is there");
    assert_eq!(more, "[watcher:web]\nnumprocesses = 4\nmax_age = 7\n");
}

#[test]
fn a_failing_worker_is_told_with_its_code_and_last_words() {
    started(Program::Circ, |site, _| {
        let bad = "sh -c 'echo no database here >&2; exit 3'";
        let report = state(
            site,
            &["ensure", "bad", "--cmd", bad, "--detailed-exitcode"],
            6,
        );
        let error = report["error"].as_str().unwrap_or_default();
        assert!(error.contains("exited with code 3"), "{error}");
        assert!(error.contains("no database here"), "{error}");
        assert!(error.contains("0 of 1 workers run"), "{error}");
    });
}
