//! The three documents that circ grew from, and the example it ships, must work as they are written: the seeds'
//! circus.ini files with the real Chaussette, a real Redis, and the commands of the third one.

#[path = "seeds/documents.rs"]
mod documents;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use support::{Daemon, Program, TempSite, is_alive, need, venv, wait_for};

/// A back end of Chaussette 1.3.0 that runs on this Python: waitress needs asyncore, which Python 3.12 dropped.
fn backend() -> &'static str {
    if venv().minor_version() < 12 {
        "waitress"
    } else {
        "wsgiref"
    }
}

/// Writes a circus.ini with this site's endpoints and gives the port of its socket.
fn write_ini(site: &TempSite, text: &str) -> u16 {
    let port = site.port();
    let text = documents::on(site, text, Some(backend()));
    site.write("circus.ini", text.replace("@PORT@", &port.to_string()));
    port
}

/// Starts circ with the environment's programs on its PATH and the site's modules on Python's path.
#[track_caller]
fn start(site: &TempSite) -> Daemon<'_> {
    site.start_with(Program::Circ, |command| {
        command
            .env("PATH", venv().path())
            .env("PYTHONPATH", site.dir())
            .env("PYTHONWARNINGS", "ignore");
    })
}

/// One HTTP request on a connection of its own; the whole answer.
fn get(port: u16) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[track_caller]
fn wait_hello(port: u16) {
    wait_for("an HTTP answer with Hello", || {
        get(port)
            .ok()
            .filter(|a| a.contains("200 OK") && a.contains("Hello"))
    });
}

/// Two workers of the first seed serve one socket; with one killed, every request is still answered.
#[test]
fn the_first_seed_serves_hello_and_survives_a_killed_worker() {
    let site = TempSite::new();
    let port = write_ini(&site, documents::FIRST);
    site.write("wsgi.py", documents::APPLICATION);
    let daemon = start(&site);
    let pids = daemon.wait_pids("myworker", 2);
    wait_hello(port);
    serving(&daemon, &pids);
    assert_eq!(
        daemon.ok("status", json!({}))["statuses"],
        json!({"myworker": "active"})
    );

    let killed = pids[0];
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(killed),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("the worker runs");
    // A request that a dying worker had taken is lost with it, in any server: those that come after it are meant.
    daemon.wait_for("the worker to be dead", || {
        (!is_alive(killed)).then_some(())
    });
    for request in 0..40 {
        let answer = get(port).unwrap_or_else(|e| {
            panic!(
                "request {request} after a worker was killed: {e}\n{}",
                daemon.tail()
            )
        });
        assert!(
            answer.contains("200 OK") && answer.ends_with("Hello, World!\n"),
            "request {request}: {answer:?}"
        );
    }
    let after = daemon.wait_for("the killed worker to be replaced", || {
        let now = daemon.pids("myworker");
        (now.len() == 2 && !now.contains(&killed)).then_some(now)
    });
    assert!(
        after.contains(&pids[1]),
        "the other worker was left alone: {pids:?} became {after:?}"
    );

    let restarted = daemon.ok("restart", json!({"name": "myworker", "waiting": true}));
    assert_eq!(
        restarted["info"]["started"].as_array().map(Vec::len),
        Some(2),
        "{restarted}"
    );
    wait_hello(port);
}

/// Waits until each of these processes has the listening socket open and has said that it serves it.
#[track_caller]
fn serving(daemon: &Daemon, pids: &[i32]) {
    daemon.wait_for("every worker to serve", || {
        (daemon.log().matches("Serving on fd://").count() >= pids.len()).then_some(())
    });
    let sockets: Vec<BTreeSet<String>> = pids.iter().map(|pid| open_sockets(*pid)).collect();
    let shared = sockets.iter().skip(1).fold(sockets[0].clone(), |all, one| {
        all.intersection(one).cloned().collect()
    });
    assert!(
        !shared.is_empty(),
        "the workers share no socket: {sockets:?}"
    );
}

fn open_sockets(pid: i32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let links = entries
        .filter_map(|e| fs::read_link(e.path()).ok())
        .map(|l| l.to_string_lossy().into_owned());
    links.filter(|l| l.starts_with("socket:")).collect()
}

#[test]
fn the_second_seed_runs_with_its_older_spelling_and_five_processes() {
    let site = TempSite::new();
    let port = write_ini(&site, documents::SECOND);
    site.write("server.py", documents::APPLICATION);
    let daemon = start(&site);
    let pids = daemon.wait_pids("web", 5);
    wait_hello(port);
    serving(&daemon, &pids);
    let fd = daemon.ok("listsockets", json!({}))["sockets"][0]["fd"].to_string();
    for pid in pids {
        let words = support::Process::find(pid)
            .expect("the worker runs")
            .cmdline();
        let at = words
            .iter()
            .position(|w| w == "--fd")
            .expect("--fd is on the command line");
        assert_eq!(
            words[at + 1],
            fd,
            "the older spelling becomes the descriptor's number: {words:?}"
        );
    }
    // The seed's own host line.
    let as_written = documents::SECOND
        .replace("host = 127.0.0.1", "host = 0.0.0.0")
        .replace("@PORT@", "8000");
    let path = site.write(
        "seed.ini",
        as_written
            .replace("@ENDPOINT@", "tcp://127.0.0.1:5555")
            .replace("@PUBSUB@", "tcp://127.0.0.1:5556")
            .replace("@STATS@", "tcp://127.0.0.1:5557"),
    );
    let config = circ::config::Config::load(&path, &Default::default(), site.dir())
        .expect("the second seed's file is good");
    let socket = config
        .sockets
        .iter()
        .find(|s| s.name == "web")
        .expect("its socket");
    assert_eq!((socket.host.as_str(), socket.port), ("0.0.0.0", 8000));
    // Its stats_endpoint: numbers of every worker come there.
    let statistics = daemon.driver().subscribe(&site.stats, &["stat.web."]);
    let message = daemon.driver().recv(statistics, 60.0);
    let topic = &message.expect("statistics of web")[0];
    let pid = topic
        .strip_prefix("stat.web.")
        .and_then(|pid| pid.parse().ok());
    assert!(
        pid.is_some_and(|pid| daemon.pids("web").contains(&pid)),
        "{topic}"
    );
}

/// "You can even run something like Redis inside Circus and let Circus manage it."
#[test]
fn redis_runs_as_a_watcher_and_comes_back() {
    let Some(redis) = need("redis-server", "redis-server") else {
        return;
    };
    let site = TempSite::new();
    let port = site.port();
    site.ini(&format!(
        "\n[watcher:redis]\ncmd = {} --port {port} --bind 127.0.0.1 --save \"\" --daemonize no\nworking_dir = {}\n",
        redis.display(),
        site.dir().display()
    ));
    let daemon = start(&site);
    let pid = daemon.wait_pids("redis", 1)[0];
    wait_pong(port);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("redis runs");
    daemon.wait_for("another redis", || {
        (daemon.pids("redis").first().is_some_and(|now| *now != pid)).then_some(())
    });
    wait_pong(port);
}

#[track_caller]
fn wait_pong(port: u16) {
    wait_for("PONG from redis", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        (&answer == b"+PONG\r\n").then_some(())
    });
}

/// "running circus by issuing the command circusd circus.ini", "circusctl status", "circusctl restart myworker".
#[test]
fn the_first_seeds_commands_work_by_their_names() {
    let site = TempSite::new();
    let port = write_ini(&site, documents::FIRST);
    site.write("wsgi.py", documents::APPLICATION);
    let circ = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
        command.args(words).current_dir(site.dir());
        command
    };
    let linked = circ(&["install-links", "."]).output().expect("circ starts");
    assert!(linked.status.success(), "{linked:?}");
    // Found as a shell would find them.
    let path = format!("{}:{}", site.dir().display(), venv().path());
    let named = |name: &str| {
        let mut command = Command::new("env");
        command
            .arg(name)
            .current_dir(site.dir())
            .env("PATH", &path)
            .env("PYTHONPATH", site.dir())
            .env("PYTHONWARNINGS", "ignore")
            .env("CIRCUSCTL_ENDPOINT", &site.endpoint);
        command
    };
    let mut circusd = named("circusd");
    circusd.arg("circus.ini");
    let daemon = site.spawn_command(Program::Circ, circusd);
    daemon.wait_ready();
    let before = daemon.wait_pids("myworker", 2);
    wait_hello(port);
    let circusctl = |words: &[&str]| {
        let out = named("circusctl").args(words).output().expect("it starts");
        assert!(out.status.success(), "{words:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(circusctl(&["status"]), "myworker: active\n");
    assert_eq!(circusctl(&["restart", "--waiting", "myworker"]), "ok\n");
    let after = daemon.wait_pids("myworker", 2);
    assert!(after.iter().all(|pid| !before.contains(pid)));
    wait_hello(port);
}

/// The third seed's commands, with the real circusctl and with ours under that name.
#[test]
fn the_third_seeds_commands_work() {
    let site = TempSite::new();
    site.ini("\n[watcher:m2wsgi]\ncmd = sleep 1000\nnumprocesses = 2\n[watcher:mongrel2]\ncmd = sleep 1000\nwarmup_delay = 0\nnumprocesses = 1\nstdout_stream.class = StdoutStream\nstderr_stream.class = StdoutStream\n");
    let daemon = start(&site);
    daemon.wait_pids("m2wsgi", 2);
    daemon.wait_pids("mongrel2", 1);
    let ours = site.path("circusctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_circ"), &ours).expect("a symlink in the site");
    let mut count = 2;
    for circusctl in [venv().circusctl(), ours] {
        let run = |words: &[&str]| {
            let out = Command::new(&circusctl)
                .args(["--endpoint", &site.endpoint])
                .args(words)
                .env("PYTHONWARNINGS", "ignore")
                .output();
            let out = out.unwrap_or_else(|e| panic!("cannot run {}: {e}", circusctl.display()));
            assert!(
                out.status.success(),
                "{} {words:?}: {out:?}\n{}",
                circusctl.display(),
                daemon.tail()
            );
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        assert_eq!(run(&["list"]), "m2wsgi,mongrel2\n");
        let told: Vec<i32> = run(&["list", "m2wsgi"])
            .trim()
            .split(',')
            .map(|w| w.parse().expect("a pid"))
            .collect();
        assert_eq!(told, daemon.pids("m2wsgi"));
        count += 1;
        let answer = run(&["incr", "m2wsgi"]);
        assert!(
            answer == format!("{count}\n") || answer == "ok\n",
            "incr printed {answer:?}"
        );
        let pids = daemon.wait_pids("m2wsgi", count);
        let stats = run(&["stats", "m2wsgi"]);
        assert!(stats.starts_with("m2wsgi:\n"), "{stats}");
        for pid in pids {
            assert!(
                stats
                    .lines()
                    .any(|l| l.starts_with(&format!("{pid}: {pid}  sleep "))),
                "no line for {pid} in {stats}"
            );
        }
    }
}

/// The example that a newcomer runs first, with other ports.
#[test]
fn the_shipped_example_answers() {
    let site = TempSite::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string(format!("{root}/examples/hello/circus.ini"))
        .expect("the example is there");
    let port = site.port();
    let mut changed = text.clone();
    for (old, new) in [
        ("tcp://127.0.0.1:5555", site.endpoint.as_str()),
        ("tcp://127.0.0.1:5556", &site.pubsub),
        ("port = 8000", &format!("port = {port}")),
    ] {
        assert!(changed.contains(old), "{old} is not in the example: {text}");
        changed = changed.replace(old, new);
    }
    site.write("circus.ini", changed);
    let daemon = site.start_with(Program::Circ, |command| {
        command.current_dir(root);
    });
    let pids = daemon.wait_pids("web", 2);
    wait_hello(port);
    let mut seen: BTreeSet<i32> = BTreeSet::new();
    wait_for("both workers to answer", || {
        // Several connections at once: one alone may always find the same worker.
        let answers: Vec<String> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| get(port).unwrap_or_default()))
                .collect();
            asked.into_iter().filter_map(|a| a.join().ok()).collect()
        });
        seen.extend(
            pids.iter()
                .filter(|p| answers.iter().any(|a| a.contains(&format!("process {p}.")))),
        );
        (seen.len() == 2).then_some(())
    });
}
