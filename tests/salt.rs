//! The Salt modules in `modules/salt`, run by the real Salt.

mod support;

#[path = "salt/minion.rs"]
mod minion;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

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
