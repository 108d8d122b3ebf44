//! `circ top` on a real terminal: against both daemons, with every key that acts, in every size, and however it ends.

mod support;
#[path = "top/svg.rs"]
mod svg;
#[path = "top/tmux.rs"]
mod tmux;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use support::{Daemon, Program, TempSite, is_alive, wait_for, wait_for_within};
use tmux::Tmux;

const CIRC: &str = env!("CARGO_BIN_EXE_circ");

/// Two watchers, one of which talks, a socket, and statistics if wanted.
fn site(site: TempSite, statistics: bool) -> TempSite {
    let statistics = match statistics {
        true => format!("statsd = True\nstats_endpoint = {}\n", site.stats),
        false => String::new(),
    };
    let talker = site.write(
        "talk.sh",
        "echo first words; echo complaint >&2; trap 'exit 7' HUP; while :; do sleep 0.1; done\n",
    );
    let (said, port) = (site.path("said"), site.port());
    site.ini(&format!(
        "{statistics}[watcher:web]\ncmd = sleep 1000\nnumprocesses = 2\nuse_sockets = True\n\
         [watcher:Talker]\ncmd = sh {}\nstdout_stream.class = FileStream\nstdout_stream.filename = {}\n\
         stderr_stream.class = FileStream\nstderr_stream.filename = {}\ngraceful_timeout = 1\n\
         [watcher:spare]\ncmd = sleep 1000\nautostart = False\n\
         [socket:tcp]\nhost = 127.0.0.1\nport = {port}\nbacklog = 77\n",
        talker.display(),
        said.display(),
        said.display()
    ));
    site
}

/// `circ top` for the shell in a terminal.
fn top(site: &TempSite, more: &str) -> String {
    format!("{CIRC} top --endpoint {} {more}", site.endpoint)
}

/// Waits until both watchers are up: before that a circusd refuses commands.
#[track_caller]
fn wait_started(daemon: &Daemon) {
    daemon.wait_for("both watchers to be started", || {
        let log = daemon.log();
        let both = log.contains("web started") && log.contains("Talker started");
        both.then_some(())
    });
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(CIRC);
    command.arg("top").args(args).stdin(Stdio::null());
    command
        .env_remove("CIRCUSCTL_ENDPOINT")
        .env("COLUMNS", "100");
    command.output().unwrap()
}

/// Waits for a line that has all of these texts in it.
#[track_caller]
fn line_of(tmux: &Tmux, texts: &[&str]) {
    tmux.wait(&format!("line of {texts:?}"), |screen| {
        let mut lines = screen.lines();
        lines.any(|line| texts.iter().all(|text| line.contains(text)))
    });
}

#[test]
fn watchers_are_seen_and_every_key_that_acts_asks_first() {
    let Some(tmux) = Tmux::start(110, 36) else {
        return;
    };
    let site = site(TempSite::ipc(), true);
    let daemon = site.start(Program::Circ);
    let pids = daemon.wait_pids("web", 2);
    tmux.line(&top(&site, "--sort name"));
    line_of(&tmux, &["web", "active", "2/2"]);
    line_of(&tmux, &["spare", "stopped", "0/1"]);
    line_of(&tmux, &[&pids[0].to_string(), "sleep"]);
    line_of(&tmux, &["tcp", "127.0.0.1:", "0/77"]);
    tmux.sees(&["3 watchers, 3 processes", &format!("pid {}", daemon.pid())]);
    tmux.sees(&["none since this was opened"]);
    // the cursor goes to web, the last by name
    tmux.keys(&["End", "Up", "Up"]);
    tmux.text("+");
    tmux.sees(&["Run one more process of web? It has 2."]);
    tmux.text("n");
    tmux.sees(&["nothing was done"]);
    assert_eq!(daemon.pids("web"), pids);
    tmux.text("+y");
    tmux.sees(&["incr web: accepted"]);
    line_of(&tmux, &["web", "3/3"]);
    let three = daemon.wait_pids("web", 3);
    line_of(&tmux, &["web started pid", &three[2].to_string()]);
    tmux.text("-y");
    line_of(&tmux, &["web", "2/2"]);
    daemon.wait_pids("web", 2);
    // a restart: others come
    tmux.text("r");
    tmux.sees(&["Restart web? Its 2 processes are stopped and started."]);
    let before = daemon.pids("web");
    tmux.text("y");
    tmux.sees(&["restart web: accepted"]);
    let after = daemon.wait_for("two other processes", || {
        let now = daemon.pids("web");
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(now)
    });
    line_of(&tmux, &[&after[1].to_string(), "sleep"]);
    tmux.text("R");
    tmux.sees(&["Reload web?"]);
    tmux.text("y");
    tmux.sees(&["reload web: accepted", "web reloaded"]);
    // a signal for one process
    let pids = daemon.wait_for("the new processes alone", || {
        let now = daemon.pids("web");
        (now.len() == 2 && now.iter().all(|pid| !after.contains(pid))).then_some(now)
    });
    line_of(&tmux, &[&pids[1].to_string(), "sleep"]);
    tmux.keys(&["End"]);
    tmux.text("K");
    let last = pids[1].to_string();
    tmux.sees(&[&format!("signal to {last}"), "SIGKILL"]);
    tmux.keys(&["Down", "Down", "Enter"]);
    tmux.sees(&[&format!("Send SIGKILL to process {last} of web?")]);
    tmux.text("y");
    tmux.sees(&[&format!("web ended pid {last} by SIGKILL")]);
    line_of(&tmux, &["web", "active", "2/2", " 1 "]);
    // stop and start
    tmux.keys(&["End", "Up", "Up"]);
    tmux.text("xy");
    line_of(&tmux, &["web", "stopped", "0/2"]);
    daemon.wait_for("web to stop", || {
        daemon.pids("web").is_empty().then_some(())
    });
    tmux.text("sy");
    line_of(&tmux, &["web", "active", "2/2"]);
    daemon.wait_pids("web", 2);
    // what was typed into questions has reached no shell, and the old screen is back
    tmux.text("q");
    let screen = tmux.wait("prompt", |screen| screen.trim_end().ends_with('$'));
    assert!(!screen.contains("RESTARTS"), "{screen}");
    tmux.line("echo left with $?");
    tmux.sees(&["left with 0"]);
}

#[test]
fn the_log_of_a_watcher_is_followed() {
    let Some(tmux) = Tmux::start(100, 30) else {
        return;
    };
    let site = site(TempSite::ipc(), false);
    let daemon = site.start(Program::Circ);
    let talker = daemon.wait_pids("talker", 1)[0];
    tmux.line(&top(&site, "--filter talker"));
    // nobody publishes statistics: they are asked for, and that is said
    tmux.sees(&["asked every second", "Talker", &talker.to_string()]);
    tmux.text("l");
    tmux.sees(&["log of Talker", "first words", "complaint"]);
    fs::OpenOptions::new()
        .append(true)
        .open(site.path("said"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"\x1b[31mlater\x1b[0m words\n"))
        .unwrap();
    tmux.sees(&["later words"]);
    tmux.keys(&["Escape"]);
    tmux.wait("table", |screen| {
        screen.contains("UPTIME") && !screen.contains("later words")
    });
    // it goes back to the log from the beginning, also by another way out
    tmux.text("l");
    tmux.sees(&["first words", "later words"]);
    tmux.text("q");
    tmux.sees(&["UPTIME"]);
    tmux.text("q");
    tmux.wait("prompt", |screen| screen.trim_end().ends_with('$'));
}

#[test]
fn a_real_circusd_is_shown_and_driven_as_well() {
    let Some(tmux) = Tmux::start(100, 30) else {
        return;
    };
    for statistics in [true, false] {
        let site = site(TempSite::new(), statistics);
        let daemon = site.start(Program::Circusd);
        wait_started(&daemon);
        let pids = daemon.wait_pids("web", 2);
        tmux.line(&top(&site, "--sort name"));
        line_of(&tmux, &["web", "active", "2/2"]);
        line_of(&tmux, &[&pids[0].to_string(), "0.", "sleep"]);
        tmux.sees(&["circusd", "127.0.0.1:"]);
        match statistics {
            true => {
                // reads come only with published statistics
                line_of(&tmux, &["tcp", " 0 ", "0/77"]);
                tmux.wait("silence about asking", |screen| {
                    !screen.contains("asked every second")
                });
            }
            false => {
                tmux.sees(&["asked every second"]);
                line_of(&tmux, &["tcp", " - ", "0/77"]);
            }
        }
        tmux.sees(&["none since this was opened"]);
        tmux.keys(&["End", "Up", "Up"]);
        tmux.text("+y");
        line_of(&tmux, &["web", "3/3"]);
        daemon.wait_pids("web", 3);
        tmux.sees(&["web started pid"]);
        tmux.text("q");
        tmux.wait("prompt", |screen| screen.trim_end().ends_with('$'));
        tmux.line("clear");
    }
}

#[test]
fn a_daemon_that_goes_away_leaves_a_grey_picture_and_is_found_again() {
    let Some(tmux) = Tmux::start(100, 30) else {
        return;
    };
    let site = site(TempSite::ipc(), true);
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("talker", 1)[0];
    tmux.line(&top(&site, ""));
    tmux.sees(&["Talker", &pid.to_string(), "by CPU"]);
    // what the last change of the style before its name says
    let grey = |tmux: &Tmux| {
        let painted = tmux.painted();
        let before = painted.find("Talker").and_then(|at| painted.get(..at));
        let code = before.and_then(|before| before.rsplit("\x1b[").next());
        code.is_some_and(|code| code.starts_with("90m") || code.starts_with("38;5;8m"))
    };
    assert!(!grey(&tmux), "{}", tmux.painted());
    assert!(daemon.stop().success());
    tmux.sees(&["away for", "trying again", "nobody listens", "Talker"]);
    assert!(grey(&tmux), "{}", tmux.painted());
    // a key that acts does nothing, others do what they do
    tmux.text("xy");
    tmux.text("?");
    tmux.sees(&["fold or unfold"]);
    tmux.keys(&["Escape"]);
    let daemon = site.start(Program::Circ);
    let pid = daemon.wait_pids("talker", 1)[0];
    tmux.wait("new process in colour", |screen| {
        screen.contains(&pid.to_string()) && !screen.contains("away for")
    });
    assert!(!grey(&tmux));
    // its events are heard as well; one that comes before the subscription is not
    wait_for("an event on the screen", || {
        let pid = daemon.wait_pids("talker", 1)[0];
        daemon.ok("signal", json!({"name": "talker", "signum": "hup"}));
        let words = format!("Talker ended pid {pid} ");
        let soon = Duration::from_secs(3);
        wait_for_within(soon, || tmux.screen().contains(&words).then_some(()))
    });
    assert!(is_alive(daemon.pid()));
}

#[test]
fn the_terminal_is_given_back_by_a_stop_and_by_a_signal() {
    let Some(tmux) = Tmux::start(80, 24) else {
        return;
    };
    let site = site(TempSite::ipc(), false);
    let _daemon = site.start(Program::Circ);
    tmux.line("stty -g; set -m");
    let before = tmux.wait("settings", |screen| screen.matches('$').count() > 1);
    let settings = before.lines().find(|line| line.contains(":bf:")).unwrap();
    let pidfile = site.path("pid");
    tmux.line(&format!(
        "sh -c 'echo $$ > {}; exec {}'",
        pidfile.display(),
        top(&site, "")
    ));
    tmux.sees(&["web", "by CPU"]);
    assert!(tmux.is_taken());
    tmux.keys(&["C-z"]);
    tmux.wait("prompt", |screen| screen.trim_end().ends_with('$'));
    assert!(!tmux.is_taken());
    tmux.line("clear; stty -g");
    tmux.sees(&[settings]);
    tmux.line("fg");
    tmux.sees(&["web", "by CPU"]);
    assert!(tmux.is_taken());
    tmux.text("?");
    tmux.sees(&["fold or unfold"]);
    let pid = fs::read_to_string(&pidfile).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    tmux.wait("prompt", |screen| screen.trim_end().ends_with('$'));
    assert!(!tmux.is_taken());
    tmux.line("echo left with $?; stty -g");
    // 128 and the number of SIGTERM
    tmux.sees(&["left with 143", settings]);
}

#[test]
fn any_size_will_do_and_colours_can_be_declined() {
    let Some(tmux) = Tmux::start(80, 24) else {
        return;
    };
    let site = site(TempSite::ipc(), true);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("talker", 1);
    tmux.line(&format!(
        "NO_COLOR=1 {}",
        top(&site, "--sort name --read-only")
    ));
    tmux.sees(&["Talker", "web", "events"]);
    let painted = tmux.painted();
    let codes = painted.split("\x1b[").skip(1);
    let colours: Vec<&str> = codes
        .filter_map(|code| code.split_once('m').map(|(code, _)| code))
        .filter(|code| {
            code.split(';')
                .any(|part| part.len() == 2 && part != "39" && part != "49")
        })
        .collect();
    assert_eq!(colours, [""; 0], "{painted:?}");
    for (columns, rows, sees) in [
        (20, 5, "Talker"),
        (200, 50, "NOTE"),
        (30, 3, "Talker"),
        (10, 1, "circ top"),
        (132, 16, "sockets"),
        (80, 24, "events"),
    ] {
        tmux.resize(columns, rows);
        tmux.wait(&format!("{sees} at {columns}x{rows}"), |screen| {
            let right = screen
                .lines()
                .all(|line| line.chars().count() <= columns.into());
            right && screen.contains(sees)
        });
    }
    tmux.text("+");
    tmux.sees(&["this is read-only"]);
    tmux.keys(&["C-c"]);
    tmux.wait("prompt", |screen| screen.trim_end().ends_with('$'));
}

fn once(daemon: &Daemon, more: &[&str]) -> String {
    let args: Vec<&str> = ["--once", "--timeout", "50", "--endpoint", daemon.endpoint()]
        .iter()
        .chain(more)
        .copied()
        .collect();
    let told = run(&args);
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(told.stdout).unwrap()
}

#[test]
fn once_prints_every_line_as_text() {
    for (statistics, program) in [
        (true, Program::Circ),
        (false, Program::Circ),
        (false, Program::Circusd),
    ] {
        let site = site(TempSite::ipc(), statistics);
        let daemon = site.start(program);
        wait_started(&daemon);
        let pids = daemon.wait_pids("web", 2);
        // a circusd needs seconds to measure as many
        let count = if program == Program::Circ { 42 } else { 4 };
        daemon.ok(
            "incr",
            json!({"name": "web", "nb": count - 2, "waiting": true}),
        );
        let all = daemon.wait_pids("web", count);
        let text = once(&daemon, &["--sort", "name"]);
        assert!(!text.contains('\x1b') && !text.contains("help"), "{text}");
        assert!(text.contains(&format!("{count}/{count}")), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        for pid in all {
            let pid = format!("    {pid} ");
            assert_eq!(
                lines.iter().filter(|line| line.starts_with(&pid)).count(),
                1,
                "{text}"
            );
        }
        let socket = lines.last().unwrap();
        assert!(
            socket.contains("127.0.0.1:") && socket.ends_with("0/77"),
            "{text}"
        );
        let one = once(&daemon, &["--filter", &pids[0].to_string()]);
        assert!(
            one.contains(&pids[0].to_string()) && !one.contains("Talker"),
            "{one}"
        );
    }
}

#[test]
fn what_cannot_be_shown_is_said_before_the_screen_is_taken() {
    let site = TempSite::ipc();
    for (args, code, words) in [
        (
            &["--once", "--endpoint", &site.endpoint][..],
            1,
            "nobody listens on ipc://",
        ),
        (
            &["--once", "--endpoint", "nowhere"],
            64,
            "neither tcp nor ipc",
        ),
        (
            &["--endpoint", &site.endpoint],
            64,
            "standard output is no terminal; `circ top --once`",
        ),
        (&["--once", "--json"], 64, "circ stats --json"),
        (
            &["--sort", "size"],
            64,
            "[possible values: cpu, mem, name, restarts, uptime]",
        ),
    ] {
        let told = run(args);
        let errors = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(words), "{args:?}: {errors}");
        assert!(told.stdout.is_empty());
    }
    let Some(tmux) = Tmux::start(100, 24) else {
        return;
    };
    tmux.line(&format!("{}; echo left with $?", top(&site, "")));
    tmux.sees(&["nobody listens on", "left with 1"]);
    assert!(!tmux.is_taken());
    tmux.line(&format!(
        "clear; TERM=dumb {}; echo left with $?",
        top(&site, "")
    ));
    tmux.sees(&["TERM=dumb cannot paint", "left with 64"]);
}

/// A script reads one screen and goes: nothing stays behind, and the daemon measures nothing any more.
#[test]
fn the_daemon_measures_nothing_when_nobody_looks() {
    let site = site(TempSite::ipc(), true);
    let daemon = site.start(Program::Circ);
    daemon.wait_pids("web", 2);
    let busy = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let names = tasks.flatten().map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let switches = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let switches = switches.lines().find(|line| line.starts_with("voluntary"));
            (name.starts_with("stats") && !stat.is_empty())
                .then(|| switches.unwrap_or_default().to_string())
        });
        let mut all: Vec<String> = names.flatten().collect();
        all.sort();
        all
    };
    assert!(once(&daemon, &[]).contains("2/2"));
    // the measuring thread comes to rest: it is not woken between two looks
    wait_for("the measuring to end", || {
        let before = busy();
        let pause = Command::new("sleep").arg("2.5").status().unwrap();
        (pause.success() && busy() == before).then_some(())
    });
}

#[test]
fn a_pipe_that_is_closed_ends_it() {
    let site = site(TempSite::ipc(), false);
    let daemon = site.start(Program::Circ);
    let mut child = Command::new(CIRC)
        .args(["top", "--once", "--endpoint", daemon.endpoint()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("circ top"));
    drop(lines);
    assert!(child.wait().unwrap().code().is_some());
}

/// A failure of circ itself is told on the terminal as it was before. Only a build for development can be made to fail.
#[test]
fn the_terminal_is_given_back_when_circ_fails() {
    let Some(tmux) = Tmux::start(100, 24) else {
        return;
    };
    let site = site(TempSite::ipc(), false);
    let _daemon = site.start(Program::Circ);
    tmux.line(&format!(
        "CIRC_TEST_PANIC=1 RUST_BACKTRACE=0 {}; echo left with $?",
        top(&site, "")
    ));
    tmux.sees(&["web", "by CPU"]);
    tmux.text("!");
    tmux.sees(&["panicked at", "on purpose", "left with 1"]);
    assert!(!tmux.is_taken());
    tmux.line("clear; stty -a");
    tmux.wait("a cooked terminal", |screen| {
        screen.contains(" icanon") && screen.contains(" echo ")
    });
}

/// Makes `docs/images/top.svg` anew: `cargo test --test top -- --ignored picture`.
#[test]
#[ignore = "makes a file of the documentation, with a minute of history"]
fn the_picture_of_the_documentation_is_made() {
    let Some(tmux) = Tmux::start(110, 30) else {
        return;
    };
    let site = TempSite::new();
    let busy = site.write(
        "busy.sh",
        "while :; do i=0; n=$((($$ * $(date +%s) / 3) % 17)); while [ $i -lt $((n * 4000)) ]; do i=$((i + 1)); done; sleep 0.$1; done\n",
    );
    let dies = site.write("dies.sh", "sleep 0.1; exit 3\n");
    let (busy, dies, port) = (busy.display(), dies.display(), site.port());
    site.ini(&format!(
        "statsd = True\nstats_endpoint = {}\n\
         [watcher:web]\ncmd = sh {busy} 3\nnumprocesses = 4\nuse_sockets = True\n\
         [watcher:queue]\ncmd = sh {busy} 8\nnumprocesses = 3\n\
         [watcher:mail]\ncmd = sleep 1000\n\
         [watcher:import]\ncmd = sh {dies}\n\
         [watcher:nightly]\ncmd = sleep 1000\nautostart = False\n\
         [socket:web]\nhost = 127.0.0.1\nport = {port}\n",
        site.stats
    ));
    let _daemon = site.start(Program::Circ);
    tmux.line(&top(&site, ""));
    tmux.sees(&["web", "by CPU"]);
    tmux.wait("a minute", |screen| screen.contains(" 0:45"));
    let path = format!("{}/docs/images/top.svg", env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(format!("{}/docs/images", env!("CARGO_MANIFEST_DIR"))).unwrap();
    fs::write(path, svg::picture(&tmux.painted(), 110)).unwrap();
}
