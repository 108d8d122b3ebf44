//! The daemon as a unit of systemd: sockets from a socket unit, `Type=notify`, the watchdog. systemd is played by a
//! script and a datagram socket.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, venv};

fn rewrite(site: &TempSite, body: &str) {
    let serve = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let told = site.write("told.py", include_str!("sockets_listen_fds/told.py"));
    let python = |script: &std::path::Path| {
        format!("{} -IS {}", venv().python().display(), script.display())
    };
    let body = body
        .replace("@SERVE@", &python(&serve))
        .replace("@TOLD@", &python(&told));
    site.ini(&body.replace("@SITE@", &site.dir().to_string_lossy()));
}

/// Starts the daemon with sockets: `NAME=PORT` or `NAME=PATH`, separated by commas.
fn handed<'a>(site: &'a TempSite, sockets: &str) -> Daemon<'a> {
    let script = site.write("hand.py", include_str!("sockets_handed/hand.py"));
    let mut command = Command::new(venv().python());
    command.arg("-IS").arg(script).arg(sockets);
    command.arg(env!("CARGO_BIN_EXE_circ")).arg("daemon");
    command.arg(site.path("circus.ini")).current_dir(site.dir());
    let daemon = site.spawn_command(Program::Circ, command);
    daemon.wait_ready();
    daemon
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"x")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn info(daemon: &Daemon, name: &str) -> Value {
    let reply = daemon.ok("listsockets", json!({}));
    let list = reply["sockets"].as_array().cloned().unwrap_or_default();
    list.into_iter()
        .find(|s| s["name"] == name)
        .expect("a socket")
}

/// The kernel's number of the socket that a process has under a descriptor.
fn link(pid: i32, fd: &Value) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    link.expect("an open descriptor").to_string_lossy().into()
}

/// By its name, by the name of its unit, or by its address: the section's socket is the one that systemd has bound.
#[test]
fn sockets_of_socket_units_are_used_and_not_bound() {
    let site = TempSite::new();
    let (web, api, own) = (site.port(), site.port(), site.port());
    let body = format!(
        "\n[socket:web]\nhost = 127.0.0.1\nport = {web}\n[socket:api]\nhost = 127.0.0.1\nport = {api}\nbacklog = 7\n\
         [socket:plain]\npath = @SITE@/plain.sock\n[socket:own]\nhost = 127.0.0.1\nport = {own}\n\
         [watcher:web]\ncmd = @SERVE@ $(circus.sockets.web)\nuse_sockets = True\nnumprocesses = 2\n\
         [watcher:api]\ncmd = @SERVE@ $(circus.sockets.api)\nuse_sockets = True\n\
         [watcher:plain]\ncmd = @SERVE@ $(circus.sockets.plain)\nuse_sockets = True\n"
    );
    rewrite(&site, &body);
    let path = site.path("plain.sock");
    let daemon = handed(
        &site,
        &format!("Web.socket={web},elsewhere={api},plain={}", path.display()),
    );
    for (name, number) in [("web", "3"), ("api", "4"), ("plain", "5")] {
        let number: Value = number.parse().expect("a number");
        let socket = info(&daemon, name);
        assert_eq!(
            link(daemon.pid(), &socket["fd"]),
            link(daemon.pid(), &number),
            "{name}"
        );
    }
    assert_eq!(info(&daemon, "web")["port"], web);
    assert_eq!(
        info(&daemon, "plain")["path"],
        path.to_string_lossy().as_ref()
    );
    let pids = daemon.wait_pids("web", 2);
    let answer = ask(web).expect("an answer");
    assert!(pids.iter().any(|pid| pid.to_string() == answer));
    assert_eq!(
        ask(api).expect("an answer"),
        daemon.wait_pids("api", 1)[0].to_string()
    );
    UnixStream::connect(&path).expect("somebody listens");

    // a reload keeps what has not changed, and a changed section has the same socket again
    let before = link(daemon.pid(), &info(&daemon, "web")["fd"]);
    rewrite(&site, &body.replace("backlog = 7", "backlog = 9"));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    daemon.ok("reload", json!({"waiting": true}));
    assert_eq!(link(daemon.pid(), &info(&daemon, "web")["fd"]), before);
    let fd: Value = "4".parse().expect("a number");
    assert_eq!(
        link(daemon.pid(), &info(&daemon, "api")["fd"]),
        link(daemon.pid(), &fd)
    );
    ask(api).expect("an answer");
    daemon.ok("restart", json!({"waiting": true}));
    ask(web).expect("an answer");

    // the file belongs to systemd
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_exit().success());
    assert!(path.exists());
}

/// What systemd gave is for the daemon: workers have neither the variables nor the sockets that are not theirs.
#[test]
fn workers_inherit_nothing_of_it_unasked() {
    let site = TempSite::new();
    let (web, spare) = (site.port(), site.port());
    rewrite(
        &site,
        &format!(
            "\n[socket:web]\nhost = 127.0.0.1\nport = {web}\n\
             [watcher:plain]\ncmd = @TOLD@ @SITE@/plain\ncopy_env = True\n\
             [watcher:taker]\ncmd = @TOLD@ @SITE@/taker\nlisten_fds = web\ncopy_env = True\n"
        ),
    );
    let daemon = handed(&site, &format!("web={web},spare={spare}"));
    let told = |name: &str| -> Value {
        daemon.wait_pids(name, 1);
        daemon.wait_for("what it was told", || {
            serde_json::from_str(&std::fs::read_to_string(site.path(name)).ok()?).ok()
        })
    };
    let plain = told("plain");
    assert_eq!(plain["sockets"], json!({}), "{plain}");
    for name in [
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
    ] {
        assert_eq!(plain[name], Value::Null, "{name}");
    }
    let taker = told("taker");
    assert_eq!(taker["sockets"], json!({"3": web}));
    assert_eq!(
        (&taker["LISTEN_FDNAMES"], &taker["LISTEN_PID"]),
        (&json!("web"), &taker["pid"])
    );
    let log = daemon.log();
    assert!(
        log.contains("spare") && log.contains("no [socket:NAME] section"),
        "{log}"
    );
}

/// A socket of another kind than its section says is a mistake of whoever wrote the two.
#[test]
fn a_socket_of_the_wrong_kind_is_refused() {
    let site = TempSite::new();
    let port = site.port();
    rewrite(
        &site,
        "\n[socket:web]\nhost = 127.0.0.1\nport = 0\ntype = SOCK_DGRAM\n",
    );
    let script = site.write("hand.py", include_str!("sockets_handed/hand.py"));
    let mut command = Command::new(venv().python());
    command.arg("-IS").arg(script).arg(format!("web={port}"));
    command
        .arg(env!("CARGO_BIN_EXE_circ"))
        .arg("daemon")
        .arg(site.path("circus.ini"));
    let daemon = site.spawn_command(Program::Circ, command);
    assert!(!daemon.wait_exit().success());
    let log = daemon.log();
    assert!(log.contains("socket web") && log.contains("type"), "{log}");
}

/// `Type=notify` and `Type=notify-reload`, with a watchdog.
#[test]
fn a_service_manager_hears_how_the_daemon_is() {
    let site = TempSite::new();
    rewrite(
        &site,
        "\n[watcher:w]\ncmd = @TOLD@ @SITE@/w\ncopy_env = True\n",
    );
    let path = site.path("notify.sock");
    let listener = UnixDatagram::bind(&path).expect("a socket of our own");
    listener
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time limit");
    let next = |wanted: &str| loop {
        let mut buffer = [0; 500];
        let length = listener
            .recv(&mut buffer)
            .unwrap_or_else(|e| panic!("{wanted}: {e}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.lines().any(|line| line == wanted) {
            return text;
        }
    };
    let daemon = site.spawn(Program::Circ, |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000");
    });
    let ready = next("READY=1");
    assert!(
        ready.contains(&format!("MAINPID={}", daemon.pid())),
        "{ready}"
    );
    // it listens from that moment on
    daemon
        .driver()
        .call(daemon.endpoint(), "numwatchers", json!({}), 60.0)
        .expect("an answer");
    for _ in 0..3 {
        next("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGHUP);
    let reloading = next("RELOADING=1");
    let since = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        since
            .and_then(|text| text.parse::<u64>().ok())
            .is_some_and(|time| time > 0),
        "{reloading}"
    );
    next("READY=1");
    daemon.wait_pids("w", 1);
    let told = daemon.wait_for("what it was told", || {
        serde_json::from_str::<Value>(&std::fs::read_to_string(site.path("w")).ok()?).ok()
    });
    assert_eq!(told["NOTIFY_SOCKET"], Value::Null);
    daemon.signal(Signal::SIGTERM);
    next("STOPPING=1");
    assert!(daemon.wait_exit().success());
}
