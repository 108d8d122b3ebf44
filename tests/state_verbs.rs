//! The verbs of `circ state` beside `ensure`, and the wishes that `ensure` learned for whole states: environment,
//! sockets, stopped watchers, restarts on change; each against circ's own daemon and, where it can, the real circusd.

mod support;

#[path = "state/proxy.rs"]
mod proxy;
#[allow(dead_code)] // What the tests of `ensure` use as well.
#[path = "state/run.rs"]
mod run;

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use proxy::Proxy;
use run::{Run, fingerprint, finish};
use support::{Daemon, Program, TempSite};

/// Commands that change nothing in a daemon.
const QUERIES: &[&str] = &[
    "list",
    "options",
    "get",
    "status",
    "stats",
    "numwatchers",
    "identity",
    "listsockets",
    "globaloptions",
];

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
    a_whole_state_is_applied_in_one_run_and_once,
    what_is_not_named_is_told_or_pruned,
    one_refusal_undoes_the_whole_state,
    a_watcher_goes_from_both_sides,
    variables_reach_the_workers_and_stay_secret,
    an_option_is_taken_away_again,
    a_watcher_is_stopped_and_started,
    a_change_restarts_as_the_caller_wants,
    handlers_act_every_time_and_only_without_check,
    what_runs_is_exported_and_found_satisfied,
    a_variable_of_all_watchers_reaches_those_that_run,
);

/// Two workers of `web`, and a watcher that is never touched.
const BODY: &str = "\
check_delay = 0.5

; the site
[watcher:web]
cmd = sleep 1000
numprocesses = 2   ; two of them

[watcher:other]
cmd = sleep 2000
";

fn started(program: Program, test: impl FnOnce(&TempSite, &Daemon)) {
    let site = TempSite::new();
    site.ini(BODY);
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);
    daemon.wait_pids("other", 1);
    test(&site, &daemon);
}

fn ini(site: &TempSite) -> String {
    fs::read_to_string(site.path("circus.ini")).expect("the file is there")
}

/// `circ ARGS` in the site's directory.
#[track_caller]
fn circ(site: &TempSite, args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command
        .args(args)
        .current_dir(site.dir())
        .env_remove("CIRCUSCTL_ENDPOINT")
        .stdin(Stdio::null());
    finish(command)
}

/// `circ state ARGS --config circus.ini --json`; the run must end with this code.
#[track_caller]
fn state(site: &TempSite, args: &[&str], code: i32) -> Value {
    let mut all = vec!["state"];
    all.extend(args);
    all.extend(["--config", "circus.ini", "--json"]);
    let run = circ(site, &all);
    let report = run.report();
    assert_eq!(run.code, code, "{args:?}: {report}");
    report
}

/// The entry of one resource in a report over several.
#[track_caller]
fn entry<'a>(report: &'a Value, name: &str) -> &'a Value {
    let resources = report["resources"].as_array();
    resources
        .and_then(|all| all.iter().find(|resource| resource["name"] == name))
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[track_caller]
fn same_pids(daemon: &Daemon, watcher: &str, pids: &[i32]) {
    assert_eq!(daemon.pids(watcher), pids, "{watcher} was touched");
}

fn a_whole_state_is_applied_in_one_run_and_once(program: Program) {
    started(program, |site, daemon| {
        let port = site.port();
        let other = daemon.pids("other");
        let web = daemon.pids("web");
        site.write(
            "wanted.toml",
            format!(
                "[watcher.web]\nnumprocesses = 3\ngraceful_timeout = 5\n\n[watcher.api]\ncmd = \"sleep 500\"\n\
                 use_sockets = true\n\n[socket.front]\nhost = \"127.0.0.1\"\nport = {port}\n"
            ),
        );
        let before = ini(site);
        let check = state(site, &["apply", "wanted.toml", "--check", "--diff"], 2);
        assert_eq!(check["resource"], "state");
        assert_eq!(ini(site), before);
        same_pids(daemon, "web", &web);

        let report = state(site, &["apply", "wanted.toml"], 0);
        assert_eq!(
            report["changes"]["web"],
            json!({"numprocesses": {"old": 2, "new": 3}, "graceful_timeout": {"old": 30.0, "new": 5.0}})
        );
        assert_eq!(check["changes"], report["changes"]);
        assert_eq!(
            entry(&report, "api")["changes"]["watcher"]["new"],
            "present"
        );
        assert_eq!(entry(&report, "socket:front")["changed"], true);
        assert_eq!(
            ini(site),
            before
                .replace("numprocesses = 2 ", "numprocesses = 3 ")
                .replace("two of them\n", "two of them\ngraceful_timeout = 5\n")
                + &format!(
                    "\n[watcher:api]\ncmd = sleep 500\nuse_sockets = True\n\n[socket:front]\nhost = 127.0.0.1\nport = {port}\n"
                )
        );
        let three = daemon.wait_pids("web", 3);
        // For the socket circusd reads its whole file again, and replaces the watchers that have changed in it.
        let kept = web.iter().all(|pid| three.contains(pid));
        assert_eq!(kept, program == Program::Circ);
        assert_eq!(entry(&report, "web")["restarted"], !kept);
        daemon.wait_pids("api", 1);
        same_pids(daemon, "other", &other);
        TcpStream::connect(("127.0.0.1", port)).expect("the daemon holds the socket");

        // Again: nothing changes, no file is touched, the daemon is only asked.
        let file = fingerprint(&site.path("circus.ini"));
        let api = daemon.pids("api");
        let proxy = Proxy::to(&site.endpoint);
        let again = ["apply", "wanted.toml", "--endpoint", &proxy.endpoint()];
        let report = state(site, &again, 0);
        assert_eq!(report["changed"], false, "{report}");
        assert_eq!(
            (&report["changes"], &report["actions"]),
            (&json!({}), &json!([]))
        );
        assert_eq!(fingerprint(&site.path("circus.ini")), file);
        same_pids(daemon, "web", &three);
        same_pids(daemon, "api", &api);
        let asked = proxy.commands();
        assert!(
            !asked.is_empty() && asked.iter().all(|c| QUERIES.contains(&c.as_str())),
            "{asked:?}"
        );
        state(site, &["test", "wanted.toml"], 0);
    });
}

fn what_is_not_named_is_told_or_pruned(program: Program) {
    started(program, |site, daemon| {
        daemon.ok(
            "add",
            json!({"name": "loose", "cmd": "sleep 700", "start": true, "waiting": true}),
        );
        daemon.wait_pids("loose", 1);
        site.write(
            "wanted.json",
            json!({"watcher": {"web": {"numprocesses": 2}}}).to_string(),
        );
        let report = state(site, &["apply", "wanted.json"], 0);
        assert_eq!(report["changed"], false);
        let warnings = report["warnings"].to_string();
        assert!(
            warnings.contains("loose exists in the daemon only"),
            "{warnings}"
        );

        let web = daemon.pids("web");
        let drift = state(site, &["test", "wanted.json", "--prune"], 2);
        assert_eq!(entry(&drift, "loose")["changed"], true);
        let report = state(site, &["apply", "wanted.json", "--prune"], 0);
        assert!(
            entry(&report, "loose")["msg"]
                .to_string()
                .contains("from the daemon; the file did not have it"),
            "{report}"
        );
        assert_eq!(entry(&report, "other")["changed"], true);
        assert_eq!(daemon.call("list", json!({}))["watchers"], json!(["web"]));
        assert!(!ini(site).contains("other") && ini(site).contains("; the site\n[watcher:web]"));
        same_pids(daemon, "web", &web);
        assert_eq!(
            state(site, &["apply", "wanted.json", "--prune"], 0)["changed"],
            false
        );
    });
}

fn one_refusal_undoes_the_whole_state(program: Program) {
    started(program, |site, daemon| {
        let before = ini(site);
        let web = daemon.pids("web");
        // A user that does not exist is refused by the daemon, not by the file.
        let mut wanted = json!({"watcher": {
            "web": {"numprocesses": 4, "max_retry": 7},
            "fine": {"cmd": "sleep 600"},
            "other": {"uid": "no-such-user-here"},
        }});
        if program == Program::Circusd {
            // circusd does not change it in place, and it was replaced when the refusal came.
            wanted["watcher"]["web"] = json!({"numprocesses": 4});
        }
        site.write("wanted.json", wanted.to_string());
        let report = state(site, &["apply", "wanted.json", "--detailed-exitcode"], 1);
        assert_eq!(
            (&report["failed"], &report["changed"]),
            (&json!(true), &json!(false))
        );
        let error = entry(&report, "other")["error"].to_string();
        assert!(error.contains("no-such-user-here"), "{error}");
        assert!(
            error.contains("undone") && error.contains("was put back"),
            "{error}"
        );
        assert!(
            entry(&report, "fine")["error"]
                .to_string()
                .contains("because other failed"),
            "{report}"
        );
        assert_eq!(ini(site), before);
        assert_eq!(
            daemon.call("list", json!({}))["watchers"],
            json!(["other", "web"])
        );
        assert_eq!(daemon.pids("web").len(), 2);
        same_pids(daemon, "web", &web);

        // What is wrong with the state itself is found before anything is done.
        for (wanted, why) in [
            (
                json!({"watcher": {"web": {"numproceses": 4}}}),
                "did you mean numprocesses",
            ),
            (
                json!({"watcher": {"web": {"numprocesses": -1}}}),
                "numprocesses",
            ),
            (
                json!({"watcher": {"web": {"numprocesses": 3}, "new": {"numprocesses": 1}}}),
                "new",
            ),
            (json!({"watcher": {"web": {}, "WEB": {}}}), "WEB"),
            (json!({"watchers": {}}), "watcher"),
        ] {
            site.write("bad.json", wanted.to_string());
            let report = state(site, &["apply", "bad.json"], 1);
            assert!(report["msg"].to_string().contains(why), "{why}: {report}");
            assert_eq!(ini(site), before);
        }
    });
}

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

/// The value that a running worker has of a variable.
fn variable(daemon: &Daemon, watcher: &str, name: &str) -> Option<String> {
    let pid = *daemon.pids(watcher).last()?;
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{name}=");
    environ.split(|byte| *byte == 0).find_map(|pair| {
        Some(
            String::from_utf8_lossy(pair)
                .strip_prefix(&prefix)?
                .to_string(),
        )
    })
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

fn what_runs_is_exported_and_found_satisfied(program: Program) {
    started(program, |site, daemon| {
        state(
            site,
            &[
                "ensure",
                "web",
                "--args",
                "-- 'a b'",
                "--cmd",
                "sh -c 'sleep 900'",
                "--env",
                "A=1 2",
                "--set",
                "stop_signal=INT",
                "--set",
                "copy_env=True",
            ],
            0,
        );
        // Only at run time, by somebody else.
        daemon.ok("incr", json!({"name": "web", "waiting": true}));
        daemon.ok(
            "add",
            json!({"name": "loose", "cmd": "sleep 700", "start": true, "waiting": true}),
        );
        daemon.wait_pids("web", 3);
        let before = ini(site);
        let pids = daemon.pids("web");
        for format in ["ini", "toml", "json"] {
            if format != "ini" {
                // A circus.ini cannot say that.
                state(site, &["ensure", "other", "--stopped"], 0);
            }
            let name = format!("now.{format}");
            let export = circ(
                site,
                &[
                    "state",
                    "export",
                    "--format",
                    format,
                    "--config",
                    "circus.ini",
                    "--output",
                    &name,
                ],
            );
            assert_eq!(export.code, 0, "{}", export.stderr);
            let live = state(site, &["apply", &name, "--no-persist"], 0);
            assert_eq!(live["changed"], false, "{format}: {live}");
            assert_eq!(entry(&live, "loose")["changed"], false);
        }
        assert_eq!(ini(site), before);
        same_pids(daemon, "web", &pids);
        // The file lacks what was done at run time; with it in, both sides are as exported.
        let report = state(site, &["apply", "now.toml"], 0);
        assert_eq!(
            report["changes"]["web"],
            json!({"numprocesses": {"old": 2, "new": 3}}),
            "{report}"
        );
        assert!(
            entry(&report, "loose")["msg"]
                .to_string()
                .contains("to the file; the daemon had it")
        );
        assert_eq!(
            state(site, &["apply", "now.toml", "--prune"], 0)["changed"],
            false
        );
        same_pids(daemon, "web", &pids);
        assert_eq!(
            daemon.call("status", json!({"name": "other"}))["status"],
            "stopped"
        );
    });
}

fn a_variable_of_all_watchers_reaches_those_that_run(program: Program) {
    started(program, |site, daemon| {
        site.write("wanted.toml", "[env]\nZONE = \"north\"\n");
        let check = state(site, &["apply", "wanted.toml", "--check"], 2);
        assert_eq!(entry(&check, "env")["changed"], true);
        let report = state(site, &["apply", "wanted.toml"], 0);
        assert!(ini(site).contains("[env]\nZONE = north\n"));
        for watcher in ["web", "other"] {
            assert_eq!(entry(&report, watcher)["restarted"], true, "{report}");
            daemon.wait_for("the variable in a worker", || {
                (variable(daemon, watcher, "ZONE").as_deref() == Some("north")).then_some(())
            });
        }
        let again = state(site, &["apply", "wanted.toml"], 0);
        assert_eq!(again["changed"], false, "{again}");
        assert!(!again.to_string().contains("north"));
    });
}

/// circ's daemon takes over single sections of its file; circusd cannot, and loses watchers and workers by it.
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
fn options_of_the_daemon_are_changed_where_they_can_be() {
    started(Program::Circ, |site, daemon| {
        let web = daemon.pids("web");
        site.write(
            "wanted.toml",
            "[circus]\ncheck_delay = 2\npidfile = \"circ.pid\"\n",
        );
        let report = state(site, &["apply", "wanted.toml"], 0);
        assert!(
            ini(site).contains("check_delay = 2\n") && ini(site).contains("pidfile = circ.pid\n")
        );
        let warnings = entry(&report, "circus")["warnings"].to_string();
        assert!(
            warnings.contains("pidfile takes effect when the daemon is started anew"),
            "{warnings}"
        );
        let told = daemon.ok("globaloptions", json!({}));
        assert_eq!(told["options"]["check_delay"], 2.0);
        assert_eq!(state(site, &["apply", "wanted.toml"], 0)["changed"], false);
        same_pids(daemon, "web", &web);
    });
}

#[test]
fn a_daemon_is_started_if_that_is_wanted() {
    let site = TempSite::new();
    site.ini(BODY);
    let before = ini(&site);
    let none = state(&site, &["ensure", "web", "--procs", "3"], 1);
    assert!(
        none["error"].to_string().contains("--start-daemon"),
        "{none}"
    );
    assert_eq!(ini(&site), before);
    let start = ["ensure", "web", "--procs", "3", "--start-daemon"];
    let mut check = start.to_vec();
    check.push("--check");
    let report = state(&site, &check, 2);
    assert_eq!(
        report["changes"]["daemon"],
        json!({"old": "stopped", "new": "running"})
    );
    let report = state(&site, &start, 0);
    assert_eq!(report["after"]["daemon"]["running"], 3);
    let quit = |site: &TempSite| circ(site, &["quit", "--config", "circus.ini"]);
    assert_eq!(state(&site, &start, 0)["changed"], false);
    assert_eq!(quit(&site).code, 0);

    // One that cannot start says why, and the file goes back.
    site.write(
        "circus.ini",
        format!("{before}[socket:taken]\nhost = 127.0.0.1\nport = 1\nfamily = AF_UNIX\n"),
    );
    let broken = ini(&site);
    let report = state(
        &site,
        &["ensure", "web", "--procs", "4", "--start-daemon"],
        1,
    );
    assert!(
        report["error"]
            .to_string()
            .contains("Unix socket needs a path"),
        "{report}"
    );
    assert_eq!(ini(&site), broken);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    site.write(
        "circus.ini",
        format!("{before}[socket:taken]\nhost = 127.0.0.1\nport = {port}\n"),
    );
    let broken = ini(&site);
    let report = state(
        &site,
        &["ensure", "web", "--procs", "4", "--start-daemon"],
        1,
    );
    assert!(
        report["error"].to_string().contains(&port.to_string()),
        "{report}"
    );
    assert_eq!((ini(&site), &report["changed"]), (broken, &json!(false)));
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

#[test]
fn what_a_person_sees() {
    started(Program::Circ, |site, daemon| {
        daemon.ok("incr", json!({"name": "web", "waiting": true}));
        site.write(
            "wanted.toml",
            "[watcher.web]\nnumprocesses = 4\n[watcher.api]\ncmd = \"sleep 1\"\n",
        );
        let diff = circ(
            site,
            &["state", "diff", "wanted.toml", "--config", "circus.ini"],
        );
        assert_eq!(diff.code, 2);
        let dir = site.path("circus.ini").display().to_string();
        insta::assert_snapshot!("diff", diff.stdout.replace(&dir, "circus.ini"));
        let get = circ(
            site,
            &["state", "get", "web", "other", "--config", "circus.ini"],
        );
        insta::assert_snapshot!("get", get.stdout);
        let unknown = circ(site, &["state", "get", "wep", "--config", "circus.ini"]);
        assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
        assert!(
            unknown.stderr.contains("did you mean web?"),
            "{}",
            unknown.stderr
        );
        let whole = circ(site, &["state", "test", "--config", "circus.ini"]);
        assert_eq!(whole.code, 2);
        insta::assert_snapshot!("test", whole.stdout);
    });
}
