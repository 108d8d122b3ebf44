//! Bad messages, bad clients, and what is no message at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Driver, Program, deadline, wait_for_within};
use crate::{answers, rss_kb, two};

#[test]
fn bad_requests_get_short_clean_errors() {
    let site = two();
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let dealer = daemon.driver().dealer(&site.endpoint);
    let message = |command: &str, properties: Value| {
        json!({"id": "q", "command": command, "properties": properties}).to_string()
    };
    for bad in [
        "".to_string(),
        "   ".to_string(),
        "[]".to_string(),
        "{".to_string(),
        "{}".to_string(),
        "null".to_string(),
        "\u{0}\u{1}".to_string(),
        "[".repeat(100_000),
        message("zzz", json!({})),
        message(&"z".repeat(100_000), json!({})),
        message("status", json!({"name": "nope"})),
        message("status", json!({"name": "n".repeat(100_000)})),
        message("status", json!({"name": 5})),
        message("status", json!(5)),
        message("incr", json!({})),
        message("incr", json!({"name": "web", "nb": 1.5, "waiting": true})),
        message(
            "incr",
            json!({"name": "web", "nb": "many", "waiting": true}),
        ),
        message("incr", json!({"name": "web", "nb": 1e300, "waiting": true})),
        message(
            "set",
            json!({"name": "web", "options": {"numprocesses": "abc"}}),
        ),
        message("set", json!({"name": "web", "options": {"zzz": 1}})),
        message("set", json!({"name": "web", "options": []})),
        message("signal", json!({"name": "web", "signum": "ZZZ"})),
        message(
            "signal",
            json!({"name": "web", "signum": 9, "pid": std::process::id()}),
        ),
        message(
            "kill",
            json!({"name": "web", "graceful_timeout": "x", "waiting": true}),
        ),
        message("kill", json!({"name": "web", "signum": "ZZZ"})),
        message("add", json!({"name": "", "cmd": "sleep 1"})),
        message("add", json!({"name": "web", "cmd": "sleep 1"})),
        message("add", json!({"name": "x"})),
        message("restart", json!({"name": "(", "match": "regex"})),
        message("get", json!({"name": "web", "keys": ["zzz"]})),
        message("stats", json!({"name": "web", "process": 1})),
        message("listen", json!({})),
    ] {
        let replies = daemon
            .driver()
            .exchange(dealer, bad.as_bytes(), true, 30.0, 10.0);
        let shown: String = bad.chars().take(120).collect();
        let [reply] = replies.as_slice() else {
            panic!("{shown:?} got {} replies\n{}", replies.len(), daemon.tail())
        };
        let value: Value =
            serde_json::from_str(reply).unwrap_or_else(|e| panic!("{shown:?}: {e}: {reply}"));
        let reason = value["reason"].as_str().unwrap_or("");
        assert_eq!(value["status"], "error", "{shown:?} got {value}");
        assert!(
            !reason.is_empty() && reply.len() < 1000 && !reason.contains("Traceback"),
            "{shown:?} got {value}"
        );
        assert!(
            value["errno"].is_i64() && value["tb"].is_null(),
            "{shown:?} got {value}"
        );
    }
    assert_eq!(daemon.pids("web"), pids, "no bad request touched a worker");
    answers(&daemon);
}

/// A message above the cap (1 MiB) is answered with an error, not buffered, and others do not wait for it.
#[test]
fn oversized_messages_are_refused_and_not_kept() {
    let site = two();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let before = rss_kb(&daemon);
    for megabytes in [2, 50] {
        let dealer = daemon.driver().dealer(&site.endpoint);
        daemon.driver().send_big(
            dealer,
            r#"{"id": "q", "command": ""#,
            megabytes << 20,
            r#""}"#,
        );
        answers(&daemon);
        let reply = daemon.driver().recv(dealer, 30.0);
        let reply =
            reply.unwrap_or_else(|| panic!("{megabytes} MiB: no answer\n{}", daemon.tail()));
        let value: Value =
            serde_json::from_str(reply.last().map_or("", String::as_str)).expect("a JSON reply");
        assert_eq!(value["status"], "error", "{value}");
        assert!(
            value["reason"].as_str().is_some_and(|r| r.len() < 400),
            "{value}"
        );
        daemon.driver().close(dealer);
    }
    let grown = rss_kb(&daemon).saturating_sub(before);
    assert!(grown < 20_000, "the daemon grew by {grown} kB");
    // Just below the cap is a normal message.
    let name = "n".repeat(1_000_000);
    let reply = daemon.call("status", json!({"name": name}));
    assert_eq!(
        (&reply["status"], &reply["errno"]),
        (&json!("error"), &json!(3)),
        "{}",
        reply.to_string().len()
    );
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() {
    let site = two();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let before = rss_kb(&daemon);
    let flooder = Driver::start();
    let lazy: Vec<_> = (0..3)
        .map(|_| flooder.lazy_dealer(&site.endpoint))
        .collect();
    for round in 0..3 {
        for dealer in &lazy {
            let sent = flooder.flood(*dealer, "options", json!({"name": "web"}), 10_000);
            assert!(sent > 0 || round > 0, "nothing could be sent");
        }
        answers(&daemon);
    }
    let grown = rss_kb(&daemon).saturating_sub(before);
    assert!(
        grown < 100_000,
        "the daemon keeps {grown} kB for clients that do not read"
    );
    answers(&daemon);
}

#[test]
fn a_thousand_idle_connections_cost_nothing() {
    let site = two();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let address = site.endpoint.trim_start_matches("tcp://").to_string();
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count);
    let before = fds();
    let connections: Vec<TcpStream> = (0..1000)
        .map(|i| {
            TcpStream::connect(&address)
                .unwrap_or_else(|e| panic!("connection {i}: {e} (ulimit -n too low?)"))
        })
        .collect();
    answers(&daemon);
    drop(connections);
    daemon.wait_for("the descriptors to be given back", || {
        (fds() <= before + 5).then_some(())
    });
    answers(&daemon);
    assert!(rss_kb(&daemon) < 60_000, "{} kB", rss_kb(&daemon));
}

/// What is no ZeroMQ at all: the connection ends or waits, the daemon goes on.
#[test]
fn garbage_on_the_ports_is_survived() {
    let site = two();
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let greeting = |mechanism: &[u8]| {
        let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
        bytes.extend(mechanism);
        bytes.resize(64, 0);
        bytes
    };
    let huge_frame = [
        greeting(b"NULL"),
        b"\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    ]
    .concat();
    let huge_command = [
        greeting(b"NULL"),
        b"\x06\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    ]
    .concat();
    let many: Vec<u8> = (0..1_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for endpoint in [&site.endpoint, &site.pubsub] {
        for garbage in [
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            b"\xff\x00\x00\x00\x00".to_vec(),
            greeting(b"PLAIN"),
            greeting(b"NULL")[..40].to_vec(),
            [greeting(b"NULL"), vec![0x04, 0x05, 0x05]].concat(),
            huge_frame.clone(),
            huge_command.clone(),
            many.clone(),
        ] {
            let mut stream = TcpStream::connect(endpoint.trim_start_matches("tcp://"))
                .expect("the port is open");
            stream
                .set_write_timeout(Some(Duration::from_secs(5)))
                .expect("a timeout can be set");
            let _ = stream.write_all(&garbage);
            answers(&daemon);
            stream
                .set_read_timeout(Some(Duration::from_millis(1)))
                .expect("a timeout can be set");
            let mut answer = [0; 4096];
            let _ = stream.read(&mut answer);
        }
    }
    assert_eq!(daemon.pids("web"), pids);
    assert!(rss_kb(&daemon) < 60_000, "{} kB", rss_kb(&daemon));
}

/// Many clients ask and vanish without waiting for the answer.
#[test]
fn clients_that_vanish_leave_nothing() {
    let site = two();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count);
    let driver = Driver::start();
    let before = fds();
    for _ in 0..200 {
        let dealer = driver.dealer(&site.endpoint);
        driver.flood(dealer, "stats", json!({}), 5);
        driver.close(dealer);
    }
    let back = wait_for_within(deadline(), || (fds() <= before + 5).then_some(()));
    assert!(back.is_some(), "{before} descriptors became {}", fds());
    answers(&daemon);
}

/// A REQ socket (an empty frame first) never gets an answer from circusd; circ answers it.
#[test]
fn a_req_socket_is_answered() {
    let site = two();
    let daemon = site.start(Program::Circ);
    let req = daemon.driver().open("req", &site.endpoint, &[]);
    daemon
        .driver()
        .send(req, &[br#"{"id": 1, "command": "numwatchers"}"#]);
    let reply = daemon
        .driver()
        .recv(req, 20.0)
        .unwrap_or_else(|| panic!("no answer\n{}", daemon.tail()));
    assert!(
        reply[0].contains("\"numwatchers\": 1") || reply[0].contains("\"numwatchers\":1"),
        "{reply:?}"
    );
}
