//! `circ` as a client, of the real circusd and of `circ daemon`: what a person reads, what a script gets, exit codes.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use regex::Regex;
use serde_json::{Value, json};
use support::{Program, TempSite};

const INI: &str = "check_delay = 0.5

[watcher:web]
cmd = sleep 1000
numprocesses = 2

[watcher:Api Two]
cmd = sleep 1001
singleton = true

[watcher:idle]
cmd = sleep 1002
autostart = false

[socket:one]
host = 127.0.0.1
port = 0
";

/// Whom the client talks to: it must not make a difference.
const BOTH: [Program; 2] = [Program::Circusd, Program::Circ];

fn circ(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circ"));
    command.args(args).env_remove("CIRCUSCTL_ENDPOINT");
    command
}

fn whoami() -> Command {
    let mut command = Command::new("id");
    command.arg("-un");
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("circ starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A transcript of command lines: what each printed where, and its exit code when it is not 0.
/// Pids and measured numbers are masked.
fn transcript(endpoint: &str, lines: &[&str]) -> String {
    let numbers = Regex::new(r"\b(\d+[.:][\d.:]+[MKG]?|\d{3,})").unwrap();
    let spaces = Regex::new(r"  +").unwrap();
    let mut shown = String::new();
    for line in lines {
        let args: Vec<&str> = line.split('|').collect();
        let mut command = circ(&args);
        command.env("CIRCUSCTL_ENDPOINT", endpoint);
        let output = run(command);
        shown.push_str(&format!("$ circ {}\n", args.join(" ")));
        shown.push_str(&text(&output.stdout));
        shown.push_str(&text(&output.stderr));
        match output.status.code() {
            Some(0) => {}
            code => shown.push_str(&format!("[{code:?}]\n")),
        }
    }
    let user = text(&run(whoami()).stdout);
    let shown = shown.replace(&format!(" {} ", user.trim()), " USER ");
    // What the two daemons may differ in: their name, and the numbers of their descriptors.
    let shown = Regex::new(r"  (python[0-9.]*|circ)\n")
        .unwrap()
        .replace_all(&shown, "  DAEMON\n");
    let shown = Regex::new(r"fd \d+").unwrap().replace_all(&shown, "fd #");
    let shown = numbers.replace_all(&shown, "#");
    // The width of a column follows the numbers in it.
    let shown = spaces.replace_all(&shown, "  ");
    // How nice the tests are is up to whoever runs them.
    let nice = Regex::new(r"  -?\d+  USER").unwrap();
    nice.replace_all(&shown, "  NICE  USER").into_owned()
}

#[test]
fn what_a_person_reads() {
    for program in BOTH {
        what_a_person_reads_of(program);
    }
}

fn what_a_person_reads_of(program: Program) {
    let site = TempSite::ipc();
    site.ini(INI);
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);
    let shown = transcript(
        daemon.endpoint(),
        &[
            "status",
            "status|web",
            "status|nope",
            "list",
            "list|web",
            "stats|web",
            "stats|idle",
            "dstats",
            "get|web|cmd|numprocesses|shell",
            "get|web|nope",
            "listsockets",
            "numprocesses",
            "numwatchers",
            "incr|--waiting|web",
            "incr|web|x",
            "incr|Api Two",
            "decr|web|--waiting|2",
            "restart|--waiting|web",
            "start|--waiting|i*",
            "stop|--waiting|--match|simple|idle",
            "set|--waiting|web|numproceses|3",
            "set|--waiting|web|graceful_timeout=3",
            "signal|web|NOPE",
            "signal|web|CONT",
            "add|--waiting|--start|--set|numprocesses=2|new|sleep 1003",
            "list|new",
            "rm|--waiting|new",
            "quit|--waiting",
        ],
    );
    insta::assert_snapshot!("what_a_person_reads", shown);
}

#[test]
fn a_script_gets_the_reply_itself() {
    for program in BOTH {
        a_script_gets_the_reply_itself_of(program);
    }
}

fn a_script_gets_the_reply_itself_of(program: Program) {
    let site = TempSite::ipc();
    let ini = site.ini(INI);
    let daemon = site.start(program);
    daemon.wait_pids("web", 2);

    // The endpoint comes from the option, the file or the environment, before or after the command.
    let ini = ini.to_str().unwrap();
    let mut by_variable = circ(&["--json", "list"]);
    by_variable.env("CIRCUSCTL_ENDPOINT", daemon.endpoint());
    let mut option_beats_variable = circ(&["list", "--json", "--endpoint", daemon.endpoint()]);
    option_beats_variable.env("CIRCUSCTL_ENDPOINT", "ipc:///nobody/here");
    let mut file_beats_variable = circ(&["list", "--json", "--config", ini]);
    file_beats_variable.env("CIRCUSCTL_ENDPOINT", "ipc:///nobody/here");
    for command in [
        by_variable,
        option_beats_variable,
        file_beats_variable,
        circ(&["--endpoint", daemon.endpoint(), "--json", "list"]),
        circ(&["--config", ini, "--json", "list"]),
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let reply: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(reply["status"], "ok");
        assert_eq!(reply["watchers"], json!(["api two", "idle", "web"]));
        assert_eq!(text(&output.stdout).lines().count(), 1);
    }

    // An error reply is printed as it is, and tells by the exit code too.
    let output = run(circ(&["list", "nope", "--json", "--config", ini]));
    assert_eq!(output.status.code(), Some(3));
    let reply: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(reply["errno"], 3);
    assert_eq!(reply["reason"], "program nope not found");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn each_failure_is_told_apart() {
    for program in BOTH {
        each_failure_is_told_apart_of(program);
    }
}

fn each_failure_is_told_apart_of(program: Program) {
    let ask = |endpoint: &str, timeout: &str| {
        run(circ(&[
            "list",
            "--endpoint",
            endpoint,
            "--timeout",
            timeout,
        ]))
    };
    let told = |output: &Output, words: &str| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    };

    // Nobody listens: told at once, not at the deadline.
    let begun = Instant::now();
    told(
        &ask("ipc:///nobody/here", "600"),
        "nobody listens on ipc:///nobody/here",
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    told(&ask(&address, "0.2"), "said nothing for 0.2 s");
    drop(listener);
    told(&ask(&address, "600"), "nobody listens");
    assert!(begun.elapsed() < Duration::from_secs(300));

    // A daemon that is stopped: ZeroMQ's own thread stands still as well.
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n[watcher:slow]\ncmd = sh -c 'trap \"\" TERM; while :; do sleep 1; done'\ngraceful_timeout = 30\n");
    let daemon = site.start(program);
    daemon.wait_pids("web", 1);
    daemon.signal(Signal::SIGSTOP);
    daemon.wait_for("all its threads stand still", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).ok()?;
        let mut stats = tasks
            .flatten()
            .map(|task| std::fs::read_to_string(task.path().join("stat")));
        stats
            .all(|stat| stat.is_ok_and(|stat| stat.contains(") T ")))
            .then_some(())
    });
    told(&ask(daemon.endpoint(), "0.3"), "said nothing for 0.3 s");
    daemon.signal(Signal::SIGCONT);
    daemon.wait_ready();

    // An operation that takes longer than we wait: the daemon goes on answering others.
    daemon.wait_pids("slow", 1);
    let output = run(circ(&[
        "stop",
        "slow",
        "--waiting",
        "--endpoint",
        daemon.endpoint(),
        "--timeout",
        "3",
    ]));
    told(&output, "`stop` is still running after 3 s");
}

#[test]
fn usage_errors_are_64() {
    for args in [
        &["nope"][..],
        &["list", "a", "b"],
        &["incr"],
        &["incr", "web", "x"],
        &["list", "--timeout", "0"],
        &["list", "--endpoint", "localhost"],
        &["list", "--config", "/no/such/circus.ini"],
        &["stop", "web", "--match", "other"],
        &["--json", "completions", "bash"],
        &[],
    ] {
        let output = run(circ(args));
        assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["incr", "--help"]] {
        let output = run(circ(args));
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn help_reads_well() {
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help_of_incr", &["incr", "--help"]),
        ("help_of_signal", &["signal", "-h"]),
    ] {
        let mut command = circ(args);
        command.env("COLUMNS", "100");
        insta::assert_snapshot!(name, text(&run(command).stdout));
    }
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&run(circ(&["completions", shell])).stdout);
        for word in [
            "numprocesses",
            "reloadconfig",
            "state",
            "daemon",
            "endpoint",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn events_are_followed() {
    for program in BOTH {
        events_are_followed_of(program);
    }
}

fn events_are_followed_of(program: Program) {
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(program);
    daemon.wait_pids("web", 1);
    // Only the control endpoint is given; where events are published is asked of the daemon.
    let mut child = circ(&[
        "listen",
        "watcher.web.spawn",
        "--json",
        "--endpoint",
        daemon.endpoint(),
    ])
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(lines.next()));
    // Nobody says when a subscription has arrived, so processes are spawned until one is seen.
    let line = daemon.wait_for("an event", || {
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
        receiver.try_recv().ok()
    });
    let event: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
    assert_eq!(event["topic"], "watcher.web.spawn");
    assert!(event["payload"]["process_pid"].as_i64() > Some(1));
    let _ = child.kill();
    let _ = child.wait();
}
