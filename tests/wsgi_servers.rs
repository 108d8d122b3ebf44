//! Real web servers on a socket of circ: several workers share it, and a reload under load loses no request.
//!
//! nginx unit is not among them: Debian has no package of it.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use support::{Daemon, Program, TempSite, asking_meanwhile, venv_of};

/// A site with two workers of one server on one socket; `@SITE@` stands for its directory.
fn site(cmd: &str, more: &str) -> TempSite {
    let venv = venv_of("tests/requirements-wsgi.txt");
    let site = TempSite::new();
    for (name, text) in [
        ("app.py", include_str!("wsgi_servers/app.py")),
        ("granian_fd.py", include_str!("wsgi_servers/granian_fd.py")),
        (
            "waitress_fd.py",
            include_str!("wsgi_servers/waitress_fd.py"),
        ),
    ] {
        site.write(name, text);
    }
    site.ini(&format!(
        "\n[env]\nPATH = {}\nHOME = {}\nPYTHONDONTWRITEBYTECODE = 1\n\
         [socket:web]\nhost = 127.0.0.1\nport = 0\n\
         [watcher:web]\ncmd = {cmd}\nnumprocesses = 2\n{more}",
        venv.path(),
        site.dir().display()
    ));
    site
}

/// A request without an answer.
struct Failure {
    /// There was nobody to connect to: never the server's fault. Otherwise a server took the connection and let go of it.
    refused: bool,
    text: String,
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.refused { "refused" } else { "dropped" };
        write!(f, "{what}: {}", self.text)
    }
}

impl Failure {
    fn new(refused: bool, text: impl ToString) -> Failure {
        let text = text.to_string();
        Failure { refused, text }
    }
}

/// One request on a connection of its own; the pid that answered.
fn ask(port: u16) -> Result<i32, Failure> {
    let refused = |error: std::io::Error| Failure::new(true, error);
    let dropped = |error: std::io::Error| Failure::new(false, error);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(refused)?;
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).map_err(refused)?;
    let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).map_err(dropped)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(dropped)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim());
    let pid = body.and_then(|body| body.strip_prefix("pid "));
    match pid.and_then(|pid| pid.parse().ok()) {
        Some(pid) if answer.starts_with("HTTP/1.1 200") => Ok(pid),
        _ => Err(Failure::new(false, format!("half an answer: {answer:?}"))),
    }
}

#[track_caller]
fn port(daemon: &Daemon) -> u16 {
    let reply = daemon.ok("listsockets", json!({}));
    let port = reply["sockets"][0]["port"].as_u64();
    port.and_then(|port| u16::try_from(port).ok())
        .expect("a port")
}

/// Asks all the time while the workers are replaced three times; what was answered, and what was not.
#[track_caller]
fn reload_under_load(cmd: &str, more: &str) -> (usize, Vec<Failure>) {
    let site = site(cmd, more);
    let daemon = site.start(Program::Circ);
    let first = daemon.wait_pids("web", 2);
    let port = port(&daemon);
    // nobody has accepted yet: the answer comes when the first server is up
    ask(port).unwrap_or_else(|failure| panic!("{failure:?}\n{}", daemon.tail()));
    let mut answered = BTreeSet::new();
    daemon.wait_for("an answer of each of the two", || {
        answered.extend(ask(port).ok());
        (answered.len() >= 2).then_some(())
    });
    let client = |_: usize| {
        || {
            // the servers want some of the machine, too
            std::thread::sleep(Duration::from_millis(2));
            ask(port).map(|_| true)
        }
    };
    let (count, failures) = asking_meanwhile(2, client, |_| {
        for round in 0..3 {
            daemon.ok("reload", json!({"name": "web", "waiting": true}));
            // until the new ones answer
            let before = answered.clone();
            daemon.wait_for(&format!("a new worker's answer, round {round}"), || {
                let pid = ask(port).ok()?;
                answered.insert(pid);
                (!before.contains(&pid)).then_some(())
            });
        }
    });
    let last = daemon.wait_pids("web", 2);
    assert!(last.iter().all(|pid| !first.contains(pid)));
    println!("{cmd}: {count} answered, {} failed", failures.len());
    assert!(count >= 20, "{count}: {failures:?}\n{}", daemon.tail());
    (count, failures)
}

#[track_caller]
fn loses_nothing(cmd: &str, more: &str) {
    let (count, failures) = reload_under_load(cmd, more);
    assert!(failures.is_empty(), "of {count}: {failures:?}");
}

/// The server resets a connection now and then that it has accepted, and from which it has not yet read, when it is told to
/// stop: one of a few hundred at the most, and nobody is refused.
#[track_caller]
fn loses_hardly_any(cmd: &str, more: &str) {
    let (count, failures) = reload_under_load(cmd, more);
    let refused = failures.iter().filter(|failure| failure.refused);
    assert_eq!(refused.count(), 0, "of {count}: {failures:?}");
    assert!(failures.len() * 50 < count, "of {count}: {failures:?}");
}

/// The server itself closes some connections that it has accepted when it is told to stop; circ's part is that nobody
/// is refused.
#[track_caller]
fn refuses_nobody(cmd: &str, more: &str) {
    let (count, failures) = reload_under_load(cmd, more);
    let refused = failures.iter().filter(|failure| failure.refused);
    assert_eq!(refused.count(), 0, "of {count}: {failures:?}");
    assert!(failures.len() * 2 < count, "of {count}: {failures:?}");
}

const INHERITED: &str = "use_sockets = True\n";

#[test]
fn gunicorn_on_an_inherited_socket() {
    loses_nothing(
        "gunicorn --bind fd://$(circus.sockets.web) --workers 1 --no-control-socket app:wsgi",
        INHERITED,
    );
}

#[test]
fn gunicorn_takes_what_listen_fds_hands_over() {
    loses_nothing(
        "gunicorn --workers 1 --no-control-socket app:wsgi",
        "listen_fds = True\n",
    );
}

#[test]
fn uvicorn_on_an_inherited_socket() {
    loses_hardly_any(
        "uvicorn --fd $(circus.sockets.web) --log-level warning app:asgi",
        INHERITED,
    );
}

#[test]
fn granian_on_an_inherited_socket() {
    loses_hardly_any("python granian_fd.py $(circus.sockets.web)", INHERITED);
}

#[test]
fn hypercorn_on_an_inherited_socket() {
    refuses_nobody(
        "hypercorn --bind fd://$(circus.sockets.web) app:asgi",
        INHERITED,
    );
}

#[test]
fn waitress_on_an_inherited_socket() {
    refuses_nobody("python waitress_fd.py $(circus.sockets.web)", INHERITED);
}
