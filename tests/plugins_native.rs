//! Each native plugin end to end, with a statsd, a Redis server and a web server of the test; and the real plugins of
//! Circus beside circusd, where they work, with the same input.

mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, is_alive, venv};

/// A statsd that keeps every line.
struct Statsd {
    socket: UdpSocket,
    heard: RefCell<Vec<String>>,
}

impl Statsd {
    fn new() -> Statsd {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
        socket.set_nonblocking(true).expect("a socket");
        Statsd {
            socket,
            heard: RefCell::default(),
        }
    }

    /// What a plugin's section says of it.
    fn keys(&self) -> String {
        let port = self.socket.local_addr().expect("it is bound").port();
        format!("host = 127.0.0.1\nport = {port}\n")
    }

    /// All lines so far.
    fn lines(&self) -> Vec<String> {
        let mut bytes = [0; 2048];
        let mut heard = self.heard.borrow_mut();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        heard.clone()
    }

    #[track_caller]
    fn wait(&self, daemon: &Daemon, line: &str) {
        daemon.wait_for(&format!("{line} in statsd"), || {
            let lines = self.lines();
            lines.iter().any(|heard| heard.contains(line)).then_some(())
        });
    }
}

fn status(daemon: &Daemon, watcher: &str) -> Value {
    daemon.call("status", json!({"name": watcher}))
}

#[track_caller]
fn wait_status(daemon: &Daemon, watcher: &str, wanted: &str) -> Value {
    daemon.wait_for(&format!("{watcher} to be {wanted}"), || {
        let status = status(daemon, watcher);
        (status["status"] == wanted).then_some(status)
    })
}

#[track_caller]
fn wait_log(daemon: &Daemon, text: &str) {
    daemon.wait_for(&format!("{text:?} in the log"), || {
        daemon.log().contains(text).then_some(())
    });
}

/// Waits until the watcher has one worker, and it is none of these.
#[track_caller]
fn wait_other(daemon: &Daemon, watcher: &str, old: &[i32]) -> i32 {
    daemon.wait_for(&format!("another worker of {watcher}"), || {
        let pids = daemon.pids(watcher);
        let fresh = pids.len() == 1 && is_alive(pids[0]) && !old.contains(&pids[0]);
        fresh.then(|| pids[0])
    })
}

/// Starts a daemon whose plugin Flapping is there and listens.
fn with_flapping<'a>(site: &'a TempSite, keys: &str, watchers: &str) -> Daemon<'a> {
    site.ini(&format!(
        "loglevel = debug\n[plugin:flap]\nuse = circus.plugins.flapping.Flapping\n{keys}\n{watchers}"
    ));
    let daemon = site.start(Program::Circ);
    wait_log(&daemon, "plugin:flap: events are heard");
    daemon
}

#[test]
fn flapping_stops_a_watcher_for_a_while_and_gives_up() {
    let site = TempSite::new();
    let daemon = with_flapping(
        &site,
        "attempts = 3\nmax_retry = 1\nretry_in = 0.5",
        "[watcher:web]\ncmd = sleep 1000\n[watcher:bad]\ncmd = sleep 0.1\nautostart = False\n\
         [watcher:own]\ncmd = sleep 0.1\nautostart = False\nflapping.active = no\n",
    );
    let web = daemon.wait_pids("web", 1);
    daemon.ok("start", json!({"name": "own"}));
    daemon.ok("start", json!({"name": "bad"}));
    let told = daemon.wait_for("the watcher to be stopped by the plugin", || {
        let told = status(&daemon, "bad")["stopped_by"].clone();
        told.is_object().then_some(told)
    });
    assert_eq!(told["by"], "flapping");
    let because = told["because"].as_str().unwrap_or_default();
    assert!(
        because.contains("a worker exited 3 times within 1 s"),
        "{because}"
    );
    wait_log(
        &daemon,
        "bad: flapping detected (a worker exited 3 times within 1 s): retry in 0.5 s (attempt number 1)",
    );
    wait_log(&daemon, "reached max retry limit");
    wait_status(&daemon, "bad", "stopped");
    assert_eq!(status(&daemon, "own")["status"], "active");
    assert_eq!(daemon.pids("web"), web);
    // a person's start counts anew
    daemon.ok("start", json!({"name": "bad"}));
    daemon.wait_for("it to be tried anew", || {
        let tries = daemon.log().matches("(attempt number 1)").count();
        (tries >= 4).then_some(()) // the plugin's and the daemon's line for each
    });
}

#[test]
fn what_a_person_stops_stays_stopped_with_flapping() {
    let site = TempSite::new();
    let daemon = with_flapping(
        &site,
        "attempts = 2\nmax_retry = -1\nretry_in = 1",
        "[watcher:bad]\ncmd = sleep 0.1\nautostart = False\n[watcher:web]\ncmd = sleep 1000\n",
    );
    daemon.ok("start", json!({"name": "bad"}));
    daemon.wait_for("the plugin to stop it", || {
        let told = status(&daemon, "bad");
        (told["stopped_by"].is_object() && told["status"] == "stopped").then_some(())
    });
    daemon.ok("stop", json!({"name": "bad"}));
    wait_log(
        &daemon,
        "plugin:flap: bad stays stopped: bad is not started",
    );
    assert_eq!(status(&daemon, "bad")["status"], "stopped");
    assert_eq!(status(&daemon, "bad")["stopped_by"], Value::Null);
    // what was ordered is no flapping, however often
    for _ in 0..5 {
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
    }
    let refused = daemon.call("start", json!({"name": "web", "by": "flapping"}));
    assert_eq!(refused["status"], "error");
    assert_eq!(status(&daemon, "web")["status"], "active");
}

#[test]
fn flapping_counts_each_worker_by_itself() {
    let site = TempSite::new();
    let daemon = with_flapping(
        &site,
        "attempts = 2\nwindow = 1000\nmax_retry = 0",
        "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 3\n",
    );
    let first = daemon.wait_pids("web", 3);
    for pid in &first {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("it runs");
        daemon.wait_for("it to be replaced", || {
            let pids = daemon.pids("web");
            (pids.len() == 3 && !pids.contains(pid)).then_some(())
        });
    }
    assert_eq!(status(&daemon, "web")["status"], "active");
    let second = daemon.wait_pids("web", 3);
    assert!(
        !daemon.log().contains("flapping detected"),
        "{}",
        daemon.tail()
    );
    kill(Pid::from_raw(second[0]), Signal::SIGKILL).expect("it runs");
    wait_status(&daemon, "web", "stopped");
}

/// The same orders, the real plugin on circusd and the native one on circ: the same lines.
#[test]
fn statsd_emitter_counts_what_the_real_one_counts() {
    let mut told: Vec<BTreeSet<String>> = Vec::new();
    for program in [Program::Circusd, Program::Circ] {
        let statsd = Statsd::new();
        let site = TempSite::new();
        site.ini(&format!(
            "[watcher:My App]\ncmd = sleep 1000\n[plugin:s]\nuse = circus.plugins.statsd.StatsdEmitter\n\
             application_name = shop\n{}",
            statsd.keys()
        ));
        let daemon = site.start(program);
        daemon.wait_pids("My App", 1);
        // it is not told when the plugin listens, so it is asked until it does
        daemon.wait_for("the plugin to count", || {
            daemon.call("restart", json!({"name": "My App", "waiting": true}));
            let lines = statsd.lines();
            let started = |line: &String| line.contains("my_app.start:");
            lines.iter().any(started).then_some(())
        });
        daemon.call("restart", json!({"name": "My App", "waiting": true}));
        statsd.wait(&daemon, "circus.shop.watcher.my_app.reap:1|c");
        told.push(statsd.lines().into_iter().collect());
        drop(daemon);
    }
    let wanted = ["kill", "reap", "spawn", "stop", "start"]
        .map(|action| format!("circus.shop.watcher.my_app.{action}:1|c"));
    let wanted = BTreeSet::from(wanted);
    let of_app = |lines: &BTreeSet<String>| -> BTreeSet<String> {
        let lines = lines.iter().filter(|line| line.contains("my_app"));
        lines.cloned().collect()
    };
    assert_eq!(of_app(&told[0]), wanted);
    assert_eq!(of_app(&told[1]), wanted);
}

#[test]
fn full_stats_sends_the_numbers_of_the_real_one() {
    let mut told: Vec<BTreeSet<String>> = Vec::new();
    for program in [Program::Circusd, Program::Circ] {
        let statsd = Statsd::new();
        let site = TempSite::new();
        site.ini(&format!(
            "[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n[plugin:s]\nuse = circus.plugins.statsd.FullStats\n\
             loop_rate = 0.2\n{}",
            statsd.keys()
        ));
        let daemon = site.start(program);
        daemon.wait_pids("web", 2);
        statsd.wait(&daemon, "circus.app.watcher._stats.web.watchers_num:2|g");
        statsd.wait(&daemon, "circus.app.watcher._stats.web.mem_sum:");
        let lines = statsd.lines();
        let names = lines.iter().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            assert!(value.ends_with("|g"), "{line}");
            Some(name.to_owned())
        });
        told.push(names.collect());
        let bytes = |line: &String| {
            line.strip_prefix("circus.app.watcher._stats.web.mem_max:")
                .map(str::to_owned)
        };
        let bytes = lines.iter().filter_map(bytes).next_back();
        let bytes: u64 = bytes
            .and_then(|text| text.strip_suffix("|g")?.parse().ok())
            .unwrap_or_default();
        assert!(bytes > 100_000, "{bytes} bytes");
    }
    assert_eq!(told[0], told[1]);
    assert!(
        !told[1].iter().any(|name| name.contains("plugin")),
        "{told:?}"
    );
}

/// Answers every command with the same text, until it is told to be away.
fn fake_redis(info: &'static str) -> (u16, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let away = Arc::new(AtomicU16::new(0));
    let told = Arc::clone(&away);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if told.load(Ordering::SeqCst) > 0 {
                continue;
            }
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let mut out = stream;
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or_default() > 0 {
                let reply = match line.trim_end() {
                    "AUTH" | "SELECT" => "+OK\r\n".to_owned(),
                    "INFO" => format!("${}\r\n{info}\r\n", info.len()),
                    _ => String::new(),
                };
                if out.write_all(reply.as_bytes()).is_err() {
                    break;
                }
                line.clear();
            }
        }
    });
    (port, away)
}

#[test]
fn redis_observer_sends_numbers_and_restarts_what_does_not_answer() {
    let statsd = Statsd::new();
    let site = TempSite::new();
    let (port, away) =
        fake_redis("# Memory\r\nused_memory:1234\r\nused_cpu_sys:0.50\r\nredis_version:7.0\r\n");
    site.ini(&format!(
        "[watcher:db]\ncmd = sleep 1000\n[plugin:r]\nuse = circus.plugins.redis_observer.RedisObserver\n\
         redis_url = redis://:secret@127.0.0.1:{port}/3\nloop_rate = 0.2\ntimeout = 2\nrestart_on_timeout = db\n\
         application_name = shop\n{}",
        statsd.keys()
    ));
    let daemon = site.start(Program::Circ);
    let db = daemon.wait_pids("db", 1);
    statsd.wait(
        &daemon,
        "circus.shop.watcher.redis_stats.used_memory:1234|g",
    );
    statsd.wait(
        &daemon,
        "circus.shop.watcher.redis_stats.used_cpu_sys:0.5|g",
    );
    assert_eq!(daemon.pids("db"), db);
    away.store(1, Ordering::SeqCst);
    wait_other(&daemon, "db", &db);
    statsd.wait(&daemon, "circus.shop.watcher.redis_stats.error:1|c");
    statsd.wait(
        &daemon,
        "circus.shop.watcher.redis_stats.restart_on_error:1|c",
    );
    // what a person stops is not started by a failing check
    daemon.ok("stop", json!({"name": "db", "waiting": true}));
    wait_log(&daemon, "db: no restart, it is stopped");
    assert_eq!(status(&daemon, "db")["status"], "stopped");
}

/// Answers every request with the status it is told.
fn fake_web() -> (u16, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let code = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&code);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let mut first = String::new();
            let _ = reader.read_line(&mut first);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or_default() > 2 {
                line.clear();
            }
            let code = told.load(Ordering::SeqCst);
            let (code, more) = match first.split(' ').nth(1) {
                Some("/moved") => (302, "Location: /page\r\n"),
                _ => (code, ""),
            };
            let reply = format!(
                "HTTP/1.1 {code} x\r\n{more}Connection: close\r\nContent-Length: 2\r\n\r\nok"
            );
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    (port, code)
}

#[test]
fn http_observer_times_a_page_and_restarts_what_fails() {
    let statsd = Statsd::new();
    let site = TempSite::new();
    let (port, code) = fake_web();
    site.ini(&format!(
        "[watcher:web]\ncmd = sleep 1000\n[plugin:h]\nuse = circus.plugins.http_observer.HttpObserver\n\
         check_url = http://127.0.0.1:{port}/moved\nloop_rate = 0.2\ntimeout = 5\nrestart_on_error = web\n{}",
        statsd.keys()
    ));
    let daemon = site.start(Program::Circ);
    let web = daemon.wait_pids("web", 1);
    statsd.wait(
        &daemon,
        "circus.http_observer.watcher.http_stats.request_time:",
    );
    assert_eq!(daemon.pids("web"), web);
    code.store(503, Ordering::SeqCst);
    wait_other(&daemon, "web", &web);
    for line in ["error:1|c", "error.503:1|c", "restart_on_error:1|c"] {
        statsd.wait(
            &daemon,
            &format!("circus.http_observer.watcher.http_stats.{line}"),
        );
    }
    wait_log(&daemon, "has the status 503");
}

#[test]
fn resource_watcher_restarts_what_uses_too_much() {
    for (key, wanted, metric) in [
        (
            "max_mem = 100K",
            "is over max_mem 102400 B, 2 times in a row",
            "over_memory",
        ),
        (
            "min_mem = 90G",
            "is under min_mem 96636764160 B, 2 times in a row",
            "under_memory",
        ),
    ] {
        let statsd = Statsd::new();
        let site = TempSite::new();
        site.ini(&format!(
            "[watcher:web]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1000\n\
             [plugin:res]\nuse = circus.plugins.resource_watcher.ResourceWatcher\nwatcher = web\nloop_rate = 0.2\n\
             max_count = 1\n{key}\n{}",
            statsd.keys()
        ));
        let daemon = site.start(Program::Circ);
        let (web, other) = (daemon.wait_pids("web", 1), daemon.wait_pids("other", 1));
        wait_other(&daemon, "web", &web);
        wait_log(&daemon, wanted);
        statsd.wait(
            &daemon,
            &format!("circus.app.watcher._resource_watcher.web.{metric}:1|c"),
        );
        statsd.wait(
            &daemon,
            "circus.app.watcher._resource_watcher.web.restarting:1|c",
        );
        assert_eq!(daemon.pids("other"), other);
        daemon.ok("stop", json!({"name": "web", "waiting": true}));
        let count = statsd.lines().len();
        // a watcher without workers passes no limit: nothing is sent any more while the plugin goes on looking
        daemon.ok("restart", json!({"name": "plugin:res", "waiting": true}));
        wait_status(&daemon, "plugin:res", "active");
        assert_eq!(status(&daemon, "web")["status"], "stopped");
        assert!(statsd.lines().len() <= count + 3);
    }
}

/// The real plugin and the native one, both as programs of their own beside the same circ: the same lines.
#[test]
fn resource_watcher_and_the_real_one_say_the_same_of_one_daemon() {
    let site = TempSite::new();
    site.ini("[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\n");
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let limits = "max_mem:100K:::max_cpu:0:::min_cpu:50:::health_threshold:99:::max_count:1000000";
    let mut told: Vec<BTreeSet<String>> = Vec::new();
    for real in [true, false] {
        let statsd = Statsd::new();
        let mut command = match real {
            true => Command::new(venv().program("circus-plugin")),
            false => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
                command.arg("circus-plugin");
                command
            }
        };
        let port = statsd.socket.local_addr().expect("it is bound").port();
        let settings =
            format!("host:127.0.0.1:::port:{port}:::watcher:web:::loop_rate:0.2:::{limits}");
        let mut plugin = command
            .args(["--endpoint", &site.endpoint, "--pubsub", &site.pubsub])
            .args(["--config", &settings])
            .arg("circus.plugins.resource_watcher.ResourceWatcher")
            .current_dir(site.dir())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the plugin can be run");
        statsd.wait(&daemon, "over_memory");
        statsd.wait(&daemon, "under_cpu");
        told.push(statsd.lines().into_iter().collect());
        plugin.kill().expect("it runs");
        plugin.wait().expect("it is ours");
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[1].len(), 2, "{told:?}");
    assert_eq!(daemon.pids("web"), pids);
}

#[test]
fn watchdog_kills_who_is_silent() {
    let site = TempSite::new();
    let port = site.port();
    site.ini(&format!(
        "[watcher:quiet]\ncmd = sleep 1000\n[watcher:loud]\ncmd = sleep 1000\n[watcher:other]\ncmd = sleep 1000\n\
         [plugin:dog]\nuse = circus.plugins.watchdog.WatchDog\nport = {port}\nloop_rate = 0.5\nmax_count = 4\n\
         watchers_regex = \"^(quiet|loud)$\"\nmsg_regex = '^beat (?P<pid>[0-9]+)'\nwatchers_stop_signal = KILL\n"
    ));
    let daemon = site.start(Program::Circ);
    let pids = ["quiet", "loud", "other"].map(|name| daemon.wait_pids(name, 1)[0]);
    wait_log(&daemon, "datagrams are received");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
    let beat = || {
        let text = format!("beat {}", pids[1]);
        let _ = socket.send_to(text.as_bytes(), ("127.0.0.1", port));
        let _ = socket.send_to(b"junk", ("127.0.0.1", port));
    };
    daemon.wait_for("the silent one to be replaced", || {
        beat();
        let now = daemon.pids("quiet");
        (!now.is_empty() && !now.contains(&pids[0])).then_some(())
    });
    assert_eq!(daemon.pids("loud"), [pids[1]]);
    assert_eq!(daemon.pids("other"), [pids[2]]);
    let said = daemon.log();
    assert!(
        said.contains(&format!("quiet: {} is killed: no heartbeat", pids[0])),
        "{said}"
    );
    assert_eq!(said.matches("no heartbeat: \"junk\"").count(), 1, "{said}");
    // now the other is silent as well
    wait_other(&daemon, "loud", &[pids[1]]);
}

#[test]
fn command_reloader_restarts_when_the_program_changes() {
    let site = TempSite::new();
    let script = |name: &str, text: &str| {
        let path = site.write(name, format!("#!/bin/sh\n# {text}\nexec sleep 1000\n"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("a script can be run");
        path
    };
    let worker = script("worker", "one");
    script("app.sh", "one");
    site.ini(&format!(
        "[watcher:direct]\ncmd = {} --flag\n[watcher:script]\ncmd = sh app.sh\n[watcher:other]\ncmd = sleep 1000\n\
         [plugin:cmd]\nuse = circus.plugins.command_reloader.CommandReloader\nloop_rate = 0.2\n",
        worker.display()
    ));
    let daemon = site.start(Program::Circ);
    let names = ["direct", "script", "other"];
    let before = names.map(|name| daemon.wait_pids(name, 1)[0]);
    wait_log(&daemon, "CommandReloader starts");
    // its first look is not told, so the change is made until it is seen
    let mut turn = 0;
    daemon.wait_for("the first to be restarted", || {
        turn += 1;
        script("new", &turn.to_string());
        fs::rename(site.path("new"), &worker).expect("the program can be replaced");
        std::thread::sleep(Duration::from_millis(50));
        daemon.log().contains("direct: restart:").then_some(())
    });
    assert_eq!(daemon.pids("script"), [before[1]]);
    assert_eq!(daemon.pids("other"), [before[2]]);
    script("app.sh", "another one");
    wait_other(&daemon, "script", &[before[1]]);
    wait_log(&daemon, "app.sh is another one now");
    assert_eq!(daemon.pids("other"), [before[2]]);
}
