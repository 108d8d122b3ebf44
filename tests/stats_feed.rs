//! The statistics publisher inside the daemon, beside the circusd-stats of the real Circus.

#[path = "stats/messages.rs"]
mod messages;
mod support;

use messages::{Message, everything, masked, until};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Daemon, Handle, Program, TempSite, venv, wait_for};

/// A site with statistics: two watchers that run, one that does not, one that hands a socket on, two sockets.
fn site() -> TempSite {
    let site = TempSite::new();
    site.ini(&format!(
        "statsd = True\nstats_endpoint = {stats}\n\
         [watcher:Web App]\ncmd = sleep 1000\nnumprocesses = 2\n\
         [watcher:api]\ncmd = sleep 2000\nuse_sockets = True\n\
         [watcher:off]\ncmd = sleep 3000\nautostart = False\n\
         [socket:tcp]\nhost = 127.0.0.1\nport = {port}\n\
         [socket:unix]\npath = {path}\n",
        stats = site.stats,
        port = site.port(),
        path = site.path("unix.sock").display(),
    ));
    site
}

fn subscribe(site: &TempSite, daemon: &Daemon, topics: &[&str]) -> Handle {
    daemon.driver().subscribe(&site.stats, topics)
}

#[test]
fn statistics_are_those_of_circusd_stats() {
    let site = site();
    let told = |program| {
        let daemon = site.start(program);
        daemon.wait_pids("web app", 2);
        daemon.wait_pids("api", 1);
        let found = everything(&daemon, &site.stats, &["web app", "api"]);
        assert!(daemon.stop().success());
        let _ = fs::remove_file(site.path("unix.sock"));
        found
            .into_iter()
            .map(|(topic, payload)| format!("{topic} {}", masked(&topic, &payload)))
            .collect::<Vec<String>>()
    };
    let theirs = told(Program::Circusd);
    let ours = told(Program::Circ);
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 10, "{ours:?}"); // 2 + 1, 1 + 1, 1 + 1, 2 + 1
}

#[test]
fn the_numbers_of_a_watcher_follow_its_processes() {
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web app", 2);
    let events = subscribe(&site, &daemon, &["stat.web app"]);
    let whole = |(topic, payload): &Message| {
        (topic == "stat.web app").then(|| payload["pid"].as_array().unwrap().clone())
    };
    let pids = |events: Handle, want: &[i32]| {
        until(&daemon, events, |message| {
            whole(message).is_some_and(|pids| pids == json!(want).as_array().unwrap().clone())
        })
    };
    let all = pids(events, &daemon.pids("web app"));
    assert!(
        all.iter()
            .all(|(topic, _)| topic.starts_with("stat.web app")),
        "only what was asked for: {all:?}"
    );
    daemon.ok("incr", json!({"name": "web app", "waiting": true}));
    pids(events, &daemon.wait_pids("web app", 3));
    let worker = daemon.pids("web app")[0];
    daemon.ok("decr", json!({"name": "web app", "nb": 2, "waiting": true}));
    let left = daemon.wait_pids("web app", 1);
    assert_ne!(left, [worker]);
    pids(events, &left);
    // a watcher that is stopped is not told of any more
    daemon.ok("stop", json!({"name": "web app", "waiting": true}));
    let other = subscribe(&site, &daemon, &["stat."]);
    let circus = |(topic, _): &Message| topic == "stat.circus";
    let first = until(&daemon, other, circus);
    let second = until(&daemon, other, circus);
    let about = |(topic, _): &&Message| topic.starts_with("stat.web app");
    assert_eq!(second.iter().find(about), None, "{first:?}");
}

#[test]
fn a_connection_that_nobody_accepts_is_counted() {
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("api", 1);
    let sockets = daemon.ok("listsockets", json!({}))["sockets"].clone();
    let sockets = sockets.as_array().unwrap();
    let tcp = sockets.iter().find(|s| s["name"] == "tcp").unwrap();
    let address = format!("{}:{}", tcp["host"].as_str().unwrap(), tcp["port"]);
    let events = subscribe(&site, &daemon, &["stat.sockets"]);
    let quiet = until(&daemon, events, |(topic, _)| topic == "stat.sockets");
    assert!(
        quiet.iter().all(|(_, payload)| payload["reads"] == 0),
        "{quiet:?}"
    );
    let _client = TcpStream::connect(&address).unwrap();
    let topic = format!("stat.sockets.{}", tcp["fd"]);
    let (_, payload) = until(&daemon, events, |(t, payload)| {
        *t == topic && payload["reads"].as_u64() > Some(0)
    })
    .pop()
    .unwrap();
    assert_eq!(payload["address"], *address);
    let (_, sum) = until(&daemon, events, |(topic, _)| topic == "stat.sockets")
        .pop()
        .unwrap();
    assert_eq!(sum["reads"], payload["reads"]);
}

#[test]
fn a_socket_that_was_moved_is_counted_at_its_new_place() {
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("api", 1);
    let events = subscribe(&site, &daemon, &["stat.sockets"]);
    until(&daemon, events, |(topic, _)| topic == "stat.sockets");
    let tcp = || {
        let sockets = daemon.ok("listsockets", json!({}))["sockets"].clone();
        let sockets = sockets.as_array().unwrap().iter();
        sockets
            .clone()
            .find(|s| s["name"] == "tcp")
            .unwrap()
            .clone()
    };
    let ini = fs::read_to_string(site.path("circus.ini")).unwrap();
    let (old, new) = (tcp()["port"].clone(), site.port());
    let changed = ini.replace(&format!("port = {old}\n"), &format!("port = {new}\n"));
    assert_ne!(changed, ini);
    site.write("circus.ini", changed);
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let _client = TcpStream::connect(("127.0.0.1", new)).unwrap();
    let address = format!("127.0.0.1:{new}");
    let found = until(&daemon, events, |(_, payload)| {
        payload["address"] == *address && payload["reads"].as_u64() > Some(0)
    });
    assert_eq!(found.last().unwrap().1["fd"], tcp()["fd"]);
    // a socket that was let go of does not keep the counting awake
    let (_, sum) = until(&daemon, events, |(topic, _)| topic == "stat.sockets")
        .pop()
        .unwrap();
    assert_eq!(sum["addresses"].as_array().unwrap().len(), 2);
}

/// Names of the daemon's threads, with how often each gave up the processor.
fn threads(pid: i32) -> BTreeMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let one = |task: fs::DirEntry| {
        let comm = fs::read_to_string(task.path().join("comm")).ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let switches = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((comm.trim().to_string(), switches.trim().parse().ok()?))
    };
    tasks.filter_map(|task| one(task.ok()?)).collect()
}

#[test]
fn nothing_wakes_up_while_nobody_subscribes() {
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web app", 2);
    assert!(!threads(daemon.pid()).contains_key("stats"));
    // what they want decides what is done for them
    let events = subscribe(&site, &daemon, &["stat.web app"]);
    until(&daemon, events, |(topic, _)| topic == "stat.web app");
    assert!(!threads(daemon.pid()).contains_key("stats-sockets"));
    let sockets = subscribe(&site, &daemon, &["stat.sockets"]);
    until(&daemon, sockets, |(topic, _)| topic == "stat.sockets");
    assert!(threads(daemon.pid()).contains_key("stats-sockets"));
    daemon.driver().close(sockets);
    wait_for("the counting of reads to end", || {
        (!threads(daemon.pid()).contains_key("stats-sockets")).then_some(())
    });
    daemon.driver().close(events);
    // longer than the second between two rounds
    let quiet = Duration::from_millis(2500);
    let mut before = (threads(daemon.pid()), Instant::now());
    wait_for("all threads to rest", || {
        let now = threads(daemon.pid());
        if now != before.0 {
            before = (now, Instant::now());
        }
        (before.1.elapsed() > quiet).then_some(())
    });
}

#[test]
fn memory_goes_back_when_the_last_subscriber_has_left() {
    let site = site();
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web app", 2);
    let mapped = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssFile:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse::<u64>().unwrap()
    };
    let events = subscribe(&site, &daemon, &["stat."]);
    // a second round comes after what the start needed has been given back
    for _ in 0..3 {
        until(&daemon, events, |(topic, _)| topic == "stat.sockets");
    }
    let busy = mapped();
    daemon.driver().close(events);
    daemon.wait_for("less to be mapped", || {
        (mapped() < busy * 2 / 3).then_some(())
    });
}

#[test]
fn no_statistics_without_statsd() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let port = site
        .stats
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_stats_endpoint_in_use_is_refused_with_its_holder() {
    let site = site();
    let port = site.stats.rsplit(':').next().unwrap();
    let _held = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let daemon = site.spawn(Program::Circ, |_| {});
    assert!(!daemon.wait_exit().success());
    let log = daemon.log();
    assert!(log.contains("cannot bind stats_endpoint"), "{log}");
}

#[test]
fn the_stats_client_of_circus_reads_them() {
    let site = site();
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("api", 1);
    let script = "
import sys
from circus.stats.client import StatsClient
seen = {}
for watcher, subtopic, stat in StatsClient(sys.argv[1]):
    seen[watcher, subtopic] = stat
    if ('api', None) in seen and ('sockets', None) in seen:
        break
print(seen['api', sys.argv[2]]['cmdline'], seen['api', None]['pid'], seen['sockets', None]['reads'])
";
    let output = Command::new(venv().python())
        .args(["-B", "-c", script, &site.stats, &pids[0].to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.trim(), format!("sleep {pids:?} 0"), "{errors}");
}

#[test]
fn many_subscribers_get_the_same_round() {
    let site = TempSite::ipc();
    site.ini(&format!(
        "stats_endpoint = {}\n[watcher:web]\ncmd = sleep 1000\n",
        site.stats
    ));
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    let one = subscribe(&site, &daemon, &["stat.web."]);
    let two = subscribe(&site, &daemon, &[""]);
    let ages = |events| {
        let all = until(&daemon, events, |(topic, _)| topic.starts_with("stat.web."));
        all.last().unwrap().1["age"].as_f64().unwrap()
    };
    // the one that is behind goes on, until both stand at the same round
    let (mut a, mut b) = (ages(one), ages(two));
    wait_for("both to have the same", || {
        if a < b {
            a = ages(one);
        } else if b < a {
            b = ages(two);
        }
        (a == b).then_some(())
    });
}
