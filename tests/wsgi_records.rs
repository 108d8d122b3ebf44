//! What `circ chaussette` writes down and counts: its access log, `Server-Timing`, and the numbers that others may read.

#[path = "wsgi/client.rs"]
mod client;
mod support;

use std::collections::BTreeMap;
use std::fs;

use circ::stats::front::{FAMILIES, Kind, samples_of};
use client::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::TempSite;

#[test]
fn requests_are_written_down() {
    let site = TempSite::new();
    let log = site.path("access.log");
    let path = log.to_str().unwrap();
    let server = Server::start(&site, "applications:empty", &["--access-log", path]);
    let lines = |count: usize| {
        server.wait_for("the lines", || {
            let text = fs::read_to_string(&log).ok()?;
            let lines: Vec<String> = text.lines().map(String::from).collect();
            (lines.len() >= count).then_some(lines)
        })
    };
    let more = "Referer: http://x/\"\r\nUser-Agent: a b\r\n";
    let mut connection = server.open();
    connection.ask("GET", "/a?b=%20", more, b"");
    connection.ask("HEAD", "/", "", b"");
    let all = lines(2);
    assert!(all[0].starts_with("127.0.0.1 - - ["), "{all:?}");
    let end = "] \"GET /a?b=%20 HTTP/1.1\" 200 12 \"http://x/\\\"\" \"a b\"";
    assert!(all[0].ends_with(end), "{all:?}");
    assert!(
        all[1].ends_with("] \"HEAD / HTTP/1.1\" 200 - \"-\" \"-\""),
        "{all:?}"
    );
    // It is moved away: the next go to a new one.
    fs::rename(&log, site.path("access.log.1")).unwrap();
    server.wait_for("a new file", || {
        connection.ask("GET", "/rotated", "", b"");
        fs::read_to_string(&log)
            .ok()
            .filter(|text| text.contains("/rotated"))
    });
}

#[test]
fn requests_are_written_down_as_json() {
    let site = TempSite::new();
    let log = site.path("access.log");
    let args = [
        "--access-log",
        log.to_str().unwrap(),
        "--access-log-format",
        "json",
    ];
    let mut server = Server::start(&site, "applications:closing", &args);
    assert_eq!(server.get("/parts").text(), "ab");
    assert!(!server.get("/fails").whole);
    // what has been answered is written before it ends
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                &line["uri"],
                &line["status"],
                &line["bytes"],
                &line["whole"],
            )
        })
        .map(|(uri, status, bytes, whole)| format!("{uri} {status} {bytes} {whole}"))
        .collect();
    assert_eq!(seen, ["\"/parts\" 200 2 true", "\"/fails\" 200 1 false"]);
}

#[test]
fn nobody_is_told_how_long_it_took_unless_it_is_asked_for() {
    let site = TempSite::new();
    let server = Server::start(&site, "applications:hello", &[]);
    assert_eq!(server.get("/").header("server-timing"), None);
    let server = Server::start(&site, "applications:hello", &["--server-timing"]);
    let answer = server.get("/");
    let timing = answer.header("server-timing").expect("the header");
    let time = timing.strip_prefix("total;dur=").expect(timing);
    assert!(time.parse::<f64>().unwrap() > 0.0, "{timing}");
}

#[test]
fn whoever_looks_finds_what_is_counted() {
    let site = TempSite::new();
    let server = Server::start(&site, "applications:dying", &[]);
    let numbers = || -> Option<BTreeMap<String, f64>> {
        let samples = samples_of(server.pid()).unwrap()?;
        let key = |sample: &circ::stats::front::Sample| {
            let labels = sample.labels.iter().map(|(_, value)| value.as_str());
            std::iter::once(sample.name.as_str())
                .chain(labels)
                .collect::<Vec<_>>()
                .join(" ")
        };
        Some(samples.iter().map(|s| (key(s), s.value)).collect())
    };
    let mut connection = server.open();
    for _ in 0..10 {
        assert_eq!(connection.ask("GET", "/", "", b"").status, 200);
    }
    assert_eq!(connection.ask("GET", "/die", "", b"").status, 502);
    let mut bad = server.open();
    bad.send("nonsense\r\n\r\n");
    assert_eq!(bad.answer("GET").unwrap().status, 400);
    assert_eq!(connection.ask("GET", "/", "", b"").status, 200);
    let all = server.wait_for("the numbers", || {
        let all = numbers()?;
        (all.get("circ_front_requests_total 2xx") == Some(&11.0)
            && all.get("circ_front_refused_total") == Some(&1.0)
            && all.get("circ_front_requests_in_flight") == Some(&0.0))
        .then_some(all)
    });
    let is = |name: &str| {
        all.get(name)
            .copied()
            .unwrap_or_else(|| panic!("{name}: {all:?}"))
    };
    assert_eq!(is("circ_front_requests_total 5xx"), 1.0);
    assert_eq!(is("circ_front_request_duration_seconds_count"), 12.0);
    assert_eq!(is("circ_front_request_duration_seconds_bucket +Inf"), 12.0);
    assert!(is("circ_front_request_duration_seconds_sum") > 0.0);
    assert_eq!(is("circ_front_worker_deaths_total"), 1.0);
    assert_eq!(is("circ_front_workers"), 1.0);
    assert!(is("circ_front_python_seconds_total") > 0.0);
    assert!(is("circ_front_received_bytes_total") > 400.0);
    assert!(is("circ_front_sent_bytes_total") > 400.0);
    assert!(is("circ_front_connections") >= 1.0);
    // Each has a family, and each family has samples.
    for family in FAMILIES {
        let name = match family.kind {
            Kind::Histogram => format!("{}_bucket", family.name),
            _ => family.name.to_string(),
        };
        assert!(
            all.keys().any(|key| key.split(' ').next() == Some(&name)),
            "{name}"
        );
    }
    for key in all.keys() {
        let name = key.split(' ').next().unwrap();
        assert!(FAMILIES.iter().any(|f| name.starts_with(f.name)), "{name}");
    }
    // Its processes of Python are no fronts.
    let pid = connection
        .ask("GET", "/", "", b"")
        .text()
        .trim()
        .parse()
        .unwrap();
    assert!(kill(Pid::from_raw(pid), None).is_ok());
    assert!(samples_of(pid).unwrap().is_none());
}
