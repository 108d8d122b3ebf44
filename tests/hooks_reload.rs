//! Hooks of a changed file: looked for before anything is taken over, and read anew when they are.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, skip};

const HOOKS: &str = "def yes(**kwargs):\n    return True\n";

/// A site whose hooks are in `mine.py`.
fn site(body: &str) -> TempSite {
    let site = TempSite::new();
    site.write("mine.py", HOOKS);
    site.ini(body);
    site
}

#[track_caller]
fn reload(daemon: &Daemon) -> Value {
    daemon.ok("reloadconfig", json!({"waiting": true}))
}

/// Why a reload is refused, which a `--check` says as well.
#[track_caller]
fn refused(daemon: &Daemon) -> String {
    let [checked, told] = [json!({"check": true}), json!({"waiting": true})]
        .map(|properties| daemon.call("reloadconfig", properties));
    assert_eq!(told["status"], "error", "{told}");
    assert_eq!(checked["reason"], told["reason"]);
    told["reason"].as_str().unwrap_or_default().to_string()
}

fn status(daemon: &Daemon, name: &str) -> Value {
    daemon.call("status", json!({"name": name}))["status"].clone()
}

/// A program that tells its name in the environment and then is `python3`.
fn python(site: &TempSite, name: &str) -> PathBuf {
    let path = site.write(name, format!("#!/bin/sh\nWHO={name} exec python3 \"$@\"\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

/// What cannot be found is told with its line, and nothing has changed: neither the watchers, nor what runs the hooks.
#[test]
fn hooks_and_users_that_are_not_there_change_nothing() {
    let old = "[watcher:web]\ncmd = sleep 1000\nhooks.before_start = mine.yes\n";
    let site = site(old);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    // read while the daemon has what was there before
    site.write("mine.py", format!("{HOOKS}import broken\n"));
    site.write("slow.py", "import time\ntime.sleep(1000)\n");
    for (lines, line, what) in [
        (
            "hooks.after_start = mine.yes_indeed\n",
            7,
            "No module named 'broken'",
        ),
        (
            "hooks.after_start = os.path.nothing\n",
            7,
            "no attribute 'nothing'",
        ),
        (
            "hooks.after_start = nowhere.at_all, True\n",
            7,
            "No module named 'nowhere'",
        ),
        (
            "hooks.after_stop = exec:/no/such/program x\n",
            7,
            "/no/such/program",
        ),
        (
            "hook_timeout = 0.5\nhooks.after_stop = slow.down\n",
            8,
            "not imported in time",
        ),
        ("uid = no-such-user\n", 7, "no-such-user"),
        ("gid = no-such-group\n", 7, "no-such-group"),
    ] {
        site.ini(&format!(
            "[watcher:web]\ncmd = sleep 2000\n{lines}[watcher:new]\ncmd = sleep 1000\n"
        ));
        let reason = refused(&daemon);
        let place = format!("circus.ini:{line}: [watcher:web] ");
        assert!(
            reason.contains(&place) && reason.contains(what),
            "{lines}: {reason}"
        );
        assert_eq!(daemon.pids("web"), web);
        assert_eq!(daemon.ok("list", json!({}))["watchers"], json!(["web"]));
    }
    site.ini(old);
    assert_eq!(reload(&daemon)["changed"], json!([]));
    // the process that runs the hooks still has the module that it had
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    assert_ne!(daemon.wait_pids("web", 1), web);
}

/// A hook that is new in the file is found although its module was read before it was there; what ran stays.
#[test]
fn a_hook_that_is_new_in_a_known_module_is_found() {
    let site = site(
        "[watcher:web]\ncmd = sleep 1000\nhooks.before_start = mine.yes\n[watcher:other]\ncmd = sleep 1000\n",
    );
    let daemon = site.start(Program::Circ);
    let (web, other) = (daemon.wait_pids("web", 1), daemon.wait_pids("other", 1));
    site.write(
        "mine.py",
        format!("{HOOKS}def no(**kwargs):\n    return False\n"),
    );
    site.ini(
        "[watcher:web]\ncmd = sleep 1000\nhooks.before_start = mine.no\nhooks.after_stop = exec:true\n\
         [watcher:other]\ncmd = sleep 1000\n",
    );
    assert_eq!(reload(&daemon)["changed"], json!(["watcher:web"]));
    assert_eq!((daemon.pids("web"), daemon.pids("other")), (web, other));
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    assert_eq!(status(&daemon, "web"), "stopped");
}

/// A module that takes long holds up nobody else.
#[test]
fn a_module_that_hangs_holds_up_nobody() {
    let site = site("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let ready = site.path("importing");
    let go = site.path("go");
    site.write(
        "slow.py",
        format!(
            "import os, time\nopen({ready:?}, 'w').close()\nwhile not os.path.exists({go:?}):\n    time.sleep(0.02)\n\
             def yes(**kwargs):\n    return True\n"
        ),
    );
    site.ini("[watcher:web]\ncmd = sleep 1000\nhooks.before_start = slow.yes\n");
    let driver = daemon.driver();
    let dealer = driver.dealer(daemon.endpoint());
    let message =
        json!({"id": "r", "command": "reloadconfig", "properties": {"waiting": true}}).to_string();
    driver.send(dealer, &[message.as_bytes()]);
    daemon.wait_for("the module", || ready.exists().then_some(()));
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    assert_ne!(daemon.pids("web"), web);
    assert_eq!(driver.recv(dealer, 0.0), None);
    site.write("go", "");
    let frames = driver.recv(dealer, 30.0).expect("a reply");
    let told: Value = serde_json::from_str(frames.last().expect("a frame")).expect("JSON");
    assert_eq!(told["changed"], json!(["watcher:web"]), "{told}");
}

/// Another `[circus] python` runs the hooks and the stream classes from then on; without it, `python3` does.
#[test]
fn another_python_runs_hooks_and_streams() {
    let site = site("");
    let dir = site.dir().display();
    site.write(
        "mine.py",
        format!(
            "import os\ndef tell(what):\n    with open('{dir}/' + what, 'w') as file:\n\
             \x20       file.write(os.environ.get('WHO', 'usual'))\n\
             def yes(**kwargs):\n    tell('hook')\n    return True\n\
             class Mine(object):\n    def __init__(self, **kwargs):\n        pass\n\
             \x20   def __call__(self, data):\n        tell('stream')\n    def close(self):\n        pass\n"
        ),
    );
    let body = |python: Option<PathBuf>| {
        let python = python.map_or(String::new(), |path| {
            format!("python = {}\n", path.display())
        });
        site.ini(&format!(
            "{python}[watcher:web]\ncmd = sh -c 'while :; do echo line; sleep 0.05; done'\n\
             hooks.before_start = mine.yes\nstdout_stream.class = mine.Mine\n"
        ));
    };
    let wait = |daemon: &Daemon, what: &str, who: &str| {
        daemon.wait_for(&format!("{who} to run the {what}"), || {
            let told = fs::read_to_string(site.path(what)).ok()?;
            (told == who).then_some(())
        })
    };
    let (one, two) = (python(&site, "one"), python(&site, "two"));
    body(Some(one));
    let daemon = site.start(Program::Circ);
    let mut web = daemon.wait_pids("web", 1);
    wait(&daemon, "hook", "one");
    wait(&daemon, "stream", "one");
    for (python, who) in [(Some(two), "two"), (None, "usual")] {
        body(python);
        let told = reload(&daemon);
        assert_eq!(
            (&told["changed"], &told["restart_needed"]),
            (&json!(["circus"]), &json!([]))
        );
        wait(&daemon, "stream", who);
        assert_eq!(daemon.pids("web"), web);
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
        wait(&daemon, "hook", who);
        wait(&daemon, "stream", who);
        web = daemon.wait_pids("web", 1);
    }
    let gone = site.path("three");
    body(Some(gone));
    let reason = refused(&daemon);
    assert!(
        reason.contains("[watcher:web] hooks.before_start") && reason.contains("three"),
        "{reason}"
    );
}

/// A user and a hook together, by `set` and by the file: both count, and what was set stays while the file says nothing new.
#[test]
fn users_and_hooks_together() {
    if !nix::unistd::Uid::effective().is_root() {
        skip("other users need root");
        return;
    }
    let site = site("[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1000\n");
    let told = site.path("told");
    site.write(
        "mine.py",
        format!(
            "{HOOKS}import os\ndef tell(watcher, **kwargs):\n    with open({told:?}, 'a') as file:\n\
             \x20       file.write('%s %d\\n' % (watcher.uid, os.getuid()))\n    return True\n"
        ),
    );
    let daemon = site.start(Program::Circ);
    let nobody = nix::unistd::User::from_name("nobody")
        .expect("users")
        .expect("there is one");
    let uid_of = |name: &str| {
        let pid = daemon.wait_pids(name, 1)[0];
        daemon.wait_for("its user", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("Uid:"))?;
            line.split_whitespace().nth(1)?.parse::<u32>().ok()
        })
    };
    let set = |options: Value| {
        let properties = json!({"name": "web", "options": options, "waiting": true});
        daemon.call("set", properties)
    };
    let hook = json!({"uid": "nobody", "gid": "nogroup", "hooks.before_spawn": "mine.tell"});
    assert_eq!(set(hook)["status"], "ok");
    let nobody = nobody.uid.as_raw();
    assert_eq!(uid_of("web"), nobody);
    for bad in [
        json!({"uid": "no-such-user", "hooks.before_spawn": "mine.yes"}),
        json!({"uid": "root", "hooks.before_spawn": "mine.nothing"}),
    ] {
        assert_eq!(set(bad.clone())["status"], "error", "{bad}");
    }
    let web = daemon.pids("web");
    assert_eq!(reload(&daemon)["changed"], json!([]));
    assert_eq!(daemon.pids("web"), web);
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    assert_eq!(lines(), format!("{nobody} 0\n"));
    // now the file says it of both
    let body = |user: &str| {
        let keys = format!("cmd = sleep 1000\nuid = {user}\nhooks.before_spawn = mine.tell\n");
        site.ini(&format!("[watcher:web]\n{keys}[watcher:other]\n{keys}"));
    };
    body("nobody");
    reload(&daemon);
    assert_eq!((uid_of("web"), uid_of("other")), (nobody, nobody));
    assert!(lines().ends_with(" 0\n"), "{}", lines());
    body("root");
    reload(&daemon);
    assert_eq!((uid_of("web"), uid_of("other")), (0, 0));
    let now = (daemon.pids("web"), daemon.pids("other"));
    assert_eq!(reload(&daemon)["changed"], json!([]));
    assert_eq!((daemon.pids("web"), daemon.pids("other")), now);
}

/// `circ config check` finds what a reload would refuse.
#[test]
fn config_check_looks_for_hooks() {
    let site = site(
        "[watcher:web]\ncmd = /bin/sleep 1000\nhooks.before_start = mine.yes\nhooks.after_start = mine.no\n\
         hooks.before_stop = nowhere.f, True\nhooks.after_stop = exec:/no/such/program\n",
    );
    let check = || {
        let output = Command::new(env!("CARGO_BIN_EXE_circ"))
            .args(["config", "check", "circus.ini", "--json"])
            .current_dir(site.dir())
            .output()
            .expect("circ runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        (output.status.success(), told.to_string())
    };
    let (good, told) = check();
    assert!(!good, "{told}");
    for what in [
        "module 'mine' has no attribute 'no'",
        "No module named 'nowhere'",
        "/no/such/program: No such file",
    ] {
        assert!(told.contains(what), "{what} in {told}");
    }
    assert!(!told.contains("hooks.before_start"), "{told}");
    site.ini(
        "[watcher:web]\ncmd = /bin/sleep 1000\nhooks.before_start = mine.yes\nhooks.before_stop = nowhere.f, True\n",
    );
    let (good, told) = check();
    assert!(good && told.contains("nowhere"), "a warning: {told}");
}
