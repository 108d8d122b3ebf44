//! Addresses of a changed file: what passes between the daemon's own endpoints and the sockets of its workers, and what
//! `reloadconfig --check` finds out before anything is bound.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;
use support::{Daemon, Program, TempSite, venv};

/// Writes circus.ini with these endpoints and sections.
fn write(site: &TempSite, endpoint: &str, pubsub: &str, body: &str) {
    let circus = format!(
        "[circus]\nendpoint = {endpoint}\npubsub_endpoint = {pubsub}\nmulticast_endpoint =\n"
    );
    site.write("circus.ini", format!("{circus}{body}"));
}

/// A watcher whose worker answers on its socket, with these keys.
fn web(site: &TempSite, keys: &str) -> String {
    let script = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let serve = format!("{} -IS {}", venv().python().display(), script.display());
    format!(
        "[watcher:web]\ncmd = {serve} $(circus.sockets.web) web\nuse_sockets = True\n[socket:web]\n{keys}"
    )
}

fn read(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What is answered where an endpoint or a socket is.
fn answer(place: &str) -> std::io::Result<String> {
    let patience = Some(Duration::from_secs(20));
    match place.strip_prefix("tcp://") {
        Some(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(patience)?;
            read(stream)
        }
        None => {
            let stream = UnixStream::connect(place.trim_start_matches("ipc://"))?;
            stream.set_read_timeout(patience)?;
            read(stream)
        }
    }
}

/// A command at an endpoint.
#[track_caller]
fn command(daemon: &Daemon, endpoint: &str, command: &str, properties: Value) -> Value {
    let told = daemon.driver().call(endpoint, command, properties, 30.0);
    told.unwrap_or_else(|why| panic!("{command} at {endpoint}: {why}\n{}", daemon.log()))
}

/// The endpoint goes where the socket is and the socket where the endpoint is, there and back, in one reload each; then the
/// socket goes and the endpoint takes its place.
#[test]
fn an_endpoint_and_a_socket_change_places() {
    let (tcp, files) = (TempSite::new(), TempSite::ipc());
    let address = format!("127.0.0.1:{}", tcp.port());
    let path = files.path("web.sock");
    let keys = |place: &str| match place.strip_prefix("tcp://") {
        Some(address) => {
            let (host, port) = address.split_once(':').expect("an address");
            format!("host = {host}\nport = {port}\n")
        }
        None => format!("path = {}\n", place.trim_start_matches("ipc://")),
    };
    for (site, other) in [
        (&tcp, format!("tcp://{address}")),
        (&files, format!("ipc://{}", path.display())),
    ] {
        let own = site.endpoint.clone();
        write(site, &own, &site.pubsub, &web(site, &keys(&other)));
        let daemon = site.start(Program::Circ);
        daemon.wait_pids("web", 1);
        assert!(answer(&other).expect("an answer").ends_with("web"));
        for (before, after) in [(&own, &other), (&other, &own)] {
            write(site, after, &site.pubsub, &web(site, &keys(before)));
            let told = command(&daemon, before, "reloadconfig", json!({"check": true}));
            assert_eq!(told["status"], "ok", "{told}");
            let told = command(&daemon, before, "reloadconfig", json!({"waiting": true}));
            assert_eq!(told["status"], "ok", "{told}");
            assert_eq!(told["reloaded"], json!(["web"]), "{told}");
            let said = answer(before).expect("an answer where the endpoint was");
            assert!(said.ends_with("web"), "{said}");
            let told = command(&daemon, after, "list", json!({"name": "web"}));
            assert_eq!(told["pids"].as_array().map(Vec::len), Some(1), "{told}");
        }
        write(site, &other, &site.pubsub, "");
        let told = command(&daemon, &own, "reloadconfig", json!({"waiting": true}));
        assert_eq!(told["status"], "ok", "{told}");
        let told = command(&daemon, &other, "listsockets", json!({}));
        assert_eq!(told["sockets"], json!([]), "{told}");
        // nothing is left of what made room
        let left: Vec<PathBuf> = fs::read_dir(site.dir())
            .expect("its directory")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "old"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(daemon.wait_exit().success());
    }
}

/// When something else of the file cannot be had, both are where they were, and serve.
#[test]
fn a_swap_that_fails_leaves_both_where_they_were() {
    for site in [TempSite::new(), TempSite::ipc()] {
        let port = site.port();
        let (other, keys, back) = match site.endpoint.strip_prefix("tcp://127.0.0.1:") {
            Some(own) => {
                let keys = |port: &str| format!("host = 127.0.0.1\nport = {port}\n");
                let (there, back) = (keys(&port.to_string()), keys(own));
                (format!("tcp://127.0.0.1:{port}"), there, back)
            }
            None => {
                let path = site.path("web.sock");
                let own = site.endpoint.trim_start_matches("ipc://");
                let (there, back) = (format!("path = {}\n", path.display()), own);
                (
                    format!("ipc://{}", path.display()),
                    there,
                    format!("path = {back}\n"),
                )
            }
        };
        write(&site, &site.endpoint, &site.pubsub, &web(&site, &keys));
        let daemon = site.start(Program::Circ);
        let pids = daemon.wait_pids("web", 1);
        let wrong = format!(
            "{}[socket:z]\npath = /no/such/directory/s\n",
            web(&site, &back)
        );
        write(&site, &other, &site.pubsub, &wrong);
        for question in [json!({"check": true}), json!({"waiting": true})] {
            let told = daemon.call("reloadconfig", question);
            let reason = told["reason"].as_str().unwrap_or_default();
            assert!(
                reason.contains("[socket:z]") && reason.contains("No such file"),
                "{told}"
            );
            assert_eq!(daemon.pids("web"), pids);
            assert!(answer(&other).expect("an answer").ends_with("web"));
        }
    }
}

/// The endpoint of the daemon and a socket of its workers in one place: refused before anything is bound, with their names.
#[test]
fn an_endpoint_and_a_socket_cannot_be_in_one_place() {
    let site = TempSite::new();
    let port = site.port();
    let keys = format!("host = 127.0.0.1\nport = {port}\n");
    write(&site, &site.endpoint, &site.pubsub, &web(&site, &keys));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 1);
    let own = site.endpoint.rsplit(':').next().expect("a port");
    let there = format!(
        "{}[socket:z]\nhost = 0.0.0.0\nport = {own}\n",
        web(&site, &keys)
    );
    for (endpoint, body, place, by) in [
        (
            format!("tcp://127.0.0.1:{port}"),
            web(&site, &keys),
            "[circus] endpoint",
            "[socket:web]",
        ),
        (
            site.endpoint.clone(),
            there,
            "[socket:z]",
            "[circus] endpoint",
        ),
    ] {
        write(&site, &endpoint, &site.pubsub, &body);
        for question in [json!({"check": true}), json!({"waiting": true})] {
            let told = daemon.call("reloadconfig", question);
            let reason = told["reason"].as_str().unwrap_or_default();
            let by = format!("Address already in use by {by}");
            assert!(
                reason.contains(place) && reason.contains(&by) && reason.contains("circus.ini:"),
                "{told}"
            );
        }
    }
    assert_eq!(daemon.pids("web"), pids);
}

/// `check` tells what could not be bound, of endpoints and of sockets, in the words of the reload itself, and touches nothing.
#[test]
fn a_check_tells_what_could_not_be_bound() {
    let site = TempSite::new();
    let (free, twice) = (site.port(), site.port());
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a port of our own");
    let taken = foreign.local_addr().expect("it has one").port();
    let listening = site.path("listening");
    let _listener = UnixListener::bind(&listening).expect("a socket of our own");
    let stale = site.path("stale");
    drop(UnixListener::bind(&stale).expect("a socket of our own"));
    let file = site.write("file", "precious");
    let web = "[watcher:web]\ncmd = sleep 1000\n";
    write(&site, &site.endpoint, &site.pubsub, web);
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 1);
    let at = |port: u16| format!("host = 127.0.0.1\nport = {port}\n");
    let socket = |keys: String| format!("{web}[socket:s]\n{keys}");
    let inodes = || {
        [&listening, &stale, &file]
            .map(|path| fs::symlink_metadata(path).expect("it is there").ino())
    };
    let before = inodes();
    let long = "x".repeat(200);
    let path = |path: &str| socket(format!("path = {path}\n"));
    let cases = [
        (
            None,
            socket(at(taken)),
            "Address already in use; held by pid",
        ),
        (
            None,
            socket("host = 203.0.113.1\nport = 1\n".into()),
            "Cannot assign requested address",
        ),
        (
            None,
            socket(format!("{}interface = nosuchif0\n", at(free))),
            "No such device",
        ),
        (
            None,
            path("/no/such/directory/s"),
            "No such file or directory",
        ),
        (
            None,
            path(&format!("{}/s", file.display())),
            "Not a directory",
        ),
        (None, path(&file.display().to_string()), "no socket"),
        (None, path(&listening.display().to_string()), "held by pid"),
        (None, path(&stale.display().to_string()), "replace = True"),
        (None, path(&format!("/{long}")), "path"),
        (
            Some(format!("tcp://127.0.0.1:{taken}")),
            web.into(),
            "is listening there",
        ),
        (
            Some(format!("ipc://{}", listening.display())),
            web.into(),
            "is listening there",
        ),
        (
            Some(format!("ipc://{}", file.display())),
            web.into(),
            "is not a socket",
        ),
        (
            Some("ipc:///no/such/directory/s".into()),
            web.into(),
            "No such file or directory",
        ),
    ];
    for (endpoint, body, why) in cases {
        let endpoint = endpoint.unwrap_or(site.endpoint.clone());
        write(&site, &endpoint, &site.pubsub, &body);
        let told = daemon.call("reloadconfig", json!({"check": true}));
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(why), "{body}{endpoint}: {told}");
        let place = if body == web {
            "[circus] endpoint: "
        } else {
            "[socket:s] "
        };
        assert!(
            reason.contains("circus.ini:") && reason.contains(place),
            "{told}"
        );
        let done = daemon.call("reloadconfig", json!({"waiting": true}));
        assert_eq!(done["reason"], told["reason"], "{body}{endpoint}");
        assert_eq!(inodes(), before);
    }
    // two that want the same: only one of them could be had
    let two = format!("{web}[socket:a]\n{}[socket:b]\n{}", at(twice), at(twice));
    write(&site, &site.endpoint, &site.pubsub, &two);
    let told = daemon.call("reloadconfig", json!({"check": true}));
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("Address already in use by [socket:a]"),
        "{told}"
    );
    // what could be had is not there afterwards
    let fine = format!(
        "{web}[socket:a]\n{}[socket:s]\npath = {}\n[socket:r]\npath = {}\nreplace = True\n",
        at(free),
        site.path("fresh").display(),
        stale.display()
    );
    let moved = format!("ipc://{}", site.path("endpoint").display());
    write(&site, &moved, &site.pubsub, &fine);
    let told = daemon.ok("reloadconfig", json!({"check": true}));
    assert_eq!(told["plan"].as_array().map(Vec::len), Some(4), "{told}");
    assert!(!site.path("fresh").exists() && !site.path("endpoint").exists());
    assert_eq!(inodes(), before);
    assert!(TcpListener::bind(("127.0.0.1", free)).is_ok());
    assert_eq!(daemon.pids("web"), pids);
}
