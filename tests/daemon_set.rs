//! Every option of the table, set while the watcher runs: what it does at once, and what the workers have of it.

mod support;

#[path = "daemon_options/seen.rs"]
mod seen;

use circ::options::{OnSet, WATCHER_OPTIONS};
use serde_json::{Value, json};
use std::fs;
use support::{Daemon, Process, Program, TempSite};

/// A value for each option, other than its default.
fn value_of(option: &str, site: &TempSite) -> Value {
    let directory = site.dir().display().to_string();
    match option {
        "cmd" => json!("sleep 2000"),
        "args" => json!(["3000"]),
        "shell" => json!(true),
        "shell_args" => json!("a b"),
        "executable" => json!("/bin/sleep"),
        "working_dir" => json!(directory),
        "uid" => json!(nix::unistd::geteuid().as_raw()),
        "gid" => json!(nix::unistd::getegid().as_raw()),
        "env" => json!({"A": "1"}),
        "virtualenv" => json!(directory),
        "virtualenv_py_ver" => json!("3.11"),
        "numprocesses" | "priority" | "max_retry" | "max_age_variance" => json!(2),
        "max_age" => json!(100_000),
        "stop_signal" => json!(2),
        "warmup_delay" | "graceful_timeout" | "hook_timeout" | "hook_retry" => json!(0.5),
        "autostart" | "respawn" | "close_child_stdin" => json!(false),
        "stdin_socket" => json!("s"),
        "stdout_stream" | "stderr_stream" => {
            json!({"class": "FileStream", "filename": format!("{directory}/out")})
        }
        "hooks" => json!({"before_start": "operator.truth"}),
        "rlimits" => json!(300),
        _ => json!(true),
    }
}

fn own_socket(site: &TempSite) -> String {
    format!("[socket:s]\nhost = 127.0.0.1\nport = {}\n", site.port())
}

/// No option of the table is refused, forgotten, or replaces workers without need.
#[test]
fn every_option_can_be_set() {
    let site = TempSite::new();
    site.ini(&own_socket(&site));
    let daemon = site.start(Program::Circ);
    for spec in WATCHER_OPTIONS {
        let name = spec.name;
        let add = json!({"name": name, "cmd": "sleep 1000", "start": true, "waiting": true});
        daemon.ok("add", add);
        let before = daemon.wait_pids(name, 1);
        let key = if name == "rlimits" {
            "rlimit_nofile"
        } else {
            name
        };
        let value = value_of(name, &site);
        let set = json!({"name": name, "options": {key: value}, "waiting": true});
        daemon.ok("set", set);
        let told = daemon.ok("get", json!({"name": name, "keys": [key]}));
        let told = &told["options"][key];
        match name {
            "hooks" => assert_eq!(told["before_start"], json!(["operator.truth", false])),
            _ => assert_eq!(*told, value, "{name}"),
        }
        let now = daemon.pids(name);
        match spec.on_set {
            OnSet::Live => assert!(now.contains(&before[0]), "{name}: {before:?} {now:?}"),
            // it was not there before
            OnSet::Reload | OnSet::LiveIfThere => {
                assert!(!now.contains(&before[0]), "{name}: {before:?} {now:?}");
            }
        }
        assert!(!now.is_empty(), "{name}");
        daemon.ok("rm", json!({"name": name, "waiting": true}));
    }
}

#[track_caller]
fn set(daemon: &Daemon, options: Value) -> i32 {
    let set = json!({"name": "web", "options": options, "waiting": true});
    daemon.ok("set", set);
    daemon.wait_pids("web", 1)[0]
}

fn end_of(pid: i32, fd: i32) -> String {
    let end = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    end.map_or_else(|_| String::new(), |end| end.to_string_lossy().into_owned())
}

/// What circusd cannot set while a watcher runs, the new workers have.
#[test]
fn what_is_set_is_what_they_have() {
    let site = TempSite::new();
    site.ini(&format!(
        "[watcher:web]\ncmd = sleep 1000\n[watcher:late]\ncmd = sleep 1000\n{}",
        own_socket(&site)
    ));
    let daemon = site.start(Program::Circ);
    let sockets = daemon.ok("listsockets", json!({}));
    let fd = sockets["sockets"][0]["fd"]
        .as_i64()
        .and_then(|fd| i32::try_from(fd).ok());
    let fd = fd.expect("a descriptor");
    let first = daemon.wait_pids("web", 1)[0];
    assert_eq!(end_of(first, fd), "");
    let pid = set(&daemon, json!({"use_sockets": true}));
    assert!(end_of(pid, fd).starts_with("socket:"));
    let pid = set(&daemon, json!({"use_sockets": false}));
    assert_eq!(end_of(pid, fd), "");
    let pid = set(&daemon, json!({"stdin_socket": "S"}));
    assert!(end_of(pid, 0).starts_with("socket:"));
    // One that there is not is refused before anybody is replaced.
    let none = json!({"name": "web", "options": {"stdin_socket": "none"}, "waiting": true});
    let told = daemon.call("set", none);
    assert!(
        told["reason"]
            .as_str()
            .is_some_and(|r| r.contains("[socket:none]")),
        "{told}"
    );
    assert_eq!(daemon.pids("web"), [pid]);
    let pid = set(&daemon, json!({"stdin_socket": null, "rlimit_nofile": 333}));
    assert_eq!(end_of(pid, 0), "/dev/null");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    assert!(
        limits
            .lines()
            .any(|l| l.starts_with("Max open files") && l.contains("333")),
        "{limits}"
    );
    // An environment is replaced as a whole, as in circusd.
    set(&daemon, json!({"env": {"A": "1", "B": "2"}}));
    let pid = set(&daemon, json!({"env": {"B": "3"}}));
    let environ = Process::find(pid).expect("it runs").environ();
    assert!(environ.contains(&"B=3".to_string()) && !environ.contains(&"A=1".to_string()));
    // Who has the lower number stops first, now as well.
    for (name, priority) in [("web", 1), ("late", 2)] {
        let set = json!({"name": name, "options": {"priority": priority}, "waiting": true});
        daemon.ok("set", set);
    }
    daemon.ok("restart", json!({"name": "*", "waiting": true}));
    let log = daemon.log();
    let at = |text: &str| {
        log.rfind(text)
            .unwrap_or_else(|| panic!("no {text:?} in {log}"))
    };
    assert!(at("late started") < at("web started"), "{log}");
}

/// `add` with a virtualenv: what a file's watcher has, and a clear word when there is none.
#[test]
fn an_added_watcher_in_a_virtualenv() {
    let site = TempSite::new();
    site.ini("");
    let root = site.path("venv");
    fs::create_dir_all(root.join("bin")).expect("our own directory");
    fs::create_dir_all(root.join("lib/python3.99/site-packages")).expect("our own directory");
    let look = seen::look(&site);
    let daemon = site.start(Program::Circ);
    let add = |name: &str, options: Value| {
        let cmd = format!("{look} {name}");
        daemon.call(
            "add",
            json!({"name": name, "cmd": cmd, "options": options, "start": true}),
        )
    };
    let told = add("good", json!({"virtualenv": root, "copy_env": true}));
    assert_eq!(told["status"], "ok", "{told}");
    let seen = seen::seen(&site, &daemon, "good");
    let path = seen.env("PATH").unwrap_or_default();
    assert!(
        path.starts_with(&format!("{}/bin:", root.display())),
        "{path}"
    );
    let packages = seen.env("PYTHONPATH").unwrap_or_default();
    assert!(packages.ends_with("python3.99/site-packages"), "{packages}");
    for (options, why) in [
        (json!({"virtualenv": root}), "copy_env"),
        (
            json!({"virtualenv": "/no/such/place", "copy_env": true}),
            "/no/such/place",
        ),
    ] {
        let told = add("bad", options);
        assert!(
            told["reason"].as_str().is_some_and(|r| r.contains(why)),
            "{told}"
        );
    }
    assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["good"]));
}
