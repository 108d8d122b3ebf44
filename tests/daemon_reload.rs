//! `reloadconfig` of some sections, and what it would do; who the daemon is.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{Daemon, Process, Program, TempSite};

/// What a waiting `reloadconfig` of these sections answers.
#[track_caller]
fn only(daemon: &Daemon, sections: &[&str]) -> Value {
    daemon.ok("reloadconfig", json!({"only": sections, "waiting": true}))
}

#[track_caller]
fn cmdline(daemon: &Daemon, watcher: &str) -> Vec<String> {
    let pid = daemon.wait_pids(watcher, 1)[0];
    daemon.wait_for("its program", || {
        let words = Process::find(pid)?.cmdline();
        (words.first()? == "sleep").then_some(words)
    })
}

fn option(daemon: &Daemon, watcher: &str, key: &str) -> Value {
    let get = json!({"name": watcher, "keys": [key]});
    daemon.ok("get", get)["options"][key].clone()
}

fn status(daemon: &Daemon, watcher: &str) -> Value {
    daemon.call("status", json!({"name": watcher}))["status"].clone()
}

fn bound(daemon: &Daemon, socket: &str) -> Option<Value> {
    let all = daemon.ok("listsockets", json!({}));
    let all = all["sockets"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|s| s["name"] == socket)
}

/// A client can tell the two daemons apart, and learns which files this one runs on.
#[test]
fn who_answers() {
    let site = TempSite::new();
    site.write("more.ini", "[watcher:more]\ncmd = sleep 1000\n");
    site.ini("include = more.ini\n[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let told = daemon.ok("identity", json!({}));
    assert_eq!(told["program"], "circ");
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["pid"], daemon.pid());
    assert_eq!(told["uid"], nix::unistd::geteuid().as_raw());
    let real = |value: &Value| {
        let path = value.as_str().expect("a path");
        assert!(path.starts_with('/'), "{path}");
        fs::canonicalize(path).expect("it is there")
    };
    let at = |name: &str| fs::canonicalize(site.path(name)).expect("it is there");
    assert_eq!(real(&told["config"]), at("circus.ini"));
    assert_eq!(real(&told["files"][0]), at("circus.ini"));
    assert_eq!(real(&told["files"][1]), at("more.ini"));
    let started = told["started"].as_f64().expect("a time");
    let replied = told["time"].as_f64().expect("a time");
    assert!(started > 0.0 && started <= replied, "{told}");
    drop(daemon);
    let circusd = site.start(Program::Circusd);
    let told = circusd.call("identity", json!({}));
    assert_eq!(
        (&told["status"], &told["errno"]),
        (&json!("error"), &json!(2))
    );
}

/// Only what is named is taken over; what was done by hand elsewhere stays, and nothing is forgotten.
#[test]
fn named_sections_alone() {
    let site = TempSite::new();
    let body = |seconds: u32, timeout: u32| {
        format!(
            "[watcher:web]\ncmd = sleep {seconds}\n[watcher:other]\ncmd = sleep {seconds}\ngraceful_timeout = {timeout}\n\
             [watcher:stopped]\ncmd = sleep {seconds}\n[watcher:gone]\ncmd = sleep {seconds}\n"
        )
    };
    site.ini(&body(1000, 3));
    let daemon = site.start(Program::Circ);
    let (web, other) = (daemon.wait_pids("web", 1), daemon.wait_pids("other", 1));
    daemon.ok("stop", json!({"name": "stopped", "waiting": true}));
    daemon.ok("rm", json!({"name": "gone", "waiting": true}));
    let set = json!({"name": "other", "options": {"max_retry": 9}, "waiting": true});
    daemon.ok("set", set);
    let add = json!({"name": "added", "cmd": "sleep 1000", "start": true, "waiting": true});
    daemon.ok("add", add);
    let added = daemon.pids("added");

    site.ini(&format!("{}[watcher:new]\ncmd = sleep 1\n", body(2000, 4)));
    let told = only(&daemon, &["WATCHER:Web", "watcher:stopped"]);
    assert_eq!(told["changed"], json!(["watcher:stopped", "watcher:web"]));
    assert_eq!(told["reloaded"], json!(["web"]));
    assert_eq!(told["restart_needed"], json!([]));
    assert_eq!(cmdline(&daemon, "web"), ["sleep", "2000"]);
    assert_ne!(daemon.pids("web"), web);
    assert_eq!(daemon.pids("other"), other);
    assert_eq!(option(&daemon, "other", "max_retry"), 9);
    assert_eq!(daemon.pids("added"), added);
    assert_eq!(status(&daemon, "stopped"), "stopped");
    assert_eq!(option(&daemon, "stopped", "cmd"), "sleep 2000");
    let names = json!(["added", "other", "stopped", "web"]);
    assert_eq!(daemon.ok("list", json!({}))["watchers"], names);

    // Once more: it is as it should be.
    let web = daemon.pids("web");
    let told = only(&daemon, &["watcher:web"]);
    assert_eq!(told["changed"], json!([]));
    assert_eq!(daemon.pids("web"), web);

    // The whole file: the rest of it is still news, and what it does not have goes.
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    let changed = json!([
        "watcher:added",
        "watcher:gone",
        "watcher:new",
        "watcher:other"
    ]);
    assert_eq!(told["changed"], changed);
    assert_eq!(cmdline(&daemon, "other"), ["sleep", "2000"]);
    assert_eq!(option(&daemon, "other", "graceful_timeout"), 4.0);
    assert_eq!(daemon.pids("web"), web);
    assert_eq!(status(&daemon, "stopped"), "stopped");
    let names = json!(["gone", "new", "other", "stopped", "web"]);
    assert_eq!(daemon.ok("list", json!({}))["watchers"], names);
}

/// A watcher that is named goes and comes with its section; an environment reaches those it is for.
#[test]
fn watchers_come_and_go_and_environments_change() {
    let site = TempSite::new();
    site.ini(
        "[watcher:web]\ncmd = sleep 1000\n[watcher:api]\ncmd = sleep 1000\n[env:web]\nA = 1\n",
    );
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let api = daemon.wait_pids("api", 1);
    let set = json!({"name": "web", "options": {"max_retry": 9}, "waiting": true});
    daemon.ok("set", set);
    site.ini(
        "[watcher:web]\ncmd = sleep 2000\n[watcher:new]\ncmd = sleep 1000\n[env:web]\nA = 2\n",
    );
    let told = only(&daemon, &["env:web"]);
    assert_eq!(told["changed"], json!(["env:web", "watcher:web"]));
    assert_eq!(told["reloaded"], json!(["web"]));
    assert_eq!(option(&daemon, "web", "env")["A"], "2");
    // Its own section was not named.
    assert_eq!(option(&daemon, "web", "cmd"), "sleep 1000");
    assert_eq!(option(&daemon, "web", "max_retry"), 9);
    assert_eq!(daemon.pids("api"), api);
    let told = only(&daemon, &["watcher:new"]);
    assert_eq!(told["changed"], json!(["watcher:new"]));
    daemon.wait_pids("new", 1);
    let told = only(&daemon, &["watcher:api"]);
    assert_eq!(told["changed"], json!(["watcher:api"]));
    let names = json!(["new", "web"]);
    assert_eq!(daemon.ok("list", json!({}))["watchers"], names);
}

/// Sockets alone: added, removed, changed, and refused while somebody needs the old one.
#[test]
fn sockets_alone() {
    let site = TempSite::new();
    let (one, two, three) = (site.port(), site.port(), site.port());
    let socket =
        |name: &str, port: u16| format!("[socket:{name}]\nhost = 127.0.0.1\nport = {port}\n");
    let watchers = "[watcher:web]\ncmd = sleep 1000$(circus.sockets.web)\nuse_sockets = True\n\
                    [watcher:idle]\ncmd = sleep 1000$(circus.sockets.web)\nuse_sockets = True\nautostart = False\n\
                    [watcher:apart]\ncmd = sleep 1000\n";
    site.ini(&format!("{watchers}{}", socket("web", one)));
    let daemon = site.start(Program::Circ);
    let (web, apart) = (daemon.wait_pids("web", 1), daemon.wait_pids("apart", 1));
    let add = json!({"name": "added", "cmd": "sleep 1000$(circus.sockets.web)", "start": true, "waiting": true,
        "options": {"use_sockets": true}});
    daemon.ok("add", add);
    let added = daemon.pids("added");

    // Another port: first what would be done, then it.
    site.ini(&format!(
        "{}{}{}",
        watchers.replace("sleep 1000\n", "sleep 2000\n"),
        socket("web", two),
        socket("new", three)
    ));
    let check = json!({"only": ["socket:Web"], "check": true});
    let told = daemon.ok("reloadconfig", check.clone());
    let replaced = |section: &str| json!({"section": section, "action": "replace", "keys": [], "because": ["socket:web"]});
    assert_eq!(
        told["plan"],
        json!([
            {"section": "socket:web", "action": "replace", "keys": ["port"]},
            replaced("watcher:added"),
            replaced("watcher:web"),
        ])
    );
    assert_eq!(told["reloaded"], json!(["added", "web"]));
    assert_eq!(bound(&daemon, "web").expect("it is there")["port"], one);
    assert_eq!(daemon.pids("web"), web);
    let told = only(&daemon, &["socket:Web"]);
    assert_eq!(
        told["changed"],
        json!(["socket:web", "watcher:added", "watcher:web"])
    );
    assert_eq!(told["reloaded"], json!(["added", "web"]));
    assert_eq!(bound(&daemon, "web").expect("it is there")["port"], two);
    assert_eq!(bound(&daemon, "new"), None);
    assert_ne!(daemon.wait_pids("web", 1), web);
    assert_ne!(daemon.wait_pids("added", 1), added);
    assert_eq!(daemon.pids("apart"), apart);
    assert_eq!(status(&daemon, "idle"), "stopped");
    assert_eq!(only(&daemon, &["socket:web"])["changed"], json!([]));
    assert_eq!(
        only(&daemon, &["socket:new"])["changed"],
        json!(["socket:new"])
    );
    assert_eq!(bound(&daemon, "new").expect("it is there")["port"], three);

    // It goes only when nobody needs it any more.
    site.ini(&format!("{watchers}{}", socket("new", three)));
    let (web, sockets) = (daemon.pids("web"), daemon.ok("listsockets", json!({})));
    for check in [true, false] {
        let remove = json!({"only": ["socket:web"], "check": check, "waiting": true});
        let told = daemon.call("reloadconfig", remove);
        assert_eq!(told["status"], "error", "{told}");
        let reason = told["reason"].as_str().unwrap_or("");
        assert!(
            reason.contains("[socket:web]") && reason.contains("watcher "),
            "{reason}"
        );
    }
    assert_eq!(
        daemon.ok("listsockets", json!({}))["sockets"],
        sockets["sockets"]
    );
    assert_eq!(daemon.pids("web"), web);
    for name in ["web", "added"] {
        daemon.ok("stop", json!({"name": name, "waiting": true}));
    }
    let told = only(&daemon, &["socket:web"]);
    assert_eq!(told["changed"], json!(["socket:web"]));
    assert_eq!(bound(&daemon, "web"), None);
    // A port that is taken: nothing has changed.
    site.ini(&format!(
        "{watchers}{}{}",
        socket("new", three),
        socket("web", three)
    ));
    let told = daemon.call(
        "reloadconfig",
        json!({"only": ["socket:web"], "waiting": true}),
    );
    assert_eq!(told["status"], "error", "{told}");
    assert_eq!(bound(&daemon, "web"), None);
    assert_eq!(bound(&daemon, "new").expect("it is there")["port"], three);
}

/// What cannot be done is refused with its reason, and nothing has changed.
#[test]
fn what_cannot_be_taken_over() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    site.ini(&format!(
        "[watcher:web]\ncmd = sleep 2000\nstdin_socket = s\nuse_sockets = True\n[socket:s]\nhost = 127.0.0.1\nport = {}\n",
        site.port()
    ));
    for (sections, what) in [
        (json!(["watcher:wbe"]), "[watcher:wbe]"),
        (json!(["watcher:web"]), "stdin_socket"),
        (json!("watcher:web"), "a list of texts"),
        (json!([5]), "a list of texts"),
    ] {
        let told = daemon.call("reloadconfig", json!({"only": sections, "waiting": true}));
        assert_eq!(told["status"], "error", "{told}");
        assert!(
            told["reason"].as_str().is_some_and(|r| r.contains(what)),
            "{told}"
        );
    }
    assert_eq!(daemon.pids("web"), web);
    assert_eq!(option(&daemon, "web", "cmd"), "sleep 1000");
    // A mistake elsewhere in the file counts, although nobody spoke of it.
    site.ini("[watcher:web]\ncmd = sleep 2000\n[watcher:other]\nnumprocesses = many\n");
    let told = daemon.call(
        "reloadconfig",
        json!({"only": ["watcher:web"], "waiting": true}),
    );
    assert_eq!(told["status"], "error", "{told}");
    assert_eq!(daemon.pids("web"), web);
}

/// What was stopped by hand stays so, whatever is read again and however; what had given up gets another chance.
#[test]
fn a_stop_by_hand_stands() {
    let site = TempSite::new();
    let (one, two) = (site.port(), site.port());
    let stubborn = site.write("stubborn.sh", "trap '' TERM\nsleep 1000 &\nwait\nwait\n");
    let body = |port: u16, more: &str, cmd: &str| {
        format!(
            "[socket:s]\nhost = 127.0.0.1\nport = {port}\n\
             [watcher:web]\ncmd = sleep 1000$(circus.sockets.s)\nuse_sockets = True\n{more}\
             [watcher:slow]\ncmd = sh {} $(circus.sockets.s)\nuse_sockets = True\ngraceful_timeout = 0.5\nstop_children = True\n{more}\
             [watcher:broken]\ncmd = {cmd}\nmax_retry = 1\n[watcher:forbidden]\ncmd = {cmd}\nmax_retry = 1\n\
             [watcher:other]\ncmd = sleep 1000$(circus.sockets.s)\nuse_sockets = True\n",
            stubborn.display()
        )
    };
    site.ini(&body(one, "", "/no/such/program"));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    daemon.wait_pids("slow", 1);
    let other = daemon.wait_pids("other", 1);
    for name in ["broken", "forbidden"] {
        daemon.wait_for("it to give up", || {
            (status(&daemon, name) == "stopped").then_some(())
        });
    }
    daemon.ok("stop", json!({"name": "forbidden", "waiting": true}));
    daemon.ok("stop", json!({"name": "web", "waiting": true}));
    // This one is still stopping while its socket and its options change.
    daemon.ok("stop", json!({"name": "slow"}));
    site.ini(&body(two, "env_file = x\n", "/no/such/program"));
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["restart_needed"], json!([]));
    let other = daemon.wait_for("the other's new worker", || {
        Some(daemon.pids("other")).filter(|now| now.len() == 1 && *now != other)
    });
    let all_stopped = |daemon: &Daemon| {
        for name in ["web", "slow", "forbidden"] {
            assert_eq!(status(daemon, name), "stopped", "{name}");
            assert_eq!(daemon.pids(name), [0; 0], "{name}");
        }
    };
    all_stopped(&daemon);
    site.ini(&body(one, "env_file = y\n", "sleep 1000"));
    let told = only(&daemon, &["socket:s", "watcher:web", "watcher:forbidden"]);
    assert_eq!(told["reloaded"], json!(["other"]));
    assert_ne!(daemon.wait_pids("other", 1), other);
    all_stopped(&daemon);
    assert_eq!(status(&daemon, "broken"), "stopped");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_pids("broken", 1);
    all_stopped(&daemon);
    for name in ["web", "slow", "forbidden"] {
        daemon.ok("start", json!({"name": name, "waiting": true}));
        daemon.wait_pids(name, 1);
    }
}

/// A change whose workers do not stay is undone, and tried again at the next reload.
#[test]
fn a_change_that_does_not_work_is_taken_back() {
    let site = TempSite::new();
    let program = site.path("program");
    let body = |cmd: &str, count: u32| {
        format!(
            "[watcher:web]\ncmd = {cmd}\nnumprocesses = {count}\n[watcher:one]\ncmd = {cmd}\nsingleton = True\n\
             [watcher:other]\ncmd = sleep {count}000\n"
        )
    };
    site.ini(&body("sleep 1000", 2));
    let daemon = site.start(Program::Circ);
    let (web, one) = (daemon.wait_pids("web", 2), daemon.wait_pids("one", 1));
    let other = daemon.wait_pids("other", 1);
    site.ini(&body(&program.display().to_string(), 3));
    let told = daemon.call("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["status"], "error", "{told}");
    for name in ["web kept", "one goes on", "No such file"] {
        assert!(
            told["reason"].as_str().is_some_and(|r| r.contains(name)),
            "{told}"
        );
    }
    assert_eq!(daemon.pids("web"), web);
    assert_ne!(
        daemon.wait_pids("one", 1),
        one,
        "a singleton's worker had to go first"
    );
    for name in ["web", "one"] {
        assert_eq!(option(&daemon, name, "cmd"), "sleep 1000");
        assert_eq!(status(&daemon, name), "active");
    }
    assert_eq!(option(&daemon, "web", "numprocesses"), 2);
    assert_ne!(
        daemon.wait_pids("other", 1),
        other,
        "the others have changed"
    );
    // One that dies is replaced by what works.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(web[0]),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("it runs");
    daemon.wait_for("its successor", || {
        let now = daemon.pids("web");
        (now.len() == 2 && !now.contains(&web[0])).then_some(())
    });
    // What was missing comes: the file is the same, and its time has come.
    let (web, other) = (daemon.pids("web"), daemon.pids("other"));
    std::os::unix::fs::symlink("/bin/sleep", &program).expect("our own directory");
    let told = only(&daemon, &["watcher:other"]);
    assert_eq!(told["changed"], json!([]));
    site.ini(&body(&format!("{} 1000", program.display()), 3));
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["reloaded"], json!(["one", "web"]));
    let now = daemon.wait_pids("web", 3);
    assert!(now.iter().all(|pid| !web.contains(pid)));
    assert_eq!(daemon.pids("other"), other);
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["changed"], json!([]));
}

/// The same file is tried again when what it needs has come.
#[test]
fn the_same_file_once_more() {
    let site = TempSite::new();
    let program = site.path("program");
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    site.ini(&format!(
        "[watcher:web]\ncmd = {} 1000\nnumprocesses = 2\n",
        program.display()
    ));
    let told = daemon.call("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["status"], "error", "{told}");
    std::os::unix::fs::symlink("/bin/sleep", &program).expect("our own directory");
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["changed"], json!(["watcher:web"]));
    daemon.wait_pids("web", 2);
    assert_eq!(
        daemon.ok("reloadconfig", json!({"waiting": true}))["changed"],
        json!([])
    );
}
