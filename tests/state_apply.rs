//! `circ state apply`, `test`, `diff`, `get` and `export`: whole desired states, against circ's own daemon and the real
//! circusd.

mod support;

#[path = "state/proxy.rs"]
mod proxy;
#[allow(dead_code)] // What the tests of `ensure` use as well.
#[path = "state/run.rs"]
mod run;
#[allow(dead_code)] // Not every file of tests uses all of it.
#[path = "state/verbs.rs"]
mod verbs;

use std::net::TcpStream;

use serde_json::json;

use proxy::Proxy;
use run::fingerprint;
use support::{Program, TempSite};
use verbs::{BODY, circ, entry, ini, same_pids, started, state, variable};

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
    what_runs_is_exported_and_found_satisfied,
    a_variable_of_all_watchers_reaches_those_that_run,
);

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
        let socket = entry(&report, "socket:front");
        assert_eq!(socket["changed"], true);
        assert_eq!(socket["before"], json!({"file": null, "daemon": null}));
        assert_eq!(socket["after"]["file"]["port"], port.to_string());
        assert_eq!(socket["after"]["daemon"]["port"], port);
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
        let proxy = Proxy::to(&site.endpoint, |_| {});
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
            // A second time it would go over what somebody may have written.
            let again = [
                "state",
                "export",
                "--config",
                "circus.ini",
                "--output",
                &name,
            ];
            let refused = circ(site, &again);
            assert_eq!(refused.code, 1);
            assert!(
                refused.stderr.contains("--force replaces it"),
                "{}",
                refused.stderr
            );
            let forced = [&again[..], &["--force", "--format", format]].concat();
            assert_eq!(circ(site, &forced).code, 0);
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
            // The file came to say so by this very run.
            assert_eq!(
                entry(&report, watcher)["msg"],
                format!("{watcher}: env.ZONE unset -> \"********\"")
            );
            daemon.wait_for("the variable in a worker", || {
                (variable(daemon, watcher, "ZONE").as_deref() == Some("north")).then_some(())
            });
        }
        let again = state(site, &["apply", "wanted.toml"], 0);
        assert_eq!(again["changed"], false, "{again}");
        assert!(!again.to_string().contains("north"));
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
