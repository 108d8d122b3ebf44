//! `reloadconfig` and the `[circus]` section: endpoints move, files move, and what cannot change is told.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use support::{Daemon, Driver, Program, TempSite, wait_for};

/// Writes circus.ini with other endpoints than the site's, and the keys and sections of `body`.
fn ini_at(site: &TempSite, endpoint: &str, pubsub: &str, body: &str) {
    site.write(
        "circus.ini",
        format!(
            "[circus]\nendpoint = {endpoint}\npubsub_endpoint = {pubsub}\nmulticast_endpoint =\n{body}"
        ),
    );
}

const WEB: &str =
    "[watcher:web]\ncmd = sleep 1000\n[watcher:idle]\ncmd = sleep 1000\nautostart = False\n";

/// Asks at another endpoint than the site's.
#[track_caller]
fn ask(driver: &Driver, endpoint: &str, command: &str, properties: Value) -> Value {
    driver
        .call(endpoint, command, properties, 30.0)
        .unwrap_or_else(|why| panic!("{command} at {endpoint}: {why}"))
}

#[track_caller]
fn pids(driver: &Driver, endpoint: &str, watcher: &str) -> Vec<i64> {
    let told = ask(driver, endpoint, "list", json!({"name": watcher}));
    let list = told["pids"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_i64).collect()
}

/// Whether anybody accepts a connection there.
fn listens(endpoint: &str) -> bool {
    match endpoint.strip_prefix("tcp://") {
        Some(address) => std::net::TcpStream::connect(address).is_ok(),
        None => {
            std::os::unix::net::UnixStream::connect(endpoint.trim_start_matches("ipc://")).is_ok()
        }
    }
}

/// The endpoints move while everything runs: who asked hears it where they asked, then the old ones are gone, and the
/// workers never notice.
#[test]
fn endpoints_move_in_place() {
    for (before, after) in [
        (TempSite::new(), TempSite::ipc()),
        (TempSite::ipc(), TempSite::new()),
    ] {
        before.ini(WEB);
        let daemon = before.start(Program::Circ);
        let web = daemon.wait_pids("web", 1);
        let driver = daemon.driver();
        let dealer = driver.dealer(&before.endpoint);
        let events = driver.subscribe(&before.pubsub, &["watcher."]);
        driver.events_until(events, dealer, "idle");
        ini_at(&before, &after.endpoint, &after.pubsub, WEB);
        let told = daemon.ok("reloadconfig", json!({"check": true}));
        assert_eq!(
            told["plan"],
            json!([{"section": "circus", "action": "set", "keys": ["endpoint", "pubsub_endpoint"]}])
        );
        assert!(!listens(&after.endpoint));
        let told = driver
            .request(dealer, "reloadconfig", json!({"waiting": true}), 30.0)
            .expect("the old connection hears the reply");
        assert_eq!(told["changed"], json!(["circus"]), "{told}");
        assert_eq!(told["restart_needed"], json!([]));
        assert_eq!(told["reloaded"], json!([]));
        for old in [&before.endpoint, &before.pubsub] {
            wait_for("the old endpoint to close", || {
                (!listens(old)).then_some(())
            });
        }
        let asked = ask(driver, &after.endpoint, "globaloptions", json!({}));
        assert_eq!(asked["options"]["endpoint"], json!(after.endpoint));
        assert_eq!(asked["options"]["pubsub_endpoint"], json!(after.pubsub));
        assert_eq!(pids(driver, &after.endpoint, "web"), [i64::from(web[0])]);
        let events = driver.subscribe(&after.pubsub, &["watcher."]);
        let dealer = driver.dealer(&after.endpoint);
        let seen = driver.events_until(events, dealer, "idle");
        assert!(seen.is_empty(), "{seen:?}");
        ask(
            driver,
            &after.endpoint,
            "restart",
            json!({"name": "web", "waiting": true}),
        );
        let seen = driver.events_until(events, dealer, "idle");
        assert!(
            seen.iter().any(|(topic, _)| topic == "watcher.web.spawn"),
            "{seen:?}"
        );
        // And back.
        before.ini(WEB);
        let told = ask(
            driver,
            &after.endpoint,
            "reloadconfig",
            json!({"waiting": true}),
        );
        assert_eq!(told["changed"], json!(["circus"]), "{told}");
        assert_eq!(daemon.ok("reloadconfig", json!({}))["changed"], json!([]));
        for path in ["control", "events"] {
            let mine = before
                .endpoint
                .contains(&*before.path(path).to_string_lossy());
            assert_eq!(
                mine,
                before.path("control").exists() && path == "control",
                "{path}"
            );
            assert!(!after.path(path).exists(), "{path}");
        }
    }
}

/// Whoever waits for something longer when the endpoint moves still hears of it.
#[test]
fn who_waits_at_the_old_endpoint_hears_the_end() {
    let (site, after) = (TempSite::new(), TempSite::new());
    let slow = site.write(
        "slow.sh",
        "trap '' TERM\ntouch ready\nwhile :; do sleep 0.1; done\n",
    );
    let body = format!(
        "{WEB}[watcher:slow]\ncmd = sh {}\nworking_dir = {}\ngraceful_timeout = 30\nstop_children = True\n",
        slow.display(),
        site.dir().display()
    );
    site.ini(&body);
    let daemon = site.start(Program::Circ);
    let slow = daemon.wait_pids("slow", 1);
    daemon.wait_for("the trap", || site.path("ready").exists().then_some(()));
    let driver = daemon.driver();
    let dealer = driver.dealer(&site.endpoint);
    let stop =
        json!({"id": "s", "command": "stop", "properties": {"name": "slow", "waiting": true}});
    driver.send(dealer, &[stop.to_string().as_bytes()]);
    daemon.wait_for("it to be stopping", || {
        (daemon.call("status", json!({"name": "slow"}))["status"] == "stopping").then_some(())
    });
    ini_at(&site, &after.endpoint, &after.pubsub, &body);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(
        ask(driver, &after.endpoint, "status", json!({"name": "slow"}))["status"],
        "stopping"
    );
    let pid = nix::unistd::Pid::from_raw(slow[0]);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    let told = driver.recv(dealer, 30.0).expect("the reply");
    let told: Value = serde_json::from_str(told.last().expect("a frame")).expect("JSON");
    assert_eq!(
        (&told["id"], &told["status"]),
        (&json!("s"), &json!("ok")),
        "{told}"
    );
}

/// The same place under another name, every interface instead of one, and two that change places.
#[test]
fn endpoints_that_overlap() {
    let site = TempSite::new();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let driver = daemon.driver();
    let port = |endpoint: &str| endpoint.rsplit(':').next().expect("a port").to_string();
    let (control, events) = (port(&site.endpoint), port(&site.pubsub));
    let at = |host: &str, port: &str| format!("tcp://{host}:{port}");
    for (control, events) in [
        (at("localhost", &control), at("127.0.0.1", &events)),
        (at("0.0.0.0", &control), at("*", &events)),
        (at("127.0.0.1", &control), at("127.0.0.1", &events)),
    ] {
        ini_at(&site, &control, &events, WEB);
        let told = daemon.ok("reloadconfig", json!({"waiting": true}));
        assert_eq!(told["changed"], json!(["circus"]), "{told}");
        let asked = daemon.ok("globaloptions", json!({"option": "endpoint"}));
        assert_eq!(asked["options"]["endpoint"], json!(control));
    }
    // They change places.
    ini_at(&site, &site.pubsub, &site.endpoint, WEB);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(pids(driver, &site.pubsub, "web"), [i64::from(web[0])]);
    // One may not be where the other is.
    for (control, events) in [
        (&site.pubsub, &site.pubsub),
        (&site.endpoint, &site.endpoint),
    ] {
        ini_at(&site, control, events, WEB);
        let told = ask(
            driver,
            &site.pubsub,
            "reloadconfig",
            json!({"waiting": true}),
        );
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("that is where ") && reason.contains("circus.ini:"),
            "{told}"
        );
    }
    assert_eq!(pids(driver, &site.pubsub, "web"), [i64::from(web[0])]);
    site.ini(WEB);
    ask(
        driver,
        &site.pubsub,
        "reloadconfig",
        json!({"waiting": true}),
    );
    assert_eq!(daemon.pids("web"), web);
    // Nobody else was let in by all that.
    let other = TempSite::new();
    ini_at(&other, &site.endpoint, &other.pubsub, "");
    let second = other.spawn(Program::Circ, |_| {});
    assert!(!second.wait_exit().success());
    assert!(
        second.log().contains("is listening there"),
        "{}",
        second.log()
    );
}

/// An endpoint that cannot be had: nothing has changed, the answer says where and why.
#[test]
fn an_endpoint_that_cannot_be_had_changes_nothing() {
    let (site, after) = (TempSite::new(), TempSite::new());
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of our own");
    let taken = format!("tcp://{}", taken.local_addr().expect("it has an address"));
    site.write("file", "no socket");
    let file = format!("ipc://{}", site.path("file").display());
    let fresh = format!("ipc://{}", site.path("fresh").display());
    let changed = WEB.replace("1000", "2000");
    for (endpoint, pubsub, more, what) in [
        (
            &after.endpoint,
            &taken,
            "",
            "circus.ini:3: [circus] pubsub_endpoint",
        ),
        (&fresh, &file, "", "circus.ini:3: [circus] pubsub_endpoint"),
        (&taken, &after.pubsub, "", "circus.ini:2: [circus] endpoint"),
        (
            &"tcp://no-such-host.invalid:1".to_string(),
            &after.pubsub,
            "",
            "circus.ini:2: [circus] endpoint",
        ),
        (
            &after.endpoint,
            &after.pubsub,
            "pidfile = /no/such/directory/pid\n",
            "circus.ini:5: [circus] pidfile",
        ),
        (
            &fresh,
            &after.pubsub,
            "endpoint_owner = no-such-user\n",
            "circus.ini:5: [circus] endpoint_owner",
        ),
        (
            &fresh,
            &after.pubsub,
            "[socket:s]\npath = /no/such/directory/s\n",
            "circus.ini:5: [socket:s]",
        ),
        (
            &fresh,
            &after.pubsub,
            "[socket:s]\nhost = no-such-host.invalid\n",
            "circus.ini:5: [socket:s]",
        ),
    ] {
        ini_at(&site, endpoint, pubsub, &format!("{more}{changed}"));
        let told = daemon.call("reloadconfig", json!({"waiting": true}));
        assert_eq!(
            told["status"], "error",
            "{endpoint} {pubsub} {more}: {told}"
        );
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(what), "{reason}");
        assert_eq!(daemon.pids("web"), web);
        for new in [&after.endpoint, &after.pubsub, &fresh] {
            assert!(!listens(new), "{new} after {reason}");
        }
        assert!(!site.path("fresh").exists(), "after {reason}");
        assert!(site.path("file").exists());
        let options = daemon.ok("globaloptions", json!({}))["options"].clone();
        assert_eq!(options["endpoint"], json!(site.endpoint));
    }
}

/// The file of the control socket changes hands without being made anew.
#[test]
fn the_owner_of_the_endpoint() {
    if !nix::unistd::Uid::effective().is_root() {
        support::skip("giving a file away needs root");
        return;
    }
    let site = TempSite::ipc();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let file = || fs::metadata(site.path("control")).expect("the socket");
    let before = file();
    assert_eq!((before.uid(), before.mode() & 0o777), (0, 0o600));
    site.ini(&format!("endpoint_owner = nobody\n{WEB}"));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let nobody = nix::unistd::User::from_name("nobody")
        .expect("users")
        .expect("there is one");
    assert_eq!(
        (file().uid(), file().ino()),
        (nobody.uid.as_raw(), before.ino())
    );
    let add = json!({"name": "added", "cmd": "sleep 1000"});
    let refused = daemon.call("add", add.clone());
    assert_eq!(
        refused["reason"], "uid does not match endpoint_owner",
        "{refused}"
    );
    // What fails later takes it back.
    site.ini(&format!(
        "endpoint_owner = daemon\n{WEB}[socket:s]\npath = /no/such/s\n"
    ));
    assert_eq!(
        daemon.call("reloadconfig", json!({"waiting": true}))["status"],
        "error"
    );
    assert_eq!(file().uid(), nobody.uid.as_raw());
    site.ini(WEB);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!((file().uid(), file().ino()), (0, before.ino()));
    daemon.ok("add", add);
}

fn asked(daemon: &Daemon, key: &str) -> Value {
    daemon.ok("globaloptions", json!({"option": key}))["options"][key].clone()
}

/// The pid file moves, goes and comes; that of somebody else is not taken.
#[test]
fn the_pid_file_moves() {
    let site = TempSite::new();
    let with = |name: &str| site.ini(&format!("pidfile = {}\n{WEB}", site.path(name).display()));
    with("one.pid");
    let daemon = site.start(Program::Circ);
    let holds = |name: &str| {
        fs::read_to_string(site.path(name))
            .ok()
            .map(|text| text.trim().to_string())
    };
    let pid = Some(daemon.pid().to_string());
    assert_eq!(holds("one.pid"), pid);
    let reload = || daemon.call("reloadconfig", json!({"waiting": true}));
    with("two.pid");
    assert_eq!(reload()["restart_needed"], json!([]));
    assert_eq!((holds("one.pid"), holds("two.pid")), (None, pid.clone()));
    // The same file by another name.
    with("./two.pid");
    assert_eq!(reload()["status"], "ok");
    assert_eq!(holds("two.pid"), pid);
    let foreign = std::process::id().to_string();
    site.write("foreign.pid", &foreign);
    with("foreign.pid");
    let told = reload();
    assert!(
        told["reason"]
            .as_str()
            .is_some_and(|r| r.contains("foreign.pid")),
        "{told}"
    );
    assert_eq!(
        (holds("foreign.pid"), holds("two.pid")),
        (Some(foreign), pid.clone())
    );
    site.ini(WEB);
    assert_eq!(reload()["status"], "ok");
    assert_eq!(holds("two.pid"), None);
    with("three.pid");
    assert_eq!(reload()["status"], "ok");
    assert_eq!(holds("three.pid"), pid);
    let path = site.path("three.pid");
    assert!(daemon.stop().success());
    assert!(!path.exists());
}

/// The umask of new workers; without the option it is again what the daemon was started with.
#[test]
fn the_umask_and_the_delays() {
    let site = TempSite::new();
    site.ini(&format!("warmup_delay = 0\ncheck_delay = 5\n{WEB}"));
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let umask = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("Umask:"));
        line.expect("the kernel tells it")
            .split_whitespace()
            .last()
            .map(String::from)
    };
    let own = umask(daemon.pid());
    site.ini(&format!(
        "umask = 027\nwarmup_delay = 0.01\ncheck_delay = 2.5\n{WEB}"
    ));
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(
        (&told["changed"], &told["restart_needed"]),
        (&json!(["circus"]), &json!([]))
    );
    assert_eq!(asked(&daemon, "check_delay"), 2.5);
    assert_eq!(daemon.pids("web"), web);
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    assert_eq!(
        umask(daemon.wait_pids("web", 1)[0]).as_deref(),
        Some("0027")
    );
    site.ini(WEB);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.ok("restart", json!({"name": "web", "waiting": true}));
    assert_eq!(umask(daemon.wait_pids("web", 1)[0]), own);
    assert_eq!(asked(&daemon, "check_delay"), 5.0);
}

/// What the command line has settled stays, and the answer says so.
#[test]
fn the_command_line_has_the_last_word() {
    let site = TempSite::new();
    site.ini(WEB);
    let daemon = site.start_with(Program::Circ, |command| {
        command.arg("--pidfile").arg(site.path("mine.pid"));
        command.args(["--log-level", "info"]);
    });
    site.ini(&format!(
        "pidfile = {}\nloglevel = debug\n{WEB}",
        site.path("other.pid").display()
    ));
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(
        told["notes"],
        json!([
            "circus.pidfile has no effect: the daemon was started with --pidfile",
            "circus.loglevel has no effect: the daemon was started with --log-level",
        ])
    );
    assert!(site.path("mine.pid").exists() && !site.path("other.pid").exists());
    assert!(!daemon.log().contains("[DEBUG]"), "{}", daemon.log());
}

/// A log level that there is not is a mistake like any other.
#[test]
fn a_wrong_level_changes_nothing() {
    let site = TempSite::new();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    site.ini(&format!("loglevel = loud\n{}", WEB.replace("1000", "2000")));
    let told = daemon.call("reloadconfig", json!({"waiting": true}));
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("circus.ini:5: [circus] loglevel") && reason.contains("loud"),
        "{told}"
    );
    assert_eq!(daemon.pids("web"), web);
}

/// A file that cannot be read for now holds up nobody but the reload; reloads wait for each other.
#[test]
fn a_hanging_file_holds_up_nobody() {
    let site = TempSite::new();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let fifo = site.path("more.ini");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("our own directory");
    site.ini(&format!("include = more.ini\n{WEB}"));
    let driver = daemon.driver();
    let (first, second) = (driver.dealer(&site.endpoint), driver.dealer(&site.endpoint));
    let message = |id: &str, check: bool| {
        let properties = json!({"waiting": true, "check": check});
        json!({"id": id, "command": "reloadconfig", "properties": properties}).to_string()
    };
    driver.send(first, &[message("first", false).as_bytes()]);
    // Held open, so that the daemon does not come to the end of it.
    let writer = daemon.wait_for("the daemon to read the file", || {
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::open(&fifo, flags, nix::sys::stat::Mode::empty()).ok()
    });
    driver.send(second, &[message("second", true).as_bytes()]);
    // A restart of everything needs the file as well, and stops nobody before it has it.
    let restart = json!({"id": "r", "command": "restart", "properties": {"waiting": true}});
    driver.send(second, &[restart.to_string().as_bytes()]);
    for _ in 0..20 {
        assert_eq!(daemon.pids("web"), web);
    }
    daemon.ok(
        "set",
        json!({"name": "idle", "options": {"warmup_delay": 1}, "waiting": true}),
    );
    assert_eq!(driver.recv(first, 0.0), None);
    // Each of them reads it once.
    let feed = |text: &str| fs::write(&fifo, text).expect("somebody reads it");
    feed("[watcher:more]\ncmd = sleep 1000\n");
    drop(writer);
    let told = |dealer| {
        let frames = driver.recv(dealer, 30.0).expect("a reply");
        serde_json::from_str::<Value>(frames.last().expect("a frame")).expect("JSON")
    };
    let reply = told(first);
    assert_eq!(
        reply["changed"],
        json!(["circus", "watcher:more"]),
        "{reply}"
    );
    let more = daemon.wait_pids("more", 1);
    assert_eq!(driver.recv(second, 0.0), None);
    feed("");
    let reply = told(second);
    assert_eq!(
        reply["plan"],
        json!([{"section": "watcher:more", "action": "remove", "keys": []}]),
        "{reply}"
    );
    assert_eq!((daemon.pids("more"), daemon.pids("web")), (more, web));
    feed("");
    daemon.wait_for("everything to stop", || {
        (daemon.call("status", json!({"name": "web"}))["status"] == "stopped").then_some(())
    });
    feed("[watcher:last]\ncmd = sleep 1000\n");
    let reply = told(second);
    assert_eq!(reply["status"], "ok", "{reply}");
    daemon.wait_pids("last", 1);
    assert_eq!(
        daemon.ok("list", json!({}))["watchers"],
        json!(["idle", "last", "web"])
    );
}

/// A daemon that is told to end while a file hangs ends.
#[test]
fn a_hanging_file_does_not_keep_the_daemon() {
    let site = TempSite::new();
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    nix::unistd::mkfifo(&site.path("more.ini"), nix::sys::stat::Mode::S_IRWXU)
        .expect("our own directory");
    site.ini(&format!("include = more.ini\n{WEB}"));
    let driver = daemon.driver();
    let dealer = driver.dealer(&site.endpoint);
    let reload = json!({"id": "x", "command": "reloadconfig", "properties": {"waiting": true}});
    driver.send(dealer, &[reload.to_string().as_bytes()]);
    daemon.wait_pids("web", 1);
    assert!(daemon.stop().success());
}

/// The agent inside the daemon goes with it to another endpoint.
#[test]
fn the_agent_inside_moves_along() {
    let (site, after) = (TempSite::new(), TempSite::new());
    site.write("state.toml", "[watcher.web]\nnumprocesses = 2\n");
    let body = "agent_desired = state.toml\nagent_report_dir = reports\nagent_interval = 1\nagent_splay = 0\n\
                [watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n";
    site.ini(body);
    let daemon = site.start(Program::Circ);
    let driver = daemon.driver();
    daemon.wait_for("the first report", || {
        site.path("reports/last.json").exists().then_some(())
    });
    ini_at(&site, &after.endpoint, &after.pubsub, body);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    // It undoes what somebody changes by hand.
    ask(
        driver,
        &after.endpoint,
        "decr",
        json!({"name": "web", "waiting": true}),
    );
    daemon.wait_for("two workers again", || {
        (pids(driver, &after.endpoint, "web").len() == 2).then_some(())
    });
    let last = fs::read_to_string(site.path("reports/last.json")).expect("a report");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(last["failed"], false, "{last}");
}

/// A fresh socket file is for its owner alone from the first moment, whatever the umask.
#[test]
fn the_file_of_an_endpoint_is_for_its_owner() {
    let site = TempSite::ipc();
    for umask in ["000", "077", "777"] {
        site.ini(&format!("umask = {umask}\n{WEB}"));
        let daemon = site.start(Program::Circ);
        let mode = |path: &Path| fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777);
        assert_eq!(mode(&site.path("control")).ok(), Some(0o600), "{umask}");
        assert_eq!(mode(&site.path("events")).ok(), Some(0o600), "{umask}");
        assert!(daemon.stop().success());
    }
}

/// Statistics are published, elsewhere and no more, as the file says.
#[test]
fn statistics_come_move_and_go() {
    let (site, after) = (TempSite::new(), TempSite::new());
    site.ini(WEB);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let reload = |stats: &str| {
        site.ini(&format!("{stats}{WEB}"));
        daemon.ok("reloadconfig", json!({"waiting": true}))
    };
    for endpoint in [&site.stats, &after.stats] {
        let told = reload(&format!("statsd = True\nstats_endpoint = {endpoint}\n"));
        assert_eq!(told["restart_needed"], json!([]), "{told}");
        let stats = daemon.driver().subscribe(endpoint, &["stat.web"]);
        let seen = daemon.driver().recv(stats, 30.0).expect("statistics");
        assert!(seen[0].starts_with("stat.web"), "{seen:?}");
        daemon.driver().close(stats);
    }
    wait_for("the first to close", || {
        (!listens(&site.stats)).then_some(())
    });
    reload("");
    wait_for("the second to close", || {
        (!listens(&after.stats)).then_some(())
    });
    assert_eq!(daemon.pids("web"), web);
}

/// The log goes elsewhere from one line to the next.
#[test]
fn the_log_moves() {
    let site = TempSite::new();
    let to = |name: &str, more: &str| {
        site.ini(&format!(
            "logoutput = {}\n{more}{WEB}",
            site.path(name).display()
        ))
    };
    to("one.log", "");
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    let text = |name: &str| fs::read_to_string(site.path(name)).unwrap_or_default();
    daemon.wait_for("the first lines", || {
        text("one.log").contains("web").then_some(())
    });
    to("no/such/directory", "");
    let told = daemon.call("reloadconfig", json!({"waiting": true}));
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("circus.ini:5: [circus] logoutput"),
        "{told}"
    );
    to("two.log", "loglevel = warning\n");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let before = text("one.log");
    to("two.log", "loglevel = info\n");
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.wait_for("a line in the second file", || {
        text("two.log")
            .contains("configuration read again")
            .then_some(())
    });
    assert_eq!(text("one.log"), before);
    assert_eq!(daemon.pids("web"), web);
}
