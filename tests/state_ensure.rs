//! `circ state ensure` against running daemons: the real circusd and circ's own.

mod support;

#[path = "state/proxy.rs"]
mod proxy;
#[path = "state/run.rs"]
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use proxy::Proxy;
use run::{command, ensure, expect, fingerprint, finish, plain, refused};
use support::{Program, TempSite};

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
    a_watcher_is_created_once,
    a_count_goes_up_and_down_without_restarts,
    options_are_set_in_place_or_with_a_reload,
    an_option_that_cannot_be_set_in_place_replaces_the_watcher,
    check_and_diff_tell_and_change_nothing,
    drift_of_one_side_is_found_and_repaired,
    a_refused_option_leaves_everything_as_it_was,
    a_worker_that_does_not_stay_is_a_failure,
    a_stopped_watcher_is_started,
    several_runs_at_once_do_not_mix,
    files_keep_their_form,
    endpoints_have_an_order,
    what_takes_longer_than_the_deadline_goes_on,
    variables_are_compared_by_what_they_mean,
);

/// Two workers of `web`, and a watcher that is never touched.
const BODY: &str = "\
check_delay = 0.5

; the site
[watcher:web]
cmd = sleep 1000
numprocesses = 2   ; two of them
graceful_timeout=3

[watcher:other]
cmd = sleep 2000
";

fn started(program: Program, body: &str, test: impl FnOnce(&TempSite, &support::Daemon)) {
    let site = TempSite::new();
    site.ini(body);
    let daemon = site.start(program);
    for watcher in ["web", "other"] {
        if body.contains(&format!("[watcher:{watcher}]")) {
            let count = if watcher == "web" { 2 } else { 1 };
            daemon.wait_pids(watcher, count);
        }
    }
    test(&site, &daemon);
}

fn ini(site: &TempSite) -> String {
    fs::read_to_string(site.path("circus.ini")).expect("the file is there")
}

fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}

fn a_watcher_is_created_once(program: Program) {
    started(program, BODY, |site, daemon| {
        let proxy = Proxy::to(&site.endpoint, |_| {});
        let endpoint = proxy.endpoint();
        let wanted = [
            "new",
            "--cmd",
            "sleep 300",
            "--procs",
            "3",
            "--set",
            "max_age=4000",
            "--endpoint",
            &endpoint,
        ];
        let before = ini(site);
        let report = expect(site, &wanted, true);
        assert_eq!(
            report["changes"]["watcher"],
            json!({"old": "absent", "new": "present"})
        );
        assert_eq!(
            report["changes"]["numprocesses"],
            json!({"old": null, "new": 3})
        );
        assert_eq!(report["after"]["daemon"]["running"], 3);
        assert_eq!(daemon.wait_pids("new", 3).len(), 3);
        assert_eq!(
            ini(site),
            format!("{before}\n[watcher:new]\ncmd = sleep 300\nnumprocesses = 3\nmax_age = 4000\n")
        );
        assert_eq!(
            proxy
                .commands()
                .iter()
                .filter(|c| !QUERIES.contains(&c.as_str()))
                .collect::<Vec<_>>(),
            ["add"]
        );

        // Again: nothing changes, the file is not touched, the daemon is only asked.
        let file = fingerprint(&site.path("circus.ini"));
        let pids = daemon.pids("new");
        let report = expect(site, &wanted, false);
        assert_eq!(report["changes"], json!({}));
        assert_eq!(report["actions"], json!([]));
        assert_eq!(report["before"], report["after"]);
        assert_eq!(fingerprint(&site.path("circus.ini")), file);
        assert_eq!(daemon.pids("new"), pids);
        let asked = proxy.commands();
        assert!(!asked.is_empty());
        assert!(
            asked.iter().all(|c| QUERIES.contains(&c.as_str())),
            "{asked:?}"
        );
        // A new daemon on that file has it too.
        let config =
            circ::config::Config::load(&site.path("circus.ini"), &Default::default(), site.dir())
                .expect("a configuration");
        assert_eq!(
            config.watcher("new").map(|(w, _)| w.numprocesses()),
            Some(3)
        );
    });
}

fn a_count_goes_up_and_down_without_restarts(program: Program) {
    started(program, BODY, |site, daemon| {
        let proxy = Proxy::to(&site.endpoint, |_| {});
        let endpoint = proxy.endpoint();
        let before = ini(site);
        let two = set(daemon.pids("web"));
        let other = daemon.pids("other");

        let report = expect(
            site,
            &["web", "--procs", "4", "--endpoint", &endpoint],
            true,
        );
        assert_eq!(report["msg"], "web: numprocesses 2 -> 4");
        assert_eq!(report["comment"], report["msg"]);
        assert_eq!(
            report["changes"],
            json!({"numprocesses": {"old": 2, "new": 4}})
        );
        assert_eq!(report["restarted"], false);
        assert_eq!(
            report["actions"],
            json!([
                {"target": "file", "op": "set", "key": "numprocesses", "status": "done"},
                {"target": "daemon", "op": "incr", "key": "numprocesses", "status": "done"},
            ])
        );
        let four = set(daemon.wait_pids("web", 4));
        assert!(two.is_subset(&four));
        assert_eq!(
            ini(site),
            before.replace("numprocesses = 2 ", "numprocesses = 4 ")
        );
        let changing: Vec<String> = proxy
            .commands()
            .into_iter()
            .filter(|c| !QUERIES.contains(&c.as_str()))
            .collect();
        assert_eq!(changing, ["incr"]);

        let report = expect(site, &["web", "--procs", "1"], true);
        assert_eq!(
            report["changes"],
            json!({"numprocesses": {"old": 4, "new": 1}})
        );
        assert!(set(daemon.wait_pids("web", 1)).is_subset(&four));
        expect(site, &["web", "--procs", "0"], true);
        daemon.wait_pids("web", 0);
        expect(site, &["web", "--procs", "0"], false);
        expect(site, &["web", "--procs", "2"], true);
        assert_eq!(ini(site), before);
        assert_eq!(daemon.pids("other"), other);

        // The exit code tells, if it is asked to.
        let detailed =
            |procs: &str| ensure(site, &["web", "--procs", procs, "--detailed-exitcode"]).code;
        assert_eq!(detailed("3"), 2);
        assert_eq!(detailed("3"), 0);
    });
}

fn options_are_set_in_place_or_with_a_reload(program: Program) {
    started(program, BODY, |site, daemon| {
        let pids = set(daemon.pids("web"));
        let report = expect(site, &["web", "--set", "graceful_timeout=4"], true);
        assert_eq!(report["restarted"], false);
        assert_eq!(
            report["changes"],
            json!({"graceful_timeout": {"old": 3.0, "new": 4.0}})
        );
        assert_eq!(set(daemon.pids("web")), pids);
        assert!(ini(site).contains("graceful_timeout=4\n"));
        // The same in another spelling.
        expect(site, &["web", "--set", "graceful_timeout=4.0"], false);

        let report = expect(
            site,
            &[
                "web",
                "--cmd",
                "sleep 1500",
                "--set",
                "stop_signal=INT",
                "--procs",
                "3",
            ],
            true,
        );
        assert_eq!(report["restarted"], true);
        let fresh = set(daemon.wait_pids("web", 3));
        assert!(fresh.is_disjoint(&pids), "{fresh:?} {pids:?}");
        let options = daemon.ok("options", json!({"name": "web"}))["options"].clone();
        assert_eq!(
            (
                &options["cmd"],
                &options["stop_signal"],
                &options["numprocesses"]
            ),
            (&json!("sleep 1500"), &json!(2), &json!(3))
        );
        expect(
            site,
            &[
                "web",
                "--cmd",
                "sleep 1500",
                "--set",
                "stop_signal=SIGINT",
                "--procs",
                "3",
            ],
            false,
        );
        // An account is kept as a number by the daemon.
        if nix::unistd::geteuid().is_root() {
            expect(site, &["web", "--set", "uid=nobody"], true);
            expect(site, &["web", "--set", "uid=nobody"], false);
        }
    });
}

fn an_option_that_cannot_be_set_in_place_replaces_the_watcher(program: Program) {
    started(program, BODY, |site, daemon| {
        expect(site, &["web", "--procs", "3"], true);
        // circusd answers ok to this `set`, and does nothing.
        let report = expect(site, &["web", "--set", "max_retry=9"], true);
        assert_eq!(
            report["changes"],
            json!({"max_retry": {"old": 5, "new": 9}})
        );
        daemon.wait_pids("web", 3);
        let options = daemon.ok("options", json!({"name": "web"}))["options"].clone();
        assert_eq!(
            (
                &options["max_retry"],
                &options["cmd"],
                &options["graceful_timeout"]
            ),
            (&json!(9), &json!("sleep 1000"), &json!(3.0))
        );
        expect(site, &["web", "--set", "max_retry=9"], false);

        // Set or not, a worker's environment is what the watcher was made with.
        expect(site, &["web", "--set", "copy_env=yes"], true);
        for pid in daemon.wait_pids("web", 3) {
            let environ = fs::read(format!("/proc/{pid}/environ")).expect("a living worker");
            assert!(environ.starts_with(b"PATH=") || environ.windows(6).any(|w| w == b"\0PATH="));
        }

        // Down to one before it becomes a singleton, up after it is none.
        for (singleton, procs) in [("yes", "1"), ("no", "2")] {
            let singleton = format!("singleton={singleton}");
            let wanted = ["web", "--procs", procs, "--set", &singleton];
            expect(site, &wanted, true);
            expect(site, &wanted, false);
        }
        daemon.wait_pids("web", 2);
    });
}

fn check_and_diff_tell_and_change_nothing(program: Program) {
    started(program, BODY, |site, daemon| {
        let proxy = Proxy::to(&site.endpoint, |_| {});
        let endpoint = proxy.endpoint();
        let wanted = [
            "web",
            "--procs",
            "4",
            "--set",
            "max_age=60",
            "--check",
            "--diff",
            "--endpoint",
            &endpoint,
        ];
        let file = fingerprint(&site.path("circus.ini"));
        let pids = daemon.pids("web");
        let run = ensure(site, &wanted);
        assert_eq!(run.code, 2, "{}", run.stdout);
        let report = run.report();
        assert_eq!(report["check"], true);
        assert_eq!(report["changed"], true);
        assert_eq!(report["before"], report["after"]);
        assert_eq!(report["actions"][0]["status"], "planned");
        assert_eq!(report["diff"][0]["before"], ini(site));
        let after = report["diff"][0]["after"].as_str().unwrap_or_default();
        assert_eq!(
            after,
            ini(site)
                .replace("numprocesses = 2 ", "numprocesses = 4 ")
                .replace("graceful_timeout=3\n", "graceful_timeout=3\nmax_age=60\n")
        );
        assert_eq!(
            report["diff"][1],
            json!({"prepared": "daemon: web numprocesses 2 -> 4\ndaemon: web max_age 0 -> 60\n"})
        );
        let mut zero = wanted.to_vec();
        zero.push("--check-exit-zero");
        assert_eq!(ensure(site, &zero).code, 0);
        assert_eq!(fingerprint(&site.path("circus.ini")), file);
        assert_eq!(daemon.pids("web"), pids);
        let asked = proxy.commands();
        assert!(
            asked.iter().all(|c| QUERIES.contains(&c.as_str())),
            "{asked:?}"
        );

        // Salt is told null, then true; nothing under --check, all of it without.
        let salt = |args: &[&str]| {
            let mut all = args.to_vec();
            all.extend(["--config", "circus.ini", "--format", "salt"]);
            let run = plain(site, &all);
            (run.code, run.report()["result"].clone())
        };
        assert_eq!(salt(&["web", "--procs", "3", "--check"]), (2, Value::Null));
        assert_eq!(salt(&["web", "--procs", "2", "--check"]), (0, json!(true)));
        assert_eq!(ensure(site, &["web", "--procs", "2", "--check"]).code, 0);

        let diff = expect(site, &["web", "--procs", "3", "--diff"], true)["diff"].clone();
        assert_eq!(diff[0]["after"], ini(site));
        assert_eq!(
            expect(site, &["web", "--procs", "3", "--diff"], false)["diff"],
            json!([])
        );
    });
}

fn drift_of_one_side_is_found_and_repaired(program: Program) {
    started(program, BODY, |site, daemon| {
        // Someone at a terminal.
        daemon.ok("incr", json!({"name": "web", "nb": 3, "waiting": true}));
        let file = fingerprint(&site.path("circus.ini"));
        let report = expect(site, &["web", "--procs", "2"], true);
        assert_eq!(
            report["msg"],
            "web: numprocesses 5 -> 2 (in the daemon; the file was right)"
        );
        assert_eq!(fingerprint(&site.path("circus.ini")), file);
        daemon.wait_pids("web", 2);

        // Someone with an editor.
        let text = ini(site).replace("numprocesses = 2 ", "numprocesses = 7 ");
        site.write("circus.ini", &text);
        let report = expect(site, &["web", "--procs", "2"], true);
        assert_eq!(
            report["msg"],
            "web: numprocesses 7 -> 2 (in the file; the daemon was right)"
        );
        assert_eq!(report["actions"].as_array().map(Vec::len), Some(1));

        // The file alone, the daemon alone.
        expect(site, &["web", "--procs", "3", "--no-live"], true);
        assert_eq!(daemon.pids("web").len(), 2);
        expect(site, &["web", "--procs", "4", "--no-persist"], true);
        assert!(ini(site).contains("numprocesses = 3 "));
        assert_eq!(daemon.pids("web").len(), 4);

        // Only in the daemon, only in the file.
        daemon.ok(
            "add",
            json!({"name": "loose", "cmd": "sleep 50", "start": true, "waiting": true}),
        );
        refused(site, &["loose", "--procs", "1"], "--cmd");
        let report = expect(site, &["loose", "--cmd", "sleep 50"], true);
        assert_eq!(
            report["msg"],
            "loose: added (to the file; the daemon had it)"
        );
        assert!(
            report["warnings"]
                .to_string()
                .contains("in the daemon only"),
            "{report}"
        );
        daemon.ok("rm", json!({"name": "loose", "waiting": true}));
        let report = expect(site, &["loose"], true);
        assert_eq!(
            report["msg"],
            "loose: added (to the daemon; the file had it)"
        );
        daemon.wait_pids("loose", 1);

        // An option nobody asked for is told and left alone.
        daemon.ok(
            "set",
            json!({"name": "web", "options": {"graceful_timeout": 9}, "waiting": true}),
        );
        let report = expect(site, &["web", "--procs", "3"], true);
        assert!(
            report["warnings"]
                .to_string()
                .contains("graceful_timeout is 9"),
            "{report}"
        );
        // With nothing asked for by name, the file's section is what is wanted.
        let report = expect(site, &["web"], true);
        assert_eq!(
            report["changes"],
            json!({"graceful_timeout": {"old": 9.0, "new": 3.0}})
        );
    });
}

fn a_refused_option_leaves_everything_as_it_was(program: Program) {
    started(program, BODY, |site, daemon| {
        let path = site.path("circus.ini");
        let content = fs::read(&path).expect("the file is there");
        let options = daemon.ok("options", json!({"name": "web"}))["options"].clone();
        let pids = daemon.pids("web");
        let report = refused(
            site,
            &[
                "web",
                "--procs",
                "5",
                "--set",
                "graceful_timeout=8",
                "--set",
                "uid=nobody-of-that-name",
            ],
            "nobody-of-that-name",
        );
        assert_eq!(report["changes"], json!({}));
        assert!(
            report["error"].to_string().contains("was put back"),
            "{report}"
        );
        assert_eq!(fs::read(&path).expect("the file is there"), content);
        assert_eq!(
            daemon.ok("options", json!({"name": "web"}))["options"],
            options
        );
        assert_eq!(daemon.pids("web"), pids);

        // One worker was stopped already when the option is refused: another one takes its place.
        let report = refused(
            site,
            &["web", "--procs", "1", "--set", "uid=nobody-of-that-name"],
            "numprocesses raised by 1 again",
        );
        let statuses: Vec<&Value> = report["actions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|action| &action["status"])
            .collect();
        assert_eq!(statuses, ["undone", "undone", "undone", "failed"]);
        let pids = daemon.wait_pids("web", 2);

        // What is wrong with the request itself is found before anything is written.
        let file = fingerprint(&path);
        for (args, why) in [
            (&["web", "--set", "max_agee=1"][..], "did you mean max_age?"),
            (&["web", "--procs", "-1"], "from 0 upwards"),
            (&["web", "--procs", "many"], "whole number"),
            (&["web", "--set", "shell=perhaps"], "boolean"),
            (&["web", "--set", "singleton=true"], "singleton"),
            (&["web", "--set", "stdin_socket=nope"], "[socket:nope]"),
            (&["nope", "--procs", "2"], "--cmd"),
            (&["we]b", "--cmd", "sleep 1"], "cannot be a watcher's name"),
            (&["web", "--cmd", "sleep 1 ; more"], ";"),
        ] {
            refused(site, args, why);
        }
        assert_eq!(fingerprint(&path), file);
        assert_eq!(daemon.pids("web"), pids);
    });
}

fn a_worker_that_does_not_stay_is_a_failure(program: Program) {
    started(program, BODY, |site, _| {
        for (name, cmd) in [
            ("false", "false"),
            ("short", "sleep 0.2"),
            ("none", "/nonexistent/program"),
        ] {
            // One of them lives longer than other tests look.
            let wish = [name, "--cmd", cmd, "--detailed-exitcode", "--settle", "1"];
            let run = ensure(site, &wish);
            let report = run.report();
            assert_eq!((run.code, &report["failed"]), (6, &json!(true)), "{report}");
            let error = report["error"].as_str().unwrap_or_default();
            assert!(
                error.contains("workers run; the daemon says the watcher is"),
                "{error}"
            );
        }
    });
}

fn a_stopped_watcher_is_started(program: Program) {
    started(program, BODY, |site, daemon| {
        // Not waited for: the run finds it on its way down. A circusd may still be busy with its own start.
        daemon.wait_for("the stop to be taken", || {
            (daemon.call("stop", json!({"name": "web"}))["status"] == "ok").then_some(())
        });
        let report = expect(site, &["web", "--procs", "2"], true);
        assert_eq!(
            report["changes"],
            json!({"status": {"old": "stopped", "new": "active"}})
        );
        assert_eq!(daemon.pids("web").len(), 2);
    });
}

fn several_runs_at_once_do_not_mix(program: Program) {
    started(program, BODY, |site, daemon| {
        let counts = ["3", "5", "4"];
        let runs: Vec<_> = counts
            .iter()
            .enumerate()
            .map(|(at, procs)| {
                let mut run = match at {
                    // One of them without the file.
                    2 => command(
                        site,
                        &[
                            "web",
                            "--procs",
                            procs,
                            "--json",
                            "--endpoint",
                            &site.endpoint,
                        ],
                    ),
                    _ => command(
                        site,
                        &["web", "--procs", procs, "--json", "--config", "circus.ini"],
                    ),
                };
                run.stdout(std::process::Stdio::piped());
                run.spawn().expect("circ runs")
            })
            .collect();
        for run in runs {
            let output = run.wait_with_output().expect("circ ends");
            let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
            assert_eq!(report["failed"], false, "{report}");
        }
        // Each was alone when it looked, acted and verified; the last one stands.
        let now = daemon.pids("web").len().to_string();
        assert!(counts.contains(&now.as_str()), "{now}");
        let left: Vec<String> = fs::read_dir(site.dir())
            .expect("the directory is there")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert_eq!(left, [] as [String; 0]);
    });
}

fn files_keep_their_form(program: Program) {
    let site = TempSite::new();
    // The main file with CRLF behind a link, the value in an included file.
    let real = site.write(
        "real.ini",
        format!(
            "{}check_delay = 0.5\ninclude = more.ini\n\n[watcher:crlf]\ncmd = sleep 100\nnumprocesses = 1",
            site.circus_section()
        )
        .replace('\n', "\r\n"),
    );
    std::os::unix::fs::symlink("real.ini", site.path("circus.ini")).expect("a link");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("a mode");
    site.write(
        "more.ini",
        "\t; tabs and all\n[watcher:web]\ncmd:sleep 1000\nnumprocesses:2\n".trim_start(),
    );
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);
    let main = fingerprint(&real);
    expect(&site, &["web", "--procs", "3"], true);
    assert_eq!(fingerprint(&real), main);
    assert_eq!(
        fs::read_to_string(site.path("more.ini")).expect("the file is there"),
        "; tabs and all\n[watcher:web]\ncmd:sleep 1000\nnumprocesses:3\n"
    );
    let before = fs::read_to_string(&real).expect("the file is there");
    expect(&site, &["crlf", "--procs", "2"], true);
    assert_eq!(
        fs::read_to_string(&real).expect("the file is there"),
        before.replace("numprocesses = 1", "numprocesses = 2")
    );
    assert!(
        fs::symlink_metadata(site.path("circus.ini"))
            .expect("the link is there")
            .is_symlink()
    );
    assert_eq!(
        fs::metadata(&real)
            .expect("the file is there")
            .permissions()
            .mode()
            & 0o7777,
        0o640
    );
    expect(&site, &["crlf", "--procs", "2"], false);
    expect(&site, &["web", "--procs", "3"], false);
}

fn endpoints_have_an_order(program: Program) {
    started(program, BODY, |site, daemon| {
        let nobody = format!("tcp://127.0.0.1:{}", site.port());
        let with_environment = |endpoint: &str, args: &[&str]| {
            let mut run = command(site, args);
            run.env("CIRCUSCTL_ENDPOINT", endpoint).arg("--json");
            finish(run).report()
        };
        // The configuration's over the environment's, the caller's over both.
        let report = with_environment(&nobody, &["web", "--config", "circus.ini", "--procs", "2"]);
        assert_eq!(report["failed"], false, "{report}");
        let report = with_environment(&site.endpoint, &["web", "--procs", "2"]);
        assert_eq!(report["failed"], false, "{report}");
        assert!(
            report["warnings"].to_string().contains("no --config"),
            "{report}"
        );
        let report = with_environment(
            &site.endpoint,
            &[
                "web",
                "--config",
                "circus.ini",
                "--procs",
                "3",
                "--endpoint",
                &nobody,
            ],
        );
        assert!(
            report["error"].to_string().contains("nobody listens"),
            "{report}"
        );
        assert!(
            report["error"].to_string().contains("--no-live"),
            "{report}"
        );

        // Without a file only the daemon is managed.
        let before = fingerprint(&site.path("circus.ini"));
        let live = |args: &[&str]| {
            let mut all = args.to_vec();
            all.extend(["--json", "--endpoint", &site.endpoint]);
            plain(site, &all).report()
        };
        assert_eq!(live(&["web", "--procs", "3"])["changed"], true);
        assert_eq!(daemon.pids("web").len(), 3);
        assert_eq!(live(&["web", "--procs", "3"])["changed"], false);
        assert_eq!(live(&["loose", "--cmd", "sleep 60"])["changed"], true);
        assert_eq!(live(&["loose", "--cmd", "sleep 60"])["changed"], false);
        // circusd does not tell its limits, so only a file can.
        let report = live(&["web", "--set", "rlimit_nofile=100"]);
        if program == Program::Circusd {
            let error = report["error"].as_str().unwrap_or_default();
            assert!(error.contains("give --config"), "{report}");
        } else {
            assert_eq!(report["changed"], true, "{report}");
            assert_eq!(
                live(&["web", "--set", "rlimit_nofile=100"])["changed"],
                false
            );
        }
        assert_eq!(fingerprint(&site.path("circus.ini")), before);
    });
}

fn what_takes_longer_than_the_deadline_goes_on(program: Program) {
    // A worker that does not heed its stop signal.
    let body = format!(
        "{BODY}\n[watcher:stubborn]\ncmd = python3 -c \"import signal, time; signal.signal(signal.SIGTERM, \
         signal.SIG_IGN); time.sleep(3000)\"\ngraceful_timeout = 4\nnumprocesses = 2\ncopy_env = True\n"
    );
    started(program, &body, |site, daemon| {
        // It ignores the signal from some moment after its start on.
        for pid in daemon.wait_pids("stubborn", 2) {
            daemon.wait_for("a worker that ignores SIGTERM", || {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
                let ignored = status
                    .lines()
                    .find_map(|line| line.strip_prefix("SigIgn:"))?;
                (u64::from_str_radix(ignored.trim(), 16).ok()? & (1 << 14) != 0).then_some(())
            });
        }
        let run = ensure(
            site,
            &[
                "stubborn",
                "--procs",
                "1",
                "--timeout",
                "1",
                "--detailed-exitcode",
            ],
        );
        let report = run.report();
        assert_eq!(
            (run.code, &report["changed"]),
            (6, &json!(true)),
            "{report}"
        );
        let error = report["error"].as_str().unwrap_or_default();
        assert!(
            error.contains("still running") && error.contains("--timeout"),
            "{error}"
        );
        assert_eq!(report["actions"][1]["status"], "unfinished");
        // Nothing was undone, and in the end all is as it was wanted.
        assert!(ini(site).contains("graceful_timeout = 4\nnumprocesses = 1\n"));
        daemon.wait_pids("stubborn", 1);
        expect(site, &["stubborn", "--procs", "1"], false);
    });
}

fn variables_are_compared_by_what_they_mean(program: Program) {
    let body = format!("{BODY}\n[env]\nSECONDS_TO_SLEEP = 1000\n");
    started(program, &body, |site, daemon| {
        let pids = set(daemon.pids("web"));
        // The file says 1000 in plain digits: the same, so the file stays as it is.
        expect(
            site,
            &["web", "--cmd", "sleep $(circus.env.SECONDS_TO_SLEEP)"],
            false,
        );
        let report = expect(
            site,
            &["web", "--args", "$(circus.env.SECONDS_TO_SLEEP)"],
            true,
        );
        assert_eq!(report["changes"]["args"]["new"], "1000");
        assert!(
            ini(site).contains("args=$(circus.env.SECONDS_TO_SLEEP)\n"),
            "{}",
            ini(site)
        );
        assert!(set(daemon.wait_pids("web", 2)).is_disjoint(&pids));
        expect(
            site,
            &["web", "--args", "$(circus.env.SECONDS_TO_SLEEP)"],
            false,
        );
        expect(site, &["web", "--args", "1000"], false);
        expect(site, &["web"], false);
    });
}

// Without a daemon.

#[test]
fn no_daemon_is_a_failure_and_the_file_stays() {
    let site = TempSite::new();
    site.ini(BODY);
    let file = fingerprint(&site.path("circus.ini"));
    refused(&site, &["web", "--procs", "4"], "nobody listens");
    assert_eq!(fingerprint(&site.path("circus.ini")), file);
    expect(&site, &["web", "--procs", "4", "--no-live"], true);
    expect(&site, &["web", "--procs", "4", "--no-live"], false);
    assert!(ini(&site).contains("numprocesses = 4   ; two of them"));
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_line() {
    let site = TempSite::new();
    site.write(
        "circus.ini",
        "[circus]\nendpoint = tcp://127.0.0.1:1\n[watcher:web]\nwhat is this\n",
    );
    refused(&site, &["web", "--procs", "1"], "circus.ini:4");
    site.write(
        "circus.ini",
        "[circus]\n[watcher:web]\ncmd = sleep 1\nnumprocesses = many\n",
    );
    refused(&site, &["web", "--procs", "1"], "circus.ini:4");
    fs::remove_file(site.path("circus.ini")).expect("the file can go");
    refused(&site, &["web", "--procs", "1"], "circus.ini");
}

#[test]
fn usage_errors_are_64_and_print_no_report() {
    let site = TempSite::new();
    for args in [
        &[][..],
        &["web", "--bogus"],
        &["web", "--timeout", "soon"],
        &["web", "--format", "xml"],
    ] {
        let run = plain(&site, args);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (64, ""),
            "{args:?} {}",
            run.stderr
        );
        assert!(!run.stderr.is_empty());
    }
}

#[test]
fn what_a_person_sees() {
    let site = TempSite::new();
    site.write("circus.ini", format!("[circus]\n{BODY}"));
    let mut seen = String::new();
    for args in [
        &["web", "--procs", "4", "--no-live", "--check", "--diff"][..],
        &["web", "--procs", "4", "--no-live"],
        &["web", "--procs", "4", "--no-live"],
        &[
            "api",
            "--cmd",
            "sleep 5",
            "--set",
            "shell=on",
            "--no-live",
            "--diff",
        ],
        &["web", "--set", "grace_timeout=4", "--no-live"],
    ] {
        let mut all = args.to_vec();
        all.extend(["--config", "circus.ini"]);
        let run = plain(&site, &all);
        seen.push_str(&format!("$ circ state ensure {}\n", args.join(" ")));
        seen.push_str(
            &run.stdout
                .replace(&site.dir().display().to_string(), "[SITE]"),
        );
        seen.push_str(&format!("{}[exit {}]\n\n", run.stderr, run.code));
    }
    insta::assert_snapshot!(seen);
}
