//! circ under the name `circusctl` against the real circusctl: the same command lines to two daemons
//! on the same circus.ini, one for each; standard output, standard error and exit code must be the
//! same, byte for byte, after pids, times and measured numbers are masked.
//!
//! First both daemons are the same program, the real circusd and then `circ daemon`, so that only the
//! clients differ; then the real pair runs against circ's own pair.

mod support;

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use regex::Regex;
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, venv, wait_for};

const INI: &str = "check_delay = 0.5

[watcher:web]
cmd = sleep 1000
numprocesses = 2
graceful_timeout = 5
stop_signal = INT

[watcher:Api Two]
cmd = sleep 1001
singleton = true

[watcher:idle]
cmd = sleep
args = 1002
autostart = false
max_age = 300

[socket:one]
host = 127.0.0.1
port = 0

[socket:two]
path = two.sock

[env:web]
B = 2
A = x y
";

/// What is compared of a line beside the exit code.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// Everything.
    Exact,
    /// Everything, numbers and ids masked.
    Numbers,
    /// Standard output; the real one shows a traceback where we have one sentence.
    Traceback,
    /// Nothing but the exit code: the texts are help of our own writing.
    Help,
}
use How::{Exact, Help, Numbers, Traceback};

/// Command lines, in order: each daemon lives through all of them.
const LINES: &[(&str, How)] = &[
    // Looking
    ("status", Exact),
    ("status web", Exact),
    ("status WEB", Exact),
    ("status idle", Exact),
    ("status nope", Exact),
    ("status web idle", Exact),
    ("list", Exact),
    ("list web", Numbers),
    ("list idle", Exact),
    ("list nope", Exact),
    ("list a b", Exact),
    ("numwatchers", Exact),
    ("numwatchers x", Exact),
    ("numprocesses", Exact),
    ("numprocesses web", Exact),
    ("numprocesses nope", Exact),
    ("numprocesses a b", Exact),
    ("stats", Numbers),
    ("stats web", Numbers),
    ("stats --extended web", Numbers),
    ("stats idle", Exact),
    ("stats nope", Exact),
    ("stats web 1", Exact),
    ("stats web {PID}", Numbers),
    ("stats web x", Traceback),
    ("stats a 1 2", Exact),
    ("dstats", Numbers),
    ("dstats x", Exact),
    ("options web", Exact),
    ("options web more", Exact),
    ("options idle", Exact),
    ("options nope", Exact),
    ("options", Exact),
    (
        "get web numprocesses env graceful_timeout shell uid stop_signal",
        Exact,
    ),
    ("get web nope", Exact),
    ("get web", Exact),
    ("get nope cmd", Exact),
    ("globaloptions", Exact),
    ("globaloptions check_delay", Exact),
    ("globaloptions nope", Exact),
    ("listsockets", Numbers),
    ("listsockets x", Numbers),
    ("ipython x", Exact),
    // JSON: always exit code 0
    ("--json numwatchers", Numbers),
    ("--json status", Numbers),
    ("--json list nope", Numbers),
    ("--json --prettify globaloptions", Numbers),
    ("--json --prettify get web env cmd", Numbers),
    ("--json options web", Numbers),
    ("--json --prettify listsockets", Numbers),
    ("--prettify status", Exact),
    // The command line itself
    ("--version", Exact),
    ("--vers", Exact),
    ("--help", Help),
    ("--help incr", Help),
    ("incr -h", Help),
    ("incr --help", Help),
    ("nope", Exact),
    ("nope more --x", Exact),
    ("nope list", Exact),
    ("--nope list", Exact),
    ("-h", Exact),
    ("list --nope", Exact),
    ("list --json", Exact),
    ("--endpoint", Exact),
    ("--timeout x list", Exact),
    ("--timeout", Exact),
    ("--ss x list", Exact),
    ("--json=1 list", Exact),
    ("--endpoint {E} numwatchers", Exact),
    ("--endpoint={E} --timeout=7 numwatchers", Exact),
    ("--end {E} --time 7 numwatchers", Exact),
    ("kill web --signum", Exact),
    ("kill --graceful_timeout", Exact),
    ("restart --match", Exact),
    ("incr web --waiting=1", Exact),
    ("incr web --waiting 2", Exact),
    ("incr web --wait=1", Exact),
    ("list web -x", Exact),
    ("numprocesses -- web", Exact),
    ("-- list", Exact),
    // Changing
    ("incr", Exact),
    ("incr nope", Exact),
    ("incr web x", Traceback),
    ("incr --waiting web", Exact),
    ("incr web 2 --waiting", Exact),
    ("incr --waiting web -1", Exact),
    ("incr --waiting 'Api Two'", Exact),
    ("decr --waiting 'api two'", Exact),
    ("decr --waiting web 2", Exact),
    ("decr", Exact),
    ("numprocesses web", Exact),
    ("start --waiting idle", Exact),
    ("start --waiting idle", Exact),
    ("status", Exact),
    ("stop --waiting idle more", Exact),
    ("stop --waiting --match simple idle", Exact),
    ("stop --match wrong idle", Exact),
    ("stop --match simple i*", Exact),
    ("start nope*", Exact),
    ("start a b", Exact),
    ("start --waiting --match regex id.e", Exact),
    ("restart --waiting web", Exact),
    ("restart a b", Exact),
    ("reload --waiting web", Exact),
    ("reload --waiting --terminate web", Exact),
    ("reload --waiting --sequential web", Exact),
    ("reload nope", Exact),
    ("reload a b", Exact),
    ("--json restart --waiting web", Numbers),
    ("set --waiting web graceful_timeout 3.5", Exact),
    ("set --waiting web numprocesses 3", Exact),
    ("get web numprocesses graceful_timeout", Exact),
    ("set web", Exact),
    ("set web numprocesses", Exact),
    ("set web numprocesses 1 cmd", Exact),
    ("set web autostart true", Exact),
    ("set web nope 1", Exact),
    ("set nope numprocesses 1", Exact),
    ("set web numprocesses x", Traceback),
    // Each kind of option, as its text becomes a value
    ("stop --waiting idle", Exact),
    ("set --waiting idle shell true", Exact),
    ("set --waiting idle send_hup YES", Exact),
    ("set --waiting idle stop_children 0", Exact),
    ("set --waiting idle respawn perhaps", Traceback),
    ("set --waiting idle uid 0", Exact),
    ("set --waiting idle gid root", Exact),
    ("set --waiting idle working_dir /", Exact),
    ("set --waiting idle args '1 2'", Exact),
    ("set --waiting idle stop_signal 2", Exact),
    ("set --waiting idle stop_signal INT", Exact),
    ("set --waiting idle max_age 10 max_age_variance 3", Exact),
    ("set --waiting idle warmup_delay 1", Exact),
    ("set --waiting idle rlimit_nofile 100", Exact),
    ("set --waiting idle rlimit_nofile x", Traceback),
    ("set --waiting idle stdout_stream.class", Exact),
    ("set --waiting idle GRACEFUL_TIMEOUT 1e1", Exact),
    ("options idle", Exact),
    ("signal web 0", Exact),
    ("signal web CONT", Exact),
    ("signal web sigcont", Exact),
    ("signal web {PID} CONT", Exact),
    ("signal --recursive web {PID} CONT", Exact),
    ("signal web --children CONT", Exact),
    ("signal web", Exact),
    ("signal nope 0", Exact),
    ("signal web +", Exact),
    ("signal web x CONT", Traceback),
    ("kill web 999999", Exact),
    ("kill web 1 2", Exact),
    ("kill", Exact),
    ("kill web 999999 --signum ''", Exact),
    ("add", Exact),
    ("add new", Exact),
    ("add new sleep 1003", Exact),
    ("status new", Exact),
    ("rm", Exact),
    ("rm new more", Exact),
    ("rm nope", Exact),
    ("rm --nostop --waiting new", Exact),
    ("numwatchers", Exact),
    // Nobody there
    ("--endpoint ipc:///nobody/here --timeout 1 list", Exact),
    (
        "--endpoint ipc:///nobody/here --timeout 1 --json list",
        Exact,
    ),
    ("--endpoint ipc:///nobody/here --timeout 1 incr", Exact),
    // The end
    ("reloadconfig --waiting x", Exact),
    ("quit --waiting", Exact),
];

#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The real circusctl.
struct Real {
    child: RefCell<Child>,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Real {
    fn start() -> Self {
        let mut child = Command::new(venv().python())
            .args(["-c", include_str!("circusctl_text/forker.py")])
            .env("COLUMNS", "80")
            .env_remove("CIRCUSCTL_ENDPOINT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let pipes = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        Self {
            child: RefCell::new(child),
            pipes: RefCell::new(pipes),
        }
    }

    fn run(&self, args: &[String], endpoint: &str, stdin: &str) -> Outcome {
        let (input, output) = &mut *self.pipes.borrow_mut();
        let environ = json!({"CIRCUSCTL_ENDPOINT": endpoint});
        writeln!(
            input,
            "{}",
            json!({"argv": args, "environ": environ, "stdin": stdin})
        )
        .unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let value: Value = serde_json::from_str(&line).expect("an answer of the forker");
        Outcome {
            code: value["code"].as_i64().unwrap() as i32,
            stdout: value["stdout"].as_str().unwrap().into(),
            stderr: value["stderr"].as_str().unwrap().into(),
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// circ, under the name circusctl.
struct Ours {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Ours {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("circusctl");
        symlink(env!("CARGO_BIN_EXE_circ"), &path).unwrap();
        Self { _dir: dir, path }
    }

    fn command(&self, args: &[String], endpoint: &str) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .env("CIRCUSCTL_ENDPOINT", endpoint)
            .env("COLUMNS", "80");
        command
    }

    fn run(&self, args: &[String], endpoint: &str, stdin: &str) -> Outcome {
        let mut child = self
            .command(args, endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Words of a line; single quotes group.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A site's own directory, ports and pids look the same in all sites.
fn site_masked(text: &str, site: &TempSite) -> String {
    let mut text = text.to_string();
    for (own, name) in [
        (site.endpoint.as_str(), "ENDPOINT"),
        (site.pubsub.as_str(), "PUBSUB"),
        (site.stats.as_str(), "STATS"),
        (site.dir().to_str().unwrap(), "DIR"),
    ] {
        text = text.replace(own, name);
    }
    text
}

fn numbers_masked(text: &str) -> String {
    let ids = Regex::new(r#""id": "[^"]*""#).unwrap();
    let numbers = Regex::new(r"\d+(\.\d+)?").unwrap();
    let daemon = Regex::new(r"(Main Process:\n    \S+  )\S+").unwrap();
    let text = ids.replace_all(text, "\"id\": ID");
    let text = daemon.replace_all(&text, "${1}DAEMON");
    numbers.replace_all(&text, "#").into_owned()
}

/// Lines in which the daemons differ, and why; looked at only when two different daemons answer.
const DAEMONS_DIFFER: &[(&str, &str)] = &[];

/// Runs every line with the real circusctl on the first program and with ours on the second.
fn compare_all(programs: [Program; 2]) {
    let real = Real::start();
    let ours = Ours::new();
    let sites = [TempSite::ipc(), TempSite::ipc()];
    for site in &sites {
        site.ini(INI);
    }
    let daemons: Vec<Daemon> = sites
        .iter()
        .zip(programs)
        .map(|(site, program)| {
            site.start_with(program, |command| {
                command.current_dir(site.dir());
            })
        })
        .collect();
    for daemon in &daemons {
        daemon.wait_pids("web", 2);
        daemon.wait_pids("api two", 1);
    }

    let mut differences = Vec::new();
    for (line, how) in LINES {
        let run = |at: usize| {
            let daemon = &daemons[at];
            let mut line = line.replace("{E}", daemon.endpoint());
            if line.contains("{PID}") {
                line = line.replace("{PID}", &daemon.pids("web")[0].to_string());
            }
            let args = words(&line);
            let outcome = if at == 0 {
                real.run(&args, daemon.endpoint(), "")
            } else {
                ours.run(&args, daemon.endpoint(), "")
            };
            let mask = |text: String| {
                let text = site_masked(&text, &sites[at]);
                if *how == Numbers {
                    numbers_masked(&text)
                } else {
                    text
                }
            };
            Outcome {
                code: outcome.code,
                stdout: mask(outcome.stdout),
                stderr: mask(outcome.stderr),
            }
        };
        let (theirs, mine) = (run(0), run(1));
        let mut wanted = theirs.clone();
        match how {
            Exact | Numbers => {}
            Help => {
                assert!(
                    !mine.stdout.is_empty() && mine.stderr.is_empty(),
                    "{line}: {mine:?}"
                );
                wanted.stdout.clone_from(&mine.stdout);
            }
            Traceback => {
                assert!(theirs.stderr.starts_with("Traceback"), "{line}: {theirs:?}");
                assert_eq!(mine.stderr.lines().count(), 1, "{line}: {mine:?}");
                wanted.stderr.clone_from(&mine.stderr);
            }
        }
        let excused = programs[0] != programs[1] && DAEMONS_DIFFER.iter().any(|(l, _)| l == line);
        if mine != wanted && !excused {
            differences.push(format!(
                "circusctl {line}\n  real: {theirs:?}\n  ours: {mine:?}"
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} lines differ:\n{}",
        differences.len(),
        LINES.len(),
        differences.join("\n")
    );
}

#[test]
fn circusctl_prints_the_same_with_circusd() {
    compare_all([Program::Circusd, Program::Circusd]);
}

#[test]
fn circusctl_prints_the_same_with_circ() {
    compare_all([Program::Circ, Program::Circ]);
}

#[test]
fn circ_s_pair_prints_what_the_real_pair_prints() {
    compare_all([Program::Circusd, Program::Circ]);
}

#[test]
fn the_shell() {
    for program in [Program::Circusd, Program::Circ] {
        the_shell_with(program);
    }
}

fn the_shell_with(program: Program) {
    let real = Real::start();
    let ours = Ours::new();
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(program);
    daemon.wait_pids("web", 1);
    for stdin in [
        "",
        "status\n",
        "status web\nlist 'no pe'\n\nnumwatchers\nnonsense here\n",
        "get web cmd\nEOF\nnumwatchers\n",
        "incr\nlist --nope\nnumwatchers\n",
        "help\n?\n\nhelp nope\n? nope\n",
        "!ls\n\n-x\n\nnumwatchers\n\n? nope\n\nEOF\n",
        "list-web\n",
        "incr -x\nnumwatchers\n",
    ] {
        let theirs = real.run(&[], daemon.endpoint(), stdin);
        let mine = ours.run(&[], daemon.endpoint(), stdin);
        assert_eq!(mine, theirs, "{stdin:?}");
    }
}

/// bash asks through the environment; the answer is the commands that begin so.
#[test]
fn completion() {
    let ours = Ours::new();
    for (words, at, want) in [
        ("circusctl st", "1", "start stats status stop\n"),
        ("circusctl zz", "1", "\n"),
        ("circusctl stop w", "2", ""),
    ] {
        let mut real = Command::new(venv().circusctl());
        let mut mine = ours.command(&[], "ipc:///nobody/here");
        for command in [&mut real, &mut mine] {
            let output = command
                .env("AUTO_COMPLETE", "1")
                .env("COMP_WORDS", words)
                .env("COMP_CWORD", at)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), want);
            assert_eq!(output.status.code(), Some(1));
        }
    }
}

/// `listen` prints an event a line until it is interrupted.
#[test]
fn events_look_the_same() {
    for program in [Program::Circusd, Program::Circ] {
        events_look_the_same_with(program);
    }
}

fn events_look_the_same_with(program: Program) {
    let ours = Ours::new();
    let site = TempSite::ipc();
    site.ini("[watcher:web]\ncmd = sleep 1000\n");
    let daemon = site.start(program);
    daemon.wait_pids("web", 1);
    let args: Vec<String> = ["--endpoint", &site.pubsub, "listen", "watcher.web.s"]
        .into_iter()
        .map(String::from)
        .collect();
    let mut real = Command::new(venv().circusctl());
    real.args(&args).env("PYTHONUNBUFFERED", "1");
    let follow = |mut command: Command| {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        (child, receiver)
    };
    let mut followers = [follow(real), follow(ours.command(&args, daemon.endpoint()))];
    // Nobody says when a subscription has arrived, so events are made until both have seen one.
    let mut seen = [Vec::new(), Vec::new()];
    wait_for("an event at both followers", || {
        daemon.ok("restart", json!({"name": "web", "waiting": true}));
        for ((_, lines), seen) in followers.iter().zip(&mut seen) {
            seen.extend(lines.try_iter());
        }
        seen.iter().all(|seen| !seen.is_empty()).then_some(())
    });
    for (child, _) in &mut followers {
        let _ = child.kill();
        let _ = child.wait();
    }
    let shapes = seen.map(|lines| {
        let mut shapes: Vec<String> = lines.iter().map(|line| numbers_masked(line)).collect();
        shapes.sort();
        shapes.dedup();
        shapes
    });
    assert!(
        shapes[0].iter().any(|shape| shapes[1].contains(shape)),
        "{shapes:?}"
    );
    for shape in &shapes[1] {
        assert!(
            shape.starts_with("b'watcher.web.s") && shape.ends_with("}'"),
            "{shape}"
        );
    }
}

/// A pipe that nobody reads any more ends the program without a panic.
#[test]
fn a_closed_pipe_is_no_accident() {
    let ours = Ours::new();
    let mut child = ours
        .command(&["--help".into()], "ipc:///nobody")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    child.wait().unwrap();
    assert_eq!(stderr, "");
}
