//! The Salt modules in `modules/salt`, run by the real Salt.

mod support;

#[path = "salt/fleet.rs"]
mod fleet;
#[path = "salt/minion.rs"]
mod minion;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use fleet::Fleet;
use minion::Minion;
use support::{Daemon, Program, TempSite};

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

/// A site whose daemon runs [`BODY`], and a minion for it.
fn started(test: impl FnOnce(&TempSite, &Daemon, &mut Minion)) {
    let site = TempSite::ipc();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    daemon.wait_pids("other", 1);
    test(&site, &daemon, &mut Minion::of(&site));
}

fn ini(site: &TempSite) -> String {
    fs::read_to_string(site.path("circus.ini")).expect("the file is there")
}

/// The state ended as wanted: true, false or null.
#[track_caller]
fn expect(state: &Value, result: impl Into<Value>) {
    assert_eq!(state["result"], result.into(), "{state:#}");
}

#[test]
fn a_watcher_is_created_scaled_changed_and_removed() {
    started(|site, daemon, minion| {
        let untouched = daemon.pids("other");
        let before = ini(site);
        let wanted = json!({"cmd": "sleep 300", "procs": 2, "max_age": 4000});

        // What would come is told, and nothing comes.
        let state = minion.state("circus.watcher", "new", wanted.clone(), true);
        expect(&state, Value::Null);
        let predicted = state["changes"].clone();
        assert_eq!(
            predicted["watcher"],
            json!({"old": "absent", "new": "present"})
        );
        assert_eq!(predicted["numprocesses"], json!({"old": null, "new": 2}));
        assert_eq!(ini(site), before);
        assert_eq!(daemon.ok("numwatchers", json!({}))["numwatchers"], 2);

        // It comes as it was told.
        let state = minion.state("circus.watcher", "new", wanted.clone(), false);
        expect(&state, true);
        assert_eq!(state["changes"], predicted);
        let pids = daemon.pids("new");
        assert_eq!(pids.len(), 2);
        assert_eq!(
            ini(site),
            format!("{before}\n[watcher:new]\ncmd = sleep 300\nnumprocesses = 2\nmax_age = 4000\n")
        );

        // Again, for real and as a test: nothing is to be done.
        for test in [false, true] {
            let state = minion.state("circus.watcher", "new", wanted.clone(), test);
            expect(&state, true);
            assert_eq!(state["changes"], json!({}));
            assert_eq!(daemon.pids("new"), pids);
        }

        // One more worker: the others stay.
        let state = minion.state("circus.running", "new", json!({"procs": 3}), true);
        expect(&state, Value::Null);
        assert_eq!(
            state["changes"],
            json!({"numprocesses": {"old": 2, "new": 3}})
        );
        let state = minion.state("circus.running", "new", json!({"procs": 3}), false);
        expect(&state, true);
        assert_eq!(
            state["changes"],
            json!({"numprocesses": {"old": 2, "new": 3}})
        );
        assert_eq!(&daemon.pids("new")[..2], &pids[..]);

        // An option that is set in place, and one that needs new workers.
        let pids = daemon.pids("new");
        let state = minion.state(
            "circus.watcher",
            "new",
            json!({"graceful_timeout": 2}),
            false,
        );
        expect(&state, true);
        assert_eq!(daemon.pids("new"), pids);
        let state = minion.state(
            "circus.watcher",
            "new",
            json!({"cmd": "sleep 301", "unset": ["max_age"]}),
            false,
        );
        expect(&state, true);
        assert_eq!(
            state["changes"]["cmd"],
            json!({"old": "sleep 300", "new": "sleep 301"})
        );
        assert!(
            daemon.pids("new").iter().all(|pid| !pids.contains(pid)),
            "{state:#}"
        );
        assert!(
            state["comment"]
                .as_str()
                .is_some_and(|c| c.contains("workers were replaced")),
            "{state:#}"
        );

        // Stopped, and stopped again.
        let state = minion.state("circus.dead", "new", json!({}), true);
        expect(&state, Value::Null);
        assert_eq!(daemon.pids("new").len(), 3);
        let state = minion.state("circus.dead", "new", json!({}), false);
        expect(&state, true);
        assert_eq!(
            state["changes"],
            json!({"status": {"old": "active", "new": "stopped"}})
        );
        assert!(daemon.pids("new").is_empty());
        for name in ["new", "nothing"] {
            let state = minion.state("circus.dead", name, json!({}), false);
            expect(&state, true);
            assert_eq!(state["changes"], json!({}));
        }

        // Gone, and the file as it was.
        for (test, result, changed) in [
            (true, Value::Null, true),
            (false, true.into(), true),
            (false, true.into(), false),
            (true, true.into(), false),
        ] {
            let state = minion.state("circus.absent", "new", json!({}), test);
            expect(&state, result);
            assert_eq!(
                state["changes"].as_object().is_some_and(|c| !c.is_empty()),
                changed,
                "{state:#}"
            );
        }
        assert_eq!(ini(site).trim_end(), before.trim_end());
        assert_eq!(daemon.pids("other"), untouched);
    });
}

#[test]
fn requisites_restart_reload_and_signal() {
    started(|site, daemon, minion| {
        let file = site.path("settings");
        let sls = |contents: &str| {
            format!(
                r#"
settings:
  file.managed:
    - name: {file}
    - contents: "{contents}"
web:
  circus.running:
    - watch: [{{file: settings}}]
web gracefully:
  circus.watcher:
    - name: other
    - reload: True
    - watch: [{{file: settings}}]
at the end:
  circus.running:
    - name: web
    - procs: 2
    - signal: USR1
    - listen: [{{file: settings}}]
only then:
  circus.reloaded:
    - name: other
    - onchanges: [{{file: settings}}]
no harm:
  circus.absent:
    - name: nothing
    - watch: [{{file: settings}}]
"#,
                file = file.display()
            )
        };
        // The shell outlives the signal and counts it.
        let counting = site.path("signals");
        let trap = format!(
            "sh -c 'trap \"echo x >>{0}\" USR1; while :; do sleep 0.1; done'",
            counting.display()
        );
        let state = minion.state("circus.watcher", "web", json!({"cmd": trap}), false);
        expect(&state, true);
        let (web, other) = (daemon.pids("web"), daemon.pids("other"));

        // As a test: the file would change, and so the watchers would act.
        let ran = minion.sls(&sls("one"), true);
        for id in ["settings", "web", "web gracefully", "only then"] {
            expect(&ran[id], Value::Null);
        }
        expect(&ran["no harm"], true);
        assert_eq!(
            (daemon.pids("web"), daemon.pids("other")),
            (web.clone(), other.clone())
        );

        let ran = minion.sls(&sls("one"), false);
        for (id, state) in &ran {
            expect(state, true);
            let reacts = ["settings", "web", "web gracefully", "only then"].contains(&id.as_str())
                || id.starts_with("listener_");
            assert_eq!(state["changes"] != json!({}), reacts, "{id}: {state:#}");
        }
        assert_eq!(
            ran["web"]["changes"],
            json!({"restart": {"old": null, "new": "restarted"}})
        );
        assert!(daemon.pids("web").iter().all(|pid| !web.contains(pid)));
        assert!(daemon.pids("other").iter().all(|pid| !other.contains(pid)));
        daemon.wait_for("both workers to get the signal", || {
            let lines = fs::read_to_string(&counting).unwrap_or_default();
            (lines.lines().count() == 2).then_some(())
        });

        // Nothing has changed: nobody acts.
        let pids = (daemon.pids("web"), daemon.pids("other"));
        let ran = minion.sls(&sls("one"), false);
        assert!(
            ran.values()
                .all(|state| state["result"] == true && state["changes"] == json!({})),
            "{ran:#?}"
        );
        assert_eq!((daemon.pids("web"), daemon.pids("other")), pids);
    });
}

/// The state failed with nothing changed, and its comment holds all of `words`.
#[track_caller]
fn refused(state: &Value, words: &[&str]) {
    expect(state, false);
    assert_eq!(state["changes"], json!({}), "{state:#}");
    let comment = state["comment"].as_str().unwrap_or_default();
    for word in words {
        assert!(comment.contains(word), "no {word:?} in: {comment}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    started(|site, daemon, minion| {
        let before = ini(site);
        for test in [true, false] {
            for (fun, name, kwargs, words) in [
                (
                    "circus.watcher",
                    "web",
                    json!({"numproceses": 3}),
                    &["numproceses", "did you mean numprocesses?"][..],
                ),
                (
                    "circus.watcher",
                    "web",
                    json!({"max_age": "old"}),
                    &["max_age", "whole number"],
                ),
                ("circus.watcher", "web", json!({"procs": -1}), &["-1"]),
                (
                    "circus.watcher",
                    "web",
                    json!({"procs": 2, "numprocesses": 3}),
                    &["differ"],
                ),
                (
                    "circus.watcher",
                    "web",
                    json!({"running": "maybe"}),
                    &["True, False or any"],
                ),
                (
                    "circus.watcher",
                    "web",
                    json!({"sockets": {"s": "nowhere"}}),
                    &["nowhere", "HOST:PORT"],
                ),
                (
                    "circus.watcher",
                    "nix",
                    json!({"procs": 1}),
                    &["nix", "cmd"],
                ),
                ("circus.running", "nix", json!({}), &["nix"]),
                (
                    "circus.running",
                    "web",
                    json!({"cmd": "x"}),
                    &["cmd", "circus.watcher"],
                ),
                ("circus.dead", "web", json!({"prox": 1}), &["prox"]),
                (
                    "circus.socket",
                    "s",
                    json!({"hots": "::1"}),
                    &["hots", "did you mean host?"],
                ),
                ("circus.restarted", "nix", json!({}), &["nix"]),
                (
                    "circus.watcher",
                    "web",
                    json!({"endpoint": "ipc:///nowhere/at/all"}),
                    &["nobody listens on ipc:///nowhere/at/all"],
                ),
                (
                    "circus.watcher",
                    "web",
                    json!({"timeout": "soon"}),
                    &["soon"],
                ),
                ("circus.watcher", "-web", json!({"procs": 1}), &["-web"]),
                ("circus.running", "--version", json!({}), &["dash"]),
            ] {
                refused(&minion.state(fun, name, kwargs, test), words);
            }
        }
        assert_eq!(ini(site), before);

        // What a state of the same run may still bring: nothing is known in a test, and it is a failure without one.
        for (key, missing) in [("bin", "no-circ"), ("config", "no.ini")] {
            let kwargs = json!({key: site.path(missing), "procs": 1});
            let state = minion.state("circus.running", "web", kwargs.clone(), true);
            expect(&state, Value::Null);
            assert!(
                state["comment"]
                    .as_str()
                    .is_some_and(|c| c.contains(missing)),
                "{state:#}"
            );
            refused(
                &minion.state("circus.running", "web", kwargs, false),
                &[missing],
            );
        }

        // Workers that do not stay: what was changed is told, and so is why.
        let state = minion.state(
            "circus.watcher",
            "dying",
            json!({"cmd": "sh -c 'echo no such table >&2; exit 3'"}),
            false,
        );
        expect(&state, false);
        let comment = state["comment"].as_str().unwrap_or_default();
        assert!(
            comment.contains("exited with code 3") && comment.contains("no such table"),
            "{comment}"
        );
        assert_eq!(daemon.pids("other").len(), 1);
    });
}

#[test]
fn the_command_line_of_salt_takes_the_modules_from_its_file_roots() {
    let site = TempSite::ipc();
    site.ini(BODY);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let conf = minion::configure(
        &site,
        json!({
            "file_roots": {"base": [site.path("states"), minion::modules()]},
            "circus": {"bin": minion::circ(), "config": site.path("circus.ini")},
        }),
    );
    site.write(
        "states/web.sls",
        "web:\n  circus.running:\n    - procs: 3\n",
    );
    let (synced, errors) = minion::salt_call(&conf, &["saltutil.sync_all"]);
    assert_eq!(synced["modules"], json!(["modules.circus"]), "{errors}");
    for (words, result, changes) in [
        (&["state.apply", "web", "test=True"][..], Value::Null, true),
        (&["state.apply", "web"], true.into(), true),
        (&["state.apply", "web"], true.into(), false),
    ] {
        let (ran, errors) = minion::salt_call(&conf, words);
        let state = &minion::by_id(&ran)["web"];
        assert_eq!(state["result"], result, "{words:?}: {state:#}\n{errors}");
        assert_eq!(
            state["changes"] != json!({}),
            changes,
            "{words:?}: {state:#}"
        );
    }
    assert_eq!(daemon.pids("web").len(), 3);
}

#[test]
fn sockets_secrets_warnings_and_whole_configurations() {
    started(|site, daemon, minion| {
        let config = site.path("circus.ini");
        // A watcher with its socket and a secret: the value is in the file and nowhere else.
        let (port, secret) = (site.port(), "correct-horse");
        let wanted = json!({
            "cmd": "sleep 5000", "env": {"TOKEN": secret, "LEVEL": 3},
            "sockets": {"front": format!("127.0.0.1:{port}"), "back": {"path": site.path("back")}},
            "rlimits": {"nofile": 512}, "stdout_stream.class": "FileStream", "stdout_stream.filename": site.path("out.log"), "diff": true,
        });
        for test in [true, false, false] {
            let state = minion.state("circus.watcher", "new", wanted.clone(), test);
            assert!(!state.to_string().contains(secret), "{state:#}");
            if daemon.pids("other").len() == 1 && state["changes"] != json!({}) {
                assert_eq!(
                    state["changes"]["env.TOKEN"]["new"], "********",
                    "{state:#}"
                );
                assert_eq!(
                    state["changes"]["socket:front"]["port"]["new"],
                    port.to_string(),
                    "{state:#}"
                );
                let diff = state["changes"]["diff"][config.to_str().unwrap_or_default()].as_str();
                assert!(
                    diff.is_some_and(|d| d.contains("+[watcher:new]\n")),
                    "{state:#}"
                );
            }
            expect(&state, if test { Value::Null } else { true.into() });
        }
        assert!(ini(site).contains(secret));
        let options = daemon.ok("options", json!({"name": "new"}))["options"].clone();
        assert_eq!(
            (&options["env"]["TOKEN"], &options["use_sockets"]),
            (&json!(secret), &json!(true))
        );
        let state = minion.state("circus.watcher", "new", wanted, false);
        assert_eq!(state["changes"], json!({}), "{state:#}");

        // A socket by itself.
        let extra = json!({"host": "127.0.0.1", "port": site.port()});
        for (fun, kwargs) in [
            ("circus.socket", extra),
            ("circus.socket_absent", json!({})),
        ] {
            for (test, result, changes) in [
                (true, Value::Null, true),
                (false, true.into(), true),
                (true, true.into(), false),
            ] {
                let state = minion.state(fun, "extra", kwargs.clone(), test);
                expect(&state, result);
                assert_eq!(state["changes"] != json!({}), changes, "{state:#}");
            }
        }

        // What circ warns of is passed on.
        let alone = json!({"procs": 2, "config": "", "endpoint": site.endpoint, "persist": true});
        let state = minion.state("circus.running", "web", alone, false);
        expect(&state, true);
        assert!(
            state["warnings"].to_string().contains("--config"),
            "{state:#}"
        );

        // A whole configuration, from data, from a file of the master, and from the file itself.
        let desired =
            json!({"watcher": {"web": {"numprocesses": 3}, "fresh": {"cmd": "sleep 77"}}});
        for (test, result, changes) in [
            (true, Value::Null, true),
            (false, true.into(), true),
            (false, true.into(), false),
        ] {
            let kwargs = json!({"desired": desired});
            let state = minion.state("circus.config", &config.display().to_string(), kwargs, test);
            expect(&state, result);
            assert_eq!(state["changes"] != json!({}), changes, "{state:#}");
            if changes {
                assert_eq!(
                    state["changes"]["web"]["numprocesses"]["new"], 3,
                    "{state:#}"
                );
            }
        }
        assert_eq!(daemon.pids("web").len(), 3);
        site.write(
            "states/less.toml",
            "prune = true\n[watcher.web]\nnumprocesses = 1\n[watcher.other]\n",
        );
        let from_master = json!({"source": "salt://less.toml"});
        let state = minion.state(
            "circus.config",
            &config.display().to_string(),
            from_master,
            false,
        );
        expect(&state, true);
        assert_eq!(
            daemon.ok("numwatchers", json!({}))["numwatchers"],
            2,
            "{state:#}"
        );
        daemon.ok("incr", json!({"name": "web", "waiting": true}));
        for changes in [true, false] {
            let state = minion.state(
                "circus.config",
                &config.display().to_string(),
                json!({}),
                false,
            );
            expect(&state, true);
            assert_eq!(state["changes"] != json!({}), changes, "{state:#}");
        }
        assert_eq!(daemon.pids("web").len(), 1);
        let nowhere = json!({"source": "salt://no/such"});
        refused(
            &minion.state(
                "circus.config",
                &config.display().to_string(),
                nowhere,
                false,
            ),
            &["salt://no/such"],
        );
    });
}

#[test]
fn every_function_gives_data_or_the_daemons_reason() {
    started(|site, daemon, minion| {
        let none = || json!({});
        let web = daemon.pids("web");
        assert_eq!(
            minion.ok("circus.version", json!([]), none()),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(
            minion.ok("circus.list", json!([]), none()),
            json!(["other", "web"])
        );
        assert_eq!(minion.ok("circus.list", json!(["web"]), none()), json!(web));
        assert_eq!(
            minion.ok("circus.status", json!([]), none()),
            json!({"web": "active", "other": "active"})
        );
        assert_eq!(
            minion.ok("circus.status", json!(["web"]), none()),
            json!({"web": "active"})
        );
        let stats = minion.ok("circus.stats", json!([]), none());
        assert_eq!(stats["web"][web[0].to_string()]["cmdline"], "sleep");
        assert_eq!(
            minion
                .ok("circus.stats", json!(["web"]), none())
                .as_object()
                .map(|m| m.len()),
            Some(2)
        );
        assert_eq!(
            minion.ok("circus.stats", json!(["web", web[1]]), none())["pid"],
            web[1]
        );
        assert_eq!(
            minion.ok("circus.dstats", json!([]), none())["pid"],
            daemon.pid()
        );
        assert_eq!(
            minion.ok("circus.identity", json!([]), none())["pid"],
            daemon.pid()
        );
        assert_eq!(
            minion.ok("circus.options", json!(["web"]), none())["cmd"],
            "sleep 1000"
        );
        assert_eq!(
            minion.ok("circus.globaloptions", json!(["endpoint"]), none()),
            site.endpoint
        );
        assert_eq!(
            minion.ok("circus.listsockets", json!([]), none()),
            json!([])
        );
        assert_eq!(
            minion.ok("circus.get", json!(["web", "numprocesses", "cmd"]), none()),
            json!({"numprocesses": 2, "cmd": "sleep 1000"})
        );
        minion.ok(
            "circus.set",
            json!(["web"]),
            json!({"graceful_timeout": 7, "env": {"A": "b"}, "waiting": true}),
        );
        minion.ok(
            "circus.set",
            json!(["web", "max_age", 5000]),
            json!({"waiting": true}),
        );
        let set = minion.ok(
            "circus.get",
            json!(["web", "graceful_timeout", "max_age", "env"]),
            none(),
        );
        assert_eq!(
            set,
            json!({"graceful_timeout": 7.0, "max_age": 5000, "env": {"A": "b"}})
        );
        assert_eq!(minion.ok("circus.numprocesses", json!(["web"]), none()), 2);
        assert_eq!(
            minion.ok("circus.incr", json!(["web", 2]), json!({"waiting": true})),
            4
        );
        assert_eq!(
            minion.ok("circus.decr", json!(["web"]), json!({"waiting": true})),
            3
        );
        let restarted = minion.ok("circus.restart", json!(["web"]), json!({"waiting": true}));
        assert_eq!(
            restarted["started"].as_array().map(Vec::len),
            Some(3),
            "{restarted}"
        );
        for (fun, status) in [
            ("stop", "stopped"),
            ("start", "active"),
            ("reload", "active"),
        ] {
            minion.ok(
                &format!("circus.{fun}"),
                json!(["web"]),
                json!({"waiting": true}),
            );
            assert_eq!(
                minion.ok("circus.status", json!(["web"]), none())["web"],
                status
            );
        }
        // The words of salt-contrib's module, and signals.
        assert_eq!(
            minion.ok("circus.signal", json!(["stop", "other"]), none()),
            true
        );
        daemon.wait_pids("other", 0);
        assert_eq!(
            minion.ok("circus.signal", json!(["start", "other"]), none()),
            true
        );
        let old = daemon.wait_pids("other", 1);
        assert_eq!(
            minion.ok("circus.signal", json!(["KILL", "other"]), none()),
            true
        );
        daemon.wait_for("another worker", || {
            (daemon.wait_pids("other", 1) != old).then_some(())
        });
        let added = json!({"start": true, "waiting": true, "numprocesses": 2});
        minion.ok("circus.add", json!(["more", "sleep 99"]), added);
        daemon.wait_pids("more", 2);
        minion.ok("circus.rm", json!(["more"]), json!({"waiting": true}));

        // The daemon has drifted from its file; applying that ends it.
        let report = minion.ok("circus.state_test", json!([]), none());
        assert_eq!(
            (&report["changed"], &report["check"]),
            (&json!(true), &json!(true)),
            "{report:#}"
        );
        assert!(
            minion
                .ok("circus.reloadconfig", json!([]), none())
                .is_object()
        );
        assert_eq!(
            minion.ok("circus.apply", json!([]), none())["failed"],
            false
        );
        assert_eq!(
            minion.ok("circus.state_test", json!([]), none())["changed"],
            false
        );
        let wanted = json!([{"watcher": {"web": {"numprocesses": 2}}}]);
        minion.ok("circus.apply", wanted.clone(), none());
        assert_eq!(
            minion.ok("circus.state_test", wanted, none())["changed"],
            false
        );
        let exported = minion.ok("circus.export", json!(["web"]), none());
        assert_eq!(
            exported["watcher"]["web"]["numprocesses"], 2,
            "{exported:#}"
        );
        // The variable that was set in the daemon alone is part of what runs; then it is also in the file.
        assert_eq!(exported["watcher"]["web"]["env"], json!({"A": "b"}));
        minion.ok("circus.apply", json!([exported.clone()]), none());
        let again = minion.ok("circus.state_test", json!([exported]), none());
        assert_eq!(again["changed"], false, "{again:#}");
        assert_eq!(
            minion.ok("circus.ensure", json!(["web"]), json!({"procs": 3}))["changed"],
            true
        );
        assert_eq!(
            minion.ok("circus.absent", json!(["other"]), json!({"test": true}))["changed"],
            true
        );
        assert_eq!(
            minion.ok("circus.handle", json!(["web", "reloaded"]), none())["restarted"],
            true
        );

        for (fun, args, kwargs, reason) in [
            (
                "circus.status",
                json!(["nix"]),
                none(),
                "program nix not found",
            ),
            (
                "circus.get",
                json!(["web", "nix"]),
                none(),
                "'nix' option not found",
            ),
            ("circus.get", json!(["web"]), none(), "at least one key"),
            (
                "circus.set",
                json!(["web"]),
                json!({"max_ago": 3}),
                "did you mean max_age?",
            ),
            (
                "circus.set",
                json!(["web", "max_age"]),
                none(),
                "has no value",
            ),
            ("circus.incr", json!(["web", "many"]), none(), "many"),
            (
                "circus.add",
                json!(["web", "true"]),
                none(),
                "already exist",
            ),
            ("circus.start", json!(["--help"]), none(), "dash"),
            (
                "circus.signal",
                json!(["NIX", "web"]),
                none(),
                "signal invalid",
            ),
            ("circus.agent_status", json!([]), none(), "no agent"),
            (
                "circus.list",
                json!([]),
                json!({"endpoint": "ipc:///nowhere/at/all"}),
                "nobody listens on ipc:///nowhere",
            ),
            (
                "circus.list",
                json!([]),
                json!({"config": "/no/such.ini"}),
                "/no/such.ini",
            ),
            (
                "circus.list",
                json!([]),
                json!({"bin": "/no/such/circ"}),
                "/no/such/circ (from circus:bin)",
            ),
        ] {
            match minion.call(fun, args, kwargs) {
                Err(error) => assert!(error.contains(reason), "{fun}: {error}"),
                Ok(value) => panic!("{fun}: {value}"),
            }
        }
        minion.ok("circus.quit", json!([]), none());
        daemon.wait_exit();
    });
}

#[test]
fn reports_of_another_schema_are_told_apart() {
    let site = TempSite::ipc();
    let mut minion = Minion::with(&site, json!({"config": site.ini(BODY)}));
    for (schema, words) in [
        (
            "circ.state/0",
            &["circ.state/0", "circ.state/1", "older: update circ"][..],
        ),
        (
            "circ.state/2",
            &["circ.state/2", "circ.state/1", "newer", "saltext-circus"],
        ),
        ("other/1", &["other/1", "is this circ"]),
    ] {
        let report =
            json!({"schema": schema, "failed": false, "changed": false, "changes": {}, "msg": ""});
        let fake = site.write("fake", format!("#!/bin/sh\necho '{report}'\n"));
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("a program");
        refused(
            &minion.state("circus.running", "web", json!({"bin": fake}), false),
            words,
        );
        refused(
            &minion.state("circus.watcher", "web", json!({"bin": fake}), true),
            words,
        );
    }
    for (script, words) in [
        ("echo no JSON", &["no report"][..]),
        (
            "echo 'error: it is raining' >&2; exit 64",
            &["it is raining"],
        ),
        ("kill -9 $$", &["ended with -9"]),
    ] {
        let fake = site.write("fake", format!("#!/bin/sh\n{script}\n"));
        refused(
            &minion.state("circus.running", "web", json!({"bin": fake}), false),
            words,
        );
    }
}

/// Ends the daemon of a site that a state has started, however the test goes.
struct Quit<'a>(&'a TempSite);

impl Drop for Quit<'_> {
    fn drop(&mut self) {
        let mut quit = Command::new(minion::circ());
        quit.args(["quit", "--waiting", "--endpoint", &self.0.endpoint]);
        let _ = quit.stdout(Stdio::null()).stderr(Stdio::null()).status();
        support::kill_tree(Vec::new(), self.0.dir(), &[]);
    }
}

#[test]
fn the_example_brings_the_binary_and_uses_it_in_the_same_run() {
    support::adopt_orphans();
    let site = TempSite::ipc();
    let _quit = Quit(&site);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/salt");
    let (bin, config) = (site.path("opt/bin/circ"), site.path("etc/circus.ini"));
    let conf = minion::configure(
        &site,
        json!({
            "file_roots": {"base": [examples, minion::modules(), site.path("states")]},
            "circus": {"bin": bin, "config": config, "endpoint": site.endpoint},
        }),
    );
    // The binary is a file among the states; a link spares the copy.
    fs::create_dir_all(site.path("states/circ")).expect("a directory");
    fs::hard_link(minion::circ(), site.path("states/circ/circ"))
        .or_else(|_| fs::copy(minion::circ(), site.path("states/circ/circ")).map(drop))
        .expect("the binary among the states");
    minion::salt_call(&conf, &["saltutil.sync_all"]);

    let (ran, errors) = minion::salt_call(&conf, &["state.apply", "circ", "test=True"]);
    for (id, state) in minion::by_id(&ran) {
        assert_eq!(state["result"], Value::Null, "{id}: {state:#}\n{errors}");
    }
    assert!(!bin.exists());
    for changes in [true, false] {
        let (ran, errors) = minion::salt_call(&conf, &["state.apply", "circ"]);
        for (id, state) in minion::by_id(&ran) {
            assert_eq!(state["result"], true, "{id}: {state:#}\n{errors}");
            assert_eq!(state["changes"] != json!({}), changes, "{id}: {state:#}");
        }
    }
    let (list, _) = minion::salt_call(&conf, &["circus.list", "web"]);
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");

    // The same with no module at all.
    for (words, result, changes) in [
        (
            &["state.apply", "without_modules", "test=True"][..],
            Value::Null,
            true,
        ),
        (&["state.apply", "without_modules"], true.into(), true),
        (&["state.apply", "without_modules"], true.into(), false),
        (
            &["state.apply", "without_modules", "test=True"],
            true.into(),
            false,
        ),
    ] {
        let (ran, errors) = minion::salt_call(&conf, words);
        let state = &minion::by_id(&ran)["web has three workers"];
        assert_eq!(state["result"], result, "{words:?}: {state:#}\n{errors}");
        assert_eq!(
            state["changes"] != json!({}),
            changes,
            "{words:?}: {state:#}"
        );
    }
}

#[test]
fn the_pure_parts() {
    let out = Command::new(minion::salt().python())
        .args(["-B", "-m", "unittest", "discover", "-s"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/salt"))
        .output()
        .expect("Python runs");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && !told.contains("Ran 0 tests"),
        "{told}"
    );
}

#[test]
fn a_master_scales_three_minions_and_hears_of_their_trouble() {
    let sites = [TempSite::ipc(), TempSite::ipc(), TempSite::ipc()];
    let daemons: Vec<Daemon> = sites
        .iter()
        .map(|site| {
            site.ini(BODY);
            site.start(Program::Circ)
        })
        .collect();
    let home = TempSite::ipc();
    let mut fleet = Fleet::start(&home);
    for (number, site) in sites.iter().enumerate() {
        let circus = json!({"bin": minion::circ(), "config": site.path("circus.ini")});
        let mut keys = json!({"circus": circus});
        if number == 0 {
            keys["beacons"] = json!({"circus": [{"watchers": ["web"]}, {"drift": true}, {"agent": true}, {"interval": 1}]});
            keys["engines"] = json!([{"circus": {"topics": ["watcher."]}}]);
        }
        fleet.minion(&format!("host{number}"), &keys);
    }
    home.write(
        "states/web.sls",
        "web:\n  circus.running:\n    - procs: 4\n",
    );
    fleet.wait(3);

    // The grains tell what is where.
    let grains = fleet.all(&["grains.get", "circus"]);
    for number in 0..3 {
        let told = &grains[&format!("host{number}")];
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"), "{told}");
        assert_eq!(told["watchers"], json!(["other", "web"]), "{told}");
    }

    // One command scales all three, a second one changes nothing.
    for changed in [true, false] {
        let answers = fleet.all(&["state.apply", "web"]);
        assert_eq!(answers.len(), 3, "{answers:#?}");
        for (id, answer) in &answers {
            let state = &minion::by_id(answer)["web"];
            expect(state, true);
            assert_eq!(state["changes"] != json!({}), changed, "{id}: {state:#}");
        }
    }
    let mut pids = Vec::new();
    for daemon in &daemons {
        pids.push(daemon.wait_pids("web", 4));
    }

    // The engine of the first minion told of the new workers.
    let event = fleet.event("salt/engine/circus/host0/web/spawn");
    assert_eq!(event["data"]["topic"], "watcher.web.spawn", "{event}");
    // Its beacon misses an agent, sees a watcher that was stopped, and a count that is not that of the file.
    let event = fleet.event("salt/beacon/host0/circus/agent/failed");
    assert!(
        event["reason"]
            .as_str()
            .is_some_and(|r| r.contains("no agent")),
        "{event}"
    );
    daemons[0].ok("decr", json!({"name": "web", "waiting": true}));
    let event = fleet.event("salt/beacon/host0/circus/drift");
    assert_eq!(
        event["drift"]["web"]["numprocesses"],
        json!({"old": 3, "new": 4}),
        "{event}"
    );
    daemons[0].ok("stop", json!({"name": "web", "waiting": true}));
    let event = fleet.event("salt/beacon/host0/circus/web/down");
    assert_eq!(event["status"], "stopped", "{event}");

    // One daemon is down: that minion fails and says why, the others are brought back.
    let mut daemons = daemons;
    assert!(daemons.remove(1).stop().success());
    let answers = fleet.all(&["state.apply", "web"]);
    assert_eq!(answers.len(), 3, "{answers:#?}");
    for (id, answer) in &answers {
        let state = &minion::by_id(answer)["web"];
        if id == "host1" {
            refused(state, &["nobody listens on", &sites[1].endpoint]);
        } else {
            expect(state, true);
        }
    }
    daemons[0].wait_pids("web", 4);
    assert_eq!(daemons[1].wait_pids("web", 4), pids[2]);
    let event = fleet.event("salt/beacon/host0/circus/web/up");
    assert_eq!(event["status"], "active", "{event}");
}
