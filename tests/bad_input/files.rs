//! Bad configuration, what is in its way, and commands that cannot run.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Program, TempSite, wait_for_within};
use crate::{TWO, refused};

/// Each bad circus.ini: what is wrong is told with file, line, and what was expected.
#[test]
fn a_bad_circus_ini_is_told_with_file_and_line() {
    let mut problems = Vec::new();
    // Each text begins on line 5, after the site's own [circus] section.
    for (body, told) in [
        (
            "[watcher web\ncmd = sleep 1\n",
            &["circus.ini:5", "[watcher web"][..],
        ),
        (
            "\n[watcher:web]\nthis is no option\n",
            &["circus.ini:7", "this is no option"],
        ),
        (
            "\n[watcher:web]\nnumprocesses = 2\n",
            &["circus.ini:6", "cmd"],
        ),
        (
            "\n[watcher:web]\ncmd = sleep 1\nnumprocesses = many\n",
            &["circus.ini:8", "numprocesses", "many"],
        ),
        (
            "\n[watcher:web]\ncmd = sleep 1\nsingleton = True\nnumprocesses = 2\n",
            &["circus.ini", "web", "singleton"],
        ),
        (
            "\n[watcher:web]\ncmd = sleep 1\ncopy_path = True\n",
            &["circus.ini", "copy_path", "copy_env"],
        ),
        (
            "\n[watcher:web]\ncmd = sleep 1\nrlimit_zzz = 3\n",
            &["circus.ini:8", "rlimit_zzz"],
        ),
        (
            "\n[watcher:web]\ncmd = sleep 1\nstop_signal = ZZZ\n",
            &["circus.ini:8", "ZZZ"],
        ),
        (
            "\n[watcher:web]\ncmd = sleep 1\n\n[watcher:WEB]\ncmd = sleep 2\n",
            &["circus.ini", "WEB", "web"],
        ),
        (
            "check_delay = soon\n",
            &["circus.ini:5", "check_delay", "soon"],
        ),
        (
            "\n[socket:a]\nport = http\n",
            &["circus.ini:7", "port", "http"],
        ),
        (
            "\n[socket:a]\nfamily = AF_PIGEON\n",
            &["circus.ini:7", "AF_PIGEON"],
        ),
        (
            "include = /no/such/*.ini\n\n[watcher:web]\ncmd = sleep 1\nrespawn = maybe\n",
            &["circus.ini:9", "respawn", "maybe"],
        ),
    ] {
        let site = TempSite::new();
        site.ini(body);
        let daemon = site.spawn(Program::Circ, |_| {});
        let ended = wait_for_within(Duration::from_secs(10), || daemon.exited());
        let log = daemon.log();
        match ended {
            None => problems.push(format!("circ runs {body:?}:\n{log}")),
            Some(status) if status.success() || log.contains("panicked") => {
                problems.push(format!("{status} for {body:?}:\n{log}"))
            }
            Some(_) => problems.extend(
                told.iter()
                    .filter(|w| !log.contains(**w))
                    .map(|w| format!("{w:?} is not told about {body:?}:\n{log}")),
            ),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn several_mistakes_are_told_at_once() {
    let site = TempSite::new();
    site.ini("\n[watcher:a]\ncmd = sleep 1\nnumprocesses = x\n\n[watcher:b]\ncmd = sleep 1\nmax_age = y\n");
    let log = refused(&site);
    for word in ["circus.ini:8", "circus.ini:12"] {
        assert!(log.contains(word), "{word} is not told:\n{log}");
    }
}

#[test]
fn a_missing_circus_ini_is_told() {
    let site = TempSite::new();
    let log = refused(&site);
    assert!(
        log.contains("circus.ini") && log.contains("No such file"),
        "{log}"
    );
}

#[test]
fn a_port_in_use_is_told_with_its_holder() {
    let site = TempSite::new();
    let port = site.port();
    let _holder = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    site.ini(&format!(
        "\n[socket:web]\nhost = 127.0.0.1\nport = {port}\n{TWO}"
    ));
    let log = refused(&site);
    for word in [
        "web",
        &format!("127.0.0.1:{port}"),
        "in use",
        &format!("pid {}", std::process::id()),
    ] {
        assert!(log.contains(word), "{word:?} is not told:\n{log}");
    }
}

#[test]
fn an_endpoint_in_use_names_the_other_daemon() {
    for site in [TempSite::new(), TempSite::ipc()] {
        site.ini(TWO);
        let first = site.start(Program::Circ);
        let pids = first.wait_pids("web", 2);
        let log = refused(&site);
        assert!(
            log.contains(&site.endpoint),
            "the endpoint is not told:\n{log}"
        );
        assert!(
            log.contains(&format!("pid {}", first.pid())),
            "the holder {} is not told:\n{log}",
            first.pid()
        );
        assert_eq!(
            first.pids("web"),
            pids,
            "the first daemon goes on untouched"
        );
    }
}

#[test]
fn a_second_daemon_on_the_same_pidfile_is_refused() {
    let site = TempSite::new();
    let pidfile = site.path("circ.pid");
    site.ini(&format!("pidfile = {}\n{TWO}", pidfile.display()));
    let first = site.start(Program::Circ);
    assert_eq!(
        std::fs::read_to_string(&pidfile)
            .expect("the pidfile")
            .trim(),
        first.pid().to_string()
    );
    // Other endpoints, so that only the pidfile is in the way.
    let [a, b] = [site.port(), site.port()];
    site.write("circus.ini", format!(
        "[circus]\nendpoint = tcp://127.0.0.1:{a}\npubsub_endpoint = tcp://127.0.0.1:{b}\npidfile = {}\n{TWO}", pidfile.display()));
    let log = refused(&site);
    assert!(
        log.contains("circ.pid") && log.contains(&first.pid().to_string()),
        "{log}"
    );
    assert_eq!(
        std::fs::read_to_string(&pidfile)
            .expect("the pidfile")
            .trim(),
        first.pid().to_string()
    );
    assert!(first.stop().success());
    assert!(!pidfile.exists(), "a stopped daemon takes its pidfile away");
}

/// A file that has become bad is told, and nothing of it is applied: not even its good parts.
#[test]
fn reloadconfig_with_a_mistake_changes_nothing() {
    let site = TempSite::new();
    let port = site.port();
    let socket = format!("[socket:a]\nhost = 127.0.0.1\nport = {port}\n");
    site.ini(&format!("\n{socket}{TWO}"));
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    let taken = TcpListener::bind(("127.0.0.1", site.port())).expect("a free port");
    let taken = taken.local_addr().expect("its address").port();
    for (body, told) in [
        (format!("\n{socket}{TWO}nonsense\n"), "circus.ini:13"),
        (
            format!("\n{socket}\n[watcher:web]\ncmd = sleep 2000\nnumprocesses = some\n"),
            "numprocesses",
        ),
        (
            format!(
                "\n{socket}\n[watcher:new]\ncmd = sleep 1000\n\n[watcher:web]\nnumprocesses = 3\n"
            ),
            "cmd",
        ),
        (
            format!(
                "\n[socket:a]\nhost = 127.0.0.1\nport = {taken}\n\n[watcher:web]\ncmd = sleep 2000\nnumprocesses = 4\n"
            ),
            "in use",
        ),
    ] {
        site.ini(&body);
        let reply = daemon.call("reloadconfig", json!({"waiting": true}));
        assert_eq!(reply["status"], "error", "{body}: {reply}");
        assert!(
            reply["reason"].as_str().is_some_and(|r| r.contains(told)),
            "{told:?} is not told: {reply}"
        );
        assert_eq!(
            daemon.ok("list", json!({}))["watchers"],
            json!(["web"]),
            "{body}"
        );
        assert_eq!(daemon.pids("web"), pids, "{body}");
        assert_eq!(
            daemon.ok("listsockets", json!({}))["sockets"][0]["port"],
            port,
            "{body}"
        );
        assert!(
            TcpStream::connect(("127.0.0.1", port)).is_ok(),
            "the old socket is still open"
        );
    }
    // And a good one is applied after all that.
    site.ini(&format!("\n{socket}{}", TWO.replace("= 2", "= 3")));
    daemon.ok("reloadconfig", json!({"waiting": true}));
    let three = daemon.wait_pids("web", 3);
    assert!(
        pids.iter().all(|p| three.contains(p)),
        "{pids:?} became {three:?}"
    );
}

/// A program that cannot be started: the reason is in the log and in `status`, and the daemon answers all the while.
#[test]
fn a_command_that_cannot_run_is_told_and_costs_nothing() {
    let site = TempSite::new();
    site.ini(&format!("{TWO}\n[watcher:bad]\ncmd = /no/such/program\nmax_retry = -1\n\n[watcher:dies]\ncmd = sh -c 'exit 3'\nnumprocesses = 3\n"));
    let daemon = site.start(Program::Circ);
    daemon.wait_for("the reason in status", || {
        let reply = daemon.call("status", json!({"name": "bad"}));
        reply
            .to_string()
            .contains("/no/such/program: No such file or directory")
            .then_some(())
    });
    assert!(
        daemon
            .log()
            .contains("/no/such/program: No such file or directory"),
        "{}",
        daemon.tail()
    );
    let cpu = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
        let after = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(11)
            .take(2);
        after.filter_map(|w| w.parse::<u64>().ok()).sum::<u64>()
    };
    let (before, start) = (cpu(), Instant::now());
    let mut asked = 0;
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!(
            daemon.ok("list", json!({"name": "web"}))["pids"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
        asked += 1;
    }
    // 100 ticks are a second of CPU: a busy loop of starts would take all three.
    let ticks = cpu() - before;
    assert!(
        ticks < 150,
        "{ticks} ticks in 3 s, with {asked} questions answered\n{}",
        daemon.tail()
    );
    let starts = daemon.log().matches("/no/such/program").count();
    assert!(starts < 60, "{starts} starts told in the log");
}
