//! Sockets of a changed file: sections get other names, swap their addresses, take what another leaves. What can stay
//! open stays open, and what fails leaves everything as it was.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, asking_meanwhile, venv};

/// Writes circus.ini: a watcher for each of these sockets, which answers with its name, and the keys of the sockets.
fn write(site: &TempSite, sockets: &[(&str, String)]) {
    let script = site.write("serve.py", include_str!("daemon_sockets/serve.py"));
    let serve = format!("{} -IS {}", venv().python().display(), script.display());
    let mut body = String::from("\n");
    for (name, keys) in sockets {
        body += &format!(
            "[watcher:{name}]\ncmd = {serve} $(circus.sockets.{name}) {name}\nuse_sockets = True\n[socket:{name}]\n{keys}"
        );
    }
    site.ini(&body);
}

fn at(port: u16) -> String {
    format!("host = 127.0.0.1\nport = {port}\n")
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn read(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Who answers there: its pid and its name.
fn ask(port: u16) -> std::io::Result<String> {
    let stream = TcpStream::connect(address(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    read(stream)
}

fn ask_file(path: &Path) -> std::io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    read(stream)
}

#[track_caller]
fn reload(daemon: &Daemon) -> Value {
    let told = daemon.ok("reloadconfig", json!({"waiting": true}));
    assert_eq!(told["restart_needed"], json!([]), "{told}");
    told
}

/// The sockets of the daemon: what each descriptor leads to, by name.
#[track_caller]
fn sockets(daemon: &Daemon) -> BTreeMap<String, String> {
    let all = daemon.ok("listsockets", json!({}))["sockets"].clone();
    let all = all.as_array().cloned().unwrap_or_default();
    let led_to = |socket: &Value| {
        let link = fs::read_link(format!("/proc/{}/fd/{}", daemon.pid(), socket["fd"]));
        let link = link.expect("an open descriptor");
        let name = socket["name"].as_str().expect("a name").to_string();
        (name, link.to_string_lossy().into_owned())
    };
    all.iter().map(led_to).collect()
}

/// Asks all the time, four at once, while `change` goes on; gives how many were answered, and what was not.
fn asked_meanwhile(port: u16, change: impl FnOnce()) -> (usize, Vec<String>) {
    let client = |_: usize| {
        || match ask(port) {
            Ok(answer) if !answer.is_empty() => Ok(true),
            other => Err(format!("{other:?}")),
        }
    };
    asking_meanwhile(4, client, |_| change())
}

/// A section gets another name, with everything else as it was: the socket stays, and so does who waits in its queue.
#[test]
fn a_section_with_another_name_keeps_its_socket() {
    let site = TempSite::new();
    let port = site.port();
    write(&site, &[("web", at(port))]);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    assert!(ask(port).expect("an answer").ends_with("web"));
    let before = sockets(&daemon);
    let (count, failures) = asked_meanwhile(port, || {
        for (name, backlog) in [("http", 100), ("front", 2048), ("web", 2048)] {
            write(
                &site,
                &[(name, format!("{}backlog = {backlog}\n", at(port)))],
            );
            let plan = daemon.ok("reloadconfig", json!({"check": true}))["plan"].clone();
            let added = json!({"section": format!("socket:{name}"), "action": "add", "keys": []});
            assert!(
                plan.as_array().is_some_and(|plan| plan.contains(&added)),
                "{plan}"
            );
            reload(&daemon);
            assert!(ask(port).expect("an answer").ends_with(name));
        }
    });
    assert!(failures.is_empty(), "{failures:?} of {count}");
    assert_eq!(sockets(&daemon), before);
}

/// Sections swap their ports and their paths, two and three at a time: nothing is bound again.
#[test]
fn sections_swap_their_addresses() {
    let site = TempSite::new();
    let ports = [(); 3].map(|()| site.port());
    let paths = ["one.sock", "two.sock"].map(|name| site.path(name));
    let places: Vec<String> = ports
        .iter()
        .map(|port| at(*port))
        .chain(
            paths
                .iter()
                .map(|path| format!("path = {}\n", path.display())),
        )
        .collect();
    let names = ["a", "b", "c", "d", "e"];
    // the number of the place of each
    let orders = [
        [0, 1, 2, 3, 4],
        [1, 0, 2, 4, 3],
        [2, 1, 0, 3, 4],
        [0, 2, 1, 3, 4],
    ];
    let put = |order: [usize; 5]| {
        let all = names.iter().zip(order);
        let all: Vec<(&str, String)> = all.map(|(name, at)| (*name, places[at].clone())).collect();
        write(&site, &all);
    };
    put(orders[0]);
    let daemon = site.start(Program::Circ);
    let first = sockets(&daemon);
    let inodes = || {
        paths
            .each_ref()
            .map(|path| fs::metadata(path).expect("it is there").ino())
    };
    let files = inodes();
    let mut before: Option<([usize; 5], Vec<Vec<i32>>)> = None;
    for order in orders {
        put(order);
        reload(&daemon);
        let now = sockets(&daemon);
        for (name, place) in names.iter().zip(order) {
            assert_eq!(now[*name], first[names[place]], "{name} in {order:?}");
            let answer = match ports.get(place) {
                Some(port) => ask(*port),
                None => ask_file(&paths[place - ports.len()]),
            };
            let answer = answer.expect("an answer");
            assert!(answer.ends_with(name), "{answer} in {order:?}");
        }
        assert_eq!(inodes(), files);
        let pids: Vec<Vec<i32>> = names.iter().map(|name| daemon.wait_pids(name, 1)).collect();
        if let Some((places, workers)) = before.replace((order, pids.clone())) {
            let same = |i: &usize| places[*i] == order[*i];
            let stayed = (0..5).filter(|i| workers[*i] == pids[*i]);
            let expected: Vec<usize> = (0..5).filter(same).collect();
            assert_eq!(
                stayed.collect::<Vec<_>>(),
                expected,
                "{places:?} to {order:?}"
            );
        }
    }
}

/// One goes elsewhere and another takes its place, with other options than it had: the kernel is asked for a new one, and
/// nobody is refused meanwhile.
#[test]
fn an_address_that_is_left_is_taken_whatever_the_options() {
    let site = TempSite::new();
    let (one, two) = (site.port(), site.port());
    let path = site.path("web.sock");
    let file = |umask: u32| format!("path = {}\numask = {umask}\n", path.display());
    let reuse = |port: u16| format!("{}so_reuseport = True\n", at(port));
    write(&site, &[("a", at(one)), ("f", file(8))]);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("a", 1);
    for all in [
        // elsewhere, and its old port with workers that have sockets of their own
        vec![("a", at(two)), ("b", reuse(one)), ("f", file(0))],
        // back, and every one of them as it was
        vec![("a", at(one)), ("f", file(8))],
        // in place
        vec![("a", reuse(one)), ("f", file(8))],
        vec![("a", at(one)), ("f", file(8))],
        // every interface
        vec![
            ("a", format!("host = 0.0.0.0\nport = {one}\n")),
            ("f", file(8)),
        ],
        // the file under another section's name and mask
        vec![("a", at(one)), ("g", file(0))],
    ] {
        write(&site, &all);
        reload(&daemon);
        for (name, keys) in &all {
            let answer = || match keys.starts_with("path") {
                true => ask_file(&path).ok(),
                false => ask(if keys.contains(&one.to_string()) {
                    one
                } else {
                    two
                })
                .ok(),
            };
            daemon.wait_for("the right one to answer", || {
                answer().filter(|answer| answer.ends_with(name))
            });
        }
        let mode = fs::metadata(&path).expect("the file").mode() & 0o777;
        let open = all.iter().any(|(_, keys)| *keys == file(0));
        assert_eq!(mode, if open { 0o777 } else { 0o767 });
    }
    // no name that was only needed meanwhile is left
    let left = fs::read_dir(site.dir()).expect("our own directory");
    let left = left.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left
        .filter(|name| name.to_string_lossy().contains(".old"))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    // nobody else was let in by all that
    assert!(TcpListener::bind(address(one)).is_err());
    // and what nobody wants any more is closed
    write(&site, &[("a", at(two))]);
    reload(&daemon);
    assert!(ask(one).is_err() && !path.exists());
}

/// The same address in other words is the same socket: workers stay.
#[test]
fn another_word_for_the_host_changes_nothing() {
    let site = TempSite::new();
    let port = site.port();
    write(&site, &[("web", at(port))]);
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    write(
        &site,
        &[("web", format!("host = localhost\nport = {port}\n"))],
    );
    assert_eq!(reload(&daemon)["changed"], json!(["socket:web"]));
    assert_eq!(daemon.pids("web"), web);
    assert!(ask(port).expect("an answer").ends_with("web"));
}

/// Whatever else is to change with it: when one socket cannot be had, all are as they were, files and workers too.
#[test]
fn one_that_cannot_be_had_leaves_all_as_they_were() {
    let site = TempSite::new();
    let (one, two, three) = (site.port(), site.port(), site.port());
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a port of our own");
    let taken = foreign.local_addr().expect("it has one").port();
    let path = site.path("f.sock");
    let file = |umask: u32| format!("path = {}\numask = {umask}\n", path.display());
    let before = [("a", at(one)), ("b", at(two)), ("f", file(8))];
    write(&site, &before);
    let daemon = site.start(Program::Circ);
    let names = ["a", "b", "f"];
    let pids = || names.map(|name| daemon.wait_pids(name, 1));
    let (workers, there) = (pids(), sockets(&daemon));
    let inode = || fs::metadata(&path).expect("it is there").ino();
    let own = inode();
    for (name, wrong, what) in [
        ("z", at(taken), "Address already in use"),
        (
            "z",
            "path = /no/such/directory/s\n".to_string(),
            "No such file",
        ),
        // where one is that stays
        ("z", at(three), "Address already in use"),
    ] {
        write(
            &site,
            &[
                ("a", format!("{}so_reuseport = True\n", at(two))),
                ("b", format!("host = 0.0.0.0\nport = {one}\n")),
                ("c", at(three)),
                ("f", file(0)),
                (name, wrong),
            ],
        );
        let told = daemon.call("reloadconfig", json!({"waiting": true}));
        assert_eq!(told["status"], "error", "{told}");
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("[socket:z]") && reason.contains(what),
            "{reason}"
        );
        assert_eq!((pids(), sockets(&daemon)), (workers.clone(), there.clone()));
        assert!(ask(one).expect("an answer").ends_with('a'));
        assert!(ask(two).expect("an answer").ends_with('b'));
        assert!(ask_file(&path).expect("an answer").ends_with('f'));
        assert_eq!(inode(), own);
        assert!(TcpListener::bind(address(three)).is_ok(), "{reason}");
        assert!(TcpListener::bind(address(one)).is_err(), "{reason}");
    }
    write(&site, &before);
    assert_eq!(reload(&daemon)["changed"], json!([]));
}

/// A worker that is killed takes the request with it that it was answering, and no other.
#[test]
fn a_killed_worker_takes_its_own_request_and_no_other() {
    let site = TempSite::new();
    let port = site.port();
    write(&site, &[("web", at(port))]);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let count = json!({"name": "web", "options": {"numprocesses": 3}, "waiting": true});
    daemon.ok("set", count);
    let mut killed = 0;
    let (count, failures) = asked_meanwhile(port, || {
        for most in [1, 1, 3] {
            let pids = daemon.wait_pids("web", 3);
            for pid in pids.iter().take(most) {
                let pid = nix::unistd::Pid::from_raw(*pid);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
                killed += 1;
            }
            daemon.wait_for("others in their place", || {
                let now = daemon.pids("web");
                (now.len() == 3 && pids.iter().take(most).all(|pid| !now.contains(pid)))
                    .then_some(())
            });
            ask(port).expect("an answer");
        }
    });
    assert!(failures.len() <= killed, "{failures:?} of {count}");
    let refused = failures
        .iter()
        .filter(|text| text.contains("ConnectionRefused"));
    assert_eq!(refused.count(), 0, "{failures:?} of {count}");
}
