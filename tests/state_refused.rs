//! What `circ state` refuses or takes back, and how it says so: the cause alone, no false alarm, and no secret in it.

mod support;

#[allow(dead_code)] // What the tests of `ensure` use as well.
#[path = "state/run.rs"]
mod run;
#[allow(dead_code)] // Not every file of tests uses all of it.
#[path = "state/verbs.rs"]
mod verbs;

use serde_json::json;

use run::fingerprint;
use support::{Program, TempSite};
use verbs::{circ, ini, started, state};

/// A configuration that no daemon runs.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    site.ini(body);
    site
}

/// `circ state ARGS --no-live` fails, says this, and writes nothing.
#[track_caller]
fn refused(site: &TempSite, args: &[&str], why: &str) {
    let before = fingerprint(&site.path("circus.ini"));
    let mut all = args.to_vec();
    all.push("--no-live");
    let report = state(site, &all, 1);
    let error = report["error"].as_str().unwrap_or_default();
    assert!(error.contains(why), "{args:?}: {error}");
    assert_eq!(report["changed"], false);
    assert_eq!(fingerprint(&site.path("circus.ini")), before);
}

#[test]
fn a_name_that_is_a_pattern_has_no_variables_of_its_own() {
    let site = site(
        "[watcher:a,b]\ncmd = sleep 1\n[watcher:w*]\ncmd = sleep 2\n[watcher:web]\ncmd = sleep 3\n\
         [env:w*]\nMODE = all\n",
    );
    let why = "cannot have variables of its own";
    refused(&site, &["ensure", "a,b", "--env", "A=1"], why);
    refused(&site, &["ensure", "w*", "--env", "A=1"], why);
    refused(&site, &["ensure", "w*", "--unset", "env.MODE"], why);
    refused(&site, &["absent", "w*", "--with-env"], why);
    // What it has already is no edit, and the rest of such a watcher is its own.
    let ensure = ["ensure", "w*", "--env", "MODE=all", "--no-live"];
    assert_eq!(state(&site, &ensure, 0)["changed"], false);
    state(&site, &["ensure", "a,b", "--procs", "2", "--no-live"], 0);
    state(&site, &["absent", "a,b", "--with-env", "--no-live"], 0);
}

#[test]
fn a_section_that_is_another_watcher_is_told() {
    let site = site("[watcher:web]\nname = Shop\ncmd = sleep 1\n");
    let why = "is the watcher Shop";
    refused(&site, &["ensure", "web", "--procs", "2"], why);
    refused(&site, &["ensure", "web", "--cmd", "sleep 2"], why);
    state(&site, &["ensure", "shop", "--procs", "2", "--no-live"], 0);
}

#[test]
fn an_error_tells_no_secret() {
    let site = site("[watcher:web]\ncmd = sleep 1\n[watcher:db]\ncmd = sleep 1\n[env:db]\nA = 1\n");
    site.write(
        "desired.json",
        r#"{"env": {"T": "sesame\r1"}, "watcher": {"web": {}}}"#,
    );
    let calls: [&[&str]; 4] = [
        &["ensure", "web", "--env", "TOKEN=sesame ;x"],
        &["ensure", "db", "--env", "TOKEN=sesame ;x"],
        &["ensure", "web", "--env", "sesame"],
        &["apply", "desired.json"],
    ];
    for args in calls {
        let mut all = vec!["state"];
        all.extend(args);
        all.extend(["--config", "circus.ini", "--no-live"]);
        let run = circ(&site, &all);
        assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(!said.contains("sesame"), "{args:?}: {said}");
    }
}

#[test]
fn a_socket_that_cannot_be_bound_is_the_reason_and_nothing_else() {
    started(Program::Circ, |site, daemon| {
        let before = ini(site);
        // An address of nobody, kept for documentation.
        let report = state(site, &["ensure", "web", "--socket", "s=203.0.113.7:1"], 1);
        let error = report["error"].as_str().unwrap_or_default();
        assert!(
            error.starts_with("[socket:s] ")
                && error.contains("cannot bind")
                && !error.contains("could not be undone"),
            "{error}"
        );
        assert_eq!((&report["changed"], ini(site)), (&json!(false), before));
        daemon.wait_pids("web", 2);
    });
}

#[test]
fn a_first_stream_is_given_to_a_watcher_of_circusd() {
    started(Program::Circusd, |site, daemon| {
        let log = format!("stdout_stream.filename={}", site.path("web.log").display());
        let ensure = [
            "ensure",
            "web",
            "--set",
            "stdout_stream.class=FileStream",
            "--set",
            &log,
        ];
        let report = state(site, &ensure, 0);
        assert_eq!(
            (&report["changed"], &report["restarted"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(state(site, &ensure, 0)["changed"], false);
        let pids = daemon.wait_pids("web", 2);
        // Without names the file decides, and over the whole of it as well.
        assert_eq!(state(site, &["ensure", "web"], 0)["changed"], false);
        assert_eq!(state(site, &["apply", "circus.ini"], 0)["changed"], false);
        let other = ["ensure", "web", "--set", "stdout_stream.class=StdoutStream"];
        let check = state(site, &[&other[..], &["--check"]].concat(), 2);
        assert_eq!(check["restarted"], true);
        verbs::same_pids(daemon, "web", &pids);
    });
}

#[test]
fn the_workers_that_run_in_the_end_are_counted() {
    let site = TempSite::new();
    site.ini(
        "[watcher:web]\ncmd = python3 -c \"import signal, time; signal.signal(15, signal.SIG_IGN); \
         time.sleep(1000)\"\ngraceful_timeout = 3\n",
    );
    let daemon = site.start(Program::Circ);
    let old = daemon.wait_pids("web", 1);
    // The old worker takes its time to go, beside the new one.
    daemon.call("reload", json!({"name": "web"}));
    daemon.wait_for("the new worker", || {
        daemon
            .pids("web")
            .iter()
            .any(|pid| !old.contains(pid))
            .then_some(())
    });
    let report = state(&site, &["ensure", "web", "--procs", "1"], 0);
    assert_eq!(report["msg"], "web: as desired, 1 running");
    assert_eq!(report["after"]["daemon"]["running"], 1);
}
