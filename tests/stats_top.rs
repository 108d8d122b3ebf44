//! circus-top: the layout of the real one, real terminals, both daemons, and the real circus-top against circ.

mod support;
#[path = "stats/terminal.rs"]
mod terminal;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use circ::cli::circus_top::board::Board;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use support::{Daemon, Program, TempSite, venv};
use terminal::Terminal;

const CIRC: &str = env!("CARGO_BIN_EXE_circ");
/// Enters and leaves the other screen.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

fn site() -> TempSite {
    let site = TempSite::new();
    site.ini(&format!(
        "statsd = True\nstats_endpoint = {}\n\
         [watcher:web]\ncmd = sleep 1000\n\
         [socket:tcp]\nhost = 127.0.0.1\nport = {}\n",
        site.stats,
        site.port()
    ));
    site
}

/// circus-top of circ on a terminal.
fn top(site: &TempSite) -> Terminal {
    let args = ["circus-top", "--endpoint", &site.stats];
    Terminal::run(30, 100, OsStr::new(CIRC), &args)
}

#[track_caller]
fn wait_web(top: &Terminal, daemon: &Daemon, from: usize) {
    let pid = daemon.wait_pids("web", 1)[0];
    top.wait_text("web", from, |text| {
        text.contains("Circus Top")
            && text.contains("sockets")
            && text.contains(&pid.to_string())
            && text.contains("(avg)")
    });
}

/// The painter of the real circus-top on a screen that only remembers: boards in, screens out, a line each.
const PAINTER: &str = r#"
import curses, json, sys
from circus.stats.client import _paint

class Screen:
    def __init__(self, height, width):
        self.height, self.width = height, width
        self.rows = [[" "] * width for _ in range(height)]
    def getmaxyx(self):
        return self.height, self.width
    def addstr(self, row, column, text):
        self.rows[row][column:column + len(text)] = text
    erase = refresh = lambda self: None

for line in sys.stdin:
    height, width, watchers = json.loads(line)
    screen = Screen(height, width)
    _paint(screen, watchers, height, width)
    print(json.dumps(["".join(row).rstrip() for row in screen.rows]), flush=True)
"#;

/// A watcher as messages. Numbers have as many digits as each other: the real one sorts them as texts.
fn messages(name: String, stats: Vec<(u32, u32, u32)>, named: bool) -> Vec<(String, Value)> {
    let number = |n: u32| f64::from(n) / 100.0;
    let mut all: Vec<(String, Value)> = Vec::new();
    for (at, (cpu, mem, age)) in stats.into_iter().enumerate() {
        let pid = 1000 + at;
        let name_of = named.then_some("circusd");
        let payload = json!({"pid": pid, "cpu": number(cpu), "mem": number(mem), "age": number(1000 + age),
                             "subtopic": pid, "name": name_of});
        all.push((format!("stat.{name}.{pid}"), payload));
    }
    let whole = json!({"pid": [], "cpu": 1.5, "mem": 2.25, "age": "N/A"});
    all.push((format!("stat.{name}"), whole));
    all
}

fn socket_messages(reads: Vec<u32>) -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = Vec::new();
    for (at, reads) in reads.iter().enumerate() {
        let payload =
            json!({"fd": at, "subtopic": at, "reads": reads, "address": format!("127.0.0.1:{at}")});
        all.push((format!("stat.sockets.{at}"), payload));
    }
    let sum: u32 = reads.iter().sum();
    all.push((
        "stat.sockets".to_string(),
        json!({"addresses": [], "reads": sum}),
    ));
    all
}

#[test]
fn the_layout_is_that_of_the_real_circus_top() {
    let mut real = Command::new(venv().python())
        .args(["-B", "-c", PAINTER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let to_real = RefCell::new(real.stdin.take().unwrap());
    let from_real = RefCell::new(BufReader::new(real.stdout.take().unwrap()).lines());
    let stat = (0u32..1000, 0u32..1000, 0u32..9000);
    let watcher = (
        "[a-c][a-c-]{0,3}",
        prop::collection::vec(stat, 0..14),
        any::<bool>(),
    )
        .prop_map(|(name, stats, named)| messages(name, stats, named));
    let sockets = prop::collection::vec(0u32..2000, 1..4).prop_map(socket_messages);
    let boards = (
        prop::collection::vec(watcher, 0..4),
        prop::option::of(sockets),
        81usize..130,
    );
    let mut runner = TestRunner::new(Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&boards, |(watchers, sockets, width)| {
            let mut board = Board::default();
            let mut theirs = serde_json::Map::new();
            for (topic, payload) in watchers.into_iter().chain(sockets).flatten() {
                board.take(topic.as_bytes(), payload.to_string().as_bytes(), 0.0, 3.0);
                let mut parts = topic.split('.').skip(1);
                let (name, part) = (parts.next().unwrap(), parts.next().unwrap_or("all"));
                theirs.entry(name).or_insert_with(|| json!({}))[part] = payload;
            }
            let ours = board.lines(width);
            let height = ours.len() + 5;
            writeln!(to_real.borrow_mut(), "{}", json!([height, width, theirs])).unwrap();
            let line = from_real.borrow_mut().next().unwrap().unwrap();
            let mut screen: Vec<String> = serde_json::from_str(&line).unwrap();
            screen.truncate(ours.len());
            prop_assert_eq!(ours, screen);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    drop(to_real);
    assert!(real.wait().unwrap().success());
}

#[test]
fn circus_top_shows_both_daemons_and_gives_the_terminal_back() {
    let site = site();
    for program in [Program::Circ, Program::Circusd] {
        let daemon = site.start(program);
        let mut top = top(&site);
        wait_web(&top, &daemon, 0);
        assert!(top.text().starts_with(ENTER), "{:?}", top.text());
        // another size is taken at once
        let before = top.text().len();
        top.resize(12, 60);
        top.wait_text("narrow line", before, |text| {
            text.contains(&format!("\x1b[K{}\r", "-".repeat(59)))
        });
        match program {
            Program::Circ => top.keys("q"),
            Program::Circusd => top.keys("\x03"),
        }
        assert_eq!(top.wait_exit(), 0);
        assert!(top.text().ends_with(LEAVE), "{:?}", top.text());
    }
}

#[test]
fn a_signal_and_a_stop_give_the_terminal_back_too() {
    let site = site();
    let daemon = site.start(Program::Circ);
    let mut top = top(&site);
    wait_web(&top, &daemon, 0);
    top.keys("\x1a"); // ctrl-Z
    top.wait_text("the old screen", 0, |text| text.ends_with(LEAVE));
    daemon.wait_for("circus-top to be stopped", || {
        (top.stops() == 1).then_some(())
    });
    let before = top.text().len();
    top.signal(nix::libc::SIGCONT);
    wait_web(&top, &daemon, before);
    assert!(top.text()[before..].starts_with(ENTER));
    top.signal(nix::libc::SIGTERM);
    assert_eq!(top.wait_exit(), -15);
    assert!(top.text().ends_with(LEAVE), "{:?}", top.text());
}

#[test]
fn the_real_circus_top_shows_circ() {
    let site = site();
    let daemon = site.start(Program::Circ);
    let real = venv().program("circus-top");
    let mut top = Terminal::run(30, 100, real.as_os_str(), &["--endpoint", &site.stats]);
    wait_web(&top, &daemon, 0);
    top.wait_text("circusd", 0, |text| text.contains("(circusd)"));
    top.keys("\x03");
    assert_eq!(top.wait_exit(), 0);
}

/// What circus-top writes into a pipe until a line holds one of `ends`.
fn piped(args: &[&str], ends: &str) -> Vec<String> {
    let mut child = Command::new(CIRC)
        .arg("circus-top")
        .args(args)
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().is_some_and(|line| line.contains(ends)) {
            break;
        }
    }
    // nobody reads its output any more: it ends by itself
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    lines
}

#[test]
fn a_control_endpoint_leads_to_the_statistics_and_a_pipe_gets_plain_lines() {
    let site = site();
    for program in [Program::Circ, Program::Circusd] {
        let daemon = site.start(program);
        let pid = daemon.wait_pids("web", 1)[0];
        let lines = piped(&["--endpoint", &site.endpoint], &format!("  {pid} "));
        assert!(lines.iter().all(|line| !line.contains('\x1b')), "{lines:?}");
    }
}

#[test]
fn a_daemon_that_comes_later_is_waited_for() {
    let site = site();
    let mut child = Command::new(CIRC)
        .args(["circus-top", "--endpoint", &site.stats])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |what: &str| {
        lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(what))
    };
    assert!(until("*** Waiting for data ***").is_some());
    assert!(until("statsd = True").is_some()); // what it waits for
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 1);
    assert!(until("(circusd)").is_some());
    assert!(daemon.stop().success());
    assert!(until("nothing has come for").is_some());
    let daemon = site.start(Program::Circ);
    let circusd = format!("{} (circusd)", daemon.pid());
    assert!(until(&circusd).is_some());
    drop(lines);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_done_is_said() {
    for (args, want) in [
        (
            ["--process-timeout", "soon"],
            "circus-top: --process-timeout: \"soon\" is no whole number of seconds\n",
        ),
        (
            ["--endpoint", "nowhere"],
            "circus-top: --endpoint: endpoint \"nowhere\" is neither tcp nor ipc; write tcp://HOST:PORT or ipc://PATH\n",
        ),
    ] {
        let output = Command::new(CIRC)
            .arg("circus-top")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), want);
        assert_eq!(output.status.code(), Some(1));
    }
}
